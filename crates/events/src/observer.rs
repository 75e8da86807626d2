//! Who hears of it.

use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};

use crate::Event;

/// Hears events.
///
/// # Contract
/// Called from any thread, possibly at the same time; must return soon and must not block. One that cannot promise that
/// is put [apart](crate::Fanout::with_apart).
pub trait Observer: Debug + Send + Sync + 'static {
    /// Something happened.
    fn on_event(&self, event: &Event);
}

/// Hears nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Observer for Silent {
    fn on_event(&self, _event: &Event) {}
}

/// Keeps every event in memory, for tests and small embedders. Grows without bound.
#[derive(Debug, Clone, Default)]
pub struct Recorder {
    events: Arc<Mutex<Vec<Event>>>,
}

impl Recorder {
    /// All events so far.
    pub fn events(&self) -> Vec<Event> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Observer for Recorder {
    fn on_event(&self, event: &Event) {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).push(event.clone());
    }
}
