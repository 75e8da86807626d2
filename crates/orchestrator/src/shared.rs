//! What the tasks of a run share.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, SystemTime};

use futures_util::FutureExt;
use longhaul_events::{Event, Observer};
use longhaul_limiter::Clock;
use longhaul_pipeline::{Outcome, Pipeline};
use longhaul_queue_core::{QueueAdmin, QueueError, WorkQueue, WorkerId};
use longhaul_worker::{LeaseTrust, StoreBackoff};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::registry::Registry;
use crate::tally::Tap;

/// The seams of a run and the little state that its tasks share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) queue: Arc<dyn WorkQueue>,
    pub(crate) admin: Arc<dyn QueueAdmin>,
    pub(crate) pipeline: Arc<dyn Pipeline>,
    pub(crate) observer: Arc<Tap>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) worker: WorkerId,
    pub(crate) trust: Arc<LeaseTrust>,
    pub(crate) registry: Registry,
    /// Something happened outside the dispatcher that it should look at.
    pub(crate) wake: Notify,
    /// The heartbeat wants the claims compared with the store's.
    pub(crate) reconcile: AtomicBool,
    /// Lease nothing more, let jobs finish within the grace period.
    pub(crate) stop: CancellationToken,
    /// Cancel and release at once.
    pub(crate) stop_now: CancellationToken,
}

impl Shared {
    pub(crate) fn now(&self) -> Duration {
        self.clock.monotonic()
    }

    /// The calendar's time in milliseconds, for what people read.
    pub(crate) fn wall_ms(&self) -> i64 {
        let since = self.clock.wall().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    }

    pub(crate) fn emit(&self, event: &Event) {
        self.observer.on_event(event);
    }

    pub(crate) fn store_failed(&self, error: &QueueError) {
        self.emit(&Event::StoreUnavailable { detail: error.to_string() });
    }

    /// Makes a call that may safely be repeated until the store answers, however long that takes: whoever calls this
    /// is itself bounded, by being dropped.
    pub(crate) async fn persist<T, F>(&self, call: impl Fn() -> F) -> Result<T, QueueError>
    where
        F: Future<Output = Result<T, QueueError>>,
    {
        let mut backoff = StoreBackoff::new();
        loop {
            match call().await {
                Err(error) if error.is_retryable() => {
                    self.store_failed(&error);
                    self.clock.sleep(backoff.wait()).await;
                }
                answer => return answer,
            }
        }
    }

    /// The future's output, unless it takes longer than `length`.
    pub(crate) async fn within<T>(&self, length: Duration, future: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            output = future => Some(output),
            () = self.clock.sleep(length) => None,
        }
    }

    /// Throws an outcome away that the queue did not record. A panic of the pipeline ends here.
    pub(crate) async fn discard(&self, outcome: Outcome) {
        if AssertUnwindSafe(self.pipeline.discard(&outcome)).catch_unwind().await.is_err() {
            tracing::error!("the pipeline panicked while it discarded an outcome");
        }
    }
}
