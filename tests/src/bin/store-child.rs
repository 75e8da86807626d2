//! A process that uses a queue, for tests that kill it, watch its system calls, or take its disk away.
//!
//! `store-child QUEUE MODE`: `random SEED`, `once full|normal`, `try KEY`, `bounded BYTES`, `full-disk FOLDER`. It says on stdout, a
//! line each, what it is about to do and what was answered; a line is one write, and nothing is said before its time.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test's process fails by panicking"
)]
#![allow(clippy::print_stdout, reason = "stdout is how it is understood")]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use fastrand::Rng;
use longhaul_limiter::SystemClock;
use longhaul_queue_core::{
    Answer, ArtifactId, Critical, Durability, Enqueued, JobState, Lane, LaneRules, LeaseRequest, LeasedJob,
    NewJob, Place, QueueError, RequestNumber, Role, Settlement, SqliteOptions, SqliteQueue, StoreId,
    StoredFile, Verdict, WorkQueue as _, WorkQueueExt as _, WorkerId, WorkerInfo,
};
use serde_json::{Value, json};

const TTL: Duration = Duration::from_mins(1);
/// Workers at once, so that calls share commits.
const TASKS: u64 = 4;
/// A worker that holds so many settles some.
const HELD_MAX: usize = 10;
/// Jobs beyond what was leased; more would only make the queue longer.
const AHEAD_MAX: i64 = 60;

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        [path, "random", seed] => random(path, seed.parse().unwrap()).await,
        [path, "once", durability] => once(path, durability).await,
        [path, "try", key] => match open(path, Durability::Full).await {
            Ok(queue) => {
                try_enqueue(&queue, key).await;
            }
            Err(error) => say_failed(key, &error),
        },
        [path, "bounded", bytes] => bounded(path, bytes.parse().unwrap()).await,
        [path, "full-disk", folder] => full_disk(path, Path::new(folder)).await,
        _ => panic!("usage: store-child QUEUE MODE"),
    }
}

fn say(line: &Value) {
    println!("{line}");
}

async fn open(path: &str, durability: Durability) -> Result<SqliteQueue, QueueError> {
    SqliteQueue::open(SqliteOptions::new(path).durability(durability), Arc::new(SystemClock)).await
}

fn worker() -> WorkerInfo {
    let (id, pid) = (WorkerId::random(), std::process::id());
    WorkerInfo {
        id,
        host: "here".to_owned(),
        pid,
        version: "test".to_owned(),
        store: Some(StoreId("s".to_owned())),
        limits: None,
    }
}

fn request(worker: &WorkerId, number: i64, max: usize) -> LeaseRequest {
    LeaseRequest {
        worker: worker.clone(),
        number: RequestNumber(number),
        max,
        ahead: 2,
        alone: false,
        max_losses: u32::MAX,
        rules: Arc::new(LaneRules::unlimited()),
        lead: Duration::ZERO,
        critical: Critical::default(),
        started: Vec::new(),
    }
}

fn job(key: &str, lane: u64) -> NewJob {
    let lane = Lane::new(format!("h{lane}.example")).unwrap();
    NewJob::new(ArtifactId::new(key).unwrap(), format!("{{\"key\":\"{key}\"}}"))
        .at(Place::new(lane, Role::Artifact))
}

/// Random operations until it is killed.
async fn random(path: &str, seed: u64) {
    let queue = open(path, Durability::Full).await.unwrap();
    say(&json!({ "opened": seed }));
    let ahead = Arc::new(AtomicI64::new(0));
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..TASKS {
        let (queue, ahead) = (queue.clone(), Arc::clone(&ahead));
        let random = Rng::with_seed(seed.wrapping_mul(TASKS).wrapping_add(task));
        let actor = Actor {
            queue,
            random,
            name: format!("{seed:x}-{task}"),
            worker: worker().id,
            number: 0,
            keys: 0,
            held: Vec::new(),
            done: Vec::new(),
            ahead,
        };
        tasks.spawn(actor.act());
    }
    tasks.join_next().await.unwrap().unwrap();
}

struct Actor {
    queue: SqliteQueue,
    random: Rng,
    name: String,
    worker: WorkerId,
    number: i64,
    keys: u64,
    held: Vec<LeasedJob>,
    /// Ended, and not published.
    done: Vec<LeasedJob>,
    ahead: Arc<AtomicI64>,
}

