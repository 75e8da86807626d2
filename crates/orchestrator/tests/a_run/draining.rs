//! When nothing is left to do.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use longhaul_events::Event;
use longhaul_limiter::{Clock, LaneRules};
use longhaul_orchestrator::RunEnd;
use longhaul_queue_core::{
    Critical, LeaseRequest, NewJob, QueueAdmin, RequestNumber, StoreId, WorkQueue, WorkQueueExt, WorkerId,
    WorkerInfo,
};

use crate::flaky::Flaky;
use crate::support::{Bench, done, end_of, id, lane};

fn quick() -> Bench {
    Bench::new(|_job, _context| Box::pin(async { done() }))
}

fn delayed(name: &str, delay: Duration) -> NewJob {
    NewJob { delay, ..NewJob::new(id(name), "{}") }
}

/// One job, for a process that is not the run's.
pub(crate) fn lease_of(worker: &WorkerInfo, number: i64) -> LeaseRequest {
    LeaseRequest {
        worker: worker.id.clone(),
        number: RequestNumber(number),
        max: 1,
        ahead: 0,
        alone: false,
        max_losses: 5,
        rules: Arc::new(LaneRules::unlimited()),
        lead: Duration::ZERO,
        critical: Critical::default(),
        started: Vec::new(),
    }
}

pub(crate) fn other_process() -> WorkerInfo {
    WorkerInfo {
        id: WorkerId::from_text("other"),
        host: "elsewhere".into(),
        pid: 1,
        version: "0".into(),
        store: Some(StoreId("store-1".into())),
        limits: None,
    }
}

#[tokio::test(start_paused = true)]
async fn a_drain_waits_as_far_as_its_horizon_and_says_so() {
    let mut bench = quick();
    bench.enqueue_one(delayed("soon", Duration::from_mins(30))).await;
    bench.enqueue_one(delayed("late", Duration::from_hours(2))).await;
    let summary = bench.run().await;
    assert!(matches!(summary.ended, RunEnd::Drained));
    assert_eq!((summary.count("done"), summary.left.unwrap().queued), (1, 1));
    assert_eq!(summary.elapsed, Duration::from_mins(30));
    assert_eq!(summary.next_open, Some(Duration::from_mins(90)));
    let waits = bench.rest_of_events().into_iter().filter_map(|event| match event {
        Event::Waiting { until } => Some(until),
        _ => None,
    });
    assert_eq!(waits.collect::<Vec<_>>(), [Some(Duration::from_mins(30))]);
}

#[tokio::test(start_paused = true)]
async fn an_empty_queue_is_drained_at_once() {
    let summary = quick().run().await;
    assert!(matches!(summary.ended, RunEnd::Drained));
    assert_eq!(summary.elapsed, Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_drain_waits_for_what_others_hold() {
    let mut bench = quick();
    bench.enqueue("", 1).await;
    let other = other_process();
    bench.queue.join(&other, Duration::from_hours(1)).await.unwrap();
    let held = bench.queue.lease(&lease_of(&other, 1)).await.unwrap().jobs.remove(0);
    let handle = bench.start().await;
    bench.event(|event| matches!(event, Event::Waiting { .. }).then_some(())).await;
    bench.queue.release(held.token).await.unwrap();
    let summary = end_of(handle).await;
    assert_eq!((summary.count("done"), summary.left.unwrap().done), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_drain_takes_over_what_a_dead_process_held() {
    let bench = quick();
    bench.enqueue("", 1).await;
    let other = other_process();
    bench.queue.join(&other, Duration::from_mins(2)).await.unwrap();
    assert_eq!(bench.queue.lease(&lease_of(&other, 1)).await.unwrap().jobs.len(), 1);
    let summary = bench.run().await;
    assert_eq!((summary.count("done"), summary.elapsed), (1, Duration::from_mins(2)));
    assert_eq!(bench.record("a0").await.losses, 1);
}

#[tokio::test(start_paused = true)]
async fn paused_work_is_not_waited_for() {
    let bench = quick();
    bench.enqueue("a.example", 1).await;
    bench.enqueue("b.example", 1).await;
    bench.queue.pause(Some(&lane("a.example")), None, "maintenance").await.unwrap();
    let summary = bench.run().await;
    assert_eq!((summary.count("done"), summary.left.unwrap().queued), (1, 1));
    // Nor is it if the pause ends within the horizon; what is delayed elsewhere is.
    let minutes = Duration::from_mins;
    bench.enqueue_one(delayed("soon", minutes(5))).await;
    bench.queue.pause(Some(&lane("a.example")), Some(minutes(10)), "maintenance").await.unwrap();
    let summary = bench.run().await;
    assert!(matches!(summary.ended, RunEnd::Drained));
    assert_eq!((summary.count("done"), summary.elapsed), (1, minutes(5)));
    assert_eq!((summary.left.unwrap().queued, summary.next_open), (1, Some(minutes(5))));
    bench.queue.resume(Some(&lane("a.example"))).await.unwrap();
    bench.queue.pause(None, Some(Duration::from_mins(10)), "maintenance").await.unwrap();
    let summary = bench.run().await;
    assert_eq!((summary.count("done"), summary.elapsed), (0, Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn a_run_that_does_not_drain_waits_for_work_without_asking_for_it() {
    let mut bench = quick();
    bench.config.drain = false;
    let flaky = Arc::new(Flaky::new(bench.queue.clone()));
    let handle = bench.start_on(flaky.clone()).await;
    bench.event(|event| matches!(event, Event::Waiting { until: None }).then_some(())).await;
    bench.clock.sleep(Duration::from_hours(24)).await;
    assert_eq!(flaky.leases.load(Ordering::SeqCst), 1);
    bench.enqueue("", 1).await;
    bench.event(|event| matches!(event, Event::Published { .. }).then_some(())).await;
    handle.stop();
    assert_eq!(end_of(handle).await.count("done"), 1);
}
