//! The report of a run says what the manifest, the queue and the hosts say.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::path::Path;

use longhaul_origin::{Answer, Behaviour, Fault, FaultRule, HostConfig, RateLimit, RetryAfter, Shape};
use longhaul_queue_core::JobState;
use longhaul_tests::{Stage, size};
use serde_json::Value;

const HOSTS: [&str; 4] = ["good", "strict", "failing", "flaky"];

/// A good host; one that lets 20 requests a second through and then asks for a second of quiet; one that has nothing; one
/// some of whose answers are errors at first. Every tenth record names no address.
async fn stage(jobs: usize) -> Stage {
    let rate = RateLimit { requests: 20, retry_after: Some(RetryAfter::seconds(1)), ..RateLimit::default() };
    // So seldom that the host is not left alone for it.
    let sometimes = FaultRule::first(Fault::Status { status: 500, retry_after: None }).on_one_path_in(6);
    let strict = Behaviour { rate: Some(rate), ..Behaviour::answering(Answer::after_ms(20)) };
    let stage = Stage::new([
        HostConfig::answering("good", Answer { latency_ms: 10, ..Answer::document(Shape::pdf(30_000)) }),
        HostConfig::new("strict").behaving(strict),
        HostConfig::answering("failing", Answer::status(404)),
        HostConfig::answering("flaky", Answer::after_ms(5).with_fault(sometimes)),
    ])
    .await;
    let record = |job: usize| {
        let id = format!("j{job}");
        match job % 10 {
            0..5 => stage.record(&id, "good", &format!("/{job}.pdf")),
            5 => stage.record(&id, "strict", &format!("/{job}.pdf")),
            6 | 7 => stage.record(&id, "failing", &format!("/{job}.pdf")),
            8 => stage.record(&id, "flaky", &format!("/{job}.pdf")),
            _ => serde_json::json!({ "id": id, "title": "nobody knows where" }),
        }
    };
    let records: Vec<Value> = (0..jobs).map(record).collect();
    stage.import(&records).await;
    stage
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// The report that lies in the stage's folder under this name.
fn report(stage: &Stage, name: &str) -> Value {
    json(&stage.folder().join(name))
}

/// How many lines the manifest has for each outcome and reason, with the bytes of their files.
fn by_reason(manifest: &[Value]) -> BTreeMap<(String, String), (u64, u64)> {
    let mut groups: BTreeMap<_, (u64, u64)> = BTreeMap::new();
    for line in manifest {
        let text = |key: &str| line[key].as_str().unwrap().to_owned();
        let group = groups.entry((text("outcome"), text("reason"))).or_default();
        group.0 += 1;
        group.1 += line["bytes"].as_u64().unwrap_or_default();
    }
    groups
}

/// Everything that a report and a manifest both say.
fn check_against_manifest(report: &Value, manifest: &[Value]) {
    let rows = report["jobs"]["by_reason"].as_array().unwrap();
    let reported: BTreeMap<_, _> = rows
        .iter()
        .map(|row| {
            let text = |key: &str| row[key].as_str().unwrap().to_owned();
            let number = |key: &str| row[key].as_u64().unwrap();
            ((text("outcome"), text("reason")), (number("count"), number("file_bytes")))
        })
        .collect();
    let written = by_reason(manifest);
    assert_eq!(reported, written);
    let count = |outcome: &str| manifest.iter().filter(|line| line["outcome"] == outcome).count() as u64;
    for outcome in ["done", "skipped", "error"] {
        assert_eq!(report["jobs"][outcome], count(outcome), "{outcome}");
    }
    let bytes: u64 = written.values().map(|(_, bytes)| bytes).sum();
    assert_eq!(report["jobs"]["file_bytes"], bytes);
    assert_eq!(
        (&report["jobs"]["published"], &report["jobs"]["unpublished"]),
        (&manifest.len().into(), &0.into())
    );
    assert!(manifest.iter().all(|line| line["run_id"] == report["run_id"]), "they name the same run");
    let buckets = report["progress"]["buckets"].as_array().unwrap();
    for outcome in ["done", "skipped", "error"] {
        let sum: u64 = buckets.iter().map(|bucket| bucket[outcome].as_u64().unwrap()).sum();
        assert_eq!(sum, count(outcome), "{outcome} over time");
    }
}

/// What hosts counted is what the report says of them, as far as a client can know it.
fn check_against_origin(stage: &Stage, report: &Value, cap: u64) {
    let listed = report["hosts"]["listed"].as_array().unwrap();
    assert_eq!((report["hosts"]["seen"].as_u64(), listed.len()), (Some(HOSTS.len() as u64), HOSTS.len()));
    assert!(report["hosts"]["others"].is_null());
    for name in HOSTS {
        let url = stage.origin.url(name, "");
        let row = listed.iter().find(|row| url.ends_with(row["host"].as_str().unwrap())).expect(name);
        let number = |key: &str| row[key].as_u64().unwrap();
        let counted = stage.origin.host_report(name);
        let status = |code: u16| counted.statuses.get(&code).copied().unwrap_or_default();
        assert_eq!(number("requests"), counted.counts.requests, "{name}");
        assert_eq!((number("answered_429"), number("answered_503")), (status(429), status(503)), "{name}");
        // The client holds a request for a little longer than the host: from before the connect until what came has
        // been checked.
        let most = number("peak_in_flight");
        assert!(
            (u64::from(counted.counts.peak_in_flight)..=cap).contains(&most),
            "{name}: {most} {counted:?}"
        );
        assert_eq!(number("cap"), cap, "{name}");
        // What starts within a second arrives within it, but for what is on its way at either end.
        let (starts, arrivals) = (number("peak_in_any_second"), counted.counts.peak_arrivals_per_second);
        assert!(starts.abs_diff(arrivals) <= cap, "{name}: {starts} started, {arrivals} arrived");
        assert!(name != "good" || number("closings") == 0, "{name}");
    }
    let strict = listed.iter().find(|row| row["answered_429"].as_u64() > Some(0)).expect("a throttled one");
    assert!(strict["closed_seconds"].as_f64().unwrap() >= 1.0, "{strict}");
    assert!(strict["closed_because"].as_str().unwrap().contains("429"), "{strict}");
    assert_eq!(report["requests"]["started"], stage.origin.report().requests());
    assert_eq!(report["requests"]["started"], report["requests"]["ended"], "nothing was cut off");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_report_equals_the_manifest_the_queue_the_attempts_and_the_hosts_counts() {
    let jobs = size(300, 2_000);
    let stage = stage(jobs).await;
    let flags = [
        "--drain",
        "--max-per-host",
        "3",
        "--retry-backoff",
        "0.2s",
        "--jitter",
        "0s",
        "--report",
        "run.html",
        "--attempts",
        "attempts.jsonl",
    ];
    let ended = stage.start_run(&flags).finish().await.expect_code(3);
    assert!(ended.stderr.contains("report   run.html and run.json"), "{}", ended.stderr);
    let report = report(&stage, "run.json");
    let manifest = stage.manifest();
    assert_eq!(manifest.len(), jobs);
    check_against_manifest(&report, &manifest);
    check_against_origin(&stage, &report, 3);

    let counts = stage.counts().await;
    for (state, count) in
        [("queued", 0), ("done", counts.done), ("skipped", counts.skipped), ("error", counts.error)]
    {
        assert_eq!(report["left"][state], count, "{state}");
        assert!(state == "queued" || report["jobs"][state] == count, "{state}");
    }
    assert_eq!(report["ended"], "drained");

    let attempts = std::fs::read_to_string(stage.folder().join("attempts.jsonl")).unwrap();
    let attempts: Vec<Value> = attempts.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(report["requests"]["ended"], attempts.len());
    assert!(attempts.iter().all(|line| line["run_id"] == report["run_id"]));
    for status in [200, 404, 429, 500] {
        let lines = attempts.iter().filter(|line| line["http_status"] == status).count();
        let reported = report["requests"]["by_status"][status.to_string()].as_u64().unwrap_or_default();
        assert_eq!(reported, lines as u64, "{status}");
    }

    let page = std::fs::metadata(stage.folder().join("run.html")).unwrap().len();
    let data = std::fs::metadata(stage.folder().join("run.json")).unwrap().len();
    assert!(page < 1 << 20 && data < 1 << 20, "{page} and {data} bytes");
}

/// A run that a budget, a signal or trouble ends has a report too, and a later one of its own.
#[tokio::test(flavor = "multi_thread")]
async fn every_end_of_a_run_leaves_a_report() {
    let slow = Behaviour::answering(Answer::after_ms(100));
    let stage = Stage::new([HostConfig::new("host").behaving(slow)]).await;
    let records: Vec<_> =
        (0..200).map(|job| stage.record(&format!("j{job}"), "host", &format!("/{job}"))).collect();
    stage.import(&records).await;

    let _ = stage.start_run(&["--max-jobs", "5", "--report", "budget.json"]).finish().await.expect_code(5);
    let budget = report(&stage, "budget.json");
    check_against_manifest(&budget, &stage.manifest());
    assert_eq!((&budget["ended"], &budget["jobs"]["done"]), (&"budget".into(), &5.into()));
    assert!(budget["ended_because"].as_str().unwrap().contains("--max-jobs"), "{budget}");
    assert_eq!(budget["left"]["queued"], 195);

    let asked = stage.origin.counts("host").requests;
    let stopped = stage.start_run(&["--report", "stopped.html"]);
    stage.origin.wait_for("host", |counts| counts.requests > asked + 4).await;
    stopped.signal("TERM");
    let _ = stopped.finish().await.expect_code(143);
    let told = report(&stage, "stopped.json");
    assert_eq!(told["ended"], "stopped");
    let of_this_run: Vec<Value> =
        stage.manifest().into_iter().filter(|line| line["run_id"] == told["run_id"]).collect();
    check_against_manifest(&told, &of_this_run);
    assert!(std::fs::read_to_string(stage.folder().join("stopped.html")).unwrap().ends_with("</html>\n"));

    let asked = stage.origin.counts("host").requests;
    let failing = stage.start_run(&["--drain", "--report", "failed.json"]);
    stage.origin.wait_for("host", |counts| counts.requests > asked + 4).await;
    std::fs::remove_file(stage.folder().join("state/workqueue.sqlite")).unwrap();
    let _ = failing.finish().await.expect_code(1);
    let failed = report(&stage, "failed.json");
    assert_eq!(failed["ended"], "failed");
    assert!(failed["ended_because"].as_str().unwrap().contains("removed, moved or replaced"), "{failed}");
    assert!(failed["left"].is_null(), "the queue could not say");
}

/// A drain that has nothing to do says so in its report, too; and what cannot be written is known before the run.
#[tokio::test(flavor = "multi_thread")]
async fn a_report_of_nothing_is_a_report_and_one_that_cannot_be_written_ends_the_run_before_it_begins() {
    let stage = Stage::new([HostConfig::new("host")]).await;
    let records = [stage.record("a", "host", "/a")];
    stage.import(&records).await;
    std::fs::write(stage.folder().join("papers.json"), "[]").unwrap();
    for (name, said) in
        [("none/run.html", "the report none/run.html cannot be written"), ("papers.html", "is no report")]
    {
        let refused = stage.start_run(&["--drain", "--report", name]).finish().await.expect_code(1);
        assert!(refused.stderr.contains(said), "{}", refused.stderr);
    }
    let refused = stage.start_run(&["--drain", "--report", "run.pdf"]).finish().await.expect_code(2);
    assert!(refused.stderr.contains("ends in .html"), "{}", refused.stderr);
    assert_eq!(stage.origin.counts("host").requests, 0, "nothing began");
    let _ = stage.start_run(&["--drain"]).finish().await.expect_code(0);
    let _ = stage.start_run(&["--drain", "--report", "again.json"]).finish().await.expect_code(0);
    let again = report(&stage, "again.json");
    assert_eq!((&again["jobs"]["done"], &again["left"]["done"]), (&0.into(), &1.into()));
}

/// What a run writes down it writes as CSV if it is asked to, and several runs share a file.
#[tokio::test(flavor = "multi_thread")]
async fn attempts_as_csv_go_on_where_an_earlier_run_was_torn_off() {
    let stage = stage(100).await;
    let flags = ["--drain", "--retry-backoff", "0s", "--jitter", "0s", "--attempts", "attempts.csv"];
    let budget = [&flags[..], &["--max-jobs", "20"]].concat();
    let _ = stage.start_run(&budget).finish().await.expect_code(5);
    let path = stage.folder().join("attempts.csv");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, &text[..text.len() - 10]).unwrap();
    let ended = stage.start_run(&flags).finish().await.expect_code(3);
    assert!(ended.stderr.contains("the last line of attempts.csv was torn"), "{}", ended.stderr);
    let text = std::fs::read_to_string(&path).unwrap();
    let head = text.lines().next().unwrap();
    assert!(head.starts_with("timestamp,run_id,job_id,artifact_id,resolver,"), "{head}");
    let columns = head.split(',').count();
    assert_eq!(text.lines().filter(|line| *line == head).count(), 1);
    // Nothing here needs quotes.
    assert!(text.lines().all(|line| line.split(',').count() == columns), "{text}");
    assert_eq!(
        text.lines().count() as u64 - 1,
        stage.origin.report().requests() - 1,
        "one line was torn off"
    );
}

/// Whoever writes a run down may fail; no job notices.
#[tokio::test(flavor = "multi_thread")]
async fn attempts_that_cannot_be_written_any_more_change_no_jobs_fate() {
    let stage = Stage::new([HostConfig::answering("host", Answer::after_ms(100))]).await;
    let records: Vec<Value> =
        (0..8).map(|job| stage.record(&format!("j{job}"), "host", &format!("/{job}"))).collect();
    stage.import(&records).await;
    let folder = stage.folder().join("notes");
    std::fs::create_dir(&folder).unwrap();
    let flags = ["--drain", "--max-per-host", "1", "--attempts", "notes/attempts.jsonl"];
    let program = stage.start_run(&flags);
    stage.origin.wait_for("host", |counts| counts.requests > 0).await;
    std::fs::remove_dir_all(&folder).unwrap();
    let ended = program.finish().await.expect_code(0);
    let jobs = stage.check_drained(&records).await;
    assert!(jobs.values().all(|job| job.state == JobState::Done && job.attempts == 0));
    let said = "of notes/attempts.jsonl could not be written: No such file or directory";
    assert!(ended.stderr.contains(said), "{}", ended.stderr);
}

/// Nothing that a run writes down is written over anything else of it.
#[tokio::test(flavor = "multi_thread")]
async fn two_names_for_one_file_are_refused_before_anything_begins() {
    let stage = Stage::new([HostConfig::new("host")]).await;
    let list = stage.write("list.jsonl", &[stage.record("a", "host", "/a")]);
    let list = stage.folder().join(list);
    let before = std::fs::read_to_string(&list).unwrap();
    for (flags, said) in [
        (&["--report", "downloads/run.html"][..], "would lie among the files that are fetched"),
        (&["--attempts", "downloads/manifest.jsonl"], "the manifest and --attempts are the same file"),
        (&["--manifest", "m.jsonl", "--attempts", "./m.jsonl"], "are the same file"),
        (&["--attempts", "list.jsonl"], "--attempts and the list to import are the same file"),
        (&["--manifest", "list.jsonl"], "the manifest and the list to import are the same file"),
        (&["--attempts", "state/workqueue.sqlite"], "--attempts and the queue are the same file"),
        (&["--attempts", "run.json", "--report", "run.html"], "--attempts and --report are the same file"),
    ] {
        let all = [&["--drain", "--import", "list.jsonl"], flags].concat();
        let refused = stage.start_run(&all).finish().await.expect_code(2);
        assert!(refused.stderr.contains(said), "{}", refused.stderr);
    }
    assert_eq!(std::fs::read_to_string(&list).unwrap(), before);
    assert!(!stage.folder().join("state").exists() && !stage.output().exists());
    assert_eq!(stage.origin.report().requests(), 0);
}
