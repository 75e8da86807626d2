//! What becomes of single jobs.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use longhaul_events::Event;
use longhaul_limiter::{LaneLimits, LaneRules, Pace, Paces};
use longhaul_orchestrator::RunEnd;
use longhaul_pipeline::{FailureClass, HostReport, Outcome, Reason, RunResult};
use longhaul_queue_core::JobState;

use crate::flaky::Flaky;
use crate::support::{Bench, admit, done, end_of, failed, is_state, lane, with_file};

fn capped(cap: u32) -> LaneRules {
    let any = LaneLimits { cap: Some(cap), paces: Paces::Shared(Pace::OFF) };
    LaneRules { any, ..LaneRules::unlimited() }
}

#[tokio::test(start_paused = true)]
async fn each_job_runs_once_is_settled_once_and_published_once() {
    let runs = Arc::new(Mutex::new(HashMap::<String, u32>::new()));
    let counted = runs.clone();
    let mut bench = Bench::new(move |job, _context| {
        *counted.lock().unwrap().entry(job.artifact_id.clone()).or_default() += 1;
        Box::pin(async { done() })
    });
    for lane in ["a.example", "b.example", "c.example", "d.example", ""] {
        bench.enqueue(lane, 10).await;
    }
    let summary = bench.run().await;
    assert!(matches!(summary.ended, RunEnd::Drained), "{summary:?}");
    assert_eq!((summary.count("done"), summary.terminal, summary.unpublished), (50, 50, 0));
    assert_eq!(summary.left.unwrap().done, 50);
    let runs = runs.lock().unwrap().clone();
    assert_eq!(runs.len(), 50);
    assert!(runs.values().all(|count| *count == 1), "{runs:?}");
    let events = bench.rest_of_events();
    let settled = events.iter().filter(|event| matches!(event, Event::JobSettled { .. })).count();
    let published = events.iter().filter(|event| matches!(event, Event::Published { .. })).count();
    assert_eq!((settled, published), (50, 50));
    bench.assert_tidy().await;
}

#[tokio::test(start_paused = true)]
async fn inv_cap_no_lane_has_more_at_work_than_its_cap_and_none_is_left_idle() {
    let at_work = Arc::new(AtomicUsize::new(0));
    let most = Arc::new(AtomicUsize::new(0));
    let (now, peak) = (at_work.clone(), most.clone());
    let mut bench = Bench::new(move |_job, context| {
        let (now, peak) = (now.clone(), peak.clone());
        Box::pin(async move {
            if let Err(end) = admit(context, "a.example").await {
                return end;
            }
            peak.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            context.clock().sleep(Duration::from_secs(1)).await;
            now.fetch_sub(1, Ordering::SeqCst);
            done()
        })
    });
    bench.config.rules = Arc::new(capped(2));
    bench.enqueue("a.example", 12).await;
    let summary = bench.run().await;
    assert_eq!(most.load(Ordering::SeqCst), 2);
    // Twelve seconds of work, two at a time, with nothing lost between them.
    assert_eq!((summary.count("done"), summary.elapsed), (12, Duration::from_secs(6)));
}

#[tokio::test(start_paused = true)]
async fn ending_a_job_and_starting_the_next_is_one_call() {
    let mut bench = Bench::new(|_job, context| {
        Box::pin(async move {
            context.clock().sleep(Duration::from_secs(1)).await;
            done()
        })
    });
    bench.config.rules = Arc::new(capped(1));
    bench.enqueue("a.example", 20).await;
    let flaky = Arc::new(Flaky::new(bench.queue.clone()));
    let summary = end_of(bench.start_on(flaky.clone()).await).await;
    assert_eq!(summary.count("done"), 20);
    assert_eq!(flaky.settles.load(Ordering::SeqCst), 20);
    assert!(flaky.leases.load(Ordering::SeqCst) <= 2, "{:?}", flaky.leases);
}

#[tokio::test(start_paused = true)]
async fn a_panic_fails_its_job_and_no_other() {
    let mut bench = Bench::new(|job, _context| {
        Box::pin(async move {
            assert!(job.artifact_id != "a3", "a pipeline of the test panics");
            done()
        })
    });
    bench.config.max_job_attempts = 1;
    bench.enqueue("", 6).await;
    let summary = bench.run().await;
    assert_eq!((summary.count("done"), summary.count("error")), (5, 1));
    assert_eq!(bench.record("a3").await.reason.as_deref(), Some("panic"));
    bench.assert_tidy().await;
}

