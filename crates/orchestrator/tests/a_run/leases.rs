//! Leases that are kept, lost and compared.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use longhaul_events::Event;
use longhaul_limiter::Clock;
use longhaul_pipeline::{FailureClass, HostReport, Reason, RunResult};
use longhaul_queue_core::{JobRecord, JobState, LanePage, QueueAdmin, WorkQueue, WorkQueueExt};

use crate::draining::{lease_of, other_process};
use crate::flaky::Flaky;
use crate::support::{Bench, done, end_of, failed, id, is_state, lane};

#[tokio::test(start_paused = true)]
async fn the_heartbeat_keeps_a_job_that_takes_longer_than_a_lease() {
    let bench = Bench::new(|_job, context| {
        Box::pin(async move {
            context.clock().sleep(Duration::from_mins(90)).await;
            done()
        })
    });
    bench.enqueue("", 1).await;
    let summary = bench.run().await;
    assert_eq!((summary.count("done"), summary.elapsed), (1, Duration::from_mins(90)));
    assert_eq!(bench.record("a0").await.losses, 0);
}

#[tokio::test(start_paused = true)]
async fn inv_fence_a_job_that_an_operator_cancels_is_stopped_here() {
    let mut bench = Bench::new(|_job, context| {
        Box::pin(async move {
            context.cancelled().cancelled().await;
            failed(FailureClass::Transient, Reason::LeaseLost)
        })
    });
    bench.enqueue("", 1).await;
    let handle = bench.start().await;
    bench.event(|event| matches!(event, Event::JobStarted { .. }).then_some(())).await;
    bench.queue.cancel(&[id("a0")]).await.unwrap();
    bench.event(|event| matches!(event, Event::LeaseLost { .. }).then_some(())).await;
    assert_eq!(bench.pipeline.discarded.lock().unwrap().len(), 1);
    let summary = end_of(handle).await;
    // Two beats that differ, not the two hours of the job's time limit.
    assert!(summary.elapsed <= Duration::from_secs(45), "{:?}", summary.elapsed);
    assert_eq!(summary.terminal, 0);
    assert!(is_state(&bench.record("a0").await, JobState::Skipped, 0));
    bench.assert_tidy().await;
}

/// What the host said is true, whoever has the job by now.
#[tokio::test(start_paused = true)]
async fn inv_cooldown_a_throttling_that_comes_too_late_for_its_lease_closes_the_lane() {
    let answers = Arc::new(tokio::sync::Semaphore::new(0));
    let answer = answers.clone();
    let mut bench = Bench::new(move |_job, _context| {
        let answer = answer.clone();
        Box::pin(async move {
            answer.acquire().await.unwrap().forget();
            let mut result: RunResult = failed(FailureClass::Throttled, Reason::Throttled);
            for (host, seconds) in [("a.example", Some(100)), ("b.example", None)] {
                let retry_after = seconds.map(Duration::from_secs);
                let report = HostReport::Throttled { lane: lane(host), retry_after, cause: "429".to_owned() };
                result.hosts.push(report);
            }
            result.hosts.push(HostReport::Served(lane("c.example")));
            result
        })
    });
    bench.enqueue("a.example", 1).await;
    let handle = bench.start().await;
    bench.event(|event| matches!(event, Event::JobStarted { .. }).then_some(())).await;
    bench.queue.cancel(&[id("a.example0")]).await.unwrap();
    let before = bench.record("a.example0").await;
    answers.add_permits(1);
    bench.event(|event| matches!(event, Event::LeaseLost { .. }).then_some(())).await;
    for expected in [("a.example", 100), ("b.example", 60)] {
        let (closed, length) = bench
            .event(|event| match event {
                Event::LaneClosed { lane, retry_after, .. } => Some((lane.clone(), *retry_after)),
                _ => None,
            })
            .await;
        assert_eq!((closed, length), (lane(expected.0), Some(Duration::from_secs(expected.1))));
    }
    let _ = end_of(handle).await;
    let rows = bench.queue.lanes(&LanePage { after: None, limit: 10 }).await.unwrap();
    let closed: Vec<&str> =
        rows.iter().filter(|row| row.closed_until.is_some()).map(|row| row.lane.as_str()).collect();
    assert_eq!(closed, ["a.example", "b.example"]);
    // INV-FENCE: of the job itself nothing has changed but that its end was published.
    let after = bench.record("a.example0").await;
    assert_eq!(JobRecord { published: false, ..after }, before);
}

