//! How a try ends, and what the store answers.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{JobEvent, JobState, LaneClosure, LaneReport, LeaseBatch, LeaseToken, Place, StoreId};

/// The end of one try. Fenced on its own: a batch with a stale one settles all others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settlement {
    /// The claim that ends.
    pub token: LeaseToken,
    /// How it ended.
    pub verdict: Verdict,
    /// What it learned about hosts, oldest first.
    pub lanes: Vec<LaneReport>,
}

impl Settlement {
    /// A settlement that learned nothing about hosts.
    pub fn new(token: LeaseToken, verdict: Verdict) -> Self {
        Self { token, verdict, lanes: Vec::new() }
    }

    /// The same with what was learned about hosts.
    #[must_use]
    pub fn with_lanes(mut self, lanes: Vec<LaneReport>) -> Self {
        self.lanes = lanes;
        self
    }

    /// What it says of lanes, as a job that was leased for `lane` may.
    pub(crate) fn reports<'s, 'l>(
        &'s self,
        lane: &'l str,
    ) -> impl Iterator<Item = &'s LaneReport> + use<'s, 'l> {
        let may_say = move |report: &&LaneReport| match report {
            LaneReport::Unused { lane: unused, .. } => unused.as_str() == lane,
            _ => true,
        };
        self.lanes.iter().filter(may_say)
    }

    /// For how long a throttled job waits itself: as long as its host said, so that its turn comes behind those that came
    /// meanwhile. A URL that throttles for ever would otherwise be the first to be asked after each closure.
    pub(crate) fn quiet(&self) -> Duration {
        let asked = self.lanes.iter().filter_map(|report| match report {
            LaneReport::Throttled { retry_after, .. } => *retry_after,
            _ => None,
        });
        asked.max().unwrap_or_default().min(LaneReport::LONGEST_CLOSURE)
    }
}

/// A file that a settlement records.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredFile {
    /// The machine and folder that it belongs to.
    pub store: StoreId,
    /// Relative to that folder. Unique in it, ASCII letter case aside.
    pub path: String,
    /// SHA-256 in hexadecimal.
    pub sha256: String,
}

/// How a try ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It is done.
    Done {
        /// A reason code (`ok`, `not-modified`, …).
        reason: String,
        /// What to record, a JSON text.
        outcome: String,
        /// The file, if there is one.
        file: Option<StoredFile>,
    },
    /// It is not to be done.
    Skipped {
        /// A reason code (`robots`, `policy-size`, …).
        reason: String,
        /// What to record, a JSON text.
        outcome: String,
        /// For people.
        detail: String,
    },
    /// It cannot be done. Charges an attempt.
    Error {
        /// A reason code.
        reason: String,
        /// What to record, a JSON text.
        outcome: String,
        /// For people.
        detail: String,
    },
    /// Try again later. Charges an attempt.
    Retry {
        /// Not before this long from now.
        after: Duration,
        /// A reason code.
        reason: String,
        /// For people.
        detail: String,
        /// Where the next try begins; `None` leaves it.
        place: Option<Place>,
        /// What the next try should know; `None` forgets the old one.
        checkpoint: Option<String>,
    },
    /// Go on elsewhere or later, keeping the job's age. Charges nothing.
    Defer {
        /// Not before this long from now; zero keeps the job's age in its lane.
        after: Duration,
        /// Where it goes on.
        place: Place,
        /// What it goes on with.
        checkpoint: Option<String>,
    },
    /// The host asked for quiet (a [`LaneReport::Throttled`] says so). The job goes to the back of its lane. Charges no
    /// attempt.
    Throttled {
        /// For people.
        detail: String,
        /// Where the next try begins; `None` leaves it.
        place: Option<Place>,
        /// What the next try should know; `None` forgets the old one.
        checkpoint: Option<String>,
    },
    /// Given back unfinished, leasable at once. Charges nothing.
    Release {
        /// What the next try should know; `None` keeps the old one.
        checkpoint: Option<String>,
    },
}

impl Verdict {
    /// Whether it ends the job.
    pub fn is_terminal(&self) -> bool {
        matches!(self, Verdict::Done { .. } | Verdict::Skipped { .. } | Verdict::Error { .. })
    }

    /// What it is to the state machine.
    pub fn event(&self) -> JobEvent {
        match self {
            Verdict::Done { .. } => JobEvent::Complete,
            Verdict::Skipped { .. } => JobEvent::Skip,
            Verdict::Error { .. } => JobEvent::Fail,
            Verdict::Retry { .. } => JobEvent::Retry,
            Verdict::Defer { .. } => JobEvent::Defer,
            Verdict::Throttled { .. } => JobEvent::Throttle,
            Verdict::Release { .. } => JobEvent::Release,
        }
    }
}

/// What became of one settlement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// It is recorded, and the job is in this state now. Repeating it gives the same answer until the job is
    /// leased again.
    Recorded(JobState),
    /// The token is not the current one, or was settled otherwise: nothing was changed (INV-FENCE).
    LeaseLost,
    /// Another finished job of the store has that path: nothing was changed; settle again with another.
    PathTaken,
}

/// The answer to a batch of settlements, and to the lease request that came with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settled {
    /// One for each settlement, in order.
    pub answers: Vec<Answer>,
    /// The lanes that their reports closed, by name. A repeated settlement reports nothing, so it closes none.
    pub closed: Vec<LaneClosure>,
    /// What the lease request was given, if there was one.
    pub batch: Option<LeaseBatch>,
}
