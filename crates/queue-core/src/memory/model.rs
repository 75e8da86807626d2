//! The state, and the one way in which a job changes.
//!
//! Everything but `jobs` is derived from it or counted beside it; `check` derives it anew and compares.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::{Duration, UNIX_EPOCH};

use longhaul_limiter::{Clock, Lane, LaneRules, Role};

use super::lanes::{LaneState, Pause};
use super::turns::{ALONE, Turns};
use crate::{
    AdoptedJob, ArtifactId, Charge, Enqueued, ErrorKind, HistoryEntry, JobEvent, JobId, JobRecord, JobState,
    NewJob, QueueError, RequestNumber, Result, Settlement, StateCounts, StoreId, Timestamp, WorkerId,
    WorkerInfo,
};

/// After so many losses a job runs alone (INV-ATTEMPTS).
const LOSSES_ALONE: u32 = 2;
/// The longest text kept about what went wrong, in bytes.
const ERROR_MAX: usize = 2048;
/// History lines kept for a job.
const HISTORY_MAX: usize = 32;

/// A job. The times in its row and history are the store's.
#[derive(Debug, Clone)]
pub(super) struct Job {
    pub(super) row: JobRecord,
    pub(super) request: Option<RequestNumber>,
    pub(super) leased_at: Timestamp,
    /// How the current fence was settled and where that led, kept until the job is leased again (INV-FENCE).
    pub(super) settled: Option<(Settlement, JobState)>,
    /// Oldest first.
    pub(super) history: VecDeque<HistoryEntry>,
}

impl Job {
    /// The turn that it waits for.
    pub(super) fn class(&self) -> u8 {
        if self.row.losses >= LOSSES_ALONE { ALONE } else { self.row.priority.get() }
    }

    pub(super) fn path_key(&self) -> Option<(StoreId, String)> {
        Some((self.row.store.clone()?, self.row.path.as_ref()?.to_ascii_lowercase()))
    }
}

#[derive(Debug, Clone)]
pub(super) struct Worker {
    pub(super) info: WorkerInfo,
    pub(super) started_at: Timestamp,
    pub(super) expires_at: Timestamp,
    pub(super) held: BTreeSet<JobId>,
    /// What its last lease request said: what holds for its jobs if it comes back late.
    pub(super) max_losses: u32,
    /// The paces that it stated when it joined: they bind the others while it is there (INV-PACE).
    pub(super) stated: Option<LaneRules>,
}

/// Where queued jobs wait: lane, class and role.
pub(super) type Line = (Lane, u8, Role);

#[derive(Debug, Default)]
pub(super) struct Model {
    pub(super) now: Timestamp,
    /// What to add to the store's time for wall time.
    wall_offset: i64,
    /// The store's time when the clock's monotonic time was zero.
    anchor: i64,
    pub(super) jobs: BTreeMap<JobId, Job>,
    pub(super) ids: HashMap<ArtifactId, JobId>,
    pub(super) counts: StateCounts,
    pub(super) lines: BTreeMap<Line, BTreeSet<(Timestamp, JobId)>>,
    /// All queued jobs.
    pub(super) queued: BTreeSet<(Timestamp, JobId)>,
    pub(super) turns: Turns,
    pub(super) lanes: BTreeMap<Lane, LaneState>,
    /// Slots taken.
    pub(super) slots: BTreeMap<Lane, u32>,
    pub(super) workers: BTreeMap<WorkerId, Worker>,
    /// The paths of done jobs, in lower case as far as that is ASCII.
    pub(super) paths: HashMap<(StoreId, String), JobId>,
    pub(super) cache: HashMap<String, (String, Timestamp)>,
    pub(super) pause: Option<Pause>,
    /// Jobs leased in turn so far.
    pub(super) grants: u64,
    pub(super) epoch: u64,
}

impl Model {
    pub(super) fn new(clock: &dyn Clock) -> Self {
        let wall = clock.wall().duration_since(UNIX_EPOCH).map_or(0, millis);
        let mut model = Self { anchor: wall - millis(clock.monotonic()), epoch: 1, ..Self::default() };
        model.set_time(clock);
        model
    }

    /// The time of the next step: never earlier than that of the last, whatever the clock says.
    pub(super) fn set_time(&mut self, clock: &dyn Clock) {
        self.now = self.now.max(Timestamp(self.anchor.saturating_add(millis(clock.monotonic()))));
        self.wall_offset = clock.wall().duration_since(UNIX_EPOCH).map_or(0, millis) - self.now.0;
    }

