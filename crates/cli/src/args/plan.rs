//! The flags of `queue plan`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use clap::builder::BoolishValueParser;

use super::{FormatArg, LimitArgs, duration, number};

/// `queue plan`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  longhaul queue plan papers.jsonl --workers 16 --request-time 2s")]
pub(crate) struct PlanArgs {
    /// Files as `queue import` takes them; - is stdin
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// How long a request takes
    ///
    /// How long a request takes, from its start to the file's end
    #[arg(long, value_name = "TIME", env = "LONGHAUL_REQUEST_TIME", default_value = "1s", value_parser = request_time)]
    pub(crate) request_time: Duration,
    /// Of a run: jobs at once
    ///
    /// As given to `queue run`: jobs that run at once
    #[arg(long, value_name = "N", env = "LONGHAUL_WORKERS", default_value = "8",
        value_parser = number::whole::<u16>(1..=256))]
    pub(crate) workers: u16,
    /// Of a run: robots.txt is not asked for
    ///
    /// As given to `queue run`: robots.txt is not asked for
    #[arg(long, env = "LONGHAUL_NO_ROBOTS", value_parser = BoolishValueParser::new())]
    pub(crate) no_robots: bool,
    #[command(flatten)]
    pub(crate) limits: LimitArgs,
    #[command(flatten)]
    pub(crate) output: FormatArg,
}

fn request_time(text: &str) -> Result<Duration, String> {
    match duration::parse(text)? {
        time if time < Duration::from_millis(1) => Err("0.001s is the least".to_owned()),
        time => Ok(time),
    }
}
