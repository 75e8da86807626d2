//! What becomes of jobs whose process died (INV-NO-LOSS, INV-ATTEMPTS).

use std::time::Duration;

use super::TestStore;
use super::rules::{capped, lane};
use super::test_store::{assert_wait, done, names, only};
use crate::{Answer, JobPage, JobState, LeaseRequest, LeasedJob, StoreId, WorkerId};

/// A process leases the job, alone if it must, and dies.
async fn die_with_it(store: &TestStore, process: &str, alone: bool) -> LeasedJob {
    let worker = store.join(process).await;
    let request = LeaseRequest { alone, ..store.request(&worker, 1) };
    let job = only(store.batch(&request).await.jobs);
    store.advance_secs(60);
    job
}

/// Jobs that two processes have died with, not yet swept; returns a live process.
async fn lose_twice(store: &TestStore, host: &str, names: &[&str]) -> WorkerId {
    store.enqueue(host, names).await;
    for process in ["dead-1", "dead-2"] {
        let worker = store.join(process).await;
        assert_eq!(store.lease(&worker, names.len()).await.len(), names.len());
        store.advance_secs(60);
    }
    store.join("w").await
}

fn alone(store: &TestStore, worker: &WorkerId) -> LeaseRequest {
    LeaseRequest { alone: true, ..store.request(worker, 1) }
}

pub(super) async fn inv_no_loss_a_dead_process_gives_its_jobs_back(store: &TestStore) {
    store.enqueue_many("a.example", 2).await;
    let first = store.join("first").await;
    let held = store.lease(&first, 2).await;
    store.queue().checkpoint(&held[0].token, "half way").await.unwrap();
    store.advance_secs(60);
    let second = store.join("second").await;
    let again = store.lease(&second, 5).await;
    assert_eq!(names(&again), names(&held));
    for (job, before) in again.iter().zip(&held) {
        assert_eq!((job.losses, job.attempts), (1, 0), "a death charges a loss and no attempt");
        assert_eq!(job.token.fence, before.token.fence + 1);
    }
    assert_eq!(again[0].checkpoint.as_deref(), Some("half way"));
    let (_, history) = store.get("a.example/0").await;
    assert_eq!(history[0].event, "lose");
    assert_eq!(history[0].worker, Some(first));
}

pub(super) async fn inv_fence_a_late_settlement_of_a_dead_process_is_lost(store: &TestStore) {
    store.enqueue_many("a.example", 1).await;
    let lost = die_with_it(store, "first", false).await;
    let second = store.join("second").await;
    let job = store.lease_one(&second).await;
    let before = store.record("a.example/0").await;
    assert_eq!(store.settle(lost.token, done()).await, Answer::LeaseLost);
    assert_eq!(store.record("a.example/0").await, before);
    store.ack(&job).await;
}

pub(super) async fn one_loss_does_not_single_a_job_out(store: &TestStore) {
    store.enqueue_many("a.example", 3).await;
    die_with_it(store, "first", false).await;
    let worker = store.join("w").await;
    let batch = store.batch(&store.request(&worker, 5)).await;
    assert_eq!((batch.jobs.len(), batch.alone_waiting), (3, false));
}

pub(super) async fn inv_attempts_after_two_losses_a_job_runs_alone(store: &TestStore) {
    let worker = lose_twice(store, "a.example", &["poison"]).await;
    store.enqueue("b.example", &["b1", "b2"]).await;
    let batch = store.batch(&store.request(&worker, 1)).await;
    assert_eq!((names(&batch.jobs), batch.alone_waiting), (vec!["b1"], true));
    assert!(store.batch(&alone(store, &worker)).await.jobs.is_empty(), "it holds another job");
    store.ack(&batch.jobs[0]).await;
    let batch = store.batch(&alone(store, &worker)).await;
    assert_eq!((names(&batch.jobs), batch.alone_waiting), (vec!["poison"], false));
    assert_eq!(batch.jobs[0].losses, 2);
    assert!(store.lease(&worker, 5).await.is_empty(), "nothing else while it holds that one");
    let other = store.join("other").await;
    assert_eq!(names(&store.lease(&other, 5).await), ["b2"], "others go on");
    store.ack(&batch.jobs[0]).await;
}

pub(super) async fn alone_is_for_one_job_and_only_for_such(store: &TestStore) {
    let worker = lose_twice(store, "a.example", &["poison-1", "poison-2"]).await;
    for (name, others_wait) in [("poison-1", true), ("poison-2", false)] {
        let request = LeaseRequest { max: 10, ..alone(store, &worker) };
        let batch = store.batch(&request).await;
        assert_eq!((names(&batch.jobs), batch.alone_waiting), (vec![name], others_wait));
        store.ack(&batch.jobs[0]).await;
    }
    store.enqueue("a.example", &["healthy"]).await;
    let batch = store.batch(&alone(store, &worker)).await;
    assert_eq!((batch.jobs.len(), batch.alone_waiting), (0, false));
    assert_eq!(names(&store.lease(&worker, 5).await), ["healthy"]);
}

