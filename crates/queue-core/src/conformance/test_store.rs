//! A store under test, with the few words that cases are written in.

use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use longhaul_limiter::{LaneRules, ManualClock};

use super::rules::{lane, unlimited};
use super::{Backend, QueueHandle, Store};
use crate::{
    Admission, AdmitRequest, Answer, ArtifactId, Class, Critical, Enqueued, HistoryEntry, JobFilter, JobId,
    JobPage, JobRecord, JobState, LanePage, LaneReport, LaneRow, LeaseBatch, LeaseRequest, LeaseToken,
    LeasedJob, NewJob, Place, RequestNumber, Role, Settlement, Started, StateCounts, StoreId, StoredFile,
    Verdict, WorkerId, WorkerInfo,
};

/// For how long a process of a case is kept alive by joining.
pub(super) const TTL: Duration = Duration::from_mins(1);
/// After how many losses a job ends in error, unless a case says otherwise.
pub(super) const MAX_LOSSES: u32 = 5;

/// A store under test and the clock that is its time.
pub struct TestStore {
    clock: ManualClock,
    store: Box<dyn Store>,
    is_durable: bool,
    handles: Mutex<Vec<Arc<dyn QueueHandle>>>,
    calls: AtomicUsize,
    numbers: AtomicI64,
    /// The starts that were granted so far. Whatever a test leases it starts at once, unless it says otherwise.
    started: Mutex<Vec<Started>>,
}

impl std::fmt::Debug for TestStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TestStore").field("clock", &self.clock).finish_non_exhaustive()
    }
}

impl TestStore {
    pub(super) async fn fresh(backend: &dyn Backend) -> Self {
        let clock = ManualClock::new();
        let store = backend.fresh(clock.clone()).await;
        let mut handles = Vec::new();
        for _ in 0..backend.handles().max(1) {
            handles.push(store.open().await);
        }
        Self {
            clock,
            store,
            is_durable: backend.is_durable(),
            handles: Mutex::new(handles),
            calls: AtomicUsize::new(0),
            numbers: AtomicI64::new(1),
            started: Mutex::default(),
        }
    }

    /// The handle whose turn it is.
    pub(super) fn queue(&self) -> Arc<dyn QueueHandle> {
        let handles = self.handles.lock().unwrap();
        Arc::clone(&handles[self.calls.fetch_add(1, Ordering::Relaxed) % handles.len()])
    }

    /// The handle of a process: it has one, whatever the others have.
    pub(super) fn handle_of(&self, worker: &WorkerId) -> Arc<dyn QueueHandle> {
        let handles = self.handles.lock().unwrap();
        let sum: usize = worker.as_str().bytes().map(usize::from).sum();
        Arc::clone(&handles[sum % handles.len()])
    }

    /// Always the same handle, for what only holds on one.
    pub(super) fn first(&self) -> Arc<dyn QueueHandle> {
        Arc::clone(&self.handles.lock().unwrap()[0])
    }

    /// One more handle on the same store.
    pub(super) async fn another(&self) -> Arc<dyn QueueHandle> {
        self.store.open().await
    }

    /// Drops all handles and opens as many again, as after a restart. False, and says so, if the store is not
    /// durable: then the rest of the case has nothing to show.
    #[allow(clippy::print_stderr, reason = "what is left out is said to whoever runs the tests")]
    pub(super) async fn reopen(&self) -> bool {
        if !self.is_durable {
            eprintln!("left out: this store is not durable");
            return false;
        }
        let count = std::mem::take(&mut *self.handles.lock().unwrap()).len();
        for _ in 0..count {
            let handle = self.store.open().await;
            self.handles.lock().unwrap().push(handle);
        }
        true
    }

    pub(super) fn clock(&self) -> &ManualClock {
        &self.clock
    }

    pub(super) fn advance(&self, duration: Duration) {
        self.clock.advance(duration);
    }

    pub(super) fn advance_secs(&self, seconds: u64) {
        self.advance(Duration::from_secs(seconds));
    }

    // Processes.

    /// A process of this name joins for [`TTL`]; its store is `s`.
    pub(super) async fn join(&self, name: &str) -> WorkerId {
        self.join_as(worker_info(name)).await
    }

