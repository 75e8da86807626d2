//! A queue, a pipeline made from a closure, a clock on tokio's paused time, and an observer to await.

use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use longhaul_events::{Event, Observer};
use longhaul_limiter::{Clock, Lane, LaneRules, Role};
use longhaul_orchestrator::{Orchestrator, OrchestratorConfig, Parts, RunHandle, RunSummary};
use longhaul_pipeline::{
    Context, Ended, Fetched, Grant, Job, Move, Outcome, PartFile, Pipeline, PublishError, Reason, RunResult,
};
use longhaul_queue_core::{
    ArtifactId, JobRecord, JobState, MemoryQueue, NewJob, Place, QueueAdmin, StoreId, WorkQueue, WorkQueueExt,
};
use tokio::sync::mpsc;

/// tokio's time, which the tests pause: it moves only when every task waits.
#[derive(Debug)]
pub(crate) struct TokioClock {
    began: tokio::time::Instant,
    /// How far the calendar was stepped away, in seconds.
    step: AtomicI64,
}

impl TokioClock {
    /// Steps the calendar to so many seconds beside the right time, as an administrator or NTP may.
    pub(crate) fn step_wall(&self, seconds: i64) {
        self.step.store(seconds, Ordering::Relaxed);
    }
}

#[async_trait]
impl Clock for TokioClock {
    fn monotonic(&self) -> Duration {
        Duration::from_hours(24) + self.began.elapsed()
    }
    fn wall(&self) -> SystemTime {
        let wall = SystemTime::UNIX_EPOCH + Duration::from_hours(24 * 20_000) + self.began.elapsed();
        let step = self.step.load(Ordering::Relaxed);
        let length = Duration::from_secs(step.unsigned_abs());
        if step < 0 { wall - length } else { wall + length }
    }
    fn boot(&self) -> String {
        "boot-1".to_owned()
    }
    async fn sleep(&self, duration: Duration) {
        // tidy:allow-sleep: this is the clock itself, on time that the tests pause
        tokio::time::sleep(duration).await;
    }
}

/// Passes events on to the test.
#[derive(Debug)]
struct Channel(mpsc::UnboundedSender<Event>);

impl Observer for Channel {
    fn on_event(&self, event: &Event) {
        let _ = self.0.send(event.clone());
    }
}

pub(crate) type Work<'a> = Pin<Box<dyn Future<Output = RunResult> + Send + 'a>>;

/// What a test does with a job.
type Working = dyn for<'a> Fn(&'a Job, &'a dyn Context) -> Work<'a> + Send + Sync;

/// What a test does about publications; the default publishes all.
type Publishing = Box<dyn Fn(&Ended) -> Result<(), PublishError> + Send + Sync>;

/// Runs a closure for each job, and writes down what is published and discarded.
pub(crate) struct TestPipeline {
    work: Box<Working>,
    pub(crate) publishing: Mutex<Option<Publishing>>,
    pub(crate) published: Mutex<Vec<Ended>>,
    pub(crate) discarded: Mutex<Vec<Outcome>>,
    /// Publications wait for a permit each; plenty unless a test takes them.
    pub(crate) gate: tokio::sync::Semaphore,
}

impl fmt::Debug for TestPipeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TestPipeline")
    }
}

