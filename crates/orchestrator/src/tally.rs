//! What a run has done so far, and which budget that uses up.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use longhaul_events::{Event, Fanout, Observer};
use longhaul_queue_core::JobState;

use crate::{Budget, Budgets};

/// Stands between the pipeline and the run's observer and counts the bytes that arrive. An observer that panics is
/// contained here.
#[derive(Debug)]
pub(crate) struct Tap {
    received: AtomicU64,
    observer: Fanout,
}

impl Tap {
    pub(crate) fn new(observer: Arc<dyn Observer>) -> Self {
        Self { received: AtomicU64::new(0), observer: Fanout::new(vec![observer]) }
    }

    /// Bytes that were received so far.
    pub(crate) fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }
}

impl Observer for Tap {
    fn on_event(&self, event: &Event) {
        if let Event::Received { bytes, .. } = event {
            self.received.fetch_add(*bytes, Ordering::Relaxed);
        }
        self.observer.on_event(event);
    }
}

/// Settlements that the queue recorded.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) settled: BTreeMap<(&'static str, String), u64>,
    pub(crate) terminal: u64,
    pub(crate) errors: u64,
}

impl Tally {
    /// The queue recorded one.
    pub(crate) fn count(&mut self, verdict: &'static str, reason: &str, state: JobState) {
        *self.settled.entry((verdict, reason.to_owned())).or_default() += 1;
        self.terminal += u64::from(state.is_terminal());
        self.errors += u64::from(state == JobState::Error);
    }

    /// Which budget is used up, if one is.
    pub(crate) fn exhausted(&self, budgets: &Budgets, received: u64, elapsed: Duration) -> Option<Budget> {
        let reached = |limit: Option<u64>, value: u64| limit.is_some_and(|limit| value >= limit);
        if reached(budgets.max_jobs, self.terminal) {
            Some(Budget::Jobs)
        } else if reached(budgets.max_errors, self.errors) {
            Some(Budget::Errors)
        } else if reached(budgets.max_bytes, received) {
            Some(Budget::Bytes)
        } else if budgets.max_runtime.is_some_and(|limit| elapsed >= limit) {
            Some(Budget::Runtime)
        } else {
            None
        }
    }

    /// How many more jobs may be leased while `held` are: each of those may end, and exactly `max_jobs` shall.
    pub(crate) fn may_lease(&self, budgets: &Budgets, held: usize) -> usize {
        let Some(max_jobs) = budgets.max_jobs else { return usize::MAX };
        usize::try_from(max_jobs.saturating_sub(self.terminal).saturating_sub(held as u64))
            .unwrap_or(usize::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_leased_than_may_end() {
        let budgets = Budgets { max_jobs: Some(5), ..Budgets::default() };
        let mut tally = Tally::default();
        assert_eq!(tally.may_lease(&budgets, 2), 3);
        tally.count("done", "ok", JobState::Done);
        tally.count("retry", "timeout", JobState::Queued);
        assert_eq!(tally.may_lease(&budgets, 4), 0);
        assert_eq!(tally.may_lease(&budgets, 9), 0);
        assert_eq!(tally.may_lease(&Budgets::default(), 9), usize::MAX);
    }

    #[test]
    fn each_budget_is_named_when_it_is_used_up() {
        let mut tally = Tally::default();
        tally.count("error", "gone", JobState::Error);
        let hour = Duration::from_hours(1);
        let check = |budgets: &Budgets| tally.exhausted(budgets, 100, hour);
        assert_eq!(check(&Budgets::default()), None);
        assert_eq!(check(&Budgets { max_jobs: Some(1), ..Budgets::default() }), Some(Budget::Jobs));
        assert_eq!(check(&Budgets { max_errors: Some(1), ..Budgets::default() }), Some(Budget::Errors));
        assert_eq!(check(&Budgets { max_errors: Some(2), ..Budgets::default() }), None);
        assert_eq!(check(&Budgets { max_bytes: Some(100), ..Budgets::default() }), Some(Budget::Bytes));
        assert_eq!(check(&Budgets { max_runtime: Some(hour), ..Budgets::default() }), Some(Budget::Runtime));
    }
}
