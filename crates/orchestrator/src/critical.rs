//! Finds the lanes that bound the run, once in a while, so that leases ask them before the others.

use std::sync::Arc;
use std::time::Duration;

use longhaul_limiter::LaneRules;
use longhaul_queue_core::{Critical, CriticalTurns, Lane, LeasedJob, Throughput};
use tokio::task::JoinSet;

use crate::shared::Shared;

/// Shortest time between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// Time between two looks, in lengths of the last one, where that is longer: they take at most a fiftieth of a core.
const LOOK_SHARE: u32 = 50;

/// What was found, and the look that is under way.
#[derive(Debug)]
pub(crate) struct CriticalLanes {
    rules: Arc<LaneRules>,
    workers: usize,
    turns: CriticalTurns,
    look: JoinSet<Option<Vec<Lane>>>,
    began: Duration,
    next_at: Duration,
}

impl CriticalLanes {
    pub(crate) fn new(rules: Arc<LaneRules>, workers: usize) -> Self {
        Self {
            rules,
            workers,
            turns: CriticalTurns::new(workers),
            look: JoinSet::new(),
            began: Duration::ZERO,
            next_at: Duration::ZERO,
        }
    }

    /// What a lease of `max` jobs asks for out of turn.
    pub(crate) fn of(&self, max: usize) -> Critical {
        self.turns.of(max)
    }

    /// Takes note of what a lease gave. A lease that gave `all` it asked for may have left open lanes behind, so the order of
    /// lanes matters: then this starts the next look, if it is due and a job time has been measured.
    pub(crate) fn given(
        &mut self,
        shared: &Arc<Shared>,
        jobs: &[LeasedJob],
        all: bool,
        job_time: Option<Duration>,
    ) {
        self.turns.given(jobs);
        let now = shared.now();
        if !all || now < self.next_at || !self.look.is_empty() {
            return;
        }
        if let Some(job_time) = job_time {
            let (shared, rules, workers) = (Arc::clone(shared), Arc::clone(&self.rules), self.workers);
            self.began = now;
            self.look.spawn(async move {
                let throughput = Throughput { rules, workers, job_time };
                // The order of turns is right without it.
                shared.queue.critical(&throughput).await.inspect_err(|error| tracing::debug!(%error)).ok()
            });
        }
    }

    /// Takes what a look has found.
    pub(crate) fn take_found(&mut self, now: Duration) {
        while let Some(found) = self.look.try_join_next() {
            self.next_at = now + LOOK_EVERY.max(now.saturating_sub(self.began) * LOOK_SHARE);
            if let Ok(Some(lanes)) = found {
                self.turns.set(lanes);
            }
        }
    }
}
