//! A host that ties up whoever asks it delays no other.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "the figures are part of what a proof shows")]

use std::time::Duration;

use longhaul_origin::{Answer, Behaviour, Fault, FaultRule, HostConfig, RateLimit, RetryAfter};
use longhaul_tests::{Stage, proving, size};

const WORKERS: usize = 8;
const CAP: usize = 4;
const GOOD: [&str; 4] = ["good0", "good1", "good2", "good3"];
const BAD: &str = "bad";

/// The time from the first arrival anywhere to the last at the good hosts, with so many workers and so many jobs of the
/// bad host before all others.
async fn makespan(bad: Behaviour, bad_jobs: usize, workers: usize) -> Duration {
    let good = Behaviour::answering(Answer::after_ms(50));
    let hosts = GOOD.map(|name| HostConfig::new(name).behaving(good.clone()));
    let stage = Stage::new(hosts.into_iter().chain([HostConfig::new(BAD).behaving(bad)])).await;
    let each = size(20, 250);
    let first = (0..bad_jobs).map(|job| stage.record(&format!("b{job}"), BAD, &format!("/{job}")));
    let others =
        (0..each * GOOD.len()).map(|job| stage.record(&format!("g{job}"), GOOD[job % 4], &format!("/{job}")));
    let records: Vec<_> = first.chain(others).collect();
    stage.import(&records).await;
    let (workers, cap) = (workers.to_string(), CAP.to_string());
    let program = stage.start_run(&["--workers", &workers, "--max-per-host", &cap]);
    for host in GOOD {
        stage.origin.wait_for(host, |counts| counts.completed_bodies >= each as u64).await;
    }
    program.kill().await;
    if bad_jobs > 0 {
        assert!(stage.origin.counts(BAD).completed_bodies < bad_jobs as u64, "it was no hindrance");
    }
    let arrivals: Vec<_> = GOOD.iter().flat_map(|host| stage.origin.arrivals(host)).collect();
    arrivals.iter().max().unwrap().saturating_sub(*arrivals.iter().min().unwrap())
}

/// INV-FAIR, INV-NO-HOLD-AND-WAIT: a host that is closed, slow or silent, with ten thousand jobs at the head, costs the
/// others no more than as many workers as its cap lets it have. Times are judged only with the full figures.
#[tokio::test(flavor = "multi_thread")]
async fn inv_fair_a_host_that_ties_up_its_slots_delays_no_other() {
    let jobs = size(400, 10_000);
    let closes = RateLimit {
        requests: 1,
        window_ms: 3_600_000,
        retry_after: Some(RetryAfter::seconds(3_600)),
        ..RateLimit::default()
    };
    let silent = Answer::default().with_fault(FaultRule::always(Fault::NeverAnswer));
    let kinds = [
        ("closed", Behaviour { rate: Some(closes), ..Behaviour::default() }),
        ("slow", Behaviour::answering(Answer::after_ms(10_000))),
        ("silent", Behaviour::answering(silent)),
    ];
    let alone = makespan(Behaviour::default(), 0, WORKERS - CAP).await;
    for (kind, behaviour) in kinds {
        let beside = makespan(behaviour, jobs, WORKERS).await;
        let ratio = beside.as_secs_f64() / alone.as_secs_f64();
        println!(
            "{kind}: {beside:.2?} beside it, {alone:.2?} alone with {} workers: {ratio:.3}",
            WORKERS - CAP
        );
        if proving() {
            assert!(ratio <= 1.05, "{kind}: {ratio}");
        }
    }
}
