//! Fair leasing: a walk over the turns that are open, each giving its share.
//!
//! The highest class goes first; of every sixteen jobs given one goes to a lower class, to each that waits in turn, so
//! that every class moves. A turn that was visited goes behind the others, whether it gave or not (INV-FAIR).

use std::time::Duration;

use longhaul_limiter::{Bounds, Claim, Lane, LaneRules, PaceState, Role};

use super::model::Model;
use super::turns::ALONE;
use crate::grant::{StartWindow, grant, visit_at};
use crate::{
    Epoch, JobEvent, JobId, LeaseBatch, LeaseRequest, LeaseToken, LeasedJob, Place, Result, Timestamp,
};

/// One job given in so many goes to a lower class than the highest waiting.
pub(super) const LOWER_EVERY: u64 = 16;

/// What a request may be given, whatever the lanes say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Eligible {
    Nothing,
    Ordinary,
    Alone,
}

/// What a request may still be given.
struct Room {
    all: usize,
    /// Of these, from lanes with a cap or a pace.
    limited: usize,
}

impl Model {
    pub(super) fn lease(&mut self, request: &LeaseRequest) -> Result<LeaseBatch> {
        self.have_started(&request.started);
        self.sweep(&request.worker, request.max_losses)?;
        let mut jobs = self.repeated(request);
        if jobs.is_empty() && self.paused_until().is_none() {
            if let Some(worker) = self.workers.get_mut(&request.worker) {
                worker.max_losses = request.max_losses;
            }
            match self.eligible(request) {
                Eligible::Nothing => {}
                Eligible::Ordinary => {
                    let mut room = Room { all: request.max + request.ahead, limited: request.max };
                    self.give_by_class(request, &mut room, &mut jobs)?;
                    if request.ahead > 0 {
                        // Stable: within both kinds the order of the turns stays.
                        jobs.sort_by_key(|job| !self.is_limited(&job.place.lane, &request.rules));
                    }
                }
                Eligible::Alone => {
                    let mut room = Room { all: request.max.min(1), limited: 1 };
                    self.pass(request, ALONE, room.all, &mut room, &mut jobs)?;
                }
            }
        }
        let (alone_waiting, next_open) = self.outlook(request);
        Ok(LeaseBatch { jobs, next_open, alone_waiting, age: Duration::ZERO, epoch: Epoch(self.epoch) })
    }

    pub(super) fn eligible(&self, request: &LeaseRequest) -> Eligible {
        let Some(worker) = self.workers.get(&request.worker) else { return Eligible::Nothing };
        let is_alone = |id: &JobId| self.jobs.get(id).is_some_and(|job| job.class() == ALONE);
        if request.alone {
            if worker.held.is_empty() { Eligible::Alone } else { Eligible::Nothing }
        } else if worker.held.iter().any(is_alone) {
            Eligible::Nothing
        } else {
            Eligible::Ordinary
        }
    }

    /// What the same request was given before and still holds. Whatever start was counted then is too long ago.
    pub(super) fn repeated(&self, request: &LeaseRequest) -> Vec<LeasedJob> {
        let Some(worker) = self.workers.get(&request.worker) else { return Vec::new() };
        let held = worker
            .held
            .iter()
            .filter(|id| self.jobs.get(id).is_some_and(|job| job.request == Some(request.number)));
        held.filter_map(|id| self.leased(*id, StartWindow::OVER, false)).collect()
    }

    fn give_by_class(
        &mut self,
        request: &LeaseRequest,
        room: &mut Room,
        jobs: &mut Vec<LeasedJob>,
    ) -> Result<()> {
        let mut critical = request.critical.most;
        // Each round gives a job or puts off a turn that was open, so it ends.
        while room.all > 0
            && let [lower @ .., highest] = self.turns.open_classes(self.now).as_slice()
        {
            let wanted = room.all;
            let until_lower = LOWER_EVERY - 1 - self.grants % LOWER_EVERY;
            let (class, share) = match usize::try_from(until_lower).unwrap_or(usize::MAX) {
                _ if lower.is_empty() => (*highest, wanted),
                0 => (turn_of(lower, self.grants / LOWER_EVERY), 1),
                until_lower => (*highest, wanted.min(until_lower)),
            };
            let first = self.before_turns(request, class, share.min(critical), room, jobs)?;
            critical -= first;
            if share > first {
                self.pass(request, class, share - first, room, jobs)?;
            }
        }
        Ok(())
    }

