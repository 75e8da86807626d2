//! Counts the write transactions of a queue from outside: the frames of SQLite's write-ahead log that end one.
//!
//! Each frame has a header; that of a transaction's last frame holds the size of the database, all others hold 0
//! (<https://sqlite.org/fileformat2.html#the_write_ahead_log>). The log begins anew, with other salts, once all of it was
//! copied back. Frames that are overwritten or cut off before a look at them are missed: those of the time between two
//! looks, a few for each new beginning.

use std::fs::File;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::PathBuf;

const LOG_HEADER: u64 = 32;
const FRAME_HEADER: u64 = 24;

/// A reader that follows a log.
#[derive(Debug)]
pub struct Commits {
    path: PathBuf,
    log: Option<Log>,
    count: u64,
}

#[derive(Debug)]
struct Log {
    file: File,
    inode: u64,
    /// Of the log as it began when it was last looked at.
    head: Option<Head>,
    /// Behind the last frame that ended a transaction.
    next: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Head {
    page_bytes: u64,
    salts: [u8; 8],
}

impl Commits {
    /// Counts from now on; what the log of this queue holds already is passed over.
    pub fn of(queue: impl Into<PathBuf>) -> Self {
        let mut path = queue.into().into_os_string();
        path.push("-wal");
        let mut commits = Self { path: path.into(), log: None, count: 0 };
        commits.look();
        commits.count = 0;
        commits
    }

    /// Transactions that were seen so far.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Looks at what was written since the last time.
    pub fn look(&mut self) {
        if let Some(log) = &mut self.log {
            self.count += log.read_on();
        }
        // It may be another file by now: the last process that closes a queue removes its log.
        let inode = std::fs::metadata(&self.path).ok().map(|log| log.ino());
        if inode.is_some() && inode != self.log.as_ref().map(|log| log.inode) {
            self.log = Log::open(&self.path);
            if let Some(log) = &mut self.log {
                self.count += log.read_on();
            }
        }
    }
}

impl Log {
    fn open(path: &PathBuf) -> Option<Self> {
        let file = File::open(path).ok()?;
        let inode = file.metadata().ok()?.ino();
        Some(Self { file, inode, head: None, next: LOG_HEADER })
    }

    /// Reads to the end of what is whole. Returns how many transactions that were.
    fn read_on(&mut self) -> u64 {
        let now = self.head_now();
        let mut ended = 0;
        if let Some(before) = self.head {
            // What the old log had further on, as far as it was not written over.
            ended += self.count_of(before);
        }
        if now != self.head {
            (self.head, self.next) = (now, LOG_HEADER);
            if let Some(head) = now {
                ended += self.count_of(head);
            }
        }
        ended
    }

    fn head_now(&self) -> Option<Head> {
        let mut header = [0; LOG_HEADER as usize];
        self.file.read_exact_at(&mut header, 0).ok()?;
        let page_bytes = u64::from(u32::from_be_bytes(header[8..12].try_into().ok()?));
        Some(Head { page_bytes, salts: header[16..24].try_into().ok()? })
    }

    fn count_of(&mut self, head: Head) -> u64 {
        let (mut ended, mut at) = (0, self.next);
        let mut frame = [0; FRAME_HEADER as usize];
        while self.file.read_exact_at(&mut frame, at).is_ok() && frame[8..16] == head.salts {
            at += FRAME_HEADER + head.page_bytes;
            if frame[4..8] != [0; 4] {
                ended += 1;
                self.next = at;
            }
        }
        ended
    }
}
