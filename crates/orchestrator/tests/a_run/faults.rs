//! This machine cannot work: what a run does then, and how it comes back.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use longhaul_events::Event;
use longhaul_orchestrator::{ErrorKind, RunEnd};
use longhaul_pipeline::{FailureClass, PublishError, Reason};
use longhaul_queue_core::JobState;

use crate::support::{Bench, done, failed, with_file};

/// A machine whose first tries meet a full disk, each only after a second of downloading; how many were at work at
/// once after the first pause and before the first success.
fn full_for(tries: usize) -> (Bench, Arc<AtomicUsize>) {
    let begun = Arc::new(AtomicUsize::new(0));
    let counted = begun.clone();
    let bench = Bench::new(move |_job, context| {
        let number = counted.fetch_add(1, Ordering::SeqCst);
        Box::pin(async move {
            context.clock().sleep(Duration::from_secs(1)).await;
            if number < tries { failed(FailureClass::LocalFault, Reason::DiskFull) } else { done() }
        })
    });
    (bench, begun)
}

#[tokio::test(start_paused = true)]
async fn after_a_pause_one_job_goes_first_and_the_rest_follow_when_it_succeeds() {
    let (mut bench, begun) = full_for(10);
    bench.config.workers = 8;
    bench.enqueue("", 40).await;
    let summary = bench.run().await;
    assert_eq!(summary.count("done"), 40);
    // Eight met the fault, then one after each of two pauses, and then all the others.
    assert_eq!((summary.count("released"), begun.load(Ordering::SeqCst)), (10, 50));
    let pauses = bench.rest_of_events().into_iter().filter_map(|event| match event {
        Event::LocalFault { retry_in, .. } => Some(retry_in.as_secs()),
        _ => None,
    });
    assert_eq!(pauses.collect::<Vec<_>>(), [5, 10, 20]);
    // 1 + 5, 1 + 10, 1 + 20, one alone, and 39 by eight: they did follow.
    assert_eq!(summary.elapsed, Duration::from_secs(6 + 11 + 21 + 1 + 5));
    bench.assert_tidy().await;
}

#[tokio::test(start_paused = true)]
async fn a_fault_that_outlasts_the_horizon_ends_a_drain_and_says_why() {
    let (mut bench, _) = full_for(usize::MAX);
    bench.config.drain_horizon = Duration::from_mins(10);
    bench.enqueue("", 3).await;
    let summary = bench.run().await;
    let RunEnd::Failed(error) = summary.ended else { panic!("{:?}", summary.ended) };
    assert_eq!(error.kind(), ErrorKind::LocalFault);
    assert!(error.to_string().contains("a test wants it"), "{error}");
    assert!(summary.elapsed >= Duration::from_mins(10) && summary.elapsed < Duration::from_mins(20));
    let record = bench.record("a0").await;
    assert_eq!((record.state, record.attempts, record.losses), (JobState::Queued, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_run_that_does_not_drain_waits_until_the_machine_can_work_again() {
    let (mut bench, _) = full_for(30);
    bench.config.drain = false;
    bench.config.drain_horizon = Duration::from_mins(1);
    bench.config.workers = 1;
    bench.enqueue("", 1).await;
    let handle = bench.start().await;
    bench.event(|event| matches!(event, Event::Published { .. }).then_some(())).await;
    handle.stop();
    assert!(matches!(handle.wait().await.ended, RunEnd::Stopped));
}

#[tokio::test(start_paused = true)]
async fn a_publication_that_fails_says_what_the_system_said() {
    let mut bench = Bench::new(|_job, _context| Box::pin(async { with_file("x.pdf") }));
    *bench.pipeline.publishing.lock().unwrap() = Some(Box::new(|_| {
        let source = std::io::Error::from(std::io::ErrorKind::StorageFull);
        Err(PublishError::Io { what: "cannot write the manifest m.jsonl".to_owned(), source })
    }));
    bench.enqueue("", 1).await;
    let summary = bench.run().await;
    assert_eq!(summary.unpublished, 1);
    let said = "cannot write the manifest m.jsonl: no storage space";
    assert_eq!(summary.unpublished_because.as_deref(), Some(said));
    let events = bench.rest_of_events();
    let told = |event: &Event| matches!(event, Event::LocalFault { detail, .. } if detail == said);
    assert!(events.iter().any(told), "{events:?}");
}
