//! A process that uses the store is killed at random moments: whatever was answered stands (INV-NO-LOSS,
//! INV-DURABLE-REPLY, INV-CONSERVE).
//!
//! A killed process keeps its page cache, so this shows that commits are whole and answered afterwards; that they are on
//! the disk by then is shown by the system calls, in `store_syscalls.rs`.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "the figures are part of what a proof shows")]

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use longhaul_limiter::SystemClock;
use longhaul_queue_core::{
    JobFilter, JobPage, JobRecord, JobState, QueueAdmin as _, SqliteOptions, SqliteQueue, StateCounts,
    Verdict, WorkQueue as _, WorkerId,
};
use longhaul_tests::size;
use serde_json::Value;

/// What the process said of one job.
#[derive(Debug, Default)]
struct Known {
    enqueued: bool,
    /// The last lease that was answered, and to whom.
    leased: Option<(i64, WorkerId)>,
    /// The last settlement that was sent, and whether it was answered.
    settled: Option<(i64, Verdict, bool)>,
    published: bool,
    /// Since the last lease: what was answered, and what was sent.
    checkpoint: (Option<String>, Option<String>),
}

/// What is known of all jobs, from all rounds.
#[derive(Debug, Default)]
struct Ledger {
    jobs: BTreeMap<String, Known>,
    answered: usize,
}

impl Ledger {
    fn job(&mut self, key: &Value) -> &mut Known {
        self.jobs.entry(key.as_str().unwrap().to_owned()).or_default()
    }

    fn read(&mut self, line: &Value) {
        let (what, about) = line.as_object().unwrap().iter().find(|(key, _)| !is_detail(key)).unwrap();
        let each = about.as_array().cloned().unwrap_or_default();
        self.answered += usize::from(!what.ends_with("ing"));
        match what.as_str() {
            "enqueuing" => each.iter().for_each(|key| self.job(key).enqueued = false),
            "enqueued" => each.iter().for_each(|key| self.job(key).enqueued = true),
            "leased" => {
                for job in &each {
                    let holder = WorkerId::from_text(line["worker"].as_str().unwrap());
                    let known = self.job(&job[0]);
                    (known.leased, known.checkpoint) =
                        (Some((job[1].as_i64().unwrap(), holder)), (None, None));
                }
            }
            "checkpointing" => self.job(about).checkpoint.1 = line["text"].as_str().map(str::to_owned),
            "checkpointed" => self.job(about).checkpoint.0 = line["text"].as_str().map(str::to_owned),
            "settling" => {
                for job in &each {
                    let verdict = serde_json::from_value(job[2].clone()).unwrap();
                    self.job(&job[0]).settled = Some((job[1].as_i64().unwrap(), verdict, false));
                }
            }
            "settled" => {
                for job in &each {
                    let settled = self.job(&job[0]).settled.as_mut().unwrap();
                    settled.2 |= job[1].as_i64() == Some(settled.0);
                }
            }
            "published" => each.iter().for_each(|key| self.job(key).published = true),
            "opened" => {}
            other => unreachable!("{other} is not said"),
        }
    }

    /// Compares what the store has with what was answered.
    fn check(&self, jobs: &BTreeMap<String, JobRecord>) {
        for key in jobs.keys() {
            assert!(self.jobs.contains_key(key), "{key} was never enqueued");
        }
        for (key, known) in &self.jobs {
            match jobs.get(key) {
                None => assert!(!known.enqueued, "{key} was accepted and is lost"),
                Some(job) => known.check(job),
            }
        }
    }
}

fn is_detail(key: &str) -> bool {
    matches!(key, "worker" | "text")
}

impl Known {
    fn check(&self, job: &JobRecord) {
        let fence = self.leased.as_ref().map_or(0, |(fence, _)| *fence);
        assert!(job.fence >= fence, "INV-FENCE: {job:?} has forgotten {self:?}");
        if let Some((settled, verdict, answered)) =
            self.settled.as_ref().filter(|(settled, ..)| *settled == fence)
        {
            if job.fence == *settled && is_settled(job, verdict) {
                assert!(job.published || !self.published, "{job:?} was published");
                return;
            }
            let to = JobState::InProgress.apply(verdict.event()).unwrap().to;
            // What is queued may have been leased again, in a call that was not answered.
            let went_on = !to.is_terminal() && job.fence > *settled;
            assert!(!answered || went_on, "{job:?} was settled otherwise: {self:?}");
        }
        if job.fence > fence || fence == 0 {
            return;
        }
        // Its lease was the last thing that was answered: it is held, or was swept when its process was dead.
        let holder = self.leased.as_ref().map(|(_, holder)| holder);
        let is_held = job.state == JobState::InProgress && job.worker.as_ref() == holder;
        let is_swept = job.state == JobState::Queued && job.reason.as_deref() == Some("lease-lost");
        assert!(is_held || is_swept, "{job:?} was leased: {self:?}");
        let (answered, sent) = &self.checkpoint;
        let kept = &job.checkpoint;
        let is_kept = kept == answered || kept == sent || answered.is_none();
        assert!(is_kept, "{job:?} has lost its checkpoint: {self:?}");
    }
}

