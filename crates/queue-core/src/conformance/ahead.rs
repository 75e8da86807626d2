//! Leasing ahead: what may be held beyond the free workers, and that nobody is passed over for it.

use std::sync::Arc;

use super::TestStore;
use super::rules::{capped, one_capped, paced, unlimited};
use super::test_store::{asks_for_quiet, throttled};
use crate::{LaneRules, LeaseRequest, LeasedJob, WorkerId};

const FREE: &str = "free.example";
const CAPPED: &str = "capped.example";

async fn ahead(
    store: &TestStore,
    worker: &WorkerId,
    max: usize,
    ahead: usize,
    rules: &Arc<LaneRules>,
) -> Vec<LeasedJob> {
    store.batch(&LeaseRequest { ahead, ..store.request_by(worker, max, rules) }).await.jobs
}

fn lanes(jobs: &[LeasedJob]) -> Vec<&str> {
    jobs.iter().map(|job| job.place.lane.as_str()).collect()
}

pub(super) async fn a_lane_without_cap_and_pace_gives_ahead(store: &TestStore) {
    let worker = store.join("w").await;
    store.enqueue_many(FREE, 20).await;
    assert_eq!(ahead(store, &worker, 2, 5, &unlimited()).await.len(), 7);
    assert_eq!(ahead(store, &worker, 0, 3, &unlimited()).await.len(), 3, "also if no worker is free");
    assert_eq!(ahead(store, &worker, 0, 0, &unlimited()).await, []);
}

pub(super) async fn work_without_a_host_is_given_ahead(store: &TestStore) {
    let worker = store.join("w").await;
    store.enqueue_many("", 9).await;
    assert_eq!(ahead(store, &worker, 1, 5, &capped(1)).await.len(), 6);
}

pub(super) async fn inv_cap_a_lane_with_a_cap_or_a_pace_gives_only_to_free_workers(store: &TestStore) {
    let worker = store.join("w").await;
    store.enqueue_many(CAPPED, 20).await;
    assert_eq!(ahead(store, &worker, 2, 64, &capped(9)).await.len(), 2);
    assert_eq!(ahead(store, &worker, 0, 64, &capped(9)).await, []);
    assert_eq!(ahead(store, &worker, 0, 64, &paced("100/s")).await, []);
}

pub(super) async fn inv_fair_ahead_never_passes_a_lane_that_waits_for_a_worker(store: &TestStore) {
    let worker = store.join("w").await;
    let rules = one_capped(CAPPED, 4);
    store.enqueue_many(CAPPED, 4).await;
    store.advance_secs(1);
    store.enqueue_many(FREE, 40).await;
    assert_eq!(ahead(store, &worker, 0, 10, &rules).await, [], "the capped lane is first in turn");
    let batch = ahead(store, &worker, 1, 10, &rules).await;
    assert_eq!(lanes(&batch)[0], CAPPED);
    assert!(batch.len() > 1 && lanes(&batch)[1..].iter().all(|lane| *lane == FREE), "{:?}", lanes(&batch));
    assert_eq!(lanes(&ahead(store, &worker, 1, 0, &rules).await), [CAPPED], "its next turn was kept");
}

pub(super) async fn a_lane_that_reopens_gives_nothing_ahead(store: &TestStore) {
    let worker = store.join("w").await;
    store.enqueue_many(FREE, 9).await;
    let job = store.lease_one(&worker).await;
    store.settle_with(job.token, throttled(), vec![asks_for_quiet(FREE, Some(5))]).await;
    store.advance_secs(5);
    assert_eq!(ahead(store, &worker, 0, 5, &unlimited()).await, []);
    assert_eq!(ahead(store, &worker, 2, 5, &unlimited()).await.len(), 1, "one goes first");
}
