//! What a request that was let through is answered: from the behaviour, the path and the request's headers to a
//! [`Plan`]. It neither waits nor sends nor counts.

use std::ops::Range;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use hyper::header::{self, HeaderMap};
use hyper::http::{self, response};
use hyper::{Method, Response, StatusCode, Uri};

use crate::behaviour::{Answer, Framing, Ranges, Reply, RetryAfter, Target, Validators};
use crate::body::Document;
use crate::exchange::Cut;
use crate::faults::{self, Fault};
use crate::hash;
use crate::host::{Directory, Host};
use crate::payload::{Source, Then};

/// What to do about a request, after the latency.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) latency: Duration,
    pub(crate) action: Action,
    /// Whether a fault struck.
    pub(crate) struck: bool,
}

#[derive(Debug)]
pub(crate) enum Action {
    Send(Draft),
    /// A status that may announce when to come back.
    Announce {
        status: u16,
        retry_after: Option<RetryAfter>,
    },
    Reset,
    Silence,
}

/// An answer that has not been sent.
#[derive(Debug)]
pub(crate) struct Draft {
    pub(crate) head: response::Parts,
    pub(crate) source: Source,
    pub(crate) range: Range<u64>,
    pub(crate) then: Then,
    pub(crate) bytes_per_second: Option<u64>,
}

/// What matters of a request.
#[derive(Debug)]
pub(crate) struct Asked<'a> {
    pub(crate) method: &'a Method,
    pub(crate) uri: &'a Uri,
    pub(crate) headers: &'a HeaderMap,
    /// How often the path was asked for, this time included.
    pub(crate) ask: u64,
}

/// Decides. It fails only if the behaviour holds a text that cannot stand in a header.
pub(crate) fn plan(
    host: &Host,
    directory: &Directory,
    answer: &Answer,
    rest: &str,
    asked: &Asked<'_>,
) -> Result<Plan, http::Error> {
    let path = asked.uri.path();
    let fault = faults::strikes(host.seed, path, asked.ask, &answer.faults);
    let spread_us = answer.latency_spread_ms.saturating_mul(1000).saturating_add(1);
    let extra_us = hash::of(host.seed, &[b"latency", path.as_bytes(), &asked.ask.to_le_bytes()]) % spread_us;
    let mut latency = Duration::from_millis(answer.latency_ms) + Duration::from_micros(extra_us);
    let action = match fault {
        Some(Fault::Status { status, retry_after }) => {
            Action::Announce { status: *status, retry_after: *retry_after }
        }
        Some(Fault::ResetBeforeHead) => Action::Reset,
        Some(Fault::NeverAnswer) => Action::Silence,
        Some(Fault::SlowFirstByte { delay_ms }) => {
            latency += Duration::from_millis(*delay_ms);
            Action::Send(draft(host, directory, answer, rest, asked)?)
        }
        Some(Fault::ResetInBody { at_percent }) => Action::Send(
            draft(host, directory, answer, rest, asked)?.cut_short(*at_percent, Then::Cut(Cut::Reset)),
        ),
        Some(Fault::TruncateBody { at_percent }) => Action::Send(
            draft(host, directory, answer, rest, asked)?.cut_short(*at_percent, Then::Cut(Cut::Close)),
        ),
        Some(Fault::StallInBody { at_percent }) => {
            Action::Send(draft(host, directory, answer, rest, asked)?.cut_short(*at_percent, Then::Silence))
        }
        None => Action::Send(draft(host, directory, answer, rest, asked)?),
    };
    Ok(Plan { latency, action, struck: fault.is_some() })
}

/// An answer with a short text.
pub(crate) fn note(status: u16, retry_after: Option<&str>) -> Result<Draft, http::Error> {
    let mut head = Response::builder().status(status);
    if let Some(retry_after) = retry_after {
        head = head.header(header::RETRY_AFTER, retry_after);
    }
    text(head, "text/plain; charset=utf-8", format!("{status}\n"))
}

