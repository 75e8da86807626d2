//! The one error of this crate: a fact of the domain, with what happened behind it as its source.

use std::fmt;

/// The result of every fallible call here.
pub type Result<T, E = QueueError> = std::result::Result<T, E>;

/// What kind of fact an error states.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// What was asked for is not well-formed; nothing was done.
    Invalid,
    /// No such job, lane or worker.
    NotFound,
    /// The queue is set up otherwise than this process (keying, for instance).
    Conflict,
    /// Somebody else holds the store; try again.
    Busy,
    /// The store cannot be reached or written at the moment: a full disk, a read-only file, a lost connection.
    /// Nothing was done, or it was and the reply was lost: trying again is right.
    Unavailable,
    /// The store's contents contradict themselves.
    Corrupt,
    /// The store was written by a newer version of this program.
    SchemaTooNew,
    /// The store lies where it cannot work: a network file system.
    Unsupported,
}

/// Why a call to a queue could not be carried out. A call that failed has changed nothing, unless its reply was lost.
#[derive(Debug, thiserror::Error)]
pub struct QueueError {
    kind: ErrorKind,
    message: String,
    #[source]
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl QueueError {
    /// An error of a kind, with a message for people: what happened, to what, what to do next.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), source: None }
    }

    /// The same with what lies behind it.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// What kind of fact it states.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Whether the same call may succeed later without anybody changing it.
    pub fn is_retryable(&self) -> bool {
        matches!(self.kind, ErrorKind::Busy | ErrorKind::Unavailable)
    }
}

impl fmt::Display for QueueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}
