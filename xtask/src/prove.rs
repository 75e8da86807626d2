//! `cargo xtask prove`: the proofs that are too long for every change, run against the release build.
//!
//! A part is a test binary of `longhaul-tests`. Everyday runs of the same binary are short; the environment variable
//! `LONGHAUL_PROVE` asks for the long form.

use std::process::ExitCode;

use anyhow::{Result, bail};

use crate::legs::Legs;
use crate::{process, tools};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The parts to prove; all of them if none is named
    #[arg(value_name = "PART")]
    parts: Vec<String>,
    /// Say what the parts are and what each shows, and run nothing
    #[arg(long)]
    list: bool,
}

#[derive(Debug)]
struct Part {
    /// Also the name of the test binary.
    name: &'static str,
    shows: &'static str,
}

/// Asks the tests for their long form.
const LONG: &str = "LONGHAUL_PROVE";

const PARTS: [Part; 6] = [
    Part { name: "crash", shows: "SIGKILL at 20 random moments loses no job and settles none twice" },
    Part { name: "makespan", shows: "a run takes hardly longer than the limits alone would make it" },
    Part {
        name: "throttle",
        shows: "a host that throttles is left alone, costs no attempt and delays no other host",
    },
    Part { name: "stop", shows: "a stop lets go of everything, and the next start goes on from there" },
    Part { name: "losses", shows: "a job that kills its process takes nobody along and ends in error" },
    Part { name: "readme", shows: "every command of the README does what the README says" },
];

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let parts = chosen(&args.parts)?;
    if args.list {
        for part in parts {
            println!("{:9} {}\n          {LONG}=1 {}", part.name, part.shows, command_line(part).join(" "));
        }
        return Ok(ExitCode::SUCCESS);
    }
    tools::NEXTEST.ensure()?;
    let mut legs = Legs::default();
    let built = legs.run("build", build);
    for part in parts {
        if built {
            legs.run(part.name, || prove(part));
        } else {
            legs.leave_out(part.name, "the build failed");
        }
    }
    println!("\n{}", legs.table().trim_end());
    Ok(if legs.are_good(true) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The parts by name, each once and in the table's order; all if none is named.
fn chosen(names: &[String]) -> Result<Vec<&'static Part>> {
    if let Some(unknown) = names.iter().find(|name| PARTS.iter().all(|part| part.name != name.as_str())) {
        let known: Vec<&str> = PARTS.iter().map(|part| part.name).collect();
        bail!("there is no part `{unknown}`; the parts are {}", known.join(", "));
    }
    let wanted = |part: &&Part| names.is_empty() || names.iter().any(|name| name == part.name);
    Ok(PARTS.iter().filter(wanted).collect())
}

/// The binary as people get it: release, default features. The tests start it.
fn build() -> Result<()> {
    process::run(&mut process::cargo(&["build", "--release", "--locked", "--package", "longhaul"]))
}

fn prove(part: &Part) -> Result<()> {
    process::run(process::cargo(&command_line(part)[1..]).env(LONG, "1"))
}

fn command_line(part: &Part) -> [&'static str; 12] {
    [
        "cargo",
        "nextest",
        "run",
        "--release",
        "--locked",
        "--profile",
        "prove",
        "-p",
        "longhaul-tests",
        "--test",
        part.name,
        "--no-capture",
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(wanted: &[&str]) -> Result<Vec<&'static str>> {
        let wanted: Vec<String> = wanted.iter().map(ToString::to_string).collect();
        Ok(chosen(&wanted)?.iter().map(|part| part.name).collect())
    }

    #[test]
    fn without_names_all_parts_are_chosen() {
        assert_eq!(names(&[]).expect("all").len(), PARTS.len());
    }

    #[test]
    fn named_parts_are_chosen_once() {
        assert_eq!(names(&["stop", "crash", "stop"]).expect("both are known"), ["crash", "stop"]);
    }

    #[test]
    fn an_unknown_part_is_refused_and_the_known_ones_are_named() {
        let error = names(&["crash", "crush"]).expect_err("there is no such part").to_string();
        assert!(error.contains("`crush`") && error.contains("crash, makespan"), "{error}");
    }
}
