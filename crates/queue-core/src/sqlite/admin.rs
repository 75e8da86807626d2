//! What operators do.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use longhaul_limiter::{Lane, LaneRules};
use sqlx::{QueryBuilder, Row as _, Sqlite};

use super::lanes;
use super::open::failed;
use super::rows::{self, Changes, JobRow, unwritable};
use super::tx::Tx;
use super::writer::Urgency;
use super::{SqliteQueue, adopt, check, read, workers};
use crate::{
    AdoptedJob, ArtifactId, Enqueued, ErrorKind, Explanation, HistoryEntry, JobEvent, JobFilter, JobPage,
    JobRecord, JobState, LanePage, LaneRow, LeaseToken, QueueAdmin, QueueCheck, QueueError, Result, StoreId,
    Timestamp, WorkerId, WorkerRow,
};

/// At most so many jobs change in one transaction, so that workers are not held up.
const BATCH: usize = 1_000;
/// At most so many rows are slimmed in one: each is written anew and takes its history along.
const SLIM_BATCH: usize = 200;

#[async_trait]
impl QueueAdmin for SqliteQueue {
    async fn get(&self, id: &ArtifactId) -> Result<Option<(JobRecord, Vec<HistoryEntry>)>> {
        read::get(&self.inner, id).await
    }

    async fn list(&self, filter: &JobFilter, page: JobPage) -> Result<Vec<JobRecord>> {
        read::list(&self.inner, filter, page).await
    }

    async fn explain(&self, id: &ArtifactId, rules: &LaneRules) -> Result<Explanation> {
        read::explain(&self.inner, id, rules).await
    }

    async fn retry_failed(&self, filter: &JobFilter, limit: usize) -> Result<u64> {
        if filter.state.is_some_and(|state| state != JobState::Error) {
            return Ok(0);
        }
        let filter = Arc::new(JobFilter { state: Some(JobState::Error), ..filter.clone() });
        let (mut total, mut after) = (0, 0);
        let mut left = limit;
        loop {
            let (filter, most) = (Arc::clone(&filter), left.min(BATCH));
            let done = self.inner.write(Urgency::Work, move |tx| {
                let filter = Arc::clone(&filter);
                Box::pin(async move { retry_failed(tx, &filter, after, most).await })
            });
            let (done, last) = done.await?;
            total += done;
            left -= usize::try_from(done).unwrap_or(left).min(left);
            match last {
                Some(last) if left > 0 => after = last,
                _ => return Ok(total),
            }
        }
    }

    async fn adopt(&self, jobs: &[AdoptedJob]) -> Result<Vec<Enqueued>> {
        if jobs.is_empty() {
            return Ok(Vec::new());
        }
        let (jobs, anchor) = (Arc::new(jobs.to_vec()), Arc::clone(&self.inner.anchor));
        self.inner
            .write(Urgency::Work, move |tx| {
                let (jobs, anchor) = (Arc::clone(&jobs), Arc::clone(&anchor));
                Box::pin(async move { adopt::adopt(tx, &jobs, &anchor).await })
            })
            .await
    }

    async fn requeue(&self, ids: &[ArtifactId]) -> Result<u64> {
        self.by_key(ids, JobEvent::Requeue).await
    }

    async fn cancel(&self, ids: &[ArtifactId]) -> Result<u64> {
        self.by_key(ids, JobEvent::Cancel).await
    }

    async fn pause(
        &self,
        lane: Option<&Lane>,
        length: Option<Duration>,
        reason: &str,
    ) -> Result<Option<String>> {
        let (lane, reason) = (lane.cloned(), reason.to_owned());
        self.inner
            .write(Urgency::First, move |tx| {
                let (lane, reason) = (lane.clone(), reason.clone());
                Box::pin(async move { pause(tx, lane.as_ref(), length, reason).await })
            })
            .await
    }

    async fn resume(&self, lane: Option<&Lane>) -> Result<bool> {
        let lane = lane.cloned();
        self.inner
            .write(Urgency::First, move |tx| {
                let lane = lane.clone();
                Box::pin(async move { resume(tx, lane.as_ref()).await })
            })
            .await
    }

    async fn close(&self, lane: &Lane, length: Duration, cause: &str) -> Result<()> {
        if lane.is_none() {
            let message = "work without a host has no lane to close; pause the queue instead";
            return Err(QueueError::new(ErrorKind::Invalid, message));
        }
        let (lane, cause) = (lane.as_str().to_owned(), cause.to_owned());
        self.inner
            .write(Urgency::First, move |tx| {
                let (lane, cause) = (lane.clone(), cause.clone());
                Box::pin(async move { close(tx, &lane, length, &cause).await })
            })
            .await
    }

