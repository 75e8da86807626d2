//! Accepting jobs that another system began, in the states that they have there.
//!
//! An insertion, like `enqueue`: nothing here was in a state that it could leave, so no transition is applied.

use serde::Serialize;

use super::anchor::Anchor;
use super::enqueue::{self, Opening, inserted};
use super::open::failed;
use super::rows::unwritable;
use super::tx::Tx;
use crate::{AdoptedJob, Enqueued, JobState, Result, Timestamp};

/// The longest last error, in bytes.
const LAST_ERROR_MAX: usize = 2048;

#[derive(Serialize)]
struct AdoptedRow<'j> {
    artifact_id: &'j str,
    payload: &'j str,
    resolver_hint: Option<&'j str>,
    lane: &'j str,
    role: &'static str,
    priority: u8,
    state: &'static str,
    attempts: u32,
    max_attempts: Option<u32>,
    available_at: i64,
    last_error: Option<&'j str>,
    published: Option<u8>,
    created_at: i64,
    updated_at: i64,
    finished_at: Option<i64>,
}

impl<'j> AdoptedRow<'j> {
    fn new(adopted: &'j AdoptedJob, anchor: &Anchor, now: Timestamp) -> Self {
        let job = &adopted.job;
        let past = |at: Option<Timestamp>| at.map_or(now, |at| anchor.of_wall(at).min(now)).0;
        let state = adopted.state.adopted();
        let updated_at = past(adopted.updated_at);
        Self {
            artifact_id: job.artifact_id.as_str(),
            payload: &job.payload,
            resolver_hint: job.resolver_hint.as_deref(),
            lane: job.place.lane.as_str(),
            role: job.place.role.as_str(),
            priority: job.priority.get(),
            state: state.as_str(),
            attempts: adopted.attempts,
            max_attempts: job.max_attempts,
            available_at: adopted.available_at.map_or(now.plus(job.delay), |at| anchor.of_wall(at)).0,
            last_error: adopted
                .last_error
                .as_deref()
                .map(|text| &text[..text.floor_char_boundary(LAST_ERROR_MAX)]),
            published: state.is_terminal().then_some(1),
            created_at: past(adopted.created_at),
            updated_at,
            finished_at: state.is_terminal().then_some(updated_at),
        }
    }
}

const ADOPT: &str = concat!(
    "INSERT OR ROLLBACK INTO jobs (artifact_id, artifact_json, resolver_hint, lane, role, priority, class, state, attempts,
                           max_attempts, available_at, last_error, published, created_at, updated_at, finished_at)
         SELECT value ->> 'artifact_id', value ->> 'payload', value ->> 'resolver_hint', value ->> 'lane',
                value ->> 'role', value ->> 'priority', value ->> 'priority', value ->> 'state', value ->> 'attempts',
                value ->> 'max_attempts', value ->> 'available_at', value ->> 'last_error', value ->> 'published',
                value ->> 'created_at', value ->> 'updated_at', value ->> 'finished_at'
         FROM jsonb_each(?1) WHERE true ",
    inserted!()
);

const ADOPTED: &str = "INSERT INTO history (job, at, event, reason)
         SELECT value ->> 0, ?2, 'adopted', value ->> 1 FROM jsonb_each(?1)";

/// Accepts jobs; those that are there already stay as they are (INV-IDEMPOTENT).
pub(super) async fn adopt(tx: &mut Tx<'_>, jobs: &[AdoptedJob], anchor: &Anchor) -> Result<Vec<Enqueued>> {
    let rows: Vec<AdoptedRow<'_>> = jobs.iter().map(|job| AdoptedRow::new(job, anchor, tx.now)).collect();
    let new = enqueue::insert(tx, ADOPT, &rows).await?;
    let ids = jobs.iter().map(|adopted| &adopted.job.artifact_id);
    let answers = enqueue::answers(tx, ids, new).await?;

    let mut openings = Vec::new();
    let mut history: Vec<(i64, &str)> = Vec::new();
    for ((adopted, row), answer) in jobs.iter().zip(&rows).zip(&answers) {
        let Enqueued::New(id) = answer else { continue };
        let state = adopted.state.adopted();
        tx.count(None, state, 1);
        history.push((id.0, adopted.state.as_str()));
        if state == JobState::Queued {
            // Its age is its own: its lane has had no turn to catch up with (INV-FAIR).
            openings.push(Opening::of(&adopted.job, row.available_at.max(tx.now.0)));
        }
    }
    enqueue::open_turns(tx, openings).await?;
    sqlx::query(ADOPTED)
        .bind(serde_json::to_string(&history).map_err(unwritable)?)
        .bind(tx.now.0)
        .execute(&mut *tx.conn)
        .await
        .map_err(failed)?;
    Ok(answers)
}

/// What the plans are kept of.
#[cfg(test)]
pub(super) const STATEMENTS: super::plans::Statements = super::plans::named![ADOPT, ADOPTED];
