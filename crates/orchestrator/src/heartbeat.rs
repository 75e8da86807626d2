//! Keeps the process' leases alive, and stops its jobs when it cannot.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use longhaul_queue_core::{ErrorKind, Heartbeat, QueueError, WorkerInfo};
use longhaul_worker::StoreBackoff;
use tokio_util::sync::CancellationToken;

use crate::shared::Shared;

/// The heartbeat of one process.
#[derive(Debug)]
pub(crate) struct Heart {
    pub(crate) shared: Arc<Shared>,
    pub(crate) info: WorkerInfo,
    pub(crate) ttl: Duration,
    pub(crate) every: Duration,
}

impl Heart {
    /// Beats until `end`.
    pub(crate) async fn beat(self, end: CancellationToken) {
        let mut backoff = StoreBackoff::new();
        let mut differed = false;
        let mut pause = self.every;
        loop {
            tokio::select! {
                biased;
                () = end.cancelled() => return,
                () = self.shared.clock.sleep(pause) => {}
            }
            let asked = self.shared.now();
            let answer = tokio::select! {
                biased;
                () = end.cancelled() => return,
                answer = self.ask() => answer,
            };
            match answer {
                Ok(beat) => {
                    backoff = StoreBackoff::new();
                    pause = self.every;
                    differed = self.answered(beat, asked, differed);
                }
                Err(error) => {
                    self.shared.store_failed(&error);
                    pause = backoff.wait().min(self.every);
                    self.stop_jobs_without_trust();
                }
            }
        }
    }

    /// One beat. While it is unanswered trust may end; then the jobs are stopped, and the answer is still awaited.
    async fn ask(&self) -> Result<Heartbeat, QueueError> {
        let call = self.call();
        tokio::pin!(call);
        let trusted_for = self.shared.trust.until().saturating_sub(self.shared.now());
        tokio::select! {
            biased;
            answer = &mut call => return answer,
            () = self.shared.clock.sleep(trusted_for) => self.stop_jobs_without_trust(),
        }
        call.await
    }

    async fn call(&self) -> Result<Heartbeat, QueueError> {
        match self.shared.queue.heartbeat(&self.info.id, self.ttl).await {
            // Somebody removed the process' row: it starts afresh, and its leases are gone.
            Err(error) if error.kind() == ErrorKind::NotFound => {
                self.shared.queue.join(&self.info, self.ttl).await?;
                Ok(Heartbeat { held: 0, was_expired: true })
            }
            answer => answer,
        }
    }

    /// Returns whether the counts differ.
    fn answered(&self, beat: Heartbeat, asked: Duration, differed: bool) -> bool {
        let shared = &self.shared;
        let was_trusted = shared.trust.holds(shared.now());
        if beat.was_expired || !was_trusted {
            // Whatever is at work was leased before and may be somebody else's by now.
            shared.registry.cancel_all();
        }
        shared.trust.renew(asked, self.ttl);
        // Jobs come and go between the store's count and ours, so one difference says nothing; the dispatcher compares
        // one by one, at a moment when nothing is on its way.
        let differs = beat.held != shared.registry.held_count();
        if differs && differed {
            shared.reconcile.store(true, Ordering::Release);
            shared.wake.notify_one();
        }
        if beat.was_expired || !was_trusted {
            shared.wake.notify_one();
        }
        differs && !differed
    }

    /// INV-CAP: when trust is over the store may give the jobs to somebody else, so nothing of them goes on here.
    fn stop_jobs_without_trust(&self) {
        if !self.shared.trust.holds(self.shared.now()) {
            self.shared.registry.cancel_all();
        }
    }
}
