//! What is said of a command line that cannot be read.
//!
//! The parser's own messages serve where they are true. They are not where a value came from a variable of the environment
//! (they blame a flag that nobody gave), for a value below zero (they take it for a flag), and where the name that they
//! propose has only its beginning in common with what was typed. They also repeat what was given, which may be a secret.

use std::ffi::OsString;

use clap::Command;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::config::{Configuration, is_near};
use crate::exit::Exit;
use crate::output::Console;

/// Says what is wrong and ends the program: with 2, or with 0 for what was asked for, such as --help.
pub(crate) fn end(command: &Command, error: clap::Error) -> ! {
    let given: Vec<OsString> = std::env::args_os().collect();
    match plain(command, &error, &given) {
        Some(lines) => {
            let console = Console::new(false);
            for line in &lines {
                console.error(line);
            }
            std::process::exit(i32::from(Exit::Usage.code()))
        }
        None => without_secrets(without_far_names(error)).exit(),
    }
}

/// Our own words for it, if they are better.
fn plain(command: &Command, error: &clap::Error, given: &[OsString]) -> Option<Vec<String>> {
    let named = text(error, ContextKind::InvalidArg);
    match error.kind() {
        ErrorKind::ValueValidation | ErrorKind::InvalidValue => {
            let long = named.split(' ').next()?;
            let faults = Configuration::faults_of_variable(command, long, given);
            (!faults.is_empty()).then(|| faults.iter().map(ToString::to_string).collect())
        }
        ErrorKind::UnknownArgument => {
            let digits =
                named.strip_prefix('-').filter(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
            // A cluster of short flags is named by its first letter alone.
            digits?;
            let given: Vec<String> = given.iter().map(|one| one.to_string_lossy().into_owned()).collect();
            let at = given.iter().position(|one| one.starts_with(&named))?;
            let before = given.get(at.checked_sub(1)?).filter(|flag| flag.starts_with("--"))?;
            Some(vec![format!("{before} {}: nothing here can be below zero", given[at])])
        }
        _ => None,
    }
}

/// Proposes no name that only begins like the one that was typed.
fn without_far_names(mut error: clap::Error) -> clap::Error {
    let (typed, proposed) = (text(&error, ContextKind::InvalidArg), text(&error, ContextKind::SuggestedArg));
    if !proposed.is_empty() && !is_near(typed.trim_start_matches('-'), proposed.trim_start_matches('-')) {
        error.remove(ContextKind::SuggestedArg);
    }
    error
}

fn without_secrets(mut error: clap::Error) -> clap::Error {
    let is_header = text(&error, ContextKind::InvalidArg).starts_with("--header");
    for kind in [ContextKind::InvalidValue, ContextKind::InvalidArg] {
        let given = text(&error, kind);
        let has_user_info = given.split_once("://").is_some_and(|(_, rest)| rest.contains(['@', '?']));
        if has_user_info || (is_header && kind == ContextKind::InvalidValue) {
            error.insert(kind, ContextValue::String("***".to_owned()));
        }
    }
    error
}

fn text(error: &clap::Error, kind: ContextKind) -> String {
    match error.get(kind) {
        Some(ContextValue::String(text)) => text.clone(),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(line: &[&str]) -> clap::Error {
        crate::args::command().try_get_matches_from(line).unwrap_err()
    }

    #[test]
    fn a_value_below_zero_is_told_as_one() {
        let line = ["longhaul", "queue", "run", "--grace", "-5s"];
        let given: Vec<OsString> = line.iter().map(OsString::from).collect();
        let said = plain(&crate::args::command(), &error(&line), &given).unwrap();
        assert_eq!(said, ["--grace -5s: nothing here can be below zero"]);
    }

    #[test]
    fn only_a_name_that_is_near_is_proposed() {
        let proposed = |flag: &str| {
            let error = without_far_names(error(&["longhaul", "queue", "run", flag]));
            text(&error, ContextKind::SuggestedArg)
        };
        assert_eq!(proposed("--worker"), "--workers");
        assert_eq!(proposed("--max-per-hosts"), "--max-per-host");
        assert_eq!(proposed("--max-per-country"), "", "--max-per-host is something else");
    }
}
