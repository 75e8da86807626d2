//! The reference model as a judge of another store: it leases what that store leased, if a store that keeps the
//! contract was free to.
//!
//! A store may choose among lanes that are open at the same time, so two right ones give different jobs. Which job a
//! lane gives, whose class is next, what caps, paces and cool-downs allow, and that nothing is withheld, is not free.

use std::collections::BTreeSet;
use std::time::Duration;

use longhaul_limiter::Lane;

use super::MemoryQueue;
use super::lease::{Eligible, LOWER_EVERY};
use super::model::Model;
use super::turns::ALONE;
use crate::{
    Epoch, ErrorKind, JobId, LeaseBatch, LeaseRequest, LeasedJob, QueueError, Result, Settled, Settlement,
    Timestamp,
};

impl MemoryQueue {
    /// Leases exactly these jobs, in this order, as another store did on the same request.
    ///
    /// The batch says what the other one may have said: its `next_open` is the latest, and `alone_waiting` is whether
    /// it had to be. `agree` means that all processes have had the same rules so far; where they have not, a lane with
    /// taken slots or a counted pace may have been put off by another's stricter rules, and need not give.
    ///
    /// # Errors
    /// `Invalid`, with the reason, if these jobs are not what the request could be given; the model is useless then.
    pub fn lease_as(&self, request: &LeaseRequest, given: &[JobId], agree: bool) -> Result<LeaseBatch> {
        self.step(|model| model.lease_as(request, given, agree))
    }

    /// Settles, and then leases as [`MemoryQueue::lease_as`] does.
    pub fn settle_as(
        &self,
        settlements: &[Settlement],
        then: &LeaseRequest,
        given: &[JobId],
        agree: bool,
    ) -> Result<Settled> {
        self.step(|model| {
            model.have_started(&then.started);
            let mut closed = BTreeSet::new();
            let answers = settlements.iter().map(|settlement| model.settle(settlement, &mut closed));
            let answers = answers.collect::<Result<_>>()?;
            let closed = closed.iter().map(|lane| model.closure(lane)).collect();
            Ok(Settled { answers, closed, batch: Some(model.lease_as(then, given, agree)?) })
        })
    }
}

fn illegal<T>(why: String) -> Result<T> {
    Err(QueueError::new(ErrorKind::Invalid, why))
}

impl Model {
    fn lease_as(&mut self, request: &LeaseRequest, given: &[JobId], agree: bool) -> Result<LeaseBatch> {
        self.have_started(&request.started);
        self.sweep(&request.worker, request.max_losses)?;
        let mut jobs = self.repeated(request);
        let is_repeated = !jobs.is_empty();
        if !is_repeated && self.paused_until().is_none() {
            if let Some(worker) = self.workers.get_mut(&request.worker) {
                worker.max_losses = request.max_losses;
            }
            self.give_as(request, given, agree, &mut jobs)?;
        }
        let names: Vec<JobId> = jobs.iter().map(|job| job.token.job).collect();
        if names != given {
            return illegal(format!("{given:?} were given where {names:?} were to be"));
        }
        let (alone_waiting, next_open) = self.latest(request, agree);
        let next_open = next_open.map(|at| at.after(self.now));
        Ok(LeaseBatch { jobs, next_open, alone_waiting, age: Duration::ZERO, epoch: Epoch(self.epoch) })
    }

