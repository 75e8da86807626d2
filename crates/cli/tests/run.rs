//! `queue run` from outside: what it fetches, what it says, how it ends. The hosts are on this machine.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::process::{Output, Stdio};

use longhaul_origin::{Answer, Behaviour, HostConfig, Origin, OriginConfig, RetryAfter, Shape};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

/// The program in a folder of its own, allowed to ask the hosts of this machine as fast as they answer.
fn longhaul(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_longhaul"));
    command.args(args).current_dir(folder).env_clear().kill_on_drop(true);
    command.env("LONGHAUL_ALLOW_NETWORK", "127.0.0.0/8").env("LONGHAUL_RATE", "*=off").stdin(Stdio::null());
    command
}

async fn run(folder: &Path, args: &[&str]) -> Output {
    longhaul(folder, args).output().await.unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// The summary without what differs from run to run.
fn steady(output: &Output, origin: &Origin) -> String {
    let shown = format!("exit {}\n{}", output.status.code().unwrap(), text(&output.stdout));
    let shown = shown.replace(&format!(":{}", origin.port()), ":PORT");
    shown.lines().map(|line| line.split(") in ").next().unwrap().to_owned() + "\n").collect()
}

async fn counts(folder: &Path) -> Value {
    let output = run(folder, &["queue", "stats", "--format", "json"]).await;
    serde_json::from_slice::<Value>(&output.stdout).unwrap()["counts"].take()
}

fn list(folder: &Path, records: impl IntoIterator<Item = Value>) {
    let lines: Vec<String> = records.into_iter().map(|record| record.to_string()).collect();
    std::fs::write(folder.join("list.jsonl"), lines.join("\n")).unwrap();
}

fn pdfs(origin: &Origin, host: &str, many: usize) -> Vec<Value> {
    let record = |number| json!({ "id": format!("{host}-{number}"), "url": origin.url(host, &format!("/{number}.pdf")) });
    (0..many).map(record).collect()
}

async fn origin(hosts: impl IntoIterator<Item = HostConfig>) -> Origin {
    Origin::start(OriginConfig::new(hosts)).await.unwrap()
}

/// Documents that take far longer than any test waits.
fn endless() -> Answer {
    Answer { bandwidth_bytes_per_second: Some(2_000), ..Answer::document(Shape::pdf(1 << 20)) }
}

#[tokio::test]
async fn a_list_is_fetched_and_summed_up() {
    let folder = TempDir::new().unwrap();
    let origin = origin([
        HostConfig::answering("good", Answer::document(Shape::pdf(20_000))),
        HostConfig::answering("gone", Answer::status(404)),
        HostConfig::answering("pages", Answer::fixed("text/html", "<html><body>Not a paper.</body></html>")),
    ])
    .await;
    let mut records = pdfs(&origin, "good", 3);
    records.extend(pdfs(&origin, "gone", 2));
    records.push(json!({ "id": "page", "pdf_urls": [origin.url("pages", "/paper.pdf")] }));
    records.push(json!({ "id": "10.1000/X" }));
    list(folder.path(), records);
    // One at a time, so that the examples in the summary are always the same.
    let args = ["queue", "run", "--drain", "--import", "list.jsonl", "--workers", "1"];
    let output = run(folder.path(), &args).await;
    insta::assert_snapshot!("a_run", steady(&output, &origin));
    let said = text(&output.stderr);
    assert!(said.contains("imported 7 new artifacts"), "{said}");
    assert!(said.contains("queue    state/workqueue.sqlite: 7 to fetch"), "{said}");

    for number in 0..3 {
        let path = folder.path().join(format!("downloads/noyear__untitled__good-{number}.pdf"));
        assert_eq!(std::fs::read(path).unwrap(), origin.document("good", &format!("/{number}.pdf")).whole());
    }
    assert_eq!(
        std::fs::read_to_string(folder.path().join("downloads/manifest.jsonl")).unwrap().lines().count(),
        7
    );

    let again = run(folder.path(), &["queue", "run", "--drain"]).await;
    assert_eq!(again.status.code(), Some(3));
    assert!(text(&again.stderr).contains("nothing to do: all 7 jobs in state/workqueue.sqlite have ended"));
    assert_eq!(origin.counts("good").requests, 3, "nothing is fetched twice");
}

#[tokio::test]
async fn a_summary_can_be_json() {
    let folder = TempDir::new().unwrap();
    let origin = origin([HostConfig::new("good")]).await;
    list(folder.path(), pdfs(&origin, "good", 2));
    let args = ["queue", "run", "--drain", "--import", "list.jsonl", "--format", "json", "--quiet"];
    let output = run(folder.path(), &args).await;
    assert_eq!((output.status.code(), text(&output.stderr).as_str()), (Some(0), ""));
    let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&summary["ended"], &summary["files"]), (&json!("drained"), &json!(2)));
    assert_eq!(summary["manifest"], "downloads/manifest.jsonl");
}

