//! A resolver's jobs do not crowd each other, nor anybody else.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "the figures are part of what a proof shows")]

use std::time::Duration;

use longhaul_origin::{Answer, Behaviour, HostConfig, Shape};
use longhaul_tests::{Stage, proving, size};
use serde_json::Value;

const HOSTS: usize = 5;

fn hosts(latency_ms: u64) -> impl Iterator<Item = HostConfig> {
    let answer = Answer { latency_ms, ..Answer::document(Shape::pdf(4_096)) };
    let behaviour = Behaviour::answering(answer).tolerating_at_once(1);
    (0..HOSTS).map(move |host| {
        HostConfig::new(format!("host{host}")).seeded(host as u64).behaving(behaviour.clone())
    })
}

/// A job whose source is said to be this one.
fn of(stage: &Stage, resolver: &str, job: usize, hosts: std::ops::Range<usize>) -> Value {
    let host = hosts.start + job % hosts.len();
    let mut record = stage.record(&format!("{resolver}-{job}"), &format!("host{host}"), &format!("/{job}"));
    record["resolver_hint"] = resolver.into();
    record
}

/// The most requests of these hosts together that were in flight at once, each counted for as long as it takes at least.
fn peak(stage: &Stage, hosts: std::ops::Range<usize>, latency: Duration) -> usize {
    let mut arrivals: Vec<Duration> =
        hosts.flat_map(|host| stage.origin.arrivals(&format!("host{host}"))).collect();
    arrivals.sort();
    let in_flight =
        |at: &Duration| arrivals.iter().filter(|other| **other <= *at && **other + latency > *at).count();
    arrivals.iter().map(in_flight).max().unwrap_or(0)
}

/// From the first arrival at these hosts to the last answer.
fn makespan(stage: &Stage, hosts: std::ops::Range<usize>, latency: Duration) -> Duration {
    let arrivals: Vec<Duration> =
        hosts.flat_map(|host| stage.origin.arrivals(&format!("host{host}"))).collect();
    arrivals.iter().max().unwrap().saturating_sub(*arrivals.iter().min().unwrap()) + latency
}

/// 20 jobs of the resolver `a`, which may have 2 at once, at hosts that take 1 each: neither is exceeded, and what is
/// allowed is used. The time is judged with the full figures only (a release build): on a busy machine it proves nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_resolvers_cap_is_kept_and_used_up() {
    let latency = Duration::from_millis(size(100, 500));
    let stage = Stage::new(hosts(latency.as_millis() as u64)).await;
    let records: Vec<Value> = (0..20).map(|job| of(&stage, "a", job, 0..HOSTS)).collect();
    stage.import(&records).await;
    let flags = ["--drain", "--workers", "8", "--max-per-host", "1", "--max-per-resolver", "a=2"];
    let _ = stage.start_run(&flags).finish().await.expect_code(0);
    let jobs = stage.check_drained(&records).await;
    assert!(jobs.values().all(|job| job.attempts == 0), "waiting for a turn charges nobody");
    for host in 0..HOSTS {
        let counts = stage.origin.counts(&format!("host{host}"));
        assert_eq!((counts.requests, counts.peak_in_flight, counts.impolite), (4, 1, 0));
    }
    let peak = peak(&stage, 0..HOSTS, latency);
    let (took, ideal) = (makespan(&stage, 0..HOSTS, latency), latency * 10);
    println!("peak {peak}, {took:.2?} of {ideal:.2?} at best");
    assert_eq!(peak, 2);
    if proving() {
        assert!(took <= ideal.mul_f64(1.15), "{took:?}");
    }
}

/// While the jobs of one resolver wait for their turn, those of another have the workers.
#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_a_resolver_is_in_nobodys_way() {
    let latency = Duration::from_millis(size(100, 500));
    let stage = Stage::new(hosts(latency.as_millis() as u64)).await;
    let mut records: Vec<Value> = (0..40).map(|job| of(&stage, "a", job, 0..1)).collect();
    records.extend((0..20).map(|job| of(&stage, "b", job, 1..HOSTS)));
    stage.import(&records).await;
    let flags = ["--drain", "--workers", "6", "--max-per-host", "1", "--max-per-resolver", "a:1,b=4"];
    let _ = stage.start_run(&flags).finish().await.expect_code(0);
    let _ = stage.check_drained(&records).await;
    assert_eq!(peak(&stage, 0..1, latency), 1);
    let (took, ideal) = (makespan(&stage, 1..HOSTS, latency), latency * 5);
    println!("the other resolver: {took:.2?} of {ideal:.2?} at best");
    if proving() {
        assert!(took <= ideal.mul_f64(1.15), "{took:?}");
    }
    let last = stage.origin.arrivals("host0").into_iter().max().unwrap();
    let others = (1..HOSTS).flat_map(|host| stage.origin.arrivals(&format!("host{host}"))).max().unwrap();
    assert!(others < last, "20 jobs in four lanes are done before 40 in one");
}

/// `--max-bandwidth` bounds what all requests of the process receive together.
#[tokio::test(flavor = "multi_thread")]
async fn a_bandwidth_is_kept_by_all_requests_together() {
    let (bytes, rate) = (size(150_000, 1_000_000), size("300KB", "1MB"));
    let answer = Answer::document(Shape::pdf(bytes));
    let hosts = (0..4)
        .map(|host| HostConfig::new(format!("host{host}")).behaving(Behaviour::answering(answer.clone())));
    let stage = Stage::new(hosts).await;
    let records: Vec<Value> =
        (0..4).map(|host| stage.record(&format!("j{host}"), &format!("host{host}"), "/x")).collect();
    stage.import(&records).await;
    let done = stage
        .start_run(&["--drain", "--max-bandwidth", rate, "--format", "json"])
        .finish()
        .await
        .expect_code(0);
    let _ = stage.check_drained(&records).await;
    let summary: Value = serde_json::from_str(&done.stdout).unwrap();
    let took = summary["seconds"].as_f64().expect(&done.stdout);
    // What came, less the burst that the bucket holds, a quarter of a second, at the rate.
    let least = 4.0 * bytes as f64 / size(300_000.0, 1_000_000.0) - 0.25;
    println!("{took:.2} s, {least:.2} s at least");
    assert!(took >= least, "{took} s");
}