    async fn unpublished(&self, store: &StoreId, page: JobPage) -> Result<Vec<JobRecord>> {
        read::unpublished(&self.inner, store, page).await
    }

    async fn reconcile(&self, worker: &WorkerId, held: &[LeaseToken]) -> Result<u64> {
        let (worker, held) = (worker.clone(), held.to_vec());
        self.inner
            .write(Urgency::Work, move |tx| {
                let (worker, held) = (worker.clone(), held.clone());
                Box::pin(async move { workers::release_all(tx, &worker, &held).await })
            })
            .await
    }

    async fn prune(&self, state: JobState, older_than: Duration) -> Result<u64> {
        let mut total = 0;
        loop {
            let pruned = self
                .inner
                .write(Urgency::Work, move |tx| Box::pin(async move { prune(tx, state, older_than).await }));
            let pruned = pruned.await?;
            total += pruned;
            if pruned < SLIM_BATCH as u64 {
                return Ok(total);
            }
        }
    }

    async fn check(&self, repair: bool) -> Result<QueueCheck> {
        self.inner
            .write(Urgency::Work, move |tx| Box::pin(async move { check::check(tx, repair).await }))
            .await
    }

    async fn lanes(&self, page: &LanePage) -> Result<Vec<LaneRow>> {
        read::lanes(&self.inner, page).await
    }

    async fn workers(&self) -> Result<Vec<WorkerRow>> {
        read::workers(&self.inner).await
    }
}

const BY_KEY: &str =
    "SELECT j.id FROM jsonb_each(?1) q JOIN jobs j ON j.artifact_id = q.value WHERE j.slim = 0";

impl SqliteQueue {
    /// Applies an operator's event to the named jobs to which it can happen.
    async fn by_key(&self, ids: &[ArtifactId], event: JobEvent) -> Result<u64> {
        let mut total = 0;
        for ids in ids.chunks(BATCH) {
            let keys: Vec<&str> = ids.iter().map(ArtifactId::as_str).collect();
            let keys = serde_json::to_string(&keys).map_err(unwritable)?;
            let done = self.inner.write(Urgency::Work, move |tx| {
                let keys = keys.clone();
                Box::pin(async move {
                    let found =
                        sqlx::query(BY_KEY).bind(keys).fetch_all(&mut *tx.conn).await.map_err(failed)?;
                    let mut ids: Vec<i64> = found.iter().map(|row| row.get(0)).collect();
                    ids.sort_unstable();
                    ids.dedup();
                    act(tx, &ids, event).await
                })
            });
            total += done.await?;
        }
        Ok(total)
    }
}

/// Applies an operator's event to jobs by number; returns to how many it could happen.
async fn act(tx: &mut Tx<'_>, ids: &[i64], event: JobEvent) -> Result<u64> {
    let mut changes = Changes::default();
    let mut acted = 0;
    for mut row in rows::load(tx, ids).await? {
        if row.state()?.apply(event).is_err() {
            continue;
        }
        prepare(&mut row, event, tx.now);
        changes.apply(row, event, tx.now)?;
        acted += 1;
    }
    changes.write(tx).await?;
    Ok(acted)
}

/// What an operator's act writes into the row.
fn prepare(row: &mut JobRow, event: JobEvent, now: Timestamp) {
    if event == JobEvent::Cancel {
        row.reason = Some("cancelled".to_owned());
        // Whoever holds it settles in vain: it is not held any more, and was not settled (INV-FENCE).
        row.settlement = None;
    } else {
        row.available_at = now.0;
        row.checkpoint = None;
    }
}

/// One batch of the jobs in error after a number. Returns how many became queued, and where the next batch begins.
async fn retry_failed(
    tx: &mut Tx<'_>,
    filter: &JobFilter,
    after: i64,
    most: usize,
) -> Result<(u64, Option<i64>)> {
    let found = failed_ones(filter, after, most).build().fetch_all(&mut *tx.conn).await.map_err(failed)?;
    let ids: Vec<i64> = found.iter().map(|row| row.get(0)).collect();
    let next = ids.last().copied().filter(|_| ids.len() == most);
    Ok((act(tx, &ids, JobEvent::RetryFailed).await?, next))
}

/// A pruned job has nothing left to run.
fn failed_ones(filter: &JobFilter, after: i64, most: usize) -> QueryBuilder<Sqlite> {
    let mut query = QueryBuilder::new("SELECT j.id FROM jobs j WHERE j.state = 'error' AND j.slim = 0");
    read::filter_into(&mut query, &JobFilter { state: None, ..filter.clone() });
    query.push(" AND j.id > ").push_bind(after);
    query.push(" ORDER BY j.id LIMIT ").push_bind(i64::try_from(most).unwrap_or(i64::MAX));
    query
}

