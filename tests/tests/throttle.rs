//! A host that asks for quiet gets it, all its files arrive, and nobody is charged.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "the figures are part of what a proof shows")]

use std::time::Duration;

use longhaul_origin::{Answer, Behaviour, Fault, FaultRule, HostConfig, RateLimit, RetryAfter};
use longhaul_queue_core::JobState;
use longhaul_tests::{Stage, proving, size};

const STRICT: &str = "strict";

/// What a run did to the strict host, as the host counted it.
struct Run {
    requests: usize,
    refused: u64,
    /// From the first arrival to the last.
    took: Duration,
}

/// Drains what is queued, cap 4.
async fn drain(stage: &Stage) -> Run {
    let before = (stage.origin.arrivals(STRICT).len(), refused(stage));
    let _ = stage.start_run(&["--drain", "--max-per-host", "4"]).finish().await.expect_code(0);
    let arrivals = &stage.origin.arrivals(STRICT)[before.0..];
    let took = arrivals
        .last()
        .zip(arrivals.first())
        .map_or(Duration::ZERO, |(last, first)| last.saturating_sub(*first));
    Run { requests: arrivals.len(), refused: refused(stage) - before.1, took }
}

/// Everything that the host refused, in whatever way.
fn refused(stage: &Stage) -> u64 {
    let counts = stage.origin.counts(STRICT);
    counts.refused + counts.refused_in_closing + counts.too_early
}

/// INV-COOLDOWN: a host lets 20 requests a second through and else answers 429 with `Retry-After: 2`. All files
/// arrive; in a closing no more are refused than were under way, none comes in a closed period, no attempt is charged.
/// What it bears is learned from that and kept: a second run begins with it.
#[tokio::test(flavor = "multi_thread")]
async fn inv_cooldown_a_host_of_twenty_a_second_serves_all_files() {
    let files = size(60, 200);
    for form in [RetryAfter::seconds(2), RetryAfter::date(2)] {
        let rate = RateLimit { requests: 20, retry_after: Some(form), ..RateLimit::default() };
        let behaviour = Behaviour { rate: Some(rate), ..Behaviour::answering(Answer::after_ms(5)) };
        let stage = Stage::new([HostConfig::new(STRICT).behaving(behaviour)]).await;
        let list = |run: &str| -> Vec<_> {
            let record = |file| stage.record(&format!("{run}{file}"), STRICT, &format!("/{run}{file}"));
            (0..files).map(record).collect()
        };
        let mut records = list("a");
        stage.import(&records).await;
        let first = drain(&stage).await;
        let more = list("b");
        stage.import(&more).await;
        records.extend(more);
        let second = drain(&stage).await;
        let jobs = stage.check_drained(&records).await;
        assert!(jobs.values().all(|job| (job.state, job.attempts) == (JobState::Done, 0)), "INV-ATTEMPTS");
        let report = stage.origin.host_report(STRICT);
        println!(
            "{form:?}: {} requests and {} refused in {:.1?}, then {} and {} in {:.1?}; refused in each closing: {:?}",
            first.requests,
            first.refused,
            first.took,
            second.requests,
            second.refused,
            second.took,
            report.closings.iter().map(|closing| 1 + closing.refused_in_closing).collect::<Vec<_>>(),
        );
        assert!(first.refused > 0, "the host was never pressed");
        assert_eq!((report.counts.too_early, report.counts.impolite), (0, 0));
        // The first refusal begins the closing; with those on the way it is at most the cap.
        assert!(
            report.closings.iter().all(|closing| closing.refused_in_closing < 4),
            "{:?}",
            report.closings
        );
        assert!(first.refused <= 16 && second.refused <= 4, "what it bears is not learned");
        // The first 20 at once, then one every 50 ms. A closing that ends by a date lasts up to a second longer.
        let ideal = Duration::from_millis(50) * u32::try_from(files - 20).unwrap();
        if proving() && form == RetryAfter::seconds(2) {
            assert!(first.took <= ideal.mul_f64(1.6), "{:?} where {ideal:?} is ideal", first.took);
        }
    }
}