impl Draft {
    /// The answer where a behaviour holds a text that cannot stand in a header.
    pub(crate) fn misconfigured(error: &http::Error) -> Self {
        let text = Bytes::from(format!("the configured answer is no HTTP: {error}\n"));
        let mut head = Response::new(()).into_parts().0;
        head.status = StatusCode::INTERNAL_SERVER_ERROR;
        head.headers.insert(header::CONTENT_LENGTH, text.len().into());
        let range = 0..text.len() as u64;
        Self { head, source: Source::Text(text), range, then: Then::End, bytes_per_second: None }
    }

    /// Leaves the head as it is and the body off from some point on.
    fn cut_short(mut self, at_percent: u8, then: Then) -> Self {
        let length = u128::from(self.range.end - self.range.start);
        let kept = (length * u128::from(at_percent.min(100)) / 100) as u64;
        self.range.end = self.range.start + kept;
        self.then = then;
        self
    }
}

fn draft(
    host: &Host,
    directory: &Directory,
    answer: &Answer,
    rest: &str,
    asked: &Asked<'_>,
) -> Result<Draft, http::Error> {
    let mut head = Response::builder();
    for (name, value) in &answer.headers {
        head = head.header(name, value);
    }
    if let Some(encoding) = &answer.content_encoding {
        head = head.header(header::CONTENT_ENCODING, encoding);
    }
    let kind = |honest: &str| answer.content_type.clone().unwrap_or_else(|| honest.to_owned());
    let mut draft = match &answer.reply {
        Reply::Document => document(host, answer, asked, head),
        Reply::Status { status } => {
            if *status == 401 {
                head = head.header(header::WWW_AUTHENTICATE, "Basic realm=\"origin\"");
            }
            text(head.status(*status), &kind("text/plain; charset=utf-8"), format!("{status}\n"))
        }
        Reply::Fixed { status, content_type, text: fixed } => {
            text(head.status(*status), &kind(content_type), directory.fill_in(fixed))
        }
        Reply::Redirect { to, status, hops, keep_rest } => {
            let rest = if *keep_rest { rest } else { "" };
            let location = location(directory, to, *hops, rest, asked.uri);
            let head = head.status(*status).header(header::LOCATION, location);
            text(head, &kind("text/html; charset=utf-8"), "<p>Moved.</p>\n".to_owned())
        }
        Reply::LoginPage => text(head.status(200), &kind("text/html; charset=utf-8"), LOGIN_PAGE.to_owned()),
        Reply::ChallengePage { status } => {
            let head =
                head.status(*status).header(header::SERVER, "cloudflare").header("cf-mitigated", "challenge");
            text(head, &kind("text/html; charset=utf-8"), CHALLENGE_PAGE.to_owned())
        }
    }?;
    draft.bytes_per_second = answer.bandwidth_bytes_per_second;
    if asked.method == Method::HEAD {
        draft.range = 0..0;
        draft.then = Then::End;
    }
    Ok(draft)
}

fn text(head: response::Builder, content_type: &str, text: String) -> Result<Draft, http::Error> {
    let head = head.header(header::CONTENT_TYPE, content_type);
    let (mut head, ()) = head.body(())?.into_parts();
    let mut text = Bytes::from(text);
    if head.status.is_informational() || matches!(head.status.as_u16(), 204 | 304) {
        text.clear();
    } else {
        head.headers.insert(header::CONTENT_LENGTH, text.len().into());
    }
    let range = 0..text.len() as u64;
    Ok(Draft { head, source: Source::Text(text), range, then: Then::End, bytes_per_second: None })
}

