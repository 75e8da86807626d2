//! Accepting jobs.

use std::time::Duration;

use super::TestStore;
use super::rules::lane;
use super::test_store::{assert_wait, delayed, id, job, names, only};
use crate::{Class, Enqueued, JobState, NewJob, Place, Role, WorkQueueExt};

pub(super) async fn inv_idempotent_enqueuing_again_changes_nothing(store: &TestStore) {
    let first = only(store.enqueue_jobs(&[job("a", "one.example")]).await);
    let before = store.record("a").await;
    store.advance_secs(5);
    let mut again = job("a", "two.example");
    "{\"other\":true}".clone_into(&mut again.payload);
    again.priority = Class::HIGHEST;
    again.delay = Duration::from_mins(1);
    let answer = store.queue().enqueue(&[again]).await.unwrap();
    assert_eq!(answer, [Enqueued::Duplicate(first)]);
    assert_eq!(store.record("a").await, before);
    assert_eq!(store.counts().await.total(), 1);
}

pub(super) async fn inv_idempotent_one_batch_may_name_an_artifact_twice(store: &TestStore) {
    let jobs = [job("a", ""), job("b", ""), job("a", "")];
    let answers = store.queue().enqueue(&jobs).await.unwrap();
    let [Enqueued::New(a), Enqueued::New(b), Enqueued::Duplicate(again)] = answers[..] else {
        panic!("{answers:?}")
    };
    assert_eq!(a, again);
    assert_ne!(a, b);
    assert_eq!(store.counts().await.queued, 2);
}

pub(super) async fn inv_idempotent_an_ended_job_stays_known(store: &TestStore) {
    let worker = store.join("w").await;
    let known = only(store.enqueue_jobs(&[job("a", "")]).await);
    store.ack(&store.lease_one(&worker).await).await;
    let answer = store.queue().enqueue_one(job("a", "")).await.unwrap();
    assert_eq!(answer, Enqueued::Duplicate(known));
    assert_eq!(store.state("a").await, JobState::Done);
    assert!(store.lease(&worker, 1).await.is_empty());
}

pub(super) async fn numbers_grow_in_the_order_of_the_batch(store: &TestStore) {
    let mut ids = store.enqueue_jobs(&[job("b", ""), job("a", ""), job("c", "")]).await;
    ids.extend(store.enqueue_jobs(&[job("d", "")]).await);
    assert!(ids.is_sorted_by(|one, next| one < next), "{ids:?}");
    for (name, id) in ["b", "a", "c", "d"].into_iter().zip(ids) {
        assert_eq!(store.record(name).await.id, id);
    }
}

pub(super) async fn enqueuing_nothing_is_fine(store: &TestStore) {
    assert_eq!(store.queue().enqueue(&[]).await.unwrap(), []);
    assert_eq!(store.counts().await.total(), 0);
}

pub(super) async fn a_delayed_job_waits_for_its_own_time(store: &TestStore) {
    let worker = store.join("w").await;
    store.enqueue_jobs(&[delayed("later", "a.example", Duration::from_secs(10))]).await;
    let batch = store.batch(&store.request(&worker, 1)).await;
    assert!(batch.jobs.is_empty());
    assert_wait(batch.next_open, Duration::from_secs(10));
    store.advance(Duration::from_millis(9_998));
    assert!(store.lease(&worker, 1).await.is_empty());
    store.advance(Duration::from_millis(2));
    assert_eq!(names(&store.lease(&worker, 1).await), ["later"]);
}

pub(super) async fn a_delayed_job_never_freezes_its_lane(store: &TestStore) {
    let worker = store.join("w").await;
    store.enqueue_jobs(&[delayed("later", "a.example", Duration::from_hours(1))]).await;
    assert!(store.lease(&worker, 1).await.is_empty());
    store.enqueue("a.example", &["now"]).await;
    assert_eq!(names(&store.lease(&worker, 5).await), ["now"]);
}

pub(super) async fn what_was_enqueued_is_what_is_leased(store: &TestStore) {
    let worker = store.join("w").await;
    let new = NewJob {
        artifact_id: id("doi:10.1000/\"quoted\" Ünïcødé 論文"),
        payload: "{\"title\":\"a \\\"b\\\" \u{1F600} \\u0000\"}".to_owned(),
        resolver_hint: Some("arxiv".to_owned()),
        place: Place::new(lane("example.org:8443"), Role::Metadata),
        priority: Class::new(7).unwrap(),
        max_attempts: Some(3),
        delay: Duration::ZERO,
    };
    store.enqueue_jobs(std::slice::from_ref(&new)).await;
    let leased = store.lease_one(&worker).await;
    assert_eq!(leased.artifact_id, new.artifact_id);
    assert_eq!(leased.payload, new.payload);
    assert_eq!(leased.resolver_hint, new.resolver_hint);
    assert_eq!(leased.place, new.place);
    assert_eq!(leased.priority, new.priority);
    assert_eq!(leased.max_attempts, Some(3));
    assert_eq!((leased.attempts, leased.losses, leased.throttles), (0, 0, 0));
    assert_eq!(leased.checkpoint, None);
    let record = store.record(new.artifact_id.as_str()).await;
    assert_eq!((record.payload, record.place), (new.payload, new.place));
    assert_eq!((record.resolver_hint, record.max_attempts), (new.resolver_hint, Some(3)));
    assert_eq!(record.slot, Some(lane("example.org:8443")));
    assert_eq!(record.worker, Some(worker));
}
