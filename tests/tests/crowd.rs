//! A crowd on one file: four processes work, a fifth imports flat out, a sixth looks at the counts again and again.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "the figures are part of what a proof shows")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use longhaul_origin::{Answer, Behaviour, HostConfig, Shape};
use longhaul_queue_core::{QueueAdmin as _, StateCounts};
use longhaul_tests::{Finished, Program, Stage, size};
use serde_json::{Value, json};
use tokio::time::{MissedTickBehavior, interval};

const PROCESSES: usize = 4;
const HOSTS: usize = 32;
const HEARTBEAT_MS: i64 = 900;
/// A heartbeat later than this would soon cost leases.
const LATE_MS: i64 = 1_000;
/// The write-ahead log never gets longer.
const LOG_MAX: u64 = 64 << 20;
/// Records that may start far in the future alone: after so many files of them the importer repeats what is there.
const FILES: usize = 40;
/// What a person would read if processes got into each other's way.
const TROUBLE: [&str; 7] =
    ["locked", "busy", "kept this one from", "cannot be reached", "was taken away", "WARN", "ERROR"];

/// INV-FENCE, INV-CONSERVE, INV-CAP: each job is recorded once, every count adds up, hosts' caps hold over all
/// processes; nobody is told of a locked database, no heartbeat is late by more than a second whatever the import
/// writes, and the log stays short.
#[tokio::test(flavor = "multi_thread")]
async fn inv_conserve_a_crowd_on_one_file_records_each_job_once_and_delays_no_heartbeat() {
    let jobs = size(2_000, 50_000);
    let answer = Answer::document(Shape::pdf(1_100));
    let behaviour = Behaviour::answering(answer).tolerating_at_once(4);
    let name = |host: usize| format!("host{host}");
    let stage =
        Stage::new((0..HOSTS).map(|host| HostConfig::new(name(host)).behaving(behaviour.clone()))).await;
    // One half is fetched, the other ends at once for want of a candidate: the store's part of a job alone.
    let records: Vec<_> = (0..jobs)
        .map(|job| {
            let id = format!("j{job}");
            if job % 2 == 0 {
                stage.record(&id, &name(job / 2 % HOSTS), &format!("/{job}"))
            } else {
                json!({ "id": id, "doi": format!("10.5555/{job}") })
            }
        })
        .collect();
    stage.import(&records).await;

    let began = now();
    let ended = AtomicBool::new(false);
    let flags =
        ["--drain", "--drain-horizon", "1m", "--max-per-host", "4", "--workers", "8", "--log", "warn"];
    let flags = [&flags[..], &["--lease-ttl", "3s", "--heartbeat", "900ms"]].concat();
    let programs: Vec<_> = (0..PROCESSES).map(|_| stage.start_run(&flags)).collect();
    let (runs, imports, looks, log, beats) = tokio::join!(
        finish(programs, &ended),
        import_flat_out(&stage, &ended),
        look(&stage, &ended),
        sample_log(&stage, &ended),
        sample_beats(&stage, &ended),
    );
    println!("{jobs} jobs in {:?}", began.elapsed());

    // The delayed ones are left, and the runs say so by their exit code.
    let runs: Vec<_> = runs.into_iter().map(|run| run.expect_code(6)).collect();
    let imports: Vec<_> = imports.into_iter().map(|import| import.expect_code(0)).collect();
    for finished in runs.iter().chain(&imports).chain(&looks) {
        let said = format!("{}{}", finished.stdout, finished.stderr);
        let trouble = TROUBLE.iter().find(|trouble| said.contains(**trouble));
        assert_eq!(trouble, None, "{said}");
    }
    check_counts(&looks);
    let delayed = imports.len().min(FILES) * per_file();
    println!("{} files imported meanwhile, {delayed} new records; {} looks", imports.len(), looks.len());

    let queue = stage.queue().await;
    assert_eq!(queue.check(false).await.unwrap().problems, Vec::<String>::new());
    let (half, delayed) = (jobs as u64 / 2, delayed as u64);
    let expected = StateCounts { queued: delayed, done: half, skipped: half, ..StateCounts::default() };
    assert_eq!(stage.counts().await, expected);
    check_manifest(&stage, &records);
    for host in 0..HOSTS {
        let report = stage.origin.host_report(&name(host));
        assert_eq!(report.counts.impolite, 0, "INV-CAP");
        assert!(report.repeated.is_empty(), "{:?}", report.repeated);
        assert_eq!(report.counts.requests, report.distinct_paths, "no path was asked for twice");
    }
    log.check();
    beats.check(began.elapsed());
}

/// The state of the file beside the database, as seen every 50 ms.
#[derive(Debug, Default)]
struct Log {
    samples: u64,
    peak: u64,
    longest_gap: Duration,
}

impl Log {
    fn check(&self) {
        println!(
            "log: at most {:.1} MiB in {} samples, never more than {:?} apart",
            self.peak as f64 / f64::from(1 << 20),
            self.samples,
            self.longest_gap
        );
        assert!(self.samples >= 20 && self.peak > 0);
        assert!(self.peak <= LOG_MAX, "{} bytes", self.peak);
    }
}

