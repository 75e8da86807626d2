//! A budget ends a run at its bound, says so, and leaves the rest as it was.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::time::Duration;

use longhaul_origin::{Answer, HostConfig, Shape};
use longhaul_queue_core::StateCounts;
use longhaul_tests::{Finished, Stage};
use serde_json::Value;

/// Hosts with jobs for each.
async fn stage(answer: Answer, hosts: usize, jobs: usize) -> (Stage, Vec<Value>) {
    let config = |host| HostConfig::answering(format!("host{host}"), answer.clone());
    let stage = Stage::new((0..hosts).map(config)).await;
    let record =
        |job: usize| stage.record(&format!("a{job}"), &format!("host{}", job % hosts), &format!("/{job}"));
    let records: Vec<_> = (0..jobs).map(record).collect();
    stage.import(&records).await;
    (stage, records)
}

/// What the run said of its end, and of what is left.
fn check_end(run: &Finished, why: &str, left: u64) {
    assert!(run.stdout.contains(why), "{}", run.stdout);
    let left = format!("left: {left} queued; go on with `longhaul queue run`");
    assert!(run.stdout.contains(&left), "{}", run.stdout);
}

fn ended(counts: &StateCounts) -> u64 {
    counts.done + counts.skipped + counts.error
}

/// However many workers are at it, exactly so many jobs settle in each run; the next one goes on.
#[tokio::test(flavor = "multi_thread")]
async fn exactly_max_jobs_settle() {
    let (stage, records) = stage(Answer::after_ms(5), 5, 40).await;
    for (round, workers) in ["1", "8", "32"].into_iter().enumerate() {
        let args = ["--drain", "--max-jobs", "11", "--workers", workers];
        let run = stage.start_run(&args).finish().await.expect_code(5);
        let all = 11 * (round as u64 + 1);
        let counts = stage.counts().await;
        assert_eq!((ended(&counts), counts.in_progress), (all, 0), "{workers} workers");
        check_end(&run, "ended because 11 jobs have ended (--max-jobs)", 40 - all);
        let asked: u64 = stage.origin.hosts().map(|host| stage.origin.counts(host).requests).sum();
        assert_eq!(asked, all, "nothing is asked for in vain");
    }
    // With fewer than that left, the end of the queue comes first.
    let args = ["--drain", "--max-jobs", "11"];
    let last = stage.start_run(&args).finish().await.expect_code(0);
    assert!(!last.stdout.contains("--max-jobs"), "{}", last.stdout);
    let _ = stage.check_drained(&records).await;
}

/// Skipped jobs and jobs in error have settled too.
#[tokio::test(flavor = "multi_thread")]
async fn what_fails_counts_for_max_jobs() {
    let (stage, _) = stage(Answer::status(404), 2, 10).await;
    let run = stage.start_run(&["--drain", "--max-jobs", "4"]).finish().await.expect_code(5);
    let counts = stage.counts().await;
    assert_eq!((counts.error, counts.queued), (4, 6));
    check_end(&run, "4 jobs have ended (--max-jobs)", 6);
}

/// Once the bytes are received nothing more starts; what is under way is finished and kept.
#[tokio::test(flavor = "multi_thread")]
async fn max_bytes_ends_when_they_are_received_and_finishes_what_is_under_way() {
    const FILE: u64 = 100_000;
    let (stage, _) = stage(Answer::document(Shape::pdf(FILE)), 4, 60).await;
    let args = ["--drain", "--max-bytes", "1MB", "--workers", "4"];
    let run = stage.start_run(&args).finish().await.expect_code(5);
    let counts = stage.counts().await;
    let received = stage.origin.hosts().map(|host| stage.origin.counts(host).body_bytes_sent).sum::<u64>();
    assert!(received >= 1_000_000, "{received}");
    assert!(received <= 1_000_000 + 4 * FILE, "at most a file a worker beyond the bound: {received}");
    assert_eq!(counts.done * FILE, received, "every byte is in a file that is done");
    assert_eq!((counts.in_progress, counts.error), (0, 0));
    check_end(&run, "976.6 KiB have been received (--max-bytes)", 60 - counts.done);
    assert_eq!(stage.parts().len(), 0);
}

/// After the time the run stops as if it were told to: what does not finish within the grace period goes back, uncharged.
#[tokio::test(flavor = "multi_thread")]
async fn max_runtime_ends_in_time_and_charges_nobody() {
    let slow = Answer { bandwidth_bytes_per_second: Some(2_000), ..Answer::document(Shape::pdf(1 << 20)) };
    let (stage, _) = stage(slow, 2, 4).await;
    let args = ["--drain", "--max-runtime", "1s", "--grace", "0.2s"];
    let run = stage.start_run(&args).finish();
    let run = tokio::time::timeout(Duration::from_mins(1), run).await.expect("it ends").expect_code(5);
    let counts = stage.counts().await;
    assert_eq!((counts.queued, counts.in_progress), (4, 0));
    check_end(&run, "1s have passed (--max-runtime)", 4);
    assert!(stage.jobs().await.values().all(|job| (job.attempts, job.losses) == (0, 0)), "INV-ATTEMPTS");
}

/// After so many errors nothing more starts.
#[tokio::test(flavor = "multi_thread")]
async fn max_errors_ends_a_run_that_goes_wrong() {
    let (stage, _) = stage(Answer::status(404), 3, 60).await;
    let args = ["--drain", "--max-errors", "5", "--workers", "3"];
    let run = stage.start_run(&args).finish().await.expect_code(5);
    let counts = stage.counts().await;
    assert!((5..5 + 3).contains(&counts.error), "at most those that were under way beyond it: {counts:?}");
    assert_eq!(counts.in_progress, 0);
    check_end(&run, "5 jobs have ended in error (--max-errors)", 60 - counts.error);
}

/// A budget from the file is one like any other, and a flag beats it.
#[tokio::test(flavor = "multi_thread")]
async fn a_budget_can_stand_in_the_file() {
    let (stage, _) = stage(Answer::after_ms(1), 2, 10).await;
    std::fs::write(stage.folder().join("longhaul.toml"), "[budgets]\nmax_jobs = 3\n").unwrap();
    let run = stage.start_run(&["--drain"]).finish().await.expect_code(5);
    assert!(run.stderr.starts_with("settings longhaul.toml: 1 value\n"), "{}", run.stderr);
    assert_eq!(ended(&stage.counts().await), 3);
    let _ = stage.start_run(&["--drain", "--max-jobs", "1"]).finish().await.expect_code(5);
    assert_eq!(ended(&stage.counts().await), 4);
}
