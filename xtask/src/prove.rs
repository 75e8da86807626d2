//! `cargo xtask prove`: the proofs that are too long for every change, run against the release build.
//!
//! A part is a test binary, of `longhaul-tests` if nothing else is said. Everyday runs of the same binary are short; the environment variable
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
    /// Also the name of the test binary, with `_` for `-`.
    name: &'static str,
    shows: &'static str,
    package: &'static str,
    /// What of the package's features the binary needs.
    features: &'static [&'static str],
    /// Without it the binary shows nothing.
    needs: Option<&'static tools::SystemTool>,
}

impl Part {
    /// A part in `longhaul-tests`.
    const fn of_tests(name: &'static str, shows: &'static str) -> Self {
        Self { name, shows, package: "longhaul-tests", features: &[], needs: None }
    }
}

/// Asks the tests for their long form.
const LONG: &str = "LONGHAUL_PROVE";

const PARTS: [Part; 21] = [
    Part {
        package: "longhaul-queue-core",
        features: &["--features", "conformance"],
        ..Part::of_tests(
            "model",
            "2,000 random sequences with crashes: SQLite does what the reference model does",
        )
    },
    Part::of_tests("store-crash", "SIGKILL at 200 random moments: whatever the store answered stands"),
    Part::of_tests("crash", "SIGKILL at 20 random moments loses no job and settles none twice"),
    Part::of_tests("makespan", "a run takes hardly longer than the limits alone would make it"),
    Part::of_tests(
        "throttle",
        "a host that throttles is left alone, costs no attempt, and what it bears is learned and kept",
    ),
    Part::of_tests(
        "pace",
        "caps and paces hold over four processes, a kill and a restart, and of two paces the stricter",
    ),
    Part::of_tests("isolation", "a host that is closed, slow or silent delays no other"),
    Part::of_tests("resolvers", "a resolver's cap is kept and used up, and is in nobody's way"),
    Part::of_tests("plan", "a plan of three topologies is right to within 15 %"),
    Part::of_tests(
        "report",
        "a report of 2,000 jobs says what manifest, queue and hosts say, in less than 1 MiB",
    ),
    Part::of_tests("hosts", "a million hosts seen once each, in less than 64 MiB"),
    Part::of_tests(
        "broad",
        "a thousand hosts, each at its own pace, take hardly longer than the pace, whatever is late",
    ),
    Part::of_tests("critical", "the host that bounds a run is never starved by three hundred others"),
    Part::of_tests("bare", "one host without limits gives longhaul a fair share of what a bare loop gets"),
    Part::of_tests("stop", "a stop lets go of everything, and the next start goes on from there"),
    Part::of_tests("losses", "a job that kills its process takes nobody along and ends in error"),
    Part::of_tests(
        "crowd",
        "four processes drain 50,000 jobs beside a flat-out import: none twice, no heartbeat late, a short log",
    ),
    Part::of_tests(
        "frozen",
        "a process that was frozen for longer than its leases overlaps and records nothing when it wakes",
    ),
    Part {
        needs: Some(&tools::FAKETIME),
        ..Part::of_tests("clock", "steps of the calendar by an hour lose no lease and start nothing early")
    },
    Part::of_tests(
        "otlp",
        "every metric and span arrives by OTLP, and a receiver that is away, slow or refuses holds nobody up",
    ),
    Part {
        package: "longhaul",
        ..Part::of_tests("readme", "every command of the README does what the README says")
    },
];

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let parts = chosen(&args.parts)?;
    if args.list {
        for part in parts {
            println!(
                "{:11} {}\n            {LONG}=1 {}",
                part.name,
                part.shows,
                command_line(part).join(" ")
            );
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
    if let Some(tool) = part.needs {
        tool.ensure(true)?;
    }
    let line = command_line(part);
    let arguments: Vec<&str> = line.iter().skip(1).map(String::as_str).collect();
    process::run(process::cargo(&arguments).env(LONG, "1"))
}

fn command_line(part: &Part) -> Vec<String> {
    let binary = part.name.replace('-', "_");
    let common =
        ["cargo", "nextest", "run", "--release", "--locked", "--profile", "prove", "-p", part.package];
    let line = common.iter().chain(part.features).copied();
    line.chain(["--test", &binary, "--no-capture"]).map(str::to_owned).collect()
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
    fn a_part_is_run_where_it_is() {
        let line = |name: &str| command_line(chosen(&[name.to_owned()]).expect("it is known")[0]).join(" ");
        assert!(line("stop").ends_with("-p longhaul-tests --test stop --no-capture"), "{}", line("stop"));
        let model = line("model");
        assert!(
            model.ends_with("-p longhaul-queue-core --features conformance --test model --no-capture"),
            "{model}"
        );
        assert!(line("store-crash").contains("--test store_crash "));
    }

    #[test]
    fn an_unknown_part_is_refused_and_the_known_ones_are_named() {
        let error = names(&["crash", "crush"]).expect_err("there is no such part").to_string();
        assert!(error.contains("`crush`") && error.contains("crash, makespan"), "{error}");
    }
}
