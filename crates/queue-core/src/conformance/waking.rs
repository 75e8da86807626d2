//! No wake-up is ever lost.

use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use super::TestStore;
use super::rules::{capped, lane};
use super::test_store::{job, poll_once, worker_info};
use crate::Epoch;

const HOST: &str = "a.example";

/// The epoch of a moment at which nothing can be leased.
async fn idle(store: &TestStore) -> Epoch {
    let waiter = worker_info("waiter");
    store.first().join(&waiter, super::test_store::TTL).await.unwrap();
    let batch = store.first().lease(&store.request_by(&waiter.id, 1, &capped(1))).await.unwrap();
    assert!(batch.jobs.is_empty());
    batch.epoch
}

/// Whether the first handle has news; a store that never says so hangs here, until the case's time is up.
async fn wakes(store: &TestStore, since: Epoch) {
    assert!(store.first().changed(since).await.unwrap() > since);
}

pub(super) async fn what_happened_before_the_wait_is_not_missed(store: &TestStore) {
    let worker = store.join("w").await;
    let other = store.another().await;

    let epoch = idle(store).await;
    other.enqueue(&[job("a", HOST), job("b", HOST), job("c", HOST)]).await.unwrap();
    wakes(store, epoch).await;

    let held = store.lease_by(&worker, 1, &capped(1)).await;
    let epoch = idle(store).await;
    store.ack(&held[0]).await;
    wakes(store, epoch).await;

    let held = store.lease_by(&worker, 1, &capped(1)).await;
    let epoch = idle(store).await;
    store.release(&held[0]).await;
    wakes(store, epoch).await;

    store.queue().pause(None, None, "x").await.unwrap();
    let epoch = idle(store).await;
    store.queue().resume(None).await.unwrap();
    wakes(store, epoch).await;

    store.queue().pause(Some(&lane(HOST)), None, "x").await.unwrap();
    let epoch = idle(store).await;
    other.resume(Some(&lane(HOST))).await.unwrap();
    wakes(store, epoch).await;

    assert_eq!(store.lease_by(&worker, 1, &capped(1)).await.len(), 1);
    let epoch = idle(store).await;
    store.leave(&worker).await;
    wakes(store, epoch).await;
}

pub(super) async fn a_waiter_is_woken_from_another_handle(store: &TestStore) {
    let other = store.another().await;
    let first = store.first();
    let mut epoch = idle(store).await;
    // It may wake when nothing happened; then it waits again.
    let mut waiting = Box::pin(first.changed(epoch));
    for spurious in 0.. {
        let Poll::Ready(news) = poll_once(waiting.as_mut()).await else { break };
        assert!(spurious < 8, "woken again and again though nothing happened");
        epoch = news.unwrap();
        waiting = Box::pin(first.changed(epoch));
    }
    other.enqueue(&[job("a", HOST)]).await.unwrap();
    assert!(waiting.await.unwrap() > epoch);
}

pub(super) async fn several_waiters_are_all_woken(store: &TestStore) {
    let first = store.first();
    let epoch = idle(store).await;
    let news = futures_util::future::join3(first.changed(epoch), first.changed(epoch), first.changed(epoch));
    let jobs = [job("a", HOST)];
    let ((one, two, three), _) = futures_util::future::join(news, first.enqueue(&jobs)).await;
    assert!([one, two, three].into_iter().all(|news| news.unwrap() > epoch));
}

/// A dispatcher that never rests would ask the store all the time.
pub(super) async fn where_nothing_happens_nobody_is_woken_for_long(store: &TestStore) {
    store.enqueue_jobs(&[super::test_store::delayed("a", HOST, Duration::from_mins(1))]).await;
    let first = store.first();
    let mut epoch = idle(store).await;
    for _ in 0..8 {
        let mut waiting = pin!(first.changed(epoch));
        match poll_once(waiting.as_mut()).await {
            Poll::Pending => return,
            Poll::Ready(news) => epoch = news.unwrap(),
        }
    }
    panic!("woken eight times though nothing happened");
}

/// An epoch is had with a batch; whatever came after it counts.
pub(super) async fn the_epoch_of_a_batch_misses_nothing_that_came_after(store: &TestStore) {
    let worker = store.join("w").await;
    store.enqueue_many(HOST, 1).await;
    let batch = store.first().lease(&store.request(&worker, 5)).await.unwrap();
    assert_eq!(batch.jobs.len(), 1);
    store.enqueue_many("b.example", 1).await;
    wakes(store, batch.epoch).await;
}

/// Who holds jobs ahead must not start them.
pub(super) async fn a_closure_of_a_closed_lane_wakes_as_well(store: &TestStore) {
    let worker = store.join("w").await;
    for seconds in [10, 20] {
        let epoch = store.batch(&store.request(&worker, 1)).await.epoch;
        store.handle_of(&worker).close(&lane("a.example"), Duration::from_secs(seconds), "x").await.unwrap();
        assert!(store.handle_of(&worker).changed(epoch).await.unwrap() > epoch);
    }
}
