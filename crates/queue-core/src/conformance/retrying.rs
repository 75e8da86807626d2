//! Jobs that are queued again: when, where, and with what they know.

use std::time::Duration;

use super::TestStore;
use super::rules::{capped, lane};
use super::test_store::{assert_wait, defer, delayed, names, release, retry, throttled};
use crate::{Answer, JobState, Place, Role, Verdict};

const HOST: &str = "a.example";
const SECOND: Duration = Duration::from_secs(1);

pub(super) async fn a_retry_waits_as_long_as_it_was_told(store: &TestStore) {
    let worker = store.join("w").await;
    store.enqueue(HOST, &["a"]).await;
    let job = store.lease_one(&worker).await;
    assert_eq!(store.settle(job.token, retry(10 * SECOND)).await, Answer::Recorded(JobState::Queued));
    let record = store.record("a").await;
    assert_eq!(
        (record.reason.as_deref(), record.last_error.as_deref()),
        (Some("timeout"), Some("no answer"))
    );
    let batch = store.batch(&store.request(&worker, 1)).await;
    assert!(batch.jobs.is_empty());
    assert_wait(batch.next_open, 10 * SECOND);
    store.advance(Duration::from_millis(9_998));
    assert!(store.lease(&worker, 1).await.is_empty());
    store.advance(Duration::from_millis(2));
    let again = store.lease_one(&worker).await;
    assert_eq!(again.attempts, 1);
}

pub(super) async fn a_retry_may_go_elsewhere(store: &TestStore) {
    let worker = store.join("w").await;
    store.enqueue(HOST, &["a", "a2"]).await;
    let jobs = store.lease_by(&worker, 1, &capped(1)).await;
    let place = Place::new(lane("b.example"), Role::Metadata);
    let verdict = Verdict::Retry {
        after: Duration::ZERO,
        reason: "timeout".to_owned(),
        detail: String::new(),
        place: Some(place.clone()),
        checkpoint: Some("{\"plan\":2}".to_owned()),
    };
    store.settle(jobs[0].token, verdict).await;
    let again = store.lease_by(&worker, 5, &capped(1)).await;
    let moved = again.iter().find(|job| job.artifact_id.as_str() == "a").unwrap();
    assert_eq!(moved.place, place);
    assert_eq!(moved.checkpoint.as_deref(), Some("{\"plan\":2}"));
    assert_eq!(again.len(), 2, "its old lane has a free slot");
}

pub(super) async fn releasing_keeps_age_and_place(store: &TestStore) {
    let worker = store.join("w").await;
    store.enqueue_jobs(&[delayed("a", HOST, SECOND)]).await;
    store.advance_secs(2);
    store.enqueue(HOST, &["b"]).await;
    let job = store.lease_one(&worker).await;
    let before = store.record("a").await;
    store.advance_secs(5);
    store.release(&job).await;
    let after = store.record("a").await;
    assert_eq!((after.available_at, after.place), (before.available_at, before.place));
    assert_eq!(names(&store.lease(&worker, 2).await), ["a", "b"]);
}

pub(super) async fn a_checkpoint_is_what_the_next_try_knows(store: &TestStore) {
    let worker = store.join("w").await;
    store.enqueue(HOST, &["a"]).await;
    let job = store.lease_one(&worker).await;
    assert!(store.queue().checkpoint(&job.token, "one").await.unwrap());
    assert_eq!(store.record("a").await.checkpoint.as_deref(), Some("one"));
    // A release that says nothing keeps it, one that does replaces it.
    store.release(&job).await;
    let job = store.lease_one(&worker).await;
    assert_eq!(job.checkpoint.as_deref(), Some("one"));
    store.settle(job.token, Verdict::Release { checkpoint: Some("two".to_owned()) }).await;
    let job = store.lease_one(&worker).await;
    assert_eq!(job.checkpoint.as_deref(), Some("two"));
    // A retry, a deferral and a throttling that say nothing forget it.
    store.release(&job).await;
    for forgetful in [retry(Duration::ZERO), defer(Duration::ZERO, HOST), throttled()] {
        let job = store.lease_one(&worker).await;
        store.queue().checkpoint(&job.token, "three").await.unwrap();
        store.settle(job.token, forgetful).await;
        assert_eq!(store.record("a").await.checkpoint, None);
    }
    let job = store.lease_one(&worker).await;
    let place = Place::new(lane(HOST), Role::Artifact);
    let verdict = Verdict::Defer { after: Duration::ZERO, place, checkpoint: Some("four".to_owned()) };
    store.settle(job.token, verdict).await;
    let job = store.lease_one(&worker).await;
    assert_eq!(job.checkpoint.as_deref(), Some("four"));
    store.settle(job.token, release()).await;
    assert!(!store.queue().checkpoint(&job.token, "five").await.unwrap(), "it is not held any more");
}

/// Everything is put off until its own time; a job that comes back must lower that.
pub(super) async fn what_comes_back_wakes_a_lane_that_was_put_off(store: &TestStore) {
    let worker = store.join("w").await;
    store.enqueue(HOST, &["a"]).await;
    store.enqueue_jobs(&[delayed("later", HOST, Duration::from_mins(50))]).await;
    let job = store.lease_one(&worker).await;
    assert!(store.lease(&worker, 1).await.is_empty());
    store.settle(job.token, retry(SECOND)).await;
    assert_wait(store.batch(&store.request(&worker, 1)).await.next_open, SECOND);
    store.advance(SECOND);
    assert_eq!(names(&store.lease(&worker, 5).await), ["a"]);
}
