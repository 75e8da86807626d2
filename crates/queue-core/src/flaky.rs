//! A queue with a bad connection: a fake for whoever has to live with lost replies.

use std::future::Future;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use crate::{
    Admission, AdmitRequest, AdoptedJob, ArtifactId, Enqueued, Epoch, ErrorKind, Explanation, Heartbeat,
    HistoryEntry, JobFilter, JobId, JobPage, JobRecord, JobState, Lane, LanePage, LaneRow, LaneRules,
    LeaseBatch, LeaseRequest, LeaseToken, NewJob, QueueAdmin, QueueCheck, QueueError, QueueStats, Result,
    Settled, Settlement, StoreId, Throughput, WorkQueue, WorkerId, WorkerInfo, WorkerRow,
};

/// How bad the connection is. The same plan on the same calls, one after the other, does the same again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FlakyPlan {
    /// Begins the sequence of chances.
    pub seed: u64,
    /// One call in so many is refused: it is not carried out. Zero: none is.
    pub refuse_one_in: u32,
    /// One call in so many is carried out, and its reply is lost. Zero: none is.
    pub lose_one_in: u32,
}

/// Passes calls on to a queue, and by its [plan](FlakyPlan) makes some fail, each with a retryable error: before the call
/// was carried out, or after.
///
/// Whoever works with a queue must be able to repeat a call, since nobody can tell the two apart. With a plan that is
/// off ([`FlakyPlan::default`]) this is the queue behind it in every respect.
///
/// ```
/// # use std::sync::Arc;
/// # use longhaul_limiter::ManualClock;
/// use longhaul_queue_core::{ArtifactId, Enqueued, FlakyPlan, FlakyQueue, MemoryQueue, NewJob, WorkQueue, WorkQueueExt};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> longhaul_queue_core::Result<()> {
/// let queue = FlakyQueue::new(MemoryQueue::new(Arc::new(ManualClock::new())), FlakyPlan::default());
/// let job = NewJob::new(ArtifactId::new("doi:10.1/x")?, "{}");
///
/// queue.lose_next(1);
/// let lost = queue.enqueue_one(job.clone()).await.unwrap_err();
/// assert!(lost.is_retryable());
/// // It was carried out all the same.
/// assert!(matches!(queue.enqueue_one(job).await?, Enqueued::Duplicate(_)));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct FlakyQueue<Q> {
    inner: Q,
    plan: FlakyPlan,
    chances: Mutex<fastrand::Rng>,
    refuse_next: AtomicU32,
    lose_next: AtomicU32,
    refused: AtomicU64,
    lost: AtomicU64,
}

/// What becomes of a call.
enum Fate {
    Passed,
    Refused,
    Lost,
}

impl<Q> FlakyQueue<Q> {
    /// Stands before `inner`.
    pub fn new(inner: Q, plan: FlakyPlan) -> Self {
        Self {
            inner,
            plan,
            chances: Mutex::new(fastrand::Rng::with_seed(plan.seed)),
            refuse_next: AtomicU32::new(0),
            lose_next: AtomicU32::new(0),
            refused: AtomicU64::new(0),
            lost: AtomicU64::new(0),
        }
    }

    /// The queue behind it, for looking at what really happened.
    pub fn inner(&self) -> &Q {
        &self.inner
    }

    /// So many of the next calls are refused, whatever the plan says.
    pub fn refuse_next(&self, calls: u32) {
        self.refuse_next.store(calls, Ordering::Relaxed);
    }

    /// So many of the next calls, after those that are refused, lose their replies, whatever the plan says.
    pub fn lose_next(&self, calls: u32) {
        self.lose_next.store(calls, Ordering::Relaxed);
    }

    /// How many calls were refused so far.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// How many calls were carried out without the caller hearing of it.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    fn fate(&self) -> Fate {
        if takes_one(&self.refuse_next) {
            return Fate::Refused;
        }
        if takes_one(&self.lose_next) {
            return Fate::Lost;
        }
        let FlakyPlan { refuse_one_in, lose_one_in, .. } = self.plan;
        let mut chances = self.chances.lock().unwrap_or_else(PoisonError::into_inner);
        let mut meets = |one_in: u32| one_in > 0 && chances.u32(..one_in) == 0;
        if meets(refuse_one_in) {
            Fate::Refused
        } else if meets(lose_one_in) {
            Fate::Lost
        } else {
            Fate::Passed
        }
    }

    /// Lets a call meet its fate. A future does nothing before it is polled, so one that is dropped was not carried out.
    async fn pass<T>(&self, call: impl Future<Output = Result<T>> + Send) -> Result<T> {
        match self.fate() {
            Fate::Passed => call.await,
            Fate::Refused => {
                self.refused.fetch_add(1, Ordering::Relaxed);
                Err(QueueError::new(ErrorKind::Unavailable, "the queue could not be reached; try again"))
            }
            Fate::Lost => {
                call.await?;
                self.lost.fetch_add(1, Ordering::Relaxed);
                Err(QueueError::new(ErrorKind::Unavailable, "the queue's reply was lost; try again"))
            }
        }
    }
}