/// A dispatcher is told of it by `alone_waiting`; "now" as `next_open` would keep it asking.
pub(super) async fn a_job_that_waits_to_run_alone_does_not_keep_others_busy(store: &TestStore) {
    let worker = lose_twice(store, "a.example", &["poison"]).await;
    let batch = store.batch(&store.request(&worker, 5)).await;
    assert!(batch.jobs.is_empty() && batch.alone_waiting);
    assert_ne!(batch.next_open, Some(Duration::ZERO));
}

pub(super) async fn what_must_run_alone_waits_for_its_lane_like_all(store: &TestStore) {
    let worker = lose_twice(store, "a.example", &["poison"]).await;
    store.queue().close(&lane("a.example"), Duration::from_secs(20), "x").await.unwrap();
    let batch = store.batch(&alone(store, &worker)).await;
    assert_eq!((batch.jobs.len(), batch.alone_waiting), (0, false));
    assert_wait(batch.next_open, Duration::from_secs(20));
    let batch = store.batch(&store.request(&worker, 5)).await;
    assert!(!batch.alone_waiting);
    assert_wait(batch.next_open, Duration::from_secs(20));
    store.advance_secs(20);
    assert!(store.batch(&store.request(&worker, 5)).await.alone_waiting);
    let request = LeaseRequest { rules: capped(1), ..alone(store, &worker) };
    assert_eq!(names(&store.batch(&request).await.jobs), ["poison"]);
}

pub(super) async fn inv_attempts_losses_end_in_error(store: &TestStore) {
    store.enqueue("a.example", &["poison"]).await;
    let max_losses = 3;
    for (process, alone) in [("dead-1", false), ("dead-2", false), ("dead-3", true)] {
        die_with_it(store, process, alone).await;
    }
    let worker = store.join("w").await;
    let request = LeaseRequest { max_losses, ..alone(store, &worker) };
    let batch = store.batch(&request).await;
    assert_eq!((batch.jobs.len(), batch.alone_waiting), (0, false));
    let (record, history) = store.get("poison").await;
    assert_eq!((record.state, record.losses, record.attempts), (JobState::Error, 3, 0));
    assert_eq!(record.reason.as_deref(), Some("lease-lost"));
    let said = record.last_error.unwrap();
    assert!(said.contains("died") && said.contains('3'), "{said}");
    assert_eq!(history[0].event, "lose_last");
    let page = JobPage { after: None, limit: 10 };
    let unpublished = store.queue().unpublished(&StoreId("s".to_owned()), page).await.unwrap();
    assert_eq!(only(unpublished).artifact_id.as_str(), "poison", "its end is to be published");
}

pub(super) async fn inv_no_loss_a_sweep_leaves_the_living_alone(store: &TestStore) {
    store.enqueue_many("a.example", 2).await;
    let (dead, alive) = (store.join("dead").await, store.join("alive").await);
    store.lease_one(&dead).await;
    let kept = store.lease_one(&alive).await;
    store.advance_secs(40);
    store.beat(&alive).await;
    store.advance_secs(20);
    let third = store.join("third").await;
    assert_eq!(store.lease(&third, 5).await.len(), 1);
    assert_eq!(store.record(kept.artifact_id.as_str()).await.losses, 0);
    store.ack(&kept).await;
}

pub(super) async fn what_runs_alone_or_is_dead_is_not_told_to_ask_at_once(store: &TestStore) {
    let worker = lose_twice(store, "a.example", &["poison"]).await;
    assert_eq!(store.batch(&alone(store, &worker)).await.jobs.len(), 1);
    store.enqueue("b.example", &["b1"]).await;
    let batch = store.batch(&store.request(&worker, 5)).await;
    assert_eq!((batch.jobs.len(), batch.next_open), (0, None), "only its own settlement helps");
    let stranger = WorkerId::from_text("stranger");
    let batch = store.batch(&store.request(&stranger, 5)).await;
    assert_ne!(batch.next_open, Some(Duration::ZERO));
}

pub(super) async fn what_must_run_alone_is_asked_for_when_a_pause_ends(store: &TestStore) {
    let worker = lose_twice(store, "a.example", &["poison"]).await;
    store.queue().pause(None, Some(Duration::from_secs(20)), "x").await.unwrap();
    let batch = store.batch(&store.request(&worker, 5)).await;
    assert!(!batch.alone_waiting);
    assert_wait(batch.next_open, Duration::from_secs(20));
}

pub(super) async fn history_names_a_process_that_came_back_late(store: &TestStore) {
    store.enqueue("a.example", &["a"]).await;
    let late = store.join("late").await;
    store.lease_one(&late).await;
    store.advance_secs(60);
    assert!(store.beat(&late).await.was_expired);
    store.lease_one(&late).await;
    let (_, history) = store.get("a").await;
    assert_eq!((history[0].event.as_str(), &history[0].worker), ("lose", &Some(late)));
}
