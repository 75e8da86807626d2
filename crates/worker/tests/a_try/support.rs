//! A queue whose answers to a try are written down beforehand, and a pipeline made from a closure.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use longhaul_events::Recorder;
use longhaul_limiter::{Lane, LaneRules, Limits, ManualClock, NoLimits, Role};
use longhaul_pipeline::{Context, Fetched, Job, Outcome, Pipeline, Reason, RunResult};
use longhaul_pipeline::{Ended, PublishError};
use longhaul_queue_core::{
    Admission, AdmitRequest, ArtifactId, Class, Enqueued, Epoch, ErrorKind, Heartbeat, JobId, LeaseBatch,
    LeaseRequest, LeaseToken, LeasedJob, NewJob, Place, QueueError, QueueStats, Result, Settled, Settlement,
    WorkQueue, WorkerId, WorkerInfo,
};
use longhaul_worker::{Answered, Finished, LeaseTrust, Worker, WorkerConfig, WorkerParts};
use tokio_util::sync::CancellationToken;

/// Answers `admit` from a list, and takes every checkpoint unless told otherwise.
#[derive(Debug, Default)]
pub(crate) struct ScriptedQueue {
    pub(crate) admissions: Mutex<VecDeque<Result<Admission>>>,
    pub(crate) asked: Mutex<Vec<Place>>,
    pub(crate) checkpoint_lost: bool,
    /// The first answer takes three seconds of this clock.
    pub(crate) frozen: Mutex<Option<ManualClock>>,
}

fn unasked<T>() -> Result<T> {
    Err(QueueError::new(ErrorKind::Unsupported, "a worker asks nothing like that"))
}

#[async_trait]
impl WorkQueue for ScriptedQueue {
    async fn enqueue(&self, _: &[NewJob]) -> Result<Vec<Enqueued>> {
        unasked()
    }
    async fn join(&self, _: &WorkerInfo, _: Duration) -> Result<()> {
        unasked()
    }
    async fn heartbeat(&self, _: &WorkerId, _: Duration) -> Result<Heartbeat> {
        unasked()
    }
    async fn leave(&self, _: &WorkerId) -> Result<()> {
        unasked()
    }
    async fn lease(&self, _: &LeaseRequest) -> Result<LeaseBatch> {
        unasked()
    }
    async fn admit(&self, request: &AdmitRequest) -> Result<Admission> {
        self.asked.lock().unwrap().push(request.place.clone());
        if let Some(clock) = self.frozen.lock().unwrap().take() {
            clock.advance(Duration::from_secs(3));
        }
        self.admissions.lock().unwrap().pop_front().expect("the try asked more often than it should")
    }
    async fn checkpoint(&self, _: &LeaseToken, _: &str) -> Result<bool> {
        Ok(!self.checkpoint_lost)
    }
    async fn settle(&self, _: &[Settlement], _: Option<&LeaseRequest>) -> Result<Settled> {
        unasked()
    }
    async fn published(&self, _: &[JobId]) -> Result<()> {
        unasked()
    }
    async fn changed(&self, _: Epoch) -> Result<Epoch> {
        unasked()
    }
    async fn stats(&self) -> Result<QueueStats> {
        unasked()
    }
    async fn cache_get(&self, _: &str) -> Result<Option<String>> {
        unasked()
    }
    async fn cache_put(&self, _: &str, _: &str, _: Duration) -> Result<()> {
        unasked()
    }
}

type Work<'a> = std::pin::Pin<Box<dyn Future<Output = RunResult> + Send + 'a>>;

/// Runs a closure and renames files by adding a tail.
pub(crate) struct Closure<F>(pub(crate) F);

impl<F> std::fmt::Debug for Closure<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Closure")
    }
}

