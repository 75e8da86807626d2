//! How a step of a try ends, and what is told of it.

use std::time::Duration;

use longhaul_limiter::Lane;

use super::plan::Plan;
use super::progress::{Fate, PlanEnd};
use super::redirect::Hop;
use crate::{Fetched, Outcome, Reason};

/// A failure that says nothing about the next time.
#[derive(Debug, Clone)]
pub(super) struct Broken {
    pub(super) reason: Reason,
    pub(super) detail: String,
    pub(super) resolver: String,
}

/// Why a plan did not give a file.
#[derive(Debug)]
pub(super) enum Stop {
    /// It never will.
    Dead(Fate),
    /// It may next time.
    Broken { reason: Reason, detail: String },
    /// The whole try ends.
    End(Box<Outcome>),
}

impl Stop {
    pub(super) fn dead(end: PlanEnd, reason: Reason, detail: impl Into<String>) -> Self {
        Self::Dead(Fate { end, reason, detail: detail.into() })
    }

    pub(super) fn broken(reason: Reason, detail: impl Into<String>) -> Self {
        Self::Broken { reason, detail: detail.into() }
    }

    /// The code under which the request is told.
    pub(super) fn reason(&self) -> Reason {
        match self {
            Stop::Dead(fate) => fate.reason,
            Stop::Broken { reason, .. } => *reason,
            Stop::End(outcome) => match &**outcome {
                Outcome::Done(fetched) => fetched.reason,
                Outcome::Skipped { reason, .. } | Outcome::Failed { reason, .. } => *reason,
                Outcome::Moved(_) => Reason::Backoff,
            },
        }
    }
}

/// What one request came to, if it did not stop the plan.
#[derive(Debug)]
pub(super) enum Step {
    /// A file is there.
    Done(Box<Fetched>),
    /// Go on there.
    To(Box<Hop>),
    /// The same again, without what was resumed.
    Afresh,
}

/// What is told of a request.
#[derive(Debug, Default)]
pub(super) struct Note {
    pub(super) http_status: Option<u16>,
    pub(super) content_type: Option<String>,
    pub(super) bytes: u64,
    pub(super) retry_after: Option<Duration>,
}

/// Where a request goes, on whose behalf.
#[derive(Debug, Clone, Copy)]
pub(super) struct Target<'a> {
    pub(super) hop: &'a Hop,
    pub(super) plan: &'a Plan,
    pub(super) lane: &'a Lane,
}
