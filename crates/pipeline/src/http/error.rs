//! Why the pipeline could not be set up. What happens to a job is an outcome, never an error.

use std::error::Error;
use std::path::Path;

/// Why an [`HttpPipeline`](crate::HttpPipeline) could not be set up. Its message says what to do.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct SetupError {
    message: String,
    #[source]
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl SetupError {
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), source: None }
    }

    pub(super) fn caused(
        message: impl Into<String>,
        source: impl Into<Box<dyn Error + Send + Sync>>,
    ) -> Self {
        Self { message: message.into(), source: Some(source.into()) }
    }

    pub(super) fn output(what: &str, path: &Path, source: std::io::Error) -> Self {
        let path = path.display();
        Self::caused(
            format!("cannot {what} {path}: {source}; choose an output folder that can be written"),
            source,
        )
    }

    pub(super) fn manifest(what: &str, path: &Path, source: std::io::Error) -> Self {
        let path = path.display();
        Self::caused(
            format!("cannot {what} {path}: {source}; choose a place for it that can be written"),
            source,
        )
    }
}