    /// A process with this store, or with none, joins.
    pub(super) async fn join_with(&self, name: &str, store: Option<&str>) -> WorkerId {
        let store = store.map(|store| StoreId(store.to_owned()));
        self.join_as(WorkerInfo { store, ..worker_info(name) }).await
    }

    async fn join_as(&self, info: WorkerInfo) -> WorkerId {
        self.handle_of(&info.id).join(&info, TTL).await.unwrap();
        info.id
    }

    pub(super) async fn beat(&self, worker: &WorkerId) -> crate::Heartbeat {
        self.handle_of(worker).heartbeat(worker, TTL).await.unwrap()
    }

    pub(super) async fn leave(&self, worker: &WorkerId) {
        self.handle_of(worker).leave(worker).await.unwrap();
    }

    /// A request with a number that was not used before, without caps and paces.
    pub(super) fn request(&self, worker: &WorkerId, max: usize) -> LeaseRequest {
        self.request_by(worker, max, &unlimited())
    }

    pub(super) fn request_by(&self, worker: &WorkerId, max: usize, rules: &Arc<LaneRules>) -> LeaseRequest {
        LeaseRequest {
            worker: worker.clone(),
            number: RequestNumber(self.numbers.fetch_add(1, Ordering::Relaxed)),
            max,
            ahead: 0,
            alone: false,
            max_losses: MAX_LOSSES,
            rules: Arc::clone(rules),
            lead: Duration::ZERO,
            critical: Critical::default(),
            started: self.started.lock().unwrap().clone(),
        }
    }

    pub(super) async fn batch(&self, request: &LeaseRequest) -> LeaseBatch {
        let batch = self.handle_of(&request.worker).lease(request).await.unwrap();
        self.note_started(&batch);
        batch
    }

    /// What a batch grants is started.
    pub(super) fn note_started(&self, batch: &LeaseBatch) {
        let started = batch.jobs.iter().map(|job| Started { token: job.token, place: job.place.clone() });
        self.started.lock().unwrap().extend(started);
    }

    pub(super) async fn lease(&self, worker: &WorkerId, max: usize) -> Vec<LeasedJob> {
        self.batch(&self.request(worker, max)).await.jobs
    }

    pub(super) async fn lease_by(
        &self,
        worker: &WorkerId,
        max: usize,
        rules: &Arc<LaneRules>,
    ) -> Vec<LeasedJob> {
        self.batch(&self.request_by(worker, max, rules)).await.jobs
    }

    /// Leases exactly one job.
    pub(super) async fn lease_one(&self, worker: &WorkerId) -> LeasedJob {
        only(self.lease(worker, 1).await)
    }

    // Jobs.

    /// Enqueues jobs into a lane, for its artifacts.
    pub(super) async fn enqueue(&self, host: &str, names: &[&str]) {
        let jobs: Vec<NewJob> = names.iter().map(|name| job(name, host)).collect();
        self.enqueue_jobs(&jobs).await;
    }

    /// Enqueues `count` jobs into a lane, named after it.
    pub(super) async fn enqueue_many(&self, host: &str, count: usize) {
        let jobs: Vec<NewJob> = (0..count).map(|number| job(&format!("{host}/{number}"), host)).collect();
        self.enqueue_jobs(&jobs).await;
    }

    pub(super) async fn enqueue_in_class(&self, host: &str, class: u8, count: usize) {
        let named = |number| job(&format!("{host}/{class}/{number}"), host);
        let jobs: Vec<NewJob> = (0..count)
            .map(|number| NewJob { priority: Class::new(class).unwrap(), ..named(number) })
            .collect();
        self.enqueue_jobs(&jobs).await;
    }

    /// All of them must be new.
    pub(super) async fn enqueue_jobs(&self, jobs: &[NewJob]) -> Vec<JobId> {
        let enqueued = self.queue().enqueue(jobs).await.unwrap();
        assert_eq!(enqueued.len(), jobs.len());
        let new = |enqueued| match enqueued {
            Enqueued::New(id) => id,
            Enqueued::Duplicate(id) => panic!("{id} is not new"),
        };
        enqueued.into_iter().map(new).collect()
    }

