//! A desk that admits requests as it is told and remembers everything, and a bench of origin, folder and pipeline.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(dead_code, reason = "each test file uses its part")]

use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use longhaul_events::{Event, Observer, Recorder};
use longhaul_limiter::{Clock, Keying, Lane, ManualClock, Role};
use longhaul_origin::{Answer, Behaviour, HostConfig, Origin, OriginConfig, Shape};
use longhaul_pipeline::{
    Context, Ended, EndedState, FailureClass, Fetched, Grant, HostReport, HttpOptions, HttpPipeline, Job,
    Move, Outcome, PartFile, Pipeline, Reason, RunResult,
};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Whoever runs the jobs, in a test.
#[derive(Debug, Default)]
pub(crate) struct Desk {
    pub(crate) clock: ManualClock,
    pub(crate) cancelled: CancellationToken,
    pub(crate) recorder: Recorder,
    shared: Arc<dyn_clock::Shared>,
    keying: Keying,
    state: Mutex<State>,
}

mod dyn_clock {
    use super::{Arc, Clock, ManualClock};

    /// The clock behind the pointer that a context hands out, set at the first question.
    #[derive(Debug, Default)]
    pub(crate) struct Shared(std::sync::OnceLock<Arc<dyn Clock>>);

    impl Shared {
        pub(crate) fn of(&self, clock: &ManualClock) -> &Arc<dyn Clock> {
            self.0.get_or_init(|| Arc::new(clock.clone()))
        }
    }
}

#[derive(Debug, Default)]
struct State {
    admitted: Vec<(Lane, Role)>,
    grants: HashMap<Lane, VecDeque<Grant>>,
    held: Vec<(Lane, Duration)>,
    served: Vec<String>,
    received: u64,
    checkpoints: Vec<String>,
    /// Values, each with when it is forgotten.
    cache: HashMap<String, (String, Duration)>,
    lost: bool,
}

impl Desk {
    /// The lane's next answers; afterwards it goes.
    pub(crate) fn grant(&self, lane: &Lane, grants: impl IntoIterator<Item = Grant>) {
        self.state.lock().unwrap().grants.entry(lane.clone()).or_default().extend(grants);
    }

    /// From now on no checkpoint is stored: the claim is lost.
    pub(crate) fn lose(&self) {
        self.state.lock().unwrap().lost = true;
    }

    /// The lanes that were asked for, in order.
    pub(crate) fn asked(&self) -> Vec<Lane> {
        self.state.lock().unwrap().admitted.iter().map(|(lane, _)| lane.clone()).collect()
    }

    pub(crate) fn roles(&self) -> Vec<Role> {
        self.state.lock().unwrap().admitted.iter().map(|(_, role)| *role).collect()
    }

    /// For whom requests were made, in order.
    pub(crate) fn served(&self) -> Vec<String> {
        self.state.lock().unwrap().served.clone()
    }

    /// How many bytes came in.
    pub(crate) fn received(&self) -> u64 {
        self.state.lock().unwrap().received
    }

    pub(crate) fn held(&self) -> Vec<(Lane, Duration)> {
        self.state.lock().unwrap().held.clone()
    }

    pub(crate) fn checkpoints(&self) -> Vec<String> {
        self.state.lock().unwrap().checkpoints.clone()
    }

    /// The reasons of all requests, in order.
    pub(crate) fn request_reasons(&self) -> Vec<String> {
        let reason = |event| match event {
            Event::Request { reason, .. } => Some(reason),
            _ => None,
        };
        self.recorder.events().into_iter().filter_map(reason).collect()
    }
}

#[async_trait]
impl Context for Desk {
    async fn admit(&self, lane: &Lane, role: Role) -> Grant {
        let mut state = self.state.lock().unwrap();
        state.admitted.push((lane.clone(), role));
        state.grants.get_mut(lane).and_then(VecDeque::pop_front).unwrap_or(Grant::Go)
    }

    fn serving(&self, resolver: &str) {
        self.state.lock().unwrap().served.push(resolver.to_owned());
    }

    async fn received(&self, bytes: u32) {
        self.state.lock().unwrap().received += u64::from(bytes);
    }

