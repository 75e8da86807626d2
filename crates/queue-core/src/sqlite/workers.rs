//! Worker processes: joining, staying alive, leaving, and what becomes of the leases of those that died.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use sqlx::Row as _;

use super::lanes;
use super::open::{Inner, failed};
use super::rows::{self, Changes, job_row, unwritable};
use super::tx::Tx;
use super::writer::Urgency;
use crate::lease::died;
use crate::{
    ErrorKind, Heartbeat, JobEvent, LeaseToken, QueueError, Result, StatedLimits, Timestamp, WorkerId,
    WorkerInfo,
};

/// How often a process looks whether others have died.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// What an origin may still be doing for a process that has died.
pub(super) const AFTERMATH: Duration = Duration::from_secs(5);
/// What follows the name of a process in the name of the row that keeps its lost jobs until the next sweep.
const EXPIRED: &str = "-expired-";

/// When this process last looked whether others have died.
#[derive(Debug, Default)]
pub(super) struct Liveness(Mutex<Option<Duration>>);

impl Liveness {
    /// Whether the last look is long enough ago; then this is one.
    pub(super) fn is_due(&self, now: Duration) -> bool {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let due = last.is_none_or(|last| now.saturating_sub(last) >= LOOK_EVERY);
        if due {
            *last = Some(now);
        }
        due
    }
}

impl Inner {
    /// Ends the leases of processes of this machine that have died, a little later. Looks at most once a second.
    pub(super) async fn find_dead_processes(&self, asker: &WorkerId) -> Result<()> {
        if !self.liveness.is_due(self.anchor.clock().monotonic()) {
            return Ok(());
        }
        let dead: Vec<String> = self
            .locks
            .dead_workers()
            .into_iter()
            .filter(|id| id != asker)
            .map(|id| id.as_str().to_owned())
            .collect();
        if dead.is_empty() {
            return Ok(());
        }
        let text = serde_json::to_string(&dead).map_err(unwritable)?;
        let known = self.write(Urgency::Work, move |tx| {
            let text = text.clone();
            Box::pin(async move { expire_soon(tx, text).await })
        });
        let known = known.await?;
        for id in dead.iter().filter(|id| !known.contains(id)) {
            self.locks.forget_worker(&WorkerId::from_text(id.clone()));
        }
        Ok(())
    }
}

const EXPIRE_SOON: &str =
    "UPDATE workers SET expires_at = ?2 WHERE id IN (SELECT value FROM jsonb_each(?1)) AND expires_at > ?2";

const KNOWN: &str = "SELECT id FROM workers WHERE id IN (SELECT value FROM jsonb_each(?1))";

/// Lets dead processes expire after the aftermath; returns those that the store knows.
async fn expire_soon(tx: &mut Tx<'_>, ids: String) -> Result<Vec<String>> {
    let changed = sqlx::query(EXPIRE_SOON)
        .bind(&ids)
        .bind(tx.now.plus(AFTERMATH).0)
        .execute(&mut *tx.conn)
        .await
        .map_err(failed)?;
    tx.weight += usize::try_from(changed.rows_affected()).unwrap_or(0);
    let rows = sqlx::query(KNOWN).bind(&ids).fetch_all(&mut *tx.conn).await.map_err(failed)?;
    Ok(rows::texts(&rows))
}

const HAS_EXPIRED: &str = "SELECT 1 FROM workers WHERE id = ? AND expires_at <= ?";

const JOIN: &str =
    "INSERT INTO workers (id, host, pid, version, store, limits, started_at, expires_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
         ON CONFLICT (id) DO UPDATE SET expires_at = excluded.expires_at";

/// Introduces a process.
pub(super) async fn join(tx: &mut Tx<'_>, worker: &WorkerInfo, ttl: Duration) -> Result<()> {
    let expired = sqlx::query(HAS_EXPIRED)
        .bind(worker.id.as_str())
        .bind(tx.now.0)
        .fetch_optional(&mut *tx.conn)
        .await
        .map_err(failed)?;
    if expired.is_some() {
        orphan(tx, &worker.id).await?;
    }
    sqlx::query(JOIN)
        .bind(worker.id.as_str())
        .bind(&worker.host)
        .bind(i64::from(worker.pid))
        .bind(&worker.version)
        .bind(worker.store.as_ref().map(|store| store.0.as_str()))
        .bind(worker.limits.as_ref().map(StatedLimits::as_str))
        .bind(tx.now.0)
        .bind(tx.now.plus(ttl).0)
        .execute(&mut *tx.conn)
        .await
        .map_err(failed)?;
    tx.weight += 1;
    Ok(())
}

