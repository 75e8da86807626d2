//! Taking the queue of DocsToKG over, with the real program.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::process::{Output, Stdio};

use longhaul_origin::{Answer, HostConfig, Origin, OriginConfig, Shape};
use longhaul_queue_core::conformance::{DocsToKgFileRow, make_docstokg_file};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;

const IMPORT: [&str; 4] = ["queue", "import", "--from-docstokg", "old.sqlite"];

async fn longhaul(folder: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_longhaul"));
    command.args(args).current_dir(folder).env_clear().stdin(Stdio::null());
    command.env("LONGHAUL_ALLOW_NETWORK", "127.0.0.0/8").env("LONGHAUL_NO_ROBOTS", "true");
    command.output().await.unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

async fn shown(folder: &Path, args: &[&str]) -> String {
    let output = longhaul(folder, args).await;
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    format!("exit {}\n--- stdout\n{stdout}--- stderr\n{stderr}", output.status.code().unwrap())
}

async fn json_of(folder: &Path, args: &[&str]) -> Value {
    serde_json::from_slice(&longhaul(folder, args).await.stdout).unwrap()
}

async fn counts(folder: &Path) -> Value {
    json_of(folder, &["queue", "stats", "--format", "json"]).await["counts"].take()
}

/// A row of each state, named after it, whose artifact does not know its key.
fn one_of_each(origin: Option<&Origin>) -> Vec<DocsToKgFileRow> {
    let states = ["queued", "in_progress", "done", "skipped", "error"];
    let row = |state: &&str| {
        let path = format!("/{state}.pdf");
        let url = origin.map_or(format!("https://example.org{path}"), |origin| origin.url("old", &path));
        let artifact = json!({ "work_id": "W1", "title": state, "pdf_urls": [url] }).to_string();
        DocsToKgFileRow {
            attempts: 1,
            ..DocsToKgFileRow::new(&format!("doi:10.1/{state}"), &artifact, state)
        }
    };
    states.iter().map(row).collect()
}

async fn old_queue(folder: &Path, rows: &[DocsToKgFileRow]) {
    make_docstokg_file(&folder.join("old.sqlite"), rows).await;
}

fn with_bad_rows() -> Vec<DocsToKgFileRow> {
    let mut rows = one_of_each(None);
    let row = |id: &str, json: &str, state: &str| DocsToKgFileRow::new(id, json, state);
    rows.push(row("a", "{\"title\": ", "queued"));
    rows.push(row("b", "{}", "leased"));
    rows.push(row("", "{}", "queued"));
    rows.push(row("c", "{\"priority\": 12}", "done"));
    rows.push(DocsToKgFileRow { created_at: "yesterday".to_owned(), ..row("d", "{}", "done") });
    // Another spelling of a key that came before.
    rows.push(row("https://doi.org/10.1/DONE", "{}", "queued"));
    rows
}

#[tokio::test]
async fn a_take_over_says_what_it_did_and_what_was_wrong() {
    let folder = TempDir::new().unwrap();
    old_queue(folder.path(), &with_bad_rows()).await;
    let before = std::fs::read(folder.path().join("old.sqlite")).unwrap();
    let strict = [&IMPORT[..], &["--strict"]].concat();
    insta::assert_snapshot!("strict", shown(folder.path(), &strict).await);
    assert!(!folder.path().join("state").exists(), "there is nothing for a queue");
    let kept = [&IMPORT[..], &["--rejects", "kept.jsonl"]].concat();
    insta::assert_snapshot!("import", shown(folder.path(), &kept).await);
    insta::assert_snapshot!("kept", std::fs::read_to_string(folder.path().join("kept.jsonl")).unwrap());
    insta::assert_snapshot!("import_again", shown(folder.path(), &IMPORT).await);
    let json = [&IMPORT[..], &["--format", "json"]].concat();
    insta::assert_snapshot!("import_json", shown(folder.path(), &json).await);
    assert_eq!(std::fs::read(folder.path().join("old.sqlite")).unwrap(), before);
    let over_it = [&IMPORT[..], &["--rejects", "old.sqlite"]].concat();
    assert_eq!(longhaul(folder.path(), &over_it).await.status.code(), Some(2));
    assert_eq!(std::fs::read(folder.path().join("old.sqlite")).unwrap(), before);
}

#[tokio::test]
async fn strict_reads_the_old_queue_twice_and_takes_all_of_it() {
    let folder = TempDir::new().unwrap();
    old_queue(folder.path(), &one_of_each(None)).await;
    let strict = json_of(folder.path(), &[&IMPORT[..], &["--strict", "--format", "json"]].concat()).await;
    assert_eq!((&strict["added"], &strict["lines"]), (&json!(5), &json!(5)));
}

/// INV-IDEMPOTENT: a limit takes the first, and the same command without it goes on from there.
#[tokio::test]
async fn inv_idempotent_a_limited_take_over_is_completed_by_the_next() {
    let folder = TempDir::new().unwrap();
    old_queue(folder.path(), &one_of_each(None)).await;
    let limited = [&IMPORT[..], &["--limit", "2", "--format", "json"]].concat();
    let first = json_of(folder.path(), &limited).await;
    assert_eq!((&first["added"], &first["limit_reached"]), (&json!(2), &json!(true)));
    let rest = json_of(folder.path(), &[&IMPORT[..], &["--format", "json"]].concat()).await;
    assert_eq!((&rest["added"], &rest["duplicates"], &rest["lines"]), (&json!(3), &json!(2), &json!(5)));
    let all = [&IMPORT[..], &["--limit", "5", "--format", "json"]].concat();
    assert_eq!(json_of(folder.path(), &all).await["limit_reached"], false);
}

#[tokio::test]
async fn what_cannot_be_taken_over_is_named_and_nothing_is_made() {
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join("list"), "10.1000/x\n".repeat(100)).unwrap();
    let check = async |file: &str, flags: &[&str], code: i32, said: &str| {
        let args = [&["queue", "import", "--from-docstokg", file], flags].concat();
        let shown = shown(folder.path(), &args).await;
        assert!(shown.starts_with(&format!("exit {code}\n")) && shown.contains(said), "{shown}");
    };
    check("nowhere.sqlite", &[], 1, "nowhere.sqlite cannot be opened").await;
    check("list", &[], 1, "list is no SQLite file").await;
    check("list", &["list"], 2, "cannot be used with").await;
    old_queue(folder.path(), &one_of_each(None)).await;
    let before = std::fs::read(folder.path().join("old.sqlite")).unwrap();
    check("old.sqlite", &["--queue", "old.sqlite"], 2, "is the old queue itself").await;
    assert_eq!(std::fs::read(folder.path().join("old.sqlite")).unwrap(), before);
    let plain = shown(folder.path(), &["queue", "import", "old.sqlite"]).await;
    assert!(plain.contains("is taken over with --from-docstokg"), "{plain}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
}

/// From the old file to files on disk: only what was waiting or under way there is fetched, and once.
#[tokio::test]
async fn only_what_was_left_to_do_is_fetched_after_a_take_over() {
    let folder = TempDir::new().unwrap();
    let host = HostConfig::answering("old", Answer::document(Shape::pdf(20_000)));
    let origin = Origin::start(OriginConfig::new([host])).await.unwrap();
    old_queue(folder.path(), &one_of_each(Some(&origin))).await;
    assert_eq!(longhaul(folder.path(), &IMPORT).await.status.code(), Some(0));
    let state =
        |queued, done| json!({ "queued": queued, "in_progress": 0, "done": done, "skipped": 1, "error": 1 });
    let has = |counts: &Value, wanted: &Value| {
        wanted.as_object().unwrap().iter().all(|(name, count)| &counts[name] == count)
    };
    let taken = counts(folder.path()).await;
    assert!(has(&taken, &state(2, 1)), "{taken}");
    let output = longhaul(folder.path(), &["queue", "run", "--drain"]).await;
    let said = format!("{}{}", text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(3), "an error that was taken over is still one: {said}");
    let ended = counts(folder.path()).await;
    assert!(has(&ended, &state(0, 3)), "{ended}: {said}");
    assert_eq!(origin.counts("old").requests, 2);
    let manifest = std::fs::read_to_string(folder.path().join("downloads/manifest.jsonl")).unwrap();
    let mut lines: Vec<Value> = manifest.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    lines.sort_by_key(|line| line["artifact_id"].to_string());
    let ids: Vec<_> = lines.iter().map(|line| line["artifact_id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["doi:10.1/in_progress", "doi:10.1/queued"]);
    assert!(lines.iter().all(|line| line["outcome"] == "done"), "{manifest}");
}
