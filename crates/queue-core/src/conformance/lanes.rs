//! The lanes as an operator sees them: which are listed, in which order, and what their rows say.

use std::time::Duration;

use super::TestStore;
use super::rules::{capped, lane};
use super::test_store::{asks_for_quiet, delayed, served, throttled};
use crate::{LanePage, LaneRow, Timestamp};

const HOST: &str = "a.example";
const SECOND: Duration = Duration::from_secs(1);

async fn page(store: &TestStore, after: Option<&str>, limit: usize) -> Vec<LaneRow> {
    store.queue().lanes(&LanePage { after: after.map(lane), limit }).await.unwrap()
}

fn hosts(rows: &[LaneRow]) -> Vec<&str> {
    rows.iter().map(|row| row.lane.as_str()).collect()
}

/// Whether a wall time is so far from now, give or take the milliseconds that a store may round.
#[track_caller]
fn assert_in(store: &TestStore, at: Option<Timestamp>, wait: Duration) {
    use longhaul_limiter::Clock as _;

    let due = (store.clock().wall() + wait).duration_since(std::time::UNIX_EPOCH).unwrap();
    let off = i128::from(at.expect("a time").0) - i128::try_from(due.as_millis()).unwrap();
    assert!(off.abs() <= 2, "{off} ms off");
}

pub(super) async fn lanes_are_listed_by_name_a_page_at_a_time(store: &TestStore) {
    let worker = store.join("w").await;
    for host in ["c.example", "a.example", "b.example", "d.example"] {
        store.enqueue_many(host, 3).await;
    }
    store.lease_by(&worker, 4, &capped(1)).await;
    let queue = store.queue();
    let first = queue.lanes(&LanePage { after: None, limit: 2 }).await.unwrap();
    assert_eq!(first.iter().map(|row| row.lane.as_str()).collect::<Vec<_>>(), ["a.example", "b.example"]);
    assert!(first.iter().all(|row| (row.queued, row.in_flight, row.reopening) == (2, 1, None)));
    let page = LanePage { after: Some(first[1].lane.clone()), limit: 10 };
    let second = queue.lanes(&page).await.unwrap();
    assert_eq!(second.iter().map(|row| row.lane.as_str()).collect::<Vec<_>>(), ["c.example", "d.example"]);
}

pub(super) async fn pages_end(store: &TestStore) {
    assert_eq!(page(store, None, 10).await, []);
    store.enqueue_many(HOST, 1).await;
    assert_eq!(page(store, None, 0).await, []);
    assert_eq!(page(store, Some(HOST), 10).await, []);
    assert_eq!(page(store, Some("z.example"), 10).await, []);
    // One that is between two names begins with the second.
    assert_eq!(hosts(&page(store, Some("a.exampl"), 10).await), [HOST]);
}

/// A page has many lanes, and each may have a million jobs.
pub(super) async fn inv_bounded_a_lanes_queued_jobs_are_counted_up_to_1_001(store: &TestStore) {
    for (add, shown) in [(999, 999), (1, 1_000), (1, 1_001), (500, 1_001)] {
        let before = store.counts().await.queued;
        let names: Vec<String> = (0..add).map(|number| format!("{before}/{number}")).collect();
        store.enqueue(HOST, &names.iter().map(String::as_str).collect::<Vec<_>>()).await;
        assert_eq!(store.lane_row(HOST).await.unwrap().queued, shown);
    }
}

/// A lane is known from up to three sides: what is queued, what is in flight, what is remembered.
pub(super) async fn each_lane_is_listed_once_whatever_is_known_of_it(store: &TestStore) {
    let worker = store.join("w").await;
    let (all, queued, in_flight, closed, paused) =
        ("c.example", "b.example", "e.example", "a.example", "d.example");
    store.enqueue_in_class(in_flight, 9, 1).await;
    assert_eq!(store.lease(&worker, 1).await.len(), 1);
    store.enqueue_in_class(all, 9, 2).await;
    let held = store.lease_by(&worker, 1, &capped(1)).await;
    store.queue().close(&lane(all), 60 * SECOND, "x").await.unwrap();
    store.enqueue_in_class(all, 0, 1).await;
    for class in [0, 3, 9] {
        store.enqueue_in_class(queued, class, 2).await;
    }
    store.queue().close(&lane(closed), 60 * SECOND, "x").await.unwrap();
    store.queue().pause(Some(&lane(paused)), None, "x").await.unwrap();
    assert_eq!(held.len(), 1);
    let rows = page(store, None, 10).await;
    assert_eq!(hosts(&rows), [closed, queued, all, paused, in_flight]);
    let counts: Vec<_> = rows.iter().map(|row| (row.queued, row.in_flight)).collect();
    assert_eq!(counts, [(0, 0), (6, 0), (2, 1), (0, 0), (0, 1)]);
    // The same, whatever the page.
    let mut one_by_one = Vec::new();
    while let [row] = &page(store, one_by_one.last().map(|row: &LaneRow| row.lane.as_str()), 1).await[..] {
        one_by_one.push(row.clone());
        assert!(one_by_one.len() <= rows.len());
    }
    assert_eq!(one_by_one, rows);
}

