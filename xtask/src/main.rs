//! longhaul's own tasks: `cargo xtask TASK`. One module a task; a new one is a `mod`, a variant of [`Task`] and its
//! arm in [`run`].
//!
//! Nothing here is part of longhaul itself: no crate depends on xtask.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for people who read a terminal")]

mod bench;
mod counts;
mod demo;
mod deny;
mod docs;
mod legs;
mod lint;
mod process;
mod prove;
mod reference;
mod test;
mod tidy;
mod tools;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(bin_name = "cargo xtask", about = "longhaul's own tasks", disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// The main job on a small internet of its own: start here
    Demo,
    /// Everything that a change must pass: lint, tidy, deny, docs, build, tests, doc tests
    Test(test::Args),
    /// Formatting and clippy; every warning is an error
    Lint,
    /// The checks of our own that no other tool has
    Tidy,
    /// Dependencies: bans, licences, sources, and which crate may know which
    Deny,
    /// The API documentation; every warning is an error
    Docs,
    /// Writes the reference of the command line and the manual's pages, from the program itself
    Reference,
    /// The proofs that are too long for every change, as a release build
    Prove(prove::Args),
    /// Speed and memory, beside the raw floor of the same store
    Bench(bench::Args),
}

fn main() -> ExitCode {
    match run(Cli::parse().task) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> Result<ExitCode> {
    match task {
        Task::Test(args) => return Ok(test::run(&args)),
        Task::Prove(args) => return prove::run(&args),
        Task::Demo => demo::run()?,
        Task::Bench(args) => bench::run(&args)?,
        Task::Lint => lint::run()?,
        Task::Tidy => tidy::run()?,
        Task::Deny => deny::run()?,
        Task::Docs => docs::run()?,
        Task::Reference => reference::run()?,
    }
    Ok(ExitCode::SUCCESS)
}