    /// Takes at most so many jobs of critical lanes out of turn, of each at most one. Returns how many.
    fn before_turns(
        &mut self,
        request: &LeaseRequest,
        class: u8,
        most: usize,
        room: &mut Room,
        jobs: &mut Vec<LeasedJob>,
    ) -> Result<usize> {
        let mut given = 0;
        for lane in request.critical.lanes.iter() {
            let horizon = request.horizon(lane);
            if given < most.min(room.limited)
                && let Some((_, role, id)) = self.first_ready(lane, class, &request.rules, horizon)
            {
                self.give(request, lane, (role, id), horizon, jobs)?;
                self.end_of_visit(request, lane, class);
                given += 1;
            }
        }
        room.all -= given;
        room.limited -= given;
        Ok(given)
    }

    /// Visits the open turns of a class once, as long as there is room. A limited lane that could give and for which no
    /// worker is free ends it: its turn and those behind it are not visited, and there is no room any more (INV-FAIR).
    fn pass(
        &mut self,
        request: &LeaseRequest,
        class: u8,
        wanted: usize,
        room: &mut Room,
        jobs: &mut Vec<LeasedJob>,
    ) -> Result<()> {
        let lanes = self.turns.open(class, self.now, wanted);
        // Rounded down: what remains is handed out by the next pass, and the lane that gets it goes to the back.
        let quantum = (wanted / lanes.len().max(1)).max(1);
        for lane in &lanes {
            let is_limited = self.is_limited(lane, &request.rules);
            let most = if is_limited { quantum.min(room.limited) } else { quantum };
            if most == 0 && self.first_ready(lane, class, &request.rules, request.lead).is_some() {
                room.all = 0;
                break;
            }
            let given = self.visit(request, lane, class, most, jobs)?;
            room.all = room.all.saturating_sub(given);
            room.limited -= if is_limited { given } else { 0 };
        }
        Ok(())
    }

    /// Takes at most `quantum` jobs from a lane, as its slots (INV-CAP), its pace (INV-PACE), its cool-down and its
    /// pause (INV-COOLDOWN) allow, and sends it to the back. Returns how many.
    fn visit(
        &mut self,
        request: &LeaseRequest,
        lane: &Lane,
        class: u8,
        quantum: usize,
        jobs: &mut Vec<LeasedJob>,
    ) -> Result<usize> {
        let mut given = 0;
        while given < quantum
            && let Some((_, role, id)) = self.first_ready(lane, class, &request.rules, request.lead)
        {
            self.give(request, lane, (role, id), request.lead, jobs)?;
            given += 1;
        }
        self.end_of_visit(request, lane, class);
        Ok(given)
    }

    /// Leases a job that [`Model::first_ready`] named, and counts its start.
    pub(super) fn give(
        &mut self,
        request: &LeaseRequest,
        lane: &Lane,
        (role, id): (Role, JobId),
        horizon: Duration,
        jobs: &mut Vec<LeasedJob>,
    ) -> Result<()> {
        let paced = !self.bounds(lane, role, &request.rules).is_off();
        let fence = self.jobs.get(&id).map_or(0, |job| job.row.fence + 1);
        let claim = Claim { job: id.0, fence };
        // `first_ready` has seen that it can.
        let start = self.count(lane, (role, claim), &request.rules, (request.lead, horizon));
        let start = start.unwrap_or(StartWindow::OVER);
        let (now, slot) = (self.now, Some(lane).filter(|lane| !lane.is_none()));
        self.transition(id, JobEvent::Lease, None, |job| {
            job.row.fence += 1;
            job.row.worker = Some(request.worker.clone());
            job.row.slot = slot.cloned();
            (job.request, job.leased_at, job.settled) = (Some(request.number), now, None);
        })?;
        self.grants += 1;
        jobs.extend(self.leased(id, start, paced));
        Ok(())
    }

