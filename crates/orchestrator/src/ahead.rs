//! Jobs that are leased and wait for their time or for a worker, so that a worker that becomes free need not wait for the
//! queue.
//!
//! Lanes without cap and pace give ahead. From the others a process that starts late leases as many as its workers will have
//! become free for by then. What is not started soon is given back: other processes may have workers for it, and a pause or a
//! closure is to hold within a moment (INV-COOLDOWN).

use std::collections::VecDeque;
use std::time::Duration;

use longhaul_queue_core::LeasedJob;
use longhaul_worker::Answered;
use tokio_util::sync::CancellationToken;

/// So many jobs are held beyond the workers at most: while the workers take one half, the other half's ends are on their
/// way to the queue. With half as many a sixth of the speed goes into the fixed cost of commits and the hand-overs in them.
const MOST: usize = 512;

/// No more is held than was lately done within this time, so that slow jobs are not held ahead at all.
const HORIZON: Duration = Duration::from_millis(50);

/// A job that ends moves the measured job time by one part in this many.
const JOB_WEIGHT: u32 = 16;

/// The queue gets a job back that is still held this long after its time.
const PATIENCE: Duration = Duration::from_millis(250);

/// A job gets its worker this long before its time: a worker that waits costs less than a wake-up of the dispatcher.
const MOMENT: Duration = Duration::from_millis(25);

/// While workers have jobs ahead of them, settlements wait at most this long for company: a commit costs about as much for
/// one as for many.
const COMPANY: Duration = Duration::from_millis(5);

/// Where starts are late, settlements wait for company for so small a part of the lateness: that saves the store's time, which
/// may be what makes them late.
const LATE_SHARE: u32 = 16;
/// Starts that come later than this after their lease are late.
const NOTABLE: Duration = Duration::from_millis(16);

/// So many that ended are company enough.
const ENOUGH: usize = 64;

/// A leased job that has not been started.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) leased: LeasedJob,
    pub(crate) answered: Answered,
    pub(crate) cancel: CancellationToken,
    /// Whether a worker waits for its time: its lane bounds the run.
    pub(crate) is_critical: bool,
}

impl Waiting {
    /// From when on a worker is given to it.
    fn starts_at(&self) -> Duration {
        if self.is_critical {
            return self.answered.at;
        }
        (self.answered.at + self.leased.start_after).saturating_sub(MOMENT)
    }

    fn is_late(&self, now: Duration) -> bool {
        now >= self.starts_at() + PATIENCE || self.cancel.is_cancelled()
    }
}

/// The jobs that wait for their time or for a worker, in the order of their times, and how many are worth holding.
#[derive(Debug, Default)]
pub(crate) struct Ahead {
    jobs: VecDeque<Waiting>,
    /// What is to be given back.
    late: Vec<LeasedJob>,
    limit: usize,
    /// Whether the last lease gave more jobs than workers were free.
    given: bool,
    /// When the limit was last set, and how many jobs have ended since.
    since: Duration,
    ended: u32,
    /// Since when something that ended waits to be settled.
    unsettled_since: Option<Duration>,
    /// How long a job keeps its worker; unknown before one has ended.
    job_time: Option<Duration>,
}

