//! `queue plan` says beforehand how long a run takes.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "the figures are part of what a proof shows")]

use std::time::Duration;

use longhaul_origin::{Answer, Behaviour, HostConfig, Shape};
use longhaul_tests::{Stage, proving, size};
use serde_json::Value;

/// A host's answer takes this long, which is what the plan is told.
fn request_time() -> Duration {
    Duration::from_millis(size(100, 400))
}

/// Plans a run, runs it, and compares. The times agree with the full figures only (a release build): on a busy machine a
/// measured time proves nothing. What must agree everywhere is what no machine can hurry.
async fn check(topology: &str, jobs: &[usize], flags: &[&str]) {
    let answer =
        Answer { latency_ms: request_time().as_millis() as u64, ..Answer::document(Shape::pdf(4_096)) };
    let hosts = (0..jobs.len()).map(|host| {
        HostConfig::new(format!("host{host}"))
            .seeded(host as u64)
            .behaving(Behaviour::answering(answer.clone()))
    });
    let stage = Stage::new(hosts).await;
    let mut records = Vec::new();
    for (host, share) in jobs.iter().enumerate() {
        let id = |job| format!("h{host}-{job}");
        records.extend(
            (0..*share).map(|job| stage.record(&id(job), &format!("host{host}"), &format!("/{job}"))),
        );
    }
    let file = stage.write("artifacts.jsonl", &records);
    let time = format!("{}s", request_time().as_secs_f64());
    let first_host = stage.origin.address("host0").to_string();
    let flags: Vec<String> = flags.iter().map(|flag| flag.replace("HOST0", &first_host)).collect();
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let plan = [
        &[
            "queue",
            "plan",
            &file,
            "--format",
            "json",
            "--request-time",
            &time,
            "--no-robots",
            "--rate",
            "*=off",
        ],
        &flags[..],
    ];
    let planned = stage.run(&plan.concat()).await.expect_code(0);
    let planned: Value = serde_json::from_str(&planned.stdout).unwrap();
    assert_eq!(planned["artifacts"], records.len());
    assert!(!stage.folder().join("state").exists(), "a plan touches no queue");
    assert_eq!(stage.origin.counts("host0").requests, 0, "nor any host");

    let _ = stage.run(&["queue", "import", &file]).await.expect_code(0);
    let _ = stage.start_run(&[&["--drain"], &flags[..]].concat()).finish().await.expect_code(0);
    let _ = stage.check_drained(&records).await;
    let arrivals: Vec<Duration> =
        (0..jobs.len()).flat_map(|host| stage.origin.arrivals(&format!("host{host}"))).collect();
    let (first, last) = (arrivals.iter().min().unwrap(), arrivals.iter().max().unwrap());
    let took = last.saturating_sub(*first) + request_time();
    let planned = planned["takes_seconds"].as_f64().unwrap();
    let ratio = took.as_secs_f64() / planned;
    println!("{topology}: planned {planned:.2} s, took {took:.2?}: {ratio:.3}");
    // A lease's answer may be used a moment later than it was given, so the first and the last are that uncertain.
    assert!(took.as_secs_f64() >= planned * 0.95, "{topology}: planned {planned} s, took {took:?}");
    if proving() {
        assert!(ratio <= 1.15, "{topology}: {ratio}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_predicts_many_hosts_with_few_workers() {
    check("many hosts", &[size(4, 20); 15], &["--workers", "8", "--max-per-host", "2"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_predicts_one_big_host_among_small_ones() {
    check("one big host", &[size(40, 200), 3, 3, 3], &["--workers", "8", "--max-per-host", "4"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_predicts_a_host_with_a_pace() {
    let rate = size("HOST0=10/s", "HOST0=5/s+100/min");
    check("a paced host", &[size(20, 80), 10, 10], &["--workers", "8", "--rate", rate]).await;
}
