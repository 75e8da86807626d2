//! Retention: the rows of old jobs are slimmed in place, and what they were stays known (INV-IDEMPOTENT).

use std::time::Duration;

use super::TestStore;
use super::rules::unlimited;
use super::test_store::{done, done_with, error, id, names, retry, skipped};
use crate::{
    Answer, Enqueued, Explanation, JobFilter, JobRecord, JobState, NewJob, Settlement, Verdict, WorkQueueExt,
};

const HOST: &str = "a.example";
const DAY: Duration = Duration::from_hours(24);

/// Jobs that end so, one after the other, and are published.
async fn end(store: &TestStore, names: &[&str], verdict: impl Fn(&str) -> Verdict) {
    let worker = store.join("ends").await;
    store.enqueue(HOST, names).await;
    let held = store.lease(&worker, names.len()).await;
    for job in &held {
        let answer = store.settle(job.token, verdict(job.artifact_id.as_str())).await;
        assert!(matches!(answer, Answer::Recorded(_)), "{answer:?}");
    }
    let ids: Vec<_> = held.iter().map(|job| job.token.job).collect();
    store.queue().published(&ids).await.unwrap();
    store.leave(&worker).await;
}

async fn prune(store: &TestStore, state: JobState, older_than: Duration) -> u64 {
    store.queue().prune(state, older_than).await.unwrap()
}

pub(super) async fn inv_idempotent_pruning_slims_and_keeps_the_key(store: &TestStore) {
    let worker = store.join("w").await;
    store.enqueue(HOST, &["old", "young", "unpublished", "failed"]).await;
    store.settle(store.lease_one(&worker).await.token, retry(Duration::ZERO)).await;
    let held = store.lease(&worker, 4).await;
    assert_eq!(store.get("old").await.1.len(), 1);
    let token = |name: &str| held.iter().find(|job| job.artifact_id == id(name)).unwrap().token;
    store.settle(token("old"), done_with("s", "old.pdf")).await;
    store.settle(token("unpublished"), done()).await;
    store.settle(token("failed"), error()).await;
    let old = store.record("old").await;
    store.queue().published(&[old.id, token("failed").job]).await.unwrap();
    store.advance_secs(30);
    store.settle(token("young"), done()).await;
    store.queue().published(&[token("young").job]).await.unwrap();
    let day = Duration::from_secs(20);
    assert_eq!(store.queue().prune(JobState::Done, day).await.unwrap(), 1);
    assert_eq!(store.queue().prune(JobState::Done, day).await.unwrap(), 0, "it is slim already");
    let (record, history) = store.get("old").await;
    assert_eq!((record.state, &record.outcome, &record.checkpoint), (JobState::Done, &None, &None));
    assert_eq!((record.id, &record.path), (old.id, &old.path), "its path stays taken");
    assert!(record.slim && !old.slim);
    assert_ne!(record.payload, old.payload);
    let kept = |record: &JobRecord| {
        (record.reason.clone(), record.sha256.clone(), record.attempts, record.fence, record.finished_at)
    };
    assert_eq!(kept(&record), kept(&old));
    assert_eq!(history, []);
    assert_eq!(store.record("young").await.outcome.as_deref(), Some("{}"));
    assert_eq!(store.record("unpublished").await.outcome.as_deref(), Some("{}"));
    assert_eq!(store.record("failed").await.outcome.as_deref(), Some("{}"), "another state");
    let again = store.queue().enqueue_one(super::test_store::job("old", HOST)).await.unwrap();
    assert_eq!(again, Enqueued::Duplicate(record.id));
    assert_eq!(store.counts().await.total(), 4);
}

pub(super) async fn pruning_touches_only_what_has_ended(store: &TestStore) {
    let worker = store.join("w").await;
    store.enqueue(HOST, &["held", "queued"]).await;
    store.lease_one(&worker).await;
    store.advance_secs(30);
    let before = (store.record("held").await, store.record("queued").await);
    for state in [JobState::Queued, JobState::InProgress] {
        assert_eq!(store.queue().prune(state, Duration::ZERO).await.unwrap_or(0), 0);
    }
    assert_eq!((store.record("held").await, store.record("queued").await), before);
}

/// A job whose row held next to nothing is slim all the same: what can run again does not depend on its payload.
pub(super) async fn what_had_an_empty_payload_is_pruned_as_well(store: &TestStore) {
    store.enqueue_jobs(&[NewJob::new(id("bare"), "{}")]).await;
    let worker = store.join("w").await;
    let job = store.lease_one(&worker).await;
    store.ack(&job).await;
    store.queue().published(&[job.token.job]).await.unwrap();
    assert_eq!(prune(store, JobState::Done, Duration::ZERO).await, 1);
    let record = store.record("bare").await;
    assert!(record.slim && record.outcome.is_none());
    assert_eq!(prune(store, JobState::Done, Duration::ZERO).await, 0);
    assert_eq!(store.queue().requeue(&[id("bare")]).await.unwrap(), 0);
}