pub(super) async fn work_without_a_host_is_in_no_lane(store: &TestStore) {
    let worker = store.join("w").await;
    store.enqueue_many("", 3).await;
    assert_eq!(store.lease(&worker, 1).await.len(), 1);
    assert_eq!(page(store, None, 10).await, []);
}

/// INV-BOUNDED: of a host of which nothing is queued, in flight or remembered there is no row.
pub(super) async fn inv_bounded_a_lane_that_has_served_its_last_is_forgotten(store: &TestStore) {
    let worker = store.join("w").await;
    store.enqueue(HOST, &["a"]).await;
    let held = store.lease_one(&worker).await;
    assert_eq!(hosts(&page(store, None, 10).await), [HOST]);
    store.ack(&held).await;
    assert_eq!(page(store, None, 10).await, []);
}

pub(super) async fn a_row_says_when_its_lane_may_give_next(store: &TestStore) {
    store.enqueue_jobs(&[delayed("later", HOST, 50 * SECOND)]).await;
    let row = store.lane_row(HOST).await.unwrap();
    assert_in(store, row.open_at, 50 * SECOND);
    assert_eq!((row.queued, row.ready), (1, 0));
    store.enqueue(HOST, &["now"]).await;
    let row = store.lane_row(HOST).await.unwrap();
    assert_eq!((row.queued, row.ready), (2, 1));
    assert_in(store, store.lane_row(HOST).await.unwrap().open_at, Duration::ZERO);
    store.queue().close(&lane(HOST), 20 * SECOND, "x").await.unwrap();
    assert_in(store, store.lane_row(HOST).await.unwrap().open_at, 20 * SECOND);
    // The later of the two, and nothing but an operator ends this one.
    store.queue().pause(Some(&lane(HOST)), None, "x").await.unwrap();
    assert_eq!(store.lane_row(HOST).await.unwrap().open_at, None);
    store.queue().resume(Some(&lane(HOST))).await.unwrap();
    assert_in(store, store.lane_row(HOST).await.unwrap().open_at, 20 * SECOND);
}

pub(super) async fn a_full_lane_opens_by_an_event_alone(store: &TestStore) {
    let worker = store.join("w").await;
    store.enqueue_many(HOST, 2).await;
    let held = store.lease_by(&worker, 2, &capped(1)).await;
    let row = store.lane_row(HOST).await.unwrap();
    assert_eq!((row.open_at, row.queued, row.in_flight), (None, 1, 1));
    store.ack(&held[0]).await;
    assert_in(store, store.lane_row(HOST).await.unwrap().open_at, Duration::ZERO);
}

/// What is over is not shown as if it were not.
pub(super) async fn a_row_forgets_what_is_over(store: &TestStore) {
    let worker = store.join("w").await;
    store.enqueue_many(HOST, 2).await;
    let held = store.lease_one(&worker).await;
    store.settle_with(held.token, throttled(), vec![asks_for_quiet(HOST, Some(30))]).await;
    store.queue().pause(Some(&lane(HOST)), Some(40 * SECOND), "a test").await.unwrap();
    let row = store.lane_row(HOST).await.unwrap();
    assert_in(store, row.closed_until, 30 * SECOND);
    assert_in(store, row.paused_until, 40 * SECOND);
    assert_eq!(row.cause.as_deref(), Some("status 429"));
    assert_eq!((row.pause_reason.as_deref(), row.reopening), (Some("a test"), Some(1)));
    store.advance_secs(35);
    let row = store.lane_row(HOST).await.unwrap();
    assert_eq!((row.closed_until, row.cause), (None, None));
    assert_in(store, row.paused_until, 5 * SECOND);
    store.advance_secs(5);
    let row = store.lane_row(HOST).await.unwrap();
    assert_eq!((row.paused_until, row.pause_reason, row.reopening), (None, None, Some(1)));
    let held = store.lease_one(&worker).await;
    store.settle_with(held.token, super::test_store::done(), vec![served(HOST)]).await;
    assert_eq!(store.lane_row(HOST).await.unwrap().reopening, Some(2));
}