fn location(directory: &Directory, to: &Target, hops: u32, rest: &str, uri: &Uri) -> String {
    let hop = uri.query().and_then(|query| query.strip_prefix("hop=")?.parse::<u32>().ok()).unwrap_or(0);
    if hop < hops {
        return format!("{}?hop={}", uri.path(), hop + 1);
    }
    match to {
        Target::Path(path) => format!("{path}{rest}"),
        Target::Host { name, path } => {
            // A host that does not exist has a name that never resolves.
            let base = directory.base(name).unwrap_or_else(|| format!("http://{name}.invalid"));
            format!("{base}{path}{rest}")
        }
        Target::Url(url) => format!("{url}{rest}"),
    }
}

fn document(
    host: &Host,
    answer: &Answer,
    asked: &Asked<'_>,
    head: response::Builder,
) -> Result<Draft, http::Error> {
    let document = Document::new(host.seed, &host.name, asked.uri.path(), answer.revision, answer.body);
    let (etag, date) = validators(&document, answer.validators);
    let mut head = head;
    if let Some(etag) = &etag {
        head = head.header(header::ETAG, etag);
    }
    if let Some(date) = date {
        head = head.header(header::LAST_MODIFIED, httpdate::fmt_http_date(date));
    }
    if not_modified(asked.headers, etag.as_deref(), date) {
        return text(head.status(304), document.kind().content_type(), String::new());
    }
    let length = document.len();
    let mut status = 200;
    let mut range = 0..length;
    let mut claimed = None;
    if matches!(answer.ranges, Ranges::Honoured | Ranges::Ignored | Ranges::Unsolicited) {
        head = head.header(header::ACCEPT_RANGES, "bytes");
    }
    let wanted = match answer.ranges {
        Ranges::Unsupported | Ranges::Ignored => Wanted::Whole,
        _ if asked.method != Method::GET => Wanted::Whole,
        _ if !if_range_holds(asked.headers, etag.as_deref(), date) => Wanted::Whole,
        _ => wanted(asked.headers, length),
    };
    match wanted {
        Wanted::Beyond => {
            let head = head.status(416).header(header::CONTENT_RANGE, format!("bytes */{length}"));
            return text(head, "text/plain; charset=utf-8", "416\n".to_owned());
        }
        Wanted::Part(part) => {
            range = if answer.ranges == Ranges::WrongContentRange { 0..part.end - part.start } else { part };
            claimed = Some(range.clone());
        }
        Wanted::Whole
            if answer.ranges == Ranges::Unsolicited && !asked.headers.contains_key(header::RANGE) =>
        {
            range = 0..length.div_ceil(2);
            claimed = Some(range.clone());
        }
        Wanted::Whole => {}
    }
    if let Some(part) = claimed.filter(|part| !part.is_empty()) {
        status = 206;
        head = head.header(header::CONTENT_RANGE, format!("bytes {}-{}/{length}", part.start, part.end - 1));
    }
    let content_type = answer.content_type.as_deref().unwrap_or(document.kind().content_type());
    head = head.status(status).header(header::CONTENT_TYPE, content_type);
    let mut then = Then::End;
    match answer.framing {
        Framing::Length => head = head.header(header::CONTENT_LENGTH, range.end - range.start),
        Framing::Chunked => {}
        Framing::WrongLength { by } => {
            let right = range.end - range.start;
            let wrong = right.saturating_add_signed(by);
            head = head.header(header::CONTENT_LENGTH, wrong);
            range.end = range.end.min(range.start + wrong);
            if wrong > right {
                then = Then::Cut(Cut::Close);
            }
        }
    }
    let (head, ()) = head.body(())?.into_parts();
    Ok(Draft { head, source: Source::Document(document), range, then, bytes_per_second: None })
}

fn validators(document: &Document, told: Validators) -> (Option<String>, Option<SystemTime>) {
    let date = UNIX_EPOCH + Duration::from_secs(document.last_modified());
    match told {
        Validators::Strong => (Some(document.etag()), Some(date)),
        Validators::Weak => (Some(format!("W/{}", document.etag())), Some(date)),
        Validators::Date => (None, Some(date)),
        Validators::Absent => (None, None),
    }
}

