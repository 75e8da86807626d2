//! INV-COOLDOWN: a host that asked to be left alone, or that fails, is left alone.

use std::time::Duration;

use super::TestStore;
use super::rules::{lane, unlimited};
use super::test_store::{asks_for_quiet, assert_wait, by_lane, done, failed, retry, served, throttled};
use crate::{Admission, Answer, ErrorKind, JobState, Role, Settlement, WorkerId};

const HOST: &str = "a.example";

/// Leases one job of the host and throttles it.
async fn throttle(store: &TestStore, worker: &WorkerId, seconds: Option<u64>) {
    let job = store.lease_one(worker).await;
    assert_eq!(job.place.lane, lane(HOST));
    let answer = store.settle_with(job.token, throttled(), vec![asks_for_quiet(HOST, seconds)]).await;
    assert_eq!(answer, Answer::Recorded(JobState::Queued));
}

async fn closed_for(store: &TestStore) -> Option<Duration> {
    store.queue().stats().await.unwrap().next_cooled
}

pub(super) async fn inv_cooldown_throttling_closes_the_lane_in_the_same_step(store: &TestStore) {
    let worker = store.join("w").await;
    store.enqueue_many(HOST, 3).await;
    let job = store.lease_one(&worker).await;
    let settlement = Settlement::new(job.token, throttled()).with_lanes(vec![asks_for_quiet(HOST, Some(30))]);
    let then = store.request(&worker, 5);
    let settled = store.queue().settle(&[settlement], Some(&then)).await.unwrap();
    let batch = settled.batch.unwrap();
    assert!(batch.jobs.is_empty(), "{batch:?}");
    assert_wait(batch.next_open, Duration::from_secs(30));
    let record = store.record("a.example/0").await;
    assert_eq!(record.last_error.as_deref(), Some("status 429"));
    store.advance(Duration::from_millis(29_998));
    assert!(store.lease(&worker, 5).await.is_empty());
    store.advance(Duration::from_millis(2));
    assert_eq!(store.lease(&worker, 5).await.len(), 1);
}

pub(super) async fn inv_cooldown_a_throttled_host_blocks_no_other(store: &TestStore) {
    let worker = store.join("w").await;
    store.enqueue_many(HOST, 3).await;
    throttle(store, &worker, Some(3_000)).await;
    store.enqueue_many("b.example", 3).await;
    assert_eq!(by_lane(&store.lease(&worker, 10).await), [("b.example", 3)].into());
}

pub(super) async fn inv_cooldown_what_any_verdict_reports_closes(store: &TestStore) {
    let worker = store.join("w").await;
    store.enqueue_many("b.example", 1).await;
    let job = store.lease_one(&worker).await;
    store.enqueue_many(HOST, 1).await;
    let answer = store.settle_with(job.token, done(), vec![asks_for_quiet(HOST, Some(10))]).await;
    assert_eq!(answer, Answer::Recorded(JobState::Done));
    assert!(store.lease(&worker, 1).await.is_empty(), "a host that was passed through asked for quiet");
}

pub(super) async fn inv_cooldown_is_never_shortened(store: &TestStore) {
    let worker = store.join("w").await;
    store.enqueue_many(HOST, 3).await;
    let held = store.lease(&worker, 3).await;
    for seconds in [60, 10] {
        let job = &held[usize::from(seconds == 10)];
        store.settle_with(job.token, throttled(), vec![asks_for_quiet(HOST, Some(seconds))]).await;
    }
    assert_wait(closed_for(store).await, Duration::from_mins(1));
    store.queue().close(&lane(HOST), Duration::from_secs(5), "an operator").await.unwrap();
    assert_wait(closed_for(store).await, Duration::from_mins(1));
    store.settle_with(held[2].token, throttled(), vec![asks_for_quiet(HOST, Some(90))]).await;
    assert_wait(closed_for(store).await, Duration::from_secs(90));
}

pub(super) async fn no_host_closes_its_lane_for_more_than_a_day(store: &TestStore) {
    let worker = store.join("w").await;
    store.enqueue_many(HOST, 1).await;
    throttle(store, &worker, Some(1_000_000)).await;
    assert_wait(closed_for(store).await, Duration::from_hours(24));
}

/// 54 to 66 seconds: a minute, spread so that a fleet does not come back at once.
fn is_about_minutes(wait: Option<Duration>, minutes: u32) -> bool {
    let minute = Duration::from_mins(1) * minutes;
    wait.is_some_and(|wait| wait >= minute.mul_f64(0.899) && wait <= minute.mul_f64(1.101))
}

