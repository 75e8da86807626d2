//! Makes what the queue recorded visible: final names, manifest lines. Off the slots' path.

use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::FutureExt;
use longhaul_events::Event;
use longhaul_pipeline::{Ended, PublishError};
use longhaul_queue_core::{ArtifactId, JobId, LeaseToken};
use longhaul_worker::StoreBackoff;
use tokio::sync::mpsc;

use crate::shared::Shared;

/// So many jobs may wait for their publication; at that point leasing waits too, so that neither memory nor the work
/// that a crash would have to publish again grows without bound (INV-BOUNDED). More than the most workers. The
/// dispatcher keeps this bound when it leases, so the channel itself needs none and sending never waits.
pub(crate) const BACKLOG: usize = 1024;

/// So many are published in one go.
const BATCH: usize = 256;

/// Once the run has ended, publications that fail are tried so often and then left to the next start's recovery.
const LAST_TRIES: u32 = 3;

/// So many failures in a row, and a drain no longer waits for the publisher.
const STUCK: u32 = 3;

/// What the dispatcher sees of the publisher.
#[derive(Debug, Default)]
pub(crate) struct PublisherHealth {
    failures: AtomicU32,
    trouble: Mutex<Option<String>>,
}

impl PublisherHealth {
    /// Whether publications have failed several times in a row.
    pub(crate) fn is_stuck(&self) -> bool {
        self.failures.load(Ordering::Relaxed) >= STUCK
    }

    /// Why the last publication failed, if the last one did.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note(&self, trouble: Option<String>) {
        let failures =
            if trouble.is_some() { self.failures.load(Ordering::Relaxed).saturating_add(1) } else { 0 };
        self.failures.store(failures, Ordering::Relaxed);
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
    }
}

/// Publishes jobs as they come, whatever is waiting at a time, until the channel is closed and empty.
pub(crate) async fn publish_all(
    shared: Arc<Shared>,
    health: Arc<PublisherHealth>,
    mut inbox: mpsc::UnboundedReceiver<Ended>,
) {
    let mut waiting = Vec::new();
    let mut backoff = StoreBackoff::new();
    let mut last_tries = 0;
    loop {
        if waiting.is_empty() {
            if inbox.recv_many(&mut waiting, BATCH).await == 0 {
                return;
            }
        } else {
            // New ones go along with those that failed, which must not hold them up.
            for _ in 0..BATCH {
                let Ok(ended) = inbox.try_recv() else { break };
                waiting.push(ended);
            }
        }
        let published = publish(&shared, std::mem::take(&mut waiting)).await;
        waiting = published.again;
        // Room in the backlog, or a job that has to be fetched again, may be what the dispatcher waits for.
        shared.wake.notify_one();
        if waiting.is_empty() {
            health.note(None);
            backoff = StoreBackoff::new();
            continue;
        }
        let detail = published.why.unwrap_or_else(|| "what was fetched cannot be published".to_owned());
        health.note(Some(detail.clone()));
        if inbox.is_closed() {
            last_tries += 1;
            if last_tries >= LAST_TRIES {
                tracing::error!(jobs = waiting.len(), "not published; the next start publishes them");
                return;
            }
        }
        let retry_in = backoff.wait();
        shared.emit(&Event::LocalFault { detail, retry_in });
        shared.clock.sleep(retry_in).await;
    }
}

/// What became of a batch of publications.
#[derive(Debug, Default)]
pub(crate) struct Published {
    /// The file system said no; to be tried again.
    pub(crate) again: Vec<Ended>,
    /// What it said last.
    pub(crate) why: Option<String>,
    /// Files that were gone: their jobs are queued again.
    pub(crate) requeued: u64,
}

/// Publishes a batch and marks in the queue what is published.
pub(crate) async fn publish(shared: &Shared, batch: Vec<Ended>) -> Published {
    let answers =
        AssertUnwindSafe(shared.pipeline.publish(&batch)).catch_unwind().await.unwrap_or_else(|_| {
            tracing::error!(jobs = batch.len(), "the pipeline panicked while it published");
            Vec::new()
        });
    let mut answers = answers.into_iter();
    let mut outcome = Published::default();
    let mut ids = Vec::new();
    let mut settled = Vec::new();
    for ended in batch {
        let (job, artifact) = (ended.number, ended.artifact_id.as_str());
        match answers.next() {
            Some(Ok(())) => {
                ids.push(JobId(job));
                settled.push(token(&ended));
            }
            Some(Err(PublishError::Held)) => {
                tracing::debug!(job, artifact, "its owner publishes it");
                settled.push(token(&ended));
            }
            Some(Err(error @ (PublishError::Missing { .. } | PublishError::Taken { .. }))) => {
                tracing::warn!(job, artifact, %error, "the job is queued again");
                outcome.requeued += requeue(shared, artifact).await;
                settled.push(token(&ended));
            }
            Some(Err(error)) => {
                tracing::debug!(job, artifact, %error, "not published yet");
                outcome.why = Some(error.to_string());
                outcome.again.push(ended);
            }
            None => outcome.again.push(ended),
        }
    }
    mark(shared, &ids).await;
    for token in settled {
        shared.registry.remove(token);
    }
    outcome
}

/// Tells the queue. If it does not take it, the next start publishes them again, which changes nothing.
pub(crate) async fn mark(shared: &Shared, ids: &[JobId]) {
    if ids.is_empty() {
        return;
    }
    if let Err(error) = shared.persist(|| shared.queue.published(ids)).await {
        tracing::error!(%error, jobs = ids.len(), "published, but the queue could not be told");
    }
    for id in ids {
        shared.emit(&Event::Published { job: id.0 });
    }
}

async fn requeue(shared: &Shared, artifact: &str) -> u64 {
    let requeued = match ArtifactId::new(artifact) {
        Ok(id) => shared.persist(|| shared.admin.requeue(std::slice::from_ref(&id))).await,
        Err(error) => Err(error),
    };
    requeued.unwrap_or_else(|error| {
        tracing::error!(%error, artifact, "its file is gone, and it could not be queued again");
        0
    })
}

fn token(ended: &Ended) -> LeaseToken {
    LeaseToken { job: JobId(ended.number), fence: ended.fence }
}