#[async_trait]
impl Pipeline for TestPipeline {
    async fn run(&self, job: &Job, context: &dyn Context) -> RunResult {
        (self.work)(job, context).await
    }
    async fn publish(&self, ended: &[Ended]) -> Vec<Result<(), PublishError>> {
        let count = u32::try_from(ended.len()).unwrap();
        drop(self.gate.acquire_many(count).await.unwrap());
        let publishing = self.publishing.lock().unwrap();
        let answers = ended.iter().map(|one| match &*publishing {
            Some(publishing) => publishing(one),
            None => Ok(()),
        });
        let answers: Vec<_> = answers.collect();
        let done = ended.iter().zip(&answers).filter(|(_, answer)| answer.is_ok());
        self.published.lock().unwrap().extend(done.map(|(one, _)| one.clone()));
        answers
    }
    async fn discard(&self, outcome: &Outcome) {
        self.discarded.lock().unwrap().push(outcome.clone());
    }
    fn rename(&self, job: &Job, outcome: &Outcome) -> Option<Outcome> {
        let Outcome::Done(fetched) = outcome else { return None };
        let mut renamed = fetched.clone();
        let file = renamed.file.as_mut()?;
        file.path = format!("{}-{}", job.number, file.path);
        Some(Outcome::Done(renamed))
    }
}

/// A run that is about to start.
pub(crate) struct Bench {
    pub(crate) clock: Arc<TokioClock>,
    pub(crate) queue: MemoryQueue,
    pub(crate) pipeline: Arc<TestPipeline>,
    pub(crate) config: OrchestratorConfig,
    pub(crate) store: Option<StoreId>,
    pub(crate) events: mpsc::UnboundedReceiver<Event>,
    sender: mpsc::UnboundedSender<Event>,
}

impl Bench {
    /// A bench whose run drains, without jitter and without limits on lanes.
    pub(crate) fn new(
        work: impl for<'a> Fn(&'a Job, &'a dyn Context) -> Work<'a> + Send + Sync + 'static,
    ) -> Self {
        #[allow(clippy::disallowed_methods, reason = "this is the tests' clock")]
        let clock = Arc::new(TokioClock { began: tokio::time::Instant::now(), step: AtomicI64::new(0) });
        let (sender, events) = mpsc::unbounded_channel();
        let pipeline = TestPipeline {
            work: Box::new(work),
            publishing: Mutex::new(None),
            published: Mutex::new(Vec::new()),
            discarded: Mutex::new(Vec::new()),
            gate: tokio::sync::Semaphore::new(10_000),
        };
        let config = OrchestratorConfig {
            drain: true,
            jitter: Duration::ZERO,
            rules: Arc::new(LaneRules::unlimited()),
            ..OrchestratorConfig::default()
        };
        let queue = MemoryQueue::new(clock.clone());
        let store = Some(StoreId("store-1".to_owned()));
        Self { clock, queue, pipeline: Arc::new(pipeline), config, store, events, sender }
    }

    /// Jobs `a0`, `a1`, … in one lane.
    pub(crate) async fn enqueue(&self, lane_name: &str, count: usize) {
        let place = Place::new(lane(lane_name), Role::Artifact);
        let name = if lane_name.is_empty() { "a" } else { lane_name };
        let jobs: Vec<NewJob> =
            (0..count).map(|n| NewJob::new(id(&format!("{name}{n}")), "{}").at(place.clone())).collect();
        self.queue.enqueue(&jobs).await.unwrap();
    }

    pub(crate) async fn enqueue_one(&self, job: NewJob) {
        self.queue.enqueue_one(job).await.unwrap();
    }

    /// Starts on the bench's own queue.
    pub(crate) async fn start(&self) -> RunHandle {
        self.start_on(Arc::new(self.queue.clone())).await
    }

    /// Starts with another observer than the one that the test awaits.
    pub(crate) async fn start_observed(&self, observer: Arc<dyn Observer>) -> RunHandle {
        self.start_with(Arc::new(self.queue.clone()), observer).await
    }

    /// Starts on a queue that stands before the bench's.
    pub(crate) async fn start_on(&self, queue: Arc<dyn WorkQueue>) -> RunHandle {
        self.start_with(queue, Arc::new(Channel(self.sender.clone()))).await
    }

    async fn start_with(&self, queue: Arc<dyn WorkQueue>, observer: Arc<dyn Observer>) -> RunHandle {
        let parts = Parts {
            queue,
            admin: Arc::new(self.queue.clone()),
            pipeline: self.pipeline.clone(),
            observer,
            clock: self.clock.clone(),
            store: self.store.clone(),
        };
        Orchestrator::start(self.config.clone(), parts).await.unwrap()
    }

