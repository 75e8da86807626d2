//! What one write transaction knows: its connection, its one time, the tally, and whom to wake.

use sqlx::sqlite::SqliteRow;
use sqlx::{Row as _, SqliteConnection};

use super::open::failed;
use crate::{Epoch, JobState, Result, StateCounts, Timestamp};

/// Statements that always follow each other are one text: each hand-over to the database's thread costs more than
/// most of them. Rows come in as one JSON text, which `jsonb_each` takes apart without making a text of each row again.
/// Those that write many rows say `OR ROLLBACK`: a transaction in which one fails is rolled back by whoever carries it out,
/// and so SQLite need not keep what the pages were before the statement.
const TALLY: &str = "SELECT queued, in_progress, done, skipped, error, clock_ms, grants, visits, epoch, paused_until, pause_reason FROM tally";
const BEGIN: &str = concat!(
    "BEGIN IMMEDIATE; ",
    "SELECT queued, in_progress, done, skipped, error, clock_ms, grants, visits, epoch, paused_until, pause_reason FROM tally"
);
const COMMIT: &str = "COMMIT";
const FINISH: &str = "UPDATE tally SET queued = ?, in_progress = ?, done = ?, skipped = ?, error = ?, clock_ms = ?, \
     grants = ?, visits = ?, epoch = ?, paused_until = ?, pause_reason = ?; COMMIT";

/// The one row of counters. Read at the start of a transaction, written at its end if it changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) counts: StateCounts,
    pub(super) clock: Timestamp,
    /// Jobs ever leased; one in sixteen goes to a lower class, each in turn.
    pub(super) grants: i64,
    /// Visits to turns; orders those that open at the same millisecond.
    pub(super) visits: i64,
    /// Grows with everything that somebody who waits for work has to know.
    pub(super) epoch: i64,
    pub(super) paused_until: Timestamp,
    pub(super) pause_reason: Option<String>,
}

impl Tally {
    /// Reads it outside a write transaction.
    pub(super) async fn load(conn: &mut SqliteConnection) -> Result<Self> {
        Ok(Self::read(&sqlx::query(TALLY).fetch_one(conn).await.map_err(failed)?))
    }

    fn read(row: &SqliteRow) -> Self {
        let count = |index: usize| row.get::<i64, _>(index).max(0).unsigned_abs();
        let counts = StateCounts {
            queued: count(0),
            in_progress: count(1),
            done: count(2),
            skipped: count(3),
            error: count(4),
        };
        Self {
            counts,
            clock: Timestamp(row.get(5)),
            grants: row.get(6),
            visits: row.get(7),
            epoch: row.get(8),
            paused_until: Timestamp(row.get(9)),
            pause_reason: row.get(10),
        }
    }
}

/// One write transaction.
#[derive(Debug)]
pub(super) struct Tx<'c> {
    pub(super) conn: &'c mut SqliteConnection,
    /// The one time of everything that this transaction does.
    pub(super) now: Timestamp,
    pub(super) tally: Tally,
    loaded: Tally,
    /// Rows written, roughly: decides when the log is copied back into the database.
    pub(super) weight: usize,
    /// Set by whatever could make something leasable.
    pub(super) wake: bool,
}

impl<'c> Tx<'c> {
    /// Begins. If this fails the caller rolls back.
    pub(super) async fn begin(conn: &'c mut SqliteConnection, now: Timestamp) -> Result<Self> {
        let tally = Tally::read(&sqlx::query(BEGIN).fetch_one(&mut *conn).await.map_err(failed)?);
        // All processes share one clock; should it ever say otherwise, time stands still instead of going back.
        let now = now.max(tally.clock);
        Ok(Self { conn, now, loaded: tally.clone(), tally, weight: 0, wake: false })
    }

    /// Moves jobs between states in the counts (INV-CONSERVE).
    pub(super) fn count(&mut self, from: Option<JobState>, to: JobState, jobs: u64) {
        if let Some(from) = from {
            let count = self.tally.counts.get_mut(from);
            *count = count.saturating_sub(jobs);
            // Whoever waits for the end of a drain waits for the last job in progress.
            self.wake |= from == JobState::InProgress;
        }
        *self.tally.counts.get_mut(to) += jobs;
        self.weight += usize::try_from(jobs).unwrap_or(usize::MAX);
    }

    /// The epoch that includes what this call and those before it woke, but nothing later.
    pub(super) fn epoch(&self) -> Epoch {
        Epoch((self.tally.epoch + i64::from(self.wake)).cast_unsigned())
    }

    /// Closes the books of one call: whether it woke somebody.
    pub(super) fn end_of_call(&mut self) {
        self.tally.epoch = self.epoch().0.cast_signed();
        self.wake = false;
    }

    /// Writes the tally, if anything changed, and commits. If this fails the caller rolls back.
    pub(super) async fn commit(&mut self) -> Result<()> {
        if self.weight == 0 && self.tally == self.loaded {
            sqlx::query(COMMIT).execute(&mut *self.conn).await.map_err(failed)?;
            return Ok(());
        }
        let tally = &self.tally;
        let count = |state| i64::try_from(tally.counts.get(state)).unwrap_or(i64::MAX);
        sqlx::query(FINISH)
            .bind(count(JobState::Queued))
            .bind(count(JobState::InProgress))
            .bind(count(JobState::Done))
            .bind(count(JobState::Skipped))
            .bind(count(JobState::Error))
            .bind(self.now.0)
            .bind(tally.grants)
            .bind(tally.visits)
            .bind(tally.epoch)
            .bind(tally.paused_until.0)
            .bind(&tally.pause_reason)
            .execute(&mut *self.conn)
            .await
            .map_err(failed)?;
        Ok(())
    }
}

/// What the plans are kept of.
#[cfg(test)]
pub(super) const STATEMENTS: super::plans::Statements = super::plans::named![TALLY, BEGIN, FINISH];
