//! What a lease request is given.

use std::time::Duration;

use super::TestStore;
use super::rules::{capped, lane, paced};
use super::test_store::{asks_for_quiet, assert_wait, delayed, job, names, throttled, tokens};
use crate::WorkerId;

pub(super) async fn a_lease_gives_at_most_what_was_asked(store: &TestStore) {
    let worker = store.join("w").await;
    store.enqueue_many("", 5).await;
    assert_eq!(store.lease(&worker, 0).await.len(), 0);
    assert_eq!(store.lease(&worker, 3).await.len(), 3);
    assert_eq!(store.lease(&worker, 3).await.len(), 2);
    assert_eq!(store.lease(&worker, 3).await.len(), 0);
    assert_eq!(store.counts().await.in_progress, 5);
}

pub(super) async fn within_a_lane_the_oldest_goes_first(store: &TestStore) {
    let worker = store.join("w").await;
    let early = delayed("early", "a.example", Duration::from_secs(1));
    store.enqueue_jobs(&[delayed("late", "a.example", Duration::from_secs(2)), early]).await;
    store.advance_secs(3);
    store.enqueue("a.example", &["third", "fourth"]).await;
    for name in ["early", "late", "third", "fourth"] {
        assert_eq!(store.lease_one(&worker).await.artifact_id.as_str(), name);
    }
}

pub(super) async fn a_leased_job_is_given_to_nobody_else(store: &TestStore) {
    let (one, two) = (store.join("one").await, store.join("two").await);
    store.enqueue("a.example", &["a"]).await;
    assert_eq!(store.lease(&one, 5).await.len(), 1);
    assert!(store.lease(&two, 5).await.is_empty());
    assert!(store.lease(&one, 5).await.is_empty());
}

pub(super) async fn inv_fence_the_fence_grows_by_one_at_each_lease(store: &TestStore) {
    let worker = store.join("w").await;
    store.enqueue("a.example", &["a"]).await;
    assert_eq!(store.record("a").await.fence, 0);
    for fence in 1..=4 {
        let job = store.lease_one(&worker).await;
        assert_eq!(job.token.fence, fence);
        assert_eq!(store.record("a").await.fence, fence);
        store.release(&job).await;
    }
}

pub(super) async fn a_process_that_never_joined_is_given_nothing(store: &TestStore) {
    store.enqueue("a.example", &["a"]).await;
    let batch = store.batch(&store.request(&WorkerId::from_text("stranger"), 1)).await;
    assert!(batch.jobs.is_empty());
    assert_eq!(store.counts().await.queued, 1);
}

pub(super) async fn a_process_that_expired_or_left_is_given_nothing(store: &TestStore) {
    let (late, gone) = (store.join("late").await, store.join("gone").await);
    store.enqueue("a.example", &["a"]).await;
    store.leave(&gone).await;
    assert!(store.lease(&gone, 1).await.is_empty());
    store.advance_secs(60);
    assert!(store.lease(&late, 1).await.is_empty());
    assert_eq!(store.counts().await.queued, 1);
}

pub(super) async fn repeating_a_request_returns_the_same_batch(store: &TestStore) {
    let worker = store.join("w").await;
    store.enqueue_many("a.example", 5).await;
    let request = store.request(&worker, 2);
    let first = store.batch(&request).await.jobs;
    store.advance(Duration::from_millis(400));
    let again = store.batch(&request).await.jobs;
    assert_eq!(tokens(&again), tokens(&first));
    assert_eq!(store.counts().await.in_progress, 2);
    // Another number is another wish.
    let other = store.batch(&store.request(&worker, 2)).await.jobs;
    assert_eq!(other.len(), 2);
    assert!(tokens(&other).iter().all(|token| !tokens(&first).contains(token)));
}

pub(super) async fn a_repeated_request_returns_only_what_is_still_held(store: &TestStore) {
    let worker = store.join("w").await;
    store.enqueue_many("a.example", 5).await;
    let request = store.request(&worker, 3);
    let first = store.batch(&request).await.jobs;
    store.ack(&first[1]).await;
    let again = store.batch(&request).await.jobs;
    assert_eq!(tokens(&again), tokens(&[first[0].clone(), first[2].clone()]));
}

pub(super) async fn the_same_number_of_another_process_is_another_request(store: &TestStore) {
    let (one, two) = (store.join("one").await, store.join("two").await);
    store.enqueue_many("a.example", 4).await;
    let request = store.request(&one, 2);
    let ones = store.batch(&request).await.jobs;
    let twos = store.batch(&crate::LeaseRequest { worker: two, ..request }).await.jobs;
    assert_eq!(twos.len(), 2);
    assert!(tokens(&twos).iter().all(|token| !tokens(&ones).contains(token)));
}

