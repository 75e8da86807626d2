//! The OS locks in the folder beside the database.
//!
//! - `turn` and `writer`: whoever wants to write takes `turn`, then `writer`, then gives `turn` back. A waiting
//!   process holds `turn`, so the one that writes cannot take the next turn before it: processes alternate, where
//!   SQLite's own busy handler lets one starve for seconds.
//! - `worker-ID`: held by a worker process as long as it lives, whatever kills it. A lock that can be taken means
//!   that its process is dead.
//!
//! The kernel frees a lock when its process ends, so none is ever left behind.

use std::collections::HashMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::gate::{Gate, Held};
use super::holder::{self, Holder};
use crate::{ErrorKind, QueueError, Result, WorkerId};

const WORKER_PREFIX: &str = "worker-";
/// Another process that looks whether a worker process lives holds its lock for an instant.
const LOOK: Duration = Duration::from_millis(2);
const LOOKS: u32 = 50;

/// How often a wait for the right to write is looked at.
const TICK: Duration = Duration::from_secs(1);
/// A wait of so many ticks is said; then one of three times as many, and so on.
const SAID_AFTER: u32 = 3;
/// After so many ticks the call fails, so that whoever made it can act. It keeps its place in the line.
const PATIENCE: u32 = 15;

/// The locks of one handle.
#[derive(Debug)]
pub(super) struct Locks {
    folder: PathBuf,
    /// Whoever may use the database may use its locks, and nobody else.
    mode: u32,
    turn: Gate,
    writer: Gate,
    tick: Duration,
    wait: Mutex<Wait>,
    held: Mutex<HashMap<WorkerId, File>>,
}

/// How long this handle has waited for the right to write, over all calls since it had it last.
#[derive(Debug, Default)]
struct Wait {
    ticks: u32,
    said: u32,
}

/// The right to write, over all processes; given back when dropped.
#[derive(Debug)]
pub(super) struct WriterLock {
    _held: Held,
}

impl Locks {
    /// Opens the folder of locks of a database, creating it if needed.
    pub(super) fn open(database: &Path) -> Result<Self> {
        Self::with_tick(database, TICK)
    }

    fn with_tick(database: &Path, tick: Duration) -> Result<Self> {
        let mut folder = database.as_os_str().to_owned();
        folder.push(".locks");
        let folder = PathBuf::from(folder);
        let mode = std::fs::metadata(database).map_or(0o600, |found| found.mode() & 0o666);
        // Who may read may enter.
        let enter = mode | ((mode & 0o444) >> 2);
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(enter)
            .create(&folder)
            .map_err(|error| unavailable(&folder, error))?;
        let open = |name: &str| {
            let path = folder.join(name);
            open_file(&path, mode).map(|file| Gate::new(path, file))
        };
        let (turn, writer) = (open("turn")?, open("writer")?);
        Ok(Self { turn, writer, tick, wait: Mutex::default(), held: Mutex::default(), folder, mode })
    }

    /// Whether another process waits for its turn, while this one writes.
    pub(super) fn others_wait(&self) -> bool {
        self.turn.is_taken_by_others()
    }

    /// Waits for this process' turn to write.
    ///
    /// # Errors
    /// `Busy` if somebody else is in the way for too long: a process that was stopped in the middle of a commit holds
    /// its lock for as long as it is stopped.
    pub(super) async fn write_turn(&self) -> Result<WriterLock> {
        let mut left = PATIENCE;
        let mut waited = || {
            left -= 1;
            self.waited(left == 0)
        };
        let turn = self.turn.take(self.tick, &mut waited).await.map_err(|error| self.given_up(error))?;
        let held = self.writer.take(self.tick, &mut waited).await.map_err(|error| self.given_up(error))?;
        drop(turn);
        *self.wait() = Wait::default();
        Ok(WriterLock { _held: held })
    }

    /// One more tick has passed. Says so now and then, and whether to give up.
    fn waited(&self, is_over: bool) -> Result<(), GivenUp> {
        let mut wait = self.wait();
        wait.ticks += 1;
        let says = wait.ticks >= SAID_AFTER && wait.ticks >= wait.said.saturating_mul(3);
        if says {
            wait.said = wait.ticks;
        }
        if !says && !is_over {
            return Ok(());
        }
        let message = self.in_the_way(self.tick * wait.ticks);
        if says {
            tracing::warn!("{message}");
        }
        if is_over { Err(GivenUp::Busy(message)) } else { Ok(()) }
    }

