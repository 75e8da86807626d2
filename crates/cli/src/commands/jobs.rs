//! What the commands about jobs share: finding one by what a user typed, and the shape in which jobs are printed.

use anyhow::Result;
use longhaul_pipeline::Record;
use longhaul_queue_core::{
    ArtifactId, HistoryEntry, JobFilter, JobId, JobPage, JobRecord, Lane, Timestamp, WorkerId,
};
use serde::Serialize;
use serde_json::Value;
use url::Url;

use super::enqueue::named;
use crate::exit::UsageError;
use crate::output::{Console, rfc3339};
use crate::store::Store;

/// Finds a job by its artifact as a user would type it, else by its number. Who has an artifact that is called like a
/// number means the artifact, unless `is_number` says otherwise.
pub(super) async fn find(
    store: &Store,
    typed: &str,
    is_number: bool,
) -> Result<Option<(JobRecord, Vec<HistoryEntry>)>> {
    let typed = typed.trim();
    if is_number {
        return by_number(store, typed).await;
    }
    let normalised = named(typed).ok().map(|record| record.artifact_id);
    let mut keys: Vec<&str> = normalised.iter().map(String::as_str).chain([typed]).collect();
    keys.dedup();
    for key in keys {
        let Ok(id) = ArtifactId::new(key) else { continue };
        if let Some(found) = store.admin.get(&id).await? {
            return Ok(Some(found));
        }
    }
    by_number(store, typed).await
}

/// The job of this number; `None` also for what is no number.
async fn by_number(store: &Store, typed: &str) -> Result<Option<(JobRecord, Vec<HistoryEntry>)>> {
    let Some(number) = typed.parse::<i64>().ok().filter(|number| *number > 0) else { return Ok(None) };
    let page = JobPage { after: Some(JobId(number - 1)), limit: 1 };
    let found = store.admin.list(&JobFilter::default(), page).await?;
    match found.first().filter(|job| job.id.0 == number) {
        Some(job) => Ok(store.admin.get(&job.artifact_id).await?),
        None => Ok(None),
    }
}

/// Says that something is not in the queue, and what to do.
pub(super) fn say_missing(store: &Store, typed: &str, is_number: bool, console: &Console) {
    if is_number {
        console.error(&format!(
            "{} has no job {typed}; `longhaul queue list` shows the numbers that there are",
            store.name()
        ));
        return;
    }
    let known = named(typed).ok().map(|record| record.artifact_id).filter(|id| id != typed.trim());
    let looked = known.map_or_else(String::new, |id| format!(" (looked for {id})"));
    console.error(&format!(
        "{typed} is not in {}{looked}; `longhaul queue list` shows what is, `longhaul queue enqueue` adds it",
        store.name()
    ));
}

/// Says of an artifact that is called like a number that there is a job of this number too.
pub(super) async fn say_namesake(
    store: &Store,
    typed: &str,
    job: &JobRecord,
    console: &Console,
) -> Result<()> {
    let typed = typed.trim();
    if typed.parse::<i64>().is_ok_and(|number| number != job.id.0)
        && let Some((other, _)) = by_number(store, typed).await?
    {
        console.note(&format!(
            "this is the artifact that is called {typed}; job {typed} is {}: --job means that one",
            other.artifact_id
        ));
    }
    Ok(())
}

/// The lane of a host as this queue keys hosts.
pub(super) fn lane_of(store: &Store, host: &Url) -> Result<Lane, UsageError> {
    store.keying.lane(host).map_err(|error| UsageError(format!("{host}: {error}")))
}

/// The documented JSON of a job. Times are RFC 3339 in UTC; `artifact` is what was imported, so that a line of it can
/// be imported again.
#[derive(Debug, Serialize)]
pub(super) struct JobShape<'a> {
    job: i64,
    id: &'a str,
    state: &'static str,
    reason: Option<&'a str>,
    lane: Option<&'a str>,
    role: &'static str,
    priority: u8,
    attempts: u32,
    max_attempts: Option<u32>,
    losses: u32,
    throttles: u32,
    available_at: Option<String>,
    created_at: Option<String>,
    updated_at: Option<String>,
    finished_at: Option<String>,
    worker: Option<&'a str>,
    last_error: Option<&'a str>,
    store: Option<&'a str>,
    path: Option<&'a str>,
    sha256: Option<&'a str>,
    published: bool,
    pruned: bool,
    artifact: Value,
}

impl<'a> JobShape<'a> {
    pub(super) fn new(job: &'a JobRecord) -> Self {
        let lane = &job.place.lane;
        Self {
            job: job.id.0,
            id: job.artifact_id.as_str(),
            state: job.state.as_str(),
            reason: job.reason.as_deref(),
            lane: Some(lane.as_str()).filter(|_| !lane.is_none()),
            role: job.place.role.as_str(),
            priority: job.priority.get(),
            attempts: job.attempts,
            max_attempts: job.max_attempts,
            losses: job.losses,
            throttles: job.throttles,
            available_at: rfc3339(job.available_at),
            created_at: rfc3339(job.created_at),
            updated_at: rfc3339(job.updated_at),
            finished_at: job.finished_at.and_then(rfc3339),
            worker: job.worker.as_ref().map(WorkerId::as_str),
            last_error: job.last_error.as_deref(),
            store: job.store.as_ref().map(|store| store.0.as_str()),
            path: job.path.as_deref(),
            sha256: job.sha256.as_deref(),
            published: job.published,
            pruned: job.slim,
            artifact: artifact(job),
        }
    }
}

