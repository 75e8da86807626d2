//! A host that asks for quiet gets it, all its files arrive, and nobody is charged.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "the figures are part of what a proof shows")]

use longhaul_origin::{Answer, Behaviour, HostConfig, RateLimit, RetryAfter};
use longhaul_queue_core::JobState;
use longhaul_tests::{Stage, size};

/// INV-COOLDOWN: a host lets 20 requests a second through and else answers 429 with `Retry-After: 2`. All files
/// arrive; in a closing no more are refused than were under way, none comes in a closed period, no attempt is charged.
#[tokio::test(flavor = "multi_thread")]
async fn inv_cooldown_a_host_of_twenty_a_second_serves_all_files() {
    let files = size(60, 200);
    for form in [RetryAfter::seconds(2), RetryAfter::date(2)] {
        let rate = RateLimit { requests: 20, retry_after: Some(form), ..RateLimit::default() };
        let behaviour = Behaviour { rate: Some(rate), ..Behaviour::answering(Answer::after_ms(5)) };
        let stage = Stage::new([HostConfig::new("strict").behaving(behaviour)]).await;
        let records: Vec<_> =
            (0..files).map(|file| stage.record(&format!("a{file}"), "strict", &format!("/{file}"))).collect();
        stage.import(&records).await;
        let _ = stage.start_run(&["--drain", "--max-per-host", "4"]).finish().await.expect_code(0);
        let jobs = stage.check_drained(&records).await;
        assert!(jobs.values().all(|job| (job.state, job.attempts) == (JobState::Done, 0)), "INV-ATTEMPTS");
        let report = stage.origin.host_report("strict");
        println!(
            "{form:?}: {} requests, {} refused, {} closings, refused in each: {:?}",
            report.counts.requests,
            report.counts.refused,
            report.closings.len(),
            report.closings.iter().map(|closing| 1 + closing.refused_in_closing).collect::<Vec<_>>(),
        );
        assert!(!report.closings.is_empty(), "the host was never pressed");
        assert_eq!((report.counts.too_early, report.counts.impolite), (0, 0));
        // The first refusal begins the closing; with those on the way it is at most the cap.
        assert!(
            report.closings.iter().all(|closing| closing.refused_in_closing < 4),
            "{:?}",
            report.closings
        );
    }
}

/// A cool-down survives a kill: the restarted process asks nothing before its end.
#[tokio::test(flavor = "multi_thread")]
async fn inv_cooldown_a_closed_host_stays_closed_across_a_kill() {
    let rate = RateLimit { requests: 2, retry_after: Some(RetryAfter::seconds(12)), ..RateLimit::default() };
    let behaviour = Behaviour { rate: Some(rate), ..Behaviour::default() };
    let stage = Stage::new([HostConfig::new("strict").behaving(behaviour)]).await;
    let records: Vec<_> =
        (0..4).map(|file| stage.record(&format!("a{file}"), "strict", &format!("/{file}"))).collect();
    stage.import(&records).await;
    let program = stage.start_run(&["--drain", "--max-per-host", "1"]);
    stage.origin.wait_for("strict", |counts| counts.refused >= 1).await;
    // The refusal has been read when the lane's row says so.
    let queue = stage.queue().await;
    while longhaul_queue_core::WorkQueue::stats(&queue).await.unwrap().lanes_cooling == 0 {
        tokio::task::yield_now().await;
    }
    program.kill().await;
    let _ = stage.start_run(&["--drain", "--max-per-host", "1"]).finish().await.expect_code(0);
    let counts = stage.origin.counts("strict");
    assert_eq!((counts.too_early, counts.impolite), (0, 0));
    let _ = stage.check_drained(&records).await;
}
