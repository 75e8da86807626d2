//! Operators' pauses, of everything or of one lane.

use std::time::Duration;

use super::TestStore;
use super::rules::lane;
use super::test_store::{assert_wait, by_lane, done};
use crate::{Answer, JobState, Settlement, Timestamp};

const HOST: &str = "a.example";

pub(super) async fn while_the_queue_is_paused_nothing_is_leased(store: &TestStore) {
    let worker = store.join("w").await;
    store.enqueue_many(HOST, 2).await;
    store.enqueue_many("", 2).await;
    assert_eq!(store.queue().pause(None, None, "bob").await.unwrap(), None);
    let before = store.queue().pause(None, None, "alice: disk full").await.unwrap();
    assert_eq!(before.as_deref(), Some("bob"), "who is replaced is told");
    let batch = store.batch(&store.request(&worker, 5)).await;
    assert_eq!((batch.jobs.len(), batch.next_open), (0, None), "only an event can end it");
    let stats = store.queue().stats().await.unwrap();
    assert!(stats.paused.unwrap().contains("alice: disk full"));
    assert_eq!((stats.next_open, stats.paused_for), (None, None));
    assert!(store.queue().resume(None).await.unwrap());
    assert!(!store.queue().resume(None).await.unwrap(), "there is none any more");
    assert_eq!(store.queue().stats().await.unwrap().paused, None);
    assert_eq!(store.lease(&worker, 5).await.len(), 4);
}

pub(super) async fn a_pause_with_an_end_ends_by_itself(store: &TestStore) {
    let worker = store.join("w").await;
    store.enqueue_many(HOST, 2).await;
    store.queue().pause(None, Some(Duration::from_secs(30)), "x").await.unwrap();
    let batch = store.batch(&store.request(&worker, 5)).await;
    assert!(batch.jobs.is_empty());
    assert_wait(batch.next_open, Duration::from_secs(30));
    assert_wait(store.queue().stats().await.unwrap().next_open, Duration::from_secs(30));
    assert_wait(store.queue().stats().await.unwrap().paused_for, Duration::from_secs(30));
    store.advance_secs(30);
    assert_eq!(store.lease(&worker, 1).await.len(), 1);
    let stats = store.queue().stats().await.unwrap();
    assert_eq!((stats.paused, stats.paused_for), (None, None));
    assert!(!store.queue().resume(None).await.unwrap());
}

pub(super) async fn a_paused_lane_stops_and_others_go_on(store: &TestStore) {
    let worker = store.join("w").await;
    store.enqueue_many(HOST, 2).await;
    store.enqueue_many("b.example", 2).await;
    store.queue().pause(Some(&lane(HOST)), None, "bob: they asked by mail").await.unwrap();
    let batch = store.batch(&store.request(&worker, 10)).await;
    assert_eq!(by_lane(&batch.jobs), [("b.example", 2)].into());
    assert_eq!(batch.next_open, None);
    let row = store.lane_row(HOST).await.unwrap();
    assert_eq!(row.pause_reason.as_deref(), Some("bob: they asked by mail"));
    assert_eq!((row.paused_until, row.queued), (Some(Timestamp::NEVER), 2));
    let stats = store.queue().stats().await.unwrap();
    assert_eq!((stats.lanes_paused, stats.paused), (1, None));
    assert!(store.queue().resume(Some(&lane(HOST))).await.unwrap());
    assert!(!store.queue().resume(Some(&lane(HOST))).await.unwrap());
    assert_eq!(store.lease(&worker, 10).await.len(), 2);
    assert_eq!(store.queue().stats().await.unwrap().lanes_paused, 0);
}

pub(super) async fn a_lane_pause_with_an_end_ends_by_itself(store: &TestStore) {
    let worker = store.join("w").await;
    store.enqueue_many(HOST, 1).await;
    store.queue().pause(Some(&lane(HOST)), Some(Duration::from_secs(30)), "x").await.unwrap();
    let batch = store.batch(&store.request(&worker, 1)).await;
    assert!(batch.jobs.is_empty());
    assert_wait(batch.next_open, Duration::from_secs(30));
    store.advance_secs(30);
    assert_eq!(store.lease(&worker, 1).await.len(), 1);
}

