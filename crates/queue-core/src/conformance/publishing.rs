//! What has ended and is still to be published.

use std::time::Duration;

use super::TestStore;
use super::test_store::{TTL, done, done_with, error, id, only, retry, skipped};
use crate::{JobId, JobPage, JobState, LeaseRequest, StoreId};

const ALL: JobPage = JobPage { after: None, limit: 100 };

async fn unpublished(store: &TestStore, name: &str, page: JobPage) -> Vec<String> {
    let jobs = store.queue().unpublished(&StoreId(name.to_owned()), page).await.unwrap();
    jobs.into_iter().map(|job| job.artifact_id.to_string()).collect()
}

pub(super) async fn everything_that_ended_is_to_be_published_once(store: &TestStore) {
    let worker = store.join("w").await;
    store.enqueue("a.example", &["done", "skipped", "error", "retried", "held"]).await;
    let held = store.lease(&worker, 5).await;
    for (job, verdict) in held.iter().zip([done(), skipped(), error(), retry(Duration::ZERO)]) {
        store.settle(job.token, verdict).await;
    }
    assert_eq!(unpublished(store, "s", ALL).await, ["done", "skipped", "error"]);
    let ids: Vec<JobId> = held.iter().map(|job| job.token.job).collect();
    store.queue().published(&ids[..2]).await.unwrap();
    store.queue().published(&ids[..1]).await.unwrap();
    assert!(store.record("done").await.published);
    assert_eq!(unpublished(store, "s", ALL).await, ["error"]);
    // What has not ended cannot have been published.
    store.queue().published(&ids[3..]).await.unwrap();
    store.queue().published(&[]).await.unwrap();
    assert!(!store.record("retried").await.published && !store.record("held").await.published);
    store.ack(&held[4]).await;
    assert_eq!(unpublished(store, "s", ALL).await, ["error", "held"]);
}

/// Two machines on one queue: neither writes what the other one is to write.
pub(super) async fn each_store_publishes_what_its_own_processes_ended(store: &TestStore) {
    for (name, verdicts) in [
        ("one", [done_with("one", "x"), skipped(), error()]),
        ("two", [done_with("two", "x"), done(), skipped()]),
    ] {
        let worker = store.join_with(name, Some(name)).await;
        let jobs = [0, 1, 2].map(|number| format!("{name}/{number}"));
        store.enqueue("a.example", &jobs.each_ref().map(String::as_str)).await;
        for (job, verdict) in store.lease(&worker, 3).await.iter().zip(verdicts) {
            store.settle(job.token, verdict).await;
        }
    }
    assert_eq!(unpublished(store, "one", ALL).await, ["one/0", "one/1", "one/2"]);
    assert_eq!(unpublished(store, "two", ALL).await, ["two/0", "two/1", "two/2"]);
    assert!(unpublished(store, "three", ALL).await.is_empty());
    let first = store.record("two/0").await.id;
    assert_eq!(unpublished(store, "two", JobPage { after: Some(first), limit: 1 }).await, ["two/1"]);
    // What goes back to the queue belongs to nobody; whoever ends it next publishes it.
    store.queue().requeue(&[id("one/1")]).await.unwrap();
    assert_eq!(store.record("one/1").await.store, None);
    let worker = store.join_with("two", Some("two")).await;
    store.ack(&store.lease_one(&worker).await).await;
    assert_eq!(unpublished(store, "two", ALL).await.first().map(String::as_str), Some("one/1"));
}

pub(super) async fn what_a_process_without_a_store_ended_needs_no_publishing(store: &TestStore) {
    let worker = store.join_with("w", None).await;
    store.enqueue("a.example", &["done", "skipped", "error", "file", "retried"]).await;
    let held = store.lease(&worker, 5).await;
    let verdicts = [done(), skipped(), error(), done_with("s", "x"), retry(Duration::ZERO)];
    for (job, verdict) in held.iter().zip(verdicts) {
        store.settle(job.token, verdict).await;
    }
    for ended in ["done", "skipped", "error"] {
        assert!(store.record(ended).await.published, "{ended}");
    }
    assert!(!store.record("retried").await.published);
    // A file has a store of its own, whatever the process said.
    assert_eq!(unpublished(store, "s", ALL).await, ["file"]);
}

/// No process has told of such an end, so one that has no store is to hear of it as well.
pub(super) async fn what_the_sweep_ended_is_published_by_the_store_that_swept(store: &TestStore) {
    for (sweeper, listed) in [(Some("one"), ["one"].as_slice()), (None, &["one", "two"])] {
        let name = sweeper.unwrap_or("nobody");
        let job = format!("{name}/poison");
        store.enqueue("a.example", &[&job]).await;
        let dead = store.join_with(&format!("{name}-dead"), Some("two")).await;
        store.lease_one(&dead).await;
        store.advance(TTL);
        let worker = store.join_with(name, sweeper).await;
        let request = LeaseRequest { max_losses: 1, ..store.request(&worker, 1) };
        assert!(store.batch(&request).await.jobs.is_empty());
        let record = store.record(&job).await;
        assert_eq!((record.state, record.published), (JobState::Error, false));
        for whose in ["one", "two"] {
            let is_listed = unpublished(store, whose, ALL).await.contains(&job);
            assert_eq!(is_listed, listed.contains(&whose), "{job} for {whose}");
        }
        store.queue().published(&[record.id]).await.unwrap();
    }
}

pub(super) async fn what_an_operator_ended_is_published_by_whoever_finds_it_first(store: &TestStore) {
    let worker = store.join_with("w", Some("one")).await;
    store.enqueue("a.example", &["held", "queued"]).await;
    store.lease_one(&worker).await;
    store.queue().cancel(&[id("held"), id("queued")]).await.unwrap();
    for whose in ["one", "two"] {
        assert_eq!(unpublished(store, whose, ALL).await, ["held", "queued"]);
    }
    store.queue().published(&[store.record("held").await.id]).await.unwrap();
    assert_eq!(unpublished(store, "two", ALL).await, ["queued"]);
}

pub(super) async fn a_new_end_is_to_be_published_again(store: &TestStore) {
    let worker = store.join("w").await;
    store.enqueue("a.example", &["a"]).await;
    let job = store.lease_one(&worker).await;
    store.ack(&job).await;
    store.queue().published(&[job.token.job]).await.unwrap();
    store.queue().requeue(&[id("a")]).await.unwrap();
    assert!(unpublished(store, "s", ALL).await.is_empty());
    store.ack(&store.lease_one(&worker).await).await;
    assert_eq!(only(unpublished(store, "s", ALL).await), "a");
}
