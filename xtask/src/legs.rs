//! The legs of a long task: each is timed, a failing one does not stop the others, and a table at the end says what
//! ran and what did not, and why.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use anyhow::Result;

/// How a leg ended.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Passed,
    Failed(String),
    NotRun(String),
}

#[derive(Debug)]
struct Leg {
    name: &'static str,
    outcome: Outcome,
    took: Duration,
}

/// The legs so far.
#[derive(Debug, Default)]
pub(crate) struct Legs {
    legs: Vec<Leg>,
}

impl Legs {
    /// Runs a leg now, and says whether it passed.
    pub(crate) fn run(&mut self, name: &'static str, leg: impl FnOnce() -> Result<()>) -> bool {
        eprintln!("\n== {name}");
        let watch = Stopwatch::start();
        let result = leg();
        let took = watch.elapsed();
        let outcome = match result {
            Ok(()) => {
                eprintln!("== {name}: passed in {}", spoken(took));
                Outcome::Passed
            }
            Err(error) => {
                eprintln!("== {name}: failed after {}: {error:#}", spoken(took));
                Outcome::Failed(format!("{error:#}"))
            }
        };
        let passed = outcome == Outcome::Passed;
        self.legs.push(Leg { name, outcome, took });
        passed
    }

    /// Notes a leg that is not run.
    pub(crate) fn leave_out(&mut self, name: &'static str, why: &str) {
        eprintln!("\n== {name}: not run: {why}");
        self.legs.push(Leg { name, outcome: Outcome::NotRun(why.to_owned()), took: Duration::ZERO });
    }

    /// Whether all is well: nothing failed and, with `all_must_run`, nothing was left out.
    pub(crate) fn are_good(&self, all_must_run: bool) -> bool {
        self.legs.iter().all(|leg| match leg.outcome {
            Outcome::Passed => true,
            Outcome::Failed(_) => false,
            Outcome::NotRun(_) => !all_must_run,
        })
    }

    /// What ran, for how long, and what did not and why.
    pub(crate) fn table(&self) -> String {
        let width = self.legs.iter().map(|leg| leg.name.len()).max().unwrap_or(0);
        let mut table = String::new();
        for leg in &self.legs {
            let (result, took, why) = match &leg.outcome {
                Outcome::Passed => ("passed", spoken(leg.took), ""),
                Outcome::Failed(why) => ("FAILED", spoken(leg.took), why.as_str()),
                Outcome::NotRun(why) => ("not run", "-".to_owned(), why.as_str()),
            };
            // The reason is for one line of a table; the whole of it stands where the leg ran.
            let why = why.lines().next().unwrap_or_default();
            let row = format!("  {:width$}  {result:7}  {took:>9}  {why}", leg.name);
            // Writing to a String cannot fail.
            let _ = writeln!(table, "{}", row.trim_end());
        }
        table
    }
}

/// The one place of xtask that reads a clock.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stopwatch(Instant);

impl Stopwatch {
    #[expect(
        clippy::disallowed_methods,
        reason = "a task's time is only shown to a person, nothing depends on it"
    )]
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    pub(crate) fn elapsed(self) -> Duration {
        self.0.elapsed()
    }
}

/// A duration as people say it.
pub(crate) fn spoken(duration: Duration) -> String {
    let seconds = duration.as_secs();
    if seconds < 60 {
        format!("{:.1} s", duration.as_secs_f64())
    } else {
        format!("{} m {:02} s", seconds / 60, seconds % 60)
    }
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    #[test]
    fn a_failing_leg_fails_the_whole_and_the_next_leg_still_runs() {
        let mut legs = Legs::default();
        assert!(!legs.run("first", || Err(anyhow!("broken\nin detail"))));
        assert!(legs.run("second", || Ok(())));
        assert!(!legs.are_good(false));
        let table = legs.table();
        let rows: Vec<&str> = table.lines().collect();
        assert!(
            rows[0].contains("first") && rows[0].contains("FAILED") && rows[0].ends_with("broken"),
            "{table}"
        );
        assert!(rows[1].contains("second") && rows[1].contains("passed"), "{table}");
    }

    #[test]
    fn a_leg_that_is_left_out_counts_only_where_all_must_run() {
        let mut legs = Legs::default();
        legs.run("lint", || Ok(()));
        legs.leave_out("docs", "left out with --without");
        assert!(legs.are_good(false));
        assert!(!legs.are_good(true));
        assert!(legs.table().contains("not run          -  left out with --without"), "{}", legs.table());
    }

    #[test]
    fn durations_are_said_as_people_say_them() {
        assert_eq!(spoken(Duration::from_millis(1_250)), "1.2 s");
        assert_eq!(spoken(Duration::from_secs(125)), "2 m 05 s");
    }
}