#[tokio::test(start_paused = true)]
async fn inv_cap_jobs_stop_when_trust_ends_and_start_afresh_when_the_store_is_back() {
    let runs = Arc::new(AtomicU32::new(0));
    let counted = runs.clone();
    let mut bench = Bench::new(move |_job, context| {
        let first = counted.fetch_add(1, Ordering::SeqCst) == 0;
        Box::pin(async move {
            if first {
                context.cancelled().cancelled().await;
                return failed(FailureClass::Transient, Reason::LeaseLost);
            }
            done()
        })
    });
    bench.enqueue("", 1).await;
    let flaky = Arc::new(Flaky::new(bench.queue.clone()));
    flaky.deaf.store(true, Ordering::SeqCst);
    let handle = bench.start_on(flaky.clone()).await;
    bench.event(|event| matches!(event, Event::JobStarted { .. }).then_some(())).await;
    let started = bench.clock.monotonic();
    bench
        .event(|event| match event {
            Event::JobSettled { verdict: "released", .. } => Some(()),
            _ => None,
        })
        .await;
    let stopped = bench.clock.monotonic().checked_sub(started).unwrap();
    // Three quarters of two minutes, and a beat's backoff at most.
    assert!(stopped >= Duration::from_secs(90) && stopped < Duration::from_secs(96), "{stopped:?}");
    assert_eq!(runs.load(Ordering::SeqCst), 1, "nothing is leased without trust");
    flaky.deaf.store(false, Ordering::SeqCst);
    let summary = end_of(handle).await;
    assert_eq!((summary.count("done"), runs.load(Ordering::SeqCst)), (1, 2));
    assert!(is_state(&bench.record("a0").await, JobState::Done, 0));
}

#[tokio::test(start_paused = true)]
async fn inv_fence_what_a_lost_process_fetched_is_discarded_and_fetched_again() {
    let runs = Arc::new(AtomicU32::new(0));
    let counted = runs.clone();
    let mut bench = Bench::new(move |_job, context| {
        let first = counted.fetch_add(1, Ordering::SeqCst) == 0;
        Box::pin(async move {
            if first {
                // It notices nothing, and is done after its lease has ended.
                context.cancelled().cancelled().await;
                context.clock().sleep(Duration::from_millis(500)).await;
            }
            done()
        })
    });
    bench.config.lease_ttl = Duration::from_secs(4);
    bench.config.heartbeat = Duration::from_secs(1);
    bench.enqueue("", 1).await;
    let flaky = Arc::new(Flaky::new(bench.queue.clone()));
    flaky.deaf.store(true, Ordering::SeqCst);
    let handle = bench.start_on(flaky.clone()).await;
    bench.event(|event| matches!(event, Event::JobStarted { .. }).then_some(())).await;
    // While the store cannot be reached from here, it takes the process for dead and gives the job to another.
    flaky.fail.store(u32::MAX, Ordering::SeqCst);
    let other = other_process();
    bench.queue.join(&other, Duration::from_mins(1)).await.unwrap();
    bench.clock.sleep(Duration::from_secs(10)).await;
    let taken = bench.queue.lease(&lease_of(&other, 1)).await.unwrap().jobs.remove(0);
    flaky.fail.store(0, Ordering::SeqCst);
    bench.event(|event| matches!(event, Event::LeaseLost { .. }).then_some(())).await;
    flaky.deaf.store(false, Ordering::SeqCst);
    bench.queue.release(taken.token).await.unwrap();
    let summary = end_of(handle).await;
    assert_eq!((summary.count("done"), summary.terminal), (1, 1));
    assert_eq!(bench.pipeline.discarded.lock().unwrap().len(), 1);
    assert_eq!(bench.record("a0").await.losses, 1);
    bench.assert_tidy().await;
}

#[tokio::test(start_paused = true)]
async fn a_job_that_the_store_holds_for_a_process_that_knows_nothing_of_it_is_released() {
    let mut bench = Bench::new(|_job, _context| Box::pin(async { done() }));
    bench.config.drain = false;
    let handle = bench.start().await;
    bench.event(|event| matches!(event, Event::Waiting { .. }).then_some(())).await;
    // As after a lease whose reply was lost and that was given up.
    let mut process = other_process();
    process.id = bench.queue.workers().await.unwrap().remove(0).id;
    bench.queue.pause(None, None, "until it is leased").await.unwrap();
    bench.enqueue("", 1).await;
    bench.queue.resume(None).await.unwrap();
    let stranded = bench.queue.lease(&lease_of(&process, 1_000_000)).await.unwrap().jobs;
    assert_eq!(stranded.len(), 1, "the queue in memory gives it before the run is woken");
    bench.event(|event| matches!(event, Event::Published { .. }).then_some(())).await;
    assert!(is_state(&bench.record("a0").await, JobState::Done, 0));
    handle.stop();
    assert_eq!(end_of(handle).await.count("done"), 1);
    bench.assert_tidy().await;
}
