//! Persisting transitions: the one place that changes a job's row after it was enqueued, except for the lease itself.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use super::lanes::{self, LaneState};
use super::open::failed;
use super::tx::Tx;
use crate::{Charge, ErrorKind, JobEvent, JobId, JobState, LeaseToken, QueueError, Result, Timestamp};

/// The turn of jobs that two processes have died with.
pub(super) const ALONE: i64 = 10;
/// After so many losses a job runs alone.
const LOSSES_ALONE: i64 = 2;
/// The longest last error, in bytes.
const LAST_ERROR_MAX: usize = 2048;
/// History lines kept for a job.
const HISTORY_MAX: i64 = 32;

/// What of a job's row transitions read and write.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct JobRow {
    pub(super) id: i64,
    pub(super) state: String,
    pub(super) lane: String,
    pub(super) role: String,
    pub(super) slot: Option<String>,
    pub(super) priority: i64,
    pub(super) class: i64,
    pub(super) reason: Option<String>,
    pub(super) attempts: i64,
    pub(super) losses: i64,
    pub(super) throttles: i64,
    pub(super) available_at: i64,
    pub(super) lease_token: i64,
    pub(super) leased_at: Option<i64>,
    pub(super) worker_id: Option<String>,
    pub(super) settlement: Option<String>,
    pub(super) checkpoint: Option<String>,
    pub(super) last_error: Option<String>,
    pub(super) outcome_json: Option<String>,
    pub(super) store: Option<String>,
    pub(super) path: Option<String>,
    pub(super) sha256: Option<String>,
    pub(super) published: Option<i64>,
    pub(super) finished_at: Option<i64>,
    /// The store of the process that holds the job. Read for settlements alone.
    #[serde(skip)]
    pub(super) worker_store: Option<String>,
    /// A throttle is not charged if the lane served nobody since the job was leased (INV-ATTEMPTS).
    #[serde(skip)]
    pub(super) unserved: bool,
}

/// A [`JobRow`] as a JSON list. A macro, since statements are literals.
///
/// Rows are read as one JSON text and not one by one: each row that is handed over by itself can wake both threads.
macro_rules! job_row {
    () => {
        "json_array(j.id, j.state, j.lane, j.role, j.slot, j.priority, j.class, j.reason, j.attempts, j.losses, \
         j.throttles, j.available_at, j.lease_token, j.leased_at, j.worker_id, j.settlement, j.checkpoint, \
         j.last_error, j.outcome_json, j.store, j.path, j.sha256, j.published, j.finished_at)"
    };
}
pub(super) use job_row;

/// The same with what a settlement needs that ends the job alone, the rest empty: [`ENDED`] leaves it as it is.
macro_rules! ending_row {
    () => {
        "json_array(j.id, j.state, j.lane, '', j.slot, j.priority, j.class, NULL, j.attempts, j.losses, 0, 0, \
         j.lease_token, j.leased_at, j.worker_id, j.settlement)"
    };
}
pub(super) use ending_row;

/// Reads a JSON list that a statement has made of rows.
pub(super) fn list<T: DeserializeOwned>(text: &str) -> Result<Vec<T>> {
    serde_json::from_str(text).map_err(corrupt("a row"))
}

/// Puts the turns forward that wait for a slot or for a start, of the lanes in a JSON list. Such a turn may have been lowered
/// since to the time of a delayed job, and would sleep until then although a slot is free.
macro_rules! freed {
    ($list:literal) => {
        concat!(
            "UPDATE turns SET open_at = ?2 WHERE lane IN (SELECT value FROM jsonb_each(",
            $list,
            ")) AND waits AND open_at > ?2"
        )
    };
}
pub(super) use freed;

impl JobRow {
    pub(super) fn state(&self) -> Result<JobState> {
        JobState::parse(&self.state).ok_or_else(|| {
            let message =
                format!("job {} has the unknown state {:?}; run `longhaul queue check`", self.id, self.state);
            QueueError::new(ErrorKind::Corrupt, message)
        })
    }

