//! Lanes that bound the run: they are found, and give out of turn as far as that is asked for.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::TestStore;
use super::rules::{capped, capped_host, lane, paced, paced_host, unlimited};
use super::test_store::only;
use crate::{Critical, LaneRules, LeaseRequest, LeasedJob, Throughput, WorkerId};

const SLOW: &str = "slow.example";
const OTHERS: [&str; 5] = ["a.example", "b.example", "c.example", "d.example", "e.example"];

fn critical(lanes: &[&str], most: usize) -> Critical {
    let lanes = lanes.iter().map(|name| lane(name)).collect();
    Critical { lanes, most, horizon: Duration::from_millis(150) }
}

async fn lease(
    store: &TestStore,
    (worker, max): (&WorkerId, usize),
    rules: &Arc<LaneRules>,
    critical: &Critical,
) -> Vec<LeasedJob> {
    let request = store.request_by(worker, max, rules);
    store.batch(&LeaseRequest { critical: critical.clone(), ..request }).await.jobs
}

fn lanes(jobs: &[LeasedJob]) -> Vec<&str> {
    jobs.iter().map(|job| job.place.lane.as_str()).collect()
}

pub(super) async fn a_critical_lane_gives_out_of_turn(store: &TestStore) {
    let worker = store.join("w").await;
    for host in OTHERS.into_iter().chain([SLOW]) {
        store.enqueue_many(host, 9).await;
        store.advance_secs(1);
    }
    let (slow, rules) = (critical(&[SLOW], 1), unlimited());
    for turn in OTHERS {
        assert_eq!(lanes(&lease(store, (&worker, 1), &rules, &slow).await), [SLOW]);
        assert_eq!(lanes(&lease(store, (&worker, 1), &rules, &Critical::default()).await), [turn]);
    }
    let more = lease(store, (&worker, 4), &rules, &slow).await;
    assert_eq!(lanes(&more)[0], SLOW);
    assert_eq!(more.len(), 4);
}

pub(super) async fn inv_fair_no_more_come_out_of_turn_than_are_asked_for(store: &TestStore) {
    let worker = store.join("w").await;
    let long = ["x.example", "y.example", "z.example"];
    for host in OTHERS.into_iter().chain(long) {
        store.enqueue_many(host, 9).await;
        store.advance_secs(1);
    }
    let jobs = lease(store, (&worker, 4), &capped(2), &critical(&long, 2)).await;
    assert_eq!(lanes(&jobs), ["x.example", "y.example", "a.example", "b.example"]);
    let jobs = lease(store, (&worker, 3), &capped(2), &critical(&long, 1)).await;
    assert_eq!(lanes(&jobs), ["x.example", "c.example", "d.example"]);
    let jobs = lease(store, (&worker, 2), &capped(2), &critical(&long, 1)).await;
    assert_eq!(lanes(&jobs), ["y.example", "e.example"], "x.example is full");
}

pub(super) async fn a_critical_lane_whose_turn_it_is_gives_each_job_once(store: &TestStore) {
    let worker = store.join("w").await;
    store.enqueue_many(SLOW, 9).await;
    let jobs = lease(store, (&worker, 6), &capped(6), &critical(&[SLOW], 3)).await;
    let names: BTreeSet<&str> = jobs.iter().map(|job| job.artifact_id.as_str()).collect();
    assert_eq!((jobs.len(), names.len()), (6, 6));
}

pub(super) async fn inv_cooldown_a_critical_lane_that_is_closed_gives_nothing(store: &TestStore) {
    let worker = store.join("w").await;
    store.enqueue_many(SLOW, 9).await;
    store.enqueue_many("a.example", 9).await;
    store.queue().close(&lane(SLOW), Duration::from_millis(100), "x").await.unwrap();
    let slow = critical(&[SLOW, "unknown.example", ""], 2);
    assert_eq!(lanes(&lease(store, (&worker, 1), &unlimited(), &slow).await), ["a.example"]);
    assert_eq!(lanes(&lease(store, (&worker, 9), &capped(1), &slow).await), [""; 0]);
    store.advance(Duration::from_millis(101));
    assert_eq!(lanes(&lease(store, (&worker, 1), &capped(1), &slow).await), [SLOW]);
}

pub(super) async fn inv_pace_a_worker_may_wait_for_a_critical_lane(store: &TestStore) {
    let worker = store.join("w").await;
    let (slow, rules) = (critical(&[SLOW], 1), paced_host(SLOW, "1/s"));
    store.enqueue_many(SLOW, 9).await;
    store.enqueue_many("a.example", 9).await;
    store.ack(&only(lease(store, (&worker, 1), &rules, &slow).await)).await;
    store.advance(Duration::from_millis(948));
    assert_eq!(lanes(&lease(store, (&worker, 1), &rules, &slow).await), ["a.example"]);
    store.advance(Duration::from_millis(10));
    assert_eq!(lanes(&lease(store, (&worker, 1), &rules, &Critical::default()).await), ["a.example"]);
    let job = only(lease(store, (&worker, 1), &rules, &slow).await);
    assert_eq!(job.place.lane, lane(SLOW));
    let wait = job.start_after;
    assert!((Duration::from_millis(130)..=Duration::from_millis(142)).contains(&wait), "{wait:?}");
    store.ack(&job).await;
    store.advance(Duration::from_millis(142 + 940));
    let next = lease(store, (&worker, 1), &rules, &slow).await;
    assert_eq!(lanes(&next), ["a.example"], "a start counts when it happens");
}

pub(super) async fn the_lanes_that_bound_a_run_are_found(store: &TestStore) {
    store.enqueue_many("", 40).await;
    store.enqueue_many("long.example", 30).await;
    for host in OTHERS {
        store.enqueue_many(host, 6).await;
    }
    let found = async |rules: Arc<LaneRules>, workers| {
        let throughput = Throughput { rules, workers, job_time: Duration::from_secs(1) };
        let found = store.queue().critical(&throughput).await.unwrap();
        found.iter().map(|lane| lane.as_str().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(found(capped(2), 5).await, ["long.example"], "15 s by its cap, where the workers need 20 s");
    assert_eq!(found(capped(2), 3).await, [""; 0], "the workers need 33 s");
    assert_eq!(found(unlimited(), 5).await, [""; 0], "nothing bounds it");
    assert_eq!(found(capped_host(9, "c.example", 1), 10).await, ["c.example"]);
    assert_eq!(found(paced("1/s"), 5).await, ["long.example"]);
    let all = found(paced("1/s"), 100).await;
    assert_eq!((all.len(), all[0].as_str()), (6, "long.example"));
}