/// What was imported, with its key if it does not know that itself: it was pruned, or another program enqueued it.
fn artifact(job: &JobRecord) -> Value {
    let mut value: Value = serde_json::from_str(&job.payload).unwrap_or_default();
    if Record::from_payload(&job.payload).is_ok() {
        return value;
    }
    if !value.is_object() {
        value = Value::Object(serde_json::Map::new());
    }
    if let Value::Object(object) = &mut value {
        object.insert("artifact_id".to_owned(), job.artifact_id.as_str().into());
    }
    value
}

/// One line of a history.
#[derive(Debug, Serialize)]
pub(super) struct HistoryShape<'a> {
    at: Option<String>,
    event: &'a str,
    reason: Option<&'a str>,
    worker: Option<&'a str>,
}

impl<'a> HistoryShape<'a> {
    pub(super) fn new(line: &'a HistoryEntry) -> Self {
        Self {
            at: rfc3339(line.at),
            event: &line.event,
            reason: line.reason.as_deref(),
            worker: line.worker.as_ref().map(WorkerId::as_str),
        }
    }
}

/// When something of a job that has no other time happened last.
pub(super) fn last_change(job: &JobRecord) -> Timestamp {
    job.finished_at.unwrap_or(job.updated_at)
}

#[cfg(test)]
pub(super) mod samples {
    //! Jobs for the tests of the commands' output.

    use longhaul_queue_core::{Class, JobState, Place, Role, StoreId};

    use super::*;

    /// 12:00:00 UTC on the last of January 2026.
    pub(in crate::commands) const NOON: Timestamp = Timestamp(1_769_860_800_000);

    /// A queued job of a host.
    pub(in crate::commands) fn job(number: i64, id: &str, host: &str) -> JobRecord {
        JobRecord {
            id: JobId(number),
            artifact_id: ArtifactId::new(id).unwrap(),
            payload: serde_json::json!({ "id": id, "url": format!("https://{host}/{number}.pdf") })
                .to_string(),
            resolver_hint: None,
            place: Place::new(Lane::new(host).unwrap(), Role::Artifact),
            slot: None,
            priority: Class::default(),
            state: JobState::Queued,
            reason: None,
            attempts: 0,
            losses: 0,
            throttles: 0,
            max_attempts: None,
            available_at: NOON,
            fence: 0,
            worker: None,
            checkpoint: None,
            last_error: None,
            outcome: None,
            store: None,
            path: None,
            sha256: None,
            published: false,
            slim: false,
            created_at: NOON,
            updated_at: NOON,
            finished_at: None,
        }
    }

    /// One of each state, as a listing has them.
    pub(in crate::commands) fn jobs() -> Vec<JobRecord> {
        let later = |seconds: i64| Timestamp(NOON.0 + seconds * 1000);
        let done = JobRecord {
            state: JobState::Done,
            reason: Some("ok".to_owned()),
            attempts: 1,
            store: Some(StoreId("5e5e".to_owned())),
            path: Some("2020__on-ice__doi_10.1000_a.pdf".to_owned()),
            sha256: Some("ab".repeat(32)),
            published: true,
            finished_at: Some(later(90)),
            ..job(1, "doi:10.1000/a", "example.org")
        };
        let failed = JobRecord {
            state: JobState::Error,
            reason: Some("gone".to_owned()),
            attempts: 1,
            last_error: Some("404 from https://example.org/2.pdf".to_owned()),
            published: true,
            finished_at: Some(later(3_600)),
            ..job(2, "doi:10.1000/b", "example.org")
        };
        let running = JobRecord {
            state: JobState::InProgress,
            slot: Some(Lane::new("arxiv.org").unwrap()),
            worker: Some(WorkerId::from_text("00c0ffee00c0ffee")),
            updated_at: later(7_000),
            ..job(30, "arxiv:1706.03762", "arxiv.org")
        };
        let pruned = JobRecord {
            state: JobState::Skipped,
            reason: Some("robots".to_owned()),
            payload: "{}".to_owned(),
            slim: true,
            published: true,
            finished_at: Some(later(10)),
            ..job(31, "https://example.net:8443/a/long/way/to/a/file.pdf", "example.net:8443")
        };
        let waiting = JobRecord {
            reason: Some("timeout".to_owned()),
            attempts: 2,
            available_at: later(7_500),
            last_error: Some("nothing for 30 s from https://example.org/40.pdf".to_owned()),
            updated_at: later(7_100),
            ..job(40, "doi:10.1000/c", "example.org")
        };
        vec![done, failed, running, pruned, waiting]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What was listed can be imported again: it is the same artifact, with all that was known of it.
    #[test]
    fn a_printed_job_is_an_artifact_to_import() {
        for job in samples::jobs() {
            let line = serde_json::to_string(&JobShape::new(&job)).unwrap();
            let record = Record::parse_line(&line).unwrap().unwrap();
            assert_eq!(record.artifact_id, job.artifact_id.as_str());
            if !job.slim {
                let (ours, given): (Value, Value) = (
                    serde_json::from_str(record.payload()).unwrap(),
                    serde_json::from_str(&job.payload).unwrap(),
                );
                assert_eq!(ours, given);
            }
        }
    }
}
