//! Asking for one further request of a held job.

use std::time::Duration;

use super::TestStore;
use super::rules::{capped, capped_and_paced, lane, paced, unlimited};
use super::test_store::{asks_for_quiet, assert_wait, throttled};
use crate::{Admission, LeaseToken, Role};

const A: &str = "a.example";
const B: &str = "b.example";
const ROLE: Role = Role::Landing;

fn is_admitted(admission: Admission) -> bool {
    matches!(admission, Admission::Admitted { .. })
}

#[track_caller]
fn assert_not_before(admission: Admission, expected: Duration) {
    let Admission::NotBefore(wait) = admission else { panic!("{admission:?}") };
    assert_wait(Some(wait), expected);
}

pub(super) async fn admitting_moves_the_slot(store: &TestStore) {
    let worker = store.join("w").await;
    store.enqueue_many(A, 2).await;
    let held = store.lease_by(&worker, 5, &capped(1)).await;
    let Admission::Admitted { start_within, .. } = store.admit(held[0].token, B, ROLE, &capped(1)).await
    else {
        panic!("an empty lane admits")
    };
    assert!(start_within > Duration::ZERO && start_within <= Duration::from_millis(250));
    let record = store.record("a.example/0").await;
    assert_eq!(record.slot, Some(lane(B)));
    assert_eq!(record.place.lane, lane(A), "where the next try begins has not changed");
    assert_eq!(store.lane_row(B).await.map_or(0, |row| row.in_flight), 1);
    assert_eq!(store.lease_by(&worker, 5, &capped(1)).await.len(), 1, "the old slot is free");
}

pub(super) async fn inv_cap_a_full_lane_admits_nobody_and_the_old_slot_is_free(store: &TestStore) {
    let worker = store.join("w").await;
    store.enqueue_many(A, 2).await;
    store.enqueue_many(B, 1).await;
    let held = store.lease_by(&worker, 5, &capped(1)).await;
    let of_a = held.iter().find(|job| job.place.lane == lane(A)).unwrap();
    assert!(store.lease_by(&worker, 5, &capped(1)).await.is_empty());
    assert_eq!(store.admit(of_a.token, B, ROLE, &capped(1)).await, Admission::Full);
    // INV-NO-HOLD-AND-WAIT.
    assert_eq!(store.record("a.example/0").await.slot, None);
    assert_eq!(store.lease_by(&worker, 5, &capped(1)).await.len(), 1);
}

pub(super) async fn inv_cap_an_admitted_slot_counts_for_leases(store: &TestStore) {
    let (one, two) = (store.join("one").await, store.join("two").await);
    store.enqueue_many(A, 1).await;
    store.enqueue_many(B, 2).await;
    let held = store.lease_by(&one, 1, &capped(1)).await;
    let first = held[0].place.lane.clone();
    let other = if first == lane(A) { B } else { A };
    assert!(is_admitted(store.admit(held[0].token, other, ROLE, &capped(1)).await));
    let jobs = store.lease_by(&two, 5, &capped(1)).await;
    assert!(jobs.iter().all(|job| job.place.lane == first), "the slot in {other} is taken: {jobs:?}");
}

pub(super) async fn a_job_is_not_in_its_own_way(store: &TestStore) {
    let worker = store.join("w").await;
    store.enqueue_many(A, 1).await;
    let held = store.lease_by(&worker, 1, &capped(1)).await;
    for _ in 0..3 {
        assert!(is_admitted(store.admit(held[0].token, A, ROLE, &capped(1)).await));
    }
    assert_eq!(store.record("a.example/0").await.slot, Some(lane(A)));
    assert_eq!(store.lane_row(A).await.unwrap().in_flight, 1);
}

pub(super) async fn a_job_that_was_refused_may_ask_again(store: &TestStore) {
    let worker = store.join("w").await;
    store.enqueue_many(A, 1).await;
    store.enqueue_many(B, 1).await;
    let held = store.lease_by(&worker, 2, &capped(1)).await;
    assert_eq!(
        store.admit(held[0].token, held[1].place.lane.as_str(), ROLE, &capped(1)).await,
        Admission::Full
    );
    store.ack(&held[1]).await;
    assert!(is_admitted(store.admit(held[0].token, held[1].place.lane.as_str(), ROLE, &capped(1)).await));
    store.ack(&held[0]).await;
    assert_eq!(store.lane_row(held[1].place.lane.as_str()).await.map_or(0, |row| row.in_flight), 0);
}

pub(super) async fn inv_fence_only_the_current_claim_is_admitted(store: &TestStore) {
    let worker = store.join("w").await;
    store.enqueue_many(A, 1).await;
    let job = store.lease_one(&worker).await;
    let later = LeaseToken { fence: job.token.fence + 1, ..job.token };
    assert_eq!(store.admit(later, B, ROLE, &unlimited()).await, Admission::LeaseLost);
    store.release(&job).await;
    assert_eq!(store.admit(job.token, B, ROLE, &unlimited()).await, Admission::LeaseLost);
    let again = store.lease_one(&worker).await;
    assert_eq!(store.admit(job.token, B, ROLE, &unlimited()).await, Admission::LeaseLost);
    assert_eq!(store.record("a.example/0").await.slot, Some(lane(A)), "another's slot is not touched");
    assert!(is_admitted(store.admit(again.token, B, ROLE, &unlimited()).await));
}

/// It stops itself before the store would; but if it does not, nothing starts (INV-CAP).
pub(super) async fn an_expired_process_starts_nothing(store: &TestStore) {
    let worker = store.join("w").await;
    store.enqueue_many(A, 1).await;
    let job = store.lease_one(&worker).await;
    store.advance_secs(60);
    assert_eq!(store.admit(job.token, A, ROLE, &unlimited()).await, Admission::LeaseLost);
}

