//! What a run did.

use std::collections::BTreeMap;
use std::time::Duration;

use longhaul_queue_core::StateCounts;

use crate::OrchestratorError;

/// What a run did and why it ended.
#[derive(Debug)]
pub struct RunSummary {
    /// Why it ended.
    pub ended: RunEnd,
    /// Settlements that the queue recorded, by verdict (`done`, `retry`, …) and reason code.
    pub settled: BTreeMap<(&'static str, String), u64>,
    /// Jobs that ended as done, skipped or error.
    pub terminal: u64,
    /// Bytes that were received.
    pub bytes: u64,
    /// How long the run took.
    pub elapsed: Duration,
    /// Ended jobs of this run whose publication failed so far; the next start's recovery takes them up.
    pub unpublished: u64,
    /// What kept the last of them from being published.
    pub unpublished_because: Option<String>,
    /// The queue's counts after the run; `None` if it could not say.
    pub left: Option<StateCounts>,
    /// How long until something could be leased; `None` if nothing waits for time alone.
    pub next_open: Option<Duration>,
}

impl RunSummary {
    /// How many settlements had this verdict.
    pub fn count(&self, verdict: &str) -> u64 {
        self.settled.iter().filter(|((name, _), _)| *name == verdict).map(|(_, count)| count).sum()
    }
}

/// Why a run ended.
#[derive(Debug)]
#[non_exhaustive]
pub enum RunEnd {
    /// Nothing is in progress, and nothing can start within the drain horizon.
    Drained,
    /// It was told to.
    Stopped,
    /// A budget is used up.
    Budget(Budget),
    /// The queue refused, and repeating mends nothing; or a drain found for longer than its horizon that this machine
    /// cannot work.
    Failed(OrchestratorError),
}

/// Which budget was used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Budget {
    /// [`crate::Budgets::max_jobs`].
    Jobs,
    /// [`crate::Budgets::max_bytes`].
    Bytes,
    /// [`crate::Budgets::max_runtime`].
    Runtime,
    /// [`crate::Budgets::max_errors`].
    Errors,
}
