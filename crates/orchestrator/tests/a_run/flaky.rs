//! A queue that fails, loses replies, hangs, and counts what it is asked.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use longhaul_queue_core::{
    Admission, AdmitRequest, Enqueued, Epoch, ErrorKind, Heartbeat, JobId, Lane, LeaseBatch, LeaseRequest,
    LeaseToken, MemoryQueue, NewJob, QueueError, QueueStats, RequestNumber, Result, Settled, Settlement,
    Throughput, WorkQueue, WorkerId, WorkerInfo,
};

/// Stands before a queue in memory. All counters begin at zero: then it passes everything on.
#[derive(Debug)]
pub(crate) struct Flaky {
    inner: MemoryQueue,
    /// So many of the next leases and settlements fail without being carried out.
    pub(crate) fail: AtomicU32,
    /// So many of the next leases and settlements are carried out and then fail.
    pub(crate) lose_reply: AtomicU32,
    /// Heartbeats fail while this is set.
    pub(crate) deaf: AtomicBool,
    /// Every call of the dispatcher hangs while this is set.
    pub(crate) hang: AtomicBool,
    /// The next settlements of more than one, or of this one alone, are refused for good.
    pub(crate) refuse: Mutex<Option<JobId>>,
    pub(crate) leases: AtomicU32,
    pub(crate) settles: AtomicU32,
    /// The numbers of all lease requests, in order.
    pub(crate) numbers: Mutex<Vec<RequestNumber>>,
}

impl Flaky {
    pub(crate) fn new(inner: MemoryQueue) -> Self {
        Self {
            inner,
            fail: AtomicU32::new(0),
            lose_reply: AtomicU32::new(0),
            deaf: AtomicBool::new(false),
            hang: AtomicBool::new(false),
            refuse: Mutex::new(None),
            leases: AtomicU32::new(0),
            settles: AtomicU32::new(0),
            numbers: Mutex::new(Vec::new()),
        }
    }

    fn take(counter: &AtomicU32) -> bool {
        counter.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
    }

    async fn before(&self, request: Option<&LeaseRequest>) -> Result<()> {
        if let Some(request) = request {
            self.numbers.lock().unwrap().push(request.number);
        }
        if self.hang.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        if Self::take(&self.fail) {
            return Err(QueueError::new(ErrorKind::Unavailable, "no connection"));
        }
        Ok(())
    }

    fn after<T>(&self, answer: T) -> Result<T> {
        if Self::take(&self.lose_reply) {
            return Err(QueueError::new(ErrorKind::Unavailable, "the connection was lost"));
        }
        Ok(answer)
    }
}

#[async_trait]
impl WorkQueue for Flaky {
    async fn enqueue(&self, jobs: &[NewJob]) -> Result<Vec<Enqueued>> {
        self.inner.enqueue(jobs).await
    }
    async fn join(&self, worker: &WorkerInfo, ttl: Duration) -> Result<()> {
        self.inner.join(worker, ttl).await
    }
    async fn heartbeat(&self, worker: &WorkerId, ttl: Duration) -> Result<Heartbeat> {
        if self.deaf.load(Ordering::SeqCst) {
            return Err(QueueError::new(ErrorKind::Unavailable, "no connection"));
        }
        self.inner.heartbeat(worker, ttl).await
    }
    async fn leave(&self, worker: &WorkerId) -> Result<()> {
        self.before(None).await?;
        self.inner.leave(worker).await
    }
    async fn lease(&self, request: &LeaseRequest) -> Result<LeaseBatch> {
        self.leases.fetch_add(1, Ordering::SeqCst);
        self.before(Some(request)).await?;
        let batch = self.inner.lease(request).await?;
        self.after(batch)
    }
    async fn admit(&self, request: &AdmitRequest) -> Result<Admission> {
        self.inner.admit(request).await
    }
    async fn checkpoint(&self, token: &LeaseToken, checkpoint: &str) -> Result<bool> {
        self.inner.checkpoint(token, checkpoint).await
    }
    async fn settle(&self, settlements: &[Settlement], then: Option<&LeaseRequest>) -> Result<Settled> {
        self.settles.fetch_add(1, Ordering::SeqCst);
        self.before(then).await?;
        let refused = *self.refuse.lock().unwrap();
        if let Some(job) = refused
            && settlements.iter().any(|one| one.token.job == job)
        {
            if settlements.len() == 1 {
                *self.refuse.lock().unwrap() = None;
            }
            return Err(QueueError::new(ErrorKind::Invalid, "a settlement is malformed"));
        }
        let settled = self.inner.settle(settlements, then).await?;
        self.after(settled)
    }
    async fn published(&self, ids: &[JobId]) -> Result<()> {
        self.inner.published(ids).await
    }
    async fn changed(&self, since: Epoch) -> Result<Epoch> {
        self.inner.changed(since).await
    }
    async fn stats(&self) -> Result<QueueStats> {
        self.before(None).await?;
        self.inner.stats().await
    }
    async fn critical(&self, throughput: &Throughput) -> Result<Vec<Lane>> {
        self.inner.critical(throughput).await
    }
    async fn cache_get(&self, key: &str) -> Result<Option<String>> {
        self.inner.cache_get(key).await
    }
    async fn cache_put(&self, key: &str, value: &str, ttl: Duration) -> Result<()> {
        self.inner.cache_put(key, value, ttl).await
    }
}
