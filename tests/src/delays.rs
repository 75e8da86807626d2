//! What slows a process down from outside.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Compiles the library that delays syncs of a queue's log (`faults/late_fdatasync.c`) into the folder, for `LD_PRELOAD`.
pub fn late_syncs(folder: &Path) -> PathBuf {
    let library = folder.join("late_fdatasync.so");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/faults/late_fdatasync.c");
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-O2", "-o"]).arg(&library).arg(source).arg("-ldl");
    assert!(compiler.status().expect("cc, which links Rust programs too").success());
    library
}

/// Stops a process for this long.
pub async fn freeze(process: u32, time: Duration) {
    signal(process, "STOP");
    // tidy:allow-sleep: how long it is frozen is what is tested
    tokio::time::sleep(time).await;
    signal(process, "CONT");
}

fn signal(process: u32, name: &str) {
    let sent = Command::new("kill").args([&format!("-{name}"), &process.to_string()]).status();
    assert!(sent.unwrap().success());
}
