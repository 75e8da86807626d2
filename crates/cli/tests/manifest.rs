//! `longhaul queue manifest` as a person or a script meets it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

fn manifest(folder: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_longhaul"));
    command.args(["queue", "manifest"]).args(args).current_dir(folder).env_clear().stdin(Stdio::null());
    command.output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn line(id: &str, day: u32, outcome: &str) -> String {
    json!({ "artifact_id": id, "timestamp": format!("2026-01-{day:02}T00:00:00.000Z"), "outcome": outcome })
        .to_string()
}

/// Two machines' manifests, the second with a torn end and something that is no line.
fn two(folder: &Path) -> [String; 3] {
    let (old, new) = (line("a", 1, "error"), line("a", 3, "done"));
    let (b, c) = (line("b", 2, "done"), line("c", 2, "skipped"));
    std::fs::write(folder.join("one.jsonl"), format!("{old}\n{b}\n{new}\n")).unwrap();
    std::fs::write(folder.join("two.jsonl"), format!("{c}\nnonsense\n{}", &b[..30])).unwrap();
    [b, new, c]
}

#[test]
fn manifests_are_merged_and_bad_lines_are_named() {
    let folder = TempDir::new().unwrap();
    let folder = folder.path();
    let lines = two(folder);
    let merged = manifest(folder, &["one.jsonl", "two.jsonl"]);
    assert_eq!(merged.status.code(), Some(4));
    assert_eq!(text(&merged.stdout), lines.join("\n") + "\n");
    insta::assert_snapshot!("merged", text(&merged.stderr));
    let clean = manifest(folder, &["one.jsonl"]);
    assert_eq!(clean.status.code(), Some(0));
    let listed = manifest(folder, &["one.jsonl", "two.jsonl", "--format", "json"]);
    let listed: Vec<Value> = serde_json::from_slice(&listed.stdout).unwrap();
    assert_eq!(listed.len(), 3);
    let nothing = manifest(folder, &["nowhere.jsonl"]);
    assert_eq!(nothing.status.code(), Some(1));
    assert!(text(&nothing.stderr).contains("nowhere.jsonl cannot be opened"), "{}", text(&nothing.stderr));
}

#[test]
fn a_merged_file_takes_its_place_at_once_and_never_that_of_its_sources() {
    let folder = TempDir::new().unwrap();
    let folder = folder.path();
    let lines = two(folder);
    std::fs::write(folder.join("all.jsonl"), "an older one\n").unwrap();
    let merged = manifest(folder, &["one.jsonl", "two.jsonl", "--output", "all.jsonl"]);
    assert_eq!(merged.status.code(), Some(4));
    insta::assert_snapshot!("report", text(&merged.stdout));
    assert_eq!(std::fs::read_to_string(folder.join("all.jsonl")).unwrap(), lines.join("\n") + "\n");
    // What was merged can be merged again, and nothing changes.
    let again = manifest(folder, &["all.jsonl", "--output", "again.jsonl", "--format", "json"]);
    let report: Value = serde_json::from_slice(&again.stdout).unwrap();
    let expected =
        json!({ "artifacts": 3, "done": 2, "skipped": 1, "error": 0, "lines": 3, "rejected": 0, "files": 1 });
    assert_eq!(report, expected);
    assert_eq!(
        std::fs::read(folder.join("again.jsonl")).unwrap(),
        std::fs::read(folder.join("all.jsonl")).unwrap()
    );
    let same = manifest(folder, &["one.jsonl", "--output", "./one.jsonl"]);
    assert_eq!(same.status.code(), Some(2));
    assert!(text(&same.stderr).contains("is one of the files that are merged"), "{}", text(&same.stderr));
    let names: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names.len(), 4, "no temporary file is left: {names:?}");
}
