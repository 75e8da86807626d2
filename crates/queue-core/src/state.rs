//! The life of a job as one pure, total function.
//!
//! Stores persist a [`Transition`] and never invent one. INV-FINAL and INV-ATTEMPTS are kept here.

use serde::{Deserialize, Serialize};

/// Where a job is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// Waiting to be leased.
    Queued,
    /// Held by a worker process.
    InProgress,
    /// Fetched.
    Done,
    /// Not to be fetched.
    Skipped,
    /// Could not be fetched.
    Error,
}

impl JobState {
    /// All states, in the order in which they are shown.
    pub const ALL: [JobState; 5] =
        [JobState::Queued, JobState::InProgress, JobState::Done, JobState::Skipped, JobState::Error];

    /// The state's name, as stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            JobState::Queued => "queued",
            JobState::InProgress => "in_progress",
            JobState::Done => "done",
            JobState::Skipped => "skipped",
            JobState::Error => "error",
        }
    }

    /// The state of a name that [`JobState::as_str`] gave.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }

    /// Whether only an operator's act leaves it (INV-FINAL).
    pub fn is_terminal(self) -> bool {
        matches!(self, JobState::Done | JobState::Skipped | JobState::Error)
    }

    /// The state in which a job of another system enters this queue. Adoption is no event: it leaves no state of ours,
    /// it is where a life here begins. Who held a job there holds nothing here.
    #[must_use]
    pub fn adopted(self) -> Self {
        match self {
            JobState::Queued | JobState::InProgress => JobState::Queued,
            JobState::Done | JobState::Skipped | JobState::Error => self,
        }
    }

    /// What an event does to a job in this state.
    ///
    /// One match without a catch-all arm: whoever adds a state or an event is made to answer for every pair.
    ///
    /// # Errors
    /// If the event cannot happen to a job in this state.
    pub fn apply(self, event: JobEvent) -> Result<Transition, IllegalTransition> {
        use JobEvent as E;
        use JobState as S;
        let (to, charge) = match (self, event) {
            (S::Queued, E::Lease) => (S::InProgress, Charge::Nothing),
            (S::InProgress, E::Complete) => (S::Done, Charge::Nothing),
            (S::Queued | S::InProgress, E::Cancel) | (S::InProgress, E::Skip) => {
                (S::Skipped, Charge::Nothing)
            }
            (S::InProgress, E::Fail) => (S::Error, Charge::Attempt),
            (S::InProgress, E::Retry) => (S::Queued, Charge::Attempt),
            (S::InProgress, E::Defer | E::Release) => (S::Queued, Charge::Nothing),
            (S::InProgress, E::Throttle) => (S::Queued, Charge::Throttle),
            (S::InProgress, E::Lose) => (S::Queued, Charge::Loss),
            (S::InProgress, E::LoseLast) => (S::Error, Charge::Loss),
            (S::Done | S::Skipped | S::Error, E::Requeue) | (S::Error, E::RetryFailed) => {
                (S::Queued, Charge::Reset)
            }
            (
                S::Queued,
                E::Complete
                | E::Skip
                | E::Fail
                | E::Retry
                | E::Defer
                | E::Throttle
                | E::Release
                | E::Lose
                | E::LoseLast
                | E::Requeue
                | E::RetryFailed,
            )
            | (S::InProgress, E::Lease | E::Requeue | E::RetryFailed)
            | (
                S::Done | S::Skipped,
                E::Lease
                | E::Complete
                | E::Skip
                | E::Fail
                | E::Retry
                | E::Defer
                | E::Throttle
                | E::Release
                | E::Lose
                | E::LoseLast
                | E::Cancel
                | E::RetryFailed,
            )
            | (
                S::Error,
                E::Lease
                | E::Complete
                | E::Skip
                | E::Fail
                | E::Retry
                | E::Defer
                | E::Throttle
                | E::Release
                | E::Lose
                | E::LoseLast
                | E::Cancel,
            ) => return Err(IllegalTransition { from: self, event }),
        };
        Ok(Transition { to, charge })
    }
}

