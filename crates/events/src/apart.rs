//! A slow observer, kept apart from the work.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use std::{io, thread};

use crate::{Event, Observer};

/// Events that may wait for a slow observer; at most a few megabytes.
const WAITING_MAX: usize = 4096;

/// What is sent to the observer's thread.
#[derive(Debug)]
enum Note {
    Event(Arc<Event>),
    End,
}

/// An observer that hears on a thread of its own, behind a bounded channel. It may be slow, block or panic: whoever
/// tells it something goes on at once, and what it cannot take in time is dropped and counted.
#[derive(Debug)]
pub(crate) struct Apart {
    notes: SyncSender<Note>,
    ending: Arc<AtomicBool>,
    dropped: AtomicU64,
    ended: Mutex<Receiver<()>>,
}

impl Apart {
    /// Starts the thread, which has this name.
    pub(crate) fn start(name: &str, observer: Arc<dyn Observer>) -> io::Result<Self> {
        let (notes, inbox) = sync_channel(WAITING_MAX);
        // The thread sends nothing: that its end is dropped says that it is over.
        let (alive, ended) = sync_channel(0);
        let ending = Arc::new(AtomicBool::new(false));
        let is_ending = Arc::clone(&ending);
        thread::Builder::new().name(name.to_owned()).spawn(move || {
            let _alive: SyncSender<()> = alive;
            hear(&inbox, &is_ending, &*observer);
        })?;
        Ok(Self { notes, ending, dropped: AtomicU64::new(0), ended: Mutex::new(ended) })
    }

    /// Tells it an event, if there is room.
    pub(crate) fn tell(&self, event: &Arc<Event>) {
        if self.notes.try_send(Note::Event(Arc::clone(event))).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many events it has missed.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Waits until it has heard all that was told, but not for longer than this; false if it has not. Its thread, if it
    /// blocks, is left to itself.
    pub(crate) fn finish(&self, patience: Duration) -> bool {
        // Before the note: a full channel takes none, but its thread looks at this once it has emptied it.
        self.ending.store(true, Ordering::Release);
        match self.notes.try_send(Note::End) {
            Ok(()) | Err(TrySendError::Full(_)) => {}
            Err(TrySendError::Disconnected(_)) => return true,
        }
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        matches!(ended.recv_timeout(patience), Err(std::sync::mpsc::RecvTimeoutError::Disconnected))
    }
}

/// Hears until the end is told or everybody who could tell something is gone.
fn hear(inbox: &Receiver<Note>, ending: &AtomicBool, observer: &dyn Observer) {
    let mut next = inbox.recv().ok();
    while let Some(Note::Event(event)) = next {
        // The panic has been reported by the panic hook; the observer hears the next event all the same.
        let _ = catch_unwind(AssertUnwindSafe(|| observer.on_event(&event)));
        next = if ending.load(Ordering::Acquire) { inbox.try_recv().ok() } else { inbox.recv().ok() };
    }
}
