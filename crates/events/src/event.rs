//! What can happen.

use std::time::Duration;

use longhaul_limiter::{Lane, Role};
use serde::Serialize;

use crate::kinds::vocabulary;
use crate::{EventField, EventKind, RequestStatus, Verb, WaitCause};

vocabulary! {
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
    /// A worker begins a try. Each is followed by one `JobFinished`, whatever happens.
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
    /// A job has waited for its turn before a request: in its worker, or, if it was sent back for that, in the queue.
    Waited {
        /// The job.
        job: i64,
        /// What for.
        why: WaitCause,
        /// For whose turn: a lane or a resolver, as the cause says; empty if for nobody's.
        key: String,
        /// How long.
        waited: Duration,
    },
    /// A request starts: it has been admitted, and what follows is the connect. A job has at most one at a time, which ends
    /// in a `Request`, or untold with its try.
    RequestStarted {
        /// The job.
        job: i64,
        /// Whom it presses on.
        lane: Lane,
        /// What for.
        role: Role,
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
        /// What it came to.
        status: RequestStatus,
        /// The answer's status, if there was one.
        http_status: Option<u16>,
        /// The answer's content type, if it had one.
        content_type: Option<String>,
        /// How long the worker waited for its admission.
        wait: Duration,
        /// From before the connect to the body's end.
        elapsed: Duration,
        /// Bytes of the body that were received.
        bytes: u64,
        /// How it ended, as a reason code.
        reason: String,
        /// What the host asked for.
        retry_after: Option<Duration>,
        /// Whether the answer was kept from before, so that nobody was asked.
        from_cache: bool,
        /// The file's SHA-256, if the request brought it to its end.
        sha256: Option<String>,
    },
    /// Bytes of an artifact arrived.
    Received {
        /// The job.
        job: i64,
        /// Which resolver's plan they serve.
        resolver: String,
        /// How many.
        bytes: u64,
    },
    /// A try is over: nothing of it is at work any more. What became of it is told when that is recorded.
    JobFinished {
        /// The job.
        job: i64,
        /// How long the try took.
        elapsed: Duration,
    },
    /// The queue recorded what became of a job: once for each recorded settlement, and never for one that was lost.
    JobSettled {
        /// The job.
        job: i64,
        /// The artifact's key.
        artifact_id: String,
        /// `done`, `skipped`, `error`, `retry`, `deferred`, `throttled`, `released`.
        verdict: &'static str,
        /// The state that the job is in now: `done`, `skipped` and `error` are its end, `queued` is not.
        state: &'static str,
        /// Why, as a reason code.
        reason: String,
        /// For people, empty if there is nothing to say.
        detail: String,
        /// Which resolver's plan ended it, if one did.
        resolver: Option<String>,
        /// Bytes of the file.
        bytes: u64,
        /// How long the try took; nothing for a job that the store itself ended.
        elapsed: Duration,
    },
    /// A finished job's file has its final name and its manifest line.
    Published {
        /// The job.
        job: i64,
    },
    /// A job was taken away before its try was recorded: its lease had ended.
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
        /// For how long; nothing is until something happens.
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
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn a_kind_is_named_in_json_as_the_reference_names_it() {
        let event = Event::LeaseLost { job: 1 };
        let kind = Event::KINDS.iter().find(|kind| kind.variant == event.kind()).unwrap();
        assert_eq!(kind.name(), "lease_lost");
        assert_eq!(serde_json::to_value(&event).unwrap()["event"], "lease_lost");
    }

    #[test]
    fn every_kind_and_field_says_what_it_means() {
        for kind in Event::KINDS {
            let said = |doc: &[&str]| doc.iter().any(|line| !line.trim().is_empty());
            assert!(said(kind.doc), "{}", kind.variant);
            assert!(kind.fields.iter().all(|field| said(field.doc)), "{}", kind.variant);
        }
    }
}
