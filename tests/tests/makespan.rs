//! How long many hosts take together when each is treated politely.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "the figures are part of what a proof shows")]

use longhaul_origin::{Answer, Behaviour, HostConfig, Shape};
use longhaul_tests::{Stage, Wanted, fair_pool, proving, size};

const HOSTS: usize = 20;
const CAP: u32 = 2;
const WORKERS: usize = 16;
const SECONDS_A_REQUEST: f64 = 0.05;

/// Jobs a host in Zipf proportions (s = 1.1).
fn shares(jobs: usize) -> Vec<usize> {
    let weights: Vec<f64> = (1..=HOSTS).map(|rank| (rank as f64).powf(-1.1)).collect();
    let total: f64 = weights.iter().sum();
    weights.iter().map(|weight| (jobs as f64 * weight / total).round() as usize).collect()
}

/// INV-CAP, INV-FAIR: the biggest host's jobs come first in the input, and yet all hosts are kept busy from the start
/// and none sees more than its cap. The rival is a fair pool in memory on the same hosts, run beside it; both are judged by
/// the origin's own arrivals, and only with the full figures (a release build): a test that measures time on a busy
/// machine proves nothing.
#[tokio::test(flavor = "multi_thread")]
async fn inv_cap_inv_fair_makespan_of_twenty_hosts_in_zipf_proportions() {
    let shares = shares(size(400, 2_000));
    let longest = *shares.iter().max().unwrap() as f64 * SECONDS_A_REQUEST / f64::from(CAP);
    let together = shares.iter().sum::<usize>() as f64 * SECONDS_A_REQUEST / WORKERS as f64;
    let mut ratios = Vec::new();
    for _ in 0..size(1, 5) {
        let stage = stage().await;
        let pool = pool(&stage, &shares).await;
        stage.origin.reset_counts();
        let ours = run(&stage, &shares).await;
        println!(
            "makespan {ours:.3} s, a fair pool in memory {pool:.3} s, ideal {:.3} s: {:.3}",
            longest.max(together),
            ours / pool
        );
        ratios.push(ours / pool);
    }
    ratios.sort_by(f64::total_cmp);
    let median = ratios[ratios.len() / 2];
    println!("makespan over that of a fair pool: median {median:.3} of {ratios:.3?}");
    if proving() {
        assert!(median <= 1.05, "{median}");
    }
}

async fn stage() -> Stage {
    let answer = Answer { latency_ms: 50, ..Answer::document(Shape::pdf(4_096)) };
    let behaviour = Behaviour::answering(answer).tolerating_at_once(CAP);
    let hosts = (0..HOSTS)
        .map(|host| HostConfig::new(format!("host{host}")).seeded(host as u64).behaving(behaviour.clone()));
    Stage::new(hosts).await
}

/// The rival.
async fn pool(stage: &Stage, shares: &[usize]) -> f64 {
    let wanted = shares.iter().enumerate().map(|(host, share)| Wanted {
        address: stage.origin.address(&format!("host{host}")),
        paths: (0..*share).map(|job| format!("/{job}")).collect(),
    });
    fair_pool(wanted.collect(), WORKERS, CAP as usize).await;
    judged(stage)
}

async fn run(stage: &Stage, shares: &[usize]) -> f64 {
    let mut records = Vec::new();
    for (host, share) in shares.iter().enumerate() {
        records.extend(
            (0..*share).map(|job| {
                stage.record(&format!("h{host}-{job}"), &format!("host{host}"), &format!("/{job}"))
            }),
        );
    }
    stage.import(&records).await;
    let workers = WORKERS.to_string();
    let cap = CAP.to_string();
    let _ = stage
        .start_run(&["--drain", "--workers", &workers, "--max-per-host", &cap])
        .finish()
        .await
        .expect_code(0);
    let _ = stage.check_drained(&records).await;
    judged(stage)
}

/// From the first arrival to the last answer, by the origin's counts; and nobody was treated impolitely.
fn judged(stage: &Stage) -> f64 {
    let report = stage.origin.report();
    for (host, report) in &report.hosts {
        assert!(report.counts.peak_in_flight <= CAP, "{host}: {}", report.counts.peak_in_flight);
        assert_eq!(report.counts.impolite, 0, "{host}");
    }
    let first = report.hosts.values().filter_map(|host| host.counts.first_arrival_ms).min().unwrap();
    let last = report.hosts.values().filter_map(|host| host.counts.last_arrival_ms).max().unwrap();
    (last - first) as f64 / 1000.0 + SECONDS_A_REQUEST
}
