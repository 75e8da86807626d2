//! What is remembered of a lane, and what reports, pauses and closures do to it.

use std::time::Duration;

use longhaul_limiter::{Claim, Controllers, HostPace, Lane, PaceState, PenaltyBox};

use super::model::{Model, shortened};
use crate::{ErrorKind, LaneClosure, LaneReport, QueueError, Result, Started, Timestamp};

/// Failures in a row that are a strike.
const FAILURES_STRIKE: u32 = 5;
/// A lane that was closed is on probation while it gives at most so many slots: one failure closes it again. Were it on
/// probation until it gives what is configured, a host of which one request in twenty fails would hardly ever come so far.
const PROBATION: u32 = 4;
/// A reopening lane that has come this far gives what is configured.
const REOPENED: u32 = 64;

/// Somebody's wish that nothing starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pause {
    /// [`Timestamp::NEVER`] without an end.
    pub(super) until: Timestamp,
    pub(super) reason: String,
}

/// A lane of which nothing is remembered has the default.
#[derive(Debug, Clone, Default)]
pub(super) struct LaneState {
    pub(super) not_before: Timestamp,
    pub(super) cause: Option<String>,
    /// How many slots it gives while it reopens step by step.
    pub(super) reopening: Option<u32>,
    pub(super) failures: u32,
    pub(super) served_at: Option<Timestamp>,
    pub(super) penalty: PenaltyBox,
    pub(super) pace: PaceState,
    /// What its host says and shows of its own pace.
    pub(super) host: Controllers,
    pub(super) pause: Option<Pause>,
}

impl LaneState {
    /// Until when nothing starts, by a cool-down or a pause.
    pub(super) fn closed_until(&self) -> Timestamp {
        self.pause.as_ref().map_or(self.not_before, |pause| pause.until.max(self.not_before))
    }

    /// How many slots the lane has, given the asking process' cap.
    pub(super) fn cap(&self, configured: Option<u32>) -> Option<u32> {
        configured.into_iter().chain(self.reopening).min()
    }

    /// Whether it is open after a closure and has not yet shown that it is well again.
    fn is_on_probation(&self, now: Timestamp) -> bool {
        self.not_before <= now && self.reopening.is_some_and(|slots| slots <= PROBATION)
    }

    /// A lane that is closed stays as it is: what fails there was under way before.
    fn strike(&mut self, cause: &str, now: Timestamp) {
        if self.not_before <= now {
            let closure = self.penalty.strike(now.since_epoch(), fastrand::f64());
            self.close(closure, cause, now);
        }
    }

    /// Never for less than it is closed already (INV-COOLDOWN); it reopens with one slot.
    fn close(&mut self, length: Duration, cause: &str, now: Timestamp) {
        let until = now.plus(length);
        if until > self.not_before {
            self.not_before = until;
            self.cause = Some(shortened(cause));
        }
        self.reopening = Some(1);
    }

    /// Takes in what a claim's holder says. Whether something ends that turns may have been put off for; what is learned
    /// changes by little.
    fn take(&mut self, report: &LaneReport, claim: Claim, now: Timestamp) -> bool {
        match report {
            LaneReport::Served { .. } => {
                self.failures = 0;
                self.served_at = Some(now);
                // An answer to a request from before the closure does not speak for the time after it.
                if self.not_before <= now {
                    let at = now.since_epoch();
                    let before = self.host.slowest(at);
                    self.host.served(at, self.reopening == Some(1));
                    self.reopening = self.reopening.map(|slots| slots + 1).filter(|slots| *slots < REOPENED);
                    let after = self.host.slowest(at);
                    return HostPace::is_much_faster(before, after)
                        && self.pace.host_pace_changed(before, after, at);
                }
            }
            LaneReport::Failed { cause, .. } => {
                self.failures += 1;
                if self.failures >= FAILURES_STRIKE || self.is_on_probation(now) {
                    self.failures = 0;
                    self.strike(cause, now);
                }
            }
            LaneReport::Throttled { retry_after, cause, .. } => {
                let (was_open, is_first) = (self.not_before <= now, self.reopening == Some(1));
                let said = retry_after.filter(|length| !length.is_zero());
                if said.is_none() || (was_open && is_first) {
                    self.strike(&LaneReport::why_struck(cause, said), now);
                }
                if let Some(length) = said {
                    self.close(length.min(LaneReport::LONGEST_CLOSURE), cause, now);
                }
                // Of many that are refused at once one is judged.
                if was_open {
                    self.host.refused(now.since_epoch(), self.not_before.after(now), is_first);
                }
            }
            LaneReport::Paced { controller, every, valid_for, .. } => {
                let at = now.since_epoch();
                let before = self.host.slowest(at);
                self.host.said(*controller, *every, *valid_for, at);
                return self.pace.host_pace_changed(before, self.host.slowest(at), at);
            }
            LaneReport::Unused { role, .. } => return self.pace.take_back(claim, *role),
        }
        false
    }
}

