//! What operators do to jobs: retry-failed, requeue, cancel, reconcile, list.

use std::time::Duration;

use super::TestStore;
use super::rules::{capped, lane};
use super::test_store::{TTL, done, done_with, error, id, names, retry, skipped};
use crate::{Answer, JobFilter, JobPage, JobState, LeasedJob, Verdict, WorkerId};

const HOST: &str = "a.example";

/// Leases all and ends each with a verdict.
async fn end_all(store: &TestStore, worker: &WorkerId, verdict: impl Fn(&LeasedJob) -> Verdict) {
    for job in store.lease(worker, 100).await {
        assert!(matches!(store.settle(job.token, verdict(&job)).await, Answer::Recorded(_)));
    }
}

pub(super) async fn retry_failed_starts_afresh(store: &TestStore) {
    let worker = store.join("w").await;
    store.enqueue(HOST, &["a", "b"]).await;
    let held = store.lease(&worker, 2).await;
    store.settle(held[0].token, retry(Duration::ZERO)).await;
    end_all(store, &worker, |_| error()).await;
    store.ack(&held[1]).await;
    assert_eq!(store.record("a").await.attempts, 2);
    assert_eq!(store.queue().retry_failed(&JobFilter::default(), 100).await.unwrap(), 1);
    let record = store.record("a").await;
    assert_eq!((record.state, record.attempts, record.finished_at), (JobState::Queued, 0, None));
    assert_eq!(record.outcome, None);
    assert_eq!(store.get("a").await.1[0].event, "retry_failed");
    let again = store.lease(&worker, 5).await;
    assert_eq!(names(&again), ["a"]);
    assert!(again[0].token.fence > 2, "the fence goes on growing");
    assert_eq!(store.state("b").await, JobState::Done);
}

pub(super) async fn retry_failed_minds_its_filter_and_its_limit(store: &TestStore) {
    let worker = store.join("w").await;
    store.enqueue(HOST, &["a1", "a2", "a3"]).await;
    store.enqueue("b.example", &["b1"]).await;
    end_all(store, &worker, |job| Verdict::Error {
        reason: if job.artifact_id == id("a1") { "gone" } else { "policy" }.to_owned(),
        outcome: "{}".to_owned(),
        detail: String::new(),
    })
    .await;
    let gone = JobFilter { reason: Some("gone".to_owned()), ..JobFilter::default() };
    assert_eq!(store.queue().retry_failed(&gone, 100).await.unwrap(), 1);
    assert_eq!(store.state("a1").await, JobState::Queued);
    let of_b = JobFilter { lane: Some(lane("b.example")), ..JobFilter::default() };
    assert_eq!(store.queue().retry_failed(&of_b, 100).await.unwrap(), 1);
    assert_eq!(store.queue().retry_failed(&JobFilter::default(), 1).await.unwrap(), 1);
    assert_eq!(store.counts().await.error, 1);
    assert_eq!(store.queue().retry_failed(&JobFilter::default(), 0).await.unwrap(), 0);
}

pub(super) async fn requeue_takes_whatever_has_ended(store: &TestStore) {
    let worker = store.join("w").await;
    store.enqueue(HOST, &["a", "b", "c"]).await;
    let held = store.lease(&worker, 3).await;
    for (job, verdict) in held.iter().zip([done_with("s", "a.pdf"), skipped(), error()]) {
        store.settle(job.token, verdict).await;
    }
    store.enqueue(HOST, &["queued", "held"]).await;
    store.lease_one(&worker).await;
    let ids = ["a", "b", "c", "queued", "held", "unknown"].map(id);
    assert_eq!(store.queue().requeue(&ids).await.unwrap(), 3);
    let record = store.record("a").await;
    assert_eq!((record.state, record.finished_at, record.published), (JobState::Queued, None, false));
    assert_eq!((record.outcome, record.path, record.sha256, record.store), (None, None, None, None));
    assert_eq!(store.record("c").await.attempts, 0);
    let counts = store.counts().await;
    assert_eq!((counts.queued, counts.in_progress), (4, 1));
    assert_eq!(store.lease(&worker, 10).await.len(), 4);
}

