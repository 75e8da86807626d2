//! Starts that the queue has not heard of, and how late starts are.
//!
//! A lane whose pace granted a start waits until it hears that the start has happened, before it gives many more. Most jobs
//! are settled before that matters, which says so too; of those that run on, the queue is told with the next call.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use longhaul_queue_core::{LEAD_MAX, LeaseToken, Place, Started};

/// A job that has run for so long since its start is not about to be settled: its start goes along with the next call,
const TOLD_AFTER: Duration = Duration::from_millis(100);
/// and has a call of its own after so long.
const TOLD_WITHIN: Duration = Duration::from_millis(200);

/// The starts that the queue has not heard of. Bounded by the jobs at work (INV-BOUNDED).
#[derive(Debug, Default)]
pub(crate) struct Starts {
    untold: Mutex<HashMap<LeaseToken, Vec<(Duration, Place)>>>,
}

impl Starts {
    /// A granted start has happened.
    pub(crate) fn began(&self, token: LeaseToken, place: Place, now: Duration) {
        self.lock().entry(token).or_default().push((now, place));
    }

    /// The job will be settled, which tells all of its starts.
    pub(crate) fn ended(&self, token: LeaseToken) {
        self.lock().remove(&token);
    }

    /// What is to be told by now.
    pub(crate) fn take(&self, now: Duration) -> Vec<Started> {
        let mut told = Vec::new();
        self.lock().retain(|token, starts| {
            let due = starts.extract_if(.., |(at, _)| *at + TOLD_AFTER <= now);
            told.extend(due.map(|(_, place)| Started { token: *token, place }));
            !starts.is_empty()
        });
        told
    }

    /// When the first has to be told.
    pub(crate) fn due_at(&self) -> Option<Duration> {
        self.lock().values().flatten().map(|(at, _)| *at + TOLD_WITHIN).min()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<LeaseToken, Vec<(Duration, Place)>>> {
        // Plain values, which are whole after every call, so a panic elsewhere cannot have torn them.
        self.untold.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long something takes nine times in ten, followed as it changes: the first time is taken as it is, each longer one raises
/// it by an eighth of the difference, each shorter one lowers it by a seventieth.
#[derive(Debug, Default)]
pub(crate) struct Latency {
    micros: AtomicU64,
}

impl Latency {
    pub(crate) fn observe(&self, took: Duration) {
        let took = u64::try_from(took.min(2 * LEAD_MAX).as_micros()).unwrap_or(u64::MAX);
        // Two at once may lose one of both: it is an estimate.
        let before = self.micros.load(Ordering::Relaxed);
        let after = match before {
            0 => took,
            _ if took > before => before + (took - before).div_ceil(8),
            _ => before - (before - took) / 70,
        };
        self.micros.store(after, Ordering::Relaxed);
    }

    /// What to reckon with, as far ahead as starts are granted at all.
    pub(crate) fn lead(&self) -> Duration {
        Duration::from_micros(self.micros.load(Ordering::Relaxed)).min(LEAD_MAX)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use longhaul_queue_core::{JobId, Lane, Role};

    use super::*;

    fn ms(length: u64) -> Duration {
        Duration::from_millis(length)
    }

    fn started(job: i64) -> Started {
        let place = Place::new(Lane::new("a.example").unwrap(), Role::Artifact);
        Started { token: LeaseToken { job: JobId(job), fence: 1 }, place }
    }

    #[test]
    fn a_start_is_told_once_and_only_if_its_job_runs_on() {
        let starts = Starts::default();
        for job in 1..=3 {
            let Started { token, place } = started(job);
            starts.began(token, place, ms(1_000 + job.unsigned_abs()));
        }
        assert_eq!(starts.due_at(), Some(ms(1_201)));
        starts.ended(started(1).token);
        assert_eq!(starts.take(ms(1_101)), []);
        assert_eq!(starts.take(ms(1_102)), [started(2)]);
        assert_eq!(starts.take(ms(5_000)), [started(3)]);
        assert_eq!((starts.take(ms(9_000)), starts.due_at()), (Vec::new(), None));
    }

    #[test]
    fn a_lead_covers_most_starts_and_follows_them() {
        let latency = Latency::default();
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..2_000 {
            latency.observe(ms(random.u64(0..100)));
        }
        let lead = latency.lead();
        assert!((ms(70)..ms(105)).contains(&lead), "{lead:?}");
        for _ in 0..1_000 {
            latency.observe(ms(2));
        }
        assert!(latency.lead() < ms(5), "{:?}", latency.lead());
        for _ in 0..100 {
            latency.observe(Duration::from_secs(9));
        }
        assert_eq!(latency.lead(), LEAD_MAX);
    }
}
