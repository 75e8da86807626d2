//! What outlives a process, and what a clock that steps cannot do.

use std::time::{Duration, UNIX_EPOCH};

use super::TestStore;
use super::rules::paced;
use super::test_store::{asks_for_quiet, assert_wait, delayed, done_with, names, retry, throttled};
use crate::{Answer, JobState};

const HOST: &str = "a.example";

pub(super) async fn inv_durable_reply_everything_answered_outlives_the_handles(store: &TestStore) {
    let worker = store.join("w").await;
    store.enqueue(HOST, &["done", "retried", "held", "queued"]).await;
    let held = store.lease(&worker, 3).await;
    store.settle(held[0].token, done_with("s", "x.pdf")).await;
    store.settle(held[1].token, retry(Duration::from_secs(9))).await;
    store.queue().checkpoint(&held[2].token, "half way").await.unwrap();
    store.queue().cache_put("key", "value", Duration::from_mins(1)).await.unwrap();
    let (before, counts) = (store.all().await, store.counts().await);
    let history = store.get("retried").await.1;
    if !store.reopen().await {
        return;
    }
    assert_eq!(store.all().await, before);
    assert_eq!(store.counts().await, counts);
    assert_eq!(store.get("retried").await.1, history);
    assert_eq!(store.queue().cache_get("key").await.unwrap().as_deref(), Some("value"));
    // A process that outlived its connection goes on.
    assert_eq!(store.settle(held[0].token, done_with("s", "x.pdf")).await, Answer::Recorded(JobState::Done));
    assert_eq!(store.beat(&worker).await.held, 1);
    store.ack(&held[2]).await;
}

pub(super) async fn inv_cooldown_outlives_a_restart(store: &TestStore) {
    let worker = store.join("w").await;
    store.enqueue_many(HOST, 2).await;
    let job = store.lease_one(&worker).await;
    store.settle_with(job.token, throttled(), vec![asks_for_quiet(HOST, Some(30))]).await;
    if !store.reopen().await {
        return;
    }
    let worker = store.join("again").await;
    let batch = store.batch(&store.request(&worker, 5)).await;
    assert!(batch.jobs.is_empty());
    assert_wait(batch.next_open, Duration::from_secs(30));
    store.advance_secs(30);
    assert_eq!(store.lease(&worker, 5).await.len(), 1, "it reopens with one slot");
}

pub(super) async fn inv_pace_outlives_a_restart(store: &TestStore) {
    let worker = store.join("w").await;
    store.enqueue_many(HOST, 2).await;
    for job in store.lease_by(&worker, 1, &paced("1/20s")).await {
        store.ack(&job).await;
    }
    if !store.reopen().await {
        return;
    }
    let worker = store.join("again").await;
    store.advance_secs(21);
    assert!(store.lease_by(&worker, 1, &paced("1/20s")).await.is_empty());
    store.advance(Duration::from_millis(1_001));
    assert_eq!(store.lease_by(&worker, 1, &paced("1/20s")).await.len(), 1);
}

/// A new boot has a new monotonic clock. The store's time goes on from where it was, or from the wall time.
pub(super) async fn inv_cooldown_outlives_a_reboot(store: &TestStore) {
    let worker = store.join("w").await;
    store.enqueue_many(HOST, 2).await;
    let job = store.lease_one(&worker).await;
    store.settle_with(job.token, throttled(), vec![asks_for_quiet(HOST, Some(30))]).await;
    store.clock().reboot();
    if !store.reopen().await {
        return;
    }
    let worker = store.join("again").await;
    assert!(store.lease(&worker, 5).await.is_empty());
    store.advance_secs(29);
    assert!(store.lease(&worker, 5).await.is_empty());
    store.advance_secs(1);
    assert_eq!(store.lease(&worker, 5).await.len(), 1);
}

/// Nothing is decided by the wall time: a step of it ends no lease, no delay and no cool-down.
pub(super) async fn a_step_of_the_wall_clock_changes_nothing(store: &TestStore) {
    let worker = store.join("w").await;
    store.enqueue_jobs(&[delayed("later", HOST, Duration::from_secs(30))]).await;
    store.enqueue("b.example", &["held"]).await;
    let job = store.lease_one(&worker).await;
    let year = Duration::from_hours(365 * 24);
    let wall = UNIX_EPOCH + Duration::from_hours(24 * 20_000);
    for step in [wall + year, wall - year] {
        store.clock().set_wall(step);
        let other = store.join("other").await;
        let batch = store.batch(&store.request(&other, 5)).await;
        assert!(batch.jobs.is_empty());
        assert_wait(batch.next_open, Duration::from_secs(30));
        assert!(!store.beat(&worker).await.was_expired);
    }
    store.ack(&job).await;
    store.advance_secs(30);
    assert_eq!(names(&store.lease(&worker, 5).await), ["later"]);
}

/// What people read follows the calendar.
pub(super) async fn times_are_shown_as_wall_times(store: &TestStore) {
    let wall = UNIX_EPOCH + Duration::from_secs(1_900_000_000);
    store.clock().set_wall(wall);
    store.enqueue_jobs(&[delayed("a", HOST, Duration::from_secs(30))]).await;
    let record = store.record("a").await;
    assert!(record.created_at.0.abs_diff(1_900_000_000_000) <= 1, "{record:?}");
    assert!(record.available_at.0.abs_diff(1_900_000_030_000) <= 1, "{record:?}");
}
