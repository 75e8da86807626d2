//! `cargo xtask test`: everything that a change must pass, at everyday sizes.
//!
//! All legs run even if one fails, so that one run shows all there is to mend; only the tests need the build. The
//! last line is the number of tests that ran, in the form that machines read.

use std::env;
use std::process::ExitCode;

use anyhow::{Context, Result};

use crate::counts::Counts;
use crate::legs::Legs;
use crate::{deny, docs, lint, process, tidy, tools};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Leave a leg out, to iterate faster (repeatable); where CI is set this fails the run
    #[arg(long, value_name = "LEG", value_parser = LEGS)]
    without: Vec<String>,
}

const LEGS: [&str; 8] = ["lint", "tidy", "deny", "docs", "interleavings", "build", "tests", "doctests"];

/// The workspace as it is tested: every crate with every feature.
const WORKSPACE: [&str; 3] = ["--workspace", "--all-features", "--locked"];

pub(crate) fn run(args: &Args) -> ExitCode {
    let all_must_run = env::var_os("CI").is_some_and(|value| !value.is_empty());
    let mut legs = Legs::default();
    let mut counts = Counts::default();
    let mut built = true;
    for name in LEGS {
        if args.without.iter().any(|left_out| left_out == name) {
            legs.leave_out(name, "left out with --without");
            continue;
        }
        match name {
            "lint" => legs.run(name, lint::run),
            "tidy" => legs.run(name, tidy::run),
            "deny" => legs.run(name, deny::run),
            "docs" => legs.run(name, docs::run),
            "interleavings" => legs.run(name, || interleavings(&mut counts)),
            "build" => {
                built = legs.run(name, build);
                built
            }
            _ if !built => {
                legs.leave_out(name, "the build failed");
                false
            }
            "tests" => legs.run(name, || tests(all_must_run, &mut counts)),
            _ => legs.run(name, || doctests(&mut counts)),
        };
    }
    eprintln!();
    println!("{}", legs.table());
    let good = legs.are_good(all_must_run);
    if !good {
        println!("Some legs failed or, where CI is set, did not run: see above.");
    }
    println!("{counts}");
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Builds the tests and, beside them, the binary that the end-to-end tests start.
fn build() -> Result<()> {
    let mut command = process::cargo(&["build"]);
    process::run(command.args(WORKSPACE).args(["--bins", "--lib", "--tests", "--examples"]))
}

fn tests(ci: bool, counts: &mut Counts) -> Result<()> {
    tools::NEXTEST.ensure()?;
    tools::STRACE.ensure(ci)?;
    tools::PROMTOOL.ensure(false)?;
    tools::FAKETIME.ensure(ci)?;
    let profile = if ci { "ci" } else { "default" };
    let mut command = process::cargo(&["nextest", "run", "--no-fail-fast", "--profile", profile]);
    count(command.args(WORKSPACE), Counts::from_nextest, counts)
}

/// The limiter's model check, which has a lock of its own: nothing of it may get into the other builds.
fn interleavings(counts: &mut Counts) -> Result<()> {
    let mut command = process::cargo(&[
        "test",
        "--release",
        "--locked",
        "-p",
        "longhaul-limiter",
        "--lib",
        "interleavings",
    ]);
    let flags = env::var("RUSTFLAGS").unwrap_or_default();
    command.env("RUSTFLAGS", format!("{flags} --cfg shuttle"));
    command.env("CARGO_TARGET_DIR", process::target().join("shuttle"));
    count(&mut command, Counts::from_libtest, counts)
}

/// nextest runs no doc tests.
fn doctests(counts: &mut Counts) -> Result<()> {
    let mut command = process::cargo(&["test", "--doc", "--no-fail-fast"]);
    count(command.args(WORKSPACE), Counts::from_libtest, counts)
}

/// Runs a command that runs tests, and adds what its closing lines say to `counts`.
fn count(
    command: &mut std::process::Command,
    read: impl Fn(&str) -> Option<Counts>,
    counts: &mut Counts,
) -> Result<()> {
    let mut closings = 0_u32;
    process::run_watched(command, |line| {
        if let Some(ended) = read(line) {
            closings += 1;
            *counts += ended;
        }
    })?;
    // A pass without a closing line may have tested nothing at all.
    (closings > 0).then_some(()).context("it printed no closing line, so it is unknown whether any test ran")
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn counts_are_summed_over_all_closing_lines() {
        let mut counts = Counts { passed: 1, ..Counts::default() };
        let script = "echo 'test result: ok. 3 passed; 0 failed; 1 ignored'; echo 'test result: ok. 2 passed; 0 failed'";
        count(Command::new("sh").args(["-c", script]), Counts::from_libtest, &mut counts).expect("it passed");
        assert_eq!(counts, Counts { passed: 6, failed: 0, skipped: 1 });
    }

    #[test]
    fn a_pass_without_a_closing_line_is_a_failure() {
        let mut counts = Counts::default();
        let ran = count(Command::new("sh").args(["-c", "echo fine"]), Counts::from_nextest, &mut counts);
        assert!(ran.expect_err("nothing is known").to_string().contains("no closing line"));
    }
}
