//! The command line as it is shown: each command's help fits a screen.
//!
//! The global options are told once, by `longhaul --help`, and environment variables by their rule; with both repeated for
//! every command, none would fit.

use clap::builder::{Resettable, StyledStr};
use clap::{Arg, Command, CommandFactory};

use super::Cli;

/// What stands below the help of each command.
const BELOW: &str = "See `longhaul --help` for options of every command, like --queue.";
/// What the help of the program itself says of variables.
const VARIABLES: &str =
    "Every option can come from the environment: --max-per-host is LONGHAUL_MAX_PER_HOST.";

/// The command line that people meet. Manual, reference and completions are made from [`Cli`] itself, which says more.
pub(crate) fn command() -> Command {
    let command = Cli::command();
    let hidden: Vec<Arg> =
        command.get_arguments().filter(|arg| arg.is_global_set()).map(|arg| arg.clone().hide(true)).collect();
    let below = command.get_after_help().map(|text| format!("{text}\n\n{VARIABLES}")).unwrap_or_default();
    let command = command.mut_args(|arg| arg.hide_env(true)).after_help(below);
    command.mut_subcommands(|sub| shorten(sub, &hidden))
}

/// Puts a command's help into the short form, for -h and --help alike: one with long texts takes five lines an option.
fn shorten(command: Command, hidden: &[Arg]) -> Command {
    let command = command.mut_args(|arg| {
        let arg = arg.hide_env(true).long_help(Resettable::Reset);
        match arg.get_id().as_str() {
            "format" => arg.help("Print as table, json or jsonl").hide_possible_values(true),
            // For the few who send metrics of very many hosts, or keep attempts for months; manual and reference tell it.
            "metrics_label_values" | "attempts_max_size" | "attempts_keep" => arg.hide(true),
            _ => arg,
        }
    });
    let text = |text: Option<&StyledStr>| text.map(ToString::to_string).unwrap_or_default();
    let (about, long) = (text(command.get_about()), text(command.get_long_about()));
    // What a longer description adds.
    let more = long.strip_prefix(&about).unwrap_or(&long).trim_start_matches(['.', '\n']).trim().to_owned();
    let parts = [more, text(command.get_after_help()), BELOW.to_owned()];
    let below: Vec<String> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    let command = command.args(hidden).long_about(Resettable::Reset).after_help(below.join("\n\n"));
    command.mut_subcommands(|sub| shorten(sub, hidden))
}