/// What can happen to a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum JobEvent {
    /// A worker process claims it.
    Lease,
    /// Its try ended well.
    Complete,
    /// Its try found that it is not to be fetched.
    Skip,
    /// Its try found that it cannot be fetched.
    Fail,
    /// Its try failed and another is to follow.
    Retry,
    /// Its try goes on in another lane or later.
    Defer,
    /// Its host asked for quiet.
    Throttle,
    /// Its worker gave it back.
    Release,
    /// Its worker process died.
    Lose,
    /// Its worker process died once too often.
    LoseLast,
    /// An operator cancelled it.
    Cancel,
    /// An operator wants it fetched again.
    Requeue,
    /// An operator wants a failed one tried again.
    RetryFailed,
}

impl JobEvent {
    /// All events.
    pub const ALL: [JobEvent; 13] = [
        JobEvent::Lease,
        JobEvent::Complete,
        JobEvent::Skip,
        JobEvent::Fail,
        JobEvent::Retry,
        JobEvent::Defer,
        JobEvent::Throttle,
        JobEvent::Release,
        JobEvent::Lose,
        JobEvent::LoseLast,
        JobEvent::Cancel,
        JobEvent::Requeue,
        JobEvent::RetryFailed,
    ];

    /// The event's name, as history shows it.
    pub fn as_str(self) -> &'static str {
        match self {
            JobEvent::Lease => "lease",
            JobEvent::Complete => "complete",
            JobEvent::Skip => "skip",
            JobEvent::Fail => "fail",
            JobEvent::Retry => "retry",
            JobEvent::Defer => "defer",
            JobEvent::Throttle => "throttle",
            JobEvent::Release => "release",
            JobEvent::Lose => "lose",
            JobEvent::LoseLast => "lose_last",
            JobEvent::Cancel => "cancel",
            JobEvent::Requeue => "requeue",
            JobEvent::RetryFailed => "retry_failed",
        }
    }

    /// Whether it brings a reason code; the others leave the job's as it was.
    #[cfg(feature = "sqlite")]
    pub(crate) fn has_reason(self) -> bool {
        !matches!(
            self,
            JobEvent::Lease | JobEvent::Defer | JobEvent::Release | JobEvent::Requeue | JobEvent::RetryFailed
        )
    }

    /// Whether an operator does it.
    #[cfg(feature = "sqlite")]
    pub(crate) fn is_operators(self) -> bool {
        matches!(self, JobEvent::Cancel | JobEvent::Requeue | JobEvent::RetryFailed)
    }
}

/// What a transition counts against the job (INV-ATTEMPTS).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Charge {
    /// Nothing.
    Nothing,
    /// One attempt.
    Attempt,
    /// One loss: its process died.
    Loss,
    /// One throttle, if the lane served others since the job's last try.
    Throttle,
    /// Attempts, losses and throttles start again at 0.
    Reset,
}

/// What an event does to a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Transition {
    /// The new state.
    pub to: JobState,
    /// What is counted.
    pub charge: Charge,
}

/// An event that cannot happen to a job in this state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[error("a job that is {} cannot {}", from.as_str(), event.as_str())]
pub struct IllegalTransition {
    /// The state.
    pub from: JobState,
    /// The event.
    pub event: JobEvent,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::fmt::Write as _;

    use super::*;

    #[test]
    fn the_grid_of_states_and_events() {
        let mut grid = String::new();
        for event in JobEvent::ALL {
            for state in JobState::ALL {
                let cell = match state.apply(event) {
                    Ok(Transition { to, charge }) => format!("{} ({charge:?})", to.as_str()),
                    Err(_) => "-".to_owned(),
                };
                writeln!(grid, "{:12} {:11} -> {cell}", event.as_str(), state.as_str()).unwrap();
            }
        }
        insta::assert_snapshot!(grid);
    }

    #[test]
    fn inv_final_only_operators_leave_a_terminal_state() {
        for state in JobState::ALL.into_iter().filter(|state| state.is_terminal()) {
            for event in JobEvent::ALL {
                let operator = matches!(event, JobEvent::Requeue | JobEvent::RetryFailed);
                assert!(operator || state.apply(event).is_err(), "{state:?} {event:?}");
            }
        }
    }
}
