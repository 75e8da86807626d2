//! Speed and memory, as ratios in one run against the raw floor of the same store and the same shape.
//!
//! `cargo xtask bench` builds this in release mode and runs it. A part measures longhaul and the floor in turns, five
//! times, and compares medians; nothing here is a test, because a shared machine is not a stopwatch.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for people who read a terminal")]

mod child;
mod drain;
mod enqueue;
mod flat;
mod floor;
mod import;
mod machine;
mod ours;
mod report;
mod shape;
mod telemetry;
mod views;
mod wake;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::{Parser, Subcommand};

use self::report::Report;

#[derive(Debug, Parser)]
#[command(bin_name = "cargo xtask bench", about = "longhaul beside the raw floor of its store")]
struct Cli {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// The queue: import, enqueue, lease and settle, drain, wake-up, views, telemetry
    Queue(Args),
    /// Enqueues a job for each line of stdin, and prints when it called (used by the part `wake`)
    #[command(hide = true)]
    Child {
        /// The queue's file
        path: PathBuf,
    },
    /// Drains a queue and prints jobs a second (used by the part `telemetry`)
    #[command(hide = true)]
    Drain {
        /// Where its queue lies
        #[arg(long)]
        dir: PathBuf,
        /// How many jobs it has
        #[arg(long)]
        jobs: usize,
    },
}

/// What is measured, where, and how thoroughly.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The parts; all of them if none is named
    #[arg(value_name = "PART")]
    parts: Vec<String>,
    /// Where the files of the measurements lie: the disk that is measured
    #[arg(long, value_name = "DIR", default_value = "target/bench")]
    dir: PathBuf,
    /// How often each pair is measured
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// Jobs of the large queue
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    jobs: usize,
    /// The program whose import is measured; by default the one beside this
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
    /// This program without the libraries' spans, for the part `telemetry`
    #[arg(long, value_name = "FILE")]
    bare: Option<PathBuf>,
    /// Where the figures go as JSON
    #[arg(long, value_name = "FILE", default_value = "target/bench/queue.json")]
    json: PathBuf,
}

const PARTS: [&str; 7] = ["import", "enqueue", "drain", "flat", "wake", "views", "telemetry"];

#[tokio::main]
async fn main() -> ExitCode {
    match run(Cli::parse().what).await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(what: What) -> Result<ExitCode> {
    let args = match what {
        What::Queue(args) => args,
        What::Child { path } => {
            child::run(&path).await?;
            return Ok(ExitCode::SUCCESS);
        }
        What::Drain { dir, jobs } => {
            telemetry::one_drain(dir, jobs).await?;
            return Ok(ExitCode::SUCCESS);
        }
    };
    if let Some(unknown) = args.parts.iter().find(|part| !PARTS.contains(&part.as_str())) {
        bail!("there is no part `{unknown}`; the parts are {}", PARTS.join(", "));
    }
    std::fs::create_dir_all(&args.dir).with_context(|| format!("{} cannot be made", args.dir.display()))?;
    let mut report = Report::begin(&args.dir)?;
    for part in PARTS.iter().filter(|part| args.parts.is_empty() || args.parts.iter().any(|p| p == *part)) {
        eprintln!("== {part}");
        match *part {
            "import" => import::measure(&args, &mut report)?,
            "enqueue" => enqueue::measure(&args, &mut report).await?,
            "drain" => drain::measure(&args, &mut report).await?,
            "flat" => flat::measure(&args, &mut report).await?,
            "wake" => wake::measure(&args, &mut report).await?,
            "telemetry" => telemetry::measure(&args, &mut report)?,
            _ => views::measure(&args, &mut report).await?,
        }
    }
    report.end(&args.json)?;
    Ok(if report.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
