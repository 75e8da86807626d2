//! The words that events are told in.

use std::fmt;

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

impl Verb {
    /// As it stands in a request.
    pub fn as_str(self) -> &'static str {
        match self {
            Verb::Get => "GET",
            Verb::Head => "HEAD",
            Verb::Post => "POST",
        }
    }
}

/// What a job waited for before a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum WaitCause {
    /// The host's pace. The key is the lane.
    Pace,
    /// A slot of the host. The key is the lane.
    Cap,
    /// The end of a host's cool-down or pause. The key is the lane.
    CoolDown,
    /// A permit of the resolver. The key is the resolver.
    Resolver,
    /// The rate of requests that the whole process keeps to. There is no key.
    Process,
    /// The bandwidth that the whole process keeps to. There is no key.
    Bandwidth,
}

impl WaitCause {
    /// The word for it: `pace`, `cap`, `cool-down`, `resolver`, `process`, `bandwidth`.
    pub fn as_str(self) -> &'static str {
        match self {
            WaitCause::Pace => "pace",
            WaitCause::Cap => "cap",
            WaitCause::CoolDown => "cool-down",
            WaitCause::Resolver => "resolver",
            WaitCause::Process => "process",
            WaitCause::Bandwidth => "bandwidth",
        }
    }

    /// Whether the key is a lane.
    pub fn is_of_a_lane(self) -> bool {
        match self {
            WaitCause::Pace | WaitCause::Cap | WaitCause::CoolDown => true,
            WaitCause::Resolver | WaitCause::Process | WaitCause::Bandwidth => false,
        }
    }
}

/// What one request came to. Why is its reason code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum RequestStatus {
    /// What was asked for came.
    Ok,
    /// It is elsewhere, or has to be asked for anew.
    Redirected,
    /// The host asked for quiet.
    Throttled,
    /// It is of no use: an error of ours, something else than was asked for, or what is not accepted here.
    Rejected,
    /// The host did not answer as it should; the next time it may.
    Failed,
    /// This machine is at fault, or has broken the request off.
    Cancelled,
}

impl RequestStatus {
    /// The word for it: `ok`, `redirected`, `throttled`, `rejected`, `failed`, `cancelled`.
    pub fn as_str(self) -> &'static str {
        match self {
            RequestStatus::Ok => "ok",
            RequestStatus::Redirected => "redirected",
            RequestStatus::Throttled => "throttled",
            RequestStatus::Rejected => "rejected",
            RequestStatus::Failed => "failed",
            RequestStatus::Cancelled => "cancelled",
        }
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for WaitCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for RequestStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn check<T: Serialize + fmt::Display>(words: impl IntoIterator<Item = T>) {
        for word in words {
            assert_eq!(serde_json::to_string(&word).unwrap(), format!("\"{word}\""));
        }
    }

    #[test]
    fn a_word_is_the_same_in_text_and_in_json() {
        use {RequestStatus as Status, WaitCause as Cause};
        check([Verb::Get, Verb::Head, Verb::Post]);
        check([Cause::Pace, Cause::Cap, Cause::CoolDown, Cause::Resolver, Cause::Process, Cause::Bandwidth]);
        check([Status::Ok, Status::Redirected, Status::Throttled, Status::Rejected, Status::Failed]);
        check([Status::Cancelled]);
    }
}
