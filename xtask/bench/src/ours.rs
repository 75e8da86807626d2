//! longhaul's store, as the parts use it: opened, filled, worked by hand.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use longhaul_limiter::{LaneRules, SystemClock};
use longhaul_queue_core::{
    Answer, Critical, Durability, LeaseRequest, LeasedJob, NewJob, RequestNumber, Settlement, SqliteOptions,
    SqliteQueue, Verdict, WorkQueue as _, WorkerId, WorkerInfo,
};

use crate::shape::{self, Shape};

/// A queue, opened in a file that is made if it is missing.
pub(crate) async fn open(path: &Path, full: bool) -> Result<SqliteQueue> {
    let durability = if full { Durability::Full } else { Durability::Normal };
    let options = SqliteOptions::new(path).durability(durability);
    Ok(SqliteQueue::open(options, Arc::new(SystemClock)).await?)
}

/// Enqueues the whole shape.
pub(crate) async fn fill(queue: &SqliteQueue, shape: Shape) -> Result<()> {
    for first in (0..shape.jobs).step_by(1_000) {
        let jobs: Result<Vec<NewJob>> =
            (first..shape.jobs.min(first + 1_000)).map(|job| shape::new_job(shape, job)).collect();
        queue.enqueue(&jobs?).await?;
    }
    Ok(())
}

/// A worker process that leases and settles by hand.
#[derive(Debug)]
pub(crate) struct Hand<'q> {
    queue: &'q SqliteQueue,
    worker: WorkerId,
    requests: i64,
    rules: Arc<LaneRules>,
}

impl<'q> Hand<'q> {
    pub(crate) async fn join(queue: &'q SqliteQueue) -> Result<Self> {
        let info = WorkerInfo {
            id: WorkerId::random(),
            host: "bench".to_owned(),
            pid: std::process::id(),
            version: "bench".to_owned(),
            store: None,
            limits: None,
        };
        queue.join(&info, Duration::from_hours(1)).await?;
        Ok(Self { queue, worker: info.id, requests: 0, rules: Arc::new(LaneRules::unlimited()) })
    }

    fn request(&mut self, max: usize) -> LeaseRequest {
        self.requests += 1;
        LeaseRequest {
            worker: self.worker.clone(),
            number: RequestNumber(self.requests),
            max,
            ahead: 0,
            alone: false,
            max_losses: 5,
            rules: Arc::clone(&self.rules),
            lead: Duration::ZERO,
            critical: Critical::default(),
            started: Vec::new(),
        }
    }

    /// Leases and settles `jobs`, 64 at a time, both in one commit. Returns how many it did.
    pub(crate) async fn work(&mut self, jobs: usize) -> Result<usize> {
        const BATCH: usize = 64;
        let request = self.request(BATCH.min(jobs));
        let mut held = self.queue.lease(&request).await?.jobs;
        let mut done = 0;
        while !held.is_empty() {
            let settlements: Vec<Settlement> = held.iter().map(settlement).collect();
            done += held.len();
            let request = self.request(BATCH.min(jobs - done).max(1));
            let then = Some(&request).filter(|_| done < jobs);
            let settled = self.queue.settle(&settlements, then).await?;
            ensure!(
                settled.answers.iter().all(|answer| matches!(answer, Answer::Recorded(_))),
                "a settlement was not recorded"
            );
            held = settled.batch.map_or(Vec::new(), |batch| batch.jobs);
        }
        Ok(done)
    }

    pub(crate) async fn leave(self) -> Result<()> {
        Ok(self.queue.leave(&self.worker).await?)
    }
}

fn settlement(job: &LeasedJob) -> Settlement {
    let verdict = Verdict::Done { reason: "ok".to_owned(), outcome: "{}".to_owned(), file: None };
    Settlement::new(job.token, verdict)
}

/// Removes a database and what lies beside it.
pub(crate) fn remove(path: &Path) {
    let name = |suffix: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        std::path::PathBuf::from(name)
    };
    for suffix in ["", "-wal", "-shm"] {
        // What is not there need not be removed; what cannot be removed fails the next open.
        let _ = std::fs::remove_file(name(suffix));
    }
    let _ = std::fs::remove_dir_all(name(".locks"));
}
