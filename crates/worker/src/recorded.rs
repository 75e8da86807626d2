//! What the queue remembers of an ended job, and the way back from it.

use longhaul_pipeline::{Ended, EndedState, Fetched};
use longhaul_queue_core::{JobRecord, JobState};
use serde::{Deserialize, Serialize};

/// The JSON text that a settlement records: with the row it is enough to rebuild an [`Ended`] after a crash.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Recorded<'a> {
    /// For people.
    #[serde(default, skip_serializing_if = "str::is_empty")]
    pub(crate) detail: std::borrow::Cow<'a, str>,
    /// Which resolver's plan ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) resolver: Option<String>,
    /// Whether another try might have gone well, and there was none left.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) out_of_attempts: bool,
    /// What was fetched. Owned by the text, not borrowed: it is read back into an `Ended`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) fetched: Option<Fetched>,
}

/// Why a row of the queue cannot be turned back into an ended job.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordedError {
    /// The job has not ended.
    #[error("job {job} is {state}, so there is nothing to publish")]
    NotEnded {
        /// The job's number.
        job: i64,
        /// Its state.
        state: &'static str,
    },
    /// What its settlement recorded is not this program's.
    #[error("what job {job} recorded cannot be read; `retry` or `requeue` fetches it again")]
    Unreadable {
        /// The job's number.
        job: i64,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
}

/// Whether a job ended because its last try failed in a way that a further one might not have. False for one that has
/// not ended, or whose outcome is not this program's.
pub fn is_out_of_attempts(record: &JobRecord) -> bool {
    let recorded = record.outcome.as_deref().filter(|_| record.state == JobState::Error);
    recorded
        .and_then(|text| serde_json::from_str::<Recorded<'_>>(text).ok())
        .is_some_and(|recorded| recorded.out_of_attempts)
}

/// Rebuilds what `publish` needs from a job's row, after a crash between the settlement and its publication.
///
/// Jobs that the store ended by itself (too many losses) or an operator did (cancelled) recorded no outcome; their
/// reason and last error are all there is.
///
/// # Errors
/// If the job has not ended, or its outcome cannot be read.
pub fn ended_from_record(record: &JobRecord) -> Result<Ended, RecordedError> {
    let job = record.id.0;
    let state = match record.state {
        JobState::Done => EndedState::Done,
        JobState::Skipped => EndedState::Skipped,
        JobState::Error => EndedState::Error,
        JobState::Queued | JobState::InProgress => {
            return Err(RecordedError::NotEnded { job, state: record.state.as_str() });
        }
    };
    let recorded: Option<Recorded<'_>> = match &record.outcome {
        Some(text) => {
            Some(serde_json::from_str(text).map_err(|source| RecordedError::Unreadable { job, source })?)
        }
        None => None,
    };
    let (detail, resolver, fetched) = match recorded {
        Some(Recorded { detail, resolver, fetched, out_of_attempts: _ }) => {
            // What was fetched names its resolver itself.
            let resolver = resolver.or_else(|| fetched.as_ref().map(|fetched| fetched.resolver.clone()));
            (detail.into_owned(), resolver, fetched)
        }
        None => (record.last_error.clone().unwrap_or_default(), None, None),
    };
    Ok(Ended {
        number: job,
        fence: record.fence,
        artifact_id: record.artifact_id.to_string(),
        payload: record.payload.clone(),
        state,
        reason: record.reason.clone().unwrap_or_default(),
        detail,
        attempts: record.attempts,
        resolver,
        fetched,
        at_ms: record.finished_at.unwrap_or(record.updated_at).0,
        recovered: true,
    })
}