    fn hold_back(&self, lane: &Lane, length: Duration) {
        self.state.lock().unwrap().held.push((lane.clone(), length));
    }

    async fn checkpoint(&self, checkpoint: &str) -> bool {
        let mut state = self.state.lock().unwrap();
        state.checkpoints.push(checkpoint.to_owned());
        !state.lost
    }

    async fn cache_get(&self, key: &str) -> Option<String> {
        let now = self.clock.monotonic();
        let state = self.state.lock().unwrap();
        state.cache.get(key).filter(|(_, until)| now < *until).map(|(value, _)| value.clone())
    }

    async fn cache_put(&self, key: &str, value: &str, ttl: Duration) {
        let until = self.clock.monotonic() + ttl;
        self.state.lock().unwrap().cache.insert(key.to_owned(), (value.to_owned(), until));
    }

    fn cancelled(&self) -> &CancellationToken {
        &self.cancelled
    }

    fn keying(&self) -> &Keying {
        &self.keying
    }

    fn clock(&self) -> &Arc<dyn Clock> {
        self.shared.of(&self.clock)
    }

    fn observer(&self) -> &dyn Observer {
        &self.recorder
    }
}

/// An origin with the hosts `a` and `b`, an output folder, and options that allow the origin's addresses.
pub(crate) struct Bench {
    pub(crate) origin: Origin,
    pub(crate) folder: tempfile::TempDir,
    pub(crate) options: HttpOptions,
}

impl Bench {
    /// Host `a` answers this everywhere; host `b` is honest.
    pub(crate) async fn answering(answer: Answer) -> Self {
        Self::behaving(Behaviour::answering(answer)).await
    }

    pub(crate) async fn behaving(behaviour: Behaviour) -> Self {
        let hosts = [HostConfig::new("a").seeded(7).behaving(behaviour), HostConfig::new("b").seeded(8)];
        let origin = Origin::start(OriginConfig::new(hosts)).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let options = HttpOptions {
            output_dir: folder.path().to_owned(),
            allow_networks: vec!["127.0.1.0/24".parse().unwrap()],
            proxies_from_environment: false,
            probe_names: Vec::new(),
            run_id: Some("run".to_owned()),
            robots: false,
            ..HttpOptions::default()
        };
        Self { origin, folder, options }
    }

    /// The same, and robots.txt is asked.
    pub(crate) fn with_robots(mut self) -> Self {
        self.options.robots = true;
        self
    }

    pub(crate) fn pipeline(&self) -> HttpPipeline {
        HttpPipeline::new(self.options.clone()).unwrap()
    }

    pub(crate) fn lane(&self, host: &str) -> Lane {
        Lane::new(self.origin.address(host).to_string()).unwrap()
    }

    pub(crate) fn path(&self, relative: &str) -> PathBuf {
        self.folder.path().join(relative)
    }

    /// A job for a PDF at this path of host `a`.
    pub(crate) fn job(&self, path: &str) -> Job {
        job(&json!({ "id": "x", "expect": "pdf", "url": self.origin.url("a", path) }))
    }

    /// The names of the parts that are there.
    pub(crate) fn parts(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.path(".longhaul/parts")).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// The manifest's lines.
    pub(crate) fn manifest(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.path("manifest.jsonl")).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Whether the file of an outcome's path is the document at this path of host `a`.
    pub(crate) fn assert_final(&self, fetched: &Fetched, path: &str) {
        let file = fetched.file.as_ref().unwrap();
        assert_eq!(std::fs::read(self.path(&file.path)).unwrap(), self.origin.document("a", path).whole());
    }
}

/// A server that hears what is said to it, word by word.
pub(crate) struct Ear(TcpListener);

impl Ear {
    pub(crate) async fn listen() -> Self {
        Self(TcpListener::bind("127.0.1.1:0").await.unwrap())
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.0.local_addr().unwrap())
    }

    /// Takes one request, answers it with these bytes, closes, and returns the request's head.
    pub(crate) async fn answer(&self, answer: &str) -> String {
        let (mut stream, _) = self.0.accept().await.unwrap();
        let mut asked = Vec::new();
        while !asked.ends_with(b"\r\n\r\n") {
            assert_ne!(stream.read_buf(&mut asked).await.unwrap(), 0, "the request broke off");
        }
        stream.write_all(answer.as_bytes()).await.unwrap();
        String::from_utf8(asked).unwrap()
    }
}

