//! The operator's commands from outside: what they print, what they accept, how they end. Nothing here needs a network.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use longhaul_limiter::{LaneRules, SystemClock};
use longhaul_queue_core::{
    Critical, LaneReport, LeaseRequest, LeasedJob, RequestNumber, Settlement, SqliteOptions, SqliteQueue,
    Verdict, WorkQueue as _, WorkerId, WorkerInfo,
};
use serde_json::{Value, json};
use tempfile::TempDir;

const QUEUE: &str = "state/workqueue.sqlite";

/// The program in a folder of its own, as ann would run it.
fn longhaul(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_longhaul"));
    command.args(args).current_dir(folder).env_clear().env("USER", "ann").env("COLUMNS", "80");
    command.stdin(Stdio::null());
    command
}

fn run(folder: &Path, args: &[&str]) -> Output {
    longhaul(folder, args).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// What it printed as data, if it ended well.
#[track_caller]
fn data(folder: &Path, args: &[&str]) -> String {
    let output = run(folder, args);
    assert_eq!(output.status.code(), Some(0), "{args:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

#[track_caller]
fn json(folder: &Path, args: &[&str]) -> Value {
    let mut args = args.to_vec();
    args.extend(["--format", "json"]);
    serde_json::from_str(&data(folder, &args)).unwrap()
}

fn import(folder: &Path, records: &[Value]) {
    let lines: Vec<String> = records.iter().map(Value::to_string).collect();
    std::fs::write(folder.join("list.jsonl"), lines.join("\n")).unwrap();
    data(folder, &["queue", "import", "list.jsonl"]);
}

/// A record of a host.
fn record(id: &str, host: &str) -> Value {
    json!({ "id": id, "url": format!("https://{host}/{id}.pdf"), "title": format!("About {id}") })
}

async fn store(folder: &Path) -> SqliteQueue {
    let options = SqliteOptions::new(folder.join(QUEUE)).keying(LaneRules::default().keying);
    SqliteQueue::open(options, Arc::new(SystemClock)).await.unwrap()
}

/// Leases as a run with the usual limits would.
async fn lease(queue: &SqliteQueue, max: usize) -> Vec<LeasedJob> {
    let worker = WorkerInfo {
        id: WorkerId::random(),
        host: "box".into(),
        pid: 4711,
        version: "0".into(),
        store: None,
        limits: None,
    };
    queue.join(&worker, Duration::from_mins(2)).await.unwrap();
    let request = LeaseRequest {
        worker: worker.id,
        number: RequestNumber(1),
        max,
        ahead: 0,
        alone: false,
        max_losses: 5,
        rules: Arc::new(LaneRules::default()),
        lead: Duration::ZERO,
        critical: Critical::default(),
        started: Vec::new(),
    };
    queue.lease(&request).await.unwrap().jobs
}

/// Why a job does not run, as the program says.
#[track_caller]
fn cause(folder: &Path, id: &str, flags: &[&str]) -> (String, Value) {
    let told = json(folder, &[&["queue", "explain", id], flags].concat());
    (told["cause"].as_str().unwrap().to_owned(), told)
}

#[test]
fn the_help_of_each_command_has_an_example() {
    let folder = TempDir::new().unwrap();
    let commands = [
        "list",
        "show",
        "explain",
        "retry-failed",
        "requeue",
        "cancel",
        "pause",
        "resume",
        "lanes",
        "workers",
        "prune",
        "check",
        "stats",
    ];
    for command in commands {
        let help = data(folder.path(), &["queue", command, "--help"]);
        let example = format!("Example:\n  longhaul queue {command}");
        assert!(help.contains(&example), "{help}");
        insta::assert_snapshot!(format!("help_{}", command.replace('-', "_")), help);
    }
}

#[test]
fn a_job_is_found_by_whatever_a_user_types() {
    let folder = TempDir::new().unwrap();
    let folder = folder.path();
    data(folder, &["queue", "enqueue", "10.1000/aBc"]);
    data(folder, &["queue", "enqueue", "https://example.org/A.pdf"]);
    data(folder, &["queue", "enqueue", "my-own"]);
    for (typed, job) in [
        ("10.1000/abc", 1),
        ("doi:10.1000/ABC", 1),
        ("https://doi.org/10.1000/Abc", 1),
        (" http://dx.doi.org/10.1000/abc ", 1),
        ("1", 1),
        ("https://EXAMPLE.org/A.pdf", 2),
        ("https://example.org/A.pdf#page=2", 2),
        ("my-own", 3),
    ] {
        assert_eq!(json(folder, &["queue", "show", typed])["job"], job, "{typed}");
    }
    // An artifact that is called like a number is meant by it, and not the job of that number.
    data(folder, &["queue", "enqueue", "2"]);
    assert_eq!(json(folder, &["queue", "show", "2"])["job"], 4);
}

#[test]
fn what_is_not_there_is_said_with_what_to_do_and_ends_with_1() {
    let folder = TempDir::new().unwrap();
    let folder = folder.path();
    data(folder, &["queue", "enqueue", "10.1000/a"]);
    for args in [
        &["queue", "show", "10.1000/X"][..],
        &["queue", "explain", "10.1000/X"],
        &["queue", "requeue", "10.1000/X"],
        &["queue", "cancel", "10.1000/X"],
    ] {
        let output = run(folder, args);
        assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(1), ""), "{args:?}");
        let expected = format!(
            "error: 10.1000/X is not in {QUEUE} (looked for doi:10.1000/x); `longhaul queue list` shows what is, \
             `longhaul queue enqueue` adds it\n"
        );
        assert_eq!(text(&output.stderr), expected);
    }
    assert_eq!(run(folder, &["queue", "show", "17"]).status.code(), Some(1));
    // Of several, those that are there are acted upon.
    let output = run(folder, &["queue", "cancel", "nowhere", "10.1000/a", "1", "--format", "jsonl"]);
    assert_eq!(output.status.code(), Some(1));
    let expected =
        json!({ "job": 1, "id": "doi:10.1000/a", "was": "queued", "changed": true, "refused": null });
    assert_eq!(serde_json::from_slice::<Value>(&output.stdout).unwrap(), expected);
    assert_eq!(json(folder, &["queue", "show", "1"])["state"], "skipped");
    data(folder, &["queue", "requeue", "1"]);
    let shown = json(folder, &["queue", "show", "1"]);
    assert_eq!((&shown["state"], &shown["history"][0]["event"]), (&json!("queued"), &json!("requeue")));
}

#[test]
fn a_listing_is_paged_and_filtered() {
    let folder = TempDir::new().unwrap();
    let folder = folder.path();
    let records: Vec<Value> = (0..60)
        .map(|n| record(&format!("n{n}"), if n % 3 == 0 { "a.example" } else { "b.example" }))
        .collect();
    import(folder, &records);
    data(folder, &["queue", "cancel", "n0", "n1"]);
    let count = |args: &[&str]| {
        let page = json(folder, &[&["queue", "list"], args].concat());
        (page["jobs"].as_array().unwrap().len(), page["next"].clone())
    };
    assert_eq!(count(&[]), (50, json!(50)));
    assert_eq!(count(&["--after", "50"]), (10, Value::Null));
    assert_eq!(count(&["--limit", "60"]), (60, Value::Null));
    assert_eq!(count(&["--lane", "https://A.example/x"]), (20, Value::Null));
    assert_eq!(count(&["--lane", "a.example", "--state", "queued", "--limit", "5"]), (5, json!(16)));
    assert_eq!(count(&["--reason", "cancelled"]), (2, Value::Null));
    assert_eq!(count(&["--state", "done"]), (0, Value::Null));
    let table = run(folder, &["queue", "list", "--limit", "1"]);
    assert!(
        text(&table.stdout).starts_with("JOB  STATE    REASON     TRIES  CHANGED"),
        "{}",
        text(&table.stdout)
    );
    assert_eq!(text(&table.stdout).lines().count(), 2);
    assert_eq!(text(&table.stderr), "there are more; go on with --after 1\n");
    let quiet = run(folder, &["queue", "list", "--limit", "1", "--quiet"]);
    assert_eq!(text(&quiet.stderr), "");
    let nothing = run(folder, &["queue", "list", "--state", "done"]);
    assert_eq!((nothing.status.code(), text(&nothing.stdout).as_str()), (Some(0), ""));
}

#[test]
fn a_listing_of_lines_is_whole_and_can_be_imported() {
    let folder = TempDir::new().unwrap();
    let folder = folder.path();
    let mut records: Vec<Value> = (0..450).map(|n| record(&format!("n{n}"), "a.example")).collect();
    records.push(json!({ "artifact": { "id": "10.1000/X", "priority": 7 }, "context": { "kept": true } }));
    import(folder, &records);
    let lines = data(folder, &["queue", "list", "--format", "jsonl"]);
    assert_eq!(lines.lines().count(), 451);
    std::fs::write(folder.join("again.jsonl"), &lines).unwrap();
    data(folder, &["--queue", "two.sqlite", "queue", "import", "again.jsonl"]);
    let of = |queue: &str| -> Vec<(Value, Value, Value, Value)> {
        let lines = data(folder, &["--queue", queue, "queue", "list", "--format", "jsonl"]);
        let jobs = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        jobs.map(|job| {
            (job["id"].clone(), job["lane"].clone(), job["priority"].clone(), job["artifact"].clone())
        })
        .collect()
    };
    assert_eq!(of("two.sqlite"), of(QUEUE));
    assert_eq!(of("two.sqlite").last().unwrap().2, 7);
    // Into the queue that it came from it brings nothing new.
    let again = json(folder, &["queue", "import", "again.jsonl"]);
    assert_eq!((&again["added"], &again["duplicates"]), (&json!(0), &json!(451)));
}

#[test]
fn a_pause_is_shown_wherever_one_looks() {
    let folder = TempDir::new().unwrap();
    let folder = folder.path();
    import(folder, &[record("a", "a.example"), record("b", "b.example")]);
    let flags = ["--lane", "a.example", "--reason", "they asked", "--for", "2h"];
    let paused = json(folder, &[&["queue", "pause"], &flags[..]].concat());
    assert_eq!((&paused["lane"], &paused["paused"]), (&json!("a.example"), &json!(true)));
    assert!(paused["reason"].as_str().unwrap().starts_with("ann@"), "{paused}");
    assert!(paused["until"].as_str().unwrap().ends_with('Z'), "{paused}");
    let warned = |lane| text(&run(folder, &["queue", "pause", "--lane", lane, "--for", "2h"]).stderr);
    assert!(warned("a.example:81").contains("no job of this queue belongs to a.example:81"));
    assert!(!warned("b.example").contains("warning"));
    assert_eq!(json(folder, &["queue", "resume", "--lane", "b.example"])["was_paused"], true);
    let _ = json(folder, &["queue", "resume", "--lane", "a.example:81"]);
    let (of_a, told) = cause(folder, "a", &[]);
    assert_eq!(of_a, "lane_paused");
    let wait = told["could_start_seconds"].as_f64().unwrap();
    assert!((7_100.0..=7_200.0).contains(&wait), "{wait}");
    assert!(told["because"].as_str().unwrap().contains(": they asked; for "), "{told}");
    assert_eq!(cause(folder, "b", &[]).0, "no_run");
    let lanes = json(folder, &["queue", "lanes"]);
    assert_eq!(
        (&lanes["lanes"][0]["lane"], &lanes["lanes"][0]["paused"]),
        (&json!("a.example"), &json!(true))
    );
    assert_eq!(lanes["lanes"][1]["paused"], false);
    assert_eq!(json(folder, &["queue", "stats"])["lanes_paused"], 1);

    data(folder, &["queue", "pause"]);
    assert_eq!(cause(folder, "b", &[]).0, "queue_paused");
    let stats = json(folder, &["queue", "stats"]);
    assert!(stats["paused"].as_str().unwrap().starts_with("ann@"), "{stats}");
    assert_eq!(stats["paused_seconds"], Value::Null, "without an end");
    assert!(data(folder, &["queue", "stats"]).contains("paused        by ann@"));
    let said = text(&run(folder, &["queue", "resume", "--lane", "a.example"]).stderr);
    assert!(said.contains("warning: the whole queue is paused too, by ann@"), "{said}");
    assert_eq!(json(folder, &["queue", "resume"])["was_paused"], true);
    assert_eq!(json(folder, &["queue", "resume"])["was_paused"], false);
    assert_eq!(cause(folder, "a", &[]).0, "no_run");
}

/// The other causes are unit tests' and the queue's own; here it is the program that tells them.
#[tokio::test]
async fn explain_names_the_true_cause() {
    let folder = TempDir::new().unwrap();
    let folder = folder.path();
    let later =
        json!({ "id": "later", "url": "https://later.example/x", "available_at": "2999-01-01T00:00:00Z" });
    let mut records: Vec<Value> = (0..3).map(|n| record(&format!("full{n}"), "full.example")).collect();
    records.extend([later, record("paced0", "paced.example"), record("paced1", "paced.example")]);
    records.extend([record("cooled", "cooled.example"), record("spent", "spent.example")]);
    import(folder, &records);
    assert_eq!(cause(folder, "later", &[]).0, "delayed");

    let queue = store(folder).await;
    let held = lease(&queue, 20).await;
    let holder = |id: &str| held.iter().find(|job| job.artifact_id.as_str() == id).unwrap();
    assert_eq!(cause(folder, "full0", &[]).0, "running");
    // The usual limits give one start at a time; a run with --rate off would fill the host.
    assert_eq!(cause(folder, "full2", &[]).0, "pace");
    let (full, told) = cause(folder, "full2", &["--rate", "*=off", "--max-per-host", "1"]);
    assert_eq!((full.as_str(), &told["could_start_seconds"]), ("cap_full", &Value::Null));
    assert_eq!(cause(folder, "full2", &["--rate", "*=off"]).0, "ready");
    let (paced, told) = cause(folder, "paced1", &[]);
    assert_eq!(paced, "pace");
    assert!(told["could_start_seconds"].as_f64().unwrap() <= 0.6, "{told}");

    let throttled = Settlement {
        lanes: vec![LaneReport::Throttled {
            lane: holder("cooled").place.lane.clone(),
            retry_after: Some(Duration::from_mins(10)),
            cause: "429 Too Many Requests".into(),
        }],
        ..Settlement::new(
            holder("cooled").token,
            Verdict::Throttled { detail: "429".into(), place: None, checkpoint: None },
        )
    };
    let spent = Verdict::Error {
        reason: "timeout".into(),
        outcome: r#"{"detail":"too slow","out_of_attempts":true}"#.into(),
        detail: "too slow".into(),
    };
    queue.settle(&[throttled, Settlement::new(holder("spent").token, spent)], None).await.unwrap();
    let (cooled, told) = cause(folder, "cooled", &[]);
    assert_eq!(cooled, "cool_down");
    assert_eq!(told["because"], "cooled.example is left alone: 429 Too Many Requests");
    let (out, told) = cause(folder, "spent", &[]);
    assert_eq!(out, "out_of_attempts");
    assert!(told["to_do"].as_str().unwrap().contains("retry-failed --reason timeout"), "{told}");

    // Its lock goes with the handle: as if the process had been killed.
    drop(queue);
    let (died, told) = cause(folder, "full0", &[]);
    assert_eq!(died, "worker_died");
    assert!(told["could_start_seconds"].as_f64().unwrap() <= 5.0, "{told}");
    let workers = json(folder, &["queue", "workers"]);
    assert_eq!((&workers[0]["alive"], &workers[0]["pid"]), (&json!(false), &json!(4711)));
}

#[tokio::test]
async fn failed_jobs_are_counted_by_reason_before_they_are_tried_again() {
    let folder = TempDir::new().unwrap();
    let folder = folder.path();
    import(folder, &["a", "b", "c"].map(|id| record(id, &format!("{id}.example"))));
    let nothing = run(folder, &["queue", "retry-failed"]);
    assert_eq!(text(&nothing.stdout), "0 jobs in error queued again, with fresh attempts\n");
    assert_eq!(text(&nothing.stderr), "no job that could be tried again is in error\n");
    let queue = store(folder).await;
    let ended: Vec<Settlement> = lease(&queue, 9)
        .await
        .iter()
        .map(|job| {
            let reason = if job.artifact_id.as_str() == "a" { "gone" } else { "timeout" }.to_owned();
            Settlement::new(job.token, Verdict::Error { reason, outcome: "{}".into(), detail: String::new() })
        })
        .collect();
    assert_eq!(ended.len(), 3);
    queue.settle(&ended, None).await.unwrap();
    let dry = json(folder, &["queue", "retry-failed", "--dry-run"]);
    assert_eq!(dry, json!({ "jobs": 3, "dry_run": true, "reasons": { "gone": 1, "timeout": 2 } }));
    let one = json(folder, &["queue", "retry-failed", "--dry-run", "--reason", "timeout", "--limit", "1"]);
    assert_eq!(one["jobs"], 1);
    assert_eq!(json(folder, &["queue", "stats"])["counts"]["error"], 3, "nothing was changed");
    let mistyped = run(folder, &["queue", "retry-failed", "--reason", "timeuot"]);
    assert_eq!(text(&mistyped.stderr), "in error, by reason: gone 1, timeout 2\n");
    assert_eq!(json(folder, &["queue", "retry-failed", "--lane", "b.example"])["jobs"], 1);
    assert_eq!(json(folder, &["queue", "retry-failed", "--reason", "timeout"])["jobs"], 1);
    assert_eq!(json(folder, &["queue", "stats"])["counts"]["error"], 1);

    let pruned = json(folder, &["queue", "prune", "--older-than", "0s"]);
    assert_eq!(pruned["total"], 0, "what failed is kept unless it is named");
    let pruned = json(folder, &["queue", "prune", "--older-than", "0s", "--state", "error"]);
    assert_eq!((&pruned["error"], &pruned["total"]), (&json!(1), &json!(1)));
    assert_eq!(json(folder, &["queue", "retry-failed"])["jobs"], 0, "it has nothing left to run");
    assert_eq!(json(folder, &["queue", "show", "a"])["pruned"], true);
}

#[test]
fn a_watch_shows_it_again_until_a_signal() {
    use std::io::{BufRead as _, BufReader};

    let folder = TempDir::new().unwrap();
    let folder = folder.path();
    data(folder, &["queue", "enqueue", "a"]);
    let args = ["queue", "stats", "--watch", "--every", "0.1s", "--format", "jsonl"];
    let mut child = longhaul(folder, &args).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = || serde_json::from_str::<Value>(&lines.next().unwrap().unwrap()).unwrap();
    assert_eq!(next()["counts"]["total"], 1);
    data(folder, &["queue", "enqueue", "b"]);
    while next()["counts"]["total"] == 1 {}
    let id = child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &id]).status().unwrap().success());
    while lines.next().is_some() {}
    assert_eq!(child.wait().unwrap().code(), Some(130));
}

