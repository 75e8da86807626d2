//! A bad connection, and what a caller that repeats its calls makes of it.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![cfg(all(feature = "fakes", feature = "sqlite"))]

use std::sync::Arc;
use std::time::Duration;

use longhaul_limiter::ManualClock;
use longhaul_queue_core::{
    Answer, ArtifactId, Critical, Enqueued, ErrorKind, FlakyPlan, FlakyQueue, JobFilter, JobPage, JobState,
    Lane, LaneRules, LeaseRequest, MemoryQueue, NewJob, Place, QueueAdmin, RequestNumber, Result, Role,
    Settlement, SqliteOptions, SqliteQueue, Verdict, WorkQueue, WorkQueueExt as _, WorkerId, WorkerInfo,
};

const TTL: Duration = Duration::from_mins(2);
const JOBS: usize = 60;

fn job(number: usize) -> NewJob {
    let lane = Lane::new(format!("h{}.example", number % 5)).unwrap();
    NewJob::new(ArtifactId::new(format!("a{number}")).unwrap(), "{}").at(Place::new(lane, Role::Artifact))
}

fn memory() -> MemoryQueue {
    MemoryQueue::new(Arc::new(ManualClock::new()))
}

#[tokio::test]
async fn what_is_refused_was_not_done_and_what_is_lost_was() {
    let queue = FlakyQueue::new(memory(), FlakyPlan::default());
    queue.refuse_next(1);
    queue.lose_next(1);
    let refused = queue.enqueue_one(job(0)).await.unwrap_err();
    assert_eq!(queue.inner().stats().await.unwrap().counts.total(), 0);
    let lost = queue.enqueue_one(job(0)).await.unwrap_err();
    assert_eq!(queue.inner().stats().await.unwrap().counts.total(), 1);
    for error in [refused, lost] {
        assert!(error.kind() == ErrorKind::Unavailable && error.is_retryable(), "{error}");
    }
    assert!(matches!(queue.enqueue_one(job(0)).await.unwrap(), Enqueued::Duplicate(_)));
    assert_eq!((queue.refused(), queue.lost()), (1, 1));
}

/// An error of the queue itself is not covered up by a lost reply.
#[tokio::test]
async fn a_call_that_fails_by_itself_fails_as_it_would() {
    let queue = FlakyQueue::new(memory(), FlakyPlan::default());
    queue.lose_next(1);
    let error = queue.heartbeat(&WorkerId::from_text("stranger"), TTL).await.unwrap_err();
    assert_eq!((error.kind(), queue.lost()), (ErrorKind::NotFound, 0));
}

#[tokio::test]
async fn the_same_plan_does_the_same_again() {
    let fates = async |seed| {
        let queue = FlakyQueue::new(memory(), FlakyPlan { seed, refuse_one_in: 3, lose_one_in: 4 });
        let mut fates = Vec::new();
        for number in 0..200 {
            fates.push(queue.enqueue_one(job(number)).await.is_ok());
        }
        assert!(queue.refused() > 20 && queue.lost() > 10, "{queue:?}");
        fates
    };
    assert_eq!(fates(1).await, fates(1).await);
    assert_ne!(fates(1).await, fates(2).await);
}

/// Makes a call until it is answered.
async fn answered<T>(mut call: impl AsyncFnMut() -> Result<T>) -> T {
    for _ in 0..1_000 {
        match call().await {
            Ok(answer) => return answer,
            Err(error) => assert!(error.is_retryable(), "{error}"),
        }
    }
    panic!("a thousand calls failed");
}

/// One worker that works everything off, whatever it has to repeat. The same request keeps its number.
async fn work_off(queue: &(impl WorkQueue + QueueAdmin)) {
    let info = WorkerInfo {
        id: WorkerId::from_text("w"),
        host: "here".into(),
        pid: 1,
        version: "0".into(),
        store: None,
        limits: None,
    };
    let request = |number| LeaseRequest {
        worker: info.id.clone(),
        number: RequestNumber(number),
        max: 7,
        ahead: 0,
        alone: false,
        max_losses: 5,
        rules: Arc::new(LaneRules::unlimited()),
        lead: Duration::ZERO,
        critical: Critical::default(),
        started: Vec::new(),
    };
    let jobs: Vec<NewJob> = (0..JOBS).map(job).collect();
    answered(async || queue.enqueue(&jobs).await).await;
    answered(async || queue.join(&info, TTL).await).await;
    let mut held = answered(async || queue.lease(&request(0)).await).await.jobs;
    for number in 1.. {
        let settlements: Vec<Settlement> = held
            .iter()
            .map(|job| {
                let verdict =
                    Verdict::Done { reason: "ok".into(), outcome: job.artifact_id.to_string(), file: None };
                Settlement::new(job.token, verdict)
            })
            .collect();
        let then = request(number);
        let settled = answered(async || queue.settle(&settlements, Some(&then)).await).await;
        assert!(
            settled.answers.iter().all(|answer| *answer == Answer::Recorded(JobState::Done)),
            "{settled:?}"
        );
        assert_eq!(answered(async || queue.heartbeat(&info.id, TTL).await).await.held, {
            held = settled.batch.unwrap().jobs;
            held.len() as u64
        });
        if held.is_empty() {
            break;
        }
        assert!(number <= 2 * JOBS as i64, "it never ends");
    }
    answered(async || queue.leave(&info.id).await).await;
    let page = JobPage { after: None, limit: 2 * JOBS };
    let all = answered(async || queue.list(&JobFilter::default(), page).await).await;
    assert_eq!(all.len(), JOBS);
    for job in all {
        let record = (job.state, job.fence, job.attempts, job.losses);
        assert_eq!(record, (JobState::Done, 1, 0, 0), "{}: it was run twice", job.artifact_id);
        assert_eq!(job.outcome, Some(job.artifact_id.to_string()));
    }
    assert_eq!(answered(async || queue.check(false).await).await.problems, [""; 0]);
}

const fn bad(seed: u64) -> FlakyPlan {
    FlakyPlan { seed, refuse_one_in: 4, lose_one_in: 3 }
}

/// INV-FENCE, INV-NO-LOSS: repeating every call that was not answered loses nothing and does nothing twice.
#[tokio::test]
async fn inv_no_loss_a_caller_that_repeats_its_calls_runs_each_job_once() {
    for seed in 0..50 {
        let queue = FlakyQueue::new(memory(), bad(seed));
        work_off(&queue).await;
        assert!(queue.refused() > 0 && queue.lost() > 0, "{queue:?}");
    }
}

#[tokio::test]
async fn inv_no_loss_a_caller_that_repeats_its_calls_runs_each_job_once_on_sqlite() {
    for seed in 0..3 {
        let folder = tempfile::tempdir().unwrap();
        let options = SqliteOptions::new(folder.path().join("queue.sqlite"));
        let inner = SqliteQueue::open(options, Arc::new(ManualClock::new())).await.unwrap();
        work_off(&FlakyQueue::new(inner, bad(seed))).await;
    }
}
