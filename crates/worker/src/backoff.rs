//! How long to wait before a call to the store is repeated.

use std::time::Duration;

/// Doubles from 50 ms to 5 s: quick enough that a store that was merely busy costs nothing, slow enough that one
/// that is down is not hammered by every process at once.
#[derive(Debug, Clone)]
pub struct StoreBackoff {
    next: Duration,
}

impl StoreBackoff {
    const FIRST: Duration = Duration::from_millis(50);
    const LONGEST: Duration = Duration::from_secs(5);

    /// Begins with the shortest wait.
    pub fn new() -> Self {
        Self { next: Self::FIRST }
    }

    /// How long to wait now; the next wait is twice as long.
    pub fn wait(&mut self) -> Duration {
        let wait = self.next;
        self.next = (wait * 2).min(Self::LONGEST);
        wait
    }
}

impl Default for StoreBackoff {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_five_seconds() {
        let mut backoff = StoreBackoff::new();
        let waits: Vec<u128> = (0..9).map(|_| backoff.wait().as_millis()).collect();
        assert_eq!(waits, [50, 100, 200, 400, 800, 1600, 3200, 5000, 5000]);
    }
}
