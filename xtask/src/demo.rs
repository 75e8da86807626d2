//! `cargo xtask demo`: the main job, end to end, without internet.
//!
//! A dozen hosts with manners and faults of their own run on this machine's loopback addresses. The real program
//! fetches a few hundred files from them at its default pace, is killed in the middle, and goes on. Then every file
//! is checked against what its host has, and every host is asked how it was treated.

mod hosts;
mod verdict;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};
use longhaul_origin::{Origin, OriginConfig};
use tokio::process::{Child, Command};

use crate::process;

/// The program is killed when the hosts have answered so many requests.
const KILLED_AFTER: u64 = 120;
/// Some artifacts of the demo cannot be had; the program says so by this code.
const SOME_IN_ERROR: i32 = 3;

pub(crate) fn run() -> Result<()> {
    title("1. Building the program");
    process::run(&mut process::cargo(&["build", "--release", "--locked", "--package", "longhaul"]))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(demo())
}

async fn demo() -> Result<()> {
    let started = now();
    let folder = process::root().join("target/demo");
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("{} cannot be emptied", folder.display()))?;
    }
    fs::create_dir_all(&folder)?;

    title("2. A small internet on this machine");
    let origin =
        Origin::start(OriginConfig::new(hosts::all())).await.context("the hosts cannot be started")?;
    for (host, habit) in hosts::HABITS {
        println!("   {:22} {host:10} {habit}", origin.url(host, ""));
    }

    title("3. A list of artifacts");
    let artifacts = hosts::artifacts(&origin);
    let list: Vec<String> = artifacts.iter().map(|artifact| artifact.record.to_string()).collect();
    fs::write(folder.join("artifacts.jsonl"), list.join("\n"))?;
    println!("   {} records in {}", artifacts.len(), folder.join("artifacts.jsonl").display());
    let imported = start(&folder, &["queue", "import", "artifacts.jsonl"])?.wait().await?;
    ensure!(imported.success(), "the import failed ({imported})");

    title("4. Fetching them, until somebody pulls the plug");
    let run = [
        "queue",
        "run",
        "--drain",
        "--allow-network",
        "127.0.0.0/8",
        "--retry-backoff",
        "1s",
        "--jitter",
        "1s",
        "--workers",
        "16",
    ];
    let mut first = start(&folder, &run)?;
    tokio::select! {
        () = hosts::answered(&origin, KILLED_AFTER) => {}
        ended = first.wait() => bail!("the program ended before it was killed ({})", ended?),
    }
    first.kill().await?;
    println!("   killed with SIGKILL, in the middle of {} requests", hosts::in_flight(&origin));

    title("5. Going on as if nothing had happened");
    let ended = start(&folder, &run)?.wait().await?;
    ensure!(
        ended.code() == Some(SOME_IN_ERROR),
        "the run ended with {ended}, and code {SOME_IN_ERROR} was expected"
    );

    title("6. What came of it");
    let problems = verdict::check(&origin, &folder, &artifacts)?;
    verdict::show(&origin, &folder, started.elapsed());
    if problems.is_empty() {
        println!("\nAll is as it should be.");
        return Ok(());
    }
    for problem in &problems {
        println!("   WRONG: {problem}");
    }
    bail!("{} things are not as they should be", problems.len())
}

/// Starts the program in the demo's folder, and shows the line as a person would type it.
fn start(folder: &Path, arguments: &[&str]) -> Result<Child> {
    println!("   $ longhaul {}", arguments.join(" "));
    let program: PathBuf = process::root().join("target/release/longhaul");
    let mut command = Command::new(&program);
    command.args(arguments).current_dir(folder).kill_on_drop(true).stdin(Stdio::null());
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("LONGHAUL_")) {
        command.env_remove(name);
    }
    // Nor what the caller's configuration file says.
    command.env("XDG_CONFIG_HOME", folder.join("no-settings"));
    command.spawn().with_context(|| format!("{} cannot be started", program.display()))
}

fn title(text: &str) {
    println!("\n{text}");
}

#[allow(clippy::disallowed_methods, reason = "how long a person waited for the demo")]
fn now() -> Instant {
    Instant::now()
}
