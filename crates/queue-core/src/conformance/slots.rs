//! INV-CAP: slots taken in a lane never exceed its cap, over all processes.

use std::time::Duration;

use super::TestStore;
use super::rules::{capped, capped_host, lane};
use super::test_store::{
    by_lane, defer, delayed, done, error, names, only, release, retry, skipped, throttled,
};
use crate::{Answer, Settlement};

const HOST: &str = "a.example";

pub(super) async fn inv_cap_a_lane_gives_at_most_its_cap(store: &TestStore) {
    let worker = store.join("w").await;
    store.enqueue_many(HOST, 5).await;
    store.enqueue_many("b.example", 5).await;
    let jobs = store.lease_by(&worker, 100, &capped(2)).await;
    assert_eq!(by_lane(&jobs), [(HOST, 2), ("b.example", 2)].into());
    assert!(store.lease_by(&worker, 100, &capped(2)).await.is_empty());
    assert_eq!(store.lane_row(HOST).await.unwrap().in_flight, 2);
}

pub(super) async fn inv_cap_counts_over_all_processes(store: &TestStore) {
    let (one, two) = (store.join("one").await, store.join("two").await);
    let other = store.another().await;
    store.enqueue_many(HOST, 5).await;
    assert_eq!(store.lease_by(&one, 2, &capped(3)).await.len(), 2);
    assert_eq!(other.lease(&store.request_by(&two, 5, &capped(3))).await.unwrap().jobs.len(), 1);
    assert!(store.lease_by(&one, 5, &capped(3)).await.is_empty());
}

pub(super) async fn inv_cap_holds_over_all_classes(store: &TestStore) {
    let worker = store.join("w").await;
    for class in [0, 4, 9] {
        store.enqueue_in_class(HOST, class, 3).await;
    }
    assert_eq!(store.lease_by(&worker, 100, &capped(2)).await.len(), 2);
}

pub(super) async fn every_way_to_end_a_try_frees_its_slot(store: &TestStore) {
    let worker = store.join("w").await;
    let hour = Duration::from_hours(1);
    let verdicts =
        [done(), skipped(), error(), retry(hour), defer(hour, "b.example"), throttled(), release()];
    for verdict in verdicts {
        store.enqueue_many(&format!("{}.example", verdict.event().as_str()), 3).await;
    }
    let verdicts =
        [done(), skipped(), error(), retry(hour), defer(hour, "b.example"), throttled(), release()];
    for job in store.lease_by(&worker, 100, &capped(1)).await {
        let host = job.place.lane.as_str().to_owned();
        let is_this = |verdict: &&crate::Verdict| host.starts_with(&format!("{}.", verdict.event().as_str()));
        let verdict = verdicts.iter().find(is_this).unwrap().clone();
        assert!(matches!(store.settle(job.token, verdict).await, Answer::Recorded(_)));
        assert_eq!(store.lane_row(&host).await.map_or(0, |row| row.in_flight), 0, "{host}");
        let next = store.lease_by(&worker, 100, &capped(1)).await;
        assert_eq!(by_lane(&next), [(host.as_str(), 1)].into());
    }
}

pub(super) async fn settling_leases_for_the_freed_slot_in_the_same_step(store: &TestStore) {
    let worker = store.join("w").await;
    store.enqueue_many(HOST, 4).await;
    let mut held = store.lease_by(&worker, 1, &capped(1)).await;
    for _ in 0..3 {
        let settlement = Settlement::new(held[0].token, done());
        let then = store.request_by(&worker, 1, &capped(1));
        let settled = store.queue().settle(&[settlement], Some(&then)).await.unwrap();
        assert_eq!(settled.answers, [Answer::Recorded(crate::JobState::Done)]);
        held = settled.batch.expect("an answer to the lease request").jobs;
        assert_eq!(held.len(), 1);
    }
    assert_eq!(store.counts().await.done, 3);
}

pub(super) async fn inv_cap_a_dead_process_keeps_its_slots_until_its_leases_end(store: &TestStore) {
    let (silent, worker) = (store.join("silent").await, store.join("w").await);
    store.enqueue_many(HOST, 3).await;
    assert_eq!(store.lease_by(&silent, 2, &capped(2)).await.len(), 2);
    store.advance_secs(30);
    store.beat(&worker).await;
    store.advance(Duration::from_millis(29_998));
    assert!(store.lease_by(&worker, 5, &capped(2)).await.is_empty(), "its leases have not ended");
    store.advance(Duration::from_millis(2));
    assert_eq!(store.lease_by(&worker, 5, &capped(2)).await.len(), 2);
}

pub(super) async fn work_without_a_host_has_neither_cap_nor_slot(store: &TestStore) {
    let worker = store.join("w").await;
    store.enqueue_many("", 5).await;
    assert_eq!(store.lease_by(&worker, 10, &capped(1)).await.len(), 5);
    assert_eq!(store.record("/0").await.slot, None);
}

pub(super) async fn inv_cap_a_process_with_a_smaller_cap_waits_for_all_slots(store: &TestStore) {
    let (wide, narrow) = (store.join("wide").await, store.join("narrow").await);
    store.enqueue_many(HOST, 10).await;
    let held = store.lease_by(&wide, 3, &capped(3)).await;
    assert_eq!(held.len(), 3);
    for job in &held {
        assert!(store.lease_by(&narrow, 5, &capped(1)).await.is_empty());
        store.ack(job).await;
    }
    assert_eq!(store.lease_by(&narrow, 5, &capped(1)).await.len(), 1);
}

pub(super) async fn a_host_may_have_a_cap_of_its_own(store: &TestStore) {
    let worker = store.join("w").await;
    store.enqueue_many(HOST, 5).await;
    store.enqueue_many("b.example", 5).await;
    let jobs = store.lease_by(&worker, 100, &capped_host(1, HOST, 4)).await;
    assert_eq!(by_lane(&jobs), [(HOST, 4), ("b.example", 1)].into());
}

/// A lane whose slots are all taken is put off until one is free; whatever frees one must say so.
pub(super) async fn leaving_and_reconciling_free_slots(store: &TestStore) {
    let (one, two) = (store.join("one").await, store.join("two").await);
    store.enqueue_many(HOST, 4).await;
    let held = store.lease_by(&one, 1, &capped(1)).await;
    assert!(store.lease_by(&two, 1, &capped(1)).await.is_empty());
    assert_eq!(store.queue().reconcile(&one, &[held[0].token]).await.unwrap(), 0);
    assert!(store.lease_by(&two, 1, &capped(1)).await.is_empty());
    assert_eq!(store.queue().reconcile(&one, &[]).await.unwrap(), 1);
    assert_eq!(store.lease_by(&two, 1, &capped(1)).await.len(), 1);
    assert!(store.lease_by(&one, 1, &capped(1)).await.is_empty());
    store.leave(&two).await;
    assert_eq!(store.lease_by(&one, 1, &capped(1)).await.len(), 1);
    assert!(lane(HOST) == store.record("a.example/0").await.place.lane);
}

/// Its turn once slept until the delayed job's time, which may be days away.
pub(super) async fn inv_fair_a_freed_slot_is_given_though_a_delayed_job_came_meanwhile(store: &TestStore) {
    store.enqueue_many("a.example", 2).await;
    let worker = store.join("w").await;
    let held = only(store.lease_by(&worker, 5, &capped(1)).await);
    let later = delayed("later", "a.example", Duration::from_hours(1));
    store.enqueue_jobs(&[later]).await;
    store.ack(&held).await;
    assert_eq!(names(&store.lease_by(&worker, 5, &capped(1)).await), ["a.example/1"]);
}
