//! The machine's own clock.

use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use rustix::time::{ClockId, clock_gettime};

use crate::Clock;

/// The suspend-aware monotonic clock of the machine (`CLOCK_BOOTTIME`) and its calendar.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

#[async_trait]
impl Clock for SystemClock {
    fn monotonic(&self) -> Duration {
        let time = clock_gettime(ClockId::Boottime);
        Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
    }

    #[allow(clippy::disallowed_methods, reason = "this is the one place that reads the calendar")]
    fn wall(&self) -> SystemTime {
        SystemTime::now()
    }

    fn boot(&self) -> String {
        // Without it (a kernel that hides /proc) a restart of the machine is seen by the monotonic clock alone:
        // the store then takes a time that is too small for its anchor as a new boot.
        std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
            .map_or_else(|_| String::new(), |id| id.trim().to_owned())
    }

    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_has_a_boot_and_a_time() {
        assert!(SystemClock.monotonic() > Duration::ZERO);
        assert!(!SystemClock.boot().is_empty());
    }
}
