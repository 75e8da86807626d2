//! The tools that the tasks need, and their installation where they are missing.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::legs::{Stopwatch, spoken};
use crate::process;

/// A cargo subcommand that is not part of the toolchain.
#[derive(Debug)]
pub(crate) struct Tool {
    /// As in `cargo SUBCOMMAND`.
    subcommand: &'static str,
    package: &'static str,
    /// The oldest version that understands our configuration files and prints what we read; the one that is installed.
    version: &'static str,
    options: &'static [&'static str],
}

/// Runs tests: each in its own process, with time limits.
pub(crate) const NEXTEST: Tool = Tool {
    subcommand: "nextest",
    package: "cargo-nextest",
    version: "0.9.151",
    // Without its self-update it builds faster, and nothing here updates it.
    options: &["--no-default-features", "--features", "default-no-update"],
};

/// Checks the dependency graph.
pub(crate) const DENY: Tool =
    Tool { subcommand: "deny", package: "cargo-deny", version: "0.20.2", options: &[] };

impl Tool {
    /// Returns once the tool is there, in the version that is needed or a newer one.
    pub(crate) fn ensure(&self) -> Result<()> {
        let wanted = version(self.version).context("the table of tools has a bad version")?;
        let found = self.found();
        if found.is_some_and(|found| found >= wanted) {
            return Ok(());
        }
        let why = if found.is_some() { "is too old" } else { "is missing" };
        eprintln!(
            "{} {why}: installing version {}. This happens once, and takes some minutes.",
            self.package, self.version
        );
        let watch = Stopwatch::start();
        let mut arguments = vec!["install", "--locked", self.package, "--version", self.version];
        arguments.extend(self.options);
        process::run(&mut process::cargo(&arguments)).with_context(|| {
            format!(
                "{} {why}, and could not be installed; install version {} or newer by hand and try again",
                self.package, self.version
            )
        })?;
        eprintln!("{} {} is installed; it took {}.", self.package, self.version, spoken(watch.elapsed()));
        if self.found().is_none_or(|found| found < wanted) {
            bail!(
                "{} was installed, but `cargo {} --version` does not find it; is cargo's bin folder in PATH, and \
                 nothing older before it?",
                self.package,
                self.subcommand
            );
        }
        Ok(())
    }

    /// The version that is installed, if any is.
    fn found(&self) -> Option<Version> {
        let output = process::cargo(&[self.subcommand, "--version"]).output().ok()?;
        if !output.status.success() {
            return None;
        }
        version(String::from_utf8_lossy(&output.stdout).lines().next()?)
    }
}

/// A program of the system that some tests watch others with. Without it they say that they have shown nothing.
#[derive(Debug)]
pub(crate) struct SystemTool {
    program: &'static str,
    /// Debian's name for it.
    package: &'static str,
    /// What it is asked to see whether it is there.
    asked: &'static str,
    /// What is not shown without it.
    shows: &'static str,
}

/// Shows the system calls of a process.
pub(crate) const STRACE: SystemTool = SystemTool {
    program: "strace",
    package: "strace",
    asked: "-V",
    shows: "that the disk has what was answered, before it is answered",
};

/// Shows a process a false calendar.
pub(crate) const FAKETIME: SystemTool = SystemTool {
    program: "faketime",
    package: "faketime",
    asked: "--version",
    shows: "that steps of the calendar change nothing for the real binary",
};

/// Prometheus' own checker of rules and queries.
pub(crate) const PROMTOOL: SystemTool = SystemTool {
    program: "promtool",
    package: "prometheus",
    asked: "--version",
    shows: "that Prometheus understands the alert rules and the board",
};

impl SystemTool {
    /// Installs it where it is missing and may be installed. Where it stays missing this is said, and is a failure if it
    /// `must` be there.
    pub(crate) fn ensure(&self, must: bool) -> Result<()> {
        if self.is_there() {
            return Ok(());
        }
        eprintln!("{} is missing: installing the package {}.", self.program, self.package);
        let mut install = Command::new("apt-get");
        install.args(["install", "--yes", "--no-install-recommends", self.package]);
        install.env("DEBIAN_FRONTEND", "noninteractive");
        // A package that brings a service along must not start it for this.
        install.env("RUNLEVEL", "1");
        let installed = process::run(&mut install);
        if self.is_there() {
            return Ok(());
        }
        let told = format!(
            "{} is missing and could not be installed, so it is NOT shown {}; install the package {} by hand and try again",
            self.program, self.shows, self.package
        );
        if must {
            return installed.and_then(|()| bail!("it is still not found")).context(told);
        }
        eprintln!("{told}");
        Ok(())
    }

    fn is_there(&self) -> bool {
        let mut asked = Command::new(self.program);
        asked.arg(self.asked).stdout(Stdio::null()).stderr(Stdio::null());
        asked.status().is_ok_and(|status| status.success())
    }
}

type Version = (u64, u64, u64);

/// The first `N.N.N` among the words of a line.
fn version(line: &str) -> Option<Version> {
    line.split_whitespace().find_map(|word| {
        let mut numbers = word.splitn(3, '.').map(str::parse::<u64>);
        Some((numbers.next()?.ok()?, numbers.next()?.ok()?, numbers.next()?.ok()?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_what_the_tools_print_and_compare_as_numbers() {
        assert_eq!(version("cargo-nextest 0.9.151 (0a1b2c3 2026-09-01)"), Some((0, 9, 151)));
        assert_eq!(version("cargo-deny 0.20.2"), Some((0, 20, 2)));
        assert!(version("0.9.99") < version("0.9.151"));
        assert_eq!(version("release: unknown"), None);
    }

    #[test]
    fn a_tool_that_cannot_be_had_is_a_failure_that_names_it() {
        let tool = Tool {
            subcommand: "no-such-subcommand",
            package: "cargo-no-such-subcommand",
            version: "1.0.0",
            // Refused by cargo before it would look anywhere.
            options: &["--no-such-option"],
        };
        let error = format!("{:#}", tool.ensure().expect_err("it cannot be had"));
        assert!(error.contains("cargo-no-such-subcommand is missing, and could not be installed"), "{error}");
    }

    #[test]
    fn a_system_tool_that_cannot_be_had_fails_only_where_it_must_be_there() {
        let tool = SystemTool {
            program: "no-such-program-here",
            // Refused by apt-get before it would look anywhere.
            package: "--no-such-option",
            asked: "-V",
            shows: "anything",
        };
        tool.ensure(false).expect("it is only said");
        let error = format!("{:#}", tool.ensure(true).expect_err("it cannot be had"));
        assert!(error.contains("no-such-program-here is missing") && error.contains("NOT shown"), "{error}");
    }

    #[test]
    fn the_table_has_versions_that_can_be_compared() {
        assert!(version(NEXTEST.version).is_some());
        assert!(version(DENY.version).is_some());
    }
}
