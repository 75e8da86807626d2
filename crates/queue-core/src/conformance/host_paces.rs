//! INV-PACE: what a host asks for, what it was seen to bear, and what other processes are configured to.

use std::time::Duration;

use longhaul_limiter::{Controller, LaneRules, StatedLimits};

use super::TestStore;
use super::rules::{lane, paced, unlimited};
use super::test_store::{asks_for_quiet, assert_wait, by_lane, job, names, served, throttled, worker_info};
use crate::{
    Admission, Answer, JobState, LanePace, LaneReport, LeasedJob, Place, Role, WorkerId, WorkerInfo,
};

const HOST: &str = "a.example";
const SECOND: Duration = Duration::from_secs(1);

fn asks(controller: Controller, every: Duration, valid_for: Duration) -> LaneReport {
    LaneReport::Paced { lane: lane(HOST), controller, every, valid_for }
}

/// Leases a job of the host and ends it with these reports.
async fn end_with(store: &TestStore, worker: &WorkerId, reports: Vec<LaneReport>) -> LeasedJob {
    let job = store.lease_one(worker).await;
    let answer = store.settle_with(job.token, super::test_store::done(), reports).await;
    assert_eq!(answer, Answer::Recorded(JobState::Done));
    job
}

async fn pace_of(store: &TestStore) -> Option<LanePace> {
    store.lane_row(HOST).await.and_then(|row| row.pace)
}

async fn join_stating(store: &TestStore, name: &str, rules: &LaneRules) -> WorkerId {
    let info = WorkerInfo { limits: Some(StatedLimits::from(rules)), ..worker_info(name) };
    store.handle_of(&info.id).join(&info, Duration::from_mins(2)).await.unwrap();
    info.id
}

pub(super) async fn inv_pace_a_host_gets_the_pace_that_it_asks_for(store: &TestStore) {
    let worker = store.join("w").await;
    store.enqueue_many(HOST, 3).await;
    store.enqueue_jobs(&[job("landing", HOST).at(Place::new(lane(HOST), Role::Landing))]).await;
    end_with(store, &worker, vec![asks(Controller::CrawlDelay, 10 * SECOND, 60 * SECOND)]).await;
    let pace = pace_of(store).await.unwrap();
    assert_eq!((pace.controller, pace.every_us), (Controller::CrawlDelay, 10_000_000));
    // From the answer on, over all roles, and stretched by a tenth.
    let batch = store.batch(&store.request(&worker, 5)).await;
    assert!(batch.jobs.is_empty(), "{batch:?}");
    assert_wait(batch.next_open, 11 * SECOND);
    store.advance(11 * SECOND);
    assert_eq!(store.lease(&worker, 5).await.len(), 1);
    store.advance(10 * SECOND);
    assert!(store.lease(&worker, 5).await.is_empty());
    store.advance(SECOND);
    assert_eq!(store.lease(&worker, 5).await.len(), 1);
    // At its end nothing is left of it.
    store.beat(&worker).await;
    store.advance(40 * SECOND);
    assert_eq!(pace_of(store).await, None);
    assert_eq!(store.lease(&worker, 5).await.len(), 1);
}

pub(super) async fn inv_pace_admissions_keep_a_hosts_pace_as_well(store: &TestStore) {
    let worker = store.join("w").await;
    store.enqueue_many(HOST, 1).await;
    end_with(store, &worker, vec![asks(Controller::Announced, 4 * SECOND, 60 * SECOND)]).await;
    store.enqueue_many("b.example", 1).await;
    let held = store.lease_one(&worker).await;
    store.advance(5 * SECOND);
    let admit = async || store.admit(held.token, HOST, Role::Landing, &unlimited()).await;
    assert!(matches!(admit().await, Admission::Admitted { start_within, .. } if start_within <= SECOND / 4));
    match admit().await {
        Admission::NotBefore(wait) => assert_wait(Some(wait), Duration::from_millis(4_400)),
        other => panic!("{other:?}"),
    }
}

pub(super) async fn what_a_host_takes_back_holds_nothing_up(store: &TestStore) {
    let worker = store.join("w").await;
    store.enqueue_many(HOST, 3).await;
    let held = store.lease_one(&worker).await;
    end_with(store, &worker, vec![asks(Controller::Announced, 1_000 * SECOND, 10_000 * SECOND)]).await;
    assert!(store.lease(&worker, 5).await.is_empty());
    // The second speaks for the first's answer: faster, and then not at all.
    store.settle_with(held.token, throttled(), vec![asks(Controller::Announced, SECOND, 100 * SECOND)]).await;
    let batch = store.batch(&store.request(&worker, 5)).await;
    assert!(batch.jobs.is_empty(), "{batch:?}");
    assert_wait(batch.next_open, Duration::from_millis(1_100));
    store.advance(2 * SECOND);
    end_with(store, &worker, vec![asks(Controller::Announced, Duration::ZERO, SECOND)]).await;
    assert_eq!(pace_of(store).await, None);
    assert_eq!(store.lease(&worker, 5).await.len(), 1);
}

