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
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::{ErrorKind, QueueError, Result, WorkerId};

const WORKER_PREFIX: &str = "worker-";
/// Another process that looks whether a worker process lives holds its lock for an instant.
const LOOK: Duration = Duration::from_millis(2);
const LOOKS: u32 = 50;

/// The locks of one handle.
#[derive(Debug)]
pub(super) struct Locks {
    folder: PathBuf,
    turn: Arc<File>,
    writer: Arc<File>,
    held: Mutex<HashMap<WorkerId, File>>,
}

/// The right to write, over all processes; given back when dropped.
#[derive(Debug)]
pub(super) struct WriterLock(Arc<File>);

impl Drop for WriterLock {
    fn drop(&mut self) {
        // Unlocking a lock that is held cannot fail; if the descriptor went bad the kernel has freed it already.
        let _ = self.0.unlock();
    }
}

impl Locks {
    /// Opens the folder of locks of a database, creating it if needed.
    pub(super) fn open(database: &Path) -> Result<Self> {
        let mut folder = database.as_os_str().to_owned();
        folder.push(".locks");
        let folder = PathBuf::from(folder);
        std::fs::create_dir_all(&folder).map_err(|error| unavailable(&folder, error))?;
        let open = |name: &str| open_file(&folder.join(name)).map(Arc::new);
        Ok(Self { turn: open("turn")?, writer: open("writer")?, held: Mutex::default(), folder })
    }

    /// Waits for this process' turn to write.
    pub(super) async fn write_turn(&self) -> Result<WriterLock> {
        lock(&self.turn, &self.folder).await?;
        let taken = lock(&self.writer, &self.folder).await;
        let _ = self.turn.unlock();
        taken.map(|()| WriterLock(Arc::clone(&self.writer)))
    }

    /// Holds the lock that says that this worker process is alive. Repeating it is harmless.
    pub(super) async fn hold_worker(&self, worker: &WorkerId) -> Result<()> {
        if self.held().contains_key(worker) {
            return Ok(());
        }
        let path = self.worker_path(worker);
        for _ in 0..LOOKS {
            let file = open_file(&path)?;
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

/// Takes a lock, on a blocking thread if somebody else has it.
async fn lock(file: &Arc<File>, path: &Path) -> Result<()> {
    match file.try_lock() {
        Ok(()) => return Ok(()),
        Err(TryLockError::WouldBlock) => {}
        Err(TryLockError::Error(error)) => return Err(unavailable(path, error)),
    }
    let waiting = Arc::clone(file);
    let taken = tokio::task::spawn_blocking(move || waiting.lock()).await;
    taken.unwrap_or_else(|error| Err(io::Error::other(error))).map_err(|error| unavailable(path, error))
}

fn open_file(path: &Path) -> Result<File> {
    OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .read(true)
        .open(path)
        .map_err(|error| unavailable(path, error))
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