/// Whether the row says what the verdict said.
fn is_settled(job: &JobRecord, verdict: &Verdict) -> bool {
    let to = JobState::InProgress.apply(verdict.event()).unwrap().to;
    let rest = match verdict {
        Verdict::Done { outcome, file, .. } => {
            let path = file.as_ref().map(|file| file.path.clone());
            job.outcome.as_ref() == Some(outcome) && job.path == path && job.sha256.is_some()
        }
        Verdict::Skipped { outcome, reason, .. } | Verdict::Error { outcome, reason, .. } => {
            job.outcome.as_ref() == Some(outcome) && job.reason.as_ref() == Some(reason)
        }
        Verdict::Retry { checkpoint, .. }
        | Verdict::Defer { checkpoint, .. }
        | Verdict::Throttled { checkpoint, .. }
        | Verdict::Release { checkpoint } => job.checkpoint == *checkpoint && job.worker.is_none(),
    };
    job.state == to && rest
}

/// Runs the process for a moment, kills it, and returns what it said.
fn run_and_kill(path: &Path, random: &mut fastrand::Rng) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_store-child"));
    command.arg(path).args(["random", &random.u64(..).to_string()]);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut pipe = child.stdout.take().unwrap();
    let said = std::thread::spawn(move || {
        let mut text = String::new();
        pipe.read_to_string(&mut text).unwrap();
        text
    });
    // tidy:allow-sleep: the random moment is the point; nothing of the process is waited for
    std::thread::sleep(Duration::from_micros(random.u64(5_000..700_000)));
    assert!(child.try_wait().unwrap().is_none(), "it ended before it was killed");
    child.kill().unwrap();
    child.wait().unwrap();
    said.join().unwrap()
}

async fn look(path: &Path) -> BTreeMap<String, JobRecord> {
    let queue = SqliteQueue::open(SqliteOptions::new(path), Arc::new(SystemClock)).await.unwrap();
    let problems = queue.check(false).await.unwrap().problems;
    assert_eq!(problems, Vec::<String>::new());
    let page = JobPage { after: None, limit: 10_000_000 };
    let jobs = queue.list(&JobFilter::default(), page).await.unwrap();
    let mut counts = StateCounts::default();
    for job in &jobs {
        *counts.get_mut(job.state) += 1;
    }
    assert_eq!(queue.stats().await.unwrap().counts, counts, "INV-CONSERVE");
    let known = queue.workers().await.unwrap();
    let is_known =
        |job: &&JobRecord| job.worker.as_ref().is_none_or(|id| known.iter().any(|row| row.id == *id));
    assert!(jobs.iter().all(|job| is_known(&job)), "a job is held by a process that no sweep finds");
    jobs.into_iter().map(|job| (job.artifact_id.to_string(), job)).collect()
}

#[tokio::test]
async fn inv_no_loss_what_the_store_answered_outlives_a_kill_at_any_moment() {
    let rounds = size(10, 200);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("queue.sqlite");
    let mut random = fastrand::Rng::new();
    println!("random moments from seed {}", random.get_seed());
    let (mut ledger, mut jobs) = (Ledger::default(), BTreeMap::new());
    for _ in 0..rounds {
        let said = run_and_kill(&path, &mut random);
        // The last line may be torn; it was not said, then.
        let whole = &said[..said.rfind('\n').map_or(0, |end| end + 1)];
        whole.lines().for_each(|line| ledger.read(&serde_json::from_str(line).expect(line)));
        jobs = look(&path).await;
        ledger.check(&jobs);
    }
    let count = |state| jobs.values().filter(|job: &&JobRecord| job.state == state).count();
    let losses: u32 = jobs.values().map(|job| job.losses).sum();
    println!(
        "{rounds} kills, {} answered calls, {} jobs ({} done), {losses} losses",
        ledger.answered,
        jobs.len(),
        count(JobState::Done)
    );
    assert!(
        ledger.answered > 10 * rounds && count(JobState::Done) > 0,
        "too little happened to prove anything"
    );
}