#[async_trait]
impl<F> Pipeline for Closure<F>
where
    F: for<'a> Fn(&'a Job, &'a dyn Context) -> Work<'a> + Send + Sync + 'static,
{
    async fn run(&self, job: &Job, context: &dyn Context) -> RunResult {
        (self.0)(job, context).await
    }
    async fn publish(&self, ended: &[Ended]) -> Vec<Result<(), PublishError>> {
        ended.iter().map(|_| Ok(())).collect()
    }
    async fn discard(&self, _: &Outcome) {}
    fn rename(&self, job: &Job, outcome: &Outcome) -> Option<Outcome> {
        let Outcome::Done(fetched) = outcome else { return None };
        let mut renamed = fetched.clone();
        let file = renamed.file.as_mut()?;
        file.path = format!("{}-{}", file.path, job.number);
        Some(Outcome::Done(renamed))
    }
}

/// One worker on a clock that stands still.
pub(crate) struct Desk {
    pub(crate) clock: ManualClock,
    pub(crate) queue: Arc<ScriptedQueue>,
    pub(crate) recorder: Recorder,
    pub(crate) trust: Arc<LeaseTrust>,
    pub(crate) cancel: CancellationToken,
    pub(crate) worker: Arc<Worker>,
}

pub(crate) fn config() -> WorkerConfig {
    WorkerConfig {
        max_attempts: 3,
        retry_backoff: Duration::from_mins(1),
        jitter: Duration::ZERO,
        job_time_limit: Some(Duration::from_hours(2)),
    }
}

impl Desk {
    pub(crate) fn new<F>(queue: ScriptedQueue, work: F) -> Self
    where
        F: for<'a> Fn(&'a Job, &'a dyn Context) -> Work<'a> + Send + Sync + 'static,
    {
        Self::with_limits(queue, Arc::new(NoLimits), work)
    }

    pub(crate) fn with_limits<F>(queue: ScriptedQueue, limits: Arc<dyn Limits>, work: F) -> Self
    where
        F: for<'a> Fn(&'a Job, &'a dyn Context) -> Work<'a> + Send + Sync + 'static,
    {
        let clock = ManualClock::new();
        let recorder = Recorder::default();
        let queue = Arc::new(queue);
        let trust = Arc::new(LeaseTrust::new());
        trust.renew(longhaul_limiter::Clock::monotonic(&clock), Duration::from_hours(10));
        let parts = WorkerParts {
            queue: queue.clone(),
            pipeline: Arc::new(Closure(work)),
            observer: Arc::new(recorder.clone()),
            clock: Arc::new(clock.clone()),
            rules: Arc::new(LaneRules::default()),
            limits,
        };
        let worker = Arc::new(Worker::new(parts, config(), trust.clone()));
        Self { clock, queue, recorder, trust, cancel: CancellationToken::new(), worker }
    }

    /// Runs a job that was leased just now.
    pub(crate) async fn run(&self, leased: LeasedJob) -> Finished {
        let now = longhaul_limiter::Clock::monotonic(&self.clock);
        self.worker
            .run(leased, Answered { at: now, age: Duration::ZERO, free_at: now }, self.cancel.clone())
            .await
    }

    /// Waits until so many tasks sleep on the clock, then moves it.
    pub(crate) async fn advance_when(&self, sleepers: usize, length: Duration) {
        while self.clock.sleepers() < sleepers {
            tokio::task::yield_now().await;
        }
        self.clock.advance(length);
    }
}

pub(crate) fn lane(name: &str) -> Lane {
    Lane::new(name).unwrap()
}

/// A job that holds a slot at `a.example` for its artifact.
pub(crate) fn leased() -> LeasedJob {
    LeasedJob {
        token: LeaseToken { job: JobId(7), fence: 3 },
        artifact_id: ArtifactId::new("doi:10.1/x").unwrap(),
        payload: "{}".to_owned(),
        resolver_hint: None,
        place: Place::new(lane("a.example"), Role::Artifact),
        priority: Class::default(),
        attempts: 0,
        losses: 0,
        throttles: 0,
        max_attempts: None,
        checkpoint: Some("old".to_owned()),
        start_after: Duration::ZERO,
        start_within: Duration::from_millis(25),
        paced: false,
    }
}

pub(crate) fn fetched() -> Fetched {
    Fetched {
        reason: Reason::Ok,
        resolver: "arxiv".to_owned(),
        url: "https://a.example/x.pdf".to_owned(),
        http_status: Some(200),
        content_type: None,
        etag: None,
        last_modified: None,
        file: None,
    }
}
