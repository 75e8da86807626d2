//! One observer that is many.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use crate::apart::Apart;
use crate::{Event, Observer};

/// Passes each event on to several observers, so that none of them can harm the work or each other.
///
/// Those that it is [made of](Fanout::new) are called at once, one after the other: for observers that only count. Those
/// [apart](Fanout::with_apart) hear on a thread of their own, behind a bounded channel; what they cannot take in time is
/// dropped and [counted](Fanout::dropped). A panic of either is contained.
#[derive(Debug, Clone, Default)]
pub struct Fanout {
    at_once: Vec<Arc<dyn Observer>>,
    apart: Vec<Arc<Apart>>,
}

impl Fanout {
    /// A fan-out to these, which are called at once.
    pub fn new(observers: Vec<Arc<dyn Observer>>) -> Self {
        Self { at_once: observers, apart: Vec::new() }
    }

    /// The same, and one more that hears on a thread of this name.
    ///
    /// # Errors
    /// If the system has no thread to give.
    pub fn with_apart(mut self, name: &str, observer: Arc<dyn Observer>) -> io::Result<Self> {
        self.apart.push(Arc::new(Apart::start(name, observer)?));
        Ok(self)
    }

    /// How many events were dropped, because an observer was too slow; each counts once for each that missed it.
    pub fn dropped(&self) -> u64 {
        self.apart.iter().map(|apart| apart.dropped()).sum()
    }

    /// Waits until those apart have heard everything, for each no longer than this. False if one has not; it is left to
    /// itself. Call it when nothing more will be told: what is told later may not be heard.
    pub fn finish(&self, patience: Duration) -> bool {
        // Each is waited for, also after one that has not heard everything.
        let late = self.apart.iter().filter(|apart| !apart.finish(patience)).count();
        late == 0
    }
}

impl Observer for Fanout {
    fn on_event(&self, event: &Event) {
        for observer in &self.at_once {
            // The panic has been reported by the panic hook; the observer hears the next event all the same.
            let _ = catch_unwind(AssertUnwindSafe(|| observer.on_event(event)));
        }
        if !self.apart.is_empty() {
            let event = Arc::new(event.clone());
            for apart in &self.apart {
                apart.tell(&event);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::sync::{Mutex, PoisonError};

    use super::*;
    use crate::Recorder;

    const FAR: Duration = Duration::from_mins(1);

    #[derive(Debug)]
    struct Panics;
    impl Observer for Panics {
        fn on_event(&self, _event: &Event) {
            panic!("an observer of the test panics");
        }
    }

    /// Says that it has been called, and blocks until it is let go.
    #[derive(Debug)]
    struct Blocks {
        called: Sender<()>,
        go: Mutex<Receiver<()>>,
    }
    impl Observer for Blocks {
        fn on_event(&self, _event: &Event) {
            let _ = self.called.send(());
            let _ = self.go.lock().unwrap_or_else(PoisonError::into_inner).recv();
        }
    }

    #[test]
    fn a_panicking_observer_does_not_silence_the_others() {
        let recorder = Recorder::default();
        let fanout = Fanout::new(vec![Arc::new(Panics), Arc::new(recorder.clone())]);
        fanout.on_event(&Event::Leased { count: 1 });
        assert_eq!(recorder.events().len(), 1);
    }

    #[test]
    fn those_apart_hear_everything_in_order_and_go_on_after_a_panic() {
        let recorder = Recorder::default();
        let fanout = Fanout::default().with_apart("panics", Arc::new(Panics)).unwrap();
        let fanout = fanout.with_apart("records", Arc::new(recorder.clone())).unwrap();
        let events: Vec<Event> = (0..1000).map(|count| Event::Leased { count }).collect();
        for event in &events {
            fanout.on_event(event);
        }
        assert!(fanout.finish(FAR));
        assert_eq!(recorder.events(), events);
        assert_eq!(fanout.dropped(), 0);
    }

    #[test]
    fn one_that_blocks_for_ever_holds_nobody_up_and_what_it_missed_is_counted() {
        let recorder = Recorder::default();
        let (called, calls) = channel();
        let (let_go, go) = channel();
        let blocks = Arc::new(Blocks { called, go: Mutex::new(go) });
        let fanout = Fanout::new(vec![Arc::new(recorder.clone())]).with_apart("blocks", blocks).unwrap();
        fanout.on_event(&Event::Leased { count: 0 });
        calls.recv().unwrap();
        for count in 0..5000 {
            fanout.on_event(&Event::Leased { count });
        }
        assert_eq!(recorder.events().len(), 5001);
        assert_eq!(fanout.dropped(), 5000 - 4096, "so many as fit wait for it");
        assert!(!fanout.finish(Duration::ZERO), "it has not heard them");
        drop(let_go);
        assert!(fanout.finish(FAR), "a full channel does not hide the end");
        assert_eq!(calls.try_iter().count(), 4096);
    }
}