impl Actor {
    async fn act(mut self) {
        let info = WorkerInfo { id: self.worker.clone(), ..worker() };
        self.queue.join(&info, TTL).await.unwrap();
        loop {
            match self.random.u32(0..10) {
                0..3 if self.ahead.load(Ordering::Relaxed) < AHEAD_MAX => self.enqueue().await,
                0..6 if self.held.len() < HELD_MAX => {
                    let request = self.request();
                    let batch = self.queue.lease(&request).await.unwrap();
                    self.leased(batch.jobs);
                }
                6 => self.checkpoint().await,
                7 => self.publish().await,
                8 => drop(self.queue.heartbeat(&self.worker, TTL).await.unwrap()),
                _ => self.settle().await,
            }
        }
    }

    fn request(&mut self) -> LeaseRequest {
        self.number += 1;
        let alone = self.held.is_empty() && self.random.bool();
        LeaseRequest { alone, ..request(&self.worker, self.number, self.random.usize(1..8)) }
    }

    async fn enqueue(&mut self) {
        let keys: Vec<String> = (0..self.random.u64(1..8))
            .map(|_| {
                self.keys += 1;
                format!("{}-{}", self.name, self.keys)
            })
            .collect();
        let jobs: Vec<NewJob> = keys.iter().map(|key| job(key, self.random.u64(0..6))).collect();
        say(&json!({ "enqueuing": keys }));
        let answers = self.queue.enqueue(&jobs).await.unwrap();
        assert!(answers.iter().all(|answer| matches!(answer, Enqueued::New(_))));
        self.ahead.fetch_add(keys.len() as i64, Ordering::Relaxed);
        say(&json!({ "enqueued": keys }));
    }

    fn leased(&mut self, jobs: Vec<LeasedJob>) {
        self.ahead.fetch_sub(jobs.len() as i64, Ordering::Relaxed);
        let named: Vec<Value> = jobs.iter().map(|job| json!([job.artifact_id, job.token.fence])).collect();
        say(&json!({ "leased": named, "worker": self.worker }));
        self.held.extend(jobs);
    }

    async fn checkpoint(&mut self) {
        let Some(job) = self.random.choice(&self.held).cloned() else { return };
        let text = format!("checkpoint {}", self.random.u64(..));
        say(&json!({ "checkpointing": job.artifact_id, "text": text }));
        assert!(self.queue.checkpoint(&job.token, &text).await.unwrap());
        say(&json!({ "checkpointed": job.artifact_id, "text": text }));
    }

    async fn publish(&mut self) {
        let jobs = std::mem::take(&mut self.done);
        let ids: Vec<_> = jobs.iter().map(|job| job.token.job).collect();
        self.queue.published(&ids).await.unwrap();
        let keys: Vec<_> = jobs.iter().map(|job| &job.artifact_id).collect();
        say(&json!({ "published": keys }));
    }

    async fn settle(&mut self) {
        let most = self.random.usize(0..=self.held.len());
        let jobs: Vec<LeasedJob> = self.held.drain(..most).collect();
        let verdicts: Vec<Verdict> = jobs.iter().map(|job| verdict(&mut self.random, job)).collect();
        let settlements: Vec<Settlement> = jobs
            .iter()
            .zip(&verdicts)
            .map(|(job, verdict)| Settlement::new(job.token, verdict.clone()))
            .collect();
        let said: Vec<Value> = jobs
            .iter()
            .zip(&verdicts)
            .map(|(job, verdict)| json!([job.artifact_id, job.token.fence, verdict]))
            .collect();
        let then = self.random.bool().then(|| self.request());
        say(&json!({ "settling": said }));
        let settled = self.queue.settle(&settlements, then.as_ref()).await.unwrap();
        // With the fence: meanwhile another task may have leased the job again, and be settling it.
        let claims: Vec<_> = jobs.iter().map(|job| json!([job.artifact_id, job.token.fence])).collect();
        say(&json!({ "settled": claims }));
        for (job, answer) in jobs.iter().zip(settled.answers) {
            match answer {
                Answer::Recorded(JobState::Queued) => {
                    self.ahead.fetch_add(1, Ordering::Relaxed);
                }
                Answer::Recorded(_) => self.done.push(job.clone()),
                other => panic!("{other:?} for {}", job.artifact_id),
            }
        }
        self.leased(settled.batch.map(|batch| batch.jobs).unwrap_or_default());
    }
}

