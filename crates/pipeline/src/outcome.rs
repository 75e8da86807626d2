//! How a try ends.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use longhaul_limiter::{Controller, Lane, Role};
use serde::{Deserialize, Serialize};

use crate::Reason;

/// What a try returns: its outcome and what it learned about hosts, oldest first.
#[derive(Debug, Clone)]
pub struct RunResult {
    /// How it ended.
    pub outcome: Outcome,
    /// What it learned about hosts.
    pub hosts: Vec<HostReport>,
}

impl From<Outcome> for RunResult {
    fn from(outcome: Outcome) -> Self {
        Self { outcome, hosts: Vec::new() }
    }
}

/// How a try ended.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// Done.
    Done(Fetched),
    /// Refused by policy, or there is nothing to fetch.
    Skipped {
        /// Why.
        reason: Reason,
        /// For people.
        detail: String,
    },
    /// It failed.
    Failed {
        /// Why.
        reason: Reason,
        /// What that means for the job and the host.
        class: FailureClass,
        /// For people: what happened, where.
        detail: String,
        /// Which resolver's plan failed last.
        resolver: Option<String>,
        /// What the next try should know.
        checkpoint: Option<String>,
    },
    /// It goes on elsewhere or later ([`crate::Grant::Move`]).
    Moved(Move),
}

/// What a failure means. DESIGN calls an outcome honest if it blames whom it should.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureClass {
    /// This machine cannot work: the run pauses, nobody is charged.
    LocalFault,
    /// The host asked for quiet: its lane cools down, the job is not charged.
    Throttled,
    /// It may work next time: charged, tried again.
    Transient,
    /// It will not work next time either: charged, and the job ends.
    Permanent,
}

/// A continuation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Move {
    /// The lane that the next request presses on.
    pub lane: Lane,
    /// What that request is for.
    pub role: Role,
    /// Not before this long from now.
    pub after: Duration,
    /// What it goes on with.
    pub checkpoint: Option<String>,
}

/// What was fetched. Serialises as what the queue records and `publish` reads after a crash.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Fetched {
    /// `ok`, `not-modified`, `already-downloaded`.
    pub reason: Reason,
    /// Which resolver's plan did it.
    pub resolver: String,
    /// Where the bytes came from, without user info.
    pub url: String,
    /// The answer's status.
    pub http_status: Option<u16>,
    /// The answer's content type.
    pub content_type: Option<String>,
    /// The answer's entity tag.
    pub etag: Option<String>,
    /// The answer's modification date.
    pub last_modified: Option<String>,
    /// The file; `None` for work without one.
    pub file: Option<PartFile>,
}

/// A whole, checked and fsynced file that waits for its final name.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PartFile {
    /// The store (machine and output folder) that it belongs to.
    pub store: String,
    /// Where it is now, relative to the store.
    pub part: PathBuf,
    /// Its final name, relative to the store, with `/`.
    pub path: String,
    /// SHA-256 in hexadecimal.
    pub sha256: String,
    /// Its length.
    pub bytes: u64,
    /// The open file, whose OS lock says that its owner is at work. Not recorded.
    #[serde(skip)]
    pub guard: Option<Arc<std::fs::File>>,
}

/// What a try learned about a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostReport {
    /// It answered as it should (also with a 404: the host is well).
    Served(Lane),
    /// It failed: 5xx, reset, timeout.
    Failed {
        /// Which.
        lane: Lane,
        /// What it did.
        cause: String,
    },
    /// It asked for quiet.
    Throttled {
        /// Which.
        lane: Lane,
        /// For how long, if it said.
        retry_after: Option<Duration>,
        /// What it said.
        cause: String,
    },
    /// It asks for a pace: no two requests to it start closer to each other.
    Paced {
        /// Which.
        lane: Lane,
        /// By what: `CrawlDelay` or `Announced`. Each replaces what the same one asked for before.
        controller: Controller,
        /// The shortest time between two starts; zero takes back what it asked for.
        every: Duration,
        /// For how long it holds.
        valid_for: Duration,
    },
}

/// A job that has ended, as the queue recorded it; what `publish` needs for the file and the manifest line.
#[derive(Debug, Clone)]
pub struct Ended {
    /// The job's number.
    pub number: i64,
    /// The claim under which it ended; with `number` it names the manifest line.
    pub fence: i64,
    /// The artifact's key.
    pub artifact_id: String,
    /// The artifact, as it was enqueued.
    pub payload: String,
    /// How it ended.
    pub state: EndedState,
    /// Why, as a reason code.
    pub reason: String,
    /// For people, empty if there is nothing to say.
    pub detail: String,
    /// Charged tries.
    pub attempts: u32,
    /// Which resolver's plan ended it, if one did.
    pub resolver: Option<String>,
    /// What was fetched, if something was.
    pub fetched: Option<Fetched>,
    /// When it ended, wall time in milliseconds since the Unix epoch.
    pub at_ms: i64,
    /// Whether this is read from the queue after a crash, so that it may have been published already.
    pub recovered: bool,
}

impl Ended {
    /// Whether a file waits for its final name.
    pub fn has_file(&self) -> bool {
        self.fetched.as_ref().is_some_and(|fetched| fetched.file.is_some())
    }
}

/// The states in which a job ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndedState {
    /// Fetched.
    Done,
    /// Not to be fetched.
    Skipped,
    /// Could not be fetched.
    Error,
}