    pub(super) async fn settle(&self, token: LeaseToken, verdict: Verdict) -> Answer {
        self.settle_with(token, verdict, Vec::new()).await
    }

    pub(super) async fn settle_with(
        &self,
        token: LeaseToken,
        verdict: Verdict,
        lanes: Vec<LaneReport>,
    ) -> Answer {
        let settlement = Settlement::new(token, verdict).with_lanes(lanes);
        let settled = self.queue().settle(&[settlement], None).await.unwrap();
        assert!(settled.batch.is_none(), "nothing was asked to be leased");
        only(settled.answers)
    }

    /// The job is done; the answer must say so.
    pub(super) async fn ack(&self, job: &LeasedJob) {
        assert_eq!(self.settle(job.token, done()).await, Answer::Recorded(JobState::Done));
    }

    /// The job is done, and its lane has answered as it should.
    pub(super) async fn ack_served(&self, job: &LeasedJob) {
        let served = LaneReport::Served { lane: job.place.lane.clone() };
        let answer = self.settle_with(job.token, done(), vec![served]).await;
        assert_eq!(answer, Answer::Recorded(JobState::Done));
    }

    pub(super) async fn release(&self, job: &LeasedJob) {
        let answer = self.settle(job.token, release()).await;
        assert_eq!(answer, Answer::Recorded(JobState::Queued));
    }

    pub(super) async fn admit(
        &self,
        token: LeaseToken,
        host: &str,
        role: Role,
        rules: &Arc<LaneRules>,
    ) -> Admission {
        let place = Place::new(lane(host), role);
        let request = AdmitRequest {
            token,
            place: place.clone(),
            rules: Arc::clone(rules),
            lead: Duration::ZERO,
            unused: None,
        };
        let admission = self.queue().admit(&request).await.unwrap();
        if matches!(admission, Admission::Admitted { .. }) {
            self.started.lock().unwrap().push(Started { token, place });
        }
        admission
    }

    // What can be seen.

    pub(super) async fn record(&self, name: &str) -> JobRecord {
        self.get(name).await.0
    }

    pub(super) async fn get(&self, name: &str) -> (JobRecord, Vec<HistoryEntry>) {
        self.queue().get(&id(name)).await.unwrap().expect("a job of this name")
    }

    pub(super) async fn state(&self, name: &str) -> JobState {
        self.record(name).await.state
    }

    pub(super) async fn counts(&self) -> StateCounts {
        self.queue().stats().await.unwrap().counts
    }

    pub(super) async fn all(&self) -> Vec<JobRecord> {
        let (mut jobs, mut after) = (Vec::new(), None);
        loop {
            let page = self.queue().list(&JobFilter::default(), JobPage { after, limit: 500 }).await.unwrap();
            let Some(last) = page.last() else { return jobs };
            after = Some(last.id);
            jobs.extend(page);
        }
    }

    pub(super) async fn lane_row(&self, host: &str) -> Option<LaneRow> {
        let rows = self.queue().lanes(&LanePage { after: None, limit: 10_000 }).await.unwrap();
        rows.into_iter().find(|row| row.lane == lane(host))
    }

    /// INV-CONSERVE, and whatever else the store can say about itself.
    pub(super) async fn compare_with_itself(&self) {
        let mut recount = StateCounts::default();
        for job in self.all().await {
            *recount.get_mut(job.state) += 1;
            assert_eq!(job.state == JobState::InProgress, job.worker.is_some(), "{job:?}");
            assert_eq!(job.state.is_terminal(), job.finished_at.is_some(), "{job:?}");
            assert!(job.slot.is_none() || job.state == JobState::InProgress, "{job:?}");
        }
        assert_eq!(self.counts().await, recount, "the counts are those of the rows");
        let check = self.queue().check(false).await.unwrap();
        assert_eq!(check.problems, [""; 0]);
        assert!(!check.repaired);
    }
}

// Words.

pub(super) fn id(name: &str) -> ArtifactId {
    ArtifactId::new(name).unwrap()
}

pub(super) fn job(name: &str, host: &str) -> NewJob {
    NewJob::new(id(name), format!("{{\"name\":\"{name}\"}}")).at(Place::new(lane(host), Role::Artifact))
}

