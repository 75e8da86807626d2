//! The reference model: a queue in the memory of one process, obviously right rather than fast, and real enough to
//! embed. What it holds is gone when its last handle is dropped.
//!
//! - `model` is the state and the one way in which a job changes; `lease`, `admit`, `settle`, `workers`, `lanes` and
//!   `operate` are the verbs on it; `turns` is the order in which lanes give; `view` is what can be seen of it; `check`
//!   compares it with itself; `follow` (feature `conformance`) judges what another store leased.
//! - This file is the handle: it takes the lock, sets the time, and wakes who waits.

mod admit;
mod check;
#[cfg(feature = "conformance")]
mod follow;
mod lanes;
mod lease;
mod model;
mod operate;
mod settle;
#[cfg(test)]
mod tests;
mod turns;
mod view;
mod watch;
mod workers;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use longhaul_limiter::{Clock, Keying, Lane, LaneRules};

use self::model::Model;
use self::watch::{Changed, Watchers};
use crate::{
    Admission, AdmitRequest, AdoptedJob, ArtifactId, Enqueued, Epoch, ErrorKind, Explanation, Heartbeat,
    HistoryEntry, JobEvent, JobFilter, JobId, JobPage, JobRecord, JobState, LanePage, LaneRow, LeaseBatch,
    LeaseRequest, LeaseToken, NewJob, QueueAdmin, QueueCheck, QueueError, QueueStats, Result, Settled,
    Settlement, StoreId, Throughput, WorkQueue, WorkerId, WorkerInfo, WorkerRow,
};

/// A queue in memory. Clones share it.
///
/// Every call is one step under one lock and awaits nothing, so a dropped future was either carried out or never
/// began. Memory grows with the jobs ever accepted; [`QueueAdmin::prune`] slims those that have ended.
///
/// ```
/// use std::sync::Arc;
/// use longhaul_limiter::ManualClock;
/// use longhaul_queue_core::{ArtifactId, MemoryQueue, NewJob, WorkQueueExt};
///
/// # async fn example() -> longhaul_queue_core::Result<()> {
/// let queue = MemoryQueue::new(Arc::new(ManualClock::new()));
/// queue.enqueue_one(NewJob::new(ArtifactId::new("doi:10.1000/1")?, "{}")).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct MemoryQueue {
    shared: Arc<Shared>,
}

struct Shared {
    clock: Arc<dyn Clock>,
    keying: Option<Keying>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    model: Model,
    watchers: Watchers,
}

impl MemoryQueue {
    /// An empty queue that takes processes of any keying.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self::build(clock, None)
    }

    /// An empty queue that refuses, with [`ErrorKind::Conflict`], to lease to or admit a process which turns hosts
    /// into lanes otherwise: a cap would be counted under two names.
    pub fn with_keying(clock: Arc<dyn Clock>, keying: Keying) -> Self {
        Self::build(clock, Some(keying))
    }

    fn build(clock: Arc<dyn Clock>, keying: Option<Keying>) -> Self {
        let state = State { model: Model::new(clock.as_ref()), watchers: Watchers::default() };
        Self { shared: Arc::new(Shared { clock, keying, state: Mutex::new(state) }) }
    }

    /// One step of the model at the present time.
    fn step<T>(&self, step: impl FnOnce(&mut Model) -> Result<T>) -> Result<T> {
        let mut state = self.shared.lock()?;
        state.model.set_time(self.shared.clock.as_ref());
        let before = state.model.epoch;
        let result = step(&mut state.model);
        let woken = if state.model.epoch == before { Vec::new() } else { state.watchers.take() };
        // Whoever is woken takes the lock at once.
        drop(state);
        woken.into_iter().for_each(std::task::Waker::wake);
        result
    }

    fn agree_on_keying(&self, rules: &LaneRules) -> Result<()> {
        match &self.shared.keying {
            Some(keying) if *keying != rules.keying => Err(QueueError::new(
                ErrorKind::Conflict,
                "the queue turns hosts into lanes otherwise than this process; use the queue's keying",
            )),
            _ => Ok(()),
        }
    }
}

impl Shared {
    fn lock(&self) -> Result<MutexGuard<'_, State>> {
        self.state.lock().map_err(|_| {
            let message =
                "a call on this queue in memory panicked half way; the queue cannot be used any more";
            QueueError::new(ErrorKind::Corrupt, message)
        })
    }
}

impl fmt::Debug for MemoryQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("MemoryQueue");
        if let Ok(state) = self.shared.lock() {
            shown.field("counts", &state.model.counts);
        }
        shown.finish_non_exhaustive()
    }
}

#[async_trait]
impl WorkQueue for MemoryQueue {
    async fn enqueue(&self, jobs: &[NewJob]) -> Result<Vec<Enqueued>> {
        self.step(|model| Ok(jobs.iter().map(|job| model.enqueue(job)).collect()))
    }

    async fn join(&self, worker: &WorkerInfo, ttl: Duration) -> Result<()> {
        self.step(|model| model.join(worker, ttl))
    }

    async fn heartbeat(&self, worker: &WorkerId, ttl: Duration) -> Result<Heartbeat> {
        self.step(|model| model.heartbeat(worker, ttl))
    }

