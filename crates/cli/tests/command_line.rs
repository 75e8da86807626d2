//! The program as a person or a script meets it: help, messages, data, exit codes. Nothing here needs a network.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// The program in a folder of its own, with nothing of the environment that could change what it does.
fn longhaul(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_longhaul"));
    command.args(args).current_dir(folder).env_clear().stdin(Stdio::null());
    command
}

/// What it printed and how it ended, as one text.
fn shown(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    format!("exit {}\n--- stdout\n{stdout}--- stderr\n{stderr}", output.status.code().unwrap())
}

fn run(folder: &Path, args: &[&str]) -> String {
    shown(&longhaul(folder, args).output().unwrap())
}

fn json(folder: &Path, args: &[&str]) -> Value {
    serde_json::from_slice(&longhaul(folder, args).output().unwrap().stdout).unwrap()
}

#[test]
fn help_tells_all() {
    let folder = TempDir::new().unwrap();
    let help = |args: &[&str]| shown(&longhaul(folder.path(), args).env("COLUMNS", "80").output().unwrap());
    for (name, args) in [
        ("help", &["--help"][..]),
        ("help_queue", &["queue", "--help"]),
        ("help_import", &["queue", "import", "--help"]),
        ("help_enqueue", &["queue", "enqueue", "--help"]),
        ("help_run", &["queue", "run", "--help"]),
        ("help_all_of_run", &["queue", "run", "--help-all"]),
    ] {
        insta::assert_snapshot!(name, help(args));
    }
}

#[test]
fn an_import_says_what_it_did_and_what_was_wrong() {
    let folder = TempDir::new().unwrap();
    let lines = "{\"id\": \"a\", \"url\": \"https://example.org/a.pdf\"}\n{\"id\": 5}\n10.1000/X\nhttps://doi.org/10.1000/x\n\nnonsense\n";
    std::fs::write(folder.path().join("list.jsonl"), lines).unwrap();
    insta::assert_snapshot!("import", run(folder.path(), &["queue", "import", "list.jsonl"]));
    insta::assert_snapshot!("import_again", run(folder.path(), &["queue", "import", "list.jsonl"]));
    insta::assert_snapshot!(
        "import_json",
        run(folder.path(), &["queue", "import", "list.jsonl", "--format", "json"])
    );
    insta::assert_snapshot!(
        "import_strict",
        run(folder.path(), &["queue", "import", "list.jsonl", "--strict"])
    );
    insta::assert_snapshot!("stats", run(folder.path(), &["queue", "stats"]).replace(char::is_numeric, "N"));
}

#[test]
fn the_first_twenty_bad_lines_are_said_and_all_are_kept() {
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join("bad"), "x\n".repeat(1_234)).unwrap();
    let output = longhaul(folder.path(), &["queue", "import", "bad", "--rejects", "kept"]).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(4));
    assert_eq!(stderr.lines().filter(|line| line.starts_with("bad:")).count(), 20, "{stderr}");
    assert!(stderr.contains("… and 1,214 more bad lines; all are in kept"), "{stderr}");
    assert_eq!(std::fs::read_to_string(folder.path().join("kept")).unwrap().lines().count(), 1_234);
}

#[test]
fn stdin_is_a_file_too() {
    let folder = TempDir::new().unwrap();
    for flags in [
        &["queue", "import", "-"][..],
        &["queue", "enqueue", "-i", "-"],
        &["queue", "import", "-", "--strict"],
    ] {
        let mut child =
            longhaul(folder.path(), flags).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(b"https://example.org/a.pdf\n").unwrap();
        assert!(child.wait_with_output().unwrap().status.success(), "{flags:?}");
    }
    assert_eq!(json(folder.path(), &["queue", "stats", "--format", "json"])["counts"]["total"], 1);
}

