//! The calendar is stepped by an hour, back and forth, while the real binary works: no lease is lost, nothing starts
//! early. That the orchestrator itself starts every job at the same instant as without steps is shown in its own tests,
//! on virtual time.
//!
//! Needs Debian's `faketime`, which `cargo xtask test` installs where it may. Without it nothing is shown, which is said,
//! and is a failure where `CI` is set. Only the calendar is false: the monotonic and the suspend-aware clock go on.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "the figures are part of what a proof shows")]
#![allow(clippy::print_stderr, reason = "what was not run is said")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use longhaul_origin::{Answer, Behaviour, Fault, FaultRule, HostConfig, RateLimit, RetryAfter};
use longhaul_queue_core::JobState;
use longhaul_tests::{Finished, Stage, size};
use tokio::time::interval;

const HOUR: i64 = 3600;
/// How long a failed job waits.
const BACKOFF_MS: u64 = 4_000;

/// INV-COOLDOWN, INV-PACE, INV-NO-LOSS: while the calendar of one of two processes jumps by an hour or two, many times a
/// lease, hosts that asked for quiet are not asked too early, whether they named a length or a date; a pace holds; a
/// failed job waits as long as it should; and a job that takes longer than a lease is done once.
#[tokio::test(flavor = "multi_thread")]
async fn inv_cooldown_steps_of_the_calendar_lose_no_lease_and_start_nothing_early() {
    let Some(library) = library() else { return };
    let files = size(12, 60);
    let closing = |form| RateLimit { requests: 4, retry_after: Some(form), ..RateLimit::default() };
    let strict = |name: &str, form| {
        let answer = Answer::after_ms(5);
        HostConfig::new(name)
            .behaving(Behaviour { rate: Some(closing(form)), ..Behaviour::answering(answer) })
    };
    let once =
        Answer::default().with_fault(FaultRule::first(Fault::Status { status: 500, retry_after: None }));
    let stage = Stage::new([
        HostConfig { windows_ms: vec![1_000], ..HostConfig::new("paced") },
        strict("length", RetryAfter::seconds(2)),
        strict("date", RetryAfter::date(2)),
        HostConfig::answering("slow", Answer::after_ms(5_000)),
        HostConfig::answering("fails", once),
    ])
    .await;
    let mut records = Vec::new();
    for (host, count) in [("paced", files * 2), ("length", files), ("date", files), ("slow", 4), ("fails", 2)]
    {
        records.extend((0..count).map(|job| stage.record(&format!("{host}{job}"), host, &format!("/{job}"))));
    }
    stage.import(&records).await;

    let rate = format!("{}=5/s", stage.origin.address("paced"));
    let backoff = format!("{BACKOFF_MS}ms");
    let flags = ["--drain", "--lease-ttl", "3s", "--heartbeat", "700ms", "--jitter", "0s", "--rate", &rate];
    let flags = [&flags[..], &["--retry-backoff", &backoff, "--output-dir"]].concat();
    let calendar = stage.folder().join("calendar");
    step(&calendar, 0);
    let variables = [
        ("LD_PRELOAD", library.to_str().unwrap()),
        ("FAKETIME_TIMESTAMP_FILE", calendar.to_str().unwrap()),
        ("FAKETIME_NO_CACHE", "1"),
        // The old and the new name of the same wish.
        ("DONT_FAKE_MONOTONIC", "1"),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        ("NO_FAKE_STAT", "1"),
    ];
    let stepped = stage.start_run_with(&[&flags[..], &["downloads"]].concat(), &variables);
    let steady = stage.start_run(&[&flags[..], &["steady"]].concat());
    let ended = AtomicBool::new(false);
    let finished = async {
        let finished = tokio::join!(stepped.finish(), steady.finish());
        ended.store(true, Ordering::Relaxed);
        finished
    };
    let ((stepped, steady), steps) = tokio::join!(finished, keep_stepping(&calendar, &ended));
    let hours = hours(&stage);
    println!("{steps} steps; the stepped process wrote into the hours {hours:?}");
    assert!(hours.len() >= 3, "its calendar was not stepped: {hours:?}");
    for Finished { stderr, .. } in [stepped.expect_code(0), steady.expect_code(0)] {
        assert!(!stderr.contains("taken away"), "{stderr}");
    }

    let jobs = stage.jobs().await;
    assert_eq!(jobs.len(), records.len());
    for (id, job) in &jobs {
        let attempts = u32::from(id.starts_with("fails"));
        assert_eq!((job.state, job.attempts, job.losses), (JobState::Done, attempts, 0), "{id}");
    }
    for host in ["length", "date"] {
        let report = stage.origin.host_report(host);
        println!("{host}: {} requests, {} closings", report.counts.requests, report.closings.len());
        assert!(!report.closings.is_empty(), "{host} was never pressed");
        assert_eq!((report.counts.too_early, report.counts.impolite), (0, 0), "{host}");
    }
    let paced = stage.origin.host_report("paced");
    assert!(paced.windows.iter().all(|window| window.peak <= 5), "{:?}", paced.windows);
    let slow = stage.origin.host_report("slow");
    assert_eq!(slow.counts.requests, 4, "a job that outlives its lease is asked for once");
    check_waits(&stage);
}

/// Each failed path was asked for again, and not before its time.
fn check_waits(stage: &Stage) {
    let log = stage.origin.log("fails");
    for path in ["/0", "/1"] {
        let asks: Vec<u64> = log
            .iter()
            .filter(|arrival| arrival.target == path)
            .map(|arrival| arrival.at_us / 1_000)
            .collect();
        println!("{path}: asked {} ms apart", asks[1] - asks[0]);
        assert_eq!(asks.len(), 2);
        assert!(asks[1] - asks[0] >= BACKOFF_MS, "{asks:?}");
    }
}

/// Steps the calendar every 300 ms until the end. Returns how often.
async fn keep_stepping(calendar: &Path, ended: &AtomicBool) -> usize {
    let mut steps = 0;
    let mut ticks = interval(Duration::from_millis(300));
    while !ended.load(Ordering::Relaxed) {
        ticks.tick().await;
        step(calendar, [HOUR, -HOUR, 0, HOUR, 0, -HOUR][steps % 6]);
        steps += 1;
    }
    steps
}

/// Sets the calendar so many seconds beside the right time, from one instant to the next.
fn step(calendar: &Path, seconds: i64) {
    let new = calendar.with_extension("new");
    std::fs::write(&new, format!("{seconds:+}\n")).unwrap();
    std::fs::rename(new, calendar).unwrap();
}

/// The hours of the manifest's times (`2026-01-31T12`).
fn hours(stage: &Stage) -> BTreeSet<String> {
    let lines = stage.manifest();
    lines.iter().map(|line| line["timestamp"].as_str().unwrap()[..13].to_owned()).collect()
}

/// libfaketime, where Debian's `faketime` has it.
fn library() -> Option<PathBuf> {
    let folders = std::fs::read_dir("/usr/lib").into_iter().flatten().flatten().map(|entry| entry.path());
    let found = folders.map(|folder| folder.join("faketime/libfaketimeMT.so.1")).find(|path| path.exists());
    if found.is_none() {
        let told = "faketime is missing: that steps of the calendar change nothing was NOT shown";
        assert!(std::env::var_os("CI").is_none_or(|ci| ci.is_empty()), "{told}");
        eprintln!("{told}");
    }
    found
}
