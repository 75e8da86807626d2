//! How a host behaves, as data: what it tolerates, and what it answers on which path. Everything has a default, and
//! the default is a fast, patient, honest host with PDF files on every path but `/robots.txt`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::body::Shape;
use crate::faults::{Fault, FaultRule};

/// All that can change about a host while it runs.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Behaviour {
    /// How many requests at once the host tolerates; unlimited if absent.
    pub concurrency: Option<ConcurrencyLimit>,
    /// How many requests a window the host tolerates; unlimited if absent.
    pub rate: Option<RateLimit>,
    /// What it answers on paths that no route names.
    pub answer: Answer,
    /// Other answers under path prefixes. The longest prefix that fits wins.
    pub routes: Vec<Route>,
}

impl Behaviour {
    /// Answers this on every path.
    pub fn answering(answer: Answer) -> Self {
        Self { answer, ..Self::default() }
    }

    /// Tolerates `most` requests at once and answers 429 without `Retry-After` beyond.
    #[must_use]
    pub fn tolerating_at_once(mut self, most: u32) -> Self {
        self.concurrency = Some(ConcurrencyLimit { most, ..ConcurrencyLimit::default() });
        self
    }

    /// Tolerates `requests` a second and closes for one second beyond.
    #[must_use]
    pub fn tolerating_per_second(mut self, requests: u32) -> Self {
        self.rate = Some(RateLimit { requests, ..RateLimit::default() });
        self
    }

    /// Answers differently under a path prefix.
    #[must_use]
    pub fn with_route(mut self, prefix: impl Into<String>, answer: Answer) -> Self {
        self.routes.push(Route { prefix: prefix.into(), answer });
        self
    }

    /// The answer for a path, and what of the path follows the prefix that chose it.
    pub(crate) fn answer_for<'a>(&'a self, path: &'a str) -> (&'a Answer, &'a str) {
        self.routes
            .iter()
            .filter(|route| path.starts_with(&route.prefix))
            .max_by_key(|route| route.prefix.len())
            .map_or((&self.answer, path), |route| (&route.answer, &path[route.prefix.len()..]))
    }

    /// Whether so many requests in flight are more than the host tolerates.
    pub(crate) fn is_exceeded_by(&self, in_flight: u32) -> bool {
        self.concurrency.as_ref().is_some_and(|limit| in_flight > limit.most)
    }

    /// Whether some route is meant for exactly this path.
    pub(crate) fn has_route(&self, path: &str) -> bool {
        self.routes.iter().any(|route| route.prefix == path)
    }
}

/// The most requests in flight that a host tolerates.
///
/// In flight is from the request's head until the last byte of the answer was handed to the kernel or the
/// connection ended. Refused requests count while they last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConcurrencyLimit {
    /// The most requests in flight.
    pub most: u32,
    /// The status of a refusal, 429 or 503.
    #[serde(default = "too_many_requests")]
    pub status: u16,
    /// What a refusal announces; nothing by default.
    #[serde(default)]
    pub retry_after: Option<RetryAfter>,
}

impl Default for ConcurrencyLimit {
    fn default() -> Self {
        Self { most: 1, status: 429, retry_after: None }
    }
}

/// The most requests that a host tolerates in any window: a sliding window over the arrival times of the requests
/// that it let through. Refused requests do not fill the window.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RateLimit {
    /// The most requests in a window.
    pub requests: u32,
    /// The window's length in milliseconds.
    #[serde(default = "one_second")]
    pub window_ms: u64,
    /// The status of a refusal, 429 or 503.
    #[serde(default = "too_many_requests")]
    pub status: u16,
    /// What a refusal announces: one second by default.
    #[serde(default = "RetryAfter::one_second")]
    pub retry_after: Option<RetryAfter>,
}

impl Default for RateLimit {
    fn default() -> Self {
        Self { requests: 1, window_ms: 1000, status: 429, retry_after: RetryAfter::one_second() }
    }
}

/// A `Retry-After` header, and whether the host means it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RetryAfter {
    /// How long, in seconds.
    pub seconds: u64,
    /// How it is written.
    #[serde(default)]
    pub form: RetryAfterForm,
    /// Whether the host is closed meanwhile: whoever comes is refused again, with what remains, and it does not
    /// extend the closing.
    #[serde(default = "yes")]
    pub closes: bool,
}

impl RetryAfter {
    /// So many seconds, written as a number, and meant.
    pub fn seconds(seconds: u64) -> Self {
        Self { seconds, form: RetryAfterForm::Seconds, closes: true }
    }

    /// The first full second of the wall clock that is at least so many seconds away, written as an HTTP date.
    pub fn date(seconds: u64) -> Self {
        Self { form: RetryAfterForm::Date, ..Self::seconds(seconds) }
    }

    #[allow(clippy::unnecessary_wraps, reason = "the shape of a serde default")]
    fn one_second() -> Option<Self> {
        Some(Self::seconds(1))
    }
}

/// How a `Retry-After` is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RetryAfterForm {
    /// As a number of seconds.
    #[default]
    Seconds,
    /// As an HTTP date.
    Date,
}

/// An answer under a path prefix.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// The prefix, from the leading slash on.
    pub prefix: String,
    /// What is answered there.
    #[serde(default)]
    pub answer: Answer,
}