async fn sample_log(stage: &Stage, ended: &AtomicBool) -> Log {
    let path = stage.folder().join("state/workqueue.sqlite-wal");
    let mut log = Log::default();
    let mut ticks = interval(Duration::from_millis(50));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last = now();
    while !ended.load(Ordering::Relaxed) {
        ticks.tick().await;
        log.samples += 1;
        log.longest_gap = log.longest_gap.max(last.elapsed());
        last = now();
        log.peak = log.peak.max(std::fs::metadata(&path).map_or(0, |log| log.len()));
    }
    log
}

/// Until when the store took each worker process to be alive, one entry a heartbeat, in milliseconds.
#[derive(Debug, Default)]
struct Beats(BTreeMap<String, Vec<i64>>);

impl Beats {
    /// The time between two beats in the store is the pause between them and whatever kept the second from being
    /// committed.
    fn check(&self, length: Duration) {
        assert_eq!(self.0.len(), PROCESSES, "{:?}", self.0.keys());
        for (worker, beats) in &self.0 {
            let late: Vec<_> = beats.windows(2).map(|pair| pair[1] - pair[0] - HEARTBEAT_MS).collect();
            let latest = late.iter().copied().max().unwrap_or(0);
            println!("worker {worker}: {} beats, the latest {latest} ms late", beats.len());
            assert!(latest <= LATE_MS, "{late:?}");
            let least = i64::try_from(length.as_millis()).unwrap() / (HEARTBEAT_MS + LATE_MS);
            assert!(beats.len() as i64 >= least - 1, "{} beats in {length:?}", beats.len());
        }
    }
}

async fn sample_beats(stage: &Stage, ended: &AtomicBool) -> Beats {
    let queue = stage.queue().await;
    let mut beats = Beats::default();
    let mut ticks = interval(Duration::from_millis(50));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !ended.load(Ordering::Relaxed) {
        ticks.tick().await;
        for row in queue.workers().await.unwrap() {
            let seen = beats.0.entry(row.id.as_str().to_owned()).or_default();
            // The store's time is shown as wall time, which rounds by a millisecond or so; a beat is far more.
            if seen.last().is_none_or(|last| row.expires_at.0 > last + HEARTBEAT_MS / 2) {
                seen.push(row.expires_at.0);
            }
        }
    }
    beats
}

async fn finish(programs: Vec<Program>, ended: &AtomicBool) -> Vec<Finished> {
    let mut finished = Vec::new();
    for program in programs {
        finished.push(program.finish().await);
    }
    ended.store(true, Ordering::Relaxed);
    finished
}

fn per_file() -> usize {
    size(1_000, 10_000)
}

/// Imports one file after the other until the end.
async fn import_flat_out(stage: &Stage, ended: &AtomicBool) -> Vec<Finished> {
    let mut imports = Vec::new();
    while !ended.load(Ordering::Relaxed) {
        let file = imports.len() % FILES;
        let name = format!("later{file}.jsonl");
        if imports.len() < FILES {
            let record = |job: usize| {
                let mut record = stage.record(&format!("l{job}"), &format!("host{}", job % HOSTS), "/later");
                record["available_at"] = "2200-01-01T00:00:00Z".into();
                record
            };
            let first = file * per_file();
            let records: Vec<_> = (first..first + per_file()).map(record).collect();
            stage.write(&name, &records);
        }
        imports.push(stage.run(&["--log", "warn", "queue", "import", &name]).await);
    }
    imports
}

/// Asks for the counts again and again until the end.
async fn look(stage: &Stage, ended: &AtomicBool) -> Vec<Finished> {
    let mut looks = Vec::new();
    while !ended.load(Ordering::Relaxed) {
        let arguments = ["--log", "warn", "queue", "stats", "--format", "json"];
        looks.push(stage.run(&arguments).await.expect_code(0));
    }
    looks
}

/// Whoever looks sees each job in one state, and no job go.
fn check_counts(looks: &[Finished]) {
    let mut before = 0;
    for look in looks {
        let stats: Value = serde_json::from_str(&look.stdout).unwrap();
        let counts = stats["counts"].as_object().unwrap();
        let total = counts["total"].as_u64().unwrap();
        let parts = counts.iter().filter(|(name, _)| *name != "total");
        let sum: u64 = parts.map(|(_, count)| count.as_u64().unwrap()).sum();
        assert_eq!(sum, total, "{stats}");
        assert!(total >= before, "{total} after {before}");
        before = total;
    }
}

/// One line for each job, whoever wrote it.
fn check_manifest(stage: &Stage, records: &[Value]) {
    let mut lines: BTreeMap<String, u32> = BTreeMap::new();
    let mut runs = BTreeSet::new();
    for line in stage.manifest() {
        *lines.entry(line["artifact_id"].as_str().unwrap().to_owned()).or_default() += 1;
        runs.insert(line["run_id"].as_str().unwrap().to_owned());
    }
    let expected: BTreeMap<String, u32> =
        records.iter().map(|record| (record["id"].as_str().unwrap().to_owned(), 1)).collect();
    assert!(lines == expected, "{} lines for {} jobs", lines.values().sum::<u32>(), expected.len());
    assert_eq!(runs.len(), PROCESSES, "every process did some of the work");
    assert_eq!(stage.parts(), Vec::<std::path::PathBuf>::new(), "no part is left");
}

#[allow(clippy::disallowed_methods, reason = "what is measured is real time")]
fn now() -> Instant {
    Instant::now()
}
