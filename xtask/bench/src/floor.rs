//! The raw floor: the least that a program could do with the same file, the same rows and the same indexes, through
//! rusqlite on one thread. It keeps no fence, no fairness, no cap and no count.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail};
use rusqlite::{Connection, params};

use crate::shape::{self, Shape};

/// The same layout as longhaul's own files: every table, column and index that longhaul keeps up.
const LAYOUT: &str = concat!(
    include_str!("../../../crates/queue-core/migrations/sqlite/0001_queue.sql"),
    include_str!("../../../crates/queue-core/migrations/sqlite/0002_store.sql"),
    include_str!("../../../crates/queue-core/migrations/sqlite/0003_limits.sql"),
    include_str!("../../../crates/queue-core/migrations/sqlite/0004_host_pace.sql"),
    include_str!("../../../crates/queue-core/migrations/sqlite/0005_grants.sql"),
);
const INSERT: &str = "INSERT INTO jobs (artifact_id, artifact_json, lane, role, priority, class, state, available_at, \
     created_at, updated_at) VALUES (?1, ?2, ?3, 'artifact', 0, 0, 'queued', ?4, ?4, ?4) ON CONFLICT (artifact_id) DO NOTHING";
const NEXT: &str = "SELECT id, artifact_id, artifact_json FROM jobs WHERE state = 'queued' AND lane = ?1 AND class = 0 \
     AND role = 'artifact' AND available_at <= ?2 ORDER BY available_at, id LIMIT +?3";
const LEASE: &str = "UPDATE jobs SET state = 'in_progress', worker_id = 'w', lease_token = lease_token + 1, \
     leased_at = ?2, updated_at = ?2 WHERE id = ?1";
const ACK: &str = "UPDATE jobs SET state = 'done', reason = 'ok', worker_id = NULL, outcome_json = '{}', published = 1, \
     finished_at = ?2, updated_at = ?2 WHERE id = ?1";
/// A time at which every job of a measurement is available.
const LATER: i64 = 4_000_000_000_000;

/// A database as longhaul has it, without longhaul.
#[derive(Debug)]
pub(crate) struct Floor {
    db: Connection,
    lanes: usize,
    cursor: usize,
}

impl Floor {
    /// An empty one.
    pub(crate) fn create(path: &Path, full: bool) -> Result<Self> {
        let floor = Self::open(path, 1, full)?;
        floor.db.execute_batch(LAYOUT)?;
        Ok(floor)
    }

    /// One that is there, with jobs in so many lanes.
    pub(crate) fn open(path: &Path, lanes: usize, full: bool) -> Result<Self> {
        let db = Connection::open(path)?;
        db.pragma_update(None, "journal_mode", "wal")?;
        db.pragma_update(None, "synchronous", if full { "FULL" } else { "NORMAL" })?;
        db.set_prepared_statement_cache_capacity(16);
        Ok(Self { db, lanes, cursor: 0 })
    }

    /// Copies the write-ahead log back, so that the file alone is the whole database.
    pub(crate) fn copy_log_back(&self) -> Result<()> {
        // Somebody who has just let go of the file may still be copying.
        for _ in 0..100 {
            let is_busy: i64 = self.db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
            if is_busy == 0 {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        bail!("the log is in use and cannot be copied back")
    }

    /// All rows in one transaction.
    pub(crate) fn insert_all(&mut self, shape: Shape) -> Result<()> {
        let tx = self.db.transaction()?;
        {
            let mut insert = tx.prepare_cached(INSERT)?;
            for job in 0..shape.jobs {
                let (id, lane) = (shape::artifact_id(job), shape::lane_name(shape.lane(job)));
                insert.execute(params![id, shape::record(shape, job), lane, 1_000])?;
            }
        }
        tx.commit()?;
        Ok(())
    }

    /// `each` rows a transaction, from `first` on.
    pub(crate) fn insert_some(&mut self, shape: Shape, first: usize, each: usize) -> Result<()> {
        let tx = self.db.transaction()?;
        for job in first..first + each {
            let (id, lane) = (shape::artifact_id(job), shape::lane_name(shape.lane(job)));
            tx.prepare_cached(INSERT)?.execute(params![id, shape::record(shape, job), lane, 1_000])?;
        }
        tx.commit()?;
        Ok(())
    }

    /// Leases and acknowledges `jobs`, 64 at a time from as many lanes, both in one commit. Returns how many it did.
    pub(crate) fn work(&mut self, jobs: usize) -> Result<usize> {
        const BATCH: usize = 64;
        let mut held: Vec<i64> = Vec::new();
        let mut done = 0;
        loop {
            let tx = self.db.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
            {
                let mut ack = tx.prepare_cached(ACK)?;
                for id in &held {
                    ack.execute(params![id, LATER])?;
                }
                done += held.len();
                held.clear();
                let mut next = tx.prepare_cached(NEXT)?;
                let mut lease = tx.prepare_cached(LEASE)?;
                let each = BATCH.div_ceil(self.lanes);
                let mut looked = 0;
                while held.len() < BATCH && looked < self.lanes && done + held.len() < jobs {
                    let share = each.min(BATCH - held.len()).min(jobs - done - held.len());
                    let lane = shape::lane_name(self.cursor);
                    let mut rows = next.query(params![lane, LATER, i64::try_from(share)?])?;
                    while let Some(row) = rows.next()? {
                        let (id, _artifact, _payload): (i64, String, String) =
                            (row.get(0)?, row.get(1)?, row.get(2)?);
                        held.push(id);
                    }
                    self.cursor = (self.cursor + 1) % self.lanes;
                    looked += 1;
                }
                for id in &held {
                    lease.execute(params![id, LATER])?;
                }
            }
            tx.commit()?;
            if held.is_empty() {
                return Ok(done);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_floor_has_every_migration() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../crates/queue-core/migrations/sqlite");
        let mut migrations = 0;
        for file in std::fs::read_dir(folder).expect("the migrations are there") {
            let file = file.expect("the folder can be read").path();
            let migration = std::fs::read_to_string(&file).expect("a migration is text");
            assert!(LAYOUT.contains(&migration), "{} is missing in the floor", file.display());
            migrations += 1;
        }
        assert!(migrations >= 5);
    }
}
