//! The one error of this crate.

use std::time::Duration;

use longhaul_queue_core::QueueError;

/// The result of every fallible call here.
pub type Result<T, E = OrchestratorError> = std::result::Result<T, E>;

/// What kind of fact an error states.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A value of the configuration cannot be.
    InvalidConfig,
    /// The queue refused, and repeating mends nothing.
    Queue,
    /// This machine could not work for longer than a drain waits: no space, no network, no output folder.
    LocalFault,
    /// The run was torn down from outside: its runtime ended, or a task of its own panicked.
    Aborted,
}

/// Why a run could not start or go on.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct OrchestratorError {
    kind: ErrorKind,
    message: String,
    #[source]
    source: Option<QueueError>,
}

impl OrchestratorError {
    pub(crate) fn config(message: impl Into<String>) -> Self {
        Self { kind: ErrorKind::InvalidConfig, message: message.into(), source: None }
    }

    pub(crate) fn aborted(message: impl Into<String>) -> Self {
        Self { kind: ErrorKind::Aborted, message: message.into(), source: None }
    }

    pub(crate) fn local_fault(lasted: Duration, detail: &str) -> Self {
        let message = format!(
            "this machine cannot work, for {} s now: {detail}; no job was charged for it, so mend that and start again",
            lasted.as_secs()
        );
        Self { kind: ErrorKind::LocalFault, message, source: None }
    }

    pub(crate) fn queue(what: &str, source: QueueError) -> Self {
        Self { kind: ErrorKind::Queue, message: format!("{what}: {source}"), source: Some(source) }
    }

    /// What kind of fact it states.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Whether starting again may succeed without anybody changing anything.
    pub fn is_retryable(&self) -> bool {
        self.source.as_ref().is_some_and(QueueError::is_retryable)
    }

    /// What the queue said, if it is the cause.
    pub fn queue_error(&self) -> Option<&QueueError> {
        self.source.as_ref()
    }
}
