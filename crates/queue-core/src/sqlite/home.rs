//! Whether the queue's files are still where they were opened.
//!
//! SQLite goes on writing into a file whose name was removed or given to another file, and all of it is lost when the
//! last process closes it. Nobody but us can notice: the file's number under its path is no longer that of the file
//! that we opened.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::workers::Liveness;
use crate::{ErrorKind, QueueError, Result};

/// The files of an open queue.
#[derive(Debug)]
pub(super) struct Home {
    database: PathBuf,
    /// Each with its device and number.
    files: Vec<(PathBuf, (u64, u64))>,
    looked: Liveness,
    is_lost: AtomicBool,
}

impl Home {
    /// Remembers which files these are. Both must be open by now.
    pub(super) fn new(database: &Path, log: &Path) -> Self {
        let files = [database, log].into_iter().filter_map(|path| Some((path.to_owned(), number(path)?)));
        Self {
            database: database.to_owned(),
            files: files.collect(),
            looked: Liveness::default(),
            is_lost: AtomicBool::new(false),
        }
    }

    /// Refuses to go on with a file that has no name any more. Looks at most once a second; once is for ever.
    pub(super) fn look(&self, now: Duration) -> Result<()> {
        if !self.is_lost.load(Ordering::Relaxed) {
            if !self.looked.is_due(now) || self.files.iter().all(|(path, known)| is_there(path, *known)) {
                return Ok(());
            }
            self.is_lost.store(true, Ordering::Relaxed);
        }
        let message = format!(
            "the queue {} was removed, moved or replaced while it was open, and what is written now would be lost; stop all \
             programs that use it, put the file back with the -wal file beside it (or import your list again), and start anew",
            self.database.display()
        );
        Err(QueueError::new(ErrorKind::Corrupt, message))
    }
}

/// Whether a path still names this file. What cannot be told is taken to be so: a moment of trouble must not end a run.
fn is_there(path: &Path, known: (u64, u64)) -> bool {
    match std::fs::metadata(path) {
        Ok(about) => (about.dev(), about.ino()) == known,
        Err(error) => error.kind() != io::ErrorKind::NotFound,
    }
}

/// The device and number of the file at a path.
fn number(path: &Path) -> Option<(u64, u64)> {
    std::fs::metadata(path).ok().map(|about| (about.dev(), about.ino()))
}
