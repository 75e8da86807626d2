//! What an answer's head means. The status comes first: a body is looked at only where there may be one.

use std::time::{Duration, SystemTime};

use reqwest::header::{self, HeaderMap, HeaderName};

use super::{check, retry_after};
use crate::Reason;

/// What is to be done with an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Meaning {
    /// The artifact comes.
    Body,
    /// The rest of it comes, as it was asked for.
    Rest,
    /// What is here cannot be continued: fetch all of it.
    Afresh,
    /// It is elsewhere.
    Redirect,
    /// It does not exist.
    Gone,
    /// The host asks for quiet, for so long if it says.
    Throttled(Option<Duration>),
    /// The host cannot answer at the moment.
    Broken,
    /// The host will not give it like this.
    Denied(Reason),
}

/// When the answer was made, by its host's own calendar. A date of that host means nothing beside our calendar, which
/// may be off by any amount: it would end a closing too early, or an hour too late.
fn sent_at(headers: &HeaderMap, wall: SystemTime) -> SystemTime {
    text(headers, &header::DATE).and_then(|date| httpdate::parse_http_date(date).ok()).unwrap_or(wall)
}

/// Judges a head. `resuming` says that the request had a range.
pub(super) fn meaning(status: u16, headers: &HeaderMap, resuming: bool, wall: SystemTime) -> Meaning {
    let asks = || {
        text(headers, &header::RETRY_AFTER)
            .and_then(|value| retry_after::parse(value, sent_at(headers, wall)))
    };
    // The delivery network says itself that this is a challenge, under whatever status.
    let challenged = headers.get("cf-mitigated").is_some_and(|value| value.as_bytes() == b"challenge");
    match status {
        429 => Meaning::Throttled(asks()),
        _ if challenged => Meaning::Denied(Reason::ChallengePage),
        200 | 203 => Meaning::Body,
        206 if resuming => Meaning::Rest,
        301 | 302 | 303 | 307 | 308 => Meaning::Redirect,
        404 | 410 => Meaning::Gone,
        412 | 416 if resuming => Meaning::Afresh,
        503 => asks().map_or(Meaning::Broken, |length| Meaning::Throttled(Some(length))),
        408 | 500..=599 => Meaning::Broken,
        401 | 403 if check::says(text(headers, &header::CONTENT_TYPE), "text/html") => {
            Meaning::Denied(Reason::ChallengePage)
        }
        // Other errors of ours; successes without the artifact (202, 204); and what nobody asked for (206, 304).
        _ => Meaning::Denied(Reason::HttpStatus),
    }
}

/// A header as text; `None` if it is absent or not ASCII.
pub(super) fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// How a body is packed, in lower case; `None` if it is not. Nobody is asked to pack anything.
pub(super) fn packed(headers: &HeaderMap) -> Option<String> {
    let coding = text(headers, &header::CONTENT_ENCODING)?.trim().to_ascii_lowercase();
    Some(coding).filter(|coding| !matches!(coding.as_str(), "" | "identity"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn check(status: u16, headers: &[(&'static str, &str)], resuming: bool) -> Meaning {
        let headers = headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()))
            .collect();
        meaning(status, &headers, resuming, SystemTime::UNIX_EPOCH)
    }

    #[test]
    fn a_status_means_one_thing() {
        let table = [
            (200, Meaning::Body),
            (202, Meaning::Denied(Reason::HttpStatus)),
            (204, Meaning::Denied(Reason::HttpStatus)),
            (206, Meaning::Denied(Reason::HttpStatus)),
            (304, Meaning::Denied(Reason::HttpStatus)),
            (307, Meaning::Redirect),
            (400, Meaning::Denied(Reason::HttpStatus)),
            (401, Meaning::Denied(Reason::HttpStatus)),
            (404, Meaning::Gone),
            (408, Meaning::Broken),
            (410, Meaning::Gone),
            (412, Meaning::Denied(Reason::HttpStatus)),
            (429, Meaning::Throttled(None)),
            (500, Meaning::Broken),
            (503, Meaning::Broken),
            (599, Meaning::Broken),
        ];
        for (status, expect) in table {
            assert_eq!(check(status, &[], false), expect, "{status}");
        }
    }

    #[test]
    fn retry_after_makes_a_503_a_throttling() {
        let seven = Meaning::Throttled(Some(Duration::from_secs(7)));
        assert_eq!(check(503, &[("retry-after", "7")], false), seven);
        assert_eq!(check(429, &[("retry-after", "7")], false), seven);
        assert_eq!(check(503, &[("retry-after", "0")], false), Meaning::Broken);
        assert_eq!(check(500, &[("retry-after", "7")], false), Meaning::Broken);
    }

    #[test]
    fn a_retry_after_date_is_relative_to_the_answers_own_date() {
        let retry_after = ("retry-after", "Sun, 06 Nov 1994 08:49:37 GMT");
        let date = ("date", "Sun, 06 Nov 1994 08:49:00 GMT");
        let said = Meaning::Throttled(Some(Duration::from_secs(37)));
        assert_eq!(check(429, &[retry_after, date], false), said);
        // Only a host without a calendar is judged by ours, which is decades behind here.
        let a_day = Meaning::Throttled(Some(Duration::from_hours(24)));
        assert_eq!(check(429, &[retry_after, ("date", "today")], false), a_day);
    }

    #[test]
    fn what_answers_a_range_is_another_thing() {
        assert_eq!(check(206, &[], true), Meaning::Rest);
        assert_eq!(check(412, &[], true), Meaning::Afresh);
        assert_eq!(check(416, &[], true), Meaning::Afresh);
        assert_eq!(check(200, &[], true), Meaning::Body);
    }

    #[test]
    fn a_page_instead_of_permission_is_a_challenge() {
        let challenge = Meaning::Denied(Reason::ChallengePage);
        assert_eq!(check(403, &[("content-type", "text/html; charset=utf-8")], false), challenge);
        assert_eq!(
            check(403, &[("content-type", "application/json")], false),
            Meaning::Denied(Reason::HttpStatus)
        );
        assert_eq!(check(503, &[("cf-mitigated", "challenge")], false), challenge);
        assert_eq!(check(429, &[("cf-mitigated", "challenge")], false), Meaning::Throttled(None));
    }
}