    /// Who keeps this process from writing, for how long, and what to do. Whoever holds `turn` only waits for `writer`
    /// as well, unless nobody holds that.
    fn in_the_way(&self, waited: Duration) -> String {
        let (gate, holder) = match Holder::of(self.writer.file()) {
            None => match Holder::of(self.turn.file()) {
                None => (&self.writer, None),
                holder => (&self.turn, holder),
            },
            holder => (&self.writer, holder),
        };
        let (path, advice) = (gate.path(), holder::advice(holder.as_ref(), gate.path()));
        format!(
            "another process has kept this one from writing to the queue for {} s, by its lock on {}; {advice}",
            waited.as_secs(),
            path.display()
        )
    }

    fn given_up(&self, why: GivenUp) -> QueueError {
        match why {
            GivenUp::Busy(message) => QueueError::new(ErrorKind::Busy, message),
            GivenUp::Failed(error) => unavailable(&self.folder, error),
        }
    }

    fn wait(&self) -> std::sync::MutexGuard<'_, Wait> {
        self.wait.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Holds the lock that says that this worker process is alive. Repeating it is harmless.
    pub(super) async fn hold_worker(&self, worker: &WorkerId) -> Result<()> {
        if self.held().contains_key(worker) {
            return Ok(());
        }
        let path = self.worker_path(worker);
        for _ in 0..LOOKS {
            let file = open_file(&path, self.mode)?;
            match file.try_lock() {
                // Another process may have taken the fresh, still unlocked file for a dead one's and removed it.
                Ok(()) if is_at(&file, &path) => {
                    self.held().insert(worker.clone(), file);
                    return Ok(());
                }
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => tokio::time::sleep(LOOK).await,
                Err(TryLockError::Error(error)) => return Err(unavailable(&path, error)),
            }
        }
        // It is held for longer than a look takes: by another handle of the same process, which is alive as well.
        Ok(())
    }

    /// Gives the lock of a worker process that has left back.
    pub(super) fn release_worker(&self, worker: &WorkerId) {
        if self.held().remove(worker).is_some() {
            // If it stays, the next process that looks removes it.
            let _ = std::fs::remove_file(self.worker_path(worker));
        }
    }

    /// Gives the locks of all worker processes back without a good-bye, as the kernel does when a process ends.
    pub(super) fn abandon(&self) {
        self.held().clear();
    }

    /// Worker processes of this machine whose lock is free: they are dead, or have left.
    pub(super) fn dead_workers(&self) -> Vec<WorkerId> {
        let Ok(entries) = std::fs::read_dir(&self.folder) else { return Vec::new() };
        let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        let ids = names.filter_map(|name| name.strip_prefix(WORKER_PREFIX).map(WorkerId::from_text));
        ids.filter(|id| !self.held().contains_key(id)).filter(|id| self.is_free(id)).collect()
    }

    /// Removes the lock file of a worker process that has no row any more.
    pub(super) fn forget_worker(&self, worker: &WorkerId) {
        if self.is_free(worker) {
            let _ = std::fs::remove_file(self.worker_path(worker));
        }
    }

    fn is_free(&self, worker: &WorkerId) -> bool {
        // Dropping the file gives the lock back at once.
        File::open(self.worker_path(worker)).is_ok_and(|file| file.try_lock().is_ok())
    }

    fn worker_path(&self, worker: &WorkerId) -> PathBuf {
        self.folder.join(format!("{WORKER_PREFIX}{worker}"))
    }

    fn held(&self) -> std::sync::MutexGuard<'_, HashMap<WorkerId, File>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the open file is the one that the path names.
fn is_at(file: &File, path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|there| file.metadata().is_ok_and(|ours| ours.ino() == there.ino()))
}

/// Why a wait for the right to write ended without it.
#[derive(Debug)]
enum GivenUp {
    Busy(String),
    Failed(io::Error),
}

impl From<io::Error> for GivenUp {
    fn from(error: io::Error) -> Self {
        Self::Failed(error)
    }
}

fn open_file(path: &Path, mode: u32) -> Result<File> {
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .read(true)
        .mode(mode)
        .open(path)
        .map_err(|error| unavailable(path, error))?;
    // The process's mask may have taken away what the database grants. Only the owner can give it back, and whoever could
    // open the file needs nothing more.
    if file.metadata().is_ok_and(|made| made.mode() & 0o666 != mode) {
        let _ = file.set_permissions(std::fs::Permissions::from_mode(mode));
    }
    Ok(file)
}

