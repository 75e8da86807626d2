//! Starting a run, and the handle to stop it and to wait for its end.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use longhaul_events::Observer;
use longhaul_limiter::Clock;
use longhaul_pipeline::Pipeline;
use longhaul_queue_core::{QueueAdmin, StoreId, WorkQueue, WorkerId};
use longhaul_worker::{LeaseTrust, Worker, WorkerParts};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::dispatcher::Dispatcher;
use crate::heartbeat::Heart;
use crate::registry::Registry;
use crate::shared::Shared;
use crate::tally::Tap;
use crate::{OrchestratorConfig, OrchestratorError, Result, RunEnd, RunSummary, identity};

/// What a run is made of.
#[derive(Debug, Clone)]
pub struct Parts {
    /// Where jobs come from.
    pub queue: Arc<dyn WorkQueue>,
    /// The same queue's administration, for recovery.
    pub admin: Arc<dyn QueueAdmin>,
    /// What is done with jobs.
    pub pipeline: Arc<dyn Pipeline>,
    /// Who wants to hear.
    pub observer: Arc<dyn Observer>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Where the pipeline's files belong to; `None` for work without files. Then nothing is published, and
    /// [`Pipeline::publish`] is not called: the queue counts what this run ends as published at once.
    pub store: Option<StoreId>,
}

/// Runs a queue.
///
/// ```
/// use std::sync::Arc;
/// use longhaul_events::Silent;
/// use longhaul_limiter::SystemClock;
/// use longhaul_orchestrator::{Orchestrator, OrchestratorConfig, Parts, RunEnd};
/// use longhaul_pipeline::{FnPipeline, Outcome, Reason};
/// use longhaul_queue_core::{ArtifactId, MemoryQueue, NewJob, WorkQueueExt};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let clock = Arc::new(SystemClock);
/// let queue = Arc::new(MemoryQueue::new(clock.clone()));
/// queue.enqueue_one(NewJob::new(ArtifactId::new("report:1")?, "{}")).await?;
/// let pipeline = FnPipeline::new(|job, _context| {
///     Box::pin(async move {
///         let detail = format!("{} is of no interest", job.artifact_id);
///         Outcome::Skipped { reason: Reason::PolicyType, detail }.into()
///     })
/// });
/// let parts = Parts {
///     queue: queue.clone(),
///     admin: queue,
///     pipeline: Arc::new(pipeline),
///     observer: Arc::new(Silent),
///     clock,
///     store: None,
/// };
/// let config = OrchestratorConfig { drain: true, ..OrchestratorConfig::default() };
/// let summary = Orchestrator::start(config, parts).await?.wait().await;
/// assert!(matches!(summary.ended, RunEnd::Drained));
/// assert_eq!(summary.count("skipped"), 1);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Orchestrator;

impl Orchestrator {
    /// Joins the queue and begins to work. Must be called in a tokio runtime, which has to live as long as the run.
    ///
    /// # Errors
    /// If the configuration cannot be, or the queue cannot be joined; nothing has been started then.
    pub async fn start(config: OrchestratorConfig, parts: Parts) -> Result<RunHandle> {
        config.validate()?;
        let info = identity::this_process(parts.store.clone(), &config.rules);
        let shared = Arc::new(Shared {
            queue: parts.queue,
            admin: parts.admin,
            pipeline: parts.pipeline,
            observer: Arc::new(Tap::new(parts.observer)),
            clock: parts.clock,
            worker: info.id.clone(),
            trust: Arc::new(LeaseTrust::new()),
            registry: Registry::default(),
            wake: Notify::new(),
            reconcile: AtomicBool::new(false),
            stop: CancellationToken::new(),
            stop_now: CancellationToken::new(),
        });
        let asked = shared.now();
        let joined = shared.queue.join(&info, config.lease_ttl).await;
        joined.map_err(|error| OrchestratorError::queue("the queue cannot be joined", error))?;
        let took = shared.now().saturating_sub(asked);
        shared.trust.renew(asked, config.lease_ttl);

        let worker = Worker::new(
            WorkerParts {
                queue: Arc::clone(&shared.queue),
                pipeline: Arc::clone(&shared.pipeline),
                observer: Arc::clone(&shared.observer) as Arc<dyn Observer>,
                clock: Arc::clone(&shared.clock),
                rules: Arc::clone(&config.rules),
                limits: Arc::clone(&config.limits),
            },
            config.worker(),
            Arc::clone(&shared.trust),
        );
        // Nothing better is known of the store yet.
        worker.answered(took);
        let id = info.id.clone();
        let heart =
            Heart { shared: Arc::clone(&shared), info, ttl: config.lease_ttl, every: config.heartbeat };
        let stopper = Stopper { stop: shared.stop.clone(), now: shared.stop_now.clone() };
        let dispatcher = Dispatcher::new(shared, config, worker, parts.store);
        // Not a JoinSet: dropping the handle must let the run release what it holds, not abort it.
        let run = TaskTracker::new().spawn(dispatcher.run(heart));
        Ok(RunHandle { stopper, run, worker: id })
    }
}

/// Stops a run. Clones stop the same one; each call may be repeated, in any order, also after the run's end.
#[derive(Debug, Clone)]
pub struct Stopper {
    stop: CancellationToken,
    now: CancellationToken,
}

impl Stopper {
    /// Leases nothing more, lets jobs finish within the grace period, then cancels and releases them.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Cancels and releases all jobs at once.
    pub fn stop_now(&self) {
        self.now.cancel();
    }
}

/// A run at work. Dropping it stops the run at once: in the background jobs are cancelled and released, as long as the
/// runtime lives.
#[derive(Debug)]
#[must_use = "dropping the handle stops the run"]
pub struct RunHandle {
    worker: WorkerId,
    stopper: Stopper,
    run: JoinHandle<RunSummary>,
}

impl RunHandle {
    /// Who this run is to the queue: its row in `QueueAdmin::workers`.
    pub fn worker(&self) -> &WorkerId {
        &self.worker
    }

    /// As [`Stopper::stop`].
    pub fn stop(&self) {
        self.stopper.stop();
    }

    /// As [`Stopper::stop_now`].
    pub fn stop_now(&self) {
        self.stopper.stop_now();
    }

    /// Something that can stop the run while [`RunHandle::wait`] is awaited, for a signal handler for instance.
    pub fn stopper(&self) -> Stopper {
        self.stopper.clone()
    }

    /// Waits for the run's end. Dropping the future drops the handle.
    pub async fn wait(mut self) -> RunSummary {
        match (&mut self.run).await {
            Ok(summary) => summary,
            Err(error) => {
                let error = OrchestratorError::aborted(format!("the run was torn down: {error}"));
                RunSummary {
                    ended: RunEnd::Failed(error),
                    settled: std::collections::BTreeMap::new(),
                    terminal: 0,
                    bytes: 0,
                    elapsed: std::time::Duration::ZERO,
                    unpublished: 0,
                    unpublished_because: None,
                    left: None,
                    next_open: None,
                }
            }
        }
    }
}

impl Drop for RunHandle {
    fn drop(&mut self) {
        self.stopper.stop_now();
    }
}
