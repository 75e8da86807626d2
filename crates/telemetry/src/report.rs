//! The report of a run: what ended how, when, and how polite it was, as JSON and as one page that needs nothing else.
//!
//! [`RunReport`] hears the run's events and keeps a bounded amount of them (INV-BOUNDED), whatever the number of jobs and
//! hosts. [`RunReport::finish`] makes a [`Report`] of it at the run's end, and [`ReportFiles`] puts that where it was
//! asked for. What is exact and what is not stands in the report itself, as [`Report::notes`].
//!
//! It speaks of one process: requests of others on the same queue are not in it.

mod ended;
mod files;
mod hosts;
mod model;
mod page;
mod seen;
mod starts;
#[cfg(test)]
mod tests;
mod timeline;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use longhaul_events::{Event, Observer};
use longhaul_limiter::Clock;

use self::seen::Seen;

pub use self::ended::{EndedRun, Left, RunEnding};
pub use self::files::{ReportFiles, ReportTarget};
pub use self::model::{
    HostRow, Hosts, Jobs, OtherHosts, OutcomeRow, Progress, ProgressBucket, Report, Requests, Tries, Waited,
};

/// Hears a run and remembers what its report needs.
#[derive(Debug)]
pub struct RunReport {
    clock: Arc<dyn Clock>,
    began: Duration,
    began_at: SystemTime,
    seen: Mutex<Seen>,
}

impl RunReport {
    /// The run begins now.
    pub fn start(clock: Arc<dyn Clock>) -> Self {
        let (began, began_at) = (clock.monotonic(), clock.wall());
        Self { clock, began, began_at, seen: Mutex::new(Seen::default()) }
    }

    /// The report of what was heard until now.
    pub fn finish(&self, run: &EndedRun<'_>) -> Report {
        let now = self.clock.monotonic().saturating_sub(self.began);
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        model::report(run, &seen, self.began_at, now)
    }
}

impl Observer for RunReport {
    fn on_event(&self, event: &Event) {
        // A panic while it was held has left numbers that are off by one at worst.
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        // Read under the lock, so that the times of what is heard never go back.
        let now = self.clock.monotonic().saturating_sub(self.began);
        seen.hear(event, now);
    }
}
