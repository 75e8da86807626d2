//! What one run may use up.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use longhaul_events::Event;
use longhaul_orchestrator::{Budget, Budgets, RunEnd, RunSummary};
use longhaul_pipeline::{FailureClass, Reason};

use crate::support::{Bench, done, failed};

fn ended_by(summary: &RunSummary) -> Option<Budget> {
    match summary.ended {
        RunEnd::Budget(budget) => Some(budget),
        _ => None,
    }
}

#[tokio::test(start_paused = true)]
async fn exactly_max_jobs_end_although_some_are_retried() {
    let runs = Arc::new(AtomicU32::new(0));
    let counted = runs.clone();
    let mut bench = Bench::new(move |job, context| {
        counted.fetch_add(1, Ordering::SeqCst);
        Box::pin(async move {
            context.clock().sleep(Duration::from_secs(u64::try_from(job.number).unwrap())).await;
            if job.attempt == 1 && job.number % 2 == 0 {
                return failed(FailureClass::Transient, Reason::Timeout);
            }
            done()
        })
    });
    bench.config.budgets = Budgets { max_jobs: Some(7), ..Budgets::default() };
    bench.enqueue("", 30).await;
    let summary = bench.run().await;
    assert_eq!(ended_by(&summary), Some(Budget::Jobs));
    let left = summary.left.unwrap();
    assert_eq!((summary.terminal, left.done, left.queued, left.in_progress), (7, 7, 23, 0));
    assert_eq!(u64::from(runs.load(Ordering::SeqCst)), 7 + summary.count("retry"));
    assert_eq!(summary.count("released"), 0, "nothing was leased in vain");
    bench.assert_tidy().await;
}

#[tokio::test(start_paused = true)]
async fn fewer_jobs_than_max_jobs_are_a_drain() {
    let mut bench = Bench::new(|_job, _context| Box::pin(async { done() }));
    bench.config.budgets = Budgets { max_jobs: Some(7), ..Budgets::default() };
    bench.enqueue("", 6).await;
    let summary = bench.run().await;
    assert!(matches!(summary.ended, RunEnd::Drained));
    assert_eq!(summary.terminal, 6);
}

/// A budget ends a run only if it kept something from being done.
#[tokio::test(start_paused = true)]
async fn a_budget_that_the_last_job_uses_up_is_a_drain() {
    let errs =
        || Bench::new(|_job, _context| Box::pin(async { failed(FailureClass::Permanent, Reason::Gone) }));
    for (budgets, left) in [
        (Budgets { max_jobs: Some(7), ..Budgets::default() }, 0),
        (Budgets { max_errors: Some(7), ..Budgets::default() }, 0),
        (Budgets { max_jobs: Some(6), ..Budgets::default() }, 1),
    ] {
        let mut bench = errs();
        bench.config.budgets = budgets.clone();
        bench.enqueue("", 7).await;
        let summary = bench.run().await;
        assert_eq!(matches!(summary.ended, RunEnd::Drained), left == 0, "{budgets:?}");
        assert_eq!((summary.terminal, summary.left.unwrap().queued), (7 - left, left));
        bench.assert_tidy().await;
    }
    // Whoever does not drain asked for the budget and for nothing else.
    let mut bench = errs();
    bench.config.drain = false;
    bench.config.budgets = Budgets { max_jobs: Some(7), ..Budgets::default() };
    bench.enqueue("", 7).await;
    assert_eq!(ended_by(&bench.run().await), Some(Budget::Jobs));
}

#[tokio::test(start_paused = true)]
async fn received_bytes_stop_leasing_and_what_is_in_flight_finishes() {
    let mut bench = Bench::new(|job, context| {
        Box::pin(async move {
            for _ in 0..job.number {
                context.clock().sleep(Duration::from_secs(1)).await;
                let resolver = "none".to_owned();
                context.observer().on_event(&Event::Received { job: job.number, resolver, bytes: 100 });
            }
            done()
        })
    });
    bench.config.workers = 2;
    bench.config.budgets = Budgets { max_bytes: Some(300), ..Budgets::default() };
    bench.enqueue("", 9).await;
    let summary = bench.run().await;
    assert_eq!(ended_by(&summary), Some(Budget::Bytes));
    // The first three jobs: the budget is met while the third is in flight.
    assert_eq!((summary.count("done"), summary.bytes), (3, 600));
}

#[tokio::test(start_paused = true)]
async fn errors_stop_leasing() {
    let mut bench =
        Bench::new(|_job, _context| Box::pin(async { failed(FailureClass::Permanent, Reason::Gone) }));
    bench.config.workers = 1;
    bench.config.budgets = Budgets { max_errors: Some(3), ..Budgets::default() };
    bench.enqueue("", 9).await;
    let summary = bench.run().await;
    assert_eq!(ended_by(&summary), Some(Budget::Errors));
    assert!((3..=4).contains(&summary.count("error")), "{summary:?}");
}

#[tokio::test(start_paused = true)]
async fn time_that_is_over_ends_the_run_as_a_stop_does() {
    let mut bench = Bench::new(|_job, context| {
        Box::pin(async move {
            context.clock().sleep(Duration::from_mins(7)).await;
            done()
        })
    });
    bench.config.workers = 1;
    bench.config.budgets = Budgets { max_runtime: Some(Duration::from_mins(10)), ..Budgets::default() };
    bench.enqueue("", 9).await;
    let summary = bench.run().await;
    assert_eq!(ended_by(&summary), Some(Budget::Runtime));
    // The grace period, and the second that a job which ignores its cancellation gets.
    let expected = Duration::from_mins(10) + Duration::from_secs(31);
    assert_eq!((summary.count("done"), summary.count("released"), summary.elapsed), (1, 1, expected));
}