#[test]
fn one_artifact_is_enqueued_once() {
    let folder = TempDir::new().unwrap();
    let enqueue = ["queue", "enqueue", "10.1000/X", "{\"title\": \"T\"}"];
    insta::assert_snapshot!("enqueue", run(folder.path(), &enqueue));
    insta::assert_snapshot!("enqueue_again", run(folder.path(), &enqueue));
    insta::assert_snapshot!(
        "enqueue_bad",
        run(folder.path(), &["queue", "enqueue", "a", "{\"priority\": 11}"])
    );
    let again = json(folder.path(), &["queue", "enqueue", "10.1000/x", "--format", "json"]);
    assert_eq!(again, serde_json::json!({ "id": "doi:10.1000/x", "job": 1, "added": false }));
}

#[test]
fn wrong_usage_is_said_and_ends_with_2() {
    let folder = TempDir::new().unwrap();
    let check = |args: &[&str], said: &str| {
        let shown = run(folder.path(), args);
        assert!(shown.starts_with("exit 2\n") && shown.contains(said), "{args:?}: {shown}");
    };
    check(&["--queue", "postgres://host/db", "queue", "stats"], "this build has no PostgreSQL");
    check(&["queue", "run", "--workers", "0"], "--workers");
    check(&["queue", "run", "--lease-ttl", "0.5s"], "--lease-ttl 0.5s is too short");
    check(&["queue", "run", "--heartbeat", "50s"], "less than a third of --lease-ttl (2m)");
    check(&["queue", "stats", "--log", "a=b=c"], "--log a=b=c");
    check(&["queue", "run", "--grace", "-5s"], "--grace -5s: nothing here can be below zero");
    check(&["queue", "run", "--workers=-5"], "-5 is out of range");
    check(&["queue", "import"], "FILE");
    check(&["queue", "frobnicate"], "frobnicate");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "wrong usage leaves nothing behind");
}

/// A value that came from a variable is told as the variable's, by every command: also by one that does not use it.
#[test]
fn a_wrong_variable_is_named_whatever_the_command() {
    let folder = TempDir::new().unwrap();
    let workers = "LONGHAUL_WORKERS: orchestrator.max_workers: \"abc\" is not a whole number; write a whole number from 1 to 256";
    for args in [&["queue", "run"][..], &["queue", "stats"], &["config", "show"], &["config", "check"]] {
        let mut command = longhaul(folder.path(), args);
        let shown = shown(&command.env("LONGHAUL_WORKERS", "abc").output().unwrap());
        assert!(shown.starts_with("exit 2\n") && shown.contains(workers), "{args:?}: {shown}");
        assert!(!shown.contains("--workers"), "{shown}");
    }
    // One that says what a single call is to do is nothing to the others.
    let limited =
        |args: &[&str]| shown(&longhaul(folder.path(), args).env("LONGHAUL_LIMIT", "few").output().unwrap());
    let list = limited(&["queue", "list"]);
    assert!(
        list.starts_with("exit 2\n") && list.contains("LONGHAUL_LIMIT: \"few\" is not a whole number"),
        "{list}"
    );
    assert!(limited(&["config", "check"]).starts_with("exit 0\n"));
    // The flag wins over the variable, and is to blame for itself.
    let mut both = longhaul(folder.path(), &["queue", "list", "--limit", "none"]);
    let both = shown(&both.env("LONGHAUL_LIMIT", "few").output().unwrap());
    assert!(both.contains("'none' for '--limit <N>'") && !both.contains("LONGHAUL_LIMIT"), "{both}");
}

#[test]
#[cfg(target_os = "linux")]
fn a_result_that_cannot_be_written_is_said_with_what_to_do() {
    let folder = TempDir::new().unwrap();
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let output = longhaul(folder.path(), &["config", "show"]).stdout(full).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr.contains("cannot be written to standard output") && stderr.contains("make room"),
        "{stderr}"
    );
}

