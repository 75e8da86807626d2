//! INV-FAIR: nobody's backlog keeps another lane or class from moving.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::TestStore;
use super::rules::{capped, lane};
use super::test_store::by_lane;
use crate::LeasedJob;

const SMALL: [&str; 5] = ["a.example", "b.example", "c.example", "d.example", "e.example"];

pub(super) async fn inv_fair_a_long_backlog_keeps_nobody_waiting(store: &TestStore) {
    let worker = store.join("w").await;
    store.enqueue_many("big.example", 200).await;
    store.advance_secs(1);
    for small in SMALL {
        store.enqueue_many(small, 1).await;
    }
    let mut lanes = BTreeSet::new();
    for _ in 0..=SMALL.len() {
        let job = store.lease_one(&worker).await;
        lanes.insert(job.place.lane.as_str().to_owned());
        store.advance(Duration::from_millis(1));
    }
    assert_eq!(lanes.len(), SMALL.len() + 1, "each lane once in the first round: {lanes:?}");
}

pub(super) async fn inv_fair_a_round_visits_every_lane_once(store: &TestStore) {
    let worker = store.join("w").await;
    for small in SMALL {
        store.enqueue_many(small, 6).await;
    }
    for round in 0..6 {
        // Time stands still in every other round: then only the turns themselves can tell who was visited.
        let mut lanes = BTreeSet::new();
        for _ in SMALL {
            let job = store.lease_one(&worker).await;
            lanes.insert(job.place.lane.as_str().to_owned());
            store.ack(&job).await;
            store.advance(Duration::from_millis(round % 2));
        }
        assert_eq!(lanes.len(), SMALL.len(), "round {round}: {lanes:?}");
    }
}

pub(super) async fn inv_fair_what_is_wanted_is_shared_out(store: &TestStore) {
    let worker = store.join("w").await;
    for small in SMALL {
        store.enqueue_many(small, 10).await;
    }
    let jobs = store.lease(&worker, 20).await;
    let shares = by_lane(&jobs);
    assert_eq!(shares.into_iter().collect::<Vec<_>>(), SMALL.map(|small| (small, 4)));
}

/// A batch that does not divide evenly must not always leave the same lane without.
pub(super) async fn inv_fair_uneven_batches_reach_every_lane(store: &TestStore) {
    let worker = store.join("w").await;
    let lanes = ["a.example", "b.example", "c.example"];
    for lane in lanes {
        store.enqueue_many(lane, 40).await;
    }
    let mut given: BTreeMap<String, usize> = BTreeMap::new();
    for _ in 0..6 {
        let jobs = store.lease(&worker, 4).await;
        let here = by_lane(&jobs).len();
        assert_eq!(here, lanes.len(), "each lane gives in each batch of four");
        for job in jobs {
            *given.entry(job.place.lane.as_str().to_owned()).or_default() += 1;
            store.ack(&job).await;
        }
    }
    let (least, most) = (given.values().min().unwrap(), given.values().max().unwrap());
    assert!(most - least <= 1, "what remains of a batch goes round as well: {given:?}");
}

pub(super) async fn inv_fair_what_one_lane_cannot_give_others_do(store: &TestStore) {
    let worker = store.join("w").await;
    store.enqueue_many("a.example", 2).await;
    store.enqueue_many("b.example", 20).await;
    assert_eq!(store.lease(&worker, 12).await.len(), 12);
    store.enqueue_many("c.example", 20).await;
    let jobs = store.lease_by(&worker, 30, &capped(15)).await;
    assert_eq!(by_lane(&jobs), [("b.example", 5), ("c.example", 15)].into());
}

/// A job that comes back has kept its age, but its lane has had its turn.
pub(super) async fn inv_fair_a_returned_job_does_not_bring_its_lane_forward(store: &TestStore) {
    let worker = store.join("w").await;
    store.enqueue_many("a.example", 1).await;
    store.advance_secs(1);
    store.enqueue_many("b.example", 1).await;
    store.enqueue_many("c.example", 1).await;
    for step in [Duration::ZERO, Duration::from_millis(5)] {
        let mut lanes = BTreeSet::new();
        for _ in 0..3 {
            let job = store.lease_one(&worker).await;
            lanes.insert(job.place.lane.as_str().to_owned());
            store.release(&job).await;
            store.advance(step);
        }
        assert_eq!(lanes.len(), 3, "released again and again, one lane starves the others: {lanes:?}");
    }
}

pub(super) async fn inv_fair_work_without_a_host_takes_turns_too(store: &TestStore) {
    let worker = store.join("w").await;
    store.enqueue_many("", 50).await;
    store.enqueue_many("a.example", 2).await;
    let jobs = store.lease(&worker, 4).await;
    assert_eq!(by_lane(&jobs), [("", 2), ("a.example", 2)].into());
}