/// What is done may go after a day while errors are kept for a month.
pub(super) async fn each_state_has_its_own_retention(store: &TestStore) {
    end(store, &["done", "skipped", "error"], |name| match name {
        "done" => done(),
        "skipped" => skipped(),
        _ => error(),
    })
    .await;
    let slim = async || {
        let all = store.all().await;
        all.into_iter().filter(|job| job.slim).map(|job| job.artifact_id.to_string()).collect::<Vec<_>>()
    };
    store.advance(DAY);
    assert_eq!(prune(store, JobState::Error, 30 * DAY).await, 0);
    assert_eq!(prune(store, JobState::Done, DAY).await, 1);
    assert_eq!(slim().await, ["done"]);
    store.advance(29 * DAY);
    assert_eq!(prune(store, JobState::Error, 30 * DAY).await, 1);
    assert_eq!(slim().await, ["done", "error"]);
    assert_eq!(prune(store, JobState::Skipped, Duration::ZERO).await, 1);
    let record = store.record("skipped").await;
    assert_eq!((record.reason.as_deref(), record.last_error), (Some("robots"), None));
    assert_eq!(store.counts().await.total(), 3);
}

pub(super) async fn age_counts_from_the_end_to_the_millisecond(store: &TestStore) {
    end(store, &["a"], |_| done()).await;
    store.advance(Duration::from_millis(86_400_000 - 2));
    assert_eq!(prune(store, JobState::Done, DAY).await, 0);
    store.advance(Duration::from_millis(2));
    assert_eq!(prune(store, JobState::Done, DAY).await, 1);
    assert_eq!(prune(store, JobState::Done, Duration::MAX).await, 0);
}

/// However many transactions that takes.
pub(super) async fn one_call_prunes_all_that_are_old(store: &TestStore) {
    let many: Vec<String> = (0..1_234).map(|number| number.to_string()).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    end(store, &many, |_| done()).await;
    assert_eq!(prune(store, JobState::Done, Duration::ZERO).await, 1_234);
    assert!(store.all().await.iter().all(|job| job.slim && job.outcome.is_none()));
    assert_eq!(prune(store, JobState::Done, Duration::ZERO).await, 0);
}

/// Its payload is gone, so there is nothing that a worker could run.
pub(super) async fn inv_final_a_slim_job_never_runs_again(store: &TestStore) {
    end(store, &["old-1", "old-2"], |_| error()).await;
    assert_eq!(prune(store, JobState::Error, Duration::ZERO).await, 2);
    end(store, &["new-1", "new-2"], |_| error()).await;
    let before = store.record("old-1").await;
    let all = ["old-1", "new-1"].map(id);
    assert_eq!(store.queue().requeue(&all).await.unwrap(), 1, "the count says that one was left");
    assert_eq!(store.queue().cancel(&[id("new-1")]).await.unwrap(), 1);
    // Slim ones come first by number, and do not use the limit up.
    assert_eq!(store.queue().retry_failed(&JobFilter::default(), 1).await.unwrap(), 1);
    assert_eq!(store.record("old-1").await, before);
    let worker = store.join("w").await;
    assert_eq!(names(&store.lease(&worker, 10).await), ["new-2"]);
    let explained = store.queue().explain(&id("old-2"), &unlimited()).await.unwrap();
    assert_eq!(explained, Explanation::Ended { state: JobState::Error, reason: Some("gone".to_owned()) });
}

/// The file is still there, whatever the queue forgot of how it came.
pub(super) async fn a_slim_jobs_path_stays_taken(store: &TestStore) {
    end(store, &["old"], |_| done_with("s", "paper.pdf")).await;
    assert_eq!(prune(store, JobState::Done, Duration::ZERO).await, 1);
    let record = store.record("old").await;
    assert_eq!((record.path.as_deref(), record.sha256), (Some("paper.pdf"), Some("0".repeat(64))));
    let worker = store.join("w").await;
    store.enqueue(HOST, &["new"]).await;
    let held = store.lease_one(&worker).await;
    assert_eq!(store.settle(held.token, done_with("s", "paper.pdf")).await, Answer::PathTaken);
    assert_eq!(
        store.settle(held.token, done_with("s", "paper-2.pdf")).await,
        Answer::Recorded(JobState::Done)
    );
}

pub(super) async fn a_job_that_ran_again_is_as_old_as_its_last_end(store: &TestStore) {
    end(store, &["a"], |_| done()).await;
    store.advance(DAY);
    assert_eq!(store.queue().requeue(&[id("a")]).await.unwrap(), 1);
    assert_eq!(prune(store, JobState::Done, Duration::ZERO).await, 0, "it is queued");
    let worker = store.join("w").await;
    let held = store.lease_one(&worker).await;
    store.ack(&held).await;
    store.queue().published(&[held.token.job]).await.unwrap();
    assert_eq!(prune(store, JobState::Done, DAY).await, 0);
    assert!(!store.record("a").await.slim);
    store.advance(DAY);
    assert_eq!(prune(store, JobState::Done, DAY).await, 1);
}

/// A worker that was cut off repeats what it said, however late.
pub(super) async fn inv_fence_a_settlement_is_answered_the_same_after_pruning(store: &TestStore) {
    let worker = store.join("w").await;
    store.enqueue(HOST, &["a"]).await;
    let held = store.lease_one(&worker).await;
    store.ack(&held).await;
    store.queue().published(&[held.token.job]).await.unwrap();
    assert_eq!(prune(store, JobState::Done, Duration::ZERO).await, 1);
    let slim = store.record("a").await;
    store.ack(&held).await;
    let settled = store.queue().settle(&[Settlement::new(held.token, error())], None).await.unwrap();
    assert_eq!(settled.answers, [Answer::LeaseLost]);
    assert_eq!(store.record("a").await, slim);
}