    /// A time of the store as people read it.
    pub(super) fn wall(&self, at: Timestamp) -> Timestamp {
        if at == Timestamp::NEVER { at } else { Timestamp(at.0.saturating_add(self.wall_offset)) }
    }

    /// A wall time as the store's.
    fn of_wall(&self, at: Timestamp) -> Timestamp {
        Timestamp(at.0.saturating_sub(self.wall_offset))
    }

    /// Accepts a job as it is.
    pub(super) fn enqueue(&mut self, new: &NewJob) -> Enqueued {
        self.insert(new, |_| ())
    }

    /// Accepts a job of another system with what it has been through.
    pub(super) fn adopt(&mut self, adopted: &AdoptedJob) -> Enqueued {
        let now = self.now;
        let past = |at: Option<Timestamp>| at.map_or(now, |at| self.of_wall(at).min(now));
        let (created_at, updated_at) = (past(adopted.created_at), past(adopted.updated_at));
        let available_at = adopted.available_at.map(|at| self.of_wall(at));
        self.insert(&adopted.job, |job| {
            let row = &mut job.row;
            row.state = adopted.state.adopted();
            row.attempts = adopted.attempts;
            row.last_error = adopted.last_error.as_deref().map(shortened);
            (row.created_at, row.updated_at) = (created_at, updated_at);
            row.available_at = available_at.unwrap_or(row.available_at);
            row.published = row.state.is_terminal();
            row.finished_at = row.published.then_some(updated_at);
            job.history.push_back(HistoryEntry {
                at: now,
                event: "adopted".to_owned(),
                reason: Some(adopted.state.as_str().to_owned()),
                worker: None,
            });
        })
    }

    /// INV-IDEMPOTENT: one row for each artifact, ever. `fill` writes what a new one brings.
    fn insert(&mut self, new: &NewJob, fill: impl FnOnce(&mut Job)) -> Enqueued {
        if let Some(id) = self.ids.get(&new.artifact_id) {
            return Enqueued::Duplicate(*id);
        }
        let id = JobId(self.jobs.last_key_value().map_or(1, |(last, _)| last.0 + 1));
        let row = JobRecord {
            id,
            artifact_id: new.artifact_id.clone(),
            payload: new.payload.clone(),
            resolver_hint: new.resolver_hint.clone(),
            place: new.place.clone(),
            slot: None,
            priority: new.priority,
            state: JobState::Queued,
            reason: None,
            attempts: 0,
            losses: 0,
            throttles: 0,
            max_attempts: new.max_attempts,
            available_at: self.now.plus(new.delay),
            fence: 0,
            worker: None,
            checkpoint: None,
            last_error: None,
            outcome: None,
            store: None,
            path: None,
            sha256: None,
            published: false,
            slim: false,
            created_at: self.now,
            updated_at: self.now,
            finished_at: None,
        };
        let mut job = Job {
            row,
            request: None,
            leased_at: Timestamp::default(),
            settled: None,
            history: VecDeque::new(),
        };
        fill(&mut job);
        self.ids.insert(new.artifact_id.clone(), id);
        self.jobs.insert(id, job);
        self.attach(id);
        Enqueued::New(id)
    }

    /// Lets an event happen to a job: the state machine says what follows, `fill` writes what the event brings. The
    /// counts, indexes and turns follow. `why` goes into the history.
    ///
    /// An event that cannot happen changes nothing.
    pub(super) fn transition(
        &mut self,
        id: JobId,
        event: JobEvent,
        why: Option<&str>,
        fill: impl FnOnce(&mut Job),
    ) -> Result<JobState> {
        let Some(job) = self.jobs.get(&id) else {
            return Err(QueueError::new(ErrorKind::NotFound, format!("there is no job {id}")));
        };
        let transition = job.row.state.apply(event).map_err(|illegal| {
            QueueError::new(ErrorKind::Corrupt, format!("job {id}: {illegal}")).with_source(illegal)
        })?;
        self.detach(id);
        let now = self.now;
        if let Some(job) = self.jobs.get_mut(&id) {
            let is_first_success = event == JobEvent::Complete && job.row.fence <= 1;
            if event != JobEvent::Lease && !is_first_success {
                job.history.push_back(HistoryEntry {
                    at: now,
                    event: event.as_str().to_owned(),
                    reason: why.map(str::to_owned),
                    worker: job.row.worker.clone(),
                });
                if job.history.len() > HISTORY_MAX {
                    job.history.pop_front();
                }
            }
            let row = &mut job.row;
            match transition.charge {
                Charge::Nothing => {}
                Charge::Attempt => row.attempts += 1,
                Charge::Loss => row.losses += 1,
                Charge::Throttle => row.throttles += 1,
                Charge::Reset => (row.attempts, row.losses, row.throttles) = (0, 0, 0),
            }
            row.state = transition.to;
            row.updated_at = now;
            (row.worker, row.slot, job.request) = (None, None, None);
            if transition.to.is_terminal() {
                row.finished_at = Some(now);
                row.checkpoint = None;
            } else {
                (row.finished_at, row.outcome) = (None, None);
                (row.store, row.path, row.sha256) = (None, None, None);
            }
            row.published = false;
            fill(job);
        }
        self.attach(id);
        Ok(transition.to)
    }