pub(super) async fn inv_fair_lanes_that_are_blocked_delay_nobody(store: &TestStore) {
    let worker = store.join("w").await;
    for number in 0..40 {
        let host = format!("closed{number}.example");
        store.enqueue_many(&host, 1).await;
        store.queue().close(&lane(&host), Duration::from_mins(10), "x").await.unwrap();
    }
    store.advance_secs(1);
    store.enqueue_many("open.example", 3).await;
    for _ in 0..3 {
        assert_eq!(store.lease_one(&worker).await.place.lane, lane("open.example"));
    }
}

pub(super) async fn inv_fair_many_lanes_each_give_once_before_any_gives_twice(store: &TestStore) {
    let worker = store.join("w").await;
    let hosts: Vec<String> = (0..300).map(|number| format!("h{number:03}.example")).collect();
    let jobs: Vec<_> = hosts
        .iter()
        .flat_map(|host| (0..2).map(move |number| super::test_store::job(&format!("{host}/{number}"), host)))
        .collect();
    store.enqueue_jobs(&jobs).await;
    let mut seen: Vec<LeasedJob> = Vec::new();
    for max in [7, 193, 100] {
        let jobs = store.lease(&worker, max).await;
        assert_eq!(jobs.len(), max);
        seen.extend(jobs);
    }
    assert!(by_lane(&seen).values().all(|count| *count == 1));
    assert_eq!(store.lease(&worker, 1_000).await.len(), 300);
}

pub(super) async fn the_highest_class_goes_first(store: &TestStore) {
    let worker = store.join("w").await;
    store.enqueue_in_class("a.example", 0, 3).await;
    store.enqueue_in_class("b.example", 5, 3).await;
    store.enqueue_in_class("a.example", 9, 3).await;
    let mut classes = Vec::new();
    for _ in 0..9 {
        classes.push(store.lease_one(&worker).await.priority.get());
    }
    assert_eq!(classes, [9, 9, 9, 5, 5, 5, 0, 0, 0]);
}

pub(super) async fn inv_fair_every_class_moves(store: &TestStore) {
    let worker = store.join("w").await;
    store.enqueue_in_class("a.example", 9, 100).await;
    store.enqueue_in_class("b.example", 4, 100).await;
    store.enqueue_in_class("a.example", 1, 100).await;
    let mut given: BTreeMap<u8, usize> = BTreeMap::new();
    for _ in 0..64 {
        *given.entry(store.lease_one(&worker).await.priority.get()).or_default() += 1;
    }
    assert_eq!(given, [(9, 60), (4, 2), (1, 2)].into(), "one in sixteen goes to a lower class, each in turn");
}

/// However many classes wait, and though none of them ever runs empty.
pub(super) async fn inv_fair_no_class_between_the_highest_and_the_lowest_starves(store: &TestStore) {
    let worker = store.join("w").await;
    for class in [9, 7, 5, 3, 0] {
        store.enqueue_in_class(&format!("class{class}.example"), class, 200).await;
    }
    let mut given: BTreeMap<u8, usize> = BTreeMap::new();
    let mut taken = 0;
    // Batches that do not divide the sixteen, so that the turn of the lower ones falls anywhere in them.
    while taken < 192 {
        let jobs = store.lease(&worker, 7.min(192 - taken)).await;
        taken += jobs.len();
        for job in jobs {
            *given.entry(job.priority.get()).or_default() += 1;
        }
    }
    assert_eq!(given, [(9, 180), (7, 3), (5, 3), (3, 3), (0, 3)].into());
}

pub(super) async fn inv_fair_every_class_moves_in_large_batches_too(store: &TestStore) {
    let worker = store.join("w").await;
    store.enqueue_in_class("a.example", 9, 100).await;
    store.enqueue_in_class("b.example", 1, 100).await;
    let jobs = store.lease(&worker, 64).await;
    assert_eq!(jobs.len(), 64);
    assert_eq!(jobs.iter().filter(|job| job.priority.get() == 1).count(), 4);
}

/// A dispatcher asks for as many as it has workers, and is given what the lanes allow.
pub(super) async fn asking_for_many_does_not_favour_the_lowest_class(store: &TestStore) {
    let worker = store.join("w").await;
    store.enqueue_in_class("a.example", 0, 12).await;
    store.enqueue_in_class("a.example", 9, 12).await;
    for round in 0..12 {
        let jobs = store.lease_by(&worker, 64, &capped(1)).await;
        assert_eq!(jobs.len(), 1);
        assert_eq!(jobs[0].priority.get(), 9, "round {round}");
        store.ack(&jobs[0]).await;
    }
}
