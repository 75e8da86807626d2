//! `cargo xtask bench`: speed and memory beside the raw floor of the same store, as ratios in one run.
//!
//! The measuring itself is the crate in `xtask/bench`: it links the store and its floor, which no other task needs.

use std::path::PathBuf;

use anyhow::Result;

use crate::process;

/// What is passed on to the bench as it is.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What to measure and how, e.g. `queue`, `queue drain --runs 3`; `--help` says more
    #[arg(
        value_name = "ARGUMENT",
        trailing_var_arg = true,
        allow_hyphen_values = true,
        default_value = "queue"
    )]
    arguments: Vec<String>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    process::run(&mut process::cargo(&[
        "build",
        "--release",
        "--locked",
        "-p",
        "longhaul",
        "-p",
        "longhaul-bench",
    ]))?;
    let mut bench =
        process::cargo(&["run", "--release", "--locked", "--quiet", "-p", "longhaul-bench", "--"]);
    bench.args(&args.arguments);
    if measures_telemetry(&args.arguments) {
        bench.arg("--bare").arg(bare()?);
    }
    process::run(&mut bench)
}

/// Whether the part is among what is asked for: it is named, or no part is.
fn measures_telemetry(arguments: &[String]) -> bool {
    let Some((what, rest)) = arguments.split_first() else { return false };
    // Options of the bench have one value each.
    let mut parts = Vec::new();
    let mut rest = rest.iter();
    while let Some(one) = rest.next() {
        match one.strip_prefix("--") {
            Some("help") => return false,
            Some(option) if option.contains('=') => {}
            Some(_) => {
                rest.next();
            }
            None => parts.push(one.as_str()),
        }
    }
    what == "queue" && (parts.is_empty() || parts.contains(&"telemetry"))
}

/// The bench without the libraries' spans, built beside the other, whose features must not be joined with its own.
fn bare() -> Result<PathBuf> {
    let folder = process::target().join("bare");
    // Named here and not a feature of the bench: `--all-features` would take the spans out of the tests.
    let features = "tracing/max_level_off,tracing/release_max_level_off";
    let mut build =
        process::cargo(&["build", "--release", "--locked", "-p", "longhaul-bench", "--features", features]);
    process::run(build.arg("--target-dir").arg(&folder))?;
    Ok(folder.join("release/longhaul-bench"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_program_is_built_only_if_it_is_needed() {
        let check = |line: &str| measures_telemetry(&line.split(' ').map(str::to_owned).collect::<Vec<_>>());
        assert!(check("queue") && check("queue --runs 3") && check("queue --jobs=5 telemetry --runs 1"));
        assert!(!check("queue drain") && !check("queue --help") && !check("child x"));
    }
}
