//! The command line: what may be said, its environment variables and its defaults.
//!
//! The first paragraph of a flag's text is what fits a screen; if there is a second one, that says all, for the manual.
//! What the values mean together (a heartbeat against its lease) is checked by the command that uses them.

mod config;
mod duration;
mod header;
mod help;
mod import;
mod jobs;
mod lane;
mod number;
mod operate;
mod plan;
mod rate;
mod resolver;
mod run;
mod size;

use std::path::PathBuf;

use clap::builder::BoolishValueParser;
use clap::{Args, Parser, Subcommand, ValueEnum};
use longhaul_limiter::{Keying, LaneRules};

use crate::store::Opened;

pub(crate) use config::{CompletionsArgs, ConfigArgs, ConfigCommand, ConfigShowArgs, ManArgs};
pub(crate) use duration::parse as parse_duration;
pub(crate) use header::{HostHeader, parse as parse_header};
pub(crate) use help::{all_of_run, command};
pub(crate) use import::{EnqueueArgs, ImportArgs, ManifestArgs};
pub(crate) use jobs::{
    CancelArgs, ExplainArgs, FilterArgs, IdsArgs, ListArgs, RequeueArgs, RetryFailedArgs, ShowArgs,
};
pub(crate) use operate::{
    CheckArgs, LanesArgs, LimitArgs, PauseArgs, PruneArgs, ResumeArgs, StatsArgs, WorkersArgs,
};
pub(crate) use plan::PlanArgs;
pub(crate) use rate::{HostLimit, HostRate, parse as parse_rate};
pub(crate) use resolver::{ResolverCap, parse as parse_resolver_cap};
pub(crate) use run::{Layout, RunArgs};
pub(crate) use size::parse as parse_size;

/// Fetches a list of artifacts in parallel; hammers nobody and loses nothing
///
/// What is to be fetched (papers, data sets, pages) is kept in a queue, a file, over hours or weeks and over crashes.
#[derive(Debug, Parser)]
#[command(name = "longhaul", version, disable_help_subcommand = true, arg_required_else_help = true)]
#[command(after_help = "\
Example:
  longhaul queue import papers.jsonl
  longhaul queue run --drain --contact you@example.org

Exit codes:
    0  all as asked
    1  the program could not do its work
    2  wrong usage or configuration
    3  the run ended as asked, but some jobs are in error
    4  some input lines were rejected; the good ones are in
    5  a budget ended the run
    6  drained, but work remains
  130  stopped by Ctrl-C (SIGINT)
  143  stopped by SIGTERM or SIGHUP")]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command understands.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// File with settings [default: longhaul.toml]
    ///
    /// The file with settings [default: longhaul.toml in the working directory, else in the folder longhaul of ~/.config]
    #[arg(long, short, global = true, value_name = "FILE", env = "LONGHAUL_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    /// The queue's file
    ///
    /// The file that the queue is kept in; made with its folder by what fills it, for its owner alone
    #[arg(long, global = true, value_name = "PATH", env = "LONGHAUL_QUEUE", default_value = "state/workqueue.sqlite",
        value_parser = queue_path)]
    pub(crate) queue: PathBuf,
    /// full, or normal (risks a power cut)
    ///
    /// What a change must have survived when it counts: `full` a power cut, `normal` a crash of the program
    #[arg(long, global = true, value_name = "MODE", env = "LONGHAUL_DURABILITY", default_value = "full")]
    pub(crate) durability: Durability,
    /// Count the hosts of a domain as one
    ///
    /// Count all hosts of a registrable domain as one, like cdn.example.org and www.example.org; a queue keeps to what it
    /// was made with
    #[arg(long, global = true, env = "LONGHAUL_REGISTRABLE_DOMAIN", value_parser = BoolishValueParser::new())]
    pub(crate) registrable_domain: bool,
    /// What is logged: off to trace
    ///
    /// What is logged to stderr: off, error, warn, info, debug, trace, or a filter like `longhaul_worker=debug`
    #[arg(long, global = true, value_name = "LEVEL", env = "LONGHAUL_LOG", default_value = "warn")]
    pub(crate) log: String,
    /// How it is logged: human or json
    ///
    /// How it is logged
    #[arg(long, global = true, value_name = "FORMAT", env = "LONGHAUL_LOG_FORMAT", default_value = "human")]
    pub(crate) log_format: LogFormat,
    /// Results, warnings and errors alone
    ///
    /// No progress and no hints; results, warnings and errors alone
    #[arg(long, global = true, env = "LONGHAUL_QUIET", value_parser = BoolishValueParser::new())]
    pub(crate) quiet: bool,
    /// The queue that the command has opened.
    #[arg(skip)]
    pub(crate) opened: Opened,
}

