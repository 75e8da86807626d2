//! How a step of a try ends, and what is told of it.

use std::time::Duration;

use longhaul_events::RequestStatus;
use longhaul_limiter::{Lane, Role};
use tracing::{Span, field, info_span};
use url::Url;

use super::plan::Plan;
use super::progress::{Fate, PlanEnd};
use super::redirect::Hop;
use crate::{FailureClass, Fetched, Outcome, Reason, redact};

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

    /// What the request came to.
    pub(super) fn status(&self) -> RequestStatus {
        match self {
            Stop::Dead(_) => RequestStatus::Rejected,
            Stop::Broken { .. } => RequestStatus::Failed,
            Stop::End(outcome) => match &**outcome {
                Outcome::Done(_) => RequestStatus::Ok,
                Outcome::Skipped { .. } => RequestStatus::Rejected,
                Outcome::Moved(_) => RequestStatus::Cancelled,
                Outcome::Failed { class, .. } => match class {
                    FailureClass::Throttled => RequestStatus::Throttled,
                    FailureClass::Permanent => RequestStatus::Rejected,
                    // What fails of the host's doing lets other plans be tried, and so does not end the try.
                    FailureClass::LocalFault | FailureClass::Transient => RequestStatus::Cancelled,
                },
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

impl Step {
    /// What the request came to.
    pub(super) fn status(&self) -> RequestStatus {
        match self {
            Step::Done(_) => RequestStatus::Ok,
            Step::To(_) | Step::Afresh => RequestStatus::Redirected,
        }
    }

    /// The digest of the file, if one is there.
    pub(super) fn sha256(&self) -> Option<String> {
        match self {
            Step::Done(fetched) => fetched.file.as_ref().map(|file| file.sha256.clone()),
            Step::To(_) | Step::Afresh => None,
        }
    }
}

/// What is told of a request.
#[derive(Debug)]
pub(super) struct Note {
    /// The request, until it is over.
    pub(super) span: Span,
    pub(super) http_status: Option<u16>,
    pub(super) content_type: Option<String>,
    pub(super) bytes: u64,
    pub(super) retry_after: Option<Duration>,
    /// When the body came to its end; what is done with it then is not the host's doing.
    pub(super) ended: Option<Duration>,
}

impl Note {
    /// A request that begins now. Its span is named and has the fields that OpenTelemetry's conventions for HTTP clients
    /// ask for: <https://opentelemetry.io/docs/specs/semconv/http/http-spans/>. The URL is as in events, without what
    /// may be secret.
    pub(super) fn of(target: Target<'_>, url: &Url) -> Self {
        let plan = target.plan;
        let span = info_span!(
            "http.request",
            otel.kind = "client",
            otel.status_code = field::Empty,
            resolver = %plan.resolver,
            host = %target.lane,
            from_cache = false,
            http.request.method = "GET",
            url.full = %redact::bare(url),
            server.address = url.host_str().unwrap_or_default(),
            server.port = url.port_or_known_default().unwrap_or_default(),
            http.response.status_code = field::Empty,
            http.response.body.size = field::Empty,
            error.type = field::Empty,
        );
        Self { span, http_status: None, content_type: None, bytes: 0, retry_after: None, ended: None }
    }

    /// The answer's head is there.
    pub(super) fn answered(&mut self, status: u16) {
        self.http_status = Some(status);
        self.span.record("http.response.status_code", status);
    }

    /// The request ends now, unless it has ended already. Returns when it did.
    pub(super) fn end(&mut self, now: Duration, reason: Reason) -> Duration {
        let span = std::mem::replace(&mut self.span, Span::none());
        span.record("http.response.body.size", self.bytes);
        if reason != Reason::Ok {
            span.record("error.type", reason.as_str());
            span.record("otel.status_code", "ERROR");
        }
        *self.ended.get_or_insert(now)
    }
}

/// One request: where it goes, what for, since when it was wanted and when it began.
#[derive(Debug, Clone, Copy)]
pub(super) struct Request<'a> {
    pub(super) url: &'a Url,
    pub(super) role: Role,
    pub(super) asked: Duration,
    pub(super) started: Duration,
}

/// Where a request goes, on whose behalf.
#[derive(Debug, Clone, Copy)]
pub(super) struct Target<'a> {
    pub(super) hop: &'a Hop,
    pub(super) plan: &'a Plan,
    pub(super) lane: &'a Lane,
}