fn unavailable(path: &Path, error: io::Error) -> QueueError {
    let message = format!(
        "the queue's lock {} cannot be used: {error}; see that this user may write it and its folder",
        path.display()
    );
    QueueError::new(ErrorKind::Unavailable, message).with_source(error)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::sync::Arc;

    use super::*;

    #[tokio::test]
    async fn a_worker_is_dead_exactly_when_its_lock_is_free() {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("q");
        let (ours, theirs) = (Locks::open(&database).unwrap(), Locks::open(&database).unwrap());
        let worker = WorkerId::from_text("w");
        ours.hold_worker(&worker).await.unwrap();
        assert_eq!(theirs.dead_workers(), []);
        drop(ours);
        assert_eq!(theirs.dead_workers(), std::slice::from_ref(&worker));
        theirs.forget_worker(&worker);
        assert_eq!(theirs.dead_workers(), []);
    }

    #[tokio::test]
    async fn two_handles_take_turns() {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("q");
        let (ours, theirs) = (Locks::open(&database).unwrap(), Arc::new(Locks::open(&database).unwrap()));
        let first = ours.write_turn().await.unwrap();
        let mut waiting = Box::pin(async { theirs.write_turn().await.unwrap() });
        assert!(futures_poll(&mut waiting).await.is_none());
        drop(first);
        // The waiter holds `turn`, so it goes before us although we ask again at once.
        let second = waiting.await;
        let mut again = Box::pin(async { ours.write_turn().await.unwrap() });
        assert!(futures_poll(&mut again).await.is_none());
        drop(second);
        again.await;
    }

    const SHORT: Duration = Duration::from_millis(5);

    fn handles(folder: &tempfile::TempDir) -> (Locks, Locks) {
        let database = folder.path().join("q");
        (Locks::with_tick(&database, SHORT).unwrap(), Locks::with_tick(&database, SHORT).unwrap())
    }

    #[tokio::test]
    async fn a_wait_that_is_too_long_is_busy_and_says_who_is_in_the_way() {
        let folder = tempfile::tempdir().unwrap();
        let (ours, theirs) = handles(&folder);
        let first = ours.write_turn().await.unwrap();
        let mut ticks = 0;
        for _ in 0..3 {
            let error = theirs.write_turn().await.unwrap_err();
            assert!(error.kind() == ErrorKind::Busy && error.is_retryable(), "{error}");
            let message = error.to_string();
            assert!(message.contains("q.locks/writer"), "{message}");
            #[cfg(target_os = "linux")]
            assert!(message.contains(&format!("process {}", std::process::id())), "{message}");
            // It has been one wait since the first call.
            assert!(theirs.wait().ticks >= ticks + PATIENCE);
            ticks = theirs.wait().ticks;
        }
        assert_eq!(theirs.wait().said, 27, "said after 3, 9 and 27 ticks");
        drop(first);
        drop(theirs.write_turn().await.unwrap());
        assert_eq!(theirs.wait().ticks, 0);
    }

    /// The thread that waits in the kernel cannot be called back; it must neither keep the lock nor multiply.
    #[tokio::test]
    async fn who_gave_up_or_was_dropped_leaves_one_thread_and_no_lock() {
        let folder = tempfile::tempdir().unwrap();
        let (ours, theirs) = handles(&folder);
        let first = ours.write_turn().await.unwrap();
        for _ in 0..3 {
            theirs.write_turn().await.unwrap_err();
            let mut dropped = Box::pin(theirs.write_turn());
            assert!(futures_poll(&mut dropped).await.is_none());
        }
        assert_eq!(theirs.writer.waiting_threads(), 1, "however often it was waited for");
        drop(first);
        // It gets the lock, finds that nobody wants it any more, and ends.
        let ends = async {
            while theirs.writer.waiting_threads() > 0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), ends).await.unwrap();
        for _ in 0..3 {
            drop(ours.write_turn().await.unwrap());
            drop(theirs.write_turn().await.unwrap());
        }
    }

    /// Polls once.
    async fn futures_poll<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
        let mut future = std::pin::Pin::new(future);
        std::future::poll_fn(|context| {
            std::task::Poll::Ready(match future.as_mut().poll(context) {
                std::task::Poll::Ready(output) => Some(output),
                std::task::Poll::Pending => None,
            })
        })
        .await
    }
}
