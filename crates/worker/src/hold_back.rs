//! Lanes that asked for quiet a moment ago, before the queue knows.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use longhaul_limiter::Lane;

/// Which lanes this process leaves alone, and until when on its own clock.
///
/// The queue learns of a throttling with the try's settlement; between the answer that was read and that commit
/// other jobs of the process could start requests there. This table closes the gap (INV-COOLDOWN). It is no second
/// memory of cool-downs: it holds at most [`HoldBacks::MAX_LANES`] lanes (INV-BOUNDED), and if it overflows, the ones
/// that end soonest are left to the queue.
#[derive(Debug, Default)]
pub struct HoldBacks {
    until: Mutex<HashMap<Lane, Duration>>,
}

impl HoldBacks {
    /// The most lanes that are held back at a time.
    pub const MAX_LANES: usize = 1024;

    /// Holds nothing back.
    pub fn new() -> Self {
        Self::default()
    }

    /// Holds `lane` back from `now` on. A longer hold-back stands; work that presses on nobody is never held back.
    pub fn hold(&self, lane: &Lane, now: Duration, length: Duration) {
        if lane.is_none() || length.is_zero() {
            return;
        }
        let mut lanes = self.lock();
        if lanes.len() >= Self::MAX_LANES && !lanes.contains_key(lane) {
            lanes.retain(|_, until| *until > now);
            if lanes.len() >= Self::MAX_LANES
                && let Some(soonest) =
                    lanes.iter().min_by_key(|(_, until)| **until).map(|(lane, _)| lane.clone())
            {
                lanes.remove(&soonest);
            }
        }
        let until = lanes.entry(lane.clone()).or_default();
        *until = (*until).max(now.saturating_add(length));
    }

    /// How much longer the lane is held back; `None` if it is not.
    pub fn rest(&self, lane: &Lane, now: Duration) -> Option<Duration> {
        let mut lanes = self.lock();
        let rest = lanes.get(lane)?.checked_sub(now).filter(|rest| !rest.is_zero());
        if rest.is_none() {
            lanes.remove(lane);
        }
        rest
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Lane, Duration>> {
        // A map of plain values is whole after every call, so a panic elsewhere cannot have torn it.
        self.until.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn lane(name: &str) -> Lane {
        Lane::new(name).unwrap()
    }

    #[test]
    fn inv_cooldown_a_lane_is_held_back_until_the_longest_wish_ends() {
        let table = HoldBacks::new();
        let second = Duration::from_secs;
        table.hold(&lane("a.example"), second(10), second(60));
        table.hold(&lane("a.example"), second(11), second(5));
        assert_eq!(table.rest(&lane("a.example"), second(20)), Some(second(50)));
        assert_eq!(table.rest(&lane("a.example"), second(70)), None);
        assert_eq!(table.rest(&lane("b.example"), second(20)), None);
    }

    #[test]
    fn inv_bounded_the_table_forgets_what_ends_soonest() {
        let table = HoldBacks::new();
        for n in 0..=HoldBacks::MAX_LANES as u64 {
            table.hold(&lane(&format!("{n}.example")), Duration::ZERO, Duration::from_secs(n + 1));
        }
        assert_eq!(table.lock().len(), HoldBacks::MAX_LANES);
        assert_eq!(table.rest(&lane("0.example"), Duration::ZERO), None);
        assert!(table.rest(&lane("1.example"), Duration::ZERO).is_some());
    }

    #[test]
    fn work_without_a_host_is_never_held_back() {
        let table = HoldBacks::new();
        table.hold(&Lane::NONE, Duration::ZERO, Duration::from_secs(9));
        assert_eq!(table.rest(&Lane::NONE, Duration::ZERO), None);
    }
}
