//! The embedded store: one SQLite file, one writer at a time, many processes.
//!
//! - `writer` coalesces concurrent calls into one transaction; replies go out after its commit. `checkpoint` keeps the log
//!   short.
//! - `tx` is what such a transaction knows: its connection, its time, the tally.
//! - `rows` persists transitions; `enqueue`, `adopt`, `lease`, `admit`, `settle`, `workers`, `lanes` and `admin` are the verbs.
//! - `open` sets a file up and refuses what cannot work; `locks` are the OS locks beside the file, `gate` the wait for
//!   one and `holder` who is in the way; `home` notices that the file was taken away; `anchor` is the store's time; `read` and `watch` never write.

mod admin;
mod admit;
mod adopt;
mod anchor;
mod check;
mod checkpoint;
mod enqueue;
mod gate;
mod heads;
mod holder;
mod home;
mod lanes;
mod lease;
mod locks;
mod open;
#[cfg(test)]
mod plans;
mod read;
mod rows;
mod settle;
mod survey;
mod tx;
mod visits;
mod watch;
mod workers;
mod writer;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

pub use open::{Durability, SqliteOptions};

use self::open::Inner;
use self::writer::Urgency;
use crate::{
    Admission, AdmitRequest, Enqueued, Epoch, Heartbeat, JobId, Lane, LeaseBatch, LeaseRequest, LeaseToken,
    NewJob, QueueStats, Result, Settled, Settlement, Throughput, WorkQueue, WorkerId, WorkerInfo,
};

/// A queue in one SQLite file. Clones share the handle; several processes may open the same file.
///
/// `close` ends it in order and leaves no log; dropping the last clone ends its tasks as well. A worker process that joined through it should `leave` first;
/// otherwise its leases end when others notice that it has gone.
#[derive(Debug, Clone)]
pub struct SqliteQueue {
    inner: Arc<Inner>,
}

#[async_trait]
impl WorkQueue for SqliteQueue {
    async fn enqueue(&self, jobs: &[NewJob]) -> Result<Vec<Enqueued>> {
        if jobs.is_empty() {
            return Ok(Vec::new());
        }
        let jobs = Arc::new(jobs.to_vec());
        self.inner
            .write(Urgency::Work, move |tx| {
                let jobs = Arc::clone(&jobs);
                Box::pin(async move { enqueue::enqueue(tx, &jobs).await })
            })
            .await
    }

    async fn join(&self, worker: &WorkerInfo, ttl: Duration) -> Result<()> {
        self.inner.locks.hold_worker(&worker.id).await?;
        let worker = worker.clone();
        self.inner
            .write(Urgency::First, move |tx| {
                let worker = worker.clone();
                Box::pin(async move { workers::join(tx, &worker, ttl).await })
            })
            .await
    }

    async fn heartbeat(&self, worker: &WorkerId, ttl: Duration) -> Result<Heartbeat> {
        let worker = worker.clone();
        self.inner
            .write(Urgency::First, move |tx| {
                let worker = worker.clone();
                Box::pin(async move { workers::heartbeat(tx, &worker, ttl).await })
            })
            .await
    }

    async fn leave(&self, worker: &WorkerId) -> Result<()> {
        let leaving = worker.clone();
        self.inner
            .write(Urgency::Work, move |tx| {
                let worker = leaving.clone();
                Box::pin(async move { workers::leave(tx, &worker).await })
            })
            .await?;
        self.inner.locks.release_worker(worker);
        Ok(())
    }

    async fn lease(&self, request: &LeaseRequest) -> Result<LeaseBatch> {
        self.inner.find_dead_processes(&request.worker).await?;
        let started = Arc::new(settle::Batch::new(&[], &request.started)?);
        let request = Arc::new(request.clone());
        let leased = self
            .inner
            .write(Urgency::Work, move |tx| {
                let (started, request) = (Arc::clone(&started), Arc::clone(&request));
                Box::pin(async move {
                    settle::settle(tx, &started).await?;
                    lease::lease(tx, &request).await
                })
            })
            .await?;
        Ok(self.inner.received(leased))
    }

    async fn admit(&self, request: &AdmitRequest) -> Result<Admission> {
        self.inner.admit(request).await
    }

    async fn checkpoint(&self, token: &LeaseToken, checkpoint: &str) -> Result<bool> {
        let (token, checkpoint) = (*token, checkpoint.to_owned());
        self.inner
            .write(Urgency::Work, move |tx| {
                let checkpoint = checkpoint.clone();
                Box::pin(async move { rows::checkpoint(tx, token, &checkpoint).await })
            })
            .await
    }

    async fn settle(&self, settlements: &[Settlement], then: Option<&LeaseRequest>) -> Result<Settled> {
        if let Some(request) = then {
            self.inner.find_dead_processes(&request.worker).await?;
        }
        let started = then.map_or(&[][..], |request| &request.started);
        let batch = Arc::new(settle::Batch::new(settlements, started)?);
        let then = then.cloned().map(Arc::new);
        let ((answers, closed), leased) = self
            .inner
            .write(Urgency::Work, move |tx| {
                let (batch, then) = (Arc::clone(&batch), then.clone());
                Box::pin(async move {
                    let settled = settle::settle(tx, &batch).await?;
                    let leased = match &then {
                        Some(request) => Some(lease::lease(tx, request).await?),
                        None => None,
                    };
                    Ok((settled, leased))
                })
            })
            .await?;
        Ok(Settled { answers, closed, batch: leased.map(|leased| self.inner.received(leased)) })
    }

    async fn published(&self, ids: &[JobId]) -> Result<()> {
        if ids.is_empty() {
            return Ok(());
        }
        let ids = Arc::new(ids.to_vec());
        self.inner
            .write(Urgency::Mark, move |tx| {
                let ids = Arc::clone(&ids);
                Box::pin(async move { rows::published(tx, &ids).await })
            })
            .await
    }

    async fn changed(&self, since: Epoch) -> Result<Epoch> {
        watch::changed(&self.inner, since).await
    }

    async fn stats(&self) -> Result<QueueStats> {
        read::stats(&self.inner).await
    }

    async fn critical(&self, throughput: &Throughput) -> Result<Vec<Lane>> {
        survey::critical(&self.inner, throughput).await
    }

    async fn cache_get(&self, key: &str) -> Result<Option<String>> {
        read::cache_get(&self.inner, key).await
    }

    async fn cache_put(&self, key: &str, value: &str, ttl: Duration) -> Result<()> {
        let (key, value) = (key.to_owned(), value.to_owned());
        self.inner
            .write(Urgency::Mark, move |tx| {
                let (key, value) = (key.clone(), value.clone());
                Box::pin(async move { rows::cache_put(tx, &key, &value, ttl).await })
            })
            .await
    }
}
