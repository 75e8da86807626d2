//! A store that fails or loses its replies.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use longhaul_events::Event;
use longhaul_orchestrator::RunEnd;
use longhaul_queue_core::{JobId, JobState};

use crate::flaky::Flaky;
use crate::support::{Bench, done, end_of, is_state};

fn counting() -> (Bench, Arc<AtomicU32>) {
    let runs = Arc::new(AtomicU32::new(0));
    let counted = runs.clone();
    let bench = Bench::new(move |_job, context| {
        counted.fetch_add(1, Ordering::SeqCst);
        Box::pin(async move {
            context.clock().sleep(Duration::from_millis(100)).await;
            done()
        })
    });
    (bench, runs)
}

#[tokio::test(start_paused = true)]
async fn inv_no_loss_a_store_that_fails_for_a_while_loses_and_repeats_nothing() {
    let (mut bench, runs) = counting();
    bench.config.workers = 2;
    bench.enqueue("", 10).await;
    let flaky = Arc::new(Flaky::new(bench.queue.clone()));
    flaky.fail.store(8, Ordering::SeqCst);
    let summary = end_of(bench.start_on(flaky.clone()).await).await;
    assert_eq!((summary.count("done"), runs.load(Ordering::SeqCst)), (10, 10));
    let said = bench.rest_of_events();
    let said = said.iter().filter(|event| matches!(event, Event::StoreUnavailable { .. })).count();
    assert_eq!(said, 8);
    bench.assert_tidy().await;
}

#[tokio::test(start_paused = true)]
async fn inv_no_loss_a_call_whose_reply_was_lost_is_repeated_under_its_number() {
    let (mut bench, runs) = counting();
    bench.config.workers = 2;
    bench.enqueue("", 10).await;
    let flaky = Arc::new(Flaky::new(bench.queue.clone()));
    flaky.lose_reply.store(5, Ordering::SeqCst);
    let summary = end_of(bench.start_on(flaky.clone()).await).await;
    assert_eq!((summary.count("done"), summary.terminal), (10, 10));
    assert_eq!(runs.load(Ordering::SeqCst), 10, "no job ran twice and none was stranded");
    let numbers = flaky.numbers.lock().unwrap().clone();
    let distinct: BTreeSet<_> = numbers.iter().collect();
    assert_eq!(numbers.len(), distinct.len() + 5);
    assert!(numbers.is_sorted(), "no number comes back after a later one: {numbers:?}");
    bench.assert_tidy().await;
}

#[tokio::test(start_paused = true)]
async fn a_settlement_that_the_store_refuses_keeps_no_other_from_being_recorded() {
    let (mut bench, runs) = counting();
    bench.config.workers = 4;
    bench.enqueue("", 4).await;
    let flaky = Arc::new(Flaky::new(bench.queue.clone()));
    *flaky.refuse.lock().unwrap() = Some(JobId(2));
    let summary = end_of(bench.start_on(flaky.clone()).await).await;
    // The refused one was given back and fetched again.
    assert_eq!((summary.count("done"), summary.count("released")), (4, 1));
    assert_eq!(runs.load(Ordering::SeqCst), 5);
    bench.assert_tidy().await;
}

#[tokio::test(start_paused = true)]
async fn a_store_that_refuses_to_lease_ends_the_run() {
    let (bench, _) = counting();
    bench.enqueue("", 4).await;
    let keying = longhaul_limiter::Keying { registrable_domain: true, ..longhaul_limiter::Keying::default() };
    let other = longhaul_queue_core::MemoryQueue::with_keying(bench.clock.clone(), keying);
    let summary = end_of(bench.start_on(Arc::new(other)).await).await;
    assert!(matches!(&summary.ended, RunEnd::Failed(error) if error.queue_error().is_some()), "{summary:?}");
    assert!(is_state(&bench.record("a0").await, JobState::Queued, 0));
}