fn takes_one(left: &AtomicU32) -> bool {
    left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
}

// A method that has a default must be passed on all the same: the queue behind may do it better.
#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl<Q: WorkQueue> WorkQueue for FlakyQueue<Q> {
    async fn enqueue(&self, jobs: &[NewJob]) -> Result<Vec<Enqueued>> {
        self.pass(self.inner.enqueue(jobs)).await
    }

    async fn join(&self, worker: &WorkerInfo, ttl: Duration) -> Result<()> {
        self.pass(self.inner.join(worker, ttl)).await
    }

    async fn heartbeat(&self, worker: &WorkerId, ttl: Duration) -> Result<Heartbeat> {
        self.pass(self.inner.heartbeat(worker, ttl)).await
    }

    async fn leave(&self, worker: &WorkerId) -> Result<()> {
        self.pass(self.inner.leave(worker)).await
    }

    async fn lease(&self, request: &LeaseRequest) -> Result<LeaseBatch> {
        self.pass(self.inner.lease(request)).await
    }

    async fn admit(&self, request: &AdmitRequest) -> Result<Admission> {
        self.pass(self.inner.admit(request)).await
    }

    async fn checkpoint(&self, token: &LeaseToken, checkpoint: &str) -> Result<bool> {
        self.pass(self.inner.checkpoint(token, checkpoint)).await
    }

    async fn settle(&self, settlements: &[Settlement], then: Option<&LeaseRequest>) -> Result<Settled> {
        self.pass(self.inner.settle(settlements, then)).await
    }

    async fn published(&self, ids: &[JobId]) -> Result<()> {
        self.pass(self.inner.published(ids)).await
    }

    async fn changed(&self, since: Epoch) -> Result<Epoch> {
        self.pass(self.inner.changed(since)).await
    }

    async fn stats(&self) -> Result<QueueStats> {
        self.pass(self.inner.stats()).await
    }

    async fn critical(&self, throughput: &Throughput) -> Result<Vec<Lane>> {
        self.pass(self.inner.critical(throughput)).await
    }

    async fn cache_get(&self, key: &str) -> Result<Option<String>> {
        self.pass(self.inner.cache_get(key)).await
    }

    async fn cache_put(&self, key: &str, value: &str, ttl: Duration) -> Result<()> {
        self.pass(self.inner.cache_put(key, value, ttl)).await
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl<Q: QueueAdmin> QueueAdmin for FlakyQueue<Q> {
    async fn get(&self, id: &ArtifactId) -> Result<Option<(JobRecord, Vec<HistoryEntry>)>> {
        self.pass(self.inner.get(id)).await
    }

    async fn list(&self, filter: &JobFilter, page: JobPage) -> Result<Vec<JobRecord>> {
        self.pass(self.inner.list(filter, page)).await
    }

    async fn explain(&self, id: &ArtifactId, rules: &LaneRules) -> Result<Explanation> {
        self.pass(self.inner.explain(id, rules)).await
    }

    async fn retry_failed(&self, filter: &JobFilter, limit: usize) -> Result<u64> {
        self.pass(self.inner.retry_failed(filter, limit)).await
    }

    async fn adopt(&self, jobs: &[AdoptedJob]) -> Result<Vec<Enqueued>> {
        self.pass(self.inner.adopt(jobs)).await
    }

    async fn requeue(&self, ids: &[ArtifactId]) -> Result<u64> {
        self.pass(self.inner.requeue(ids)).await
    }

    async fn cancel(&self, ids: &[ArtifactId]) -> Result<u64> {
        self.pass(self.inner.cancel(ids)).await
    }

    async fn pause(
        &self,
        lane: Option<&Lane>,
        length: Option<Duration>,
        reason: &str,
    ) -> Result<Option<String>> {
        self.pass(self.inner.pause(lane, length, reason)).await
    }

    async fn resume(&self, lane: Option<&Lane>) -> Result<bool> {
        self.pass(self.inner.resume(lane)).await
    }

    async fn close(&self, lane: &Lane, length: Duration, cause: &str) -> Result<()> {
        self.pass(self.inner.close(lane, length, cause)).await
    }

    async fn unpublished(&self, store: &StoreId, page: JobPage) -> Result<Vec<JobRecord>> {
        self.pass(self.inner.unpublished(store, page)).await
    }

    async fn reconcile(&self, worker: &WorkerId, held: &[LeaseToken]) -> Result<u64> {
        self.pass(self.inner.reconcile(worker, held)).await
    }

    async fn prune(&self, state: JobState, older_than: Duration) -> Result<u64> {
        self.pass(self.inner.prune(state, older_than)).await
    }

    async fn check(&self, repair: bool) -> Result<QueueCheck> {
        self.pass(self.inner.check(repair)).await
    }

    async fn lanes(&self, page: &LanePage) -> Result<Vec<LaneRow>> {
        self.pass(self.inner.lanes(page)).await
    }

    async fn workers(&self) -> Result<Vec<WorkerRow>> {
        self.pass(self.inner.workers()).await
    }
}