/// What a request that is let through gets.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Answer {
    /// From the request's head to the answer's first byte.
    pub latency_ms: u64,
    /// Added to the latency: up to this much, a function of (seed, path, ask).
    pub latency_spread_ms: u64,
    /// The pace of the body in bytes per second, for each answer on its own; unlimited if absent.
    pub bandwidth_bytes_per_second: Option<u64>,
    /// What the answer is.
    pub reply: Reply,
    /// Kind and size of documents.
    pub body: Shape,
    /// The revision of documents; raise it to change them between two requests.
    pub revision: u64,
    /// A `Content-Type` other than the honest one.
    pub content_type: Option<String>,
    /// A `Content-Encoding` that the body does not have.
    pub content_encoding: Option<String>,
    /// Further headers, e.g. an announced rate limit.
    pub headers: BTreeMap<String, String>,
    /// How documents say where they end.
    pub framing: Framing,
    /// What becomes of `Range`.
    pub ranges: Ranges,
    /// What documents tell about their version.
    pub validators: Validators,
    /// What goes wrong, and when. The first rule that applies strikes.
    pub faults: Vec<FaultRule>,
}

impl Answer {
    /// A document after this latency.
    pub fn after_ms(latency_ms: u64) -> Self {
        Self { latency_ms, ..Self::default() }
    }

    /// Documents of this kind and size.
    pub fn document(body: Shape) -> Self {
        Self { body, ..Self::default() }
    }

    /// Only this status and a short text.
    pub fn status(status: u16) -> Self {
        Self { reply: Reply::Status { status }, ..Self::default() }
    }

    /// A fixed 200 answer. `{origin:NAME}` in the text becomes the base URL of host NAME.
    pub fn fixed(content_type: impl Into<String>, text: impl Into<String>) -> Self {
        let reply = Reply::Fixed { status: 200, content_type: content_type.into(), text: text.into() };
        Self { reply, ..Self::default() }
    }

    /// A 302 to this target.
    pub fn redirect(to: Target) -> Self {
        Self { reply: Reply::Redirect { to, status: 302, hops: 0, keep_rest: false }, ..Self::default() }
    }

    /// Adds a fault that strikes the first ask of every path.
    #[must_use]
    pub fn failing_first(self, fault: Fault) -> Self {
        self.with_fault(FaultRule::first(fault))
    }

    /// Adds a fault.
    #[must_use]
    pub fn with_fault(mut self, rule: FaultRule) -> Self {
        self.faults.push(rule);
        self
    }
}

/// What an answer is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Reply {
    /// The document of the path.
    #[default]
    Document,
    /// A status and a short text. 401 comes with a challenge for credentials.
    Status {
        /// The status code.
        status: u16,
    },
    /// A fixed text. `{origin:NAME}` in it becomes the base URL of host NAME.
    Fixed {
        /// The status code.
        #[serde(default = "ok")]
        status: u16,
        /// The content type.
        content_type: String,
        /// The text.
        text: String,
    },
    /// A redirect. To the same path it is a loop.
    Redirect {
        /// Where to.
        to: Target,
        /// 301, 302, 303, 307 or 308.
        #[serde(default = "found")]
        status: u16,
        /// How many redirects to the path itself, with `?hop=1`, `?hop=2`, …, come before the one to the target.
        #[serde(default)]
        hops: u32,
        /// Whether the part of the path after the route's prefix is appended to the target.
        #[serde(default)]
        keep_rest: bool,
    },
    /// 200 and a page that asks for a password.
    LoginPage,
    /// A bot challenge as content delivery networks show it.
    ChallengePage {
        /// 403, 503 or 200.
        #[serde(default = "forbidden")]
        status: u16,
    },
}

/// Where a redirect points.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Target {
    /// A path on the same host, sent as a relative reference.
    Path(String),
    /// A path on another host of this origin, sent as an absolute URL.
    Host {
        /// The host's name.
        name: String,
        /// The path there.
        path: String,
    },
    /// Any text, e.g. a URL of a scheme that is not HTTP.
    Url(String),
}

/// How a document says where it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Framing {
    /// A right `Content-Length`.
    #[default]
    Length,
    /// Chunks, and no length.
    Chunked,
    /// A `Content-Length` that is wrong by this much. Too large, and the connection closes after the real bytes;
    /// too small, and the body is cut to it.
    WrongLength {
        /// Added to the right length.
        by: i64,
    },
}

/// What becomes of a `Range` header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ranges {
    /// Single ranges are served, `If-Range` is obeyed; several ranges at once get the whole.
    #[default]
    Honoured,
    /// The whole, and no `Accept-Ranges`.
    Unsupported,
    /// The whole, although `Accept-Ranges: bytes` promises otherwise.
    Ignored,
    /// A 206 of the right length that starts at 0, and whose `Content-Range` says so, whatever was asked for.
    WrongContentRange,
    /// As honoured, but requests without `Range` get a 206 with the first half.
    Unsolicited,
}

/// What a document tells about its version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Validators {
    /// A strong `ETag` and `Last-Modified`.
    #[default]
    Strong,
    /// A weak `ETag` and `Last-Modified`.
    Weak,
    /// `Last-Modified` alone.
    Date,
    /// Nothing.
    Absent,
}

fn too_many_requests() -> u16 {
    429
}

fn one_second() -> u64 {
    1000
}

fn yes() -> bool {
    true
}

fn ok() -> u16 {
    200
}

fn found() -> u16 {
    302
}

fn forbidden() -> u16 {
    403
}
