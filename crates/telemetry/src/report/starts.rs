//! The most starts within any second: a sliding window over the real starts, not a calendar's seconds.

use std::collections::VecDeque;
use std::time::Duration;

/// The window. Two starts that are exactly as far apart do not share one.
const WINDOW: Duration = Duration::from_secs(1);

/// So many starts are kept; of a host that is asked more often in a second the peak is a lower bound.
const MOST: usize = 1024;

/// The starts of the last second, and the most there ever were.
#[derive(Debug, Default)]
pub(super) struct Starts {
    recent: VecDeque<Duration>,
    peak: u32,
}

impl Starts {
    /// One more, not before the last.
    pub(super) fn start(&mut self, now: Duration) {
        while self.recent.front().is_some_and(|old| now.saturating_sub(*old) >= WINDOW) {
            self.recent.pop_front();
        }
        if self.recent.len() >= MOST {
            self.recent.pop_front();
        }
        self.recent.push_back(now);
        self.peak = self.peak.max(self.recent.len() as u32);
    }

    /// The most in any second.
    pub(super) fn peak(&self) -> u32 {
        self.peak
    }

    /// Whether there may have been more.
    pub(super) fn is_at_least(&self) -> bool {
        self.peak as usize >= MOST
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_is_that_of_the_worst_second_wherever_it_lies() {
        let mut starts = Starts::default();
        for ms in [0, 900, 1000, 1800, 1899, 1999, 2950, 9000] {
            starts.start(Duration::from_millis(ms));
        }
        // 1000, 1800, 1899 and 1999 share a second with each other but not with 900 and 1999 alike.
        assert_eq!(starts.peak(), 4);
    }

    #[test]
    fn inv_bounded_a_storm_of_starts_is_a_lower_bound() {
        let mut starts = Starts::default();
        for _ in 0..10_000 {
            starts.start(Duration::ZERO);
        }
        assert!(starts.recent.len() <= MOST && starts.is_at_least());
        assert_eq!(starts.peak() as usize, MOST);
    }
}