pub(super) async fn without_a_time_the_penalty_box_decides_and_doubles(store: &TestStore) {
    let mut worker = store.join("w").await;
    store.enqueue_many(HOST, 3).await;
    for (strike, seconds) in [None, Some(0), None].into_iter().enumerate() {
        throttle(store, &worker, seconds).await;
        let wait = closed_for(store).await;
        assert!(is_about_minutes(wait, 1 << strike), "strike {strike}: {wait:?}");
        store.advance(wait.unwrap());
        worker = store.join(&format!("w{strike}")).await;
    }
}

pub(super) async fn five_failures_in_a_row_are_a_strike(store: &TestStore) {
    let mut worker = store.join("w").await;
    store.enqueue_many(HOST, 1).await;
    for number in 1..=5 {
        assert_eq!(closed_for(store).await, None, "after {} failures", number - 1);
        let job = store.lease_one(&worker).await;
        store.settle_with(job.token, retry(Duration::ZERO), vec![failed(HOST)]).await;
    }
    let wait = closed_for(store).await;
    assert!(is_about_minutes(wait, 1), "{wait:?}");
    let row = store.lane_row(HOST).await.unwrap();
    assert_eq!(row.cause.as_deref(), Some("status 502"));
    store.advance(wait.unwrap());
    worker = store.join(&format!("{worker}-again")).await;
    // Once it is off probation the count has begun again.
    let job = store.lease_one(&worker).await;
    store.settle_with(job.token, retry(Duration::ZERO), vec![served(HOST); 4]).await;
    for _ in 0..4 {
        let job = store.lease_one(&worker).await;
        store.settle_with(job.token, retry(Duration::ZERO), vec![failed(HOST)]).await;
    }
    assert_eq!(closed_for(store).await, None);
}

/// What people are told comes from here: a strike is seen by nobody but the store.
pub(super) async fn a_settlement_says_which_lanes_it_closed(store: &TestStore) {
    let worker = store.join("w").await;
    store.enqueue_many(HOST, 5).await;
    let held = store.lease(&worker, 5).await;
    let settle = async |number: usize, reports: Vec<crate::LaneReport>| {
        let settlement = Settlement::new(held[number].token, retry(Duration::ZERO)).with_lanes(reports);
        store.queue().settle(&[settlement], None).await.unwrap().closed
    };
    let failing = vec![failed("b.example"); 4];
    assert_eq!(settle(0, [failing, vec![served(HOST), asks_for_quiet("", None)]].concat()).await, []);
    // The fifth in a row, and a host that says for how long; by name.
    let reports =
        || vec![failed("b.example"), asks_for_quiet(HOST, Some(30)), asks_for_quiet(HOST, Some(20))];
    let closed = settle(1, reports()).await;
    let seen: Vec<_> = closed.iter().map(|one| (one.lane.as_str(), one.cause.as_str())).collect();
    assert_eq!(seen, [(HOST, "status 429"), ("b.example", "status 502")]);
    assert_eq!(closed[0].length, Duration::from_secs(30));
    assert!(is_about_minutes(Some(closed[1].length), 1), "{closed:?}");
    assert_eq!(settle(1, reports()).await, [], "a repeated settlement closes nothing");
    // Closed already, and for longer.
    store.advance_secs(5);
    assert_eq!(settle(2, vec![asks_for_quiet(HOST, Some(10))]).await, []);
    assert_eq!(settle(3, vec![asks_for_quiet(HOST, Some(60))]).await[0].length, Duration::from_mins(1));
}

pub(super) async fn an_answer_between_failures_forgives_them(store: &TestStore) {
    let worker = store.join("w").await;
    store.enqueue_many(HOST, 1).await;
    for _ in 0..3 {
        let job = store.lease_one(&worker).await;
        let reports = vec![failed(HOST), failed(HOST), failed(HOST), failed(HOST), served(HOST)];
        store.settle_with(job.token, retry(Duration::ZERO), reports).await;
    }
    assert_eq!(closed_for(store).await, None);
}

/// INV-ATTEMPTS: quiet for all is no fault of one job.
pub(super) async fn inv_attempts_a_throttling_is_charged_if_the_lane_served_others(store: &TestStore) {
    let worker = store.join("w").await;
    store.enqueue_many("b.example", 1).await;
    let other = store.lease_one(&worker).await;
    store.enqueue_many(HOST, 1).await;
    let victim = store.lease_one(&worker).await;
    store.advance_secs(1);
    let report = || vec![asks_for_quiet(HOST, Some(5))];
    store.settle_with(victim.token, throttled(), report()).await;
    let name = victim.artifact_id.as_str();
    assert_eq!((store.record(name).await.throttles, store.record(name).await.attempts), (0, 0));
    store.advance_secs(6);
    let again = store.lease_one(&worker).await;
    assert_eq!(again.artifact_id, victim.artifact_id);
    store.advance_secs(1);
    store.settle_with(other.token, done(), vec![served(HOST)]).await;
    store.advance_secs(1);
    store.settle_with(again.token, throttled(), report()).await;
    assert_eq!((store.record(name).await.throttles, store.record(name).await.attempts), (1, 0));
    // Served before this try began: not charged again.
    store.advance_secs(6);
    let third = store.lease_one(&worker).await;
    assert_eq!(third.throttles, 1);
    store.advance_secs(1);
    store.settle_with(third.token, throttled(), report()).await;
    assert_eq!(store.record(name).await.throttles, 1);
}

