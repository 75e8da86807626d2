//! Stopping, in every order.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use longhaul_events::{Event, Observer};
use longhaul_orchestrator::{ErrorKind, Orchestrator, OrchestratorConfig, Parts, RunEnd};
use longhaul_pipeline::{FailureClass, Reason};
use longhaul_queue_core::{Epoch, JobState, WorkQueue};

use crate::flaky::Flaky;
use crate::support::{Bench, FAR, done, end_of, failed, is_state};

/// Each job works for so long, unless it is cancelled.
fn bench_of(length: Duration) -> Bench {
    Bench::new(move |_job, context| {
        Box::pin(async move {
            tokio::select! {
                () = context.clock().sleep(length) => done(),
                () = context.cancelled().cancelled() => failed(FailureClass::Transient, Reason::Cancelled),
            }
        })
    })
}

fn started(event: &Event) -> Option<()> {
    matches!(event, Event::JobStarted { .. }).then_some(())
}

#[tokio::test(start_paused = true)]
async fn a_stopped_run_lets_its_jobs_finish_within_the_grace_period() {
    let mut bench = bench_of(Duration::from_secs(20));
    bench.config.workers = 2;
    bench.enqueue("", 5).await;
    let handle = bench.start().await;
    bench.event(started).await;
    handle.stop();
    handle.stop();
    let summary = end_of(handle).await;
    assert!(matches!(summary.ended, RunEnd::Stopped));
    assert_eq!((summary.count("done"), summary.left.unwrap().queued), (2, 3));
    assert_eq!(summary.elapsed, Duration::from_secs(20));
    bench.assert_tidy().await;
}

#[tokio::test(start_paused = true)]
async fn inv_attempts_what_outlasts_the_grace_period_is_released_uncharged() {
    let mut bench = bench_of(Duration::from_hours(1));
    bench.enqueue("", 3).await;
    let handle = bench.start().await;
    bench.event(started).await;
    handle.stop();
    let summary = end_of(handle).await;
    assert_eq!((summary.count("released"), summary.left.unwrap().queued), (3, 3));
    assert_eq!(summary.elapsed, Duration::from_secs(30));
    assert!(is_state(&bench.record("a1").await, JobState::Queued, 0));
    assert_eq!(bench.record("a1").await.losses, 0);
    bench.assert_tidy().await;
}

#[tokio::test(start_paused = true)]
async fn a_second_stop_ends_at_once_and_stops_after_the_end_do_nothing() {
    let mut bench = bench_of(Duration::from_hours(1));
    bench.enqueue("", 3).await;
    let handle = bench.start().await;
    let stopper = handle.stopper();
    bench.event(started).await;
    stopper.stop();
    bench.event(|event| matches!(event, Event::Stopping { .. }).then_some(())).await;
    stopper.stop_now();
    stopper.stop();
    let summary = end_of(handle).await;
    assert_eq!((summary.count("released"), summary.elapsed), (3, Duration::ZERO));
    stopper.stop();
    stopper.stop_now();
    bench.assert_tidy().await;
}

#[tokio::test(start_paused = true)]
async fn a_run_that_is_stopped_before_it_did_anything_ends() {
    let bench = bench_of(Duration::from_secs(1));
    bench.enqueue("", 3).await;
    let handle = bench.start().await;
    handle.stop_now();
    let summary = end_of(handle).await;
    assert!(matches!(summary.ended, RunEnd::Stopped));
    assert_eq!(summary.left.unwrap().queued, 3);
    assert!(bench.queue.stats().await.unwrap().workers == 0, "the process has left");
}

#[tokio::test(start_paused = true)]
async fn a_handle_that_is_dropped_releases_its_jobs() {
    let mut bench = bench_of(Duration::from_hours(1));
    bench.enqueue("", 3).await;
    let handle = bench.start().await;
    bench.event(started).await;
    drop(handle);
    let left = async {
        let mut epoch = Epoch::default();
        // Each change is awaited; the process' leaving is the last.
        while bench.queue.stats().await.unwrap().workers > 0 {
            epoch = bench.queue.changed(epoch).await.unwrap();
        }
    };
    tokio::time::timeout(FAR, left).await.expect("the process never left");
    assert_eq!(bench.queue.stats().await.unwrap().counts.queued, 3);
    bench.assert_tidy().await;
}

#[tokio::test(start_paused = true)]
async fn a_job_that_ignores_its_cancellation_is_cut_off() {
    let mut bench = Bench::new(|_job, _context| Box::pin(std::future::pending()));
    bench.enqueue("", 1).await;
    let handle = bench.start().await;
    bench.event(started).await;
    handle.stop_now();
    let summary = end_of(handle).await;
    assert_eq!((summary.count("released"), summary.elapsed), (1, Duration::from_secs(1)));
    bench.assert_tidy().await;
}

#[tokio::test(start_paused = true)]
async fn a_store_that_hangs_does_not_keep_a_run_from_ending() {
    let mut bench = bench_of(Duration::from_secs(5));
    bench.enqueue("", 2).await;
    let flaky = Arc::new(Flaky::new(bench.queue.clone()));
    let handle = bench.start_on(flaky.clone()).await;
    bench.event(started).await;
    flaky.hang.store(true, Ordering::SeqCst);
    handle.stop();
    let summary = end_of(handle).await;
    assert!(summary.elapsed <= Duration::from_mins(1), "{:?}", summary.elapsed);
    assert!(summary.left.is_none());
    // The outcomes may have been recorded for all that this process knows, so their files stay.
    assert!(bench.pipeline.discarded.lock().unwrap().is_empty());
}

#[derive(Debug)]
struct Panics;

impl Observer for Panics {
    fn on_event(&self, _: &Event) {
        panic!("an observer of the test panics");
    }
}

#[tokio::test(start_paused = true)]
async fn a_broken_observer_breaks_nothing_and_a_bad_configuration_starts_nothing() {
    let bench = bench_of(Duration::from_secs(1));
    bench.enqueue("", 3).await;
    let parts = Parts {
        queue: Arc::new(bench.queue.clone()),
        admin: Arc::new(bench.queue.clone()),
        pipeline: bench.pipeline.clone(),
        observer: Arc::new(Panics),
        clock: bench.clock.clone(),
        store: None,
    };
    let bad = OrchestratorConfig { workers: 0, ..bench.config.clone() };
    let refused = Orchestrator::start(bad, parts.clone()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidConfig);
    assert_eq!(bench.queue.stats().await.unwrap().workers, 0);
    let summary = end_of(Orchestrator::start(bench.config.clone(), parts).await.unwrap()).await;
    assert_eq!(summary.count("done"), 3);
}
