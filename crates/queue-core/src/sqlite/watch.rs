//! Noticing that something could be leasable, here or in another process.
//!
//! Every transaction after which somebody could have more to do raises the epoch in the tally. This process' own
//! commits announce it themselves; another process' commits change SQLite's `data_version`, and then the epoch is
//! read. Nothing is locked, and since the epoch only grows no wake-up is lost.

use std::time::Duration;

use sqlx::{Connection as _, SqliteConnection};

use super::open::{Inner, failed};
use super::writer::noticed;
use crate::{Epoch, ErrorKind, QueueError, Result};

/// How often an idle process looks for other processes' commits: so seldom that it costs half a per cent of a core, and so often
/// that a worker wakes up within 30 ms, as a median.
const LOOK_EVERY: Duration = Duration::from_millis(35);

/// The connection that looks for other processes' commits. It is the first to be opened and the last to be closed: while it
/// is open no other process removes the log, which `home` would take for a loss.
#[derive(Debug)]
pub(super) struct Foreign {
    /// `None` once the queue was closed.
    conn: Option<SqliteConnection>,
    data_version: i64,
}

const DATA_VERSION: &str = "PRAGMA data_version";

const EPOCH: &str = "SELECT epoch FROM tally";

impl Foreign {
    pub(super) fn new(conn: SqliteConnection) -> Self {
        Self { conn: Some(conn), data_version: 0 }
    }

    /// The epoch, if anything was committed since the last look.
    async fn look(&mut self) -> Result<Option<Epoch>> {
        let Some(conn) = &mut self.conn else {
            return Err(QueueError::new(ErrorKind::Unavailable, "the queue was closed"));
        };
        let data_version: i64 =
            sqlx::query_scalar(DATA_VERSION).fetch_one(&mut *conn).await.map_err(failed)?;
        if data_version == self.data_version {
            return Ok(None);
        }
        let epoch: i64 = sqlx::query_scalar(EPOCH).fetch_one(conn).await.map_err(failed)?;
        // Only now: whoever is dropped between the two reads has not noticed anything.
        self.data_version = data_version;
        Ok(Some(Epoch(epoch.cast_unsigned())))
    }

    /// Closes the connection. If no other is open, in whichever process, SQLite copies the log back and removes it.
    pub(super) async fn close(&mut self) -> sqlx::Result<()> {
        match self.conn.take() {
            Some(conn) => conn.close().await,
            None => Ok(()),
        }
    }
}

/// Waits until the epoch is later than `since`.
pub(super) async fn changed(inner: &Inner, since: Epoch) -> Result<Epoch> {
    let mut epoch = inner.epoch.subscribe();
    loop {
        let now = *epoch.borrow_and_update();
        if now > since.0 {
            return Ok(Epoch(now));
        }
        tokio::select! {
            // The sender lives in `inner`, so this only ends with a change.
            _ = epoch.changed() => {}
            () = tokio::time::sleep(LOOK_EVERY) => {
                inner.is_at_home()?;
                if let Some(reached) = inner.foreign.lock().await.look().await? {
                    noticed(&inner.epoch, reached);
                }
            }
        }
    }
}

/// What the plans are kept of.
#[cfg(test)]
pub(super) const STATEMENTS: super::plans::Statements = super::plans::named![EPOCH];