pub(super) fn delayed(name: &str, host: &str, delay: Duration) -> NewJob {
    NewJob { delay, ..job(name, host) }
}

pub(super) fn worker_info(name: &str) -> WorkerInfo {
    WorkerInfo {
        id: WorkerId::from_text(name),
        host: "a-machine".to_owned(),
        pid: 4711,
        version: "1.2.3".to_owned(),
        store: Some(StoreId("s".to_owned())),
        limits: None,
    }
}

pub(super) fn done() -> Verdict {
    Verdict::Done { reason: "ok".to_owned(), outcome: "{}".to_owned(), file: None }
}

pub(super) fn done_with(store: &str, path: &str) -> Verdict {
    let file = StoredFile { store: StoreId(store.to_owned()), path: path.to_owned(), sha256: "0".repeat(64) };
    Verdict::Done { reason: "ok".to_owned(), outcome: "{}".to_owned(), file: Some(file) }
}

pub(super) fn skipped() -> Verdict {
    Verdict::Skipped {
        reason: "robots".to_owned(),
        outcome: "{}".to_owned(),
        detail: "not allowed".to_owned(),
    }
}

pub(super) fn error() -> Verdict {
    Verdict::Error { reason: "gone".to_owned(), outcome: "{}".to_owned(), detail: "status 404".to_owned() }
}

pub(super) fn retry(after: Duration) -> Verdict {
    Verdict::Retry {
        after,
        reason: "timeout".to_owned(),
        detail: "no answer".to_owned(),
        place: None,
        checkpoint: None,
    }
}

pub(super) fn defer(after: Duration, host: &str) -> Verdict {
    Verdict::Defer { after, place: Place::new(lane(host), Role::Artifact), checkpoint: None }
}

pub(super) fn throttled() -> Verdict {
    Verdict::Throttled { detail: "status 429".to_owned(), place: None, checkpoint: None }
}

pub(super) fn release() -> Verdict {
    Verdict::Release { checkpoint: None }
}

/// The host asks to be left alone, for so many seconds if it says.
pub(super) fn asks_for_quiet(host: &str, seconds: Option<u64>) -> LaneReport {
    LaneReport::Throttled {
        lane: lane(host),
        retry_after: seconds.map(Duration::from_secs),
        cause: "status 429".to_owned(),
    }
}

pub(super) fn served(host: &str) -> LaneReport {
    LaneReport::Served { lane: lane(host) }
}

pub(super) fn failed(host: &str) -> LaneReport {
    LaneReport::Failed { lane: lane(host), cause: "status 502".to_owned() }
}

pub(super) fn only<T: std::fmt::Debug>(mut values: Vec<T>) -> T {
    assert_eq!(values.len(), 1, "{values:?}");
    values.remove(0)
}

/// The names of leased jobs, in order.
pub(super) fn names(jobs: &[LeasedJob]) -> Vec<&str> {
    jobs.iter().map(|job| job.artifact_id.as_str()).collect()
}

pub(super) fn tokens(jobs: &[LeasedJob]) -> Vec<LeaseToken> {
    let mut tokens: Vec<LeaseToken> = jobs.iter().map(|job| job.token).collect();
    tokens.sort();
    tokens
}

/// How many jobs came from which lane.
pub(super) fn by_lane(jobs: &[LeasedJob]) -> BTreeMap<&str, usize> {
    let mut counts = BTreeMap::new();
    for job in jobs {
        *counts.entry(job.place.lane.as_str()).or_default() += 1;
    }
    counts
}

/// Whether a wait is this long, give or take the millisecond that a store may round up.
#[track_caller]
pub(super) fn assert_wait(wait: Option<Duration>, expected: Duration) {
    let wait = wait.expect("a wait");
    let off = wait.abs_diff(expected);
    assert!(off <= Duration::from_millis(1), "{wait:?} is not {expected:?}");
}

/// Polls once.
pub(super) async fn poll_once<F: Future>(mut future: Pin<&mut F>) -> Poll<F::Output> {
    poll_fn(|context| Poll::Ready(future.as_mut().poll(context))).await
}