#[test]
fn wrong_usage_ends_with_2_and_says_what_is_right() {
    let folder = TempDir::new().unwrap();
    let folder = folder.path();
    data(folder, &["queue", "enqueue", "a"]);
    let check = |args: &[&str], said: &str| {
        let output = run(folder, args);
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(stderr.contains(said), "{args:?}: {stderr}");
    };
    check(&["queue", "list", "--state", "failed"], "write one of queued, in_progress, done, skipped, error");
    check(&["queue", "pause", "--lane", "a/b"], "is not a host");
    check(&["queue", "pause", "--for", "2"], "has no unit");
    check(&["queue", "prune"], "--older-than");
    check(&["queue", "prune", "--older-than", "30d", "--state", "queued"], "only what has ended is pruned");
    check(&["queue", "requeue"], "<ID>");
}

/// An artifact may be called like another's number.
#[test]
fn a_number_means_a_job_if_it_is_said_so() {
    let folder = TempDir::new().unwrap();
    let folder = folder.path();
    import(folder, &[record("2", "a.example"), record("b", "a.example")]);
    assert_eq!(json(folder, &["queue", "show", "2"])["job"], 1);
    assert_eq!(json(folder, &["queue", "show", "--job", "2"])["id"], "b");
    assert_eq!(json(folder, &["queue", "explain", "2", "--job"])["id"], "b");
    let said = text(&run(folder, &["queue", "show", "2"]).stderr);
    assert!(
        said.contains("this is the artifact that is called 2; job 2 is b: --job means that one"),
        "{said}"
    );
    assert_eq!(json(folder, &["queue", "cancel", "--job", "2"])[0]["id"], "b");
    let missing = run(folder, &["queue", "show", "--job", "7"]);
    assert_eq!(missing.status.code(), Some(1));
    assert!(text(&missing.stderr).contains("has no job 7"), "{}", text(&missing.stderr));
}

