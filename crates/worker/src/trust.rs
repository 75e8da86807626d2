//! Until when this process may believe that its leases are its own.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// One deadline for all leases of a process, on its own suspend-aware clock.
///
/// The store ends a process' leases `ttl` after it received the last heartbeat. The process stops earlier: `margin`
/// before `asked + ttl`, where `asked` is when it *sent* that heartbeat. So however long the reply took, and however
/// long the process was frozen, it starts no request for a job that somebody else may hold by now (INV-CAP).
#[derive(Debug, Default)]
pub struct LeaseTrust {
    until_nanos: AtomicU64,
}

impl LeaseTrust {
    /// Trusts nothing until the first heartbeat.
    pub fn new() -> Self {
        Self::default()
    }

    /// A heartbeat that was sent at `asked` has been answered: a quarter of `ttl` is kept as the margin.
    pub fn renew(&self, asked: Duration, ttl: Duration) {
        let margin = ttl / 4;
        let until = asked + ttl.saturating_sub(margin);
        self.until_nanos.store(u64::try_from(until.as_nanos()).unwrap_or(u64::MAX), Ordering::Release);
    }

    /// When trust ends.
    pub fn until(&self) -> Duration {
        Duration::from_nanos(self.until_nanos.load(Ordering::Acquire))
    }

    /// Whether a request may still be started at `now`.
    pub fn holds(&self, now: Duration) -> bool {
        now < self.until()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trust_ends_a_quarter_before_the_lease() {
        let trust = LeaseTrust::new();
        let second = Duration::from_secs;
        assert!(!trust.holds(second(0)));
        trust.renew(second(100), second(120));
        assert!(trust.holds(second(189)));
        assert!(!trust.holds(second(190)));
    }
}
