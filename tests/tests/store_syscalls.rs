//! What the kernel is asked before an answer is given: a killed process keeps its page cache, so only the system calls
//! show that what was answered is on the disk (INV-DURABLE-REPLY).
//!
//! Needs `strace`, which `cargo xtask test` installs where it may. Without it nothing is shown, which is said, and is a
//! failure where `CI` is set.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(clippy::print_stderr, reason = "what was not run is said")]

use std::collections::BTreeMap;
use std::process::{Command, Stdio};

/// What happened, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Event {
    /// A write into the write-ahead log has begun.
    WritesLog,
    /// The write-ahead log is on the disk.
    SyncedLog,
    /// The process is about to say that it was answered.
    Says(String),
}

/// The events of an `strace -f -y`. A call that another thread interrupts is two lines; a write counts from its begin, a
/// sync from its end.
fn events(trace: &str) -> Vec<Event> {
    let mut events = Vec::new();
    let mut unfinished: BTreeMap<&str, &str> = BTreeMap::new();
    for line in trace.lines() {
        let Some((thread, call)) = line.trim_start().split_once(' ') else { continue };
        let call = call.trim_start();
        if let Some(resumed) = call.strip_prefix("<... ") {
            let began = unfinished.remove(thread).unwrap_or_default();
            if is_sync(began) && resumed.ends_with("= 0") {
                events.push(Event::SyncedLog);
            }
            continue;
        }
        if call.contains("<unfinished ...>") {
            unfinished.insert(thread, call);
        }
        if let Some((_, mark)) = call.split_once("\"mark: ") {
            events.push(Event::Says(mark.split("\\n").next().unwrap().to_owned()));
        } else if call.contains("-wal>") && call.split('(').next().is_some_and(|name| name.contains("write"))
        {
            events.push(Event::WritesLog);
        } else if is_sync(call) && call.ends_with("= 0") {
            events.push(Event::SyncedLog);
        }
    }
    events
}

fn is_sync(call: &str) -> bool {
    call.contains("-wal>") && (call.starts_with("fdatasync(") || call.starts_with("fsync("))
}

/// Runs one enqueue and one settlement; `None` without strace.
fn trace(durability: &str) -> Option<Vec<Event>> {
    let is_there =
        Command::new("strace").arg("-V").stdout(Stdio::null()).status().is_ok_and(|it| it.success());
    if !is_there {
        let told = "strace is missing: that answers come after the disk has them was NOT shown";
        assert!(std::env::var_os("CI").is_none_or(|ci| ci.is_empty()), "{told}");
        eprintln!("{told}");
        return None;
    }
    let folder = tempfile::tempdir().unwrap();
    let (output, queue) = (folder.path().join("trace"), folder.path().join("queue.sqlite"));
    let mut command = Command::new("strace");
    command.args([
        "-f",
        "-y",
        "-s",
        "64",
        "-e",
        "trace=write,pwrite64,writev,pwritev,pwritev2,fdatasync,fsync",
    ]);
    command
        .arg("-o")
        .arg(&output)
        .arg(env!("CARGO_BIN_EXE_store-child"))
        .arg(&queue)
        .args(["once", durability]);
    let run = command.stdout(Stdio::piped()).stderr(Stdio::piped()).output().unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    Some(events(&std::fs::read_to_string(output).unwrap()))
}

/// What happened to the log between two answers.
fn before(events: &[Event], from: &str, to: &str) -> Vec<Event> {
    let at = |mark: &str| {
        let says = Event::Says(mark.to_owned());
        events.iter().position(|event| *event == says).unwrap_or_else(|| panic!("{mark}: {events:?}"))
    };
    let between = events[at(from) + 1..at(to)].to_vec();
    assert!(between.contains(&Event::WritesLog), "{to} wrote nothing: {events:?}");
    between
}

#[test]
fn inv_durable_reply_the_log_is_on_the_disk_before_an_answer() {
    let Some(events) = trace("full") else { return };
    for (from, to) in [("begin", "enqueued"), ("enqueued", "settled")] {
        let between = before(&events, from, to);
        assert_eq!(
            between.last(),
            Some(&Event::SyncedLog),
            "{to} was said before the disk had it: {between:?}"
        );
    }
}

/// The same trace without the promise: if this failed, the other test would show nothing.
#[test]
fn normal_durability_answers_before_the_disk_has_it() {
    let Some(events) = trace("normal") else { return };
    for (from, to) in [("begin", "enqueued"), ("enqueued", "settled")] {
        let between = before(&events, from, to);
        assert!(!between.contains(&Event::SyncedLog), "{between:?}");
    }
}