impl Ahead {
    pub(crate) fn len(&self) -> usize {
        self.jobs.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    pub(crate) fn push(&mut self, waiting: Waiting) {
        let place = self.jobs.partition_point(|other| other.starts_at() <= waiting.starts_at());
        self.jobs.insert(place, waiting);
    }

    /// The next one to start, if its time has come; what has waited for too long is put aside, to be given back.
    pub(crate) fn pop_in_time(&mut self, now: Duration) -> Option<Waiting> {
        loop {
            let next = self.jobs.pop_front_if(|next| next.starts_at() <= now)?;
            if !next.is_late(now) {
                return Some(next);
            }
            self.late.push(next.leased);
        }
    }

    /// How many more are worth holding.
    pub(crate) fn room(&self) -> usize {
        self.limit.saturating_sub(self.jobs.len())
    }

    /// A job has ended, which kept its worker for so long.
    pub(crate) fn ended(&mut self, now: Duration, took: Duration) {
        self.ended += 1;
        let before = self.job_time.unwrap_or(took);
        self.job_time = Some((before * (JOB_WEIGHT - 1) + took) / JOB_WEIGHT);
        self.unsettled_since.get_or_insert(now);
    }

    /// The queue was called: what had ended is on its way.
    pub(crate) fn called(&mut self) {
        self.unsettled_since = None;
    }

    /// Whether the last lease gave something ahead, so that asking for more of it is worth a call.
    pub(crate) fn was_given(&self) -> bool {
        self.given
    }

    /// The queue answered: measures anew how many jobs the workers do within the horizon.
    pub(crate) fn answered(&mut self, now: Duration, given: bool) {
        self.given = given;
        let took = now.saturating_sub(self.since).as_secs_f64();
        let done = f64::from(self.ended) * HORIZON.as_secs_f64() / took.max(1e-6);
        self.limit = if done >= MOST as f64 { MOST } else { done as usize };
        (self.since, self.ended) = (now, 0);
    }

    /// How long a job keeps its worker, as measured.
    pub(crate) fn job_time(&self) -> Option<Duration> {
        self.job_time
    }

    /// Jobs to lease beyond the free workers, while `running` jobs are at work. A job that is leased now starts `lead` later,
    /// and by then some of those at work have ended. At most what the workers can start within `lead`.
    pub(crate) fn free_soon(&self, workers: usize, running: usize, lead: Duration) -> usize {
        let Some(job_time) = self.job_time else { return 0 };
        let turns = lead.as_secs_f64() / job_time.as_secs_f64().max(1e-3);
        let ended = (running + self.jobs.len()) as f64 * turns.min(1.0);
        ended.min(workers as f64 * turns) as usize
    }

    /// Until when what has ended waits for more before it is settled: while workers have jobs ahead of them, or where starts
    /// are late anyhow, by a small part of that. `None` if it does not wait.
    fn company_until(
        &self,
        now: Duration,
        finished: usize,
        running: usize,
        lead: Duration,
    ) -> Option<Duration> {
        if finished >= ENOUGH {
            return None;
        }
        let is_ready = self.jobs.front().is_some_and(|first| first.starts_at() <= now);
        let has_ahead = is_ready && finished * 2 < running + self.jobs.len();
        let ahead = has_ahead.then_some(COMPANY);
        let late = (lead > NOTABLE).then(|| lead / LATE_SHARE);
        match self.unsettled_since {
            Some(since) => Some(since + ahead.into_iter().chain(late).max()?),
            // Nothing has ended: whatever else there is to say waits as long as workers have jobs ahead of them.
            None => ahead.map(|_| Duration::MAX),
        }
    }

    /// Whether it waits now.
    pub(crate) fn waits_for_company(
        &self,
        now: Duration,
        finished: usize,
        running: usize,
        lead: Duration,
    ) -> bool {
        self.company_until(now, finished, running, lead).is_some_and(|until| now < until)
    }

    /// When to look again although nothing happens: the wait for company ends, a job's time comes and a worker is free for it,
    /// or patience with a job ends. There is no wait for company while a call is under way.
    pub(crate) fn deadline(
        &self,
        now: Duration,
        (finished, running, workers): (usize, usize, usize),
        lead: Duration,
        is_calling: bool,
    ) -> Option<Duration> {
        let company = self.company_until(now, finished, running, lead).filter(|_| !is_calling);
        let company = company.filter(|until| *until < Duration::MAX);
        let first = self.jobs.front().map(Waiting::starts_at);
        let start = first.filter(|at| running < workers && *at > now);
        company.into_iter().chain(start).chain(first.map(|at| at + PATIENCE)).min()
    }

    /// Takes out what has waited for too long, or everything if nothing is to be started any more.
    pub(crate) fn give_back(&mut self, now: Duration, everything: bool) -> Vec<LeasedJob> {
        // The first has waited longest beyond its time, so there is nothing behind one that is in time.
        while self.jobs.front().is_some_and(|waiting| everything || waiting.is_late(now)) {
            self.late.extend(self.jobs.pop_front().map(|waiting| waiting.leased));
        }
        std::mem::take(&mut self.late)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::expect_used, reason = "a test fails by panicking")]
    use longhaul_queue_core::{ArtifactId, Class, JobId, Lane, LeaseToken, Place, Role};

