//! What is done with the queue's answers.

use std::sync::Arc;
use std::time::Duration;

use longhaul_events::Event;
use longhaul_pipeline::Outcome;
use longhaul_queue_core::{Answer, ErrorKind, JobState, LaneClosure, QueueError, QueueStats};
use longhaul_worker::{Answered, Finished};

use super::{Dispatcher, Drain};
use crate::ahead::Waiting;
use crate::call::{Leased, Reply};
use crate::late::close_lanes;
use crate::recovery::{Recovered, recover};

/// When the counts say that something can be leased now, although a lease has just found nothing, they are asked
/// again after this.
const CONTRADICTION: Duration = Duration::from_millis(250);

impl Dispatcher {
    pub(super) fn replied(&mut self, reply: Reply) {
        match reply {
            Reply::Settled { finished, answers, closed, leased } => {
                let settled = !finished.is_empty();
                for LaneClosure { lane, length, cause } in closed {
                    self.shared.emit(&Event::LaneClosed { lane, retry_after: Some(length), cause });
                }
                // Answers first: a claim that ended and the job's next one may come in the same reply.
                for (one, answer) in finished.into_iter().zip(answers) {
                    self.answered(one, answer);
                }
                // A budget that these answers use up is over before what came with them starts: that is given back.
                self.advance();
                match leased {
                    Some(leased) => self.leased(leased),
                    // Slots were freed and nobody has looked what they are good for.
                    None if settled => self.look_for_work(),
                    None => {}
                }
            }
            Reply::Failed { finished, error } => self.refused(finished, error),
            Reply::Stats(Ok(stats)) => self.counted(&stats),
            Reply::Stats(Err(error)) => self.fail("the queue cannot be counted", error),
            Reply::GaveUp | Reply::Reconciled => self.look_for_work(),
        }
    }

    fn answered(&mut self, finished: Finished, answer: Answer) {
        let token = finished.leased.token;
        match answer {
            Answer::Recorded(state) => self.recorded(finished, state),
            Answer::LeaseLost => {
                // INV-FENCE: the job is somebody else's; only what is this try's own is thrown away.
                self.shared.registry.remove(token);
                self.shared.emit(&Event::LeaseLost { job: token.job.0 });
                self.discards.spawn(close_lanes(Arc::clone(&self.shared), finished.settlement.lanes));
                self.discard(finished.outcome);
            }
            // Nothing was changed: the same claim is settled again.
            Answer::PathTaken => {
                let renamed = self.worker.rename(finished);
                self.finished.push(renamed);
            }
        }
    }

    fn recorded(&mut self, finished: Finished, state: JobState) {
        let token = finished.leased.token;
        self.tally.count(finished.verdict(), finished.reason(), state);
        self.shared.emit(&Event::JobSettled {
            job: token.job.0,
            artifact_id: finished.leased.artifact_id.to_string(),
            verdict: finished.verdict(),
            state: state.as_str(),
            reason: finished.reason().to_owned(),
            detail: finished.detail().to_owned(),
            resolver: finished.resolver().map(str::to_owned),
            bytes: finished.bytes(),
            elapsed: finished.elapsed,
        });
        if let Some(detail) = &finished.local_fault {
            if let Some(retry_in) = self.faults.found(self.shared.now(), detail) {
                self.shared.emit(&Event::LocalFault { detail: detail.clone(), retry_in });
            }
        } else if state == JobState::Done {
            self.faults.succeeded();
        } else {
            self.faults.passed(self.shared.now());
        }
        let ended = finished.ended(state, self.shared.wall_ms());
        // Without a store and a file nothing is to be published, and the queue knows that already.
        match ended.filter(|ended| self.store.is_some() || ended.has_file()) {
            Some(ended) => {
                self.shared.registry.publishing(token);
                // The receiver lives until the sender is dropped.
                if self.publisher.send(ended).is_err() {
                    self.shared.registry.remove(token);
                }
            }
            None => self.shared.registry.remove(token),
        }
        if finished.outcome_is_unused() {
            self.discard(finished.outcome);
        }
    }