    /// The turn was had: it goes to the back, is put off until it can give, or ends.
    pub(super) fn end_of_visit(&mut self, request: &LeaseRequest, lane: &Lane, class: u8) {
        match self.opens(lane, class, &request.rules, request.lead) {
            Some(open_at) => self.turns.visited(lane, class, open_at),
            None => self.turns.end(lane, class),
        }
    }

    /// The job that a lane would give now: the one that became available first of those whose role's pace allows it within
    /// `horizon`.
    pub(super) fn first_ready(
        &self,
        lane: &Lane,
        class: u8,
        rules: &LaneRules,
        horizon: Duration,
    ) -> Option<(Timestamp, Role, JobId)> {
        if self.is_full(lane, rules) {
            return None;
        }
        let heads = Role::ALL.into_iter().filter_map(|role| {
            let (available_at, id) = *self.lines.get(&(lane.clone(), class, role))?.first()?;
            (self.opens_for(lane, role, available_at, rules, horizon) <= self.now).then_some((
                available_at,
                role,
                id,
            ))
        });
        heads.min_by_key(|(available_at, _, id)| (*available_at, *id))
    }

    /// Whether a cap or a pace may hold the lane back: then a job of it is given only to a worker that is free.
    pub(super) fn is_limited(&self, lane: &Lane, rules: &LaneRules) -> bool {
        self.cap(lane, rules).is_some()
            || Role::ALL.iter().any(|role| !self.bounds(lane, *role, rules).is_off())
    }

    pub(super) fn cap(&self, lane: &Lane, rules: &LaneRules) -> Option<u32> {
        self.lanes
            .get(lane)
            .filter(|_| !lane.is_none())
            .map_or(rules.cap(lane), |state| state.cap(rules.cap(lane)))
    }

    /// What binds the starts of a role: the paces of the process that asks and of all that are there, and the host's own
    /// (INV-PACE).
    pub(super) fn bounds(&self, lane: &Lane, role: Role, rules: &LaneRules) -> Bounds {
        let there = self.workers.values().filter(|worker| worker.expires_at > self.now);
        let others = there.filter_map(|worker| worker.stated.as_ref());
        let host = self.lanes.get(lane).and_then(|state| state.host.slowest(self.now.since_epoch()));
        Bounds::new(rules, others, host, lane, role)
    }

    /// Grants a start to a claim, if the lane's pace allows one within the lead or the horizon, and says when it may happen.
    pub(super) fn count(
        &mut self,
        lane: &Lane,
        (role, claim): (Role, Claim),
        rules: &LaneRules,
        ahead: (Duration, Duration),
    ) -> Option<StartWindow> {
        let bounds = self.bounds(lane, role, rules);
        if bounds.is_off() {
            return Some(StartWindow::UNPACED);
        }
        let spent = self.pace_of(lane, &bounds);
        let pace = &mut self.lanes.entry(lane.clone()).or_default().pace;
        *pace = spent;
        grant(&bounds, pace, (claim, role), self.now, ahead)
    }

    /// What is remembered of a lane's starts, with the grants of claims that have ended as spent: nobody waits for those.
    fn pace_of(&self, lane: &Lane, bounds: &Bounds) -> PaceState {
        let Some(state) = self.lanes.get(lane) else { return PaceState::default() };
        let mut pace = state.pace.clone();
        let ended =
            |claim: &Claim| self.held(LeaseToken { job: JobId(claim.job), fence: claim.fence }).is_none();
        let waited_for: Vec<Claim> = state.pace.waited_for(bounds).filter(ended).collect();
        for claim in waited_for {
            pace.spent(claim);
        }
        pace
    }

    fn is_full(&self, lane: &Lane, rules: &LaneRules) -> bool {
        self.cap(lane, rules).is_some_and(|cap| self.slots_taken(lane) >= cap)
    }

