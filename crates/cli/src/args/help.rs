//! The command line as it is shown: each command's help fits a screen of 80 × 24.
//!
//! The global options are told once, by `longhaul --help`; environment variables, keys and exit codes by the manual. Of a run's
//! many flags `--help` shows those that most runs need, and `--help-all` all of them. With everything repeated for every
//! command, none would fit.

use clap::builder::{Resettable, StyledStr};
use clap::{Arg, Command, CommandFactory};

use super::Cli;

/// What stands below the help of each command,
const BELOW: &str = "See `longhaul --help` for options of every command, like --queue.";
/// below that of a run,
const BELOW_RUN: &str = "All flags: `longhaul queue run --help-all`; of every command: `longhaul --help`.";
/// and below that of the program itself.
const BELOW_PROGRAM: &str = "\
Example: longhaul queue run --import papers.jsonl --drain
Environment variables, settings and exit codes: `longhaul man | man -l -`";
/// What all that work with a queue are listed above.
const BELOW_QUEUE: &str = "\
Example: longhaul queue import papers.jsonl && longhaul queue run --drain
Each has a --help; `longhaul --help` has what all of them take, like --queue.";

/// As the usual form, without what a list of many commands has no room for.
const TEMPLATE_OF_LIST: &str = "{usage-heading} {usage}\n\n{subcommands}{after-help}";

/// The flags of a run that its help shows.
const COMMON_OF_RUN: [&str; 13] = [
    "drain",
    "import",
    "format",
    "output_dir",
    "workers",
    "max_per_host",
    "rate",
    "contact",
    "grace",
    "max_jobs",
    "max_runtime",
    "max_bytes",
    "help",
];

/// The command line that people meet. Manual, reference and completions are made from [`Cli`] itself, which says more.
pub(crate) fn command() -> Command {
    made(false)
}

/// The help of a run with all of its flags, in groups.
pub(crate) fn all_of_run() -> StyledStr {
    let mut command = made(true);
    command.build();
    let queue = command.find_subcommand_mut("queue");
    let run = queue.and_then(|queue| queue.find_subcommand_mut("run"));
    run.map(Command::render_help).unwrap_or_default()
}

fn made(all_of_run: bool) -> Command {
    let command = Cli::command();
    let hidden: Vec<Arg> =
        command.get_arguments().filter(|arg| arg.is_global_set()).map(|arg| arg.clone().hide(true)).collect();
    let command = command.mut_args(|arg| {
        let takes_value = arg.get_action().takes_values();
        let arg = arg.hide_env(true).help_heading(Resettable::Reset).long_help(Resettable::Reset);
        if takes_value { arg.hide_possible_values(true) } else { arg }
    });
    let command = command.long_about(Resettable::Reset).after_help(BELOW_PROGRAM);
    command.mut_subcommands(|sub| shorten(sub, &hidden, all_of_run))
}

/// Puts a command's help into the short form, for -h and --help alike: one with long texts takes five lines an option.
fn shorten(command: Command, hidden: &[Arg], all_of_run: bool) -> Command {
    let is_run = command.get_name() == "run";
    let command = command.mut_args(|arg| {
        let arg = arg.hide_env(true).long_help(Resettable::Reset);
        match arg.get_id().as_str() {
            "format" => arg.help("Print as table, json or jsonl").hide_possible_values(true),
            "help_all" => arg.hide(true),
            id if is_run && !all_of_run => {
                let is_common = COMMON_OF_RUN.contains(&id);
                arg.hide(!is_common).help_heading(Resettable::Reset)
            }
            _ => arg,
        }
    });
    let text = |text: Option<&StyledStr>| text.map(ToString::to_string).unwrap_or_default();
    let (about, long) = (text(command.get_about()), text(command.get_long_about()));
    // What a longer description adds.
    let more = long.strip_prefix(&about).unwrap_or(&long).trim_start_matches(['.', '\n']).trim().to_owned();
    let parts = match command.get_name() {
        "queue" => [String::new(), String::new(), BELOW_QUEUE.to_owned()],
        "run" if !all_of_run => [String::new(), text(command.get_after_help()), BELOW_RUN.to_owned()],
        _ => [more, text(command.get_after_help()), BELOW.to_owned()],
    };
    let below: Vec<String> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    let mut command = command.args(hidden).long_about(Resettable::Reset).after_help(below.join("\n\n"));
    if command.get_name() == "queue" {
        command = command.help_template(TEMPLATE_OF_LIST);
    }
    command.mut_subcommands(|sub| shorten(sub, hidden, all_of_run))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINES: usize = 24;
    const COLUMNS: usize = 80;

    /// Says of a command and all below it what does not fit, or what is missing.
    fn judge(program: &Command, command: &Command, path: &str, wrong: &mut Vec<String>) {
        let asked = |flag| {
            let asked = program.clone().try_get_matches_from(path.split(' ').chain([flag]));
            asked.unwrap_err().to_string()
        };
        let help = asked("--help");
        if asked("-h") != help {
            wrong.push(format!("{path}: -h and --help differ"));
        }
        let lines = help.trim_end().lines().count();
        if lines > LINES {
            wrong.push(format!("{path}: {lines} lines, {LINES} fit a screen:\n{help}"));
        }
        for line in help.lines().filter(|line| line.chars().count() > COLUMNS) {
            wrong.push(format!("{path}: wider than {COLUMNS} columns: {line}"));
        }
        let example = help.split_once("Example:").map(|(_, below)| below.trim_start());
        if !example.is_some_and(|example| example.starts_with(path)) {
            wrong.push(format!("{path}: no example that begins with it:\n{help}"));
        }
        for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
            judge(program, below, &format!("{path} {}", below.get_name()), wrong);
        }
    }

    #[test]
    fn the_help_of_every_command_fits_a_screen_and_has_an_example() {
        let program = command().term_width(COLUMNS);
        let mut wrong = Vec::new();
        judge(&program, &program, "longhaul", &mut wrong);
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    #[test]
    fn help_all_shows_every_flag_of_a_run_and_help_those_that_most_runs_need() {
        let whole = all_of_run().to_string();
        let command = Cli::command();
        let run = command.find_subcommand("queue").unwrap().find_subcommand("run").unwrap();
        for arg in run.get_arguments().filter(|arg| arg.get_id() != "help_all") {
            let flag = format!("--{}", arg.get_long().unwrap());
            assert!(whole.contains(&flag), "{flag} is not shown:\n{whole}");
        }
        assert!(whole.contains("Usage: longhaul queue run") && whole.contains("Ctrl-C stops it"), "{whole}");
        for id in COMMON_OF_RUN.iter().filter(|id| **id != "help") {
            assert!(run.get_arguments().any(|arg| arg.get_id() == *id), "{id} is no flag of a run");
        }
    }
}
