//! The contract between whoever runs jobs and whoever does the work.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use longhaul_events::Observer;
use longhaul_limiter::{Clock, Keying, Lane, Role};
use tokio_util::sync::CancellationToken;

use crate::{Ended, Outcome, RunResult};

/// One job, as the pipeline sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// The job's number; with `fence` it names the try, and parts on disk are named after it.
    pub number: i64,
    /// Which claim of the job this is; only grows.
    pub fence: i64,
    /// The artifact's key.
    pub artifact_id: String,
    /// The artifact, a JSON text as it was enqueued.
    pub payload: String,
    /// Which resolver to ask first, if known.
    pub resolver_hint: Option<String>,
    /// Which charged try it is, from 1.
    pub attempt: u32,
    /// How many charged tries it gets in all.
    pub max_attempts: u32,
    /// What the last try left for this one, as the pipeline wrote it.
    pub checkpoint: Option<String>,
}

/// Whether a request may start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grant {
    /// Now.
    Go,
    /// Not here and now: end the try with [`Outcome::Moved`] into that lane. The queue gives it when that opens. No slot is
    /// held any more.
    Move {
        /// In how long about that is; zero if only slots are missing.
        after: Duration,
    },
    /// Not now, because of a limit of this process: end the try with [`Outcome::Moved`] into that lane, not before
    /// `after`. Unlike a [`Grant::Move`] it says nothing of where the work leads. No slot is held any more.
    Later {
        /// How long from now.
        after: Duration,
    },
    /// Never again: the claim is lost or the run is being stopped. End the try; what it returns is not used.
    Stop,
}

/// What a try may ask of whoever runs it. Every request is asked for (INV-CAP, INV-PACE, INV-COOLDOWN).
#[async_trait]
pub trait Context: Debug + Send + Sync {
    /// Asks for one request to a lane. Must be called immediately before each request is started, the first one
    /// too, and no earlier one may still be in flight. Short waits happen inside, with no slot held.
    async fn admit(&self, lane: &Lane, role: Role) -> Grant;

    /// Says for which resolver the following requests are: its permit covers them all. Whatever another one held is
    /// given back.
    fn serving(&self, resolver: &str);

    /// Waits until bytes that came in are within what this process may receive. Called after they came and before more
    /// are read. Cancel-safe.
    async fn received(&self, bytes: u32);

    /// A host asked for quiet: this process starts nothing there from this instant on, even before the queue knows.
    fn hold_back(&self, lane: &Lane, length: Duration);

    /// Stores what the next try should know, durably. False if the claim is lost.
    async fn checkpoint(&self, checkpoint: &str) -> bool;

    /// Reads the durable cache.
    async fn cache_get(&self, key: &str) -> Option<String>;

    /// Writes the durable cache, soon: it need not have been written when this returns.
    async fn cache_put(&self, key: &str, value: &str, ttl: Duration);

    /// Fires when the claim is lost or the run is stopped at once: end the try soon.
    fn cancelled(&self) -> &CancellationToken;

    /// How hosts become lanes.
    fn keying(&self) -> &Keying;

    /// The time.
    fn clock(&self) -> &Arc<dyn Clock>;

    /// Who wants to hear.
    fn observer(&self) -> &dyn Observer;
}

/// Does the work of a job.
#[async_trait]
pub trait Pipeline: Debug + Send + Sync + 'static {
    /// Runs one try. Never `Err`: a failure is an [`Outcome`]. May panic; that fails this job alone. Cancel-safe:
    /// dropping the future leaves at most a part file that the next try takes over or `publish` removes.
    async fn run(&self, job: &Job, context: &dyn Context) -> RunResult;

    /// Makes ended tries visible: final names, manifest lines. Called after the queue has recorded them, and again
    /// after a crash (`recovered`), so it is idempotent for each. One answer for each, in order. A run of work without
    /// files (it has no store) never calls it.
    async fn publish(&self, ended: &[Ended]) -> Vec<Result<(), PublishError>>;

    /// The queue did not record this outcome: whatever it holds outside memory is thrown away. Idempotent.
    async fn discard(&self, outcome: &Outcome);

    /// The same file under another name of its own, because the queue says that its path belongs to another job.
    /// `None` if the outcome has no file.
    fn rename(&self, job: &Job, outcome: &Outcome) -> Option<Outcome>;
}

/// Why an ended try could not be published.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// Somebody else holds the part and will publish it.
    #[error("its owner is still at work")]
    Held,
    /// The recorded file is neither there as a part nor under its final name: the job has to be fetched again.
    #[error("the recorded file {path} is gone, or is not what was recorded")]
    Missing {
        /// Its path in the store.
        path: String,
    },
    /// Somebody else's file has the recorded name by now: the job has to be fetched again, under another.
    #[error("{path} is another file by now, which is not overwritten")]
    Taken {
        /// Its path in the store.
        path: String,
    },
    /// The file system said no; trying again later is right.
    #[error("{what}: {source}")]
    Io {
        /// What was tried, with the path.
        what: String,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
}