    fn give_as(
        &mut self,
        request: &LeaseRequest,
        given: &[JobId],
        agree: bool,
        jobs: &mut Vec<LeasedJob>,
    ) -> Result<()> {
        let eligible = self.eligible(request);
        let most = match eligible {
            Eligible::Nothing => 0,
            Eligible::Alone => request.max.min(1),
            Eligible::Ordinary => request.max + request.ahead,
        };
        if given.len() > most {
            return illegal(format!("{given:?} were given; {most} is the most"));
        }
        let mut limited = 0;
        for id in given {
            let Some(job) = self.jobs.get(id) else { return illegal(format!("there is no job {id}")) };
            let (lane, class) = (job.row.place.lane.clone(), job.class());
            let horizon = request.horizon(&lane);
            let first = self.first_ready(&lane, class, &request.rules, horizon);
            let Some((_, role, _)) = first.filter(|(_, _, first)| first == id) else {
                let first = first.map(|(_, _, id)| id);
                return illegal(format!(
                    "job {id} was given, but lane {:?}, class {class}, gives {first:?}",
                    lane.as_str()
                ));
            };
            if (class == ALONE) != (eligible == Eligible::Alone) {
                return illegal(format!("job {id} is of class {class}, which was not asked for"));
            }
            let due = self.due(request, agree);
            let is_lowers_turn = self.grants % LOWER_EVERY == LOWER_EVERY - 1;
            // Whose turn it is among the lower ones also depends on classes whose turn is open and that cannot give.
            let before = |due: u8| due != ALONE && due > class && !is_lowers_turn;
            // A batch with jobs ahead is not in the order in which they were chosen.
            if eligible == Eligible::Ordinary
                && request.ahead == 0
                && let Some((lane, due)) = due.iter().find(|(_, due)| before(*due))
            {
                return illegal(format!(
                    "job {id} of class {class} was given as number {}, but lane {:?}, class {due}, was first",
                    self.grants,
                    lane.as_str()
                ));
            }
            limited += usize::from(self.is_limited(&lane, &request.rules));
            if limited > request.max {
                return illegal(format!(
                    "job {id} of a limited lane was given, and no worker is free for it"
                ));
            }
            self.give(request, &lane, (role, *id), horizon, jobs)?;
            self.end_of_visit(request, &lane, class);
        }
        let wanted = |class: u8| (class == ALONE) == (eligible == Eligible::Alone);
        let left = self.due(request, agree).into_iter().find(|(_, class)| wanted(*class));
        // A limited lane that waits for a worker ends a batch early.
        let ended = request.ahead > 0
            && limited == request.max
            // Also one that others' rules have put off here: where it stands in the other store is not known.
            && self.due(request, true).iter().any(|(lane, _)| self.is_limited(lane, &request.rules));
        match left.filter(|_| given.len() < most && !ended) {
            Some((lane, class)) => illegal(format!(
                "only {} of {most} were given, and lane {:?}, class {class}, has more",
                given.len(),
                lane.as_str()
            )),
            None => Ok(()),
        }
    }

    /// The turns that give now to whoever asks.
    fn due(&self, request: &LeaseRequest, agree: bool) -> Vec<(Lane, u8)> {
        let due = self.turns.iter().filter(|(lane, class, _)| {
            (agree || self.is_untouched(lane))
                && self.first_ready(lane, *class, &request.rules, request.lead).is_some()
        });
        due.map(|(lane, class, _)| (lane.clone(), class)).collect()
    }

    /// Whether nobody's caps or paces can have put the lane off.
    fn is_untouched(&self, lane: &Lane) -> bool {
        let mut state = self.lane(lane);
        state.pace.forget_before(self.now.since_epoch());
        self.slots_taken(lane) == 0 && state.pace.is_empty()
    }

    /// As the outlook of a batch, without the turns: what holds by the jobs and lanes themselves.
    fn latest(&self, request: &LeaseRequest, agree: bool) -> (bool, Option<Timestamp>) {
        let paused_until = self.paused_until().unwrap_or(self.now);
        let known = self.turns.iter().filter(|(lane, ..)| agree || self.is_untouched(lane));
        let opens = known.filter_map(|(lane, class, _)| {
            Some((class, self.opens(lane, class, &request.rules, request.lead)?))
        });
        let opens: Vec<(u8, Timestamp)> = opens.map(|(class, at)| (class, at.max(paused_until))).collect();
        let alone_waiting = opens.iter().any(|(class, at)| *class == ALONE && *at <= self.now);
        let eligible = self.eligible(request);
        let is_wanted = |class: u8, at: Timestamp| match eligible {
            Eligible::Nothing => false,
            Eligible::Alone => class == ALONE,
            // Where one waits that could run alone, that is said, and is reason enough to ask.
            Eligible::Ordinary => class != ALONE || (at > self.now && !alone_waiting),
        };
        let wanted = opens.iter().filter(|(class, at)| is_wanted(*class, *at)).map(|(_, at)| *at);
        let next = wanted.chain(self.next_expiry(request)).filter(|at| *at != Timestamp::NEVER).min();
        (alone_waiting, next)
    }
}