    pub(super) fn set_last_error(&mut self, text: &str) {
        let mut end = text.len().min(LAST_ERROR_MAX);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        self.last_error = Some(text[..end].to_owned());
    }
}

/// Rows that change in one transaction, and what follows from that for turns, counts and history.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// Settled for good. Most rows, so they have a statement of their own that touches little.
    ended: Vec<JobRow>,
    rows: Vec<JobRow>,
    counts: Vec<(JobState, JobState)>,
    history: Vec<History>,
    freed: BTreeSet<String>,
    reopened: BTreeSet<String>,
    waiting: BTreeMap<(String, i64), i64>,
    lanes: Vec<LaneState>,
    left: Vec<(String, i64)>,
    /// Somebody has to know of it, whatever else follows.
    pub(super) wake: bool,
}

#[derive(Debug, Serialize)]
struct History {
    job: i64,
    event: &'static str,
    reason: Option<String>,
    worker: Option<String>,
    #[serde(skip)]
    by_operator: bool,
}

impl Changes {
    /// Applies an event to a row that the caller has filled with what the event says (reason, available_at, …), and
    /// remembers what follows. The state machine decides state and charge.
    pub(super) fn apply(&mut self, mut row: JobRow, event: JobEvent, now: Timestamp) -> Result<JobState> {
        let from = row.state()?;
        let transition =
            from.apply(event).map_err(|illegal| QueueError::new(ErrorKind::Invalid, illegal.to_string()))?;
        match transition.charge {
            Charge::Nothing => {}
            Charge::Attempt => row.attempts += 1,
            Charge::Loss => row.losses += 1,
            Charge::Throttle => row.throttles += i64::from(!row.unserved),
            Charge::Reset => (row.attempts, row.losses, row.throttles) = (0, 0, 0),
        }
        // A first try that succeeds leaves no line.
        if event != JobEvent::Complete || row.lease_token > 1 {
            // The row keeps why it was put where it is; that is not why it leaves for another reason or for none.
            let reason = row.reason.clone().filter(|_| event.has_reason());
            let worker = row.worker_id.clone();
            let by_operator = event.is_operators();
            self.history.push(History { job: row.id, event: event.as_str(), reason, worker, by_operator });
        }
        if from == JobState::Queued {
            self.left.push((row.lane.clone(), row.class));
        }
        let is_settled = matches!(event, JobEvent::Complete | JobEvent::Skip | JobEvent::Fail);
        self.freed.extend(row.slot.take());
        row.worker_id = None;
        row.class = if row.losses >= LOSSES_ALONE { ALONE } else { row.priority };
        transition.to.as_str().clone_into(&mut row.state);
        if transition.to.is_terminal() {
            // A process without a store has nothing to publish. What no process settled is published by whoever finds it.
            row.published = Some(i64::from(is_settled && row.store.is_none()));
            row.finished_at = Some(now.0);
            row.checkpoint = None;
        } else {
            row.published = None;
            row.finished_at = None;
            (row.outcome_json, row.store, row.path, row.sha256) = (None, None, None, None);
            // A job that comes back keeps its age in its lane, but its lane has had its turn (INV-FAIR).
            let opens = row.available_at.max(now.0);
            let open_at = self.waiting.entry((row.lane.clone(), row.class)).or_insert(opens);
            *open_at = opens.min(*open_at);
        }
        self.counts.push((from, transition.to));
        if is_settled {
            self.ended.push(row);
        } else {
            self.rows.push(row);
        }
        Ok(transition.to)
    }

    /// Adds lanes whose row changes.
    pub(super) fn lanes(&mut self, lanes: Vec<LaneState>) {
        self.lanes.extend(lanes);
    }

    /// Adds lanes whose turns are put forward, whatever they were put off for.
    pub(super) fn reopened(&mut self, lanes: impl IntoIterator<Item = String>) {
        self.reopened.extend(lanes);
    }

