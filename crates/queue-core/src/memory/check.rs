//! The model compared with itself: everything that is derived from the jobs is derived anew.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

use longhaul_limiter::Lane;

use super::model::{Job, Line, Model};
use crate::{JobId, JobState, QueueCheck, StateCounts, Timestamp, WorkerId};

/// What follows from the jobs alone.
#[derive(Default)]
struct Derived {
    counts: StateCounts,
    queued: BTreeSet<(Timestamp, JobId)>,
    lines: BTreeMap<Line, BTreeSet<(Timestamp, JobId)>>,
    slots: BTreeMap<Lane, u32>,
    held: BTreeMap<WorkerId, BTreeSet<JobId>>,
    /// When each (lane, class) has its first job.
    waiting: BTreeMap<(Lane, u8), Timestamp>,
}

impl Derived {
    fn add(&mut self, id: JobId, job: &Job) {
        let row = &job.row;
        *self.counts.get_mut(row.state) += 1;
        match row.state {
            JobState::Queued => {
                let (lane, entry) = (&row.place.lane, (row.available_at, id));
                self.queued.insert(entry);
                self.lines.entry((lane.clone(), job.class(), row.place.role)).or_default().insert(entry);
                let first = self.waiting.entry((lane.clone(), job.class())).or_insert(row.available_at);
                *first = row.available_at.min(*first);
            }
            JobState::InProgress => {
                if let Some(lane) = &row.slot {
                    *self.slots.entry(lane.clone()).or_default() += 1;
                }
                if let Some(worker) = &row.worker {
                    self.held.entry(worker.clone()).or_default().insert(id);
                }
            }
            JobState::Done | JobState::Skipped | JobState::Error => {}
        }
    }
}

impl Model {
    pub(super) fn check(&mut self, repair: bool) -> QueueCheck {
        let mut derived = Derived::default();
        for (id, job) in &self.jobs {
            derived.add(*id, job);
        }
        let mut problems = Vec::new();
        // INV-CONSERVE.
        compare("counts by state", &self.counts, &derived.counts, &mut problems);
        compare("queued jobs", &self.queued, &derived.queued, &mut problems);
        compare("lines", &self.lines, &derived.lines, &mut problems);
        compare("slots taken", &self.slots, &derived.slots, &mut problems);
        // INV-NO-LOSS: whoever holds a job is known, so that a sweep finds it.
        let holding = self.workers.iter().filter(|(_, worker)| !worker.held.is_empty());
        let held: BTreeMap<WorkerId, BTreeSet<JobId>> =
            holding.map(|(id, worker)| (id.clone(), worker.held.clone())).collect();
        compare("held jobs", &held, &derived.held, &mut problems);
        let late: Vec<(Lane, u8)> = derived
            .waiting
            .iter()
            .filter(|(turn, first)| self.is_late(turn, **first))
            .map(|(turn, _)| turn.clone())
            .collect();
        problems.extend(late.iter().map(|(lane, class)| {
            format!("turns: that of lane {:?}, class {class}, is missing or opens too late", lane.as_str())
        }));
        let repaired = repair && !problems.is_empty();
        if repaired {
            self.counts = derived.counts;
            (self.queued, self.lines, self.slots) = (derived.queued, derived.lines, derived.slots);
            for (id, worker) in &mut self.workers {
                worker.held = derived.held.remove(id).unwrap_or_default();
            }
            for (lane, class) in &late {
                self.turns.lower(lane, *class, self.now);
            }
            self.epoch += 1;
        }
        QueueCheck { problems, repaired }
    }

    /// Whether a turn opens later than it must. Where slots are taken or a pace holds, the true time depends on the
    /// rules of whoever asks, and a later one is right.
    fn is_late(&self, (lane, class): &(Lane, u8), first: Timestamp) -> bool {
        let Some((_, open_at)) = self.turns.of(lane).find(|(c, _)| c == class) else { return true };
        let mut state = self.lane(lane);
        state.pace.forget_before(self.now.since_epoch());
        let is_free = self.slots_taken(lane) == 0 && state.pace.is_empty();
        is_free && open_at > first.max(self.now).max(state.closed_until())
    }
}

fn compare<T: PartialEq + Debug>(what: &str, kept: &T, found: &T, problems: &mut Vec<String>) {
    if kept != found {
        problems.push(format!("{what}: {kept:?} is kept, {found:?} follows from the jobs"));
    }
}
