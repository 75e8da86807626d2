//! The flags of the commands about jobs: list, show, explain, retry-failed, requeue, cancel.

use clap::Args;
use clap::builder::BoolishValueParser;
use longhaul_queue_core::{JobId, JobState};
use url::Url;

use super::{FormatArg, LimitArgs, lane, number};

/// `queue list`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  longhaul queue list --state error --reason gone
  longhaul queue list --state error --format jsonl > failed.jsonl

Lines of jsonl hold URLs as they were imported, with keys in them, so that they
can be imported again.")]
pub(crate) struct ListArgs {
    #[command(flatten)]
    pub(crate) filter: FilterArgs,
    /// Only in this state: queued, in_progress, done, skipped, error
    #[arg(long, value_name = "STATE", env = "LONGHAUL_STATE", value_parser = state)]
    pub(crate) state: Option<JobState>,
    /// At most so many [default: 50; with jsonl all]
    #[arg(long, value_name = "N", env = "LONGHAUL_LIMIT", value_parser = number::whole::<u64>(1..=u64::MAX))]
    pub(crate) limit: Option<u64>,
    /// Go on after the job of this number
    #[arg(long, value_name = "JOB", env = "LONGHAUL_AFTER", value_parser = job)]
    pub(crate) after: Option<JobId>,
    #[command(flatten)]
    pub(crate) output: FormatArg,
}

/// Which jobs are meant.
#[derive(Debug, Clone, Args)]
pub(crate) struct FilterArgs {
    /// Only of this host
    #[arg(long, value_name = "HOST", env = "LONGHAUL_LANE", value_parser = lane::parse)]
    pub(crate) lane: Option<Url>,
    /// Only with this reason, like timeout or gone
    #[arg(long, value_name = "REASON", env = "LONGHAUL_REASON")]
    pub(crate) reason: Option<String>,
}

/// `queue show`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  longhaul queue show 10.1000/x
  longhaul queue show 17 --format json")]
pub(crate) struct ShowArgs {
    /// The artifact as you would type it (10.1000/x, doi:10.1000/x, a URL), or its job's number
    pub(crate) id: String,
    #[command(flatten)]
    pub(crate) number: NumberArg,
    #[command(flatten)]
    pub(crate) output: FormatArg,
}

/// `queue explain`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  longhaul queue explain 10.1000/x")]
pub(crate) struct ExplainArgs {
    /// The artifact as you would type it (10.1000/x, doi:10.1000/x, a URL), or its job's number
    pub(crate) id: String,
    #[command(flatten)]
    pub(crate) number: NumberArg,
    #[command(flatten)]
    pub(crate) limits: LimitArgs,
    #[command(flatten)]
    pub(crate) output: FormatArg,
}

/// `queue retry-failed`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  longhaul queue retry-failed --reason timeout --dry-run
  longhaul queue retry-failed --reason timeout")]
pub(crate) struct RetryFailedArgs {
    #[command(flatten)]
    pub(crate) filter: FilterArgs,
    /// At most so many, in the order in which they were enqueued
    #[arg(long, value_name = "N", env = "LONGHAUL_LIMIT", value_parser = number::whole::<u64>(1..=u64::MAX))]
    pub(crate) limit: Option<u64>,
    /// Say how many it would be, and change nothing
    #[arg(long, env = "LONGHAUL_DRY_RUN", value_parser = BoolishValueParser::new())]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) output: FormatArg,
}

/// `queue requeue`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  longhaul queue requeue 10.1000/x 10.1000/y")]
pub(crate) struct RequeueArgs {
    #[command(flatten)]
    pub(crate) jobs: IdsArgs,
}

/// `queue cancel`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  longhaul queue cancel 10.1000/x 17")]
pub(crate) struct CancelArgs {
    #[command(flatten)]
    pub(crate) jobs: IdsArgs,
}

/// What a bare number means.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct NumberArg {
    /// A number is a job's, also where an artifact is called so
    #[arg(long, env = "LONGHAUL_JOB", value_parser = BoolishValueParser::new())]
    pub(crate) job: bool,
}

/// Some jobs, each named.
#[derive(Debug, Args)]
pub(crate) struct IdsArgs {
    /// Artifacts as you would type them (10.1000/x, doi:10.1000/x, a URL), or their jobs' numbers
    #[arg(required = true, value_name = "ID")]
    pub(crate) ids: Vec<String>,
    #[command(flatten)]
    pub(crate) number: NumberArg,
    #[command(flatten)]
    pub(crate) output: FormatArg,
}

pub(super) fn state(text: &str) -> Result<JobState, String> {
    let name = text.trim().to_ascii_lowercase().replace('-', "_");
    JobState::parse(&name).ok_or_else(|| {
        let names: Vec<&str> = JobState::ALL.iter().map(|state| state.as_str()).collect();
        format!("write one of {}", names.join(", "))
    })
}

fn job(text: &str) -> Result<JobId, String> {
    match text.trim().parse::<i64>() {
        Ok(number) if number >= 0 => Ok(JobId(number)),
        _ => Err("a job's number is needed, as `longhaul queue list` shows it".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_and_numbers_are_read_as_people_write_them() {
        assert_eq!(state("in-progress"), Ok(JobState::InProgress));
        assert_eq!(state(" Error "), Ok(JobState::Error));
        assert_eq!(state("failed").unwrap_err(), "write one of queued, in_progress, done, skipped, error");
        assert_eq!(job("17"), Ok(JobId(17)));
        assert!(job("-1").is_err() && job("10.1/x").is_err());
    }
}
