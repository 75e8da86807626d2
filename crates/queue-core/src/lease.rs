//! What is said when jobs are leased, admitted and kept alive.

use std::sync::Arc;
use std::time::Duration;

use longhaul_limiter::{Claim, Lane, LaneRules, Role, StatedLimits};
use serde::{Deserialize, Serialize};

use crate::{Critical, Epoch, LeaseToken, LeasedJob, Place, RequestNumber, StoreId, WorkerId};

/// A worker process, as it introduces itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerInfo {
    /// Random for each start.
    pub id: WorkerId,
    /// The machine's name.
    pub host: String,
    /// The process id on that machine.
    pub pid: u32,
    /// The program's version.
    pub version: String,
    /// Where its files and manifest lines go; `None` for work without files, of which nothing is to be published.
    pub store: Option<StoreId>,
    /// Its caps and paces, for others to compare with theirs; `None` for a process that sends no requests. What it is
    /// granted goes by the rules that its requests carry.
    pub limits: Option<StatedLimits>,
}

/// A wish for jobs.
#[derive(Debug, Clone)]
pub struct LeaseRequest {
    /// Who asks; must have joined.
    pub worker: WorkerId,
    /// Never reused by the process, except to repeat exactly this request after a lost reply.
    pub number: RequestNumber,
    /// At most so many jobs that start at once.
    pub max: usize,
    /// At most so many more, to be started within 250 ms of the reply or given back. They come only from lanes that
    /// have neither a cap nor a pace, and never past the turn of a lane that has one: once `max` jobs of such lanes are
    /// given, the first further one ends the batch.
    pub ahead: usize,
    /// Ask for one job that has two losses or more. Such a job is given only to a process that holds nothing,
    /// and nothing else is given to the process while it holds it (INV-ATTEMPTS).
    pub alone: bool,
    /// After so many losses a job ends in error.
    pub max_losses: u32,
    /// The caps and paces that this process is configured to: those that it stated when it joined, if it did.
    pub rules: Arc<LaneRules>,
    /// The process' own time from a grant to its start, as measured. A lane whose pace opens within it may be given from
    /// already, for that moment, so that commits and preparation cost the lane nothing. At most [`LEAD_MAX`](crate::LEAD_MAX).
    pub lead: Duration,
    /// Lanes that are asked before it goes by turns; none by default.
    pub critical: Critical,
    /// Starts that were granted to jobs which this process still holds, and that have happened. A lane with a pace waits to
    /// hear of them, or of its jobs' ends, before it gives more, so a process that never tells them is given less.
    pub started: Vec<Started>,
}

impl LeaseRequest {
    /// How far ahead a start may be granted in a lane, to the holder that waits longest for it.
    pub(crate) fn horizon(&self, lane: &Lane) -> Duration {
        let is_critical = self.critical.most > 0 && self.critical.lanes.contains(lane);
        if is_critical { self.lead.max(self.critical.horizon) } else { self.lead }
    }
}

/// A start that was granted and has happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Started {
    /// The claim.
    pub token: LeaseToken,
    /// Where its request went and what for, as it was granted.
    pub place: Place,
}

impl From<LeaseToken> for Claim {
    fn from(token: LeaseToken) -> Self {
        Self { job: token.job.0, fence: token.fence }
    }
}

/// What a lease request was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseBatch {
    /// Exactly the jobs that this request moved. If some were asked for ahead, those of lanes with a cap or a pace, at
    /// most `max`, come first.
    pub jobs: Vec<LeasedJob>,
    /// When, from the reply on, it is worth asking again although nothing happened: the next lane opens, or a
    /// process that has gone silent expires. `None` if only an event can make something leasable.
    pub next_open: Option<Duration>,
    /// Whether a job with two losses or more waits and could be leased with [`LeaseRequest::alone`].
    pub alone_waiting: bool,
    /// How long before the reply the store decided.
    pub age: Duration,
    /// The epoch at which this was true: `changed(epoch)` misses nothing that came after.
    pub epoch: Epoch,
}

/// A wish to send one further request for a job that is held.
#[derive(Debug, Clone)]
pub struct AdmitRequest {
    /// The claim.
    pub token: LeaseToken,
    /// Where the request goes and what for.
    pub place: Place,
    /// The caps and paces that this process is configured to: those that it stated when it joined, if it did.
    pub rules: Arc<LaneRules>,
    /// The process' own time from an admission to its start, as measured. At most [`LEAD_MAX`](crate::LEAD_MAX).
    pub lead: Duration,
    /// The role of a start that the claim was granted in this lane and has not used: the one that the lease counted, or an
    /// admission whose time has passed. It is taken back where it counts in the same windows, whatever the answer is, so
    /// that a late holder loses nothing. All else that the claim was granted there counts as used.
    pub unused: Option<Role>,
}

/// The answer to an [`AdmitRequest`]. Any answer but `Admitted` has already freed the slot that was held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// The slot is in the new lane now, and the start is counted.
    Admitted {
        /// Whether a pace counts the start, so that the store waits to hear of it ([`LeaseRequest::started`]).
        paced: bool,
        /// How long after the reply the request may start at the earliest.
        start_after: Duration,
        /// How long after the reply it may start at the latest.
        start_within: Duration,
    },
    /// Not before this long from now: a pace, a cool-down or a pause.
    NotBefore(Duration),
    /// All slots are taken.
    Full,
    /// The claim is not the job's current one, or its process is taken for dead.
    LeaseLost,
}

/// The answer to a heartbeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heartbeat {
    /// How many jobs the store holds for the process. Fewer than the process believes: some were lost.
    pub held: u64,
    /// Whether the process had been taken for dead before this beat; its leases are gone.
    pub was_expired: bool,
}

/// What people read of a job whose worker processes died.
pub(crate) fn died(losses: u32, is_last: bool) -> String {
    let times = if losses == 1 { "once".to_owned() } else { format!("{losses} times") };
    let hint = if is_last { "; it is not tried again, see `longhaul queue retry-failed`" } else { "" };
    format!("its worker process died {times} while it ran{hint}")
}
