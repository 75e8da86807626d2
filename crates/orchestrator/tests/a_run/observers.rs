//! Observers that misbehave: no job's fate depends on who listens.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use longhaul_events::{Event, Fanout, Observer};
use longhaul_orchestrator::RunEnd;
use longhaul_pipeline::{FailureClass, Reason};
use longhaul_queue_core::JobState;

use crate::support::{Bench, done, end_of, failed, is_state};

/// What became of the jobs of a run, one by one, and how it ended.
async fn fates(observer: Arc<dyn Observer>) -> (Vec<(JobState, u32)>, bool) {
    let bench = Bench::new(|job, _context| {
        Box::pin(async move {
            match job.number {
                2 => failed(FailureClass::Permanent, Reason::Gone),
                3 => failed(FailureClass::Transient, Reason::Timeout),
                _ => done(),
            }
        })
    });
    bench.enqueue("", 20).await;
    let summary = end_of(bench.start_observed(observer).await).await;
    let mut fates = Vec::new();
    for job in 0..20 {
        let record = bench.record(&format!("a{job}")).await;
        fates.push((record.state, record.attempts));
    }
    bench.assert_tidy().await;
    assert!(is_state(&bench.record("a1").await, JobState::Error, 1));
    (fates, matches!(summary.ended, RunEnd::Drained))
}

/// Panics at each event.
#[derive(Debug, Default)]
struct Panics(AtomicUsize);

impl Observer for Panics {
    fn on_event(&self, event: &Event) {
        self.0.fetch_add(1, Ordering::Relaxed);
        panic!("an observer of the test cannot bear {}", event.kind());
    }
}

/// Blocks for ever at the first event: nobody ever sends.
#[derive(Debug)]
struct Blocks(Mutex<Receiver<()>>);

impl Observer for Blocks {
    fn on_event(&self, _event: &Event) {
        let _ = self.0.lock().map(|go| go.recv());
    }
}

#[tokio::test(start_paused = true)]
async fn an_observer_that_panics_at_every_event_changes_no_jobs_fate() {
    let expected = fates(Arc::new(longhaul_events::Silent)).await;
    let panics = Arc::new(Panics::default());
    // On its own, and apart.
    assert_eq!(fates(panics.clone()).await, expected);
    assert!(panics.0.load(Ordering::Relaxed) > 20);
    let apart = Fanout::default().with_apart("panics", panics.clone()).unwrap();
    assert_eq!(fates(Arc::new(apart.clone())).await, expected);
    assert!(apart.finish(Duration::from_mins(1)));
    assert_eq!(apart.dropped(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_observer_that_blocks_for_ever_changes_no_jobs_fate() {
    let expected = fates(Arc::new(longhaul_events::Silent)).await;
    let (never, go) = channel();
    let fanout = Fanout::default().with_apart("blocks", Arc::new(Blocks(Mutex::new(go)))).unwrap();
    assert_eq!(fates(Arc::new(fanout.clone())).await, expected);
    assert!(!fanout.finish(Duration::ZERO), "it blocks to this moment");
    drop(never);
}