pub(super) async fn the_slowest_that_a_host_asks_for_holds(store: &TestStore) {
    let worker = store.join("w").await;
    store.enqueue_many(HOST, 2).await;
    let reports = vec![
        asks(Controller::CrawlDelay, 900 * SECOND, 10_000 * SECOND),
        asks(Controller::Announced, SECOND, 10_000 * SECOND),
        asks(Controller::Learned, 5_000 * SECOND, 10_000 * SECOND),
    ];
    end_with(store, &worker, reports).await;
    let pace = pace_of(store).await.unwrap();
    assert_eq!(
        (pace.controller, pace.every_us),
        (Controller::CrawlDelay, 300_000_000),
        "five minutes at most"
    );
}

/// 20 were served at once, and the next was asked to wait for 2 seconds: 20 in 2 s is borne.
pub(super) async fn inv_pace_a_refusal_teaches_what_a_host_bears(store: &TestStore) {
    let worker = store.join("w").await;
    store.enqueue_many(HOST, 30).await;
    let held = store.lease(&worker, 21).await;
    for job in &held[..20] {
        store.ack_served(job).await;
    }
    store.settle_with(held[20].token, throttled(), vec![asks_for_quiet(HOST, Some(2))]).await;
    let pace = pace_of(store).await.unwrap();
    assert_eq!((pace.controller, pace.every_us), (Controller::Learned, 100_000));
    store.advance(2 * SECOND);
    let first = store.lease_one(&worker).await;
    store.ack_served(&first).await;
    let raised = pace_of(store).await.unwrap();
    assert!(raised.every_us < 100_000 && raised.every_us > 50_000, "{raised:?}");
    // Three slots by now, and one start at a time.
    assert!(store.lease(&worker, 5).await.is_empty());
    store.advance(Duration::from_millis(111));
    assert_eq!(store.lease(&worker, 5).await.len(), 1);
}

pub(super) async fn of_many_that_are_refused_at_once_one_is_judged(store: &TestStore) {
    let worker = store.join("w").await;
    store.enqueue_many(HOST, 24).await;
    let held = store.lease(&worker, 24).await;
    for job in &held[..20] {
        store.ack_served(job).await;
    }
    for job in &held[20..] {
        store.settle_with(job.token, throttled(), vec![asks_for_quiet(HOST, Some(2))]).await;
    }
    assert_eq!(pace_of(store).await.map(|pace| pace.every_us), Some(100_000));
}

pub(super) async fn inv_pace_what_was_learned_outlives_a_restart(store: &TestStore) {
    let worker = store.join("w").await;
    store.enqueue_many(HOST, 10).await;
    let held = store.lease(&worker, 5).await;
    for job in &held[..4] {
        store.ack_served(job).await;
    }
    store.settle_with(held[4].token, throttled(), vec![asks_for_quiet(HOST, Some(2))]).await;
    let before = pace_of(store).await;
    if store.reopen().await {
        assert_eq!(pace_of(store).await, before);
        assert_eq!(before.map(|pace| pace.every_us), Some(500_000), "4 in 2 s");
    }
}

/// It named two seconds and refuses again after them: the penalty box decides, as after a strike.
pub(super) async fn inv_cooldown_a_host_that_names_too_short_a_time_is_left_alone_for_longer(
    store: &TestStore,
) {
    let worker = store.join("w").await;
    store.enqueue_many(HOST, 3).await;
    for (least, most) in [(2, 2), (54, 66)] {
        let job = store.lease_one(&worker).await;
        store.settle_with(job.token, throttled(), vec![asks_for_quiet(HOST, Some(2))]).await;
        let wait = store.queue().stats().await.unwrap().next_cooled.unwrap();
        let tolerance = Duration::from_millis(2);
        assert!(wait + tolerance >= least * SECOND && wait <= most * SECOND + tolerance, "{wait:?}");
        // Whoever reads of a minute where the host said two seconds is told whose it is.
        let cause = store.lane_row(HOST).await.unwrap().cause.unwrap();
        assert_eq!(cause.contains("longer than it asked for"), least == 54, "{cause}");
        store.advance(wait);
    }
}

pub(super) async fn inv_cooldown_a_strike_in_a_closed_lane_prolongs_nothing(store: &TestStore) {
    let worker = store.join("w").await;
    store.enqueue_many(HOST, 3).await;
    let held = store.lease(&worker, 3).await;
    store.settle_with(held[0].token, throttled(), vec![asks_for_quiet(HOST, Some(5))]).await;
    store.settle_with(held[1].token, throttled(), vec![asks_for_quiet(HOST, None)]).await;
    assert_wait(store.queue().stats().await.unwrap().next_cooled, 5 * SECOND);
}

