//! `queue plan` from outside. Nothing here needs a network, and that is part of what is tested.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

fn run(folder: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_longhaul"));
    command.args(args).current_dir(folder).env_clear().env("COLUMNS", "80").stdin(Stdio::null());
    command.output().unwrap()
}

fn shown(folder: &Path, args: &[&str]) -> String {
    let output = run(folder, args);
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    format!(
        "exit {}\n--- stdout\n{}--- stderr\n{}",
        output.status.code().unwrap(),
        text(&output.stdout),
        text(&output.stderr)
    )
}

/// 1,000 artifacts of one host, 5 of each of 20 others, one named twice, one without a URL, and a bad line.
fn list(folder: &Path) {
    let of = |host: &str, number: usize| {
        json!({ "id": format!("{host}-{number}"), "url": format!("https://{host}/{number}.pdf") }).to_string()
    };
    let mut lines: Vec<String> = (0..1_000).map(|number| of("big.example", number)).collect();
    lines.extend((0..100).map(|number| of(&format!("h{}.example", number % 20), number)));
    lines.push(of("big.example", 7));
    lines.push("10.1000/x".to_owned());
    lines.push("{bad".to_owned());
    std::fs::write(folder.join("list.jsonl"), lines.join("\n")).unwrap();
}

#[test]
fn a_plan_names_the_time_what_bounds_it_and_what_would_help() {
    let folder = TempDir::new().unwrap();
    list(folder.path());
    insta::assert_snapshot!("plan", shown(folder.path(), &["queue", "plan", "list.jsonl"]));
    let json = ["queue", "plan", "list.jsonl", "--format", "json", "--rate", "*=off", "--max-per-host", "2"];
    insta::assert_snapshot!("plan_json", shown(folder.path(), &json));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left behind");
}

#[test]
fn help_of_plan() {
    let folder = TempDir::new().unwrap();
    insta::assert_snapshot!("help_plan", shown(folder.path(), &["queue", "plan", "--help"]));
}

#[test]
fn an_empty_list_takes_no_time() {
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join("empty.txt"), "\n").unwrap();
    let output = run(folder.path(), &["queue", "plan", "empty.txt", "--format", "json"]);
    let plan: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&plan["takes_seconds"], &plan["bound_by"]), (&json!(0.0), &Value::Null));
}

/// It goes by the same limits as a run: the file's, the environment's, the flags'.
#[test]
fn a_plan_goes_by_the_limits_of_a_run() {
    let folder = TempDir::new().unwrap();
    list(folder.path());
    let takes = |flags: &[&str]| {
        let args = [&["queue", "plan", "list.jsonl", "--format", "json", "--no-robots"], flags].concat();
        let plan: Value = serde_json::from_slice(&run(folder.path(), &args).stdout).unwrap();
        plan["takes_seconds"].as_f64().unwrap()
    };
    // One every 1.1 s, and a moment in which the others have their turns.
    let slow = takes(&["--rate", "big.example=1/s"]);
    assert!((1_099.0..1_115.0).contains(&slow), "{slow}");
    std::fs::write(
        folder.path().join("longhaul.toml"),
        "[rate.\"big.example\"]\nartifact = \"1/2s\"\ncap = 1\n",
    )
    .unwrap();
    let slower = takes(&[]);
    assert!((2_198.0..2_215.0).contains(&slower), "{slower}");
    let fast = takes(&["--rate", "big.example=artifact:1/s"]);
    assert!((1_099.0..1_115.0).contains(&fast), "a flag wins: {fast}");
}
