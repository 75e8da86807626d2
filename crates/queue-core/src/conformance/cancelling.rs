//! A call whose future was dropped was carried out whole or not at all, and may be made again.

use std::pin::pin;
use std::time::Duration;

use super::TestStore;
use super::rules::{capped, lane};
use super::test_store::{done, job, only, poll_once};
use crate::{Admission, AdmitRequest, Answer, Enqueued, JobState, Place, Role, Settlement};

const HOST: &str = "a.example";

pub(super) async fn inv_no_loss_a_dropped_lease_strands_nothing(store: &TestStore) {
    let worker = store.join("w").await;
    store.enqueue_many(HOST, 10).await;
    for round in 1..=5 {
        let request = store.request(&worker, 2);
        let queue = store.queue();
        let _ = poll_once(pin!(queue.lease(&request))).await;
        // Given before or now, the same number is given two jobs.
        assert_eq!(store.batch(&request).await.jobs.len(), 2);
        assert_eq!(store.counts().await.in_progress, 2 * round);
        assert_eq!(store.beat(&worker).await.held, 2 * round);
    }
}

pub(super) async fn inv_fence_a_dropped_settlement_may_be_repeated(store: &TestStore) {
    let worker = store.join("w").await;
    store.enqueue_many(HOST, 4).await;
    let mut held = store.lease_by(&worker, 1, &capped(1)).await;
    for round in 1..=3 {
        let settlements = [Settlement::new(held[0].token, done())];
        let then = store.request_by(&worker, 1, &capped(1));
        let queue = store.queue();
        let _ = poll_once(pin!(queue.settle(&settlements, Some(&then)))).await;
        let settled = store.queue().settle(&settlements, Some(&then)).await.unwrap();
        assert_eq!(only(settled.answers), Answer::Recorded(JobState::Done));
        held = settled.batch.unwrap().jobs;
        assert_eq!(held.len(), 1);
        let counts = store.counts().await;
        assert_eq!((counts.done, counts.in_progress), (round, 1));
    }
}

pub(super) async fn inv_idempotent_a_dropped_enqueue_may_be_repeated(store: &TestStore) {
    for round in 0..4_u64 {
        let jobs: Vec<_> = (0..5).map(|number| job(&format!("{round}/{number}"), HOST)).collect();
        let queue = store.queue();
        let _ = poll_once(pin!(queue.enqueue(&jobs))).await;
        let answers = store.queue().enqueue(&jobs).await.unwrap();
        let new = answers.iter().filter(|answer| matches!(answer, Enqueued::New(_))).count();
        assert!(new == 0 || new == 5, "whole or not at all: {answers:?}");
        assert_eq!(store.counts().await.queued, 5 * (round + 1));
    }
}

pub(super) async fn inv_cap_a_dropped_admission_takes_no_second_slot(store: &TestStore) {
    let worker = store.join("w").await;
    store.enqueue_many(HOST, 1).await;
    let held = only(store.lease_by(&worker, 1, &capped(1)).await);
    for host in ["b.example", HOST, "b.example"] {
        let place = Place::new(lane(host), Role::Artifact);
        let request =
            AdmitRequest { token: held.token, place, rules: capped(1), lead: Duration::ZERO, unused: None };
        let queue = store.queue();
        let _ = poll_once(pin!(queue.admit(&request))).await;
        assert!(matches!(store.queue().admit(&request).await.unwrap(), Admission::Admitted { .. }));
        let mut taken = 0;
        for of in ["b.example", HOST] {
            taken += store.lane_row(of).await.map_or(0, |row| row.in_flight);
        }
        assert_eq!(taken, 1);
    }
}

pub(super) async fn inv_idempotent_a_dropped_pruning_may_be_repeated(store: &TestStore) {
    let worker = store.join("w").await;
    store.enqueue_many(HOST, 500).await;
    let held = store.lease(&worker, 500).await;
    let ended: Vec<_> = held.iter().map(|job| Settlement::new(job.token, done())).collect();
    store.queue().settle(&ended, None).await.unwrap();
    let ids: Vec<_> = held.iter().map(|job| job.token.job).collect();
    store.queue().published(&ids).await.unwrap();
    let queue = store.queue();
    let _ = poll_once(pin!(queue.prune(JobState::Done, Duration::ZERO))).await;
    assert!(store.queue().prune(JobState::Done, Duration::ZERO).await.unwrap() <= 500);
    assert!(store.all().await.iter().all(|job| job.slim && job.state == JobState::Done));
}

pub(super) async fn a_dropped_wait_leaves_others_waiting(store: &TestStore) {
    let first = store.first();
    let worker = store.join("w").await;
    let epoch = first.lease(&store.request(&worker, 1)).await.unwrap().epoch;
    let mut kept = pin!(first.changed(epoch));
    let _ = poll_once(kept.as_mut()).await;
    let _ = poll_once(pin!(first.changed(epoch))).await;
    store.enqueue_many(HOST, 1).await;
    // One that has answered already must not be polled again, so a new one asks.
    assert!(first.changed(epoch).await.unwrap() > epoch);
}