/// Otherwise a dispatcher that believes it would never rest.
pub(super) async fn a_short_batch_never_says_to_ask_again_at_once(store: &TestStore) {
    let worker = store.join("w").await;
    let rests = |batch: crate::LeaseBatch, what: &str| {
        assert!(batch.jobs.is_empty(), "{what}: {batch:?}");
        assert_ne!(batch.next_open, Some(Duration::ZERO), "{what}");
    };
    rests(store.batch(&store.request(&worker, 1)).await, "nothing queued");
    store.enqueue_jobs(&[delayed("later", "delayed.example", Duration::from_secs(9))]).await;
    rests(store.batch(&store.request(&worker, 1)).await, "delayed");
    store.enqueue("full.example", &["full/0", "full/1"]).await;
    assert_eq!(store.lease_by(&worker, 1, &capped(1)).await.len(), 1);
    rests(store.batch(&store.request_by(&worker, 1, &capped(1))).await, "full");
    store.queue().pause(Some(&lane("paused.example")), None, "x").await.unwrap();
    store.enqueue("paused.example", &["paused/0"]).await;
    rests(store.batch(&store.request_by(&worker, 1, &capped(1))).await, "paused");
    store.queue().close(&lane("closed.example"), Duration::from_mins(1), "x").await.unwrap();
    store.enqueue("closed.example", &["closed/0"]).await;
    rests(store.batch(&store.request_by(&worker, 1, &capped(1))).await, "closed");
    let paced = super::rules::capped_and_paced(1, "1/s");
    store.enqueue("paced.example", &["paced/0", "paced/1"]).await;
    let given = store.lease_by(&worker, 1, &paced).await;
    assert_eq!(names(&given), ["paced/0"]);
    store.ack(&given[0]).await;
    rests(store.batch(&store.request_by(&worker, 1, &paced)).await, "paced");
    store.queue().pause(None, None, "x").await.unwrap();
    store.enqueue("", &["nowhere"]).await;
    rests(store.batch(&store.request_by(&worker, 1, &paced)).await, "all paused");
    rests(store.batch(&store.request(&WorkerId::from_text("stranger"), 1)).await, "a stranger");
}

pub(super) async fn next_open_is_when_the_first_lane_opens(store: &TestStore) {
    let worker = store.join("w").await;
    store.enqueue_jobs(&[delayed("a", "a.example", Duration::from_secs(30))]).await;
    store.enqueue("b.example", &["b"]).await;
    let job = store.lease_one(&worker).await;
    let quiet = asks_for_quiet("b.example", Some(20));
    store.settle_with(job.token, throttled(), vec![quiet]).await;
    let batch = store.batch(&store.request(&worker, 1)).await;
    assert!(batch.jobs.is_empty());
    assert_wait(batch.next_open, Duration::from_secs(20));
    store.advance_secs(20);
    assert_eq!(names(&store.lease(&worker, 1).await), ["b"]);
    assert_wait(store.batch(&store.request(&worker, 1)).await.next_open, Duration::from_secs(10));
}

pub(super) async fn next_open_is_zero_while_more_could_be_had(store: &TestStore) {
    let worker = store.join("w").await;
    store.enqueue_many("a.example", 3).await;
    let batch = store.batch(&store.request(&worker, 2)).await;
    assert_eq!((batch.jobs.len(), batch.next_open), (2, Some(Duration::ZERO)));
}

pub(super) async fn next_open_says_when_another_process_expires(store: &TestStore) {
    let (silent, worker) = (store.join("silent").await, store.join("w").await);
    store.enqueue("a.example", &["a"]).await;
    assert_eq!(store.lease(&silent, 1).await.len(), 1);
    store.advance_secs(10);
    store.beat(&worker).await;
    let batch = store.batch(&store.request(&worker, 1)).await;
    assert!(batch.jobs.is_empty());
    assert_wait(batch.next_open, Duration::from_secs(50));
    // Its own leases are nothing to wait for.
    assert_eq!(store.batch(&store.request(&silent, 1)).await.next_open, None);
}

pub(super) async fn inv_cooldown_a_start_is_only_good_for_a_moment(store: &TestStore) {
    let worker = store.join("w").await;
    store.enqueue_jobs(&[job("free", "free.example")]).await;
    let free = store.lease_one(&worker).await;
    assert!(free.start_within > Duration::ZERO && free.start_within <= Duration::from_millis(250));
    store.enqueue_jobs(&[job("paced", "paced.example")]).await;
    let paced = store.lease_by(&worker, 1, &paced("1/s")).await;
    assert!(paced[0].start_within <= Duration::from_millis(50), "a twentieth of the shortest window");
    assert!(paced[0].start_within > Duration::ZERO);
}
