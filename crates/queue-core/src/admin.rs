//! What operators need of a queue.

use std::fmt::Debug;
use std::time::Duration;

use async_trait::async_trait;
use longhaul_limiter::Controller;
use serde::{Deserialize, Serialize};

use crate::{
    AdoptedJob, ArtifactId, Enqueued, HistoryEntry, JobId, JobRecord, JobState, Lane, LaneRow, LaneRules,
    LeaseToken, Result, StatedLimits, StoreId, Timestamp, WorkerId,
};

/// Which jobs an operator means. Empty means all.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct JobFilter {
    /// Only in this state.
    pub state: Option<JobState>,
    /// Only in this lane.
    pub lane: Option<Lane>,
    /// Only with this reason.
    pub reason: Option<String>,
}

/// Which page of a listing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JobPage {
    /// Only jobs after this one; `None` begins.
    pub after: Option<JobId>,
    /// At most so many.
    pub limit: usize,
}

/// Which page of the lanes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LanePage {
    /// Only lanes after this one, by name; `None` begins.
    pub after: Option<Lane>,
    /// At most so many.
    pub limit: usize,
}

/// A worker process as an operator sees it. Times are wall times.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerRow {
    /// Its id.
    pub id: WorkerId,
    /// Its machine.
    pub host: String,
    /// Its process id there.
    pub pid: u32,
    /// Its program's version.
    pub version: String,
    /// Where its files and manifest lines go.
    pub store: Option<StoreId>,
    /// The caps and paces that it said it has; `None` if it said nothing.
    pub limits: Option<StatedLimits>,
    /// When it joined.
    pub started_at: Timestamp,
    /// Until when it is taken to be alive.
    pub expires_at: Timestamp,
    /// Whether it is alive now, as far as the store can see: one that is dead may be known to be so before that time.
    pub alive: bool,
    /// How many jobs it holds.
    pub held: u64,
}

/// Why a job is not running now, and when it could. Of several causes that have an end, the one that ends last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "cause")]
pub enum Explanation {
    /// It is running.
    Running {
        /// Who holds it.
        worker: WorkerId,
    },
    /// It has ended.
    Ended {
        /// In this state.
        state: JobState,
        /// For this reason.
        reason: Option<String>,
    },
    /// It could start now; it waits for its lane's turn and a free worker.
    Ready,
    /// It waits for its own time: a retry or a planned start.
    Delayed {
        /// For so long, in milliseconds.
        wait_ms: u64,
    },
    /// Its lane is cooling down.
    CoolDown {
        /// For so long, in milliseconds.
        wait_ms: u64,
        /// Why.
        reason: String,
    },
    /// Its lane's pace allows no start yet.
    Pace {
        /// For so long, in milliseconds.
        wait_ms: u64,
        /// What puts it off: the configured pace, or what the host asks for or bears.
        controller: Controller,
    },
    /// All of its lane's slots are taken.
    CapFull {
        /// By so many.
        in_flight: u32,
        /// Of so many.
        cap: u32,
    },
    /// Its lane is paused.
    LanePaused {
        /// Who and why.
        reason: String,
        /// For so long, in milliseconds; `None` until somebody resumes it.
        wait_ms: Option<u64>,
    },
    /// The whole queue is paused.
    QueuePaused {
        /// Who and why.
        reason: String,
        /// For so long, in milliseconds; `None` until somebody resumes it.
        wait_ms: Option<u64>,
    },
    /// The process that held it has died; the next lease that anybody makes gives it back, once its leases have ended.
    WorkerDied {
        /// They end in so long, in milliseconds.
        wait_ms: u64,
    },
}

/// What a check of the store found, and mended if it was asked to.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct QueueCheck {
    /// One line for each thing that is wrong: what, where, what it should be.
    pub problems: Vec<String>,
    /// Whether they were mended.
    pub repaired: bool,
}