#[tokio::test(start_paused = true)]
async fn inv_attempts_a_job_that_keeps_failing_is_retried_and_ends_in_error() {
    let mut bench =
        Bench::new(|_job, _context| Box::pin(async { failed(FailureClass::Transient, Reason::ConnError) }));
    bench.enqueue("a.example", 1).await;
    let summary = bench.run().await;
    assert_eq!((summary.count("retry"), summary.count("error")), (2, 1));
    // One minute after the first try, two after the second.
    assert_eq!(summary.elapsed, Duration::from_mins(3));
    assert!(is_state(&bench.record("a.example0").await, JobState::Error, 3));
    let attempts: Vec<u32> = bench
        .rest_of_events()
        .iter()
        .filter_map(|event| match event {
            Event::JobStarted { attempt, .. } => Some(*attempt),
            _ => None,
        })
        .collect();
    assert_eq!(attempts, [1, 2, 3]);
}

#[tokio::test(start_paused = true)]
async fn inv_attempts_a_throttled_lane_closes_others_go_on_and_nobody_is_charged() {
    let throttled = Arc::new(AtomicUsize::new(0));
    let first = throttled.clone();
    let mut bench = Bench::new(move |job, context| {
        let first = first.clone();
        Box::pin(async move {
            if !job.artifact_id.starts_with("a.example") || first.fetch_add(1, Ordering::SeqCst) > 0 {
                return done();
            }
            let retry_after = Some(Duration::from_secs(100));
            context.hold_back(&lane("a.example"), Duration::from_secs(100));
            let report =
                HostReport::Throttled { lane: lane("a.example"), retry_after, cause: "429".to_owned() };
            let mut result: RunResult = failed(FailureClass::Throttled, Reason::Throttled);
            result.hosts.push(report);
            result
        })
    });
    bench.config.workers = 1;
    bench.config.rules = Arc::new(capped(1));
    bench.enqueue("a.example", 1).await;
    bench.enqueue("b.example", 1).await;
    let handle = bench.start().await;
    let clock = bench.clock.clone();
    let began = longhaul_limiter::Clock::monotonic(&*clock);
    let closed = bench
        .event(|event| match event {
            Event::LaneClosed { lane, retry_after, .. } => Some((lane.clone(), *retry_after)),
            _ => None,
        })
        .await;
    assert_eq!(closed, (lane("a.example"), Some(Duration::from_secs(100))));
    let other = bench
        .event(|event| match event {
            Event::JobSettled { artifact_id, verdict: "done", .. } => Some(artifact_id.clone()),
            _ => None,
        })
        .await;
    assert_eq!(other, "b.example0");
    assert_eq!(longhaul_limiter::Clock::monotonic(&*clock), began);
    let summary = end_of(handle).await;
    assert_eq!((summary.count("throttled"), summary.count("done")), (1, 2));
    assert!(summary.elapsed >= Duration::from_secs(100), "{:?}", summary.elapsed);
    assert!(is_state(&bench.record("a.example0").await, JobState::Done, 0));
}

#[tokio::test(start_paused = true)]
async fn a_host_that_fails_too_often_is_announced_as_closed() {
    let mut bench = Bench::new(|_job, _context| {
        Box::pin(async {
            let mut result: RunResult = failed(FailureClass::Transient, Reason::HttpStatus);
            result.hosts.push(HostReport::Failed { lane: lane("a.example"), cause: "status 502".to_owned() });
            result
        })
    });
    bench.config.workers = 1;
    bench.config.max_job_attempts = 1;
    bench.enqueue("a.example", 5).await;
    let summary = bench.run().await;
    assert_eq!(summary.count("error"), 5);
    let closed = bench.rest_of_events().into_iter().filter_map(|event| match event {
        Event::LaneClosed { lane, retry_after, cause } => Some((lane, retry_after, cause)),
        _ => None,
    });
    let closed: Vec<_> = closed.collect();
    assert_eq!(closed.len(), 1, "{closed:?}");
    assert_eq!((&closed[0].0, closed[0].2.as_str()), (&lane("a.example"), "status 502"));
    assert!(closed[0].1.is_some_and(|length| length > Duration::from_secs(50)), "{closed:?}");
}

