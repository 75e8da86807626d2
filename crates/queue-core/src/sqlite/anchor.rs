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

/// By so much two readings of the clocks may differ although none was set: each is cut to its own millisecond.
const CUT_MS: i64 = 2;

/// Where the store's time was at an instant of one boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Stored {
    boot: String,
    store_ms: i64,
    monotonic_ms: i64,
    /// By how much the wall clock was ahead of the store's time then.
    #[serde(default)]
    ahead_ms: i64,
}

/// The store's clock in this process.
#[derive(Debug)]
pub(super) struct Anchor {
    clock: Arc<dyn Clock>,
    stored: Stored,
}

impl Anchor {
    /// The anchor with this text, if it is of this boot and nobody has set the wall clock since: then there is nothing to write.
    pub(super) fn of_this_boot(text: &str, clock: Arc<dyn Clock>) -> Option<Self> {
        let anchor = Self { stored: stored_in_this_boot(text, clock.as_ref())?, clock };
        (anchor.ahead() == anchor.stored.ahead_ms).then_some(anchor)
    }

    /// Reads the anchor of this boot, or sets a new one. Must run inside a write transaction.
    pub(super) async fn establish(conn: &mut SqliteConnection, clock: Arc<dyn Clock>) -> Result<Self> {
        let found: Option<String> = sqlx::query_scalar("SELECT value FROM meta WHERE key = 'anchor'")
            .fetch_optional(&mut *conn)
            .await
            .map_err(failed)?;
        if let Some(stored) = found.and_then(|text| stored_in_this_boot(&text, clock.as_ref())) {
            let mut anchor = Self { clock, stored };
            // Somebody has set the wall clock. All who come from now on go by the same difference again.
            if anchor.ahead() != anchor.stored.ahead_ms {
                anchor.stored.ahead_ms = anchor.ahead();
                store(conn, &anchor.stored).await?;
            }
            return Ok(anchor);
        }
        let last: i64 =
            sqlx::query_scalar("SELECT clock_ms FROM tally").fetch_one(&mut *conn).await.map_err(failed)?;
        let (boot, monotonic_ms) = (clock.boot(), millis(clock.monotonic()));
        let wall = wall_ms(clock.wall());
        let store_ms = last.max(wall);
        let stored = Stored { boot, monotonic_ms, store_ms, ahead_ms: wall - store_ms };
        store(conn, &stored).await?;
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
        Timestamp(at.0.saturating_sub(self.ahead()))
    }

    /// A store's time as the wall time that people read.
    pub(super) fn wall(&self, at: Timestamp) -> Timestamp {
        if at == Timestamp::NEVER {
            return at;
        }
        Timestamp(at.0.saturating_add(self.ahead()))
    }

    /// By how much the wall clock is ahead. The two clocks tick at the same pace and are read one after the other, each cut to
    /// its own millisecond; this is the same whenever and by whomever it is asked, so that one job's times are the same texts
    /// in every call.
    fn ahead(&self) -> i64 {
        let exact = wall_ms(self.clock.wall()) - self.now().0;
        let is_cut = (exact - self.stored.ahead_ms).abs() <= CUT_MS;
        if is_cut { self.stored.ahead_ms } else { exact }
    }
}

/// What a text says of the store's time, unless it was written in another boot.
fn stored_in_this_boot(text: &str, clock: &dyn Clock) -> Option<Stored> {
    let stored: Stored = serde_json::from_str(text).ok()?;
    (stored.boot == clock.boot() && stored.monotonic_ms <= millis(clock.monotonic())).then_some(stored)
}

/// Writes the anchor for all processes.
async fn store(conn: &mut SqliteConnection, stored: &Stored) -> Result<()> {
    let text = serde_json::to_string(stored).unwrap_or_default();
    sqlx::query("INSERT INTO meta (key, value) VALUES ('anchor', ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value")
        .bind(text)
        .execute(conn)
        .await
        .map_err(failed)?;
    Ok(())
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

fn wall_ms(wall: SystemTime) -> i64 {
    wall.duration_since(UNIX_EPOCH).map_or(0, millis)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use longhaul_limiter::ManualClock;

    use super::*;

    #[test]
    fn a_time_is_shown_alike_however_the_clocks_were_cut() {
        let clock = ManualClock::new();
        let wall = wall_ms(clock.wall());
        let anchor = |store_ms| Anchor {
            clock: Arc::new(clock.clone()),
            stored: Stored {
                boot: clock.boot(),
                store_ms,
                monotonic_ms: millis(clock.monotonic()),
                ahead_ms: -7,
            },
        };
        for off in [-2, -1, 0, 1, 2] {
            let anchor = anchor(wall + 7 + off);
            assert_eq!(anchor.wall(Timestamp(5)), Timestamp(-2), "{off}");
            assert_eq!(anchor.of_wall(Timestamp(-2)), Timestamp(5), "{off}");
        }
        // Somebody has set the clock.
        assert_eq!(anchor(wall - 3_600_000).wall(Timestamp(5)), Timestamp(3_600_005));
    }
}