impl Model {
    /// What is remembered of a lane.
    pub(super) fn lane(&self, lane: &Lane) -> LaneState {
        self.lanes.get(lane).cloned().unwrap_or_default()
    }

    /// Takes in a report of a claim's holder. Whether it closed the lane, or for longer than it was.
    pub(super) fn report(&mut self, report: &LaneReport, claim: Claim) -> bool {
        let lane = report.lane();
        if lane.is_none() {
            return false;
        }
        let state = self.lanes.entry(lane.clone()).or_default();
        let (closed, slots) = (state.not_before, state.reopening);
        let is_faster = state.take(report, claim, self.now);
        let is_closing = state.not_before != closed;
        let has_more_slots = state.reopening != slots && !is_closing;
        if has_more_slots || is_faster {
            self.turns.reopen(lane, self.now);
        }
        // Who holds jobs ahead wants to hear of a closure as well.
        self.epoch += u64::from(is_closing || has_more_slots || is_faster);
        is_closing
    }

    /// Takes in which grants have been used: their lanes wait for those no more.
    pub(super) fn have_started(&mut self, started: &[Started]) {
        for Started { token, place } in started {
            if let Some(state) = self.lanes.get_mut(&place.lane)
                && state.pace.started((*token).into(), place.role)
                && self.turns.reopen(&place.lane, self.now)
            {
                self.epoch += 1;
            }
        }
    }

    /// For how long a lane is closed, and why.
    pub(super) fn closure(&self, lane: &Lane) -> LaneClosure {
        let state = self.lane(lane);
        LaneClosure {
            lane: lane.clone(),
            length: state.not_before.after(self.now),
            cause: state.cause.unwrap_or_default(),
        }
    }

    pub(super) fn close(&mut self, lane: &Lane, length: Duration, cause: &str) -> Result<()> {
        if lane.is_none() {
            let message = "work without a host has no lane to close; pause the queue instead";
            return Err(QueueError::new(ErrorKind::Invalid, message));
        }
        let state = self.lanes.entry(lane.clone()).or_default();
        state.close(length, cause, self.now);
        state.reopening = Some(1);
        self.epoch += 1;
        Ok(())
    }

    pub(super) fn pause(
        &mut self,
        lane: Option<&Lane>,
        length: Option<Duration>,
        reason: &str,
    ) -> Option<String> {
        let until = length.map_or(Timestamp::NEVER, |length| self.now.plus(length));
        let pause = Some(Pause { until, reason: shortened(reason) });
        let before = match lane {
            None => std::mem::replace(&mut self.pause, pause),
            Some(lane) => {
                let state = self.lanes.entry(lane.clone()).or_default();
                let before = std::mem::replace(&mut state.pause, pause);
                // It may replace a longer one, which turns have been put off by.
                self.turns.reopen(lane, self.now);
                before
            }
        };
        self.epoch += 1;
        before.filter(|pause| pause.until > self.now).map(|pause| pause.reason)
    }

    pub(super) fn resume(&mut self, lane: Option<&Lane>) -> bool {
        let ended = match lane {
            None => self.pause.take(),
            Some(lane) => {
                let ended = self.lanes.get_mut(lane).and_then(|state| state.pause.take());
                self.turns.reopen(lane, self.now);
                ended
            }
        };
        self.epoch += 1;
        ended.is_some_and(|pause| pause.until > self.now)
    }

    /// Until when the whole queue is paused; `None` if it is not.
    pub(super) fn paused_until(&self) -> Option<Timestamp> {
        self.pause.as_ref().map(|pause| pause.until).filter(|until| *until > self.now)
    }
}