pub(super) async fn inv_pace_an_admission_is_counted(store: &TestStore) {
    let worker = store.join("w").await;
    store.enqueue_many(A, 2).await;
    let held = store.lease(&worker, 2).await;
    let Admission::Admitted { start_within, .. } = store.admit(held[0].token, B, ROLE, &paced("1/s")).await
    else {
        panic!("nothing has started there")
    };
    assert!(start_within <= Duration::from_millis(50));
    assert_not_before(store.admit(held[1].token, B, ROLE, &paced("1/s")).await, Duration::from_millis(1_100));
    store.advance(Duration::from_secs(1));
    assert_not_before(store.admit(held[1].token, B, ROLE, &paced("1/s")).await, Duration::from_millis(100));
    store.advance(Duration::from_millis(101));
    assert!(is_admitted(store.admit(held[1].token, B, ROLE, &paced("1/s")).await));
}

pub(super) async fn inv_pace_leases_and_admissions_share_one_count(store: &TestStore) {
    let worker = store.join("w").await;
    store.enqueue_many(A, 1).await;
    store.enqueue_many(B, 1).await;
    let held = store.lease_by(&worker, 1, &paced("1/s")).await;
    let (own, other) = if held[0].place.lane == lane(A) { (A, B) } else { (B, A) };
    assert!(matches!(store.admit(held[0].token, own, ROLE, &paced("1/s")).await, Admission::NotBefore(_)));
    assert!(is_admitted(store.admit(held[0].token, other, ROLE, &paced("1/s")).await));
    assert!(
        store.lease_by(&worker, 1, &paced("1/s")).await.is_empty(),
        "the admission was a start in {other}"
    );
}

pub(super) async fn inv_cooldown_a_closed_lane_admits_nobody(store: &TestStore) {
    let worker = store.join("w").await;
    store.enqueue_many(A, 2).await;
    store.enqueue_many(B, 1).await;
    let held = store.lease(&worker, 3).await;
    let of_b = held.iter().find(|job| job.place.lane == lane(B)).unwrap();
    let of_a = held.iter().find(|job| job.place.lane == lane(A)).unwrap();
    store.settle_with(of_b.token, throttled(), vec![asks_for_quiet(B, Some(30))]).await;
    assert_not_before(store.admit(of_a.token, B, ROLE, &unlimited()).await, Duration::from_secs(30));
    assert_eq!(store.record(of_a.artifact_id.as_str()).await.slot, None);
    store.advance(Duration::from_millis(29_998));
    assert!(!is_admitted(store.admit(of_a.token, B, ROLE, &unlimited()).await));
    store.advance(Duration::from_millis(2));
    assert!(is_admitted(store.admit(of_a.token, B, ROLE, &unlimited()).await));
}

pub(super) async fn a_pause_admits_nobody(store: &TestStore) {
    let worker = store.join("w").await;
    store.enqueue_many(A, 1).await;
    let job = store.lease_one(&worker).await;
    store.queue().pause(Some(&lane(B)), Some(Duration::from_secs(5)), "x").await.unwrap();
    assert_not_before(store.admit(job.token, B, ROLE, &unlimited()).await, Duration::from_secs(5));
    assert!(is_admitted(store.admit(job.token, A, ROLE, &unlimited()).await), "another lane is open");
    store.queue().pause(None, None, "x").await.unwrap();
    let Admission::NotBefore(wait) = store.admit(job.token, A, ROLE, &unlimited()).await else {
        panic!("the queue is paused")
    };
    assert!(wait >= Duration::from_hours(1), "without an end the wait is long: {wait:?}");
    store.queue().resume(None).await.unwrap();
    assert!(is_admitted(store.admit(job.token, A, ROLE, &unlimited()).await));
}

pub(super) async fn what_presses_on_nobody_is_admitted_and_holds_no_slot(store: &TestStore) {
    let worker = store.join("w").await;
    store.enqueue_many(A, 2).await;
    let rules = capped_and_paced(1, "1/s");
    let held = store.lease_by(&worker, 5, &rules).await;
    for _ in 0..3 {
        assert!(is_admitted(store.admit(held[0].token, "", ROLE, &rules).await));
    }
    assert_eq!(store.record("a.example/0").await.slot, None);
    store.advance_secs(2);
    assert_eq!(store.lease_by(&worker, 5, &rules).await.len(), 1);
}

pub(super) async fn a_wait_that_is_known_is_said_rather_than_full(store: &TestStore) {
    let worker = store.join("w").await;
    store.enqueue_many(A, 1).await;
    store.enqueue_many(B, 1).await;
    let held = store.lease(&worker, 2).await;
    store.queue().close(&lane(B), Duration::from_secs(30), "x").await.unwrap();
    let of_a = held.iter().find(|job| job.place.lane == lane(A)).unwrap();
    assert_not_before(store.admit(of_a.token, B, ROLE, &capped(1)).await, Duration::from_secs(30));
}

/// What never starts must not use up the pace of those that could.
pub(super) async fn inv_pace_a_refused_admission_is_not_counted(store: &TestStore) {
    let worker = store.join("w").await;
    let rules = capped_and_paced(1, "1/s");
    store.enqueue_many(A, 1).await;
    store.enqueue_many(B, 1).await;
    let held = store.lease_by(&worker, 2, &rules).await;
    store.advance_secs(5);
    let (mover, holder) = (&held[0], &held[1]);
    let host = holder.place.lane.as_str();
    assert_eq!(store.admit(mover.token, host, ROLE, &rules).await, Admission::Full);
    store.ack(holder).await;
    assert!(is_admitted(store.admit(mover.token, host, ROLE, &rules).await));
}