    fn leased(&mut self, leased: Leased) {
        let Leased { request, batch, replied_at } = leased;
        self.epoch = batch.epoch;
        let wanted = if request.max > 0 { request.max } else { request.ahead };
        self.dry = batch.jobs.len() < wanted;
        self.ahead.answered(self.shared.now(), batch.jobs.len() > request.max);
        self.critical.given(&self.shared, &batch.jobs, !self.dry, self.ahead.job_time());
        self.next_open = batch.next_open.map(|after| Self::open_at(replied_at, after, batch.jobs.len()));
        if !self.dry || request.alone {
            self.look_for_work();
        }
        self.alone.observe(batch.alone_waiting);
        if request.alone {
            self.alone.given(self.shared.now(), !batch.jobs.is_empty());
        }
        if !batch.jobs.is_empty() {
            self.worker.answered(batch.age);
            self.announced = false;
            self.drain = Drain::Working;
            self.shared.emit(&Event::Leased { count: batch.jobs.len() });
        }
        let answered = Answered { at: replied_at, age: batch.age, free_at: replied_at };
        for leased in batch.jobs {
            let cancel = self.shared.registry.insert(leased.token, leased.artifact_id.clone());
            let is_critical = request.critical.lanes.contains(&leased.place.lane);
            self.ahead.push(Waiting { leased, answered, cancel, is_critical });
        }
        self.start_next();
    }

    /// Starts what waits as workers are free. If the run was stopped or may not start anything now, it is given back.
    pub(super) fn start_next(&mut self) {
        if self.ahead.is_empty() {
            return;
        }
        let now = self.shared.now();
        let nothing_starts =
            !self.phase.is_running() || self.faults.pauses(now) || !self.shared.trust.holds(now);
        if !nothing_starts {
            while self.running.len() < self.config.workers
                && let Some(waiting) = self.ahead.pop_in_time(now)
            {
                self.start(waiting, now);
            }
        }
        for leased in self.ahead.give_back(now, nothing_starts) {
            self.finished.push(Finished::unstarted(leased));
        }
    }

    fn start(&mut self, waiting: Waiting, now: Duration) {
        let Waiting { leased, answered, cancel, .. } = waiting;
        let answered = Answered { free_at: now, ..answered };
        let worker = Arc::clone(&self.worker);
        let for_task = leased.clone();
        let task = self.running.spawn(async move { worker.run(for_task, answered, cancel).await });
        self.tasks.insert(task.id(), leased);
    }

    /// The queue refused a call for good.
    fn refused(&mut self, mut finished: Vec<Finished>, error: QueueError) {
        if finished.len() > 1 {
            // One that is malformed must not keep the others from being settled.
            self.singly = finished.len();
            finished.append(&mut self.finished);
            self.finished = finished;
            return;
        }
        if error.kind() == ErrorKind::Invalid
            && let Some(one) = finished.pop()
        {
            let token = one.leased.token;
            tracing::error!(%error, job = %token.job, "the queue does not take the settlement; the job is given back");
            self.discard(one.outcome);
            self.finished.push(Finished::unstarted(one.leased));
            return;
        }
        self.fail("the queue refused a call", error);
    }

    /// The counts decide whether a drain is over.
    fn counted(&mut self, stats: &QueueStats) {
        let now = self.shared.now();
        // Paused work is not waited for, also if the pause has an end: it is an operator who decides when it goes on.
        let far = stats.next_unpaused.is_none_or(|after| after > self.config.drain_horizon);
        if stats.counts.in_progress == 0 && far {
            self.drain = Drain::Recovering;
            // Once more: jobs that the store ended by itself have no other publisher.
            self.recovery.spawn(recover(Arc::clone(&self.shared), self.store.clone()));
            return;
        }
        self.drain = Drain::Waiting;
        if let Some(after) = stats.next_open {
            let at = now + after.max(CONTRADICTION);
            self.next_open = Some(self.next_open.map_or(at, |other| other.min(at)));
        }
    }

    pub(super) fn recovered(&mut self, recovered: &Recovered) {
        if recovered.left > 0 {
            tracing::warn!(jobs = recovered.left, "ended jobs are still unpublished");
        }
        if self.drain == Drain::Recovering {
            self.drain = if recovered.requeued > 0 { Drain::Working } else { Drain::Over };
        }
        if recovered.requeued > 0 {
            self.look_for_work();
        }
    }

    fn discard(&mut self, outcome: Outcome) {
        let shared = Arc::clone(&self.shared);
        // Off the slots' path: it may have to delete a file.
        self.discards.spawn(async move { shared.discard(outcome).await });
    }
}
