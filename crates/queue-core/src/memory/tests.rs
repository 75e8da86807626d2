//! What is true of the reference model alone; all else is in the conformance suite.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;

use longhaul_limiter::ManualClock;

use super::*;
use crate::{Critical, Place, RequestNumber, Role, WorkQueueExt};

const TTL: Duration = Duration::from_mins(1);

fn queue() -> MemoryQueue {
    MemoryQueue::new(Arc::new(ManualClock::new()))
}

fn jobs(count: usize, lanes: usize) -> Vec<NewJob> {
    let job = |number: usize| {
        let place = Place::new(Lane::new(format!("h{}.example", number % lanes)).unwrap(), Role::Artifact);
        NewJob::new(ArtifactId::new(format!("{number}")).unwrap(), "{}").at(place)
    };
    (0..count).map(job).collect()
}

async fn join(queue: &MemoryQueue) -> WorkerId {
    let id = WorkerId::from_text("w");
    let worker = WorkerInfo {
        id: id.clone(),
        host: "h".to_owned(),
        pid: 1,
        version: "1".to_owned(),
        store: None,
        limits: None,
    };
    queue.join(&worker, TTL).await.unwrap();
    id
}

fn request(worker: &WorkerId, number: i64, max: usize, rules: LaneRules) -> LeaseRequest {
    let (worker, number) = (worker.clone(), RequestNumber(number));
    LeaseRequest {
        worker,
        number,
        max,
        ahead: 0,
        alone: false,
        max_losses: 5,
        rules: Arc::new(rules),
        lead: Duration::ZERO,
        critical: Critical::default(),
        started: Vec::new(),
    }
}

#[tokio::test]
async fn a_process_that_keys_otherwise_is_refused() {
    let ours = Keying { registrable_domain: true, ..Keying::default() };
    let queue = MemoryQueue::with_keying(Arc::new(ManualClock::new()), ours.clone());
    let worker = join(&queue).await;
    queue.enqueue(&jobs(1, 1)).await.unwrap();
    let refused = queue.lease(&request(&worker, 1, 1, LaneRules::unlimited())).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Conflict);
    let rules = LaneRules { keying: ours, ..LaneRules::unlimited() };
    assert_eq!(queue.lease(&request(&worker, 2, 1, rules)).await.unwrap().jobs.len(), 1);
}

/// A check that could find nothing would prove nothing.
#[tokio::test]
async fn a_check_finds_and_mends_whatever_is_derived() {
    type Break = fn(&mut Model);
    let breaks: [(&str, Break); 5] = [
        ("counts by state", |model| model.counts.done += 1),
        ("queued jobs", |model| model.queued.clear()),
        ("slots taken", |model| model.slots.clear()),
        ("held jobs", |model| model.workers.values_mut().for_each(|worker| worker.held.clear())),
        ("turns", |model| model.turns.end(&Lane::new("h2.example").unwrap(), 0)),
    ];
    for (what, plant) in breaks {
        let queue = queue();
        let worker = join(&queue).await;
        queue.enqueue(&jobs(6, 3)).await.unwrap();
        queue.lease(&request(&worker, 1, 2, LaneRules::unlimited())).await.unwrap();
        assert_eq!(queue.check(false).await.unwrap(), QueueCheck::default());
        plant(&mut queue.shared.lock().unwrap().model);
        let found = queue.check(true).await.unwrap();
        assert!(found.repaired && found.problems[0].starts_with(what), "{what}: {found:?}");
        assert_eq!(queue.check(false).await.unwrap(), QueueCheck::default(), "{what} is mended");
    }
}

#[tokio::test]
async fn a_dropped_wait_leaves_no_waker_behind() {
    let queue = queue();
    let epoch = Epoch(queue.shared.lock().unwrap().model.epoch);
    let waiting = || queue.shared.lock().unwrap().watchers.len();
    {
        let mut one = pin!(queue.changed(epoch));
        let mut two = pin!(queue.changed(epoch));
        for _ in 0..3 {
            assert!(poll_once(one.as_mut()).await.is_pending());
            assert!(poll_once(two.as_mut()).await.is_pending());
        }
        assert_eq!(waiting(), 2);
    }
    assert_eq!(waiting(), 0);
}

async fn poll_once<F: Future>(mut future: Pin<&mut F>) -> Poll<F::Output> {
    poll_fn(|context| Poll::Ready(future.as_mut().poll(context))).await
}

/// Fast enough to be an oracle and a simulator's store: no call looks at all jobs or all lanes.
#[tokio::test]
async fn a_hundred_thousand_jobs_are_drained() {
    let queue = queue();
    let worker = join(&queue).await;
    queue.enqueue(&jobs(100_000, 2_000)).await.unwrap();
    let mut number = 0;
    let mut held = Vec::new();
    loop {
        number += 1;
        let done = |job: &crate::LeasedJob| {
            let verdict =
                crate::Verdict::Done { reason: "ok".to_owned(), outcome: String::new(), file: None };
            Settlement::new(job.token, verdict)
        };
        let settlements: Vec<Settlement> = held.iter().map(done).collect();
        let then = request(&worker, number, 100, LaneRules::unlimited());
        let settled = queue.settle(&settlements, Some(&then)).await.unwrap();
        held = settled.batch.unwrap().jobs;
        if held.is_empty() {
            break;
        }
    }
    assert_eq!(queue.stats().await.unwrap().counts.done, 100_000);
    assert_eq!(queue.check(false).await.unwrap(), QueueCheck::default());
    assert!(matches!(queue.enqueue_one(jobs(1, 1).remove(0)).await.unwrap(), Enqueued::Duplicate(_)));
}