#[test]
fn what_shows_nothing_says_truly_why() {
    let folder = TempDir::new().unwrap();
    let folder = folder.path();
    import(folder, &[record("a", "a.example"), record("b", "b.example")]);
    let said = |args: &[&str]| {
        let output = run(folder, &[&["queue"], args].concat());
        assert_eq!((output.status.code(), text(&output.stdout)), (Some(0), String::new()), "{args:?}");
        text(&output.stderr)
    };
    assert_eq!(
        said(&["list", "--after", "2"]),
        "no job of a number above 2 is there in state/workqueue.sqlite\n"
    );
    assert!(
        said(&["list", "--lane", "nope"]).starts_with("no job in state/workqueue.sqlite belongs to nope; ")
    );
    assert_eq!(
        said(&["list", "--lane", "a.example", "--state", "done"]),
        "no job in state/workqueue.sqlite is done and belongs to a.example\n"
    );
    assert_eq!(
        said(&["lanes", "--after", "zzz"]),
        "no host after that one, by name, has anything waiting, in flight or to remember in state/workqueue.sqlite\n"
    );
}

#[test]
fn a_pause_that_replaces_another_says_whose() {
    let folder = TempDir::new().unwrap();
    let folder = folder.path();
    import(folder, &[record("a", "a.example")]);
    for scope in [&[][..], &["--lane", "a.example"]] {
        let pause = |reason: &str| {
            let output = run(folder, &[&["queue", "pause", "--reason", reason], scope].concat());
            text(&output.stderr)
        };
        assert!(!pause("the disk is full").contains("warning"));
        let said = pause("maintenance");
        assert!(
            said.contains("warning: it was paused already, by ann@") && said.contains(": the disk is full;"),
            "{said}"
        );
    }
}

/// Neither cron nor a container has to say who runs it: the machine knows.
#[test]
fn a_pause_without_a_user_in_the_environment_is_by_whom_the_process_runs_as() {
    let folder = TempDir::new().unwrap();
    let folder = folder.path();
    import(folder, &[record("a", "a.example")]);
    let me = Command::new("id").arg("-un").output().unwrap();
    let by = format!("{}@", text(&me.stdout).trim());
    for user in [Some(""), None] {
        let mut pause = longhaul(folder, &["queue", "pause", "--format", "json"]);
        match user {
            Some(user) => pause.env("USER", user),
            None => pause.env_remove("USER"),
        };
        let paused: Value = serde_json::from_slice(&pause.output().unwrap().stdout).unwrap();
        assert!(paused["reason"].as_str().unwrap().starts_with(&by), "{paused}");
    }
}
