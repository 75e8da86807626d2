//! Admitting one further request of a held job.

use std::time::Duration;

use super::model::Model;
use crate::grant::{StartWindow, ask_anew};
use crate::{Admission, AdmitRequest, Timestamp};

/// What is answered instead of a longer wait, and where no end is known: a pause without one.
const WAIT_MAX: Duration = Duration::from_hours(24);

impl Model {
    /// Moves the job's slot to the lane that it asks for, if that is open; otherwise its slot is free when this
    /// returns, so that nothing is held while something else is waited for (INV-NO-HOLD-AND-WAIT).
    pub(super) fn admit(&mut self, request: &AdmitRequest) -> Admission {
        let Some(job) = self.held(request.token) else { return Admission::LeaseLost };
        let worker = job.row.worker.as_ref().and_then(|worker| self.workers.get(worker));
        if worker.is_none_or(|worker| worker.expires_at <= self.now) {
            return Admission::LeaseLost;
        }
        // Without its slot, so that it is not in its own way.
        let old = job.row.slot.clone();
        if let Some(lane) = &old {
            self.free_slot(lane);
        }
        let admission = self.decide(request);
        let admitted = matches!(admission, Admission::Admitted { .. });
        let slot = Some(&request.place.lane).filter(|lane| admitted && !lane.is_none()).cloned();
        if let Some(lane) = &slot {
            *self.slots.entry(lane.clone()).or_default() += 1;
        }
        let now = self.now;
        if let Some(job) = self.jobs.get_mut(&request.token.job) {
            if job.row.slot != slot {
                job.row.updated_at = now;
            }
            job.row.slot = slot;
        }
        admission
    }

    fn decide(&mut self, request: &AdmitRequest) -> Admission {
        let (lane, role) = (&request.place.lane, request.place.role);
        let now = self.now;
        let bounds = self.bounds(lane, role, &request.rules);
        if let Some(state) = self.lanes.get_mut(lane)
            && ask_anew(&bounds, &mut state.pace, request.token.into(), request.unused)
        {
            self.turns.reopen(lane, now);
        }
        let not_before = |until: Timestamp| Admission::NotBefore(until.after(now).min(WAIT_MAX));
        if let Some(until) = self.paused_until() {
            return not_before(until);
        }
        let state = self.lane(lane);
        if state.closed_until() > now {
            return not_before(state.closed_until());
        }
        if !lane.is_none()
            && state.cap(request.rules.cap(lane)).is_some_and(|cap| self.slots_taken(lane) >= cap)
        {
            return Admission::Full;
        }
        match self.count(lane, (role, request.token.into()), &request.rules, (request.lead, request.lead)) {
            Some(StartWindow { after, within }) => {
                Admission::Admitted { paced: !bounds.is_off(), start_after: after, start_within: within }
            }
            None => not_before(Timestamp::at_least(bounds.open_at(&state.pace))),
        }
    }
}
