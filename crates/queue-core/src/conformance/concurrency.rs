//! Many calls at once, over several handles.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures_util::future::join_all;

use super::rules::capped;
use super::test_store::{done, id, job, worker_info};
use super::{QueueHandle, TestStore, test_store::TTL};
use crate::{Answer, Enqueued, JobState, Settlement, WorkerId};

/// As many processes, each with a handle of its own.
async fn processes(store: &TestStore, count: usize) -> Vec<(WorkerId, Arc<dyn QueueHandle>)> {
    let mut processes = Vec::new();
    for number in 0..count {
        let handle = store.another().await;
        let info = worker_info(&format!("w{number}"));
        handle.join(&info, TTL).await.unwrap();
        processes.push((info.id, handle));
    }
    processes
}

pub(super) async fn inv_fence_no_job_is_given_twice(store: &TestStore) {
    let processes = processes(store, 4).await;
    store.enqueue_many("a.example", 50).await;
    store.enqueue_many("b.example", 50).await;
    let leases = processes.iter().map(|(worker, handle)| {
        let requests: Vec<_> = (0..3).map(|_| store.request(worker, 10)).collect();
        async move { join_all(requests.iter().map(|request| handle.lease(request))).await }
    });
    let batches = join_all(leases).await;
    let jobs: Vec<_> = batches.into_iter().flatten().flat_map(|batch| batch.unwrap().jobs).collect();
    let distinct: BTreeSet<_> = jobs.iter().map(|job| job.token.job).collect();
    assert_eq!((jobs.len(), distinct.len()), (100, 100));
    assert!(jobs.iter().all(|job| job.token.fence == 1));
}

pub(super) async fn inv_cap_holds_when_all_ask_at_once(store: &TestStore) {
    let processes = processes(store, 4).await;
    for host in ["a.example", "b.example", "c.example"] {
        store.enqueue_many(host, 20).await;
    }
    let requests: Vec<_> =
        processes.iter().map(|(worker, _)| store.request_by(worker, 10, &capped(3))).collect();
    let leases = processes.iter().zip(&requests).map(|((_, handle), request)| handle.lease(request));
    let mut taken: BTreeMap<String, usize> = BTreeMap::new();
    for batch in join_all(leases).await {
        for job in batch.unwrap().jobs {
            *taken.entry(job.place.lane.to_string()).or_default() += 1;
        }
    }
    assert_eq!(taken.into_values().collect::<Vec<_>>(), [3, 3, 3]);
}

pub(super) async fn inv_idempotent_producers_may_race(store: &TestStore) {
    let handles = [store.another().await, store.another().await, store.another().await];
    let jobs: Vec<_> = (0..40).map(|number| job(&format!("{number}"), "a.example")).collect();
    let answers = join_all(handles.iter().map(|handle| handle.enqueue(&jobs))).await;
    let answers: Vec<Vec<Enqueued>> = answers.into_iter().map(Result::unwrap).collect();
    for number in 0..jobs.len() {
        let new = answers.iter().filter(|answers| matches!(answers[number], Enqueued::New(_))).count();
        assert_eq!(new, 1, "job {number}");
    }
    assert_eq!(store.counts().await.queued, 40);
}

/// Processes work side by side until nothing is left: each job ends once, the cap holds at each step.
pub(super) async fn inv_no_loss_processes_drain_a_queue_together(store: &TestStore) {
    let processes = processes(store, 3).await;
    for host in ["a.example", "b.example", ""] {
        store.enqueue_many(host, 40).await;
    }
    let run = |worker: WorkerId, handle: Arc<dyn QueueHandle>| async move {
        let mut ended = Vec::new();
        let mut held = handle.lease(&store.request_by(&worker, 4, &capped(2))).await.unwrap().jobs;
        // Others may hold all slots for a while: it goes on asking until the queue is empty.
        for round in 0.. {
            if held.is_empty() && store.counts().await.queued == 0 {
                break;
            }
            assert!(round < 10_000, "what is queued is never given");
            let settlements: Vec<_> = held.iter().map(|job| Settlement::new(job.token, done())).collect();
            let then = store.request_by(&worker, 4, &capped(2));
            let settled = handle.settle(&settlements, Some(&then)).await.unwrap();
            assert!(settled.answers.iter().all(|answer| *answer == Answer::Recorded(JobState::Done)));
            ended.extend(held.iter().map(|job| job.artifact_id.clone()));
            held = settled.batch.unwrap().jobs;
            for host in ["a.example", "b.example"] {
                let in_flight = store.lane_row(host).await.map_or(0, |row| row.in_flight);
                assert!(in_flight <= 2, "{in_flight} in {host}");
            }
        }
        ended
    };
    let runs = processes.into_iter().map(|(worker, handle)| run(worker, handle));
    let ended: Vec<_> = join_all(runs).await.into_iter().flatten().collect();
    assert_eq!(ended.len(), 120);
    assert_eq!(ended.iter().collect::<BTreeSet<_>>().len(), 120);
    assert_eq!(store.counts().await.done, 120);
}

pub(super) async fn inv_fence_of_two_that_settle_at_once_one_wins(store: &TestStore) {
    let (one, two) = (store.another().await, store.another().await);
    let worker = store.join("w").await;
    store.enqueue("a.example", &["a"]).await;
    let job = store.lease_one(&worker).await;
    let ack = [Settlement::new(job.token, done())];
    let ids = [id("a")];
    let (settled, cancelled) = futures_util::future::join(one.settle(&ack, None), two.cancel(&ids)).await;
    let answer = settled.unwrap().answers[0];
    let state = store.state("a").await;
    match cancelled.unwrap() {
        0 => assert_eq!((answer, state), (Answer::Recorded(JobState::Done), JobState::Done)),
        _ => assert_eq!((answer, state), (Answer::LeaseLost, JobState::Skipped)),
    }
}
