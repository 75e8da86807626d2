//! A process is stopped for longer than its leases last, while another one goes on with its work, and wakes up again.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "the figures are part of what a proof shows")]

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt as _;

use longhaul_origin::{Answer, Behaviour, HostConfig, Route};
use longhaul_queue_core::JobState;
use longhaul_tests::{Program, Stage, size};
use serde_json::Value;

/// The cap of every host.
const CAP: u32 = 2;
/// On these paths a host's answer takes longer than any freeze; on the others it comes while the process is frozen.
const LONG: &str = "/long";
const FLAGS: [&str; 13] = [
    "--drain",
    "--max-per-host",
    "2",
    "--lease-ttl",
    "2s",
    "--heartbeat",
    "500ms",
    "--retry-backoff",
    "0s",
    "--jitter",
    "0s",
    "--max-losses",
    "100",
];

/// INV-CAP, INV-FENCE: what a frozen process had in flight is all that overlaps; it starts nothing with its old leases
/// when it wakes, each of its late writes is refused, and nothing is recorded twice.
#[tokio::test(flavor = "multi_thread")]
async fn inv_fence_a_process_that_was_frozen_for_longer_than_its_leases_changes_nothing() {
    for round in 0..size(1, 12) {
        freeze_once(round).await;
    }
}

async fn freeze_once(round: u64) {
    let quick = Answer::after_ms(600);
    let long = Answer::after_ms(20_000);
    let behaviour = Behaviour {
        routes: vec![Route { prefix: LONG.to_owned(), answer: long }],
        ..Behaviour::answering(quick)
    };
    let host = |name: &str| HostConfig::new(name).seeded(round).behaving(behaviour.clone());
    let stage = Stage::new([host("quick"), host("long")]).await;
    // The second ask of a long path is answered at once, so that whoever takes the job over ends it.
    let mut records: Vec<_> =
        (0..CAP).map(|job| stage.record(&format!("long{job}"), "long", &format!("{LONG}/{job}"))).collect();
    records.extend((0..40).map(|job| stage.record(&format!("q{job}"), "quick", &format!("/{job}"))));
    records.extend((0..20).map(|job| stage.record(&format!("l{job}"), "long", &format!("/{job}"))));
    stage.import(&records).await;

    let first = stage.start_run(&FLAGS);
    stage.origin.wait_for("long", |counts| counts.in_flight == CAP).await;
    // Some job has ended, and as many as may be are in flight again.
    stage
        .origin
        .wait_for("quick", |counts| counts.completed_bodies > round % 4 && counts.in_flight == CAP)
        .await;
    freeze(&stage, &first).await;
    // It may hold more than it has in flight.
    let held = held(&stage).await;
    let in_flight: BTreeSet<_> = held.iter().filter(|id| asked(&stage, &records, id) > 0).cloned().collect();
    println!("frozen with {held:?}, in flight {in_flight:?}");
    assert_eq!(in_flight.iter().filter(|id| id.starts_with("long")).count(), CAP as usize);
    // What comes now is quick everywhere; the two answers under way keep their latency.
    stage.origin.set_behaviour("long", Behaviour::answering(Answer::after_ms(300)));

    let second = stage.start_run(&FLAGS);
    // The second process takes every job over that the frozen one held, while that one's long requests go on.
    for job in 0..CAP {
        let id = format!("long{job}");
        stage.origin.wait_for("long", |_| asked(&stage, &records, &id) == 2).await;
    }
    let overlap = stage.origin.counts("long");
    assert!(overlap.peak_in_flight > CAP, "nothing overlapped: {overlap:?}");
    assert!(overlap.peak_in_flight <= 2 * CAP, "{overlap:?}");
    println!("peak {} in flight while {CAP} requests of the frozen process went on", overlap.peak_in_flight);

    first.signal("CONT");
    // The woken process lets go of what it had in flight. From then on the cap is exact.
    stage.origin.wait_for("long", |counts| counts.aborted >= u64::from(CAP)).await;
    let counts = stage.origin.counts("long");
    assert!(counts.peak_in_flight <= 2 * CAP, "{counts:?}");
    let (first, second) = tokio::join!(first.finish(), second.finish());
    let (first, second) = (first.expect_code(0), second.expect_code(0));

    // INV-FENCE: each job that it held when it was frozen was taken away, and it says so.
    let lost = first.stderr.matches("was taken away while it ran").count();
    println!("{lost} late writes refused");
    assert!((in_flight.len()..=held.len()).contains(&lost), "{}", first.stderr);
    assert!(!second.stderr.contains("taken away"), "{}", second.stderr);

    let jobs = stage.check_drained(&records).await;
    for (id, job) in &jobs {
        assert_eq!((job.state, job.attempts), (JobState::Done, 0), "{id}");
        assert_eq!(job.losses, u32::from(held.contains(id)), "{id}");
    }
    // No host is asked twice for anything but what was in flight.
    for id in jobs.keys() {
        let most = 1 + u64::from(in_flight.contains(id));
        assert!(asked(&stage, &records, id) <= most, "{id} was asked for more than {most} times");
    }
    let quick = stage.origin.counts("quick");
    assert!(quick.peak_in_flight <= CAP, "the answers had come before anybody else asked: {quick:?}");
}

/// How often the file of a record was asked for.
fn asked(stage: &Stage, records: &[Value], id: &str) -> u64 {
    let url = records.iter().find(|record| record["id"] == id).unwrap()["url"].as_str().unwrap();
    let host = if id.starts_with('q') { "quick" } else { "long" };
    stage.origin.path_counts(host, &url[stage.origin.url(host, "").len()..]).asked
}

/// The ids of the jobs that are held.
async fn held(stage: &Stage) -> BTreeSet<String> {
    let jobs = stage.jobs().await;
    jobs.into_iter().filter(|(_, job)| job.state == JobState::InProgress).map(|(id, _)| id).collect()
}

/// Stops a process, but not in the middle of a commit: it would keep its right to write, and everybody waits for that,
/// which is another story.
async fn freeze(stage: &Stage, program: &Program) {
    loop {
        program.signal("STOP");
        let stat = format!("/proc/{}/stat", program.id());
        while !std::fs::read_to_string(&stat).unwrap().contains(") T ") {
            tokio::task::yield_now().await;
        }
        if !may_write(stage, program) {
            return;
        }
        program.signal("CONT");
        tokio::task::yield_now().await;
    }
}

/// Whether the process has the right to write, or the next turn for it.
fn may_write(stage: &Stage, program: &Program) -> bool {
    let locks = stage.folder().join("state/workqueue.sqlite.locks");
    let inode = |name: &str| format!(":{}", std::fs::metadata(locks.join(name)).unwrap().ino());
    let (turn, writer) = (inode("turn"), inode("writer"));
    let pid = program.id().to_string();
    std::fs::read_to_string("/proc/locks").unwrap().lines().any(|line| {
        // `1: FLOCK  ADVISORY  WRITE 4711 08:01:131 0 EOF`
        let words: Vec<_> = line.split_whitespace().collect();
        words.get(4) == Some(&pid.as_str())
            && words.get(5).is_some_and(|file| file.ends_with(&turn) || file.ends_with(&writer))
    })
}