/// What operators do to a queue. Every act is committed before it returns, and stands in the history of the jobs
/// that it touched.
#[async_trait]
pub trait QueueAdmin: Debug + Send + Sync + 'static {
    /// One job by its key, with its history, newest first.
    async fn get(&self, id: &ArtifactId) -> Result<Option<(JobRecord, Vec<HistoryEntry>)>>;

    /// Jobs by number, a page at a time.
    async fn list(&self, filter: &JobFilter, page: JobPage) -> Result<Vec<JobRecord>>;

    /// Why a job is not running now, as a process with these rules would see it. `NotFound` if there is none.
    async fn explain(&self, id: &ArtifactId, rules: &LaneRules) -> Result<Explanation>;

    /// Jobs in error become queued with fresh attempts, losses and throttles; returns how many, at most `limit`. Pruned
    /// ones have nothing left to run: they stay as they are, and are not counted.
    async fn retry_failed(&self, filter: &JobFilter, limit: usize) -> Result<u64>;

    /// Accepts jobs of another system in the states that they have there, all in one commit. Whoever is there already is
    /// left as it is (INV-IDEMPOTENT). Answers in order.
    ///
    /// One that is in progress there is queued here, keeping its attempts. One that has ended counts as published: what
    /// it recorded lies with the system that recorded it. Each has a line `adopted` in its history, with the state that
    /// it came in as the reason.
    async fn adopt(&self, jobs: &[AdoptedJob]) -> Result<Vec<Enqueued>>;

    /// Ended jobs become queued with fresh counts; returns how many of them there were. Pruned ones have nothing left to
    /// run: they stay as they are, and are not counted.
    async fn requeue(&self, ids: &[ArtifactId]) -> Result<u64>;

    /// Queued and held jobs become skipped with the reason `cancelled`; a holder loses its lease.
    async fn cancel(&self, ids: &[ArtifactId]) -> Result<u64>;

    /// Nothing starts any more, everywhere or in one lane, for a while or until `resume`. `reason` says who and
    /// why. Takes the place of a pause that has not ended, and returns who made that one and why.
    async fn pause(
        &self,
        lane: Option<&Lane>,
        length: Option<Duration>,
        reason: &str,
    ) -> Result<Option<String>>;

    /// Ends a pause; false if there was none.
    async fn resume(&self, lane: Option<&Lane>) -> Result<bool>;

    /// Closes a lane for `length` from now, unless it is closed for longer already. It reopens step by step, like one
    /// that its host closed. `Invalid` for work without a host.
    async fn close(&self, lane: &Lane, length: Duration, cause: &str) -> Result<()>;

    /// Ended jobs whose end is not published yet and that `store` publishes, by number: those that its own processes
    /// ended or swept, and those that no process ended (an operator cancelled them), which whoever finds them first
    /// publishes.
    async fn unpublished(&self, store: &StoreId, page: JobPage) -> Result<Vec<JobRecord>>;

    /// Releases whatever `worker` holds beyond `held`, charging nothing; returns how many.
    async fn reconcile(&self, worker: &WorkerId, held: &[LeaseToken]) -> Result<u64>;

    /// Slims the rows of jobs that ended in `state` at least `older_than` ago, oldest first: payload, checkpoint, outcome,
    /// last error and history go. Number, key, state, reason, counts, path and digest stay, so that the artifact remains
    /// known (INV-IDEMPOTENT) and its name taken. Unpublished ones are left. Returns how many.
    ///
    /// For good: a slim job cannot run again, neither by `retry_failed` nor by `requeue`, and [`JobRecord::slim`] says so.
    ///
    /// In many short transactions: others get their turn in between. A call that is dropped or fails has slimmed some,
    /// and repeating it goes on with the others.
    async fn prune(&self, state: JobState, older_than: Duration) -> Result<u64>;

    /// Verifies counts, leases and turns against each other, and mends what it finds if `repair`.
    async fn check(&self, repair: bool) -> Result<QueueCheck>;

    /// Lanes with queued jobs, taken slots or something to remember (a closure, a pause), by name, a page at a time.
    async fn lanes(&self, page: &LanePage) -> Result<Vec<LaneRow>>;

    /// Worker processes that have joined and not left.
    async fn workers(&self) -> Result<Vec<WorkerRow>>;
}
