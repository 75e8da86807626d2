//! One lock file, and the wait for it.
//!
//! A wait for an OS lock cannot be cancelled: the thread that waits is blocked in the kernel. So there is at most one
//! such thread for a file. Whoever gives up leaves it there with its place in the kernel's line, and the next call
//! waits with it. A lock that comes when nobody waits any more is given back at once.

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

/// A lock that is held; given back when dropped.
#[derive(Debug)]
pub(super) struct Held(Arc<File>);

impl Drop for Held {
    fn drop(&mut self) {
        // Unlocking a lock that is held cannot fail; if the descriptor went bad the kernel has freed it already.
        let _ = self.0.unlock();
    }
}

/// A lock file of one handle. Calls to `take` come one after the other: to the kernel they are one and the same holder.
#[derive(Debug)]
pub(super) struct Gate {
    path: PathBuf,
    file: Arc<File>,
    waiter: Arc<Mutex<Waiter>>,
}

/// The thread that waits for the lock, and for whom.
#[derive(Debug, Default)]
struct Waiter {
    is_there: bool,
    for_whom: Option<oneshot::Sender<io::Result<Held>>>,
}

impl Gate {
    pub(super) fn new(path: PathBuf, file: File) -> Self {
        Self { path, file: Arc::new(file), waiter: Arc::default() }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// How many threads wait for the lock. Exact while somebody else has it.
    #[cfg(test)]
    pub(super) fn waiting_threads(&self) -> usize {
        Arc::strong_count(&self.file) - 1
    }

    /// Whether somebody else holds the lock at the moment.
    pub(super) fn is_taken_by_others(&self) -> bool {
        let waiter = lock(&self.waiter);
        !waiter.is_there
            && match self.file.try_lock() {
                Ok(()) => {
                    drop(Held(Arc::clone(&self.file)));
                    false
                }
                Err(TryLockError::WouldBlock) => true,
                Err(TryLockError::Error(_)) => false,
            }
    }

    /// Takes the lock. `waited` is called after each `tick` of waiting; what it returns ends the wait.
    ///
    /// Cancel-safe: if the future is dropped the lock is not held.
    pub(super) async fn take<E: From<io::Error>>(
        &self,
        tick: Duration,
        mut waited: impl FnMut() -> Result<(), E>,
    ) -> Result<Held, E> {
        let mut answer = match self.begin()? {
            Ok(held) => return Ok(held),
            Err(answer) => answer,
        };
        loop {
            match tokio::time::timeout(tick, &mut answer).await {
                Ok(Ok(held)) => return Ok(held?),
                // The runtime ended before the thread began.
                Ok(Err(_)) => return Err(io::Error::other("nobody waits for the lock any more").into()),
                Err(_) => waited()?,
            }
        }
    }

    /// The lock, or where it will be announced.
    fn begin(&self) -> io::Result<Result<Held, oneshot::Receiver<io::Result<Held>>>> {
        let mut waiter = lock(&self.waiter);
        if !waiter.is_there {
            match self.file.try_lock() {
                Ok(()) => return Ok(Ok(Held(Arc::clone(&self.file)))),
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => return Err(error),
            }
            let (file, shared) = (Arc::clone(&self.file), Arc::clone(&self.waiter));
            tokio::task::spawn_blocking(move || wait(&file, &shared));
            waiter.is_there = true;
        }
        let (for_whom, answer) = oneshot::channel();
        waiter.for_whom = Some(for_whom);
        Ok(Err(answer))
    }
}

/// The thread that waits. If nobody wants the lock any more it is given back while the waiter is locked: to the kernel
/// this thread and the next call are the same holder, which must not unlock what it has just taken.
fn wait(file: &Arc<File>, waiter: &Mutex<Waiter>) {
    let taken = file.lock().map(|()| Held(Arc::clone(file)));
    let mut waiter = lock(waiter);
    waiter.is_there = false;
    if let Some(for_whom) = waiter.for_whom.take() {
        let _ = for_whom.send(taken);
    }
}

fn lock(waiter: &Mutex<Waiter>) -> MutexGuard<'_, Waiter> {
    // Every change is a single assignment, so a panic elsewhere cannot have torn it.
    waiter.lock().unwrap_or_else(PoisonError::into_inner)
}