    use super::*;

    fn ms(length: u64) -> Duration {
        Duration::from_millis(length)
    }

    #[test]
    fn a_late_process_leases_for_the_workers_that_will_be_free_by_then() {
        let mut ahead = Ahead::default();
        assert_eq!(ahead.free_soon(8, 8, ms(150)), 0, "no job has ended yet");
        ahead.ended(ms(1_000), ms(300));
        assert_eq!(ahead.free_soon(8, 8, ms(150)), 4);
        assert_eq!(ahead.free_soon(8, 8, ms(10)), 0);
        for _ in 0..100 {
            ahead.ended(ms(1_050), ms(60));
        }
        assert_eq!(ahead.free_soon(8, 8, ms(150)), 8, "all that are at work end before");
        assert_eq!(ahead.free_soon(8, 0, ms(150)), 0);
        assert_eq!(ahead.free_soon(8, 100, ms(125)), 16, "in that time they run twice");
    }

    fn waiting(number: i64, start_after: Duration, is_critical: bool) -> Waiting {
        let leased = LeasedJob {
            token: LeaseToken { job: JobId(number), fence: 1 },
            artifact_id: ArtifactId::new(number.to_string()).expect("an id"),
            payload: String::new(),
            resolver_hint: None,
            place: Place::new(Lane::NONE, Role::Artifact),
            priority: Class::default(),
            attempts: 0,
            losses: 0,
            throttles: 0,
            max_attempts: None,
            checkpoint: None,
            start_after,
            start_within: start_after + ms(50),
            paced: true,
        };
        let answered = Answered { at: ms(1_000), age: Duration::ZERO, free_at: ms(1_000) };
        Waiting { leased, answered, cancel: CancellationToken::new(), is_critical }
    }

    #[test]
    fn a_job_gets_its_worker_when_its_time_comes_and_a_critical_one_at_once() {
        let mut ahead = Ahead::default();
        for (number, after, is_critical) in [(1, 150, false), (2, 10, false), (3, 200, true), (4, 100, false)]
        {
            ahead.push(waiting(number, ms(after), is_critical));
        }
        let popped = |ahead: &mut Ahead, now| {
            let next = std::iter::from_fn(|| ahead.pop_in_time(now));
            next.map(|waiting| waiting.leased.token.job.0).collect::<Vec<_>>()
        };
        assert_eq!(popped(&mut ahead, ms(1_000)), [2, 3]);
        assert_eq!(ahead.deadline(ms(1_000), (0, 2, 9), ms(1), false), Some(ms(1_075)));
        assert_eq!(popped(&mut ahead, ms(1_075)), [4]);
        assert_eq!(ahead.give_back(ms(1_124), false), []);
        assert_eq!(ahead.give_back(ms(1_375), false).len(), 1, "patience with it has ended");
    }

    #[test]
    fn only_where_starts_are_late_do_settlements_wait_without_jobs_ahead() {
        let mut ahead = Ahead::default();
        ahead.ended(ms(1_000), ms(50));
        assert!(!ahead.waits_for_company(ms(1_000), 1, 9, ms(10)));
        assert_eq!(ahead.deadline(ms(1_000), (1, 9, 9), ms(10), false), None);
        assert!(ahead.waits_for_company(ms(1_009), 1, 9, ms(160)));
        assert_eq!(ahead.deadline(ms(1_000), (1, 9, 9), ms(160), false), Some(ms(1_010)));
        assert_eq!(
            ahead.deadline(ms(1_000), (1, 9, 9), ms(160), true),
            None,
            "a call that is under way answers soon enough"
        );
        assert!(!ahead.waits_for_company(ms(1_010), 1, 9, ms(160)));
        assert!(!ahead.waits_for_company(ms(1_000), ENOUGH, 99, ms(160)), "that is company enough");
    }
}
