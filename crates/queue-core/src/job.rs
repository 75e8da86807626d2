//! What goes into the queue, what a worker gets, and what an operator sees.

use std::time::Duration;

use longhaul_limiter::{Lane, Role};
use serde::{Deserialize, Serialize};

use crate::{ArtifactId, Class, JobId, JobState, LeaseToken, StoreId, Timestamp, WorkerId};

/// Where a job's next request goes and what it is for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Place {
    /// The lane it presses on.
    pub lane: Lane,
    /// The role, which chooses the pace.
    pub role: Role,
}

impl Place {
    /// A place.
    pub fn new(lane: Lane, role: Role) -> Self {
        Self { lane, role }
    }

    /// For work that presses on nobody.
    pub fn nowhere() -> Self {
        Self { lane: Lane::NONE, role: Role::Artifact }
    }
}

/// A job to be remembered. The queue never looks into the payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewJob {
    /// The idempotence key: one row for each, ever (INV-IDEMPOTENT).
    pub artifact_id: ArtifactId,
    /// The artifact, a JSON text.
    pub payload: String,
    /// Which resolver to ask first, if the producer knows.
    pub resolver_hint: Option<String>,
    /// Where its first request goes.
    pub place: Place,
    /// Its priority class.
    pub priority: Class,
    /// How many charged tries it gets; `None` is what the running process is configured to.
    pub max_attempts: Option<u32>,
    /// How long from now it is to wait before its first try.
    pub delay: Duration,
}

impl NewJob {
    /// A job with no lane, no delay and the lowest class.
    pub fn new(artifact_id: ArtifactId, payload: impl Into<String>) -> Self {
        Self {
            artifact_id,
            payload: payload.into(),
            resolver_hint: None,
            place: Place::nowhere(),
            priority: Class::default(),
            max_attempts: None,
            delay: Duration::ZERO,
        }
    }

    /// The same in another place.
    #[must_use]
    pub fn at(mut self, place: Place) -> Self {
        self.place = place;
        self
    }
}

/// A job that another system began, with what it has been through there. Times are wall times in milliseconds since the
/// Unix epoch, as a [`JobRecord`] shows them: what a calendar said, long before this store had a clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdoptedJob {
    /// The job itself.
    pub job: NewJob,
    /// Its state there; see [`JobState::adopted`].
    pub state: JobState,
    /// Charged tries so far.
    pub attempts: u32,
    /// What went wrong last; 2 KiB of it are kept.
    pub last_error: Option<String>,
    /// When it was accepted there. `None`, or a time that is still to come, is now.
    pub created_at: Option<Timestamp>,
    /// When it last changed there, and if it has ended, when it ended. `None`, or a time that is still to come, is now.
    pub updated_at: Option<Timestamp>,
    /// Since when, or from when on, it may be leased; `None` is once the job's own delay is over.
    pub available_at: Option<Timestamp>,
}

impl AdoptedJob {
    /// A job in this state that was not tried yet and knows no times.
    pub fn new(job: NewJob, state: JobState) -> Self {
        Self {
            job,
            state,
            attempts: 0,
            last_error: None,
            created_at: None,
            updated_at: None,
            available_at: None,
        }
    }
}

/// What became of one enqueued job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Enqueued {
    /// It is new and has this number.
    New(JobId),
    /// The artifact was there already, under this number; nothing was changed.
    Duplicate(JobId),
}

/// A job in the hands of a worker process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeasedJob {
    /// The claim; every further call about the job names it.
    pub token: LeaseToken,
    /// The artifact's key.
    pub artifact_id: ArtifactId,
    /// The artifact, as it was enqueued.
    pub payload: String,
    /// Which resolver to ask first, if known.
    pub resolver_hint: Option<String>,
    /// Where its next request goes; a slot is held there and its pace is already counted.
    pub place: Place,
    /// Its priority class.
    pub priority: Class,
    /// Charged tries so far.
    pub attempts: u32,
    /// Worker processes that died holding it.
    pub losses: u32,
    /// Times it was throttled while its lane served others.
    pub throttles: u32,
    /// Its own limit of charged tries, if it has one.
    pub max_attempts: Option<u32>,
    /// What the last try left for this one.
    pub checkpoint: Option<String>,
    /// How long after the reply its first request may start at the earliest, on the strength of this lease.
    pub start_after: Duration,
    /// How long after the reply it may start at the latest; a later one asks `admit`, which counts its start anew.
    pub start_within: Duration,
    /// Whether a pace counted its start, so that [`crate::LaneReport::Unused`] may give it back. A batch that is answered again
    /// does not know.
    pub paced: bool,
}

/// The whole row of a job, as an operator sees it. Times are wall times in milliseconds since the Unix epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobRecord {
    /// Its number.
    pub id: JobId,
    /// The artifact's key.
    pub artifact_id: ArtifactId,
    /// The artifact, as it was enqueued.
    pub payload: String,
    /// Which resolver to ask first, if known.
    pub resolver_hint: Option<String>,
    /// Where its next request goes.
    pub place: Place,
    /// The lane in which it holds a slot now.
    pub slot: Option<Lane>,
    /// Its priority class.
    pub priority: Class,
    /// Its state.
    pub state: JobState,
    /// Why it is in that state (FACTS' reason codes).
    pub reason: Option<String>,
    /// Charged tries.
    pub attempts: u32,
    /// Worker processes that died holding it.
    pub losses: u32,
    /// Times it was throttled while its lane served others.
    pub throttles: u32,
    /// Its own limit of charged tries, if it has one.
    pub max_attempts: Option<u32>,
    /// When it may be leased, as far as it alone decides.
    pub available_at: Timestamp,
    /// The fence of its last lease; 0 if it never had one.
    pub fence: i64,
    /// Who holds it.
    pub worker: Option<WorkerId>,
    /// What the last try left for the next.
    pub checkpoint: Option<String>,
    /// What went wrong last, at most 2 KiB.
    pub last_error: Option<String>,
    /// What its settlement recorded, a JSON text.
    pub outcome: Option<String>,
    /// The store that its end is published in: its file's, or that of the process that ended it.
    pub store: Option<StoreId>,
    /// The file, relative to its store.
    pub path: Option<String>,
    /// The file's SHA-256, in hexadecimal.
    pub sha256: Option<String>,
    /// Whether what the settlement recorded was published, or never has to be: the process that ended it has no store.
    pub published: bool,
    /// Whether it was pruned: payload, checkpoint, outcome, last error and history are gone, and it cannot run again.
    pub slim: bool,
    /// When it was enqueued.
    pub created_at: Timestamp,
    /// When its row last changed.
    pub updated_at: Timestamp,
    /// When it became done, skipped or error.
    pub finished_at: Option<Timestamp>,
}

/// One line of a job's history. A first try that succeeds leaves none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryEntry {
    /// When, as wall time in milliseconds.
    pub at: Timestamp,
    /// What happened.
    pub event: String,
    /// Why.
    pub reason: Option<String>,
    /// Who held the job.
    pub worker: Option<WorkerId>,
}
