//! What has ended and is still to be published.

use std::time::Duration;

use super::TestStore;
use super::test_store::{done, done_with, error, id, only, retry, skipped};
use crate::{JobId, JobPage, StoreId};

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

pub(super) async fn each_store_publishes_its_own_and_what_has_no_file(store: &TestStore) {
    let worker = store.join("w").await;
    store.enqueue("a.example", &["one", "two", "none"]).await;
    let held = store.lease(&worker, 3).await;
    for (job, verdict) in held.iter().zip([done_with("one", "x"), done_with("two", "x"), skipped()]) {
        store.settle(job.token, verdict).await;
    }
    assert_eq!(unpublished(store, "one", ALL).await, ["one", "none"]);
    assert_eq!(unpublished(store, "two", ALL).await, ["two", "none"]);
    let page = JobPage { after: Some(held[0].token.job), limit: 1 };
    assert_eq!(unpublished(store, "two", page).await, ["two"]);
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