pub(super) async fn work_without_a_host_cannot_be_throttled(store: &TestStore) {
    let worker = store.join("w").await;
    store.enqueue_many("", 2).await;
    let job = store.lease_one(&worker).await;
    let reports = vec![asks_for_quiet("", Some(60)), failed(""), served("")];
    store.settle_with(job.token, retry(Duration::ZERO), reports).await;
    assert_eq!(store.lease(&worker, 5).await.len(), 2);
    assert_eq!(store.queue().stats().await.unwrap().lanes_cooling, 0);
}

pub(super) async fn a_closed_lane_is_seen_with_its_cause(store: &TestStore) {
    let worker = store.join("w").await;
    store.enqueue_many(HOST, 2).await;
    let before = store.record("a.example/0").await.created_at;
    throttle(store, &worker, Some(30)).await;
    store.queue().close(&lane("b.example"), Duration::from_secs(10), "by hand").await.unwrap();
    let stats = store.queue().stats().await.unwrap();
    assert_eq!(stats.lanes_cooling, 2);
    assert_wait(stats.next_cooled, Duration::from_secs(10));
    let row = store.lane_row(HOST).await.unwrap();
    assert_eq!(row.closed_until.unwrap().0 - before.0, 30_000);
    assert_eq!((row.cause.as_deref(), row.queued, row.in_flight), (Some("status 429"), 2, 0));
    let row = store.lane_row("b.example").await.unwrap();
    assert_eq!((row.cause.as_deref(), row.queued), (Some("by hand"), 0));
    store.advance_secs(30);
    let row = store.lane_row(HOST).await.unwrap();
    assert_eq!((row.closed_until, row.cause), (None, None));
    assert_eq!(store.queue().stats().await.unwrap().lanes_cooling, 0);
}

pub(super) async fn an_operator_may_close_a_lane(store: &TestStore) {
    let worker = store.join("w").await;
    store.enqueue_many(HOST, 2).await;
    let job = store.lease_one(&worker).await;
    store.queue().close(&lane(HOST), Duration::from_secs(20), "by hand").await.unwrap();
    assert!(store.lease(&worker, 1).await.is_empty());
    let admission = store.admit(job.token, HOST, Role::Artifact, &unlimited()).await;
    assert!(matches!(admission, Admission::NotBefore(_)), "{admission:?}");
    store.advance_secs(20);
    assert_eq!(store.lease(&worker, 1).await.len(), 1);
    // What an operator wants has no bound, and what presses on nobody has no lane.
    store.queue().close(&lane("b.example"), Duration::from_hours(72), "by hand").await.unwrap();
    let error = store.queue().close(&lane(""), Duration::from_secs(1), "by hand").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert_wait(closed_for(store).await, Duration::from_hours(72));
}

pub(super) async fn inv_attempts_an_answer_in_the_same_batch_counts_for_later_throttlings(store: &TestStore) {
    store.enqueue_many(HOST, 2).await;
    let worker = store.join("w").await;
    let held = store.lease(&worker, 2).await;
    let batch = [
        Settlement::new(held[0].token, done()).with_lanes(vec![served(HOST)]),
        Settlement::new(held[1].token, throttled()).with_lanes(vec![asks_for_quiet(HOST, Some(1))]),
    ];
    store.queue().settle(&batch, None).await.unwrap();
    assert_eq!(store.record(held[1].artifact_id.as_str()).await.throttles, 1);
}

pub(super) async fn an_operator_closes_for_days_and_the_lane_reopens_with_one_slot(store: &TestStore) {
    store.enqueue_many(HOST, 2).await;
    let worker = store.join("w").await;
    store.queue().close(&lane(HOST), Duration::from_hours(48), "they wrote to us").await.unwrap();
    assert_wait(store.batch(&store.request(&worker, 5)).await.next_open, Duration::from_hours(48));
    store.advance(Duration::from_hours(48));
    let worker = store.join("later").await;
    assert_eq!(store.lease(&worker, 5).await.len(), 1);
    let nowhere = store.queue().close(&lane(""), Duration::from_secs(1), "x").await.unwrap_err();
    assert_eq!(nowhere.kind(), crate::ErrorKind::Invalid);
}
