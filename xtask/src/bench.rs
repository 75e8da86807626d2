//! `cargo xtask bench`: speed and memory beside the raw floor of the same store, as ratios in one run.
//!
//! The measuring itself is the crate in `xtask/bench`: it links the store and its floor, which no other task needs.

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
    process::run(bench.args(&args.arguments))
}
