//! The one place that reads the clocks. Everything else is handed a [`Moment`], so that the rules about time
//! can be checked without waiting for any.

use std::time::{Duration, Instant, SystemTime};

/// One instant as both clocks show it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    /// For every duration.
    pub(crate) instant: Instant,
    /// For HTTP dates alone.
    pub(crate) wall: SystemTime,
}

impl Moment {
    /// The same moment, `later` on.
    #[cfg(test)]
    pub(crate) fn plus(self, later: Duration) -> Self {
        Self { instant: self.instant + later, wall: self.wall + later }
    }

    /// Milliseconds since the Unix epoch.
    pub(crate) fn unix_ms(self) -> u64 {
        self.wall.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO).as_millis() as u64
    }
}

/// Reads both clocks.
#[allow(clippy::disallowed_methods, reason = "the origin judges real time as a server sees it")]
pub(crate) fn now() -> Moment {
    Moment { instant: Instant::now(), wall: SystemTime::now() }
}
