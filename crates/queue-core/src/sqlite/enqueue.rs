//! Accepting jobs.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;
use sqlx::Row as _;

use super::lanes;
use super::open::failed;
use super::rows::{list, unwritable};
use super::tx::Tx;
use crate::{ArtifactId, Enqueued, JobId, JobState, NewJob, Result};

/// A new job: artifact, payload, resolver hint, lane, role, priority, most attempts, and when it is available.
type NewRow<'j> = (&'j str, &'j str, Option<&'j str>, &'j str, &'static str, u8, Option<u32>, i64);

/// The end of a statement that inserts jobs: those that are new, as one list. Rows are numbered one after the other and none
/// is ever deleted, so these are the last.
macro_rules! inserted {
    () => {
        "ON CONFLICT (artifact_id) DO NOTHING;
     SELECT json_group_array(json_array(artifact_id, id)) FROM jobs
     WHERE changes() > 0 AND id > last_insert_rowid() - changes()"
    };
}
pub(super) use inserted;

const ENQUEUE: &str = concat!(
    "INSERT OR ROLLBACK INTO jobs (artifact_id, artifact_json, resolver_hint, lane, role, priority, class, state, max_attempts,
                           available_at, created_at, updated_at)
         SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, value ->> 5, 'queued',
                value ->> 6, value ->> 7, ?2, ?2
         FROM jsonb_each(?1) WHERE true ",
    inserted!()
);

/// Carries out a statement that ends with `inserted`, on rows as a JSON text ?1. Returns the new jobs' numbers by artifact.
pub(super) async fn insert<R: Serialize + Sync>(
    tx: &mut Tx<'_>,
    statement: &'static str,
    rows: &[R],
) -> Result<HashMap<String, JobId>> {
    let row = sqlx::query(statement)
        .bind(serde_json::to_string(rows).map_err(unwritable)?)
        .bind(tx.now.0)
        .fetch_one(&mut *tx.conn)
        .await
        .map_err(failed)?;
    Ok(list::<(String, JobId)>(row.get(0))?.into_iter().collect())
}

fn new_row(job: &NewJob, available_at: i64) -> NewRow<'_> {
    let NewJob { artifact_id, payload, resolver_hint, place, priority, max_attempts, .. } = job;
    let (hint, role) = (resolver_hint.as_deref(), place.role.as_str());
    (
        artifact_id.as_str(),
        payload,
        hint,
        place.lane.as_str(),
        role,
        priority.get(),
        *max_attempts,
        available_at,
    )
}

/// Accepts jobs; those that are there already stay as they are (INV-IDEMPOTENT).
pub(super) async fn enqueue(tx: &mut Tx<'_>, jobs: &[NewJob]) -> Result<Vec<Enqueued>> {
    let now = tx.now;
    let available_at = |job: &NewJob| now.plus(job.delay).0;
    let rows: Vec<NewRow<'_>> = jobs.iter().map(|job| new_row(job, available_at(job))).collect();
    let new = insert(tx, ENQUEUE, &rows).await?;
    tx.count(None, JobState::Queued, new.len() as u64);
    let answers = answers(tx, jobs.iter().map(|job| &job.artifact_id), new).await?;
    let new = jobs.iter().zip(&answers).filter(|(_, answer)| matches!(answer, Enqueued::New(_)));
    let openings = new.map(|(job, _)| Opening::of(job, available_at(job)));
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

const KNOWN: &str = "SELECT j.id, j.artifact_id FROM jsonb_each(?1) q JOIN jobs j ON j.artifact_id = q.value";

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