    /// Takes a job out of what its state has put it into.
    fn detach(&mut self, id: JobId) {
        let Some(job) = self.jobs.get(&id) else { return };
        let (lane, slot) = (job.row.place.lane.clone(), job.row.slot.clone());
        let (waited, entry) = ((lane, job.class(), job.row.place.role), (job.row.available_at, id));
        let (state, path, worker) = (job.row.state, job.path_key(), job.row.worker.clone());
        let count = self.counts.get_mut(state);
        *count = count.saturating_sub(1);
        match state {
            JobState::Queued => {
                self.queued.remove(&entry);
                if let Some(waiting) = self.lines.get_mut(&waited) {
                    waiting.remove(&entry);
                    if waiting.is_empty() {
                        self.lines.remove(&waited);
                    }
                }
            }
            JobState::InProgress => {
                if let Some(worker) = worker.and_then(|worker| self.workers.get_mut(&worker)) {
                    worker.held.remove(&id);
                }
                if let Some(lane) = slot {
                    self.free_slot(&lane);
                }
            }
            JobState::Done => {
                if let Some(path) = path {
                    self.paths.remove(&path);
                }
            }
            JobState::Skipped | JobState::Error => {}
        }
    }

    /// Puts a job into what its state asks for.
    pub(super) fn attach(&mut self, id: JobId) {
        let Some(job) = self.jobs.get(&id) else { return };
        let (lane, class, available_at) = (job.row.place.lane.clone(), job.class(), job.row.available_at);
        let (role, slot, path) = (job.row.place.role, job.row.slot.clone(), job.path_key());
        *self.counts.get_mut(job.row.state) += 1;
        match job.row.state {
            JobState::Queued => {
                self.queued.insert((available_at, id));
                self.lines.entry((lane.clone(), class, role)).or_default().insert((available_at, id));
                // Not before now: a job that comes back with its age must not bring its lane forward.
                self.turns.lower(&lane, class, available_at.max(self.now));
                self.epoch += 1;
            }
            JobState::InProgress => {
                if let Some(worker) = job.row.worker.as_ref().and_then(|worker| self.workers.get_mut(worker))
                {
                    worker.held.insert(id);
                }
                if let Some(lane) = slot {
                    *self.slots.entry(lane).or_default() += 1;
                }
            }
            JobState::Done => {
                if let Some(path) = path {
                    self.paths.insert(path, id);
                }
            }
            JobState::Skipped | JobState::Error => {}
        }
    }

    /// A slot of the lane is free again, and whoever waits for one is to look.
    pub(super) fn free_slot(&mut self, lane: &Lane) {
        if let Some(taken) = self.slots.get_mut(lane) {
            *taken = taken.saturating_sub(1);
            if *taken == 0 {
                self.slots.remove(lane);
            }
        }
        if self.turns.reopen(lane, self.now) {
            self.epoch += 1;
        }
    }

    pub(super) fn slots_taken(&self, lane: &Lane) -> u32 {
        self.slots.get(lane).copied().unwrap_or(0)
    }

    /// The job that a fence is the current one of, while it is held.
    pub(super) fn held(&self, token: crate::LeaseToken) -> Option<&Job> {
        let job = self.jobs.get(&token.job)?;
        (job.row.state == JobState::InProgress && job.row.fence == token.fence).then_some(job)
    }
}

/// What a row keeps of a text about what went wrong: at most 2 KiB, cut between characters.
pub(super) fn shortened(text: &str) -> String {
    text[..text.floor_char_boundary(ERROR_MAX)].to_owned()
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