/// INV-ATTEMPTS: fresh counts, so it need not run alone any more.
pub(super) async fn a_requeued_job_forgets_its_losses(store: &TestStore) {
    store.enqueue(HOST, &["poison"]).await;
    for process in ["dead-1", "dead-2"] {
        let worker = store.join(process).await;
        store.lease_one(&worker).await;
        store.advance_secs(60);
    }
    let worker = store.join("w").await;
    assert!(store.lease(&worker, 1).await.is_empty());
    store.queue().cancel(&[id("poison")]).await.unwrap();
    assert!(!store.batch(&store.request(&worker, 1)).await.alone_waiting);
    store.queue().requeue(&[id("poison")]).await.unwrap();
    assert_eq!(store.lease_one(&worker).await.losses, 0);
}

pub(super) async fn cancelling_takes_queued_and_held_jobs(store: &TestStore) {
    let worker = store.join("w").await;
    store.enqueue(HOST, &["held", "queued", "next"]).await;
    let held = store.lease_by(&worker, 1, &capped(1)).await;
    assert_eq!(store.queue().cancel(&["held", "queued", "unknown"].map(id)).await.unwrap(), 2);
    for name in ["held", "queued"] {
        let record = store.record(name).await;
        assert_eq!((record.state, record.reason.as_deref()), (JobState::Skipped, Some("cancelled")));
        assert!(record.finished_at.is_some() && !record.published);
        assert_eq!((record.attempts, record.losses), (0, 0));
        assert_eq!(store.get(name).await.1[0].event, "cancel");
    }
    // INV-FENCE: the holder has lost its lease, and its slot is free.
    assert_eq!(store.settle(held[0].token, done()).await, Answer::LeaseLost);
    assert_eq!(store.beat(&worker).await.held, 0);
    assert_eq!(names(&store.lease_by(&worker, 5, &capped(1)).await), ["next"]);
}

pub(super) async fn inv_final_cancelling_leaves_what_has_ended(store: &TestStore) {
    let worker = store.join("w").await;
    store.enqueue(HOST, &["a", "b"]).await;
    let held = store.lease(&worker, 2).await;
    store.ack(&held[0]).await;
    store.settle(held[1].token, error()).await;
    let before = (store.record("a").await, store.record("b").await);
    assert_eq!(store.queue().cancel(&["a", "b"].map(id)).await.unwrap(), 0);
    assert_eq!((store.record("a").await, store.record("b").await), before);
}

pub(super) async fn reconciling_releases_what_the_process_does_not_know_of(store: &TestStore) {
    let (worker, other) = (store.join("w").await, store.join("other").await);
    store.enqueue_many(HOST, 4).await;
    let held = store.lease(&worker, 3).await;
    let others = store.lease_one(&other).await;
    let mut stale = held[1].token;
    stale.fence -= 1;
    let believed = [held[0].token, stale];
    assert_eq!(store.queue().reconcile(&worker, &believed).await.unwrap(), 2);
    assert_eq!(store.beat(&worker).await.held, 1);
    for job in &held[1..] {
        let record = store.record(job.artifact_id.as_str()).await;
        assert_eq!((record.state, record.attempts, record.losses), (JobState::Queued, 0, 0));
    }
    store.ack(&held[0]).await;
    store.ack(&others).await;
    assert_eq!(store.queue().reconcile(&WorkerId::from_text("stranger"), &[]).await.unwrap(), 0);
}