/// A pause is an operator's, so what it holds back counts for nobody who waits for the queue to become empty, whether its
/// turn was visited before or after.
pub(super) async fn what_a_pause_holds_back_is_not_among_what_opens_next(store: &TestStore) {
    let worker = store.join("w").await;
    let unpaused = async || store.queue().stats().await.unwrap().next_unpaused;
    assert_eq!(unpaused().await, None, "nothing is queued");
    store.enqueue_many(HOST, 1).await;
    assert_eq!(unpaused().await, Some(Duration::ZERO));
    let minute = Duration::from_mins(1);
    for length in [None, Some(minute)] {
        store.queue().pause(Some(&lane(HOST)), length, "x").await.unwrap();
        assert_eq!(unpaused().await, None, "{length:?}, not visited yet");
        assert!(store.lease(&worker, 1).await.is_empty());
        assert_eq!(unpaused().await, None, "{length:?}");
    }
    assert_wait(store.queue().stats().await.unwrap().next_open, minute);
    // Another lane counts, by its cool-down, whatever is paused beside it.
    store.enqueue_many("b.example", 1).await;
    assert_eq!(unpaused().await, Some(Duration::ZERO));
    store.queue().close(&lane("b.example"), minute * 3, "x").await.unwrap();
    assert!(store.lease(&worker, 1).await.is_empty());
    assert_wait(unpaused().await, minute * 3);
    store.queue().pause(None, Some(minute * 2), "x").await.unwrap();
    assert_eq!(unpaused().await, None, "all is paused");
    store.advance_secs(120);
    assert_eq!(unpaused().await, Some(Duration::ZERO), "both pauses are over");
}

/// The turn was put off by the longer one.
pub(super) async fn a_shorter_pause_replaces_a_longer_one(store: &TestStore) {
    let worker = store.join("w").await;
    store.enqueue_many(HOST, 1).await;
    let host = lane(HOST);
    for length in [None, Some(Duration::from_mins(50)), Some(Duration::from_secs(5))] {
        store.queue().pause(Some(&host), length, "x").await.unwrap();
        assert!(store.lease(&worker, 1).await.is_empty());
    }
    store.advance_secs(5);
    assert_eq!(store.lease(&worker, 1).await.len(), 1);
}

pub(super) async fn a_pause_leaves_held_jobs_alone_and_gives_no_next(store: &TestStore) {
    let worker = store.join("w").await;
    store.enqueue_many(HOST, 3).await;
    let job = store.lease_one(&worker).await;
    store.queue().pause(None, None, "x").await.unwrap();
    let then = store.request(&worker, 5);
    let settled = store.queue().settle(&[Settlement::new(job.token, done())], Some(&then)).await.unwrap();
    assert_eq!(settled.answers, [Answer::Recorded(JobState::Done)]);
    assert!(settled.batch.unwrap().jobs.is_empty());
}

pub(super) async fn a_lane_may_be_paused_before_it_is_known(store: &TestStore) {
    let worker = store.join("w").await;
    store.queue().pause(Some(&lane(HOST)), None, "x").await.unwrap();
    assert!(store.lane_row(HOST).await.unwrap().paused_until.is_some());
    store.enqueue_many(HOST, 1).await;
    assert!(store.lease(&worker, 1).await.is_empty());
    store.queue().resume(Some(&lane(HOST))).await.unwrap();
    assert_eq!(store.lease(&worker, 1).await.len(), 1);
}

pub(super) async fn a_pause_does_not_shorten_a_cool_down(store: &TestStore) {
    let worker = store.join("w").await;
    store.enqueue_many(HOST, 1).await;
    store.queue().close(&lane(HOST), Duration::from_mins(1), "x").await.unwrap();
    store.queue().pause(Some(&lane(HOST)), Some(Duration::from_secs(5)), "x").await.unwrap();
    store.advance_secs(5);
    assert!(store.lease(&worker, 1).await.is_empty());
    store.queue().resume(Some(&lane(HOST))).await.unwrap();
    assert!(store.lease(&worker, 1).await.is_empty());
}