#[tokio::test(start_paused = true)]
async fn a_local_fault_pauses_leasing_and_charges_nobody() {
    let broken = Arc::new(AtomicUsize::new(0));
    let tries = broken.clone();
    let mut bench = Bench::new(move |_job, _context| {
        let tries = tries.clone();
        Box::pin(async move {
            if tries.fetch_add(1, Ordering::SeqCst) < 3 {
                failed(FailureClass::LocalFault, Reason::DiskFull)
            } else {
                done()
            }
        })
    });
    bench.config.workers = 1;
    bench.enqueue("", 4).await;
    let summary = bench.run().await;
    // Three faults: pauses of 5, 10 and 20 seconds.
    assert_eq!(summary.elapsed, Duration::from_secs(35));
    assert_eq!((summary.count("released"), summary.count("done")), (3, 4));
    let pauses: Vec<u64> = bench
        .rest_of_events()
        .iter()
        .filter_map(|event| match event {
            Event::LocalFault { retry_in, .. } => Some(retry_in.as_secs()),
            _ => None,
        })
        .collect();
    assert_eq!(pauses, [5, 10, 20]);
    assert!(is_state(&bench.record("a0").await, JobState::Done, 0));
}

#[tokio::test(start_paused = true)]
async fn a_job_that_moves_goes_on_in_the_other_lane_uncharged() {
    let mut bench = Bench::new(|_job, context| {
        Box::pin(async move {
            // One at a time there: whoever comes second moves and waits without a slot.
            if let Err(end) = admit(context, "files.example").await {
                return end;
            }
            context.clock().sleep(Duration::from_secs(1)).await;
            done()
        })
    });
    bench.config.rules = Arc::new(capped(1));
    for host in ["a.example", "b.example", "c.example"] {
        bench.enqueue(host, 1).await;
    }
    let summary = bench.run().await;
    assert_eq!((summary.count("done"), summary.count("deferred")), (3, 2));
    assert_eq!(summary.elapsed, Duration::from_secs(3));
    assert!(is_state(&bench.record("c.example0").await, JobState::Done, 0));
}

#[tokio::test(start_paused = true)]
async fn two_jobs_that_want_one_path_get_two() {
    let bench = Bench::new(|_job, _context| Box::pin(async { with_file("same.pdf") }));
    bench.enqueue("", 2).await;
    let summary = bench.run().await;
    assert_eq!((summary.count("done"), summary.terminal), (2, 2));
    let mut paths = vec![bench.record("a0").await.path.unwrap(), bench.record("a1").await.path.unwrap()];
    paths.sort();
    assert_eq!(paths.last().map(String::as_str), Some("same.pdf"));
    assert_ne!(paths[0], paths[1]);
    let mut published: Vec<String> = bench.pipeline.published.lock().unwrap().iter().map(file_of).collect();
    published.sort();
    assert_eq!(published, paths);
}

fn file_of(ended: &longhaul_pipeline::Ended) -> String {
    ended.fetched.as_ref().unwrap().file.as_ref().unwrap().path.clone()
}

#[tokio::test(start_paused = true)]
async fn a_skipped_job_ends_with_its_reason() {
    let bench = Bench::new(|_job, _context| {
        Box::pin(async {
            Outcome::Skipped { reason: Reason::Robots, detail: "disallowed".to_owned() }.into()
        })
    });
    bench.enqueue("", 1).await;
    let summary = bench.run().await;
    assert_eq!(summary.settled.get(&("skipped", "robots".to_owned())), Some(&1));
    assert_eq!(bench.pipeline.published.lock().unwrap()[0].detail, "disallowed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn on_several_threads_and_real_time_nothing_is_lost_or_done_twice() {
    let runs = Arc::new(Mutex::new(HashMap::<String, u32>::new()));
    let counted = runs.clone();
    let at_work = Arc::new(AtomicUsize::new(0));
    let most = Arc::new(AtomicUsize::new(0));
    let (now, peak) = (at_work.clone(), most.clone());
    let mut bench = Bench::new(move |job, context| {
        let (now, peak) = (now.clone(), peak.clone());
        *counted.lock().unwrap().entry(job.artifact_id.clone()).or_default() += 1;
        Box::pin(async move {
            if let Err(end) = admit(context, "a.example").await {
                return end;
            }
            peak.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            tokio::task::yield_now().await;
            now.fetch_sub(1, Ordering::SeqCst);
            done()
        })
    });
    bench.config.workers = 32;
    bench.config.rules = Arc::new(capped(7));
    bench.enqueue("a.example", 2_000).await;
    let summary = bench.run().await;
    assert_eq!((summary.count("done"), summary.terminal), (2_000, 2_000));
    assert!(runs.lock().unwrap().values().all(|count| *count == 1));
    assert!(most.load(Ordering::SeqCst) <= 7);
    bench.assert_tidy().await;
}