/// The time until the second request is not that of the pace from before the first had shown what the host bears.
pub(super) async fn what_is_learned_after_a_closure_holds_from_the_first_answer_on(store: &TestStore) {
    let worker = store.join("w").await;
    store.enqueue_many(HOST, 4).await;
    end_with(store, &worker, vec![served(HOST)]).await;
    store.advance(SECOND);
    let job = store.lease_one(&worker).await;
    store.settle_with(job.token, throttled(), vec![asks_for_quiet(HOST, Some(12))]).await;
    // One in 13 seconds was borne: such a pace has the first, and an eighth of what is missing to 1/s it makes good.
    store.advance(12 * SECOND);
    end_with(store, &worker, vec![served(HOST)]).await;
    let wait = store.batch(&store.request(&worker, 5)).await.next_open.unwrap();
    assert!(wait > 5 * SECOND && wait < 7 * SECOND, "{wait:?}");
}

/// Otherwise a URL that throttles for ever would be the first to be asked after each closure, and nobody else ever.
pub(super) async fn inv_fair_a_throttled_job_goes_to_the_back_of_its_lane(store: &TestStore) {
    let worker = store.join("w").await;
    store.enqueue(HOST, &["throttled", "other"]).await;
    let first = store.lease_one(&worker).await;
    assert_eq!(first.artifact_id.as_str(), "throttled");
    store.settle_with(first.token, throttled(), vec![asks_for_quiet(HOST, Some(2))]).await;
    store.advance(SECOND);
    store.enqueue(HOST, &["came-meanwhile"]).await;
    let mut order = Vec::new();
    for _ in 0..3 {
        store.advance(SECOND);
        let job = store.lease_one(&worker).await;
        store.ack_served(&job).await;
        order.push(names(&[job])[0].to_owned());
    }
    assert_eq!(order, ["other", "came-meanwhile", "throttled"]);
}

/// INV-ATTEMPTS: it is charged each time that its lane has served others meanwhile, wherever they stood in line.
pub(super) async fn inv_attempts_a_job_that_throttles_for_ever_is_counted_each_time(store: &TestStore) {
    let worker = store.join("w").await;
    store.enqueue(HOST, &["never", "other"]).await;
    // What was learned of the host meanwhile is no matter of this case.
    let next = async || {
        for _ in 0..100 {
            store.beat(&worker).await;
            store.advance(20 * SECOND);
            if let Some(job) = store.lease(&worker, 1).await.pop() {
                return job;
            }
        }
        panic!("nothing is given for half an hour");
    };
    for round in 0..3 {
        let job = next().await;
        // The first time nobody had been served yet.
        assert_eq!((job.artifact_id.as_str(), job.throttles), ("never", u32::saturating_sub(round, 1)));
        store.settle_with(job.token, throttled(), vec![asks_for_quiet(HOST, Some(2))]).await;
        // What came meanwhile goes first, and is served.
        store.enqueue(HOST, &[&format!("other-{round}")]).await;
        let other = next().await;
        assert_ne!(other.artifact_id.as_str(), "never");
        store.ack_served(&other).await;
        if round == 0 {
            let other = next().await;
            store.ack_served(&other).await;
        }
    }
    assert_eq!(store.record("never").await.throttles, 2);
}

pub(super) async fn inv_pace_the_stricter_of_two_processes_binds_both(store: &TestStore) {
    let (fast, slow) = (paced("10/s"), paced("1/10s"));
    let one = join_stating(store, "one", &fast).await;
    let two = join_stating(store, "two", &slow).await;
    store.enqueue_many(HOST, 30).await;
    assert_eq!(store.lease_by(&one, 5, &fast).await.len(), 1);
    for _ in 0..10 {
        store.advance(SECOND);
        assert!(store.lease_by(&one, 5, &fast).await.is_empty());
        assert!(store.lease_by(&two, 5, &slow).await.is_empty());
    }
    store.advance(SECOND);
    assert_eq!(store.lease_by(&one, 5, &fast).await.len(), 1, "its start counts for the other as well");
    assert!(store.lease_by(&two, 5, &slow).await.is_empty());
    // An admission is bound like a lease.
    store.enqueue_many("b.example", 1).await;
    let held = store.lease_by(&one, 1, &fast).await;
    assert_eq!(by_lane(&held), [("b.example", 1)].into());
    let admission = store.admit(held[0].token, HOST, Role::Artifact, &fast).await;
    assert!(matches!(admission, Admission::NotBefore(wait) if wait > 5 * SECOND), "{admission:?}");
    // Where the stricter is gone the other's own pace holds, at once.
    store.leave(&two).await;
    for _ in 0..3 {
        store.advance(Duration::from_millis(111));
        assert_eq!(store.lease_by(&one, 5, &fast).await.len(), 1);
    }
}

pub(super) async fn work_without_a_host_has_no_pace_of_its_own(store: &TestStore) {
    let worker = store.join("w").await;
    store.enqueue_many("", 3).await;
    let every = 100 * SECOND;
    let report =
        LaneReport::Paced { lane: lane(""), controller: Controller::Announced, every, valid_for: every };
    let job = store.lease_one(&worker).await;
    store.settle_with(job.token, super::test_store::done(), vec![report, served("")]).await;
    assert_eq!(store.lease(&worker, 5).await.len(), 2);
}