/// A cool-down survives a kill: neither the restarted process nor one that is started beside it asks anything before
/// its end.
#[tokio::test(flavor = "multi_thread")]
async fn inv_cooldown_a_closed_host_stays_closed_across_a_kill() {
    let retry_after = Some(RetryAfter::seconds(size(8, 20)));
    let rate = RateLimit { requests: 2, retry_after, ..RateLimit::default() };
    let behaviour = Behaviour { rate: Some(rate), ..Behaviour::default() };
    let stage = Stage::new([HostConfig::new(STRICT).behaving(behaviour)]).await;
    let records: Vec<_> =
        (0..4).map(|file| stage.record(&format!("a{file}"), STRICT, &format!("/{file}"))).collect();
    stage.import(&records).await;
    let flags = ["--drain", "--max-per-host", "1"];
    let program = stage.start_run(&flags);
    stage.origin.wait_for(STRICT, |counts| counts.refused >= 1).await;
    // The refusal has been read when the lane's row says so.
    let queue = stage.queue().await;
    while longhaul_queue_core::WorkQueue::stats(&queue).await.unwrap().lanes_cooling == 0 {
        tokio::task::yield_now().await;
    }
    program.kill().await;
    let (again, beside) = (stage.start_run(&flags), stage.start_run(&flags));
    let (again, beside) = tokio::join!(again.finish(), beside.finish());
    let _ = (again.expect_code(0), beside.expect_code(0));
    let counts = stage.origin.counts(STRICT);
    assert_eq!((counts.too_early, counts.impolite), (0, 0));
    let _ = stage.check_drained(&records).await;
}

/// A URL that throttles for ever delays no other of its host, and is counted each time that others were served meanwhile.
/// After ten times it is charged, and ends (INV-ATTEMPTS). A new file of the host comes in each closed period.
#[tokio::test(flavor = "multi_thread")]
async fn inv_attempts_a_url_that_throttles_for_ever_ends_in_error() {
    // The first time nobody had been served, and the last one is charged.
    let refusals = size(3, 12);
    let status = Fault::Status { status: 429, retry_after: Some(RetryAfter::seconds(2)) };
    let never = Answer::default().with_fault(FaultRule::always(status));
    let behaviour = Behaviour::default().with_route("/never", never);
    let stage = Stage::new([HostConfig::new(STRICT).behaving(behaviour)]).await;
    let other = |round: u64| stage.record(&format!("other{round}"), STRICT, &format!("/{round}"));
    stage.import(&[stage.record("never", STRICT, "/never"), other(0)]).await;
    let program = stage.start_run(&["--max-per-host", "1", "--max-attempts", "1"]);
    for round in 1..=refusals {
        stage.origin.wait_for(STRICT, |counts| counts.faults >= round).await;
        stage.import(&[other(round)]).await;
    }
    stage.origin.wait_for(STRICT, |counts| counts.completed_bodies > refusals).await;
    program.signal("TERM");
    let _ = program.finish().await.expect_code(143);
    let jobs = stage.jobs().await;
    let never = &jobs["never"];
    println!("never: {:?}, {} throttles, {} attempts", never.state, never.throttles, never.attempts);
    if proving() {
        assert_eq!((never.state, never.throttles, never.attempts), (JobState::Error, 10, 1));
    } else {
        assert_eq!(never.attempts, 0);
        assert!(u64::from(never.throttles) + 1 >= refusals, "{}", never.throttles);
    }
    let others = jobs.iter().filter(|(id, _)| *id != "never");
    assert!(others.into_iter().all(|(_, job)| (job.state, job.attempts) == (JobState::Done, 0)));
    assert_eq!(stage.origin.counts(STRICT).too_early, 0);
}
