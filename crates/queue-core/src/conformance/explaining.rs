//! Why a job is not running now.

use std::time::Duration;

use longhaul_limiter::Controller;

use super::TestStore;
use super::rules::{capped, capped_and_paced, lane, unlimited};
use super::test_store::{asks_for_quiet, delayed, error, id, throttled};
use crate::{ErrorKind, Explanation, JobState};

const HOST: &str = "a.example";

async fn explain(store: &TestStore, name: &str) -> Explanation {
    store.queue().explain(&id(name), &unlimited()).await.unwrap()
}

pub(super) async fn explains_the_stages_of_a_life(store: &TestStore) {
    let worker = store.join("w").await;
    let unknown = store.queue().explain(&id("a"), &unlimited()).await.unwrap_err();
    assert_eq!(unknown.kind(), ErrorKind::NotFound);
    store.enqueue_jobs(&[delayed("a", HOST, Duration::from_secs(9))]).await;
    assert_eq!(explain(store, "a").await, Explanation::Delayed { wait_ms: 9_000 });
    store.advance_secs(9);
    assert_eq!(explain(store, "a").await, Explanation::Ready);
    let job = store.lease_one(&worker).await;
    assert_eq!(explain(store, "a").await, Explanation::Running { worker });
    store.settle(job.token, error()).await;
    let ended = Explanation::Ended { state: JobState::Error, reason: Some("gone".to_owned()) };
    assert_eq!(explain(store, "a").await, ended);
}

pub(super) async fn explains_that_the_process_has_died(store: &TestStore) {
    let worker = store.join("w").await;
    store.enqueue(HOST, &["a"]).await;
    store.lease_one(&worker).await;
    store.advance_secs(61);
    assert_eq!(explain(store, "a").await, Explanation::WorkerDied { wait_ms: 0 });
}

pub(super) async fn explains_a_cool_down(store: &TestStore) {
    let worker = store.join("w").await;
    store.enqueue(HOST, &["a"]).await;
    let job = store.lease_one(&worker).await;
    store.settle_with(job.token, throttled(), vec![asks_for_quiet(HOST, Some(30))]).await;
    store.advance_secs(10);
    let expected = Explanation::CoolDown { wait_ms: 20_000, reason: "status 429".to_owned() };
    assert_eq!(explain(store, "a").await, expected);
}

pub(super) async fn explains_caps_and_paces_by_the_rules_it_is_given(store: &TestStore) {
    let worker = store.join("w").await;
    store.enqueue_many(HOST, 3).await;
    let rules = capped_and_paced(1, "1/s");
    let held = store.lease_by(&worker, 1, &rules).await;
    let waiting = id("a.example/2");
    let queue = store.queue();
    let full = Explanation::CapFull { in_flight: 1, cap: 1 };
    assert_eq!(queue.explain(&waiting, &capped(1)).await.unwrap(), full);
    assert_eq!(queue.explain(&waiting, &capped(2)).await.unwrap(), Explanation::Ready);
    store.ack(&held[0]).await;
    let paced = queue.explain(&waiting, &rules).await.unwrap();
    assert!(
        matches!(paced, Explanation::Pace { wait_ms: 1_099..=1_101, controller: Controller::Configured }),
        "{paced:?}"
    );
    store.advance_secs(2);
    assert_eq!(queue.explain(&waiting, &rules).await.unwrap(), Explanation::Ready);
}

pub(super) async fn explains_pauses(store: &TestStore) {
    store.enqueue(HOST, &["a"]).await;
    let queue = store.queue();
    queue.pause(Some(&lane(HOST)), Some(Duration::from_secs(30)), "lane").await.unwrap();
    let expected = Explanation::LanePaused { reason: "lane".to_owned(), wait_ms: Some(30_000) };
    assert_eq!(explain(store, "a").await, expected);
    queue.pause(None, None, "all").await.unwrap();
    let expected = Explanation::QueuePaused { reason: "all".to_owned(), wait_ms: None };
    assert_eq!(explain(store, "a").await, expected);
    queue.pause(None, Some(Duration::from_secs(40)), "all").await.unwrap();
    let expected = Explanation::QueuePaused { reason: "all".to_owned(), wait_ms: Some(40_000) };
    assert_eq!(explain(store, "a").await, expected);
    queue.resume(None).await.unwrap();
    queue.resume(Some(&lane(HOST))).await.unwrap();
    assert_eq!(explain(store, "a").await, Explanation::Ready);
}

/// Of several causes each would be true, and only the last to end says when the job could start.
pub(super) async fn explains_by_the_cause_that_ends_last(store: &TestStore) {
    let second = Duration::from_secs(1);
    store.enqueue_jobs(&[delayed("a", HOST, 20 * second)]).await;
    let queue = store.queue();
    queue.close(&lane(HOST), 10 * second, "status 503").await.unwrap();
    queue.pause(Some(&lane(HOST)), Some(5 * second), "lane").await.unwrap();
    queue.pause(None, Some(second), "all").await.unwrap();
    assert_eq!(explain(store, "a").await, Explanation::Delayed { wait_ms: 20_000 });
    queue.close(&lane(HOST), 30 * second, "status 503").await.unwrap();
    let cooling = Explanation::CoolDown { wait_ms: 30_000, reason: "status 503".to_owned() };
    assert_eq!(explain(store, "a").await, cooling);
    queue.pause(Some(&lane(HOST)), Some(40 * second), "lane").await.unwrap();
    let paused = Explanation::LanePaused { reason: "lane".to_owned(), wait_ms: Some(40_000) };
    assert_eq!(explain(store, "a").await, paused);
    queue.pause(None, Some(50 * second), "all").await.unwrap();
    let all = Explanation::QueuePaused { reason: "all".to_owned(), wait_ms: Some(50_000) };
    assert_eq!(explain(store, "a").await, all);
    queue.pause(Some(&lane(HOST)), None, "lane").await.unwrap();
    let forever = Explanation::LanePaused { reason: "lane".to_owned(), wait_ms: None };
    assert_eq!(explain(store, "a").await, forever);
}

/// A full lane opens by an event; what the clock holds up would not start then.
pub(super) async fn explains_a_full_lane_only_where_nothing_else_holds(store: &TestStore) {
    let worker = store.join("w").await;
    store.enqueue(HOST, &["held"]).await;
    store.lease_by(&worker, 1, &capped(1)).await;
    store.enqueue_jobs(&[delayed("a", HOST, Duration::from_secs(9))]).await;
    let of_a = async || store.queue().explain(&id("a"), &capped(1)).await.unwrap();
    assert_eq!(of_a().await, Explanation::Delayed { wait_ms: 9_000 });
    store.advance_secs(9);
    assert_eq!(of_a().await, Explanation::CapFull { in_flight: 1, cap: 1 });
    store.queue().close(&lane(HOST), Duration::from_secs(3), "status 429").await.unwrap();
    let cooling = Explanation::CoolDown { wait_ms: 3_000, reason: "status 429".to_owned() };
    assert_eq!(of_a().await, cooling);
}
