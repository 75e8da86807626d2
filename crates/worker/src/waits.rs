//! Jobs that were sent back to the queue to wait there for their turn.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use longhaul_events::WaitCause;

/// So many waits are remembered (INV-BOUNDED). What was sent back before them is not told.
const MOST: usize = 1024;

/// What a job waits for, and since when on the process' clock.
#[derive(Debug)]
struct Wait {
    why: WaitCause,
    key: String,
    since: Duration,
}

/// How long jobs wait that this process sent back, so that it can be told once they go on here. One that goes on in
/// another process is told by nobody.
#[derive(Debug, Default)]
pub(crate) struct Waits {
    jobs: Mutex<HashMap<i64, Wait>>,
}

impl Waits {
    /// The job waits from now on.
    pub(crate) fn begin(&self, job: i64, why: WaitCause, key: String, since: Duration) {
        let mut jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        if jobs.len() >= MOST
            && let Some(oldest) = jobs.iter().min_by_key(|(_, wait)| wait.since).map(|(job, _)| *job)
        {
            jobs.remove(&oldest);
        }
        jobs.insert(job, Wait { why, key, since });
    }

    /// The job goes on: what it waited for, and for how long.
    pub(crate) fn end(&self, job: i64, now: Duration) -> Option<(WaitCause, String, Duration)> {
        let wait = self.jobs.lock().unwrap_or_else(PoisonError::into_inner).remove(&job)?;
        Some((wait.why, wait.key, now.saturating_sub(wait.since)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inv_bounded_the_oldest_wait_is_forgotten_first() {
        let (waits, key) = (Waits::default(), "a.example".to_owned());
        let second = Duration::from_secs;
        for job in 0..=MOST as i64 {
            waits.begin(job, WaitCause::Cap, key.clone(), second(job.unsigned_abs()));
        }
        assert_eq!(waits.end(0, second(9)), None);
        assert_eq!(waits.end(1, second(9)), Some((WaitCause::Cap, key, second(8))));
        assert_eq!(waits.end(1, second(9)), None, "a wait ends once");
    }
}
