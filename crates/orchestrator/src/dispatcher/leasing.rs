//! What is asked of the queue next.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use longhaul_queue_core::{LeaseRequest, RequestNumber};

use super::{Dispatcher, Drain};
use crate::alone::Wish;
use crate::call::{dispatch, reconcile, stats};
use crate::publisher::BACKLOG;

impl Dispatcher {
    /// Starts the next call to the queue, if there is something to say and no call is under way.
    pub(super) fn call_queue(&mut self) {
        let now = self.shared.now();
        if !self.calls.is_empty()
            || self.ahead.waits_for_company(now, self.finished.len(), self.running.len(), self.worker.lead())
        {
            return;
        }
        if self.shared.reconcile.load(Ordering::Acquire) && self.phase.is_running() {
            self.calls.spawn(reconcile(Arc::clone(&self.shared)));
            return;
        }
        let request = self.lease_request();
        if !self.finished.is_empty() || request.is_some() {
            let finished = self.take_finished();
            if request.is_some() {
                self.hungry = false;
            }
            self.ahead.called();
            self.calls.spawn(dispatch(Arc::clone(&self.shared), finished, request));
        } else if self.may_be_drained() {
            self.calls.spawn(stats(Arc::clone(&self.shared)));
        }
    }

    fn take_finished(&mut self) -> Vec<longhaul_worker::Finished> {
        if self.singly == 0 {
            return std::mem::take(&mut self.finished);
        }
        self.singly -= 1;
        self.finished.drain(..1.min(self.finished.len())).collect()
    }

    /// The lease that goes with the next call; `None` if there is nothing to ask for, or it must not be asked for.
    fn lease_request(&mut self) -> Option<LeaseRequest> {
        let now = self.shared.now();
        let settles = !self.finished.is_empty();
        if !self.phase.is_running()
            || self.singly > 0
            || self.faults.pauses(now)
            || !self.shared.trust.holds(now)
            || self.finished.iter().any(|one| one.local_fault.is_some())
        {
            return None;
        }
        let wish = self.alone.wish(now, self.held(), self.dry);
        // A settlement frees a slot, so a lease that goes along may find something even if the last one did not.
        let (max, ahead, alone) = match wish {
            Wish::Alone => (1, 0, true),
            Wish::Normal if settles || self.hungry => (self.leasable(), self.ahead.room(), false),
            Wish::Normal if self.worker.tell_at().is_some_and(|at| at <= now) => (0, 0, false),
            Wish::Normal | Wish::Nothing => return None,
        };
        // Each job that is held may end, be recorded and wait for its publication.
        let held = self.held() + self.finished.len();
        let most = self
            .tally
            .may_lease(&self.config.budgets, held)
            .min(self.faults.may_lease(self.held()))
            .min(BACKLOG.saturating_sub(self.shared.registry.publishing_count() + held));
        let max = max.min(most);
        // What is held ahead would start before the errors of those before it are known.
        let ahead = if self.config.budgets.max_errors.is_some() { 0 } else { ahead.min(most - max) };
        let tells = self.worker.tell_at().is_some_and(|at| at <= now);
        // With no worker free, only lanes that have lately given ahead are worth a call, and starts that are to be told.
        if max == 0 && (ahead == 0 || !self.ahead.was_given()) && !tells {
            return None;
        }
        self.requests += 1;
        Some(LeaseRequest {
            worker: self.shared.worker.clone(),
            number: RequestNumber(self.requests),
            max,
            ahead,
            alone,
            max_losses: self.config.max_losses,
            rules: Arc::clone(&self.config.rules),
            lead: self.worker.lead(),
            critical: self.critical.of(max),
            started: self.worker.take_started(),
        })
    }

    /// Whether, as far as this process sees, nothing is left to do, so that the queue's counts decide.
    fn may_be_drained(&self) -> bool {
        let published = self.shared.registry.publishing_count() == 0 || self.health.is_stuck();
        self.config.drain
            && self.phase.is_running()
            && self.drain == Drain::Working
            && self.held() == 0
            && self.finished.is_empty()
            && !self.hungry
            && self.dry
            && !self.alone.waits()
            && published
            && self.recovery.is_empty()
            && !self.faults.pauses(self.shared.now())
    }

    /// The first time at which asking again is worth it. An answer that gave nothing and says "now" contradicts
    /// itself for a moment (another process was quicker); without a floor it would be asked in a circle.
    pub(super) fn open_at(now: Duration, next_open: Duration, gave: usize) -> Duration {
        const FLOOR: Duration = Duration::from_millis(5);
        now + if gave == 0 { next_open.max(FLOOR) } else { next_open }
    }
}
