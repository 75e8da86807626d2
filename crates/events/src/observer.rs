//! Who hears of it.

use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};

use crate::Event;

/// Hears events.
///
/// # Contract
/// Called from any thread, possibly at the same time; must return soon and must not block.
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

/// Passes each event on to several observers. One that panics is contained; the others and the job go on.
#[derive(Debug, Clone, Default)]
pub struct Fanout {
    observers: Vec<Arc<dyn Observer>>,
}

impl Fanout {
    /// A fan-out to these.
    pub fn new(observers: Vec<Arc<dyn Observer>>) -> Self {
        Self { observers }
    }
}

impl Observer for Fanout {
    fn on_event(&self, event: &Event) {
        for observer in &self.observers {
            // The panic has been reported by the panic hook; the observer hears the next event all the same.
            let _ = catch_unwind(AssertUnwindSafe(|| observer.on_event(event)));
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Panics;
    impl Observer for Panics {
        fn on_event(&self, _event: &Event) {
            panic!("an observer of the test panics");
        }
    }

    #[test]
    fn a_panicking_observer_does_not_silence_the_others() {
        let recorder = Recorder::default();
        let fanout = Fanout::new(vec![Arc::new(Panics), Arc::new(recorder.clone())]);
        fanout.on_event(&Event::Leased { count: 1 });
        assert_eq!(recorder.events().len(), 1);
    }
}