    /// Adds lanes in which a slot was freed or a grant used: the turns that wait for that are put forward.
    pub(super) fn freed(&mut self, lanes: impl IntoIterator<Item = String>) {
        self.freed.extend(lanes);
    }

    /// Writes everything.
    pub(super) async fn write(self, tx: &mut Tx<'_>) -> Result<()> {
        for (from, to) in &self.counts {
            tx.count(Some(*from), *to, 1);
        }
        tx.weight += self.lanes.len() + self.waiting.len();
        tx.wake |=
            self.wake || !self.waiting.is_empty() || !self.freed.is_empty() || !self.reopened.is_empty();
        // Only a job that was leased often can have too many lines of history, or one that operators act upon.
        let leased_often = |row: &&JobRow| row.lease_token > HISTORY_MAX / 2;
        let by_operators = self.history.iter().filter(|line| line.by_operator).map(|line| line.job);
        let rows = self.ended.iter().chain(&self.rows);
        let long = rows.filter(leased_often).map(|row| row.id).chain(by_operators);
        tx.tally.visits += i64::from(!self.waiting.is_empty());
        let visit = tx.tally.visits;
        let turns =
            self.waiting.iter().map(|((lane, class), open_at)| (lane.as_str(), *class, *open_at, visit));
        let follows = Follows {
            long: long.collect(),
            turns: turns.collect(),
            history: &self.history,
            lanes: &self.lanes,
            freed: &self.freed,
            reopened: &self.reopened,
            left: &self.left,
        };
        // Each text is parsed once for each statement that reads it, so the rows have one of their own.
        let nothing = BTreeSet::new();
        let (freed, lanes) =
            if follows.is_little() { (&self.freed, &self.lanes[..]) } else { (&nothing, &[][..]) };
        if !self.ended.is_empty() || !freed.is_empty() || !lanes.is_empty() {
            let ended: Vec<Ending<'_>> = self.ended.iter().map(ending).collect();
            let text = if lanes.is_empty() { ENDED } else { ENDED_AND_LANES };
            sqlx::query(text)
                .bind(serde_json::to_string(&ended).map_err(unwritable)?)
                .bind(tx.now.0)
                .bind(serde_json::to_string(&Little { freed, lanes }).map_err(unwritable)?)
                .execute(&mut *tx.conn)
                .await
                .map_err(failed)?;
        }
        if !self.rows.is_empty() {
            write(tx, ROWS, &self.rows).await?;
        }
        if !follows.is_little() {
            write(tx, FOLLOWS, &follows).await?;
        }
        Ok(())
    }
}

/// Carries out a text whose ?1 is a JSON text and ?2 the time.
async fn write(
    tx: &mut Tx<'_>,
    statement: &'static str,
    written: &(impl Serialize + Sync + ?Sized),
) -> Result<()> {
    sqlx::query(statement)
        .bind(serde_json::to_string(written).map_err(unwritable)?)
        .bind(tx.now.0)
        .execute(&mut *tx.conn)
        .await
        .map_err(failed)?;
    Ok(())
}

/// An ended job: id, state, reason, attempts, settlement, last error, outcome, store, path, digest, published.
type Ending<'r> = (
    i64,
    &'r str,
    &'r Option<String>,
    i64,
    &'r Option<String>,
    &'r Option<String>,
    &'r Option<String>,
    &'r Option<String>,
    &'r Option<String>,
    &'r Option<String>,
    Option<i64>,
);

fn ending(row: &JobRow) -> Ending<'_> {
    (
        row.id,
        &row.state,
        &row.reason,
        row.attempts,
        &row.settlement,
        &row.last_error,
        &row.outcome_json,
        &row.store,
        &row.path,
        &row.sha256,
        row.published,
    )
}

/// What follows from transitions beside the rows themselves.
#[derive(Serialize)]
struct Follows<'c> {
    history: &'c [History],
    long: Vec<i64>,
    lanes: &'c [LaneState],
    turns: Vec<(&'c str, i64, i64, i64)>,
    freed: &'c BTreeSet<String>,
    reopened: &'c BTreeSet<String>,
    left: &'c [(String, i64)],
}

