//! The penalty box: how long a host that complained without saying for how long is left alone.
//!
//! Pure, after StormCrawler's queue back-off: each strike doubles the closure, quiet time forgives.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The first closure; doubled by each further strike.
const FIRST: Duration = Duration::from_mins(1);
/// No closure is longer.
const LONGEST: Duration = Duration::from_hours(24);
/// A host that was open and quiet this long starts afresh.
const FORGIVEN_AFTER: Duration = Duration::from_mins(30);

/// The strikes of one lane. The default has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PenaltyBox {
    /// How many strikes count.
    pub strikes: u32,
    /// Until when the last strike closed the lane, milliseconds since the store's epoch.
    pub until_ms: u64,
}

impl PenaltyBox {
    /// Counts a strike at `now` (since the store's epoch) and returns for how long the lane is to be closed.
    /// A strike that comes while the last one still holds does not raise the step: it is an answer to a request
    /// that was under way, and the rest of the closure stands.
    ///
    /// `jitter` in `0.0..1.0` spreads the closure by ±10 %, so that a fleet does not come back at once.
    pub fn strike(&mut self, now: Duration, jitter: f64) -> Duration {
        let until = Duration::from_millis(self.until_ms);
        if now < until {
            return until.saturating_sub(now);
        }
        if now > until + FORGIVEN_AFTER {
            self.strikes = 0;
        }
        let closure = FIRST.saturating_mul(1 << self.strikes.min(20)).min(LONGEST);
        let closure = closure.mul_f64(0.9 + 0.2 * jitter.clamp(0.0, 1.0));
        self.strikes = self.strikes.saturating_add(1);
        self.until_ms = u64::try_from((now + closure).as_millis()).unwrap_or(u64::MAX);
        closure
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_hours(1000);

    #[test]
    fn strikes_double_up_to_a_day() {
        let mut penalty = PenaltyBox::default();
        let mut now = NOW;
        let mut closures = Vec::new();
        for _ in 0..13 {
            let closure = penalty.strike(now, 0.5);
            closures.push(closure.as_secs());
            now += closure;
        }
        assert_eq!(closures[..4], [60, 120, 240, 480]);
        assert_eq!(closures[12], 86_400);
    }

    #[test]
    fn a_strike_in_a_closure_changes_nothing() {
        let mut penalty = PenaltyBox::default();
        penalty.strike(NOW, 0.5);
        let rest = penalty.strike(NOW + Duration::from_secs(20), 0.5);
        assert_eq!(rest, Duration::from_secs(40));
        assert_eq!(penalty.strikes, 1);
    }

    #[test]
    fn quiet_time_forgives() {
        let mut penalty = PenaltyBox::default();
        penalty.strike(NOW, 0.5);
        penalty.strike(NOW + Duration::from_secs(61), 0.5);
        assert_eq!(penalty.strike(NOW + Duration::from_hours(2), 0.5), Duration::from_mins(1));
    }

    #[test]
    fn jitter_stays_within_a_tenth() {
        assert_eq!(PenaltyBox::default().strike(NOW, 0.0), Duration::from_secs(54));
        assert_eq!(PenaltyBox::default().strike(NOW, 1.0), Duration::from_secs(66));
    }
}
