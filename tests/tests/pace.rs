//! Paces and caps over several processes, across kills, as the host counts them.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "the figures are part of what a proof shows")]

use std::time::Duration;

use longhaul_origin::{Answer, Behaviour, HostConfig};
use longhaul_queue_core::JobState;
use longhaul_tests::{Stage, proving, size};
use serde_json::Value;

const PACED: &str = "paced";

/// A host that counts its arrivals in windows of this length, and so many files of it, queued.
async fn stage(behaviour: Behaviour, window_ms: u64, files: usize) -> (Stage, Vec<Value>) {
    let host = HostConfig { windows_ms: vec![window_ms], ..HostConfig::new(PACED) };
    let stage = Stage::new([host.behaving(behaviour)]).await;
    let records: Vec<_> =
        (0..files).map(|job| stage.record(&format!("j{job}"), PACED, &format!("/{job}"))).collect();
    stage.import(&records).await;
    (stage, records)
}

fn rate(stage: &Stage, rate: &str) -> String {
    format!("127.0.1.1:{}={rate}", stage.origin.port())
}

/// From the first arrival to the last.
fn took(stage: &Stage) -> Duration {
    let arrivals = stage.origin.arrivals(PACED);
    arrivals.last().zip(arrivals.first()).map_or(Duration::ZERO, |(last, first)| last.saturating_sub(*first))
}

fn peak_in_window(stage: &Stage) -> u64 {
    stage.origin.host_report(PACED).windows.iter().map(|window| window.peak).max().unwrap_or(0)
}

/// INV-CAP, INV-PACE: four processes share a cap of 2 and a pace of 5/s for a minute. One of them is killed in the middle
/// and replaced, which changes neither.
#[tokio::test(flavor = "multi_thread")]
async fn inv_cap_inv_pace_four_processes_share_a_cap_and_a_pace() {
    // At 5/s, stretched by a tenth, a minute of work. One slot alone does not suffice for it.
    let files = size(30, 272);
    let behaviour = Behaviour::answering(Answer::after_ms(250)).tolerating_at_once(2);
    let (stage, records) = stage(behaviour, 1_000, files).await;
    let rate = rate(&stage, "5/s");
    let flags = ["--drain", "--max-per-host", "2", "--rate", &rate];
    let mut programs: Vec<_> = (0..4).map(|_| stage.start_run(&flags)).collect();
    stage.origin.wait_for(PACED, |counts| counts.requests >= files as u64 / 2).await;
    programs.remove(0).kill().await;
    programs.push(stage.start_run(&flags));
    for program in programs {
        let _ = program.finish().await.expect_code(0);
    }
    let jobs = stage.check_drained(&records).await;
    assert!(jobs.values().all(|job| job.state == JobState::Done));
    let (counts, took) = (stage.origin.counts(PACED), took(&stage));
    let kept_up = (counts.requests - 1) as f64 / took.as_secs_f64();
    println!(
        "{} requests in {took:.1?}: {kept_up:.2}/s, peak {} in flight and {} in a second",
        counts.requests,
        counts.peak_in_flight,
        peak_in_window(&stage),
    );
    assert_eq!(counts.impolite, 0);
    assert!(counts.peak_in_flight <= 2);
    assert!(peak_in_window(&stage) <= 5);
    if proving() {
        assert!(took >= Duration::from_secs(55) && kept_up >= 3.5, "{kept_up}");
    }
}

/// INV-PACE: `1/3s` is at most one request in any three seconds, as arrivals, also across a kill and a restart.
#[tokio::test(flavor = "multi_thread")]
async fn inv_pace_one_in_three_seconds_is_one_in_any_three_seconds() {
    let (text, window_ms, files) = size(("1/1s", 1_000, 8), ("1/3s", 3_000, 38));
    let (stage, records) = stage(Behaviour::default(), window_ms, files).await;
    let rate = rate(&stage, text);
    let flags = ["--drain", "--rate", &rate];
    let program = stage.start_run(&flags);
    stage.origin.wait_for(PACED, |counts| counts.requests >= files as u64 / 2).await;
    program.kill().await;
    let _ = stage.start_run(&flags).finish().await.expect_code(0);
    let _ = stage.check_drained(&records).await;
    println!("{} requests in {:.1?}", stage.origin.counts(PACED).requests, took(&stage));
    assert_eq!(peak_in_window(&stage), 1);
    if proving() {
        assert!(took(&stage) >= Duration::from_mins(2));
    }
}

/// INV-PACE: two processes that are configured to different paces together ask no more often than the stricter may, in
/// whatever windows they count; where only the other is left, its own pace holds again.
#[tokio::test(flavor = "multi_thread")]
async fn inv_pace_of_two_processes_the_stricter_holds_while_both_are_there() {
    let (stage, records) = stage(Behaviour::default(), 2_000, 60).await;
    let (fast, slow) = (rate(&stage, "20/s"), rate(&stage, "2/2s"));
    let slow = stage.start_run(&["--rate", &slow]);
    stage.origin.wait_for(PACED, |counts| counts.requests >= 2).await;
    let fast = stage.start_run(&["--drain", "--rate", &fast]);
    stage.origin.wait_for(PACED, |counts| counts.requests >= 8).await;
    assert!(peak_in_window(&stage) <= 2, "{} in two seconds", peak_in_window(&stage));
    slow.signal("TERM");
    let _ = slow.finish().await.expect_code(143);
    let _ = fast.finish().await.expect_code(0);
    let _ = stage.check_drained(&records).await;
    // By the stricter pace the rest would take almost a minute.
    assert!(took(&stage) < Duration::from_secs(30), "{:?}", took(&stage));
}

/// What a host announces with its answers holds for the next process as well, although no pace is configured.
#[tokio::test(flavor = "multi_thread")]
async fn inv_pace_an_announced_limit_is_kept_by_the_next_process() {
    let headers = [("X-Rate-Limit-Limit", "2"), ("X-Rate-Limit-Interval", "1s")];
    let headers = headers.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let (stage, records) =
        stage(Behaviour::answering(Answer { headers, ..Answer::default() }), 1_000, 6).await;
    let first = ["--drain", "--max-per-host", "1", "--max-jobs", "1"];
    let _ = stage.start_run(&first).finish().await.expect_code(5);
    let _ = stage.start_run(&["--drain"]).finish().await.expect_code(0);
    let _ = stage.check_drained(&records).await;
    assert!(peak_in_window(&stage) <= 2);
    assert!(took(&stage) >= Duration::from_millis(2_500), "{:?}", took(&stage));
    let lanes = stage.run(&["queue", "lanes", "--rate", "*=off", "--format", "json"]).await.expect_code(0);
    let lanes: Value = serde_json::from_str(&lanes.stdout).unwrap();
    let lane = &lanes["lanes"][0];
    assert_eq!((lane["controller"].as_str(), lane["pace"].as_str()), (Some("announced"), Some("2/s")));
}