#[test]
fn what_is_not_there_is_named_and_nothing_is_made() {
    let folder = TempDir::new().unwrap();
    insta::assert_snapshot!("stats_of_nothing", run(folder.path(), &["queue", "stats"]));
    insta::assert_snapshot!("drain_of_nothing", run(folder.path(), &["queue", "run", "--drain"]));
    insta::assert_snapshot!("import_of_nothing", run(folder.path(), &["queue", "import", "nowhere.jsonl"]));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn an_empty_queue_has_nothing_to_do() {
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join("empty"), "\n").unwrap();
    insta::assert_snapshot!("import_of_an_empty_file", run(folder.path(), &["queue", "import", "empty"]));
    insta::assert_snapshot!("drain_of_an_empty_queue", run(folder.path(), &["queue", "run", "--drain"]));
}

#[test]
fn flags_can_come_from_the_environment_and_the_command_line_wins() {
    let folder = TempDir::new().unwrap();
    let enqueue = |queue: &str, flags: &[&str]| {
        let mut args = vec!["queue", "enqueue", "a"];
        args.extend(flags);
        let output = longhaul(folder.path(), &args)
            .env("LONGHAUL_QUEUE", queue)
            .env("LONGHAUL_FORMAT", "json")
            .output();
        assert!(output.unwrap().stdout.starts_with(b"{"));
    };
    enqueue("one.sqlite", &[]);
    enqueue("unused.sqlite", &["--queue", "two.sqlite"]);
    let there = |name: &str| folder.path().join(name).exists();
    assert!(there("one.sqlite") && there("two.sqlite") && !there("unused.sqlite"));
}

#[test]
fn an_import_that_brings_nothing_in_leaves_no_queue_behind() {
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join("bad"), "nonsense\nftp://a.example/x\n").unwrap();
    std::fs::write(folder.path().join("mixed"), "10.1000/x\nnonsense\n").unwrap();
    std::fs::write(folder.path().join("torn.gz"), b"\x1f\x8b\x08\0\0\0\0\0\0\x03torn").unwrap();
    for (args, exit) in [(&["bad"][..], 4), (&["mixed", "--strict"], 4), (&["torn.gz"], 1)] {
        let shown = run(folder.path(), &[&["queue", "import"], args].concat());
        assert!(shown.starts_with(&format!("exit {exit}\n")), "{args:?}: {shown}");
        assert!(!folder.path().join("state").exists(), "{args:?}: {shown}");
    }
    assert!(run(folder.path(), &["queue", "import", "mixed"]).starts_with("exit 4\n"));
    assert!(folder.path().join("state/workqueue.sqlite").exists());
}

#[test]
fn quiet_leaves_results_and_errors() {
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join("list"), "10.1000/x\nbad\n").unwrap();
    let shown = run(folder.path(), &["queue", "import", "list", "--quiet"]);
    assert!(
        shown.ends_with("--- stderr\nlist:2: \"bad\" is neither a JSON object, a DOI nor a URL\n"),
        "{shown}"
    );
    assert!(shown.contains("added     1\n"), "{shown}");
}

#[test]
fn an_interrupted_import_keeps_what_is_in_and_can_be_repeated() {
    let folder = TempDir::new().unwrap();
    let (read, mut write) = std::io::pipe().unwrap();
    let child = longhaul(folder.path(), &["queue", "import", "-"])
        .stdin(read)
        .stderr(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    for number in 0..2_000 {
        writeln!(write, "{{\"id\":\"n{number}\"}}").unwrap();
    }
    // The pipe stays open, so the import waits for more; its first lines are in once another process sees them.
    let total = || {
        let output = longhaul(folder.path(), &["queue", "stats", "--format", "json"]).output().unwrap();
        serde_json::from_slice::<Value>(&output.stdout).ok()?["counts"]["total"].as_u64()
    };
    let is_in = (0..600).any(|_| {
        // tidy:allow-sleep: the program under test can only be watched from outside
        std::thread::sleep(std::time::Duration::from_millis(50));
        total().is_some_and(|total| total >= 1_000)
    });
    assert!(is_in);
    let kill = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(kill.success());
    let output = child.wait_with_output().unwrap();
    drop(write);
    let shown = shown(&output);
    assert!(shown.starts_with("exit 130\n"), "{shown}");
    assert!(shown.contains("what is in is in, and the same command goes on from there"), "{shown}");
}