impl Follows<'_> {
    /// Whether at most slots became free and lanes changed, as where jobs just end.
    fn is_little(&self) -> bool {
        self.history.is_empty() && self.turns.is_empty() && self.left.is_empty() && self.reopened.is_empty()
    }
}

/// What follows where jobs just end.
#[derive(Serialize)]
struct Little<'c> {
    freed: &'c BTreeSet<String>,
    lanes: &'c [LaneState],
}

/// Jobs that a settlement ended, and the slots that this freed if little else follows; ?1 is a list of [`ending`]s, ?3 a
/// [`Little`]. What the jobs keep from before stays untouched.
macro_rules! ended {
    () => {
        concat!(
            "UPDATE OR ROLLBACK jobs SET state = q.value ->> 1, slot = NULL, reason = q.value ->> 2, attempts = q.value ->> 3,
         settlement = q.value ->> 4, last_error = q.value ->> 5, outcome_json = q.value ->> 6, store = q.value ->> 7,
         path = q.value ->> 8, sha256 = q.value ->> 9, published = q.value ->> 10, lease_request = NULL,
         worker_id = NULL, checkpoint = NULL, finished_at = ?2, updated_at = ?2
     FROM jsonb_each(?1) q WHERE jobs.id = q.value ->> 0;",
            freed!("?3, '$.freed'")
        )
    };
}

const ENDED: &str = ended!();
const ENDED_AND_LANES: &str = concat!(ended!(), ";", lanes::upsert_lanes!("?3, '$.lanes'"));

/// All other jobs that changed; ?1 is a list of [`JobRow`]s.
const ROWS: &str = "UPDATE OR ROLLBACK jobs SET state = q.value ->> 'state', lane = q.value ->> 'lane', role = q.value ->> 'role',
         slot = NULL, class = q.value ->> 'class', reason = q.value ->> 'reason', attempts = q.value ->> 'attempts',
         losses = q.value ->> 'losses', throttles = q.value ->> 'throttles', available_at = q.value ->> 'available_at',
         lease_token = q.value ->> 'lease_token', lease_request = NULL, worker_id = NULL,
         settlement = q.value ->> 'settlement', checkpoint = q.value ->> 'checkpoint',
         last_error = q.value ->> 'last_error', outcome_json = q.value ->> 'outcome_json', store = q.value ->> 'store',
         path = q.value ->> 'path', sha256 = q.value ->> 'sha256', published = q.value ->> 'published',
         finished_at = q.value ->> 'finished_at', updated_at = ?2
     FROM jsonb_each(?1) q WHERE jobs.id = q.value ->> 'id'";

/// ?1 is a [`Follows`].
const FOLLOWS: &str = concat!(
    "INSERT INTO history (job, at, event, reason, worker)
     SELECT value ->> 'job', ?2, value ->> 'event', value ->> 'reason', value ->> 'worker' FROM jsonb_each(?1, '$.history');",
    "DELETE FROM history WHERE id IN (
         SELECT h.id FROM jsonb_each(?1, '$.long') q JOIN history h ON h.job = q.value
         WHERE h.id <= (SELECT id FROM history WHERE job = q.value ORDER BY id DESC LIMIT 1 OFFSET 32));",
    lanes::upsert_lanes!("?1, '$.lanes'"),
    ";",
    freed!("?1, '$.freed'"),
    ";",
    "UPDATE turns SET open_at = ?2 WHERE lane IN (SELECT value FROM jsonb_each(?1, '$.reopened')) AND open_at > ?2;",
    lanes::upsert_turns!("'$.turns'"),
    ";",
    "DELETE FROM turns WHERE lane IN (SELECT value ->> 0 FROM jsonb_each(?1, '$.left'))
         AND NOT EXISTS (SELECT 1 FROM jobs WHERE state = 'queued' AND lane = turns.lane AND class = turns.class)"
);