const BEAT: &str = "SELECT expires_at, (SELECT count(*) FROM jobs WHERE worker_id = ?1 AND state = 'in_progress') FROM workers WHERE id = ?1";

const RENEW: &str = "UPDATE workers SET expires_at = ? WHERE id = ?";

/// Keeps a process alive. One that has expired starts afresh: its leases are over, whoever has them now.
pub(super) async fn heartbeat(tx: &mut Tx<'_>, worker: &WorkerId, ttl: Duration) -> Result<Heartbeat> {
    let row = sqlx::query(BEAT).bind(worker.as_str()).fetch_optional(&mut *tx.conn).await.map_err(failed)?;
    let Some(row) = row else {
        let message = format!("worker process {worker} is not known to the queue; it must join first");
        return Err(QueueError::new(ErrorKind::NotFound, message));
    };
    let was_expired = Timestamp(row.get(0)) <= tx.now;
    let mut held: i64 = row.get(1);
    if was_expired {
        // The loss is charged by the sweep of whoever leases next; until then the jobs belong to nobody alive, so a
        // row of another name has to keep them apart from what this process takes from now on.
        orphan(tx, worker).await?;
        held = 0;
    }
    sqlx::query(RENEW)
        .bind(tx.now.plus(ttl).0)
        .bind(worker.as_str())
        .execute(&mut *tx.conn)
        .await
        .map_err(failed)?;
    tx.weight += 1;
    Ok(Heartbeat { held: held.max(0).unsigned_abs(), was_expired })
}

const ORPHAN_JOBS: &str = "UPDATE jobs SET worker_id = ?2, lease_token = lease_token + 1 WHERE worker_id = ?1 AND state = 'in_progress'";

const ORPHAN_WORKER: &str =
    "INSERT INTO workers (id, host, pid, version, store, limits, started_at, expires_at)
             SELECT ?2, host, pid, version, store, limits, started_at, expires_at FROM workers WHERE id = ?1";

/// Hands the jobs of an expired process to a row that stays expired, for the next sweep to find. Their tokens end now
/// (INV-FENCE).
async fn orphan(tx: &mut Tx<'_>, worker: &WorkerId) -> Result<()> {
    let name = format!("{worker}{EXPIRED}{}", tx.now.0);
    let moved = sqlx::query(ORPHAN_JOBS)
        .bind(worker.as_str())
        .bind(&name)
        .execute(&mut *tx.conn)
        .await
        .map_err(failed)?;
    if moved.rows_affected() > 0 {
        sqlx::query(ORPHAN_WORKER)
            .bind(worker.as_str())
            .bind(&name)
            .execute(&mut *tx.conn)
            .await
            .map_err(failed)?;
        tx.wake = true;
    }
    Ok(())
}

const FORGET: &str = "DELETE FROM workers WHERE id = ?";

/// A process says good-bye.
pub(super) async fn leave(tx: &mut Tx<'_>, worker: &WorkerId) -> Result<()> {
    release_all(tx, worker, &[]).await?;
    forget(tx, worker.as_str()).await
}

/// A process is gone. What it had put off by limits of its own, others may start now.
async fn forget(tx: &mut Tx<'_>, worker: &str) -> Result<()> {
    let binds_others: bool =
        sqlx::query_scalar(BINDS_OTHERS).bind(worker).fetch_one(&mut *tx.conn).await.map_err(failed)?;
    sqlx::query(FORGET).bind(worker).execute(&mut *tx.conn).await.map_err(failed)?;
    if binds_others {
        lanes::reopen_turns(tx, None).await?;
    }
    tx.weight += 1;
    tx.wake = true;
    Ok(())
}