#[tokio::test]
async fn a_budget_ends_the_run_with_5_and_the_rest_stays() {
    let folder = TempDir::new().unwrap();
    let origin = origin([HostConfig::new("good")]).await;
    list(folder.path(), pdfs(&origin, "good", 9));
    let args = ["queue", "run", "--drain", "--import", "list.jsonl", "--max-jobs", "4"];
    let output = run(folder.path(), &args).await;
    assert_eq!(output.status.code(), Some(5));
    assert!(
        text(&output.stdout).contains("ended because 4 jobs have ended (--max-jobs)"),
        "{}",
        text(&output.stdout)
    );
    assert!(
        text(&output.stdout).contains("left: 5 queued; go on with `longhaul queue run`"),
        "{}",
        text(&output.stdout)
    );
    let counts = counts(folder.path()).await;
    assert_eq!((&counts["done"], &counts["queued"]), (&json!(4), &json!(5)));
}

#[tokio::test]
async fn work_beyond_the_horizon_is_left_and_said_with_6() {
    let folder = TempDir::new().unwrap();
    let closed = Behaviour {
        rate: Some(longhaul_origin::RateLimit {
            requests: 1,
            window_ms: 3_600_000,
            status: 429,
            retry_after: Some(RetryAfter::seconds(3_600)),
        }),
        ..Behaviour::default()
    };
    let origin = origin([HostConfig::new("strict").behaving(closed), HostConfig::new("good")]).await;
    let mut records = pdfs(&origin, "strict", 3);
    records.extend(pdfs(&origin, "good", 3));
    list(folder.path(), records);
    let args =
        ["queue", "run", "--drain", "--import", "list.jsonl", "--drain-horizon", "5s", "--max-per-host", "1"];
    let output = run(folder.path(), &args).await;
    let (said, shown) = (text(&output.stderr), text(&output.stdout));
    assert_eq!(output.status.code(), Some(6), "{shown}{said}");
    assert!(said.contains("is left alone for 1h"), "{said}");
    assert!(shown.contains("left: 2 queued; the first can start in"), "{shown}");
    assert!(shown.contains("left alone 1 time (429 Too Many Requests)"), "{shown}");
    assert_eq!(origin.counts("strict").too_early, 0);
}

/// Starts a run that cannot end by itself, and waits until its requests are under way.
async fn stuck_run(folder: &Path, origin: &Origin, grace: &str) -> tokio::process::Child {
    list(folder, pdfs(origin, "slow", 2));
    let args = ["queue", "run", "--drain", "--import", "list.jsonl", "--grace", grace];
    let child = longhaul(folder, &args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    origin.wait_for("slow", |counts| counts.body_bytes_sent > 0 && counts.in_flight == 2).await;
    child
}

async fn signal(child: &tokio::process::Child, name: &str) {
    let id = child.id().unwrap().to_string();
    assert!(Command::new("kill").args([name, &id]).status().await.unwrap().success());
}

#[tokio::test]
async fn the_first_ctrl_c_lets_jobs_finish_and_the_second_stops_at_once() {
    let folder = TempDir::new().unwrap();
    let origin = origin([HostConfig::answering("slow", endless())]).await;
    let mut child = stuck_run(folder.path(), &origin, "1h").await;
    let mut said = BufReader::new(child.stderr.take().unwrap()).lines();
    signal(&child, "-INT").await;
    let finishing = "finishing 2 jobs, up to 1h; press Ctrl-C again to stop at once";
    while said.next_line().await.unwrap().unwrap() != finishing {}
    signal(&child, "-INT").await;
    let at_once = "stopping at once; what was running goes back into the queue";
    while said.next_line().await.unwrap().unwrap() != at_once {}
    assert_eq!(child.wait_with_output().await.unwrap().status.code(), Some(130));
    let counts = counts(folder.path()).await;
    assert_eq!((&counts["queued"], &counts["in_progress"]), (&json!(2), &json!(0)));
}

#[tokio::test]
async fn sigterm_ends_with_143_when_the_grace_is_over_and_a_later_run_goes_on() {
    let folder = TempDir::new().unwrap();
    let origin = origin([HostConfig::answering("slow", endless())]).await;
    let child = stuck_run(folder.path(), &origin, "0.1s").await;
    signal(&child, "-TERM").await;
    let output = child.wait_with_output().await.unwrap();
    assert_eq!(output.status.code(), Some(143));
    assert!(
        text(&output.stdout).contains("left: 2 queued; go on with `longhaul queue run`"),
        "{}",
        text(&output.stdout)
    );
    origin.set_behaviour("slow", Behaviour::answering(Answer::document(Shape::pdf(1 << 20))));
    let output = run(folder.path(), &["queue", "run", "--drain"]).await;
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stdout));
    for number in 0..2 {
        let path = folder.path().join(format!("downloads/noyear__untitled__slow-{number}.pdf"));
        assert_eq!(std::fs::read(path).unwrap(), origin.document("slow", &format!("/{number}.pdf")).whole());
    }
}
