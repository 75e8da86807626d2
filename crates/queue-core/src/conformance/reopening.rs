//! A lane that was closed for its host's sake opens again step by step.

use std::time::Duration;

use super::TestStore;
use super::rules::{capped, lane, unlimited};
use super::test_store::{asks_for_quiet, by_lane, done, failed, retry, served, throttled};
use crate::{Admission, Answer, JobState, LeasedJob, Role, WorkerId};

const HOST: &str = "a.example";

/// A lane of 200 jobs that was closed and may give again; the process that is left.
async fn reopened(store: &TestStore) -> WorkerId {
    let worker = store.join("w").await;
    store.enqueue_many(HOST, 200).await;
    let job = store.lease_one(&worker).await;
    store.settle_with(job.token, throttled(), vec![asks_for_quiet(HOST, Some(10))]).await;
    store.advance_secs(10);
    worker
}

async fn reopening(store: &TestStore) -> Option<u32> {
    store.lane_row(HOST).await.unwrap().reopening
}

pub(super) async fn a_reopened_lane_gives_one_slot_and_one_more_for_each_answer(store: &TestStore) {
    let worker = reopened(store).await;
    assert_eq!(reopening(store).await, Some(1));
    let mut held: Vec<LeasedJob> = store.lease_by(&worker, 10, &capped(4)).await;
    assert_eq!(held.len(), 1);
    for slots in [2, 3, 4, 4, 4] {
        store.ack_served(&held.remove(0)).await;
        held.extend(store.lease_by(&worker, 10, &capped(4)).await);
        assert_eq!(held.len(), slots);
    }
}

pub(super) async fn a_reopened_lane_without_a_cap_is_narrow_too(store: &TestStore) {
    let worker = reopened(store).await;
    store.enqueue_many("b.example", 1).await;
    let held = store.lease_by(&worker, 10, &unlimited()).await;
    assert_eq!(by_lane(&held), [(HOST, 1), ("b.example", 1)].into());
    let mover = held.iter().find(|job| job.place.lane.as_str() == "b.example").unwrap();
    assert_eq!(store.admit(mover.token, HOST, Role::Landing, &unlimited()).await, Admission::Full);
}

pub(super) async fn after_64_answers_a_lane_gives_what_is_configured(store: &TestStore) {
    let worker = reopened(store).await;
    let job = store.lease_one(&worker).await;
    let answers = store.settle_with(job.token, done(), vec![served(HOST); 62]).await;
    assert_eq!(answers, Answer::Recorded(JobState::Done));
    assert_eq!(reopening(store).await, Some(63));
    let held = store.lease_by(&worker, 100, &unlimited()).await;
    assert_eq!(held.len(), 63);
    store.ack_served(&held[0]).await;
    assert_eq!(reopening(store).await, None);
    assert_eq!(store.lease_by(&worker, 200, &unlimited()).await.len(), 200 - 1 - 63);
}

/// An answer to a request from before the closure says nothing about the time after it.
pub(super) async fn answers_during_the_closure_do_not_widen(store: &TestStore) {
    let worker = store.join("w").await;
    store.enqueue_many(HOST, 10).await;
    let held = store.lease(&worker, 4).await;
    store.settle_with(held[0].token, throttled(), vec![asks_for_quiet(HOST, Some(10))]).await;
    for job in &held[1..] {
        store.ack_served(job).await;
    }
    assert_eq!(reopening(store).await, Some(1));
    store.advance_secs(10);
    assert_eq!(store.lease(&worker, 10).await.len(), 1);
}

pub(super) async fn a_strike_narrows_the_lane_as_well(store: &TestStore) {
    let worker = store.join("w").await;
    store.enqueue_many(HOST, 10).await;
    let job = store.lease_one(&worker).await;
    store.settle_with(job.token, retry(Duration::ZERO), vec![failed(HOST); 5]).await;
    store.advance_secs(67);
    let worker = store.join("again").await;
    assert_eq!(store.lease(&worker, 10).await.len(), 1);
}

pub(super) async fn a_lane_that_was_closed_by_hand_reopens_step_by_step(store: &TestStore) {
    let worker = store.join("w").await;
    store.enqueue_many(HOST, 10).await;
    store.queue().close(&lane(HOST), Duration::from_secs(10), "by hand").await.unwrap();
    store.advance_secs(10);
    let job = store.lease_one(&worker).await;
    assert!(store.lease(&worker, 10).await.is_empty());
    store.ack_served(&job).await;
    assert_eq!(store.lease(&worker, 10).await.len(), 2);
}

/// Half-open: the one request that goes first decides.
pub(super) async fn inv_cooldown_a_failure_after_the_closure_closes_again(store: &TestStore) {
    let mut worker = reopened(store).await;
    // Once with no answer in between, then after a few: it is still narrow.
    for answers in [0, 1, 3] {
        let job = store.lease_one(&worker).await;
        let mut reports = vec![served(HOST); answers];
        reports.push(failed(HOST));
        store.settle_with(job.token, retry(Duration::ZERO), reports).await;
        assert_eq!(reopening(store).await, Some(1), "after {answers} answers");
        let closed = store.queue().stats().await.unwrap().next_cooled.expect("it is closed again");
        assert!(closed > Duration::from_secs(50), "{closed:?}");
        assert!(store.lease(&worker, 10).await.is_empty());
        store.advance(closed);
        worker = store.join(&format!("after-{answers}")).await;
    }
}

pub(super) async fn a_lane_that_answers_again_is_not_closed_by_one_failure(store: &TestStore) {
    let worker = reopened(store).await;
    let job = store.lease_one(&worker).await;
    let mut reports = vec![served(HOST); 4];
    reports.extend([failed(HOST), failed(HOST), failed(HOST), failed(HOST)]);
    store.settle_with(job.token, retry(Duration::ZERO), reports).await;
    assert_eq!(reopening(store).await, Some(5));
    assert_eq!(store.lease(&worker, 10).await.len(), 5);
}

/// What was under way when the lane was closed says nothing about the time after.
pub(super) async fn failures_during_the_closure_do_not_prolong_it(store: &TestStore) {
    let worker = store.join("w").await;
    store.enqueue_many(HOST, 10).await;
    let held = store.lease(&worker, 4).await;
    store.settle_with(held[0].token, throttled(), vec![asks_for_quiet(HOST, Some(10))]).await;
    for job in &held[1..] {
        store.settle_with(job.token, retry(Duration::ZERO), vec![failed(HOST)]).await;
    }
    store.advance_secs(10);
    assert_eq!(store.lease(&worker, 10).await.len(), 1);
}

/// The lane's turn was put off until a slot is free, and a wider lane has one without anybody settling there.
pub(super) async fn a_wider_lane_is_leased_from_though_no_slot_was_freed(store: &TestStore) {
    let worker = reopened(store).await;
    store.enqueue_many("b.example", 1).await;
    let held = store.lease(&worker, 10).await;
    assert_eq!(by_lane(&held), [(HOST, 1), ("b.example", 1)].into());
    assert!(store.lease(&worker, 10).await.is_empty());
    let other = held.iter().find(|job| job.place.lane.as_str() == "b.example").unwrap();
    store.settle_with(other.token, done(), vec![served(HOST)]).await;
    assert_eq!(store.lease(&worker, 10).await.len(), 1);
}