/// A text of this length that passes for a PDF.
pub(crate) fn pdf_text(bytes: usize) -> String {
    let (head, tail) = ("%PDF-1.7\n", "\n%%EOF\n");
    format!("{head}{}{tail}", "x".repeat(bytes - head.len() - tail.len()))
}

/// A document of exactly this many bytes.
pub(crate) fn pdf(bytes: u64) -> Answer {
    Answer::document(Shape::pdf(bytes))
}

pub(crate) fn job(record: &Value) -> Job {
    Job {
        number: 7,
        fence: 1,
        artifact_id: record["id"].as_str().unwrap().to_owned(),
        payload: record.to_string(),
        resolver_hint: None,
        attempt: 1,
        max_attempts: 3,
        checkpoint: None,
    }
}

/// The same job's next try.
pub(crate) fn next_try(job: &Job, checkpoint: Option<String>) -> Job {
    Job { fence: job.fence + 1, attempt: job.attempt + 1, checkpoint, ..job.clone() }
}

/// Runs a try; fails rather than hangs.
pub(crate) async fn run(pipeline: &HttpPipeline, job: &Job, desk: &Desk) -> RunResult {
    soon(pipeline.run(job, desk)).await
}

/// Bounds a wait for something that must happen soon.
pub(crate) async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), what).await.expect("it should have happened long ago")
}

pub(crate) fn done(result: &RunResult) -> &Fetched {
    match &result.outcome {
        Outcome::Done(fetched) => fetched,
        other => panic!("not done: {other:?}"),
    }
}

pub(crate) fn file(result: &RunResult) -> &PartFile {
    done(result).file.as_ref().unwrap()
}

pub(crate) fn failed(result: &RunResult) -> (Reason, FailureClass) {
    match &result.outcome {
        Outcome::Failed { reason, class, .. } => (*reason, *class),
        other => panic!("not failed: {other:?}"),
    }
}

pub(crate) fn skipped(result: &RunResult) -> Reason {
    match &result.outcome {
        Outcome::Skipped { reason, .. } => *reason,
        other => panic!("not skipped: {other:?}"),
    }
}

pub(crate) fn moved(result: &RunResult) -> &Move {
    match &result.outcome {
        Outcome::Moved(moved) => moved,
        other => panic!("not moved: {other:?}"),
    }
}

pub(crate) fn checkpoint(result: &RunResult) -> Option<String> {
    match &result.outcome {
        Outcome::Failed { checkpoint, .. } => checkpoint.clone(),
        Outcome::Moved(moved) => moved.checkpoint.clone(),
        Outcome::Done(_) | Outcome::Skipped { .. } => None,
    }
}

/// The reports in short: `served`, `failed`, `throttled`, `paced`.
pub(crate) fn reports(result: &RunResult) -> Vec<&'static str> {
    let word = |report: &HostReport| match report {
        HostReport::Served(_) => "served",
        HostReport::Failed { .. } => "failed",
        HostReport::Throttled { .. } => "throttled",
        HostReport::Paced { .. } => "paced",
    };
    result.hosts.iter().map(word).collect()
}

/// What the queue recorded of a try that is done.
pub(crate) fn ended(job: &Job, result: &RunResult) -> Ended {
    Ended {
        number: job.number,
        fence: job.fence,
        artifact_id: job.artifact_id.clone(),
        payload: job.payload.clone(),
        state: EndedState::Done,
        reason: "ok".to_owned(),
        detail: String::new(),
        attempts: job.attempt,
        resolver: None,
        fetched: Some(done(result).clone()),
        at_ms: 1_700_000_000_000,
        recovered: false,
    }
}

/// The same as it is read from the queue by the next process: through its serialised form.
pub(crate) fn recovered(ended: &Ended) -> Ended {
    let text = serde_json::to_string(&ended.fetched).unwrap();
    Ended { fetched: serde_json::from_str(&text).unwrap(), recovered: true, ..ended.clone() }
}
