//! `queue run` from outside: what it fetches, what it says, how it ends. The hosts are on this machine.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use longhaul_origin::{Answer, Behaviour, HostConfig, Origin, OriginConfig, RetryAfter, Shape};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStderr, Command};

/// The program in a folder of its own, allowed to ask the hosts of this machine as fast as they answer.
fn longhaul(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_longhaul"));
    command.args(args).current_dir(folder).env_clear().kill_on_drop(true);
    command.env("LONGHAUL_ALLOW_NETWORK", "127.0.0.0/8").env("LONGHAUL_RATE", "*=off").stdin(Stdio::null());
    // Each request is counted; what robots.txt adds is in a test of its own.
    command.env("LONGHAUL_NO_ROBOTS", "true");
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

/// A run that has joined the queue and waits for work, and what it says from then on.
async fn waiting_run(folder: &Path, flags: &[&str], runs: usize) -> (Child, Lines<BufReader<ChildStderr>>) {
    let mut child = longhaul(folder, &[&["queue", "run"], flags].concat())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let said = BufReader::new(child.stderr.take().unwrap()).lines();
    for _ in 0..3_000 {
        let rows = run(folder, &["queue", "workers", "--format", "json"]).await.stdout;
        // Until it has made the queue there is none.
        let rows: Vec<Value> = serde_json::from_slice(&rows).unwrap_or_default();
        if rows.len() == runs {
            return (child, said);
        }
    }
    panic!("the run does not join");
}

/// The lines up to the next one with this in it.
async fn until(said: &mut Lines<BufReader<ChildStderr>>, text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    while !lines.last().is_some_and(|line: &String| line.contains(text)) {
        let next = tokio::time::timeout(Duration::from_mins(1), said.next_line()).await;
        lines.push(next.unwrap().unwrap().unwrap_or_else(|| panic!("{text} is not in {lines:?}")));
        assert!(lines.len() < 20, "{text} is not in {lines:?}");
    }
    lines
}

async fn next_with(said: &mut Lines<BufReader<ChildStderr>>, text: &str) -> String {
    until(said, text).await.pop().unwrap()
}

/// What it says until its end, after a signal.
async fn rest(child: &mut Child, mut said: Lines<BufReader<ChildStderr>>) -> String {
    signal(child, "-INT").await;
    let mut rest = String::new();
    while let Some(line) = said.next_line().await.unwrap() {
        rest.extend([line.as_str(), "\n"]);
    }
    assert_eq!(child.wait().await.unwrap().code(), Some(130), "{rest}");
    rest
}

const OTHERS: &str = "other limits than this run";

/// Each names the other, once: the second when it starts, the first when it sees the second.
#[tokio::test]
async fn runs_with_other_limits_say_so() {
    let folder = TempDir::new().unwrap();
    let folder = folder.path();
    let (mut one, mut said_one) = waiting_run(folder, &["--max-per-host", "1"], 1).await;
    let flags = ["--max-per-host", "4", "--header", "a.example=x-key:sesame", "--log-format", "json"];
    let (mut two, mut said_two) = waiting_run(folder, &flags, 2).await;
    let event: Value = serde_json::from_str(&next_with(&mut said_two, "other limits").await).unwrap();
    let differs = "cap of any host: 1 there, 4 here";
    assert_eq!((&event["level"], &event["fields"]["differs"]), (&json!("WARN"), &json!(differs)));
    assert_eq!(event["fields"]["pid"], one.id().unwrap());
    let by_two = next_with(&mut said_two, OTHERS).await;
    assert!(by_two.starts_with(&format!("warning: process {} on ", one.id().unwrap())), "{by_two}");
    assert!(
        by_two.contains(&format!(" has {OTHERS}: {differs}. The stricter pace holds for both, ")),
        "{by_two}"
    );
    let by_one = next_with(&mut said_one, OTHERS).await;
    assert!(by_one.starts_with(&format!("warning: process {} on ", two.id().unwrap())), "{by_one}");
    assert!(by_one.contains(": cap of any host: 4 there, 1 here. "), "{by_one}");

    let table = text(&run(folder, &["queue", "workers"]).await.stdout);
    assert!(table.contains("LIMITS THAT DIFFER") && table.contains("cap of any host: 1\n"), "{table}");
    let rows = text(&run(folder, &["queue", "workers", "--format", "json"]).await.stdout);
    let first: Value = serde_json::from_str(&rows).unwrap();
    assert!(first[0]["limits"].as_str().unwrap().starts_with("* cap=1 pace=off; api.crossref.org cap=1 "));
    assert!(!rows.contains("sesame") && !rows.contains(folder.to_str().unwrap()), "{rows}");

    // A line where there is news comes after a look: the second of them after a further one.
    let mut more = until(&mut said_one, " ended, ").await;
    run(folder, &["queue", "enqueue", "news"]).await;
    more.extend(until(&mut said_one, " ended, ").await);
    for (child, said) in [(&mut one, said_one), (&mut two, said_two)] {
        more.push(rest(child, said).await);
    }
    assert!(!more.concat().contains(OTHERS), "it is said once: {more:?}");
}

#[tokio::test]
async fn runs_with_the_same_limits_say_nothing_of_them() {
    let folder = TempDir::new().unwrap();
    let flags = ["--max-per-host", "4", "--rate", "a.example=1/s"];
    let (mut one, said_one) = waiting_run(folder.path(), &flags, 1).await;
    let (mut two, mut said_two) = waiting_run(folder.path(), &flags, 2).await;
    // A line where there is news comes after a look; between two of the second's the first looks too.
    let mut all = until(&mut said_two, " ended, ").await;
    let table = text(&run(folder.path(), &["queue", "workers"]).await.stdout);
    assert!(table.contains("STARTED\n"), "{table}");
    run(folder.path(), &["queue", "enqueue", "news"]).await;
    all.extend(until(&mut said_two, " ended, ").await);
    for (child, said) in [(&mut one, said_one), (&mut two, said_two)] {
        all.push(rest(child, said).await);
    }
    assert!(!all.concat().contains(OTHERS), "{all:?}");
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
