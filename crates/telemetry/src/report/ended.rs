//! What the events do not tell of a run: whose it was, why it ended, what is left.

use std::path::Path;

use longhaul_limiter::LaneRules;
use serde::Serialize;

/// A run that has ended, as whoever ran it knows it.
#[derive(Debug, Clone, Copy)]
pub struct EndedRun<'a> {
    /// The id that stands in the manifest's lines.
    pub run_id: &'a str,
    /// The program's version.
    pub version: &'a str,
    /// The queue's name, without secrets.
    pub queue: &'a str,
    /// How it ended.
    pub ended: RunEnding,
    /// Why, for people.
    pub because: Option<&'a str>,
    /// Where files are.
    pub output_dir: &'a Path,
    /// Where the manifest is.
    pub manifest: &'a Path,
    /// Where the attempts are, if they are written.
    pub attempts: Option<&'a Path>,
    /// Ended jobs that have no final name or manifest line yet.
    pub unpublished: u64,
    /// What the queue holds now; `None` if it could not say.
    pub left: Option<Left>,
    /// The caps and paces of the run.
    pub rules: &'a LaneRules,
    /// What a reason code means for people; empty for one that says all.
    pub advice: fn(&str) -> &'static str,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RunEnding {
    /// Nothing was left that could start soon.
    Drained,
    /// A budget was used up.
    Budget,
    /// It was asked to.
    Stopped,
    /// It could not go on.
    Failed,
}

/// What the whole queue holds after a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Left {
    /// Waiting.
    pub queued: u64,
    /// Held by other processes, or by this one if it was stopped at once.
    pub in_progress: u64,
    /// Done, in this run or an earlier one.
    pub done: u64,
    /// Skipped, in this run or an earlier one.
    pub skipped: u64,
    /// In error, in this run or an earlier one.
    pub error: u64,
}