    async fn leave(&self, worker: &WorkerId) -> Result<()> {
        self.step(|model| model.leave(worker))
    }

    async fn lease(&self, request: &LeaseRequest) -> Result<LeaseBatch> {
        self.agree_on_keying(&request.rules)?;
        self.step(|model| model.lease(request))
    }

    async fn admit(&self, request: &AdmitRequest) -> Result<Admission> {
        self.agree_on_keying(&request.rules)?;
        self.step(|model| Ok(model.admit(request)))
    }

    async fn checkpoint(&self, token: &LeaseToken, checkpoint: &str) -> Result<bool> {
        self.step(|model| Ok(model.checkpoint(*token, checkpoint)))
    }

    async fn settle(&self, settlements: &[Settlement], then: Option<&LeaseRequest>) -> Result<Settled> {
        if let Some(request) = then {
            self.agree_on_keying(&request.rules)?;
        }
        self.step(|model| {
            model.have_started(then.map_or(&[], |request| &request.started));
            let mut closed = BTreeSet::new();
            let answers = settlements.iter().map(|settlement| model.settle(settlement, &mut closed));
            let answers = answers.collect::<Result<_>>()?;
            let closed = closed.iter().map(|lane| model.closure(lane)).collect();
            let batch = then.map(|request| model.lease(request)).transpose()?;
            Ok(Settled { answers, closed, batch })
        })
    }

    async fn published(&self, ids: &[JobId]) -> Result<()> {
        self.step(|model| {
            model.mark_published(ids);
            Ok(())
        })
    }

    async fn changed(&self, since: Epoch) -> Result<Epoch> {
        Changed::new(&self.shared, since).await
    }

    async fn stats(&self) -> Result<QueueStats> {
        self.step(|model| Ok(model.stats()))
    }

    async fn critical(&self, throughput: &Throughput) -> Result<Vec<Lane>> {
        self.agree_on_keying(&throughput.rules)?;
        self.step(|model| Ok(model.critical(throughput)))
    }

    async fn cache_get(&self, key: &str) -> Result<Option<String>> {
        self.step(|model| Ok(model.cache_get(key)))
    }

    async fn cache_put(&self, key: &str, value: &str, ttl: Duration) -> Result<()> {
        self.step(|model| {
            model.cache_put(key, value, ttl);
            Ok(())
        })
    }
}

#[async_trait]
impl QueueAdmin for MemoryQueue {
    async fn get(&self, id: &ArtifactId) -> Result<Option<(JobRecord, Vec<HistoryEntry>)>> {
        self.step(|model| Ok(model.get(id)))
    }

    async fn list(&self, filter: &JobFilter, page: JobPage) -> Result<Vec<JobRecord>> {
        self.step(|model| Ok(model.list(page, |job| filter.matches(&job.row))))
    }

    async fn explain(&self, id: &ArtifactId, rules: &LaneRules) -> Result<Explanation> {
        self.step(|model| model.explain(id, rules))
    }

    async fn retry_failed(&self, filter: &JobFilter, limit: usize) -> Result<u64> {
        self.step(|model| model.retry_failed(filter, limit))
    }

    async fn adopt(&self, jobs: &[AdoptedJob]) -> Result<Vec<Enqueued>> {
        self.step(|model| Ok(jobs.iter().map(|job| model.adopt(job)).collect()))
    }

    async fn requeue(&self, ids: &[ArtifactId]) -> Result<u64> {
        self.step(|model| model.operate(ids, JobEvent::Requeue))
    }

    async fn cancel(&self, ids: &[ArtifactId]) -> Result<u64> {
        self.step(|model| model.operate(ids, JobEvent::Cancel))
    }

    async fn pause(
        &self,
        lane: Option<&Lane>,
        length: Option<Duration>,
        reason: &str,
    ) -> Result<Option<String>> {
        self.step(|model| Ok(model.pause(lane, length, reason)))
    }

    async fn resume(&self, lane: Option<&Lane>) -> Result<bool> {
        self.step(|model| Ok(model.resume(lane)))
    }

    async fn close(&self, lane: &Lane, length: Duration, cause: &str) -> Result<()> {
        self.step(|model| model.close(lane, length, cause))
    }

    async fn unpublished(&self, store: &StoreId, page: JobPage) -> Result<Vec<JobRecord>> {
        self.step(|model| {
            Ok(model.list(page, |job| {
                job.row.state.is_terminal()
                    && !job.row.published
                    && job.row.store.as_ref().is_none_or(|s| s == store)
            }))
        })
    }

    async fn reconcile(&self, worker: &WorkerId, held: &[LeaseToken]) -> Result<u64> {
        self.step(|model| model.release_all(worker, held))
    }

    async fn prune(&self, state: JobState, older_than: Duration) -> Result<u64> {
        self.step(|model| Ok(model.prune(state, older_than)))
    }

    async fn check(&self, repair: bool) -> Result<QueueCheck> {
        self.step(|model| Ok(model.check(repair)))
    }

    async fn lanes(&self, page: &LanePage) -> Result<Vec<LaneRow>> {
        self.step(|model| Ok(model.lane_rows(page)))
    }

    async fn workers(&self) -> Result<Vec<WorkerRow>> {
        self.step(|model| Ok(model.worker_rows()))
    }
}
