//! The flags of the commands about the queue as a whole: pause, resume, lanes, workers, prune, check, stats.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use clap::builder::BoolishValueParser;
use longhaul_queue_core::JobState;
use url::Url;

use super::{FormatArg, HostRate, duration, jobs, lane, number, rate, run};

/// `queue stats`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  longhaul queue stats
  longhaul queue stats --watch --every 10s")]
pub(crate) struct StatsArgs {
    /// Show it again and again, until Ctrl-C
    #[arg(long, env = "LONGHAUL_WATCH", value_parser = BoolishValueParser::new())]
    pub(crate) watch: bool,
    /// With --watch: how often
    #[arg(long, value_name = "TIME", env = "LONGHAUL_EVERY", default_value = "2s", value_parser = interval)]
    pub(crate) every: Duration,
    #[command(flatten)]
    pub(crate) output: FormatArg,
}

/// `queue pause`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  longhaul queue pause --lane example.org --for 2h --reason 'they asked by mail'")]
pub(crate) struct PauseArgs {
    /// Only this host; without it, everything
    #[arg(long, value_name = "HOST", env = "LONGHAUL_LANE", value_parser = lane::parse)]
    pub(crate) lane: Option<Url>,
    /// For how long; without it, until `longhaul queue resume`
    #[arg(id = "for", long = "for", value_name = "TIME", env = "LONGHAUL_FOR", value_parser = length)]
    pub(crate) length: Option<Duration>,
    /// Why, for whoever meets the pause
    #[arg(long, value_name = "TEXT", env = "LONGHAUL_REASON")]
    pub(crate) reason: Option<String>,
    #[command(flatten)]
    pub(crate) output: FormatArg,
}

/// `queue resume`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  longhaul queue resume --lane example.org")]
pub(crate) struct ResumeArgs {
    /// Only this host; without it, the pause of everything
    #[arg(long, value_name = "HOST", env = "LONGHAUL_LANE", value_parser = lane::parse)]
    pub(crate) lane: Option<Url>,
    #[command(flatten)]
    pub(crate) output: FormatArg,
}

/// `queue lanes`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  longhaul queue lanes
  longhaul queue lanes --after example.org --limit 200")]
pub(crate) struct LanesArgs {
    /// At most so many
    #[arg(long, value_name = "N", env = "LONGHAUL_LIMIT", default_value = "50",
        value_parser = number::whole::<u16>(1..=10_000))]
    pub(crate) limit: u16,
    /// Go on after this host; they are sorted by name
    #[arg(long, value_name = "HOST", env = "LONGHAUL_AFTER", value_parser = lane::parse)]
    pub(crate) after: Option<Url>,
    #[command(flatten)]
    pub(crate) limits: LimitArgs,
    #[command(flatten)]
    pub(crate) output: FormatArg,
}

/// The limits that runs are started with, where a command has to know them.
#[derive(Debug, Clone, Args)]
pub(crate) struct LimitArgs {
    /// Of a run: requests in flight to a host
    ///
    /// As given to `queue run`: requests in flight to one host
    #[arg(long, value_name = "N", env = "LONGHAUL_MAX_PER_HOST", default_value = "4",
        value_parser = number::whole::<u32>(1..=1000))]
    pub(crate) max_per_host: u32,
    /// Of a run: paces, like example.org=1/s
    ///
    /// As given to `queue run`: how often requests to a host may start
    #[arg(long, value_name = "HOST=RATE", env = "LONGHAUL_RATE", value_delimiter = ',', value_parser = rate::parse)]
    pub(crate) rate: Vec<HostRate>,
    /// Of a run: your address
    ///
    /// As given to `queue run`: your address, for which some hosts grant more
    #[arg(long, value_name = "EMAIL", env = "LONGHAUL_CONTACT", value_parser = run::contact)]
    pub(crate) contact: Option<String>,
}

/// `queue workers`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  longhaul queue workers")]
pub(crate) struct WorkersArgs {
    #[command(flatten)]
    pub(crate) output: FormatArg,
}

/// `queue prune`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  longhaul queue prune --older-than 30d
  longhaul queue prune --older-than 90d --state error")]
pub(crate) struct PruneArgs {
    /// Only what ended so long ago or longer, like 30d
    #[arg(long, value_name = "TIME", env = "LONGHAUL_OLDER_THAN", value_parser = duration::parse)]
    pub(crate) older_than: Duration,
    /// Only what ended so: done, skipped, error (repeatable) [default: done and skipped]
    #[arg(long, value_name = "STATE", env = "LONGHAUL_STATE", value_delimiter = ',', value_parser = ended)]
    pub(crate) state: Vec<JobState>,
    #[command(flatten)]
    pub(crate) output: FormatArg,
}

/// `queue check`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  longhaul queue check
  longhaul queue check --repair --output-dir /data/papers")]
pub(crate) struct CheckArgs {
    /// Mend what is wrong; a file that is missing or altered is fetched again by the next run
    #[arg(long, env = "LONGHAUL_REPAIR", value_parser = BoolishValueParser::new())]
    pub(crate) repair: bool,
    /// The folder that the files are in
    #[arg(long, value_name = "DIR", env = "LONGHAUL_OUTPUT_DIR", default_value = "downloads")]
    pub(crate) output_dir: PathBuf,
    /// Compare files by their length alone; without it, each is read whole
    #[arg(long, env = "LONGHAUL_FAST", value_parser = BoolishValueParser::new())]
    pub(crate) fast: bool,
    #[command(flatten)]
    pub(crate) output: FormatArg,
}

fn interval(text: &str) -> Result<Duration, String> {
    match duration::parse(text)? {
        every if every < Duration::from_millis(100) => Err("0.1s is the least".to_owned()),
        every => Ok(every),
    }
}

fn length(text: &str) -> Result<Duration, String> {
    match duration::parse(text)? {
        Duration::ZERO => Err("that is no pause; `longhaul queue resume` ends one".to_owned()),
        length => Ok(length),
    }
}

fn ended(text: &str) -> Result<JobState, String> {
    let state = jobs::state(text)?;
    if state.is_terminal() {
        return Ok(state);
    }
    Err("only what has ended is pruned; write done, skipped or error".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_makes_no_sense_is_refused() {
        assert_eq!(interval("5s"), Ok(Duration::from_secs(5)));
        assert!(interval("0s").is_err());
        assert_eq!(length("2h"), Ok(Duration::from_hours(2)));
        assert!(length("0s").unwrap_err().contains("resume"));
        assert_eq!(ended("skipped"), Ok(JobState::Skipped));
        assert!(ended("queued").unwrap_err().contains("only what has ended"));
    }
}
