//! The attempts file: one line for each request that was made, as JSON or as CSV.
//!
//! Lines are written by a thread of its own, behind a bounded channel: a slow disk, or a neighbour that was frozen while
//! it held the file's lock, costs lines of this file and no job's time. What is lost is counted.

mod log;
mod row;
#[cfg(test)]
mod tests;

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, SystemTime};

use longhaul_events::{Event, Observer};
use longhaul_limiter::Clock;

use self::log::Log;
pub use self::log::{AttemptsOptions, Repair};
use self::row::Format;

/// Lines that may wait to be written; at most a few megabytes, since an artifact's key is at most 2 KiB long.
const WAITING_MAX: usize = 1024;

/// So many lines are written at a time.
const BATCH: usize = 256;

/// So long [`AttemptsFile::finish`] waits for a file that another process keeps locked.
const LAST_WAIT: Duration = Duration::from_secs(5);

/// Writes a line for each [`Event::Request`], with the fields of [`AttemptsFile::FIELDS`] in that order.
///
/// A name that ends in `.csv` makes a CSV file (RFC 4180, with a head line, lines ended by a line feed), any other name
/// one JSON object a line. Several processes may share a file: an OS lock makes their lines whole. What is waiting when
/// it is dropped is still written.
#[derive(Debug)]
pub struct AttemptsFile {
    clock: Arc<dyn Clock>,
    lines: Mutex<Option<SyncSender<Heard>>>,
    counts: Arc<Counts>,
    /// Closed by the writer's end.
    ended: Mutex<Option<Receiver<()>>>,
    repair: Option<Repair>,
}

/// What became of the lines.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AttemptsEnd {
    /// Lines that are in the file.
    pub written: u64,
    /// Lines that are not, because the disk was slower than the run or another process kept the file locked.
    pub dropped: u64,
    /// Lines that the file system refused.
    pub failed: u64,
    /// What it said first when it did.
    pub failed_because: Option<String>,
    /// Lines that other processes left unfinished when they died, and that were mended meanwhile.
    pub mended: u64,
}

/// What waits to be written.
struct Heard {
    at: SystemTime,
    event: Event,
}

#[derive(Debug, Default)]
struct Counts {
    taken: AtomicU64,
    written: AtomicU64,
    dropped: AtomicU64,
    failed: AtomicU64,
    mended: AtomicU64,
    failed_because: Mutex<Option<String>>,
}

impl AttemptsFile {
    /// The fields of a line, in their order. Those that a request does not have are `null`, or empty in CSV.
    pub const FIELDS: &[&str] = row::FIELDS;

    /// Appends to a file, which is made if it is missing. `run_id` stands in every line.
    ///
    /// # Errors
    /// If the file cannot be opened for appending, or holds something else than attempts in the form that its name
    /// asks for.
    pub fn open(
        path: &Path,
        run_id: impl Into<String>,
        options: AttemptsOptions,
        clock: Arc<dyn Clock>,
    ) -> io::Result<Self> {
        let format = Format::of(path);
        let (log, repair) = Log::open(path, format, options)?;
        let (lines, waiting) = sync_channel(WAITING_MAX);
        let (end, ended) = sync_channel(1);
        let counts = Arc::new(Counts::default());
        let writer = Writer { log, format, run_id: run_id.into(), counts: Arc::clone(&counts), _end: end };
        thread::Builder::new().name("attempts".to_owned()).spawn(move || writer.run(&waiting))?;
        let (lines, ended) = (Mutex::new(Some(lines)), Mutex::new(Some(ended)));
        Ok(Self { clock, lines, counts, ended, repair })
    }

    /// What was mended at the file's end when it was opened, if anything.
    pub fn repair(&self) -> Option<Repair> {
        self.repair
    }

    /// Writes what is waiting and says what became of all lines. Later events are dropped and not counted.
    ///
    /// Blocks until the lines are written, but for no longer than five seconds: another process that was stopped while
    /// it held the file's lock must not keep this one from ending.
    pub fn finish(&self) -> AttemptsEnd {
        // The writer ends when the channel is closed and empty.
        drop(self.lines.lock().unwrap_or_else(PoisonError::into_inner).take());
        if let Some(ended) = self.ended.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // An error either way: the writer sends nothing. It has ended, or it has not in time.
            let _ = ended.recv_timeout(LAST_WAIT);
        }
        let count = |counter: &AtomicU64| counter.load(Ordering::Acquire);
        let counts = &self.counts;
        let (written, failed) = (count(&counts.written), count(&counts.failed));
        let unwritten = count(&counts.taken).saturating_sub(written + failed);
        AttemptsEnd {
            written,
            dropped: count(&counts.dropped) + unwritten,
            failed,
            failed_because: counts.failed_because.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            mended: count(&counts.mended),
        }
    }
}

impl Drop for AttemptsFile {
    fn drop(&mut self) {
        self.finish();
    }
}

impl Observer for AttemptsFile {
    fn on_event(&self, event: &Event) {
        if !matches!(event, Event::Request { .. }) {
            return;
        }
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(lines) = lines.as_ref() else { return };
        let heard = Heard { at: self.clock.wall(), event: event.clone() };
        let counter = if lines.try_send(heard).is_ok() { &self.counts.taken } else { &self.counts.dropped };
        counter.fetch_add(1, Ordering::AcqRel);
    }
}

/// The thread that writes.
struct Writer {
    log: Log,
    format: Format,
    run_id: String,
    counts: Arc<Counts>,
    /// Dropped at its end, whatever ends it.
    _end: SyncSender<()>,
}

impl Writer {
    /// Writes what waits, a batch at a time, until the channel is closed.
    fn run(mut self, waiting: &Receiver<Heard>) {
        while let Ok(first) = waiting.recv() {
            let batch = std::iter::once(first).chain(waiting.try_iter().take(BATCH - 1));
            let mut text = Vec::new();
            let mut lines = 0;
            let mut trouble = None;
            for Heard { at, event } in batch {
                lines += 1;
                if let Err(error) = row::write(self.format, &self.run_id, at, &event, &mut text) {
                    trouble = Some(error);
                }
            }
            let appended = match trouble {
                None => self.log.append(&text),
                Some(error) => Err(error),
            };
            match appended {
                Ok(mended) => {
                    self.counts.written.fetch_add(lines, Ordering::AcqRel);
                    self.counts.mended.fetch_add(u64::from(mended), Ordering::AcqRel);
                }
                Err(error) => {
                    self.counts.failed.fetch_add(lines, Ordering::AcqRel);
                    let mut because =
                        self.counts.failed_because.lock().unwrap_or_else(PoisonError::into_inner);
                    because.get_or_insert_with(|| error.to_string());
                }
            }
        }
    }
}