    /// Starts and waits for the end.
    pub(crate) async fn run(&self) -> RunSummary {
        end_of(self.start().await).await
    }

    /// The next event of a kind; those before it are passed over.
    pub(crate) async fn event<T>(&mut self, pick: impl Fn(&Event) -> Option<T>) -> T {
        let found = async {
            loop {
                let event = self.events.recv().await.expect("the bench itself holds a sender");
                if let Some(found) = pick(&event) {
                    return found;
                }
            }
        };
        tokio::time::timeout(FAR, found).await.expect("the event never came")
    }

    /// All events so far that were not awaited.
    pub(crate) fn rest_of_events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.events.try_recv().ok()).collect()
    }

    pub(crate) async fn record(&self, name: &str) -> JobRecord {
        self.queue.get(&id(name)).await.unwrap().unwrap().0
    }

    /// Nothing is held, all counts agree, and all that ended is published.
    pub(crate) async fn assert_tidy(&self) {
        let check = self.queue.check(false).await.unwrap();
        assert_eq!(check.problems, Vec::<String>::new());
        assert_eq!(self.queue.stats().await.unwrap().counts.in_progress, 0);
        let page = longhaul_queue_core::JobPage { after: None, limit: 10 };
        let unpublished = self.queue.unpublished(&StoreId("store-1".to_owned()), page).await.unwrap();
        assert!(unpublished.is_empty(), "{unpublished:?}");
    }
}

/// Virtual time within which everything in these tests happens.
pub(crate) const FAR: Duration = Duration::from_hours(24 * 30);

pub(crate) async fn end_of(handle: RunHandle) -> RunSummary {
    tokio::time::timeout(FAR, handle.wait()).await.expect("the run never ended")
}

pub(crate) fn lane(name: &str) -> Lane {
    Lane::new(name).unwrap()
}

pub(crate) fn id(name: &str) -> ArtifactId {
    ArtifactId::new(name).unwrap()
}

pub(crate) fn done() -> RunResult {
    Outcome::Done(fetched()).into()
}

pub(crate) fn fetched() -> Fetched {
    Fetched {
        reason: Reason::Ok,
        resolver: "test".to_owned(),
        url: "https://a.example/".to_owned(),
        http_status: None,
        content_type: None,
        etag: None,
        last_modified: None,
        file: None,
    }
}

pub(crate) fn with_file(path: &str) -> RunResult {
    let file = PartFile {
        store: "store-1".to_owned(),
        part: format!(".parts/{path}").into(),
        path: path.to_owned(),
        sha256: "ab".repeat(32),
        bytes: 1000,
        guard: None,
    };
    Outcome::Done(Fetched { file: Some(file), ..fetched() }).into()
}

pub(crate) fn failed(class: longhaul_pipeline::FailureClass, reason: Reason) -> RunResult {
    let detail = "a test wants it".to_owned();
    Outcome::Failed { reason, class, detail, resolver: None, checkpoint: None }.into()
}

/// Asks for the artifact's request in `lane`; the result to end with if it is not granted.
pub(crate) async fn admit(context: &dyn Context, name: &str) -> Result<(), RunResult> {
    match context.admit(&lane(name), Role::Artifact).await {
        Grant::Go => Ok(()),
        Grant::Stop => Err(failed(longhaul_pipeline::FailureClass::Transient, Reason::LeaseLost)),
        Grant::Move { after } | Grant::Later { after } => {
            let to = Move { lane: lane(name), role: Role::Artifact, after, checkpoint: None };
            Err(Outcome::Moved(to).into())
        }
    }
}

pub(crate) fn is_state(record: &JobRecord, state: JobState, attempts: u32) -> bool {
    record.state == state && record.attempts == attempts
}