async fn pause(
    tx: &mut Tx<'_>,
    lane: Option<&Lane>,
    length: Option<Duration>,
    reason: String,
) -> Result<Option<String>> {
    let until = length.map_or(Timestamp::NEVER, |length| tx.now.plus(length));
    let before = match lane {
        None => {
            let was_paused = tx.tally.paused_until > tx.now;
            tx.tally.paused_until = until;
            tx.tally.pause_reason.replace(reason).filter(|_| was_paused)
        }
        Some(lane) => {
            let name = lane.as_str().to_owned();
            let mut state = lanes::load(tx, &[name.clone()].into()).await?.remove(&name).unwrap_or_default();
            state.lane = name;
            let was_paused = state.paused_until > tx.now.0;
            state.paused_until = until.0;
            let before = state.pause_reason.replace(reason).filter(|_| was_paused);
            lanes::store(tx, &state).await?;
            before
        }
    };
    // A shorter pause than before opens the lane sooner; whoever waits for it looks again.
    if let Some(lane) = lane {
        lanes::reopen_turns(tx, Some(lane.as_str())).await?;
    }
    tx.wake = true;
    Ok(before)
}

async fn close(tx: &mut Tx<'_>, lane: &str, length: Duration, cause: &str) -> Result<()> {
    let mut state = lanes::load(tx, &[lane.to_owned()].into()).await?.remove(lane).unwrap_or_default();
    lane.clone_into(&mut state.lane);
    state.close(length, cause, tx.now);
    lanes::store(tx, &state).await?;
    // Who holds jobs ahead wants to hear of it.
    tx.wake = true;
    Ok(())
}

async fn resume(tx: &mut Tx<'_>, lane: Option<&Lane>) -> Result<bool> {
    let was_paused = match lane {
        None => {
            let was_paused = tx.tally.paused_until > tx.now;
            tx.tally.paused_until = Timestamp::default();
            tx.tally.pause_reason = None;
            was_paused
        }
        Some(lane) => {
            let name = lane.as_str().to_owned();
            let mut state = lanes::load(tx, &[name.clone()].into()).await?.remove(&name).unwrap_or_default();
            let was_paused = state.paused_until > tx.now.0;
            state.paused_until = 0;
            state.pause_reason = None;
            lanes::store(tx, &state).await?;
            was_paused
        }
    };
    lanes::reopen_turns(tx, lane.map(Lane::as_str)).await?;
    Ok(was_paused)
}

const SLIM: &str =
    "UPDATE jobs SET slim = 1, artifact_json = '{}', outcome_json = NULL, checkpoint = NULL, last_error = NULL,
         updated_at = ?3
     WHERE id IN (SELECT id FROM jobs WHERE state = ?1 AND finished_at <= ?2 AND published = 1 AND slim = 0
                  ORDER BY finished_at LIMIT ?4)
     RETURNING id";

const FORGET: &str = "DELETE FROM history WHERE job IN (SELECT value FROM jsonb_each(?))";

/// Slims one batch of rows in place; the row and its key stay (INV-IDEMPOTENT).
async fn prune(tx: &mut Tx<'_>, state: JobState, older_than: Duration) -> Result<u64> {
    if !state.is_terminal() {
        return Ok(0);
    }
    let before = tx.now.0.saturating_sub(i64::try_from(older_than.as_millis()).unwrap_or(i64::MAX));
    let slimmed = sqlx::query(SLIM)
        .bind(state.as_str())
        .bind(before)
        .bind(tx.now.0)
        .bind(i64::try_from(SLIM_BATCH).unwrap_or(i64::MAX))
        .fetch_all(&mut *tx.conn)
        .await
        .map_err(failed)?;
    let ids: Vec<i64> = slimmed.iter().map(|row| row.get(0)).collect();
    sqlx::query(FORGET)
        .bind(serde_json::to_string(&ids).map_err(unwritable)?)
        .execute(&mut *tx.conn)
        .await
        .map_err(failed)?;
    tx.weight += ids.len();
    Ok(ids.len() as u64)
}

/// What the plans are kept of.
#[cfg(test)]
pub(super) const STATEMENTS: super::plans::Statements = super::plans::named![BY_KEY, SLIM, FORGET];

/// The texts that are put together, in each of their shapes.
#[cfg(test)]
pub(super) fn built() -> Vec<(&'static str, QueryBuilder<Sqlite>)> {
    let lane = Lane::new("h1.example").ok();
    let narrow = JobFilter { lane, reason: Some("gone".to_owned()), ..JobFilter::default() };
    vec![
        ("failed_ones", failed_ones(&JobFilter::default(), 0, 10)),
        ("failed_ones, of a lane and a reason", failed_ones(&narrow, 0, 10)),
    ]
}
