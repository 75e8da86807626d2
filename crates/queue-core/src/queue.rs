//! What workers need of a queue.

use std::fmt::Debug;
use std::time::Duration;

use async_trait::async_trait;

use crate::{
    Admission, AdmitRequest, Answer, Enqueued, Epoch, Heartbeat, JobId, Lane, LeaseBatch, LeaseRequest,
    LeaseToken, NewJob, Place, QueueStats, Result, Settled, Settlement, StoredFile, Throughput, Verdict,
    WorkerId, WorkerInfo,
};

/// A durable queue of jobs.
///
/// # Contract
/// - A call returns `Ok` only after its transaction is committed (INV-DURABLE-REPLY); one that fails has changed
///   nothing, unless its reply was lost: then repeating it is safe, as each verb says.
/// - The store owns time: verbs take and return durations.
/// - Every write about a held job names its [`LeaseToken`] and changes nothing if that is not the current one
///   (INV-FENCE).
/// - All calls are cancel-safe in this sense: a dropped future's call is either carried out whole or not at all.
///
/// The conformance suite (feature `conformance`) states the rest as tests.
#[async_trait]
pub trait WorkQueue: Debug + Send + Sync + 'static {
    /// Accepts jobs. Whoever is there already is left as it is (INV-IDEMPOTENT). Answers in order.
    async fn enqueue(&self, jobs: &[NewJob]) -> Result<Vec<Enqueued>>;

    /// Introduces a worker process and keeps it alive for `ttl`. Repeating it renews.
    async fn join(&self, worker: &WorkerInfo, ttl: Duration) -> Result<()>;

    /// Keeps the process and all that it holds alive for `ttl` from now. A process that had expired has lost its
    /// leases and starts afresh; one that never joined is `NotFound`.
    async fn heartbeat(&self, worker: &WorkerId, ttl: Duration) -> Result<Heartbeat>;

    /// The process says good-bye: whatever it still holds is released, charging nothing. Idempotent.
    async fn leave(&self, worker: &WorkerId) -> Result<()>;

    /// Leases jobs, fairly over the lanes that are open and have a free slot (INV-FAIR, INV-CAP, INV-PACE,
    /// INV-COOLDOWN). First sweeps processes that have expired. Repeating a request by its number returns the jobs of
    /// that request that are still held. The process must be alive, otherwise the batch is empty.
    async fn lease(&self, request: &LeaseRequest) -> Result<LeaseBatch>;

    /// Asks for one further request of a held job. Moves its slot to the new lane if that is open.
    async fn admit(&self, request: &AdmitRequest) -> Result<Admission>;

    /// Stores what the next try should know, while the job is held. False if the lease is lost.
    async fn checkpoint(&self, token: &LeaseToken, checkpoint: &str) -> Result<bool>;

    /// Ends tries and, in the same commit, leases for the slots that became free. A job that ends belongs to its file's
    /// store, else to that of its process; if that has none there is nothing to publish, and it counts as published.
    async fn settle(&self, settlements: &[Settlement], then: Option<&LeaseRequest>) -> Result<Settled>;

    /// Marks that what these finished jobs recorded has been published. Idempotent.
    async fn published(&self, ids: &[JobId]) -> Result<()>;

    /// Waits until something happened after `since` that could make something leasable, here or in another
    /// process, and returns the new epoch. Returns at once if it has happened already: no wake-up is lost.
    /// May also return when nothing did.
    async fn changed(&self, since: Epoch) -> Result<Epoch>;

    /// Counts, and when something could be leased.
    async fn stats(&self) -> Result<QueueStats>;

    /// The lanes that a process with this throughput should ask out of turn, the longest first, see [`Survey`](crate::Survey).
    /// Reads all that is queued, beside other calls, so it is for once in a while. None, where a store does not look.
    async fn critical(&self, throughput: &Throughput) -> Result<Vec<Lane>> {
        let _ = throughput;
        Ok(Vec::new())
    }

    /// Reads a value from the durable cache, if it has not expired.
    async fn cache_get(&self, key: &str) -> Result<Option<String>>;

    /// Writes a value to the durable cache for `ttl`.
    async fn cache_put(&self, key: &str, value: &str, ttl: Duration) -> Result<()>;
}

/// The classic verbs for one job, each sugar over a batch of one.
#[async_trait]
pub trait WorkQueueExt: WorkQueue {
    /// Accepts one job.
    async fn enqueue_one(&self, job: NewJob) -> Result<Enqueued> {
        let enqueued = self.enqueue(std::slice::from_ref(&job)).await?;
        Ok(enqueued[0])
    }

    /// Settles one job.
    async fn settle_one(&self, settlement: Settlement) -> Result<Answer> {
        Ok(self.settle(std::slice::from_ref(&settlement), None).await?.answers[0])
    }

    /// The job is done.
    async fn ack(&self, token: LeaseToken, outcome: &str, file: Option<StoredFile>) -> Result<Answer> {
        let verdict = Verdict::Done { reason: "ok".to_owned(), outcome: outcome.to_owned(), file };
        self.settle_one(Settlement::new(token, verdict)).await
    }

    /// The try failed; the next one not before `after`. Charges an attempt.
    async fn fail_and_retry(
        &self,
        token: LeaseToken,
        after: Duration,
        reason: &str,
        detail: &str,
    ) -> Result<Answer> {
        let verdict = Verdict::Retry {
            after,
            reason: reason.to_owned(),
            detail: detail.to_owned(),
            place: None,
            checkpoint: None,
        };
        self.settle_one(Settlement::new(token, verdict)).await
    }

    /// Gives the job back unfinished.
    async fn release(&self, token: LeaseToken) -> Result<Answer> {
        self.settle_one(Settlement::new(token, Verdict::Release { checkpoint: None })).await
    }

    /// Goes on in another place or later.
    async fn defer(&self, token: LeaseToken, after: Duration, place: Place) -> Result<Answer> {
        self.settle_one(Settlement::new(token, Verdict::Defer { after, place, checkpoint: None })).await
    }
}

impl<Q: WorkQueue + ?Sized> WorkQueueExt for Q {}
