//! The store's own time: a stored anchor plus the suspend-aware monotonic clock of this boot.
//!
//! A step of the wall clock changes nothing, all processes of one boot agree, and after a reboot the time goes on
//! from where it was, or from the wall time if that is later.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use longhaul_limiter::Clock;
use serde::{Deserialize, Serialize};
use sqlx::SqliteConnection;

use super::open::failed;
use crate::{Result, Timestamp};

/// Where the store's time was at an instant of one boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Stored {
    boot: String,
    store_ms: i64,
    monotonic_ms: i64,
}

/// The store's clock in this process.
#[derive(Debug)]
pub(super) struct Anchor {
    clock: Arc<dyn Clock>,
    stored: Stored,
}

impl Anchor {
    /// Reads the anchor of this boot, or sets a new one. Must run inside a write transaction.
    pub(super) async fn establish(conn: &mut SqliteConnection, clock: Arc<dyn Clock>) -> Result<Self> {
        let found: Option<String> = sqlx::query_scalar("SELECT value FROM meta WHERE key = 'anchor'")
            .fetch_optional(&mut *conn)
            .await
            .map_err(failed)?;
        let found: Option<Stored> = found.and_then(|text| serde_json::from_str(&text).ok());
        let (boot, monotonic_ms) = (clock.boot(), millis(clock.monotonic()));
        if let Some(stored) =
            found.filter(|stored| stored.boot == boot && stored.monotonic_ms <= monotonic_ms)
        {
            return Ok(Self { clock, stored });
        }
        let last: i64 =
            sqlx::query_scalar("SELECT clock_ms FROM tally").fetch_one(&mut *conn).await.map_err(failed)?;
        let stored = Stored { boot, monotonic_ms, store_ms: last.max(wall_ms(clock.wall())) };
        let text = serde_json::to_string(&stored).unwrap_or_default();
        sqlx::query("INSERT INTO meta (key, value) VALUES ('anchor', ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value")
            .bind(text)
            .execute(&mut *conn)
            .await
            .map_err(failed)?;
        Ok(Self { clock, stored })
    }

    /// The store's time now.
    pub(super) fn now(&self) -> Timestamp {
        Timestamp(self.stored.store_ms + millis(self.clock.monotonic()) - self.stored.monotonic_ms)
    }

    /// The clock behind it.
    pub(super) fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// A wall time that people read as a store's time.
    pub(super) fn of_wall(&self, at: Timestamp) -> Timestamp {
        Timestamp(at.0.saturating_sub(wall_ms(self.clock.wall()) - self.now().0))
    }

    /// A store's time as the wall time that people read.
    pub(super) fn wall(&self, at: Timestamp) -> Timestamp {
        if at == Timestamp::NEVER {
            return at;
        }
        Timestamp(at.0.saturating_add(wall_ms(self.clock.wall()) - self.now().0))
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

fn wall_ms(wall: SystemTime) -> i64 {
    wall.duration_since(UNIX_EPOCH).map_or(0, millis)
}