impl Global {
    /// How hosts become lanes.
    pub(crate) fn keying(&self) -> Keying {
        Keying { registrable_domain: self.registrable_domain, ..LaneRules::default().keying }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Durability {
    Full,
    Normal,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    Human,
    Json,
}

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    Table,
    /// One JSON object
    Json,
    /// One JSON object a line; where there is one alone, the same as json
    Jsonl,
}

/// How a command's result is printed.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct FormatArg {
    /// Print as table, json or jsonl
    #[arg(
        long,
        value_name = "FORMAT",
        env = "LONGHAUL_FORMAT",
        default_value = "table",
        hide_possible_values = true
    )]
    pub(crate) format: Format,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Work with a queue: fill it, run it, look at it
    #[command(subcommand, arg_required_else_help = true)]
    Queue(QueueCommand),
    /// Look at the settings and where each comes from
    ///
    /// `show` says what they are, `check` what is wrong with them.
    #[command(subcommand, arg_required_else_help = true)]
    #[command(after_help = "Example:\n  longhaul config show")]
    Config(ConfigCommand),
    /// Print completions for a shell
    #[command(after_help = "Example:\n  longhaul completions bash >> ~/.bash_completion")]
    Completions(CompletionsArgs),
    /// Print the manual's page of the program or of a command
    #[command(
        after_help = "Example:\n  longhaul man queue run | man -l -\n  longhaul man --dir /usr/local/share/man/man1"
    )]
    Man(ManArgs),
    /// Print the reference of all commands, flags, variables and keys as Markdown
    #[command(hide = true)]
    Reference,
}

#[derive(Debug, Subcommand)]
pub(crate) enum QueueCommand {
    /// Put artifacts from files into the queue
    ///
    /// A line is a JSON object with an `id`, an OpenAlex work, a DOI or a URL. An import can be repeated.
    Import(ImportArgs),
    /// Put one artifact into the queue
    ///
    /// If it is in the queue already, it is left as it is, and the answer says so.
    Enqueue(EnqueueArgs),
    /// Fetch what is in the queue
    ///
    /// Ctrl-C stops it: running jobs get --grace to finish, a later run goes on.
    Run(Box<RunArgs>),
    /// Show what is in the queue, in numbers
    Stats(StatsArgs),
    /// List jobs by their numbers
    List(ListArgs),
    /// Show all that is known of one job, with its history
    Show(ShowArgs),
    /// Say why a job is not running now, and when it could
    ///
    /// While a run is at work, by the limits of that run, whatever is given here.
    Explain(ExplainArgs),
    /// Give jobs in error another chance, with fresh attempts
    RetryFailed(RetryFailedArgs),
    /// Fetch jobs again that have ended, however they did
    Requeue(RequeueArgs),
    /// Take jobs out of the queue; one that runs is stopped
    Cancel(CancelArgs),
    /// Say how long an import will take, and what bounds it
    ///
    /// It simulates a run under the limits; no host is asked, and no queue is touched.
    Plan(PlanArgs),
    /// Let nothing start any more, everywhere or at one host
    Pause(PauseArgs),
    /// End a pause
    Resume(ResumeArgs),
    /// Show hosts: what waits for them, and why one is closed
    ///
    /// While a run is at work, by the limits of that run, whatever is given here.
    Lanes(LanesArgs),
    /// Show the processes that work on the queue
    Workers(WorkersArgs),
    /// Forget the details of jobs that ended long ago
    Prune(PruneArgs),
    /// Check the queue and its finished files, and mend them
    Check(CheckArgs),
    /// Merge manifests: one line for each artifact
    ///
    /// Of the lines of an artifact the last in its file wins, and of several files' the one with the latest timestamp; where one
    /// has none, the file that is named later. Bad lines are named and left out.
    Manifest(ManifestArgs),
}

fn queue_path(text: &str) -> Result<PathBuf, String> {
    let scheme = text.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase());
    match scheme.as_deref() {
        Some("postgres" | "postgresql") => {
            Err("this build has no PostgreSQL; name a file, which is made if it is missing".to_owned())
        }
        Some(_) => Err("a queue is a file, not a URL".to_owned()),
        None if text.trim().is_empty() => Err("a queue is a file; this names none".to_owned()),
        None => Ok(PathBuf::from(text)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_contradicts_itself_nowhere() {
        help::command().debug_assert();
    }

    #[test]
    fn every_flag_has_an_environment_variable() {
        fn check(command: &clap::Command) {
            for arg in command.get_arguments().filter(|arg| arg.get_long().is_some()) {
                let id = arg.get_id().as_str();
                if matches!(id, "help" | "help_all" | "version") {
                    continue;
                }
                let wanted = format!("LONGHAUL_{}", id.to_uppercase());
                let found = arg.get_env().map(|name| name.to_string_lossy().into_owned());
                assert_eq!(found, Some(wanted), "{} --{id}", command.get_name());
            }
            command.get_subcommands().for_each(check);
        }
        check(&help::command());
    }
}
