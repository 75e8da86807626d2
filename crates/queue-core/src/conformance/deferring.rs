//! Jobs that go on in another place or later: nothing is charged, and their age stays.

use std::time::Duration;

use super::TestStore;
use super::rules::{capped, lane};
use super::test_store::{asks_for_quiet, assert_wait, defer, names, retry, throttled};
use crate::{Answer, JobState, Place, Role, Verdict};

const HOST: &str = "a.example";
const OTHER: &str = "b.example";
const SECOND: Duration = Duration::from_secs(1);

pub(super) async fn deferring_keeps_the_age(store: &TestStore) {
    let worker = store.join("w").await;
    store.enqueue(HOST, &["old"]).await;
    store.advance_secs(5);
    store.enqueue("b.example", &["young-1", "young-2"]).await;
    let held = store.lease(&worker, 1).await;
    assert_eq!(names(&held), ["old"]);
    store.advance_secs(5);
    let answer = store.settle(held[0].token, defer(Duration::ZERO, "b.example")).await;
    assert_eq!(answer, Answer::Recorded(JobState::Queued));
    let next = store.lease_by(&worker, 1, &capped(1)).await;
    assert_eq!(names(&next), ["old"], "it is the oldest of its new lane");
    assert_eq!(next[0].place, Place::new(lane("b.example"), Role::Artifact));
    assert_eq!((next[0].attempts, next[0].throttles), (0, 0));
}

pub(super) async fn deferring_for_a_while_waits(store: &TestStore) {
    let worker = store.join("w").await;
    store.enqueue(HOST, &["a"]).await;
    let job = store.lease_one(&worker).await;
    store.settle(job.token, defer(5 * SECOND, "b.example")).await;
    assert!(store.lease(&worker, 1).await.is_empty());
    store.advance_secs(5);
    assert_eq!(names(&store.lease(&worker, 1).await), ["a"]);
}

/// INV-ATTEMPTS.
pub(super) async fn inv_attempts_deferring_charges_nothing_however_often(store: &TestStore) {
    let worker = store.join("w").await;
    store.enqueue(HOST, &["a"]).await;
    let first = store.lease_one(&worker).await;
    store.settle(first.token, retry(Duration::ZERO)).await;
    for host in [OTHER, HOST, OTHER] {
        let held = store.lease_one(&worker).await;
        let answer = store.settle(held.token, defer(Duration::ZERO, host)).await;
        assert_eq!(answer, Answer::Recorded(JobState::Queued));
    }
    let (record, history) = store.get("a").await;
    assert_eq!((record.attempts, record.losses, record.throttles), (1, 0, 0));
    assert_eq!(record.last_error.as_deref(), Some("no answer"), "the try before is still what went wrong");
    let events: Vec<&str> = history.iter().map(|line| line.event.as_str()).collect();
    assert_eq!(events, ["defer", "defer", "defer", "retry"]);
}

/// INV-NO-HOLD-AND-WAIT.
pub(super) async fn deferring_frees_the_slot_that_was_held(store: &TestStore) {
    let worker = store.join("w").await;
    store.enqueue(HOST, &["a", "next"]).await;
    let held = store.lease_by(&worker, 2, &capped(1)).await;
    assert_eq!(names(&held), ["a"]);
    store.settle(held[0].token, defer(10 * SECOND, OTHER)).await;
    assert_eq!(store.lane_row(HOST).await.unwrap().in_flight, 0);
    assert_eq!(store.record("a").await.slot, None);
    assert_eq!(names(&store.lease_by(&worker, 2, &capped(1)).await), ["next"]);
}

pub(super) async fn a_deferred_job_waits_for_its_new_lane(store: &TestStore) {
    let worker = store.join("w").await;
    store.enqueue(OTHER, &["first"]).await;
    let first = store.lease_one(&worker).await;
    store.settle_with(first.token, throttled(), vec![asks_for_quiet(OTHER, Some(30))]).await;
    store.enqueue(HOST, &["a"]).await;
    let held = store.lease_one(&worker).await;
    store.settle(held.token, defer(Duration::ZERO, OTHER)).await;
    let batch = store.batch(&store.request(&worker, 5)).await;
    assert_eq!(names(&batch.jobs), [""; 0]);
    assert_wait(batch.next_open, 30 * SECOND);
    store.advance_secs(30);
    // It reopens with one slot; the one that was throttled has gone to the back, and the other keeps its age.
    assert_eq!(names(&store.lease(&worker, 5).await), ["a"]);
}

pub(super) async fn deferring_into_another_role_or_to_nobody(store: &TestStore) {
    let worker = store.join("w").await;
    store.enqueue(HOST, &["a"]).await;
    for place in [Place::new(lane(HOST), Role::Landing), Place::new(lane(""), Role::Metadata)] {
        let held = store.lease_one(&worker).await;
        let verdict = Verdict::Defer {
            after: Duration::ZERO,
            place: place.clone(),
            checkpoint: Some("hop".to_owned()),
        };
        store.settle(held.token, verdict).await;
        let record = store.record("a").await;
        assert_eq!((record.place, record.checkpoint.as_deref()), (place, Some("hop")));
    }
    let held = store.lease_one(&worker).await;
    assert!(held.place.lane.is_none());
    assert_eq!(store.record("a").await.slot, None, "work without a host takes no slot");
    store.ack(&held).await;
}

/// The lane that it left has nothing to give, and does not say that it has.
pub(super) async fn deferring_leaves_no_turn_behind(store: &TestStore) {
    let worker = store.join("w").await;
    store.enqueue(HOST, &["a"]).await;
    let held = store.lease_one(&worker).await;
    store.settle(held.token, defer(20 * SECOND, OTHER)).await;
    assert_eq!(store.lane_row(HOST).await, None);
    assert_eq!(store.lane_row(OTHER).await.unwrap().queued, 1);
    assert_wait(store.queue().stats().await.unwrap().next_open, 20 * SECOND);
}
