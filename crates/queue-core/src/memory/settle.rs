//! Ending a try.

use std::collections::BTreeSet;

use longhaul_limiter::Lane;

use super::model::{Job, Model, shortened};
use crate::{Answer, JobState, LaneReport, LeaseToken, Place, Result, Settlement, Timestamp, Verdict};

impl Model {
    /// Settles one try, and adds the lanes that it closes. A batch is nothing but one after the other.
    pub(super) fn settle(&mut self, settlement: &Settlement, closed: &mut BTreeSet<Lane>) -> Result<Answer> {
        let token = settlement.token;
        let Some(job) = self.held(token) else { return Ok(self.answer_again(settlement)) };
        if let Verdict::Done { file: Some(file), .. } = &settlement.verdict
            && self.paths.contains_key(&(file.store.clone(), file.path.to_ascii_lowercase()))
        {
            return Ok(Answer::PathTaken);
        }
        let throttles = job.row.throttles;
        let leased_for = job.row.place.lane.clone();
        let is_charged = self.has_served_since(job.leased_at.min(job.row.available_at), settlement);
        let quiet = settlement.quiet();
        let (now, verdict) = (self.now, &settlement.verdict);
        let worker = job.row.worker.as_ref().and_then(|worker| self.workers.get(worker));
        let store = worker.and_then(|worker| worker.info.store.clone());
        let state = self.transition(token.job, verdict.event(), reason(verdict), |job| {
            if job.row.state.is_terminal() {
                job.row.store = store;
            }
            fill(job, verdict, now.plus(quiet), now);
            // A process without a store has nothing to publish.
            job.row.published = job.row.state.is_terminal() && job.row.store.is_none();
            // The transition charged it; a lane that was quiet to all is no fault of the job.
            if matches!(verdict, Verdict::Throttled { .. }) && !is_charged {
                job.row.throttles = throttles;
            }
        })?;
        if let Some(job) = self.jobs.get_mut(&token.job) {
            job.settled = Some((settlement.clone(), state));
        }
        for report in settlement.reports(leased_for.as_str()) {
            if self.report(report, token.into()) {
                closed.insert(report.lane().clone());
            }
        }
        Ok(Answer::Recorded(state))
    }

    /// INV-FENCE: what was answered is answered again until the job is leased again; all else is lost.
    fn answer_again(&self, settlement: &Settlement) -> Answer {
        match self.jobs.get(&settlement.token.job).and_then(|job| job.settled.as_ref()) {
            Some((settled, state)) if settled == settlement => Answer::Recorded(*state),
            _ => Answer::LeaseLost,
        }
    }

    /// Whether the lane that asked for quiet has served somebody since this job was leased, or since it waits to be: then
    /// the throttling is the job's own, and is charged to it (INV-ATTEMPTS).
    fn has_served_since(&self, since: Timestamp, settlement: &Settlement) -> bool {
        let throttled = |report: &&LaneReport| matches!(report, LaneReport::Throttled { .. });
        let asked = settlement.lanes.iter().rev().find(throttled);
        let served_at = asked.and_then(|report| self.lanes.get(report.lane())?.served_at);
        served_at.is_some_and(|served_at| served_at >= since)
    }

    pub(super) fn checkpoint(&mut self, token: LeaseToken, checkpoint: &str) -> bool {
        if self.held(token).is_none() {
            return false;
        }
        let now = self.now;
        if let Some(job) = self.jobs.get_mut(&token.job) {
            job.row.checkpoint = Some(checkpoint.to_owned());
            job.row.updated_at = now;
        }
        true
    }

    pub(super) fn mark_published(&mut self, ids: &[crate::JobId]) {
        for id in ids {
            if let Some(job) = self.jobs.get_mut(id).filter(|job| job.row.state.is_terminal()) {
                job.row.published = true;
            }
        }
    }
}

fn reason(verdict: &Verdict) -> Option<&str> {
    match verdict {
        Verdict::Done { reason, .. }
        | Verdict::Skipped { reason, .. }
        | Verdict::Error { reason, .. }
        | Verdict::Retry { reason, .. } => Some(reason),
        Verdict::Throttled { .. } => Some("throttled"),
        Verdict::Defer { .. } | Verdict::Release { .. } => None,
    }
}

/// What a verdict writes into the row; state and charges are the state machine's.
/// `again` is when one that was throttled may be tried again.
fn fill(job: &mut Job, verdict: &Verdict, again: Timestamp, now: Timestamp) {
    let row = &mut job.row;
    if let Some(reason) = reason(verdict) {
        row.reason = Some(reason.to_owned());
    }
    let mut go_on = |place: Option<&Place>, checkpoint: &Option<String>| {
        row.checkpoint.clone_from(checkpoint);
        if let Some(place) = place {
            row.place.clone_from(place);
        }
    };
    match verdict {
        Verdict::Done { outcome, file, .. } => {
            row.outcome = Some(outcome.clone());
            row.last_error = None;
            if let Some(file) = file {
                row.store = Some(file.store.clone());
                row.path = Some(file.path.clone());
                row.sha256 = Some(file.sha256.clone());
            }
        }
        Verdict::Skipped { outcome, detail, .. } | Verdict::Error { outcome, detail, .. } => {
            row.outcome = Some(outcome.clone());
            row.last_error = Some(shortened(detail));
        }
        Verdict::Retry { after, detail, place, checkpoint, .. } => {
            go_on(place.as_ref(), checkpoint);
            row.last_error = Some(shortened(detail));
            row.available_at = now.plus(*after);
        }
        Verdict::Defer { after, place, checkpoint } => {
            go_on(Some(place), checkpoint);
            if !after.is_zero() {
                row.available_at = now.plus(*after);
            }
        }
        Verdict::Throttled { detail, place, checkpoint } => {
            go_on(place.as_ref(), checkpoint);
            row.last_error = Some(shortened(detail));
            row.available_at = again;
        }
        Verdict::Release { checkpoint } => {
            if checkpoint.is_some() {
                row.checkpoint.clone_from(checkpoint);
            }
        }
    }
    debug_assert!(row.state != JobState::InProgress, "a settled job is held by nobody");
}
