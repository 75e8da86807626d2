//! The log from outside: where it goes, in which form, and how much of it there is.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

fn enqueue(args: &[&str]) -> Output {
    let folder = TempDir::new().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_longhaul"));
    command.args(["queue", "enqueue", "10.1000/x"]).args(args).current_dir(folder.path());
    let output = command.env_clear().stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success());
    assert_eq!(String::from_utf8_lossy(&output.stdout), "added doi:10.1000/x as job 1\n", "data alone");
    output
}

fn lines(output: &Output) -> Vec<String> {
    String::from_utf8_lossy(&output.stderr).lines().map(str::to_owned).collect()
}

#[test]
fn nothing_is_logged_if_nothing_is_wrong() {
    assert_eq!(lines(&enqueue(&[])), [""; 0]);
}

#[test]
fn a_log_is_for_people_and_without_colour_where_there_is_no_terminal() {
    let lines = lines(&enqueue(&["--log", "debug"]));
    assert!(lines.iter().any(|line| line.contains(" DEBUG ")), "{lines:?}");
    assert!(!lines.iter().any(|line| line.contains('\u{1b}')), "{lines:?}");
}

#[test]
fn a_log_can_be_json_one_object_a_line() {
    let lines = lines(&enqueue(&["--log", "debug", "--log-format", "json"]));
    assert!(!lines.is_empty());
    for line in lines {
        let event: Value = serde_json::from_str(&line).unwrap();
        for field in ["timestamp", "level", "target", "fields"] {
            assert!(!event[field].is_null(), "{line}");
        }
    }
}