fn verdict(random: &mut Rng, job: &LeasedJob) -> Verdict {
    let (outcome, detail) = (format!("{{\"n\":{}}}", random.u32(..)), "as it was told".to_owned());
    match random.u32(0..10) {
        0..4 => {
            let file = StoredFile {
                store: StoreId("store".to_owned()),
                path: format!("{}-{}.pdf", job.artifact_id, random.u32(..)),
                sha256: "00".repeat(32),
            };
            Verdict::Done { reason: "ok".to_owned(), outcome, file: Some(file) }
        }
        4 => Verdict::Skipped { reason: "robots".to_owned(), outcome, detail },
        5 => Verdict::Error { reason: "gone".to_owned(), outcome, detail },
        6 => Verdict::Retry {
            after: Duration::ZERO,
            reason: "timeout".to_owned(),
            detail,
            place: None,
            checkpoint: Some(outcome),
        },
        7 => Verdict::Defer { after: Duration::ZERO, place: job.place.clone(), checkpoint: Some(outcome) },
        8 => Verdict::Throttled { detail, place: None, checkpoint: Some(outcome) },
        _ => Verdict::Release { checkpoint: Some(outcome) },
    }
}

/// One enqueue and one settlement, each followed by its line.
async fn once(path: &str, durability: &str) {
    let durability = if durability == "full" { Durability::Full } else { Durability::Normal };
    let queue = open(path, durability).await.unwrap();
    let info = worker();
    queue.join(&info, TTL).await.unwrap();
    // The first write into a new log also writes and syncs its header, whatever the durability.
    queue.enqueue_one(job("first", 0)).await.unwrap();
    let held = queue.lease(&request(&info.id, 1, 1)).await.unwrap().jobs.remove(0);
    println!("mark: begin");
    queue.enqueue_one(job("second", 0)).await.unwrap();
    println!("mark: enqueued");
    queue.ack(held.token, "{}", None).await.unwrap();
    println!("mark: settled");
}

/// Enqueues one job, and says what came of it.
async fn try_enqueue(queue: &SqliteQueue, key: &str) -> bool {
    let payload = "x".repeat(20_000);
    let job = NewJob { payload: format!("\"{payload}\""), ..job(key, 0) };
    match queue.enqueue_one(job).await {
        Ok(_) => {
            say(&json!({ "enqueued": key }));
            true
        }
        Err(error) => {
            say_failed(key, &error);
            false
        }
    }
}

fn say_failed(key: &str, error: &QueueError) {
    let (kind, retryable) = (format!("{:?}", error.kind()), error.is_retryable());
    say(&json!({ "failed": key, "kind": kind, "retryable": retryable, "message": error.to_string() }));
}

/// Enqueues until there is no room, makes some by `make_room`, and goes on.
async fn run_out_of_room(queue: &SqliteQueue, make_room: impl FnOnce()) {
    let mut keys = (0..10_000).map(|number| format!("k{number}"));
    let refused = loop {
        let key = keys.next().expect("the room ends");
        if !try_enqueue(queue, &key).await {
            break key;
        }
    };
    // Still without room, the store answers what needs none.
    say(&json!({ "total": queue.stats().await.unwrap().counts.total() }));
    assert!(!try_enqueue(queue, &refused).await, "there is no room yet");
    make_room();
    assert!(try_enqueue(queue, &refused).await, "there is room again");
    say(&json!({ "total": queue.stats().await.unwrap().counts.total() }));
}

/// No file of this process may be longer; later any.
async fn bounded(path: &str, bytes: u64) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    // Not to be ended by the signal that comes with the refusal.
    let _signals = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::from_raw(25)).unwrap();
    let queue = open(path, Durability::Full).await.unwrap();
    let before = getrlimit(Resource::Fsize);
    setrlimit(Resource::Fsize, Rlimit { current: Some(bytes), maximum: before.maximum }).unwrap();
    run_out_of_room(&queue, || setrlimit(Resource::Fsize, before).unwrap()).await;
}

/// The disk is as small as whoever mounted it made it; a file on it is removed later.
async fn full_disk(path: &str, folder: &Path) {
    let ballast = folder.join("ballast");
    std::fs::write(&ballast, vec![1; 200_000]).unwrap();
    let queue = open(path, Durability::Full).await.unwrap();
    run_out_of_room(&queue, || std::fs::remove_file(&ballast).unwrap()).await;
}
