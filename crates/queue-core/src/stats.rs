//! What is in the queue, counted.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::JobState;

/// Exact counts by state, kept in the transaction that changes a state (INV-CONSERVE).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct StateCounts {
    /// Waiting to be leased.
    pub queued: u64,
    /// Held by a worker process.
    pub in_progress: u64,
    /// Fetched.
    pub done: u64,
    /// Not to be fetched.
    pub skipped: u64,
    /// Could not be fetched.
    pub error: u64,
}

impl StateCounts {
    /// All jobs ever accepted.
    pub fn total(&self) -> u64 {
        self.queued + self.in_progress + self.done + self.skipped + self.error
    }

    /// The count of one state.
    pub fn get(&self, state: JobState) -> u64 {
        match state {
            JobState::Queued => self.queued,
            JobState::InProgress => self.in_progress,
            JobState::Done => self.done,
            JobState::Skipped => self.skipped,
            JobState::Error => self.error,
        }
    }

    /// The same, to be changed.
    pub fn get_mut(&mut self, state: JobState) -> &mut u64 {
        match state {
            JobState::Queued => &mut self.queued,
            JobState::InProgress => &mut self.in_progress,
            JobState::Done => &mut self.done,
            JobState::Skipped => &mut self.skipped,
            JobState::Error => &mut self.error,
        }
    }
}

impl QueueStats {
    /// How far back [`QueueStats::ended_lately`] looks.
    pub const LATELY: Duration = Duration::from_mins(5);
    /// Up to where it counts.
    pub(crate) const ENDED_LATELY_MAX: usize = 100_001;
}

/// The queue at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct QueueStats {
    /// Exact counts.
    pub counts: StateCounts,
    /// Queued jobs whose own time has come, in lanes that are open; exact up to 10,000, then 10,001.
    pub ready: u64,
    /// Queued jobs whose own time has come, in lanes that a cool-down or a pause closes; exact up to 10,000, then 10,001.
    pub closed: u64,
    /// Queued jobs that wait for their own time; exact up to 10,000, then 10,001.
    pub delayed: u64,
    /// Jobs that ended in the last five minutes and are published; exact up to 100,000, then 100,001.
    pub ended_lately: u64,
    /// For how long the own time of a queued job has come at most, in whatever lane.
    pub oldest_ready: Option<Duration>,
    /// Lanes that are closed by a cool-down now.
    pub lanes_cooling: u64,
    /// When the first of them opens.
    pub next_cooled: Option<Duration>,
    /// Whether the whole queue is paused: who did it and why.
    pub paused: Option<String>,
    /// For how much longer it is paused; `None` if it is not, or until somebody resumes it.
    pub paused_for: Option<Duration>,
    /// Lanes that are paused by an operator.
    pub lanes_paused: u64,
    /// How long until something could be leased if nothing else happens: zero is now, `None` is never (nothing
    /// queued, or all of it waits for an event such as a slot or a resume).
    pub next_open: Option<Duration>,
    /// The same without what a pause holds back, of the whole queue or of a lane, also one with an end: whoever waits
    /// for no paused work waits so long.
    pub next_unpaused: Option<Duration>,
    /// Live worker processes.
    pub workers: u64,
}
