//! INV-CONSERVE: counts by state always sum to the jobs accepted.

use std::time::Duration;

use super::TestStore;
use super::rules::lane;
use super::test_store::{
    asks_for_quiet, assert_wait, delayed, done, error, id, release, retry, skipped, throttled,
};
use crate::{JobFilter, LanePage, QueueStats, StateCounts};

pub(super) async fn inv_conserve_counts_follow_every_transition(store: &TestStore) {
    let worker = store.join("w").await;
    let check = async |queued, in_progress, done, skipped, error| {
        let expected = StateCounts { queued, in_progress, done, skipped, error };
        assert_eq!(store.counts().await, expected);
        assert_eq!(expected.total(), 6);
    };
    store.enqueue("a.example", &["a", "b", "c", "d", "e", "f"]).await;
    check(6, 0, 0, 0, 0).await;
    let held = store.lease(&worker, 6).await;
    check(0, 6, 0, 0, 0).await;
    for (job, verdict) in held.iter().zip([done(), skipped(), error(), retry(Duration::ZERO), release()]) {
        store.settle(job.token, verdict).await;
    }
    check(2, 1, 1, 1, 1).await;
    store.queue().cancel(&[id("d"), id("f")]).await.unwrap();
    check(1, 0, 1, 3, 1).await;
    store.queue().retry_failed(&JobFilter::default(), 10).await.unwrap();
    check(2, 0, 1, 3, 0).await;
    store.queue().requeue(&[id("a"), id("b")]).await.unwrap();
    check(4, 0, 0, 2, 0).await;
    store.lease(&worker, 6).await;
    check(0, 4, 0, 2, 0).await;
    store.advance_secs(60);
    let next = store.join("next").await;
    let again = store.lease(&next, 1).await;
    check(3, 1, 0, 2, 0).await;
    assert_eq!(again[0].losses, 1);
    store.leave(&next).await;
    check(4, 0, 0, 2, 0).await;
}

pub(super) async fn an_empty_queue_has_empty_stats(store: &TestStore) {
    assert_eq!(store.queue().stats().await.unwrap(), QueueStats::default());
}

pub(super) async fn stats_tell_ready_from_delayed(store: &TestStore) {
    store.enqueue_many("a.example", 2).await;
    store.advance_secs(3);
    store.enqueue_many("", 1).await;
    let later = Duration::from_secs(10);
    store.enqueue_jobs(&[delayed("x", "", later), delayed("y", "b.example", 2 * later)]).await;
    let stats = store.queue().stats().await.unwrap();
    assert_eq!((stats.ready, stats.delayed), (3, 2));
    assert_wait(stats.oldest_ready, Duration::from_secs(3));
    assert_eq!(stats.next_open, Some(Duration::ZERO));
    store.advance_secs(10);
    let stats = store.queue().stats().await.unwrap();
    assert_eq!((stats.ready, stats.delayed), (4, 1));
}

pub(super) async fn stats_tell_ready_from_what_waits_for_a_closed_lane(store: &TestStore) {
    store.enqueue_many("a.example", 3).await;
    store.enqueue_many("b.example", 2).await;
    store.enqueue_jobs(&[delayed("later", "a.example", Duration::from_secs(90))]).await;
    let counted = async || {
        let stats = store.queue().stats().await.unwrap();
        (stats.ready, stats.closed, stats.delayed)
    };
    assert_eq!(counted().await, (5, 0, 1));
    store.queue().close(&lane("a.example"), Duration::from_secs(30), "status 429").await.unwrap();
    assert_eq!(counted().await, (2, 3, 1));
    store.queue().pause(Some(&lane("b.example")), None, "somebody").await.unwrap();
    assert_eq!(counted().await, (0, 5, 1));
    let rows = store.queue().lanes(&LanePage { after: None, limit: 9 }).await.unwrap();
    let shown: Vec<_> = rows.iter().map(|row| (row.queued, row.ready)).collect();
    assert_eq!(shown, [(4, 0), (2, 0)]);
    store.advance_secs(31);
    assert_eq!(counted().await, (3, 2, 1));
}

/// What a drain goes by: it ends when nothing can become ready soon.
pub(super) async fn stats_say_when_something_could_be_leased(store: &TestStore) {
    let worker = store.join("w").await;
    store.enqueue_jobs(&[delayed("later", "a.example", Duration::from_secs(50))]).await;
    assert_wait(store.queue().stats().await.unwrap().next_open, Duration::from_secs(50));
    store.enqueue("b.example", &["b"]).await;
    let job = store.lease_one(&worker).await;
    store.settle_with(job.token, throttled(), vec![asks_for_quiet("b.example", Some(30))]).await;
    assert!(store.lease(&worker, 5).await.is_empty());
    assert_wait(store.queue().stats().await.unwrap().next_open, Duration::from_secs(30));
    store.queue().cancel(&[id("later"), id("b")]).await.unwrap();
    assert!(store.lease(&worker, 5).await.is_empty());
    store.advance_secs(51);
    let worker = store.join("later").await;
    assert!(store.lease(&worker, 5).await.is_empty());
    assert_eq!(store.queue().stats().await.unwrap().next_open, None, "nothing is queued");
}

pub(super) async fn stats_count_live_processes(store: &TestStore) {
    store.join("one").await;
    store.advance_secs(30);
    let two = store.join("two").await;
    assert_eq!(store.queue().stats().await.unwrap().workers, 2);
    store.advance_secs(30);
    assert_eq!(store.queue().stats().await.unwrap().workers, 1, "the first has expired");
    store.leave(&two).await;
    assert_eq!(store.queue().stats().await.unwrap().workers, 0);
}

pub(super) async fn inv_bounded_ready_and_delayed_are_counted_up_to_10_001(store: &TestStore) {
    let jobs: Vec<_> =
        (0..10_010).map(|number| super::test_store::job(&format!("{number}"), "a.example")).collect();
    for part in jobs.chunks(2_000) {
        store.enqueue_jobs(part).await;
    }
    let stats = store.queue().stats().await.unwrap();
    assert_eq!((stats.ready, stats.counts.queued), (10_001, 10_010));
}

pub(super) async fn stats_say_how_much_has_ended_lately(store: &TestStore) {
    let worker = store.join("w").await;
    store.enqueue("a.example", &["a", "b", "c"]).await;
    let held = store.lease(&worker, 3).await;
    let lately = async || store.queue().stats().await.unwrap().ended_lately;
    store.settle(held[0].token, done()).await;
    assert_eq!(lately().await, 0, "it is not published");
    store.queue().published(&[held[0].token.job]).await.unwrap();
    assert_eq!(lately().await, 1);
    store.advance_secs(30);
    for (job, verdict) in held[1..].iter().zip([error(), skipped()]) {
        store.settle(job.token, verdict).await;
        store.queue().published(&[job.token.job]).await.unwrap();
    }
    store.advance_secs(269);
    assert_eq!(lately().await, 3);
    store.advance_secs(1);
    assert_eq!(lately().await, 2, "the first ended five minutes ago");
    store.advance_secs(30);
    assert_eq!(lately().await, 0);
}