pub(super) async fn listing_pages_by_number_and_filters(store: &TestStore) {
    let worker = store.join("w").await;
    store.enqueue_many(HOST, 5).await;
    store.enqueue_many("b.example", 5).await;
    for job in store.lease(&worker, 4).await {
        store.settle(job.token, skipped()).await;
    }
    let all = store.all().await;
    assert_eq!(all.len(), 10);
    assert!(all.is_sorted_by(|one, next| one.id < next.id));
    let queue = store.queue();
    let page = JobPage { after: Some(all[2].id), limit: 3 };
    let found = queue.list(&JobFilter::default(), page).await.unwrap();
    assert_eq!(found.as_slice(), &all[3..6]);
    let whole = JobPage { after: None, limit: 100 };
    for (filter, count) in [
        (JobFilter { state: Some(JobState::Skipped), ..JobFilter::default() }, 4),
        (JobFilter { state: Some(JobState::Queued), ..JobFilter::default() }, 6),
        (JobFilter { lane: Some(lane(HOST)), ..JobFilter::default() }, 5),
        (JobFilter { reason: Some("robots".to_owned()), ..JobFilter::default() }, 4),
        (JobFilter { reason: Some("other".to_owned()), ..JobFilter::default() }, 0),
        (
            JobFilter {
                state: Some(JobState::Skipped),
                lane: Some(lane(HOST)),
                reason: Some("robots".to_owned()),
            },
            2,
        ),
    ] {
        let found = queue.list(&filter, whole).await.unwrap();
        assert_eq!(found.len(), count, "{filter:?}");
    }
    assert_eq!(queue.list(&JobFilter::default(), JobPage { after: None, limit: 0 }).await.unwrap(), []);
    assert!(queue.get(&id("unknown")).await.unwrap().is_none());
}

pub(super) async fn the_cache_keeps_values_for_their_time(store: &TestStore) {
    let queue = store.queue();
    assert_eq!(queue.cache_get("robots:a.example").await.unwrap(), None);
    queue.cache_put("robots:a.example", "User-agent: *", TTL).await.unwrap();
    queue.cache_put("other", "é", 10 * TTL).await.unwrap();
    assert_eq!(store.queue().cache_get("robots:a.example").await.unwrap().as_deref(), Some("User-agent: *"));
    queue.cache_put("robots:a.example", "Disallow: /", TTL).await.unwrap();
    assert_eq!(store.queue().cache_get("robots:a.example").await.unwrap().as_deref(), Some("Disallow: /"));
    store.advance(TTL);
    assert_eq!(store.queue().cache_get("robots:a.example").await.unwrap(), None);
    assert_eq!(store.queue().cache_get("other").await.unwrap().as_deref(), Some("é"));
}

pub(super) async fn a_check_of_a_sound_store_mends_nothing(store: &TestStore) {
    let worker = store.join("w").await;
    store.enqueue_many(HOST, 5).await;
    store.lease_by(&worker, 2, &capped(2)).await;
    let check = store.queue().check(true).await.unwrap();
    assert_eq!((check.problems.len(), check.repaired), (0, false));
    assert!(store.lease_by(&worker, 2, &capped(2)).await.is_empty());
}

pub(super) async fn retry_failed_with_another_state_means_nothing(store: &TestStore) {
    store.enqueue_many("a.example", 1).await;
    let worker = store.join("w").await;
    let job = store.lease_one(&worker).await;
    store.settle(job.token, error()).await;
    let filter = JobFilter { state: Some(JobState::Done), ..JobFilter::default() };
    assert_eq!(store.queue().retry_failed(&filter, 10).await.unwrap(), 0);
}

pub(super) async fn inv_fence_cancelling_takes_no_number(store: &TestStore) {
    store.enqueue_many("a.example", 1).await;
    let worker = store.join("w").await;
    let job = store.lease_one(&worker).await;
    store.queue().cancel(std::slice::from_ref(&job.artifact_id)).await.unwrap();
    store.queue().requeue(std::slice::from_ref(&job.artifact_id)).await.unwrap();
    assert_eq!(store.lease_one(&worker).await.token.fence, job.token.fence + 1);
}