const LOAD: &str =
    concat!("SELECT json_group_array(", job_row!(), ") FROM jsonb_each(?1) q JOIN jobs j ON j.id = q.value");

/// Reads rows by number. Missing ones are left out.
pub(super) async fn load(tx: &mut Tx<'_>, ids: &[i64]) -> Result<Vec<JobRow>> {
    let ids = serde_json::to_string(ids).map_err(unwritable)?;
    let row = sqlx::query(LOAD).bind(ids).fetch_one(&mut *tx.conn).await.map_err(failed)?;
    list(row.get(0))
}

const CHECKPOINT: &str = "UPDATE jobs SET checkpoint = ?1, updated_at = ?4 WHERE id = ?2 AND lease_token = ?3 AND state = 'in_progress'";

/// Stores what the next try should know.
pub(super) async fn checkpoint(tx: &mut Tx<'_>, token: LeaseToken, checkpoint: &str) -> Result<bool> {
    let done = sqlx::query(CHECKPOINT)
        .bind(checkpoint)
        .bind(token.job.0)
        .bind(token.fence)
        .bind(tx.now.0)
        .execute(&mut *tx.conn)
        .await
        .map_err(failed)?;
    tx.weight += 1;
    Ok(done.rows_affected() > 0)
}

const PUBLISHED: &str =
    "UPDATE jobs SET published = 1 WHERE id IN (SELECT value FROM jsonb_each(?)) AND published = 0";

/// Marks ended jobs as published.
pub(super) async fn published(tx: &mut Tx<'_>, ids: &[JobId]) -> Result<()> {
    sqlx::query(PUBLISHED)
        .bind(serde_json::to_string(ids).map_err(unwritable)?)
        .execute(&mut *tx.conn)
        .await
        .map_err(failed)?;
    tx.weight += ids.len();
    Ok(())
}

/// Each value that is written takes a few along that have expired, so that the table does not grow with every host that
/// was ever seen.
const CACHE_PUT: &str = concat!(
    "INSERT INTO cache (key, value, expires_at) VALUES (?1, ?2, ?3)
     ON CONFLICT (key) DO UPDATE SET value = excluded.value, expires_at = excluded.expires_at;",
    "DELETE FROM cache WHERE key IN (SELECT key FROM cache WHERE expires_at <= ?4 ORDER BY expires_at LIMIT 8)"
);

/// Writes a value to the durable cache.
pub(super) async fn cache_put(tx: &mut Tx<'_>, key: &str, value: &str, ttl: Duration) -> Result<()> {
    sqlx::query(CACHE_PUT)
        .bind(key)
        .bind(value)
        .bind(tx.now.plus(ttl).0)
        .bind(tx.now.0)
        .execute(&mut *tx.conn)
        .await
        .map_err(failed)?;
    tx.weight += 1;
    Ok(())
}

/// What we hand to the database is made of texts and numbers; if JSON ever refuses it, that is our fault.
pub(super) fn unwritable(error: serde_json::Error) -> QueueError {
    QueueError::new(ErrorKind::Invalid, format!("a value cannot be stored: {error}")).with_source(error)
}

/// The same in the other direction.
pub(super) fn corrupt<E: std::error::Error + Send + Sync + 'static>(
    what: &str,
) -> impl FnOnce(E) -> QueueError + '_ {
    move |error| {
        let message = format!("{what} in the queue cannot be read ({error}); run `longhaul queue check`");
        QueueError::new(ErrorKind::Corrupt, message).with_source(error)
    }
}

/// One column of text as a vector.
pub(super) fn texts(rows: &[SqliteRow]) -> Vec<String> {
    rows.iter().map(|row| row.get(0)).collect()
}

/// What the plans are kept of.
#[cfg(test)]
pub(super) const STATEMENTS: super::plans::Statements =
    super::plans::named![ENDED, ENDED_AND_LANES, ROWS, FOLLOWS, LOAD, CHECKPOINT, PUBLISHED, CACHE_PUT];