fn not_modified(headers: &HeaderMap, etag: Option<&str>, date: Option<SystemTime>) -> bool {
    if let Some(tags) = text_of(headers, header::IF_NONE_MATCH) {
        let opaque = |tag: &str| tag.trim().trim_start_matches("W/").to_owned();
        return etag.is_some_and(|etag| {
            tags.trim() == "*" || tags.split(',').any(|tag| opaque(tag) == opaque(etag))
        });
    }
    let since =
        text_of(headers, header::IF_MODIFIED_SINCE).and_then(|since| httpdate::parse_http_date(since).ok());
    since.zip(date).is_some_and(|(since, date)| date <= since)
}

/// Whether a range may be served: `If-Range` is absent, or names this very version by a strong tag or its date.
fn if_range_holds(headers: &HeaderMap, etag: Option<&str>, date: Option<SystemTime>) -> bool {
    let Some(condition) = text_of(headers, header::IF_RANGE) else { return true };
    if condition.starts_with('"') {
        return etag == Some(condition);
    }
    httpdate::parse_http_date(condition).is_ok_and(|condition| date == Some(condition))
}

#[derive(Debug, PartialEq, Eq)]
enum Wanted {
    Whole,
    Part(Range<u64>),
    Beyond,
}

/// What `Range` asks for. What cannot be understood, and several ranges at once, may be ignored, and are.
fn wanted(headers: &HeaderMap, length: u64) -> Wanted {
    let spec =
        text_of(headers, header::RANGE).and_then(|range| range.strip_prefix("bytes=")?.split_once('-'));
    let Some((first, last)) = spec else { return Wanted::Whole };
    let number = |text: &str| text.trim().parse::<u64>().ok();
    let part = match (number(first), number(last)) {
        (Some(first), None) if last.trim().is_empty() => first..length,
        (Some(first), Some(last)) if first <= last => first..last.saturating_add(1).min(length),
        (None, Some(count)) if first.trim().is_empty() => length.saturating_sub(count)..length,
        _ => return Wanted::Whole,
    };
    if part.start >= length { Wanted::Beyond } else { Wanted::Part(part) }
}

fn text_of(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

const LOGIN_PAGE: &str = "<!doctype html>\n<html><head><title>Sign in</title></head><body>\n\
    <h1>Sign in to continue</h1>\n<form method=\"post\" action=\"/login\">\n\
    <input name=\"username\"><input type=\"password\" name=\"password\">\n\
    <button>Sign in</button>\n</form></body></html>\n";

const CHALLENGE_PAGE: &str = "<!doctype html>\n<html><head><title>Just a moment...</title></head><body>\n\
    <h1>Checking your browser before you proceed</h1>\n\
    <script src=\"/cdn-cgi/challenge-platform/scripts/main.js\"></script>\n\
    <noscript>Enable JavaScript and cookies to continue</noscript></body></html>\n";

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn range(value: &str) -> Wanted {
        wanted(&HeaderMap::from_iter([(header::RANGE, value.parse().unwrap())]), 1000)
    }

    #[test]
    fn ranges_are_read_as_the_standard_says() {
        assert_eq!(range("bytes=0-0"), Wanted::Part(0..1));
        assert_eq!(range("bytes=500-"), Wanted::Part(500..1000));
        assert_eq!(range("bytes=500-5000"), Wanted::Part(500..1000));
        assert_eq!(range("bytes=-10"), Wanted::Part(990..1000));
        assert_eq!(range("bytes=-5000"), Wanted::Part(0..1000));
        assert_eq!(range("bytes=1000-"), Wanted::Beyond);
        assert_eq!(range("bytes=-0"), Wanted::Beyond);
        for ignored in ["bytes=9-5", "bytes=0-1,5-6", "bytes=a-b", "lines=1-2", "bytes=-"] {
            assert_eq!(range(ignored), Wanted::Whole, "{ignored}");
        }
    }
}