const BINDS_OTHERS: &str = "SELECT EXISTS (SELECT 1 FROM workers o JOIN workers w ON w.id = ?1
         WHERE o.id <> w.id AND w.limits IS NOT NULL AND o.limits IS NOT w.limits)";

/// Releases what a process holds beyond `held`; returns how many.
pub(super) async fn release_all(tx: &mut Tx<'_>, worker: &WorkerId, held: &[LeaseToken]) -> Result<u64> {
    let rows = held_by(tx, worker.as_str()).await?;
    let mut changes = Changes::default();
    let mut released = 0;
    for row in rows {
        if !held.iter().any(|token| token.job.0 == row.id && token.fence == row.lease_token) {
            changes.apply(row, JobEvent::Release, tx.now)?;
            released += 1;
        }
    }
    changes.write(tx).await?;
    Ok(released)
}

const STORE_OF: &str = "SELECT store FROM workers WHERE id = ?";

const ENDED: &str = "SELECT id FROM workers WHERE expires_at <= ?";

/// Ends the leases of processes that have expired, charging each job a loss. A compare-and-set on the expiry by
/// construction: it runs inside the transaction that reads it (INV-NO-LOSS). Jobs that end thereby are published in
/// the store of `sweeper`: it is there to do it.
pub(super) async fn sweep(tx: &mut Tx<'_>, sweeper: &WorkerId, max_losses: u32) -> Result<()> {
    let store = sqlx::query_scalar(STORE_OF)
        .bind(sweeper.as_str())
        .fetch_optional(&mut *tx.conn)
        .await
        .map_err(failed)?;
    let store: Option<String> = store.flatten();
    let expired = sqlx::query(ENDED).bind(tx.now.0).fetch_all(&mut *tx.conn).await.map_err(failed)?;
    for worker in rows::texts(&expired) {
        let held = held_by(tx, &worker).await?;
        lose(tx, held, max_losses, store.as_deref()).await?;
        forget(tx, &worker).await?;
    }
    Ok(())
}

/// Takes jobs from whoever held them, charging each a loss. Those that end thereby are published in `store`.
pub(super) async fn lose(
    tx: &mut Tx<'_>,
    held: Vec<rows::JobRow>,
    max_losses: u32,
    store: Option<&str>,
) -> Result<()> {
    let mut changes = Changes::default();
    for mut row in held {
        let losses = row.losses + 1;
        let last = losses >= i64::from(max_losses);
        row.available_at = row.available_at.min(tx.now.0);
        row.reason = Some("lease-lost".to_owned());
        row.store = store.map(str::to_owned);
        row.set_last_error(&died(u32::try_from(losses).unwrap_or(u32::MAX), last));
        // Its history names the process, not the row that kept the jobs apart.
        row.worker_id = row.worker_id.map(|name| name.split(EXPIRED).next().unwrap_or_default().to_owned());
        changes.apply(row, if last { JobEvent::LoseLast } else { JobEvent::Lose }, tx.now)?;
    }
    changes.write(tx).await
}

const HELD_BY: &str = concat!(
    "SELECT json_group_array(",
    job_row!(),
    ") FROM jobs j WHERE j.worker_id = ? AND j.state = 'in_progress'"
);

async fn held_by(tx: &mut Tx<'_>, worker: &str) -> Result<Vec<rows::JobRow>> {
    let row = sqlx::query(HELD_BY).bind(worker).fetch_one(&mut *tx.conn).await.map_err(failed)?;
    let mut rows: Vec<rows::JobRow> = rows::list(row.get(0))?;
    // Here, since the index has them by request.
    rows.sort_unstable_by_key(|row| row.id);
    Ok(rows)
}

/// What the plans are kept of.
#[cfg(test)]
pub(super) const STATEMENTS: super::plans::Statements = super::plans::named![
    EXPIRE_SOON,
    KNOWN,
    HAS_EXPIRED,
    JOIN,
    BEAT,
    RENEW,
    ORPHAN_JOBS,
    ORPHAN_WORKER,
    BINDS_OTHERS,
    FORGET,
    STORE_OF,
    ENDED,
    HELD_BY
];
