//! Accepting jobs.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;
use sqlx::Row as _;

use super::lanes;
use super::open::failed;
use super::rows::unwritable;
use super::tx::Tx;
use crate::{ArtifactId, Enqueued, JobId, JobState, NewJob, Result};

#[derive(Serialize)]
struct NewRow<'j> {
    artifact_id: &'j str,
    payload: &'j str,
    resolver_hint: Option<&'j str>,
    lane: &'j str,
    role: &'static str,
    priority: u8,
    max_attempts: Option<u32>,
    available_at: i64,
}

const ENQUEUE: &str = "INSERT INTO jobs (artifact_id, artifact_json, resolver_hint, lane, role, priority, class, state, max_attempts,
                           available_at, created_at, updated_at)
         SELECT value ->> 'artifact_id', value ->> 'payload', value ->> 'resolver_hint', value ->> 'lane',
                value ->> 'role', value ->> 'priority', value ->> 'priority', 'queued', value ->> 'max_attempts',
                value ->> 'available_at', ?2, ?2
         FROM json_each(?1) WHERE true
         ON CONFLICT (artifact_id) DO NOTHING RETURNING id, artifact_id";

/// Accepts jobs; those that are there already stay as they are (INV-IDEMPOTENT).
pub(super) async fn enqueue(tx: &mut Tx<'_>, jobs: &[NewJob]) -> Result<Vec<Enqueued>> {
    let available_at = |job: &NewJob| tx.now.plus(job.delay).0;
    let rows: Vec<NewRow<'_>> = jobs
        .iter()
        .map(|job| NewRow {
            artifact_id: job.artifact_id.as_str(),
            payload: &job.payload,
            resolver_hint: job.resolver_hint.as_deref(),
            lane: job.place.lane.as_str(),
            role: job.place.role.as_str(),
            priority: job.priority.get(),
            max_attempts: job.max_attempts,
            available_at: available_at(job),
        })
        .collect();
    let inserted = sqlx::query(ENQUEUE)
        .bind(serde_json::to_string(&rows).map_err(unwritable)?)
        .bind(tx.now.0)
        .fetch_all(&mut *tx.conn)
        .await
        .map_err(failed)?;
    let new: HashMap<String, JobId> = inserted.iter().map(|row| (row.get(1), JobId(row.get(0)))).collect();
    tx.count(None, JobState::Queued, new.len() as u64);
    let answers = answers(tx, jobs.iter().map(|job| &job.artifact_id), new).await?;
    let openings =
        jobs.iter().zip(&rows).zip(&answers).filter(|(_, answer)| matches!(answer, Enqueued::New(_)));
    let openings = openings.map(|((job, row), _)| Opening::of(job, row.available_at));
    open_turns(tx, openings).await?;
    Ok(answers)
}

/// A new job's turn: its lane and class, and when the job lets it open.
#[derive(Debug)]
pub(super) struct Opening<'j> {
    turn: (&'j str, i64),
    at: i64,
}

impl<'j> Opening<'j> {
    pub(super) fn of(job: &'j NewJob, at: i64) -> Self {
        Self { turn: (job.place.lane.as_str(), i64::from(job.priority.get())), at }
    }
}

/// Makes sure that each new job's turn is there and opens in time for it.
pub(super) async fn open_turns(
    tx: &mut Tx<'_>,
    openings: impl IntoIterator<Item = Opening<'_>>,
) -> Result<()> {
    let mut turns: BTreeMap<(&str, i64), i64> = BTreeMap::new();
    for opening in openings {
        let open_at = turns.entry(opening.turn).or_insert(opening.at);
        *open_at = opening.at.min(*open_at);
    }
    if turns.is_empty() {
        return Ok(());
    }
    let turns = turns.into_iter().map(|((lane, class), open_at)| ((lane.to_owned(), class), open_at));
    lanes::lower_turns(tx, turns.collect()).await
}

/// What became of each key, given the numbers of those that were inserted. The second mention within one call finds the
/// number that the first one got.
pub(super) async fn answers<'j>(
    tx: &mut Tx<'_>,
    ids: impl ExactSizeIterator<Item = &'j ArtifactId> + Clone,
    mut new: HashMap<String, JobId>,
) -> Result<Vec<Enqueued>> {
    let known = if new.len() == ids.len() { HashMap::new() } else { known(tx, ids.clone()).await? };
    let answers = ids.map(|id| {
        let id = id.as_str();
        new.remove(id)
            .map_or_else(|| Enqueued::Duplicate(known.get(id).copied().unwrap_or(JobId(0))), Enqueued::New)
    });
    Ok(answers.collect())
}

const KNOWN: &str = "SELECT j.id, j.artifact_id FROM json_each(?1) q JOIN jobs j ON j.artifact_id = q.value";

async fn known(tx: &mut Tx<'_>, ids: impl Iterator<Item = &ArtifactId>) -> Result<HashMap<String, JobId>> {
    let ids: Vec<&str> = ids.map(ArtifactId::as_str).collect();
    let rows = sqlx::query(KNOWN)
        .bind(serde_json::to_string(&ids).map_err(unwritable)?)
        .fetch_all(&mut *tx.conn)
        .await
        .map_err(failed)?;
    Ok(rows.iter().map(|row| (row.get(1), JobId(row.get(0)))).collect())
}

/// What the plans are kept of.
#[cfg(test)]
pub(super) const STATEMENTS: super::plans::Statements = super::plans::named![ENQUEUE, KNOWN];
