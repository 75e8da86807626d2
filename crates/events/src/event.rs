//! What can happen.

use std::time::Duration;

use longhaul_limiter::{Lane, Role};
use serde::Serialize;

/// How a request was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Verb {
    /// The body is wanted.
    Get,
    /// Only the head is.
    Head,
    /// A query with a body of its own.
    Post,
}

/// One thing that happened. `job` is the job's number in its queue.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "event")]
#[non_exhaustive]
pub enum Event {
    /// The dispatcher was given jobs.
    Leased {
        /// How many.
        count: usize,
    },
    /// A worker begins a try.
    JobStarted {
        /// The job.
        job: i64,
        /// The artifact's key.
        artifact_id: String,
        /// Which charged try it is, from 1.
        attempt: u32,
        /// The lane that it starts in.
        lane: Lane,
    },
    /// A try waited for a lane or a permit before a request.
    Waited {
        /// The job.
        job: i64,
        /// For whom.
        lane: Lane,
        /// How long.
        waited: Duration,
    },
    /// A request ended: answered and read, or failed.
    Request {
        /// The job.
        job: i64,
        /// The artifact's key.
        artifact_id: String,
        /// Which resolver's plan it serves.
        resolver: String,
        /// The place of the resolver in the order, from 0.
        resolver_order: u32,
        /// The URL, without user info and query.
        url: String,
        /// Whom it pressed on.
        lane: Lane,
        /// What for.
        role: Role,
        /// How.
        verb: Verb,
        /// The answer's status, if there was one.
        http_status: Option<u16>,
        /// The answer's content type, if it had one.
        content_type: Option<String>,
        /// From before the connect to the body's end.
        elapsed: Duration,
        /// Bytes of the body that were received.
        bytes: u64,
        /// How it ended, as a reason code.
        reason: String,
        /// What the host asked for.
        retry_after: Option<Duration>,
    },
    /// Bytes of an artifact arrived.
    Received {
        /// The job.
        job: i64,
        /// How many.
        bytes: u64,
    },
    /// A try ended and its settlement is recorded.
    JobSettled {
        /// The job.
        job: i64,
        /// The artifact's key.
        artifact_id: String,
        /// `done`, `skipped`, `error`, `retry`, `deferred`, `throttled`, `released`.
        verdict: &'static str,
        /// Why, as a reason code.
        reason: String,
        /// For people, empty if there is nothing to say.
        detail: String,
        /// Which resolver's plan ended it, if one did.
        resolver: Option<String>,
        /// Bytes of the file.
        bytes: u64,
        /// How long the try took.
        elapsed: Duration,
    },
    /// A finished job's file has its final name and its manifest line.
    Published {
        /// The job.
        job: i64,
    },
    /// A job was taken away while it ran: its lease had ended.
    LeaseLost {
        /// The job.
        job: i64,
    },
    /// A host asked for quiet or failed too often, so it is left alone, or for longer than it was.
    LaneClosed {
        /// Which.
        lane: Lane,
        /// For how long, if that is known.
        retry_after: Option<Duration>,
        /// What it did.
        cause: String,
    },
    /// This machine cannot work (no space, no network): leasing stops for a while, and nobody is charged.
    LocalFault {
        /// What is wrong.
        detail: String,
        /// When it is tried again.
        retry_in: Duration,
    },
    /// The store could not be reached; the call is repeated.
    StoreUnavailable {
        /// What it said.
        detail: String,
    },
    /// Nothing can start before then.
    Waiting {
        /// For how long; `None` until something happens.
        until: Option<Duration>,
    },
    /// The run has been asked to end.
    Stopping {
        /// How many jobs are still at work.
        running: usize,
        /// How long they may take.
        grace: Duration,
    },
}