    /// When a job of a lane that has a free slot may start.
    fn opens_for(
        &self,
        lane: &Lane,
        role: Role,
        available_at: Timestamp,
        rules: &LaneRules,
        lead: Duration,
    ) -> Timestamp {
        let Some(state) = self.lanes.get(lane) else { return available_at };
        let bounds = self.bounds(lane, role, rules);
        let opens = visit_at(&bounds, &self.pace_of(lane, &bounds), self.now, lead);
        available_at.max(state.closed_until()).max(opens)
    }

    /// When a turn may give, not before now; never while all slots are taken, and `None` if nothing is queued there.
    pub(super) fn opens(
        &self,
        lane: &Lane,
        class: u8,
        rules: &LaneRules,
        lead: Duration,
    ) -> Option<Timestamp> {
        let heads = Role::ALL.into_iter().filter_map(|role| {
            let (available_at, _) = *self.lines.get(&(lane.clone(), class, role))?.first()?;
            Some(self.opens_for(lane, role, available_at, rules, lead))
        });
        let first = heads.min()?;
        Some(if self.is_full(lane, rules) { Timestamp::NEVER } else { first.max(self.now) })
    }

    fn leased(&self, id: JobId, start: StartWindow, paced: bool) -> Option<LeasedJob> {
        let row = &self.jobs.get(&id)?.row;
        Some(LeasedJob {
            token: LeaseToken { job: id, fence: row.fence },
            artifact_id: row.artifact_id.clone(),
            payload: row.payload.clone(),
            resolver_hint: row.resolver_hint.clone(),
            place: Place { lane: row.place.lane.clone(), role: row.place.role },
            priority: row.priority,
            attempts: row.attempts,
            losses: row.losses,
            throttles: row.throttles,
            max_attempts: row.max_attempts,
            checkpoint: row.checkpoint.clone(),
            start_after: start.after,
            start_within: start.within,
            paced,
        })
    }

    /// Whether a job that must run alone could be leased now, and when asking again is worth it though nothing
    /// happens. What could be leased alone does not count as worth asking for in turn: that would say "now" for as
    /// long as it waits.
    fn outlook(&self, request: &LeaseRequest) -> (bool, Option<Duration>) {
        let paused_until = self.paused_until().unwrap_or(self.now);
        let alone =
            self.turns.lanes(ALONE).filter_map(|lane| self.opens(lane, ALONE, &request.rules, request.lead));
        let alone: Vec<Timestamp> = alone.map(|open_at| open_at.max(paused_until)).collect();
        let alone_waiting = alone.iter().any(|open_at| *open_at <= self.now);
        let opens = match self.eligible(request) {
            Eligible::Nothing => None,
            Eligible::Alone => alone.into_iter().min(),
            Eligible::Ordinary => {
                let in_turn = (0..ALONE).filter_map(|class| self.turns.next(class));
                let in_turn = in_turn.map(|open_at| open_at.max(paused_until));
                in_turn.chain(alone.into_iter().filter(|open_at| *open_at > self.now)).min()
            }
        };
        let next =
            opens.into_iter().chain(self.next_expiry(request)).filter(|at| *at != Timestamp::NEVER).min();
        (alone_waiting, next.map(|at| at.after(self.now)))
    }

    /// When the next process expires that holds something, the asking one aside.
    pub(super) fn next_expiry(&self, request: &LeaseRequest) -> Option<Timestamp> {
        let others =
            self.workers.iter().filter(|(id, worker)| **id != request.worker && !worker.held.is_empty());
        others.map(|(_, worker)| worker.expires_at).min()
    }
}

/// Which of the lower classes has the turn of this number: the lowest begins, and all are asked in a circle.
fn turn_of(lower: &[u8], turn: u64) -> u8 {
    let among = u64::try_from(lower.len()).unwrap_or(u64::MAX);
    usize::try_from(turn % among).ok().and_then(|index| lower.get(index)).copied().unwrap_or(0)
}
