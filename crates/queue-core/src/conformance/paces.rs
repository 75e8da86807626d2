//! INV-PACE: in no window more requests start than the lane's pace allows.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use longhaul_limiter::LaneRules;

use super::TestStore;
use super::rules::{lane, paced, paced_by_role};
use super::test_store::{assert_wait, by_lane, job, names, release, skipped};
use crate::{
    Admission, AdmitRequest, Answer, JobState, LaneReport, LeaseBatch, LeaseRequest, LeasedJob, NewJob,
    Place, Role, WorkerId,
};

const HOST: &str = "a.example";

pub(super) async fn inv_pace_a_lane_gives_one_at_a_time(store: &TestStore) {
    let worker = store.join("w").await;
    store.enqueue_many(HOST, 5).await;
    store.enqueue_many("b.example", 5).await;
    let jobs = store.lease_by(&worker, 10, &paced("1/s")).await;
    assert_eq!(by_lane(&jobs), [(HOST, 1), ("b.example", 1)].into());
    store.advance(Duration::from_millis(1_098));
    assert!(
        store.lease_by(&worker, 10, &paced("1/s")).await.is_empty(),
        "the interval is stretched by a tenth"
    );
    store.advance(Duration::from_millis(3));
    assert_eq!(store.lease_by(&worker, 10, &paced("1/s")).await.len(), 2);
}

pub(super) async fn inv_pace_no_window_holds_more_than_its_limit(store: &TestStore) {
    let worker = store.join("w").await;
    store.enqueue_many(HOST, 100).await;
    let rules = paced("2/s+12/10s");
    let (mut second, mut ten, mut given) = (VecDeque::new(), VecDeque::new(), 0);
    for tick in 0..600 {
        if tick % 200 == 0 {
            store.beat(&worker).await;
        }
        for job in store.lease_by(&worker, 10, &rules).await {
            store.ack(&job).await;
            second.push_back(tick);
            ten.push_back(tick);
            given += 1;
        }
        // A tick is 50 ms.
        while second.front().is_some_and(|at| at + 20 <= tick) {
            second.pop_front();
        }
        while ten.front().is_some_and(|at| at + 200 <= tick) {
            ten.pop_front();
        }
        assert!(second.len() <= 2 && ten.len() <= 12, "at tick {tick}: {second:?} {ten:?}");
        store.advance(Duration::from_millis(50));
    }
    // Six at once, then one every 11 s / (12 - 6 + 1).
    assert!(given >= 24, "it is not merely safe, it keeps up: {given}");
}

pub(super) async fn inv_pace_holds_over_all_processes(store: &TestStore) {
    let (one, two) = (store.join("one").await, store.join("two").await);
    let other = store.another().await;
    store.enqueue_many(HOST, 5).await;
    assert_eq!(store.lease_by(&one, 1, &paced("1/s")).await.len(), 1);
    assert!(other.lease(&store.request_by(&two, 1, &paced("1/s"))).await.unwrap().jobs.is_empty());
}

pub(super) async fn inv_pace_outlives_the_leases(store: &TestStore) {
    let worker = store.join("w").await;
    store.enqueue_many(HOST, 3).await;
    for job in store.lease_by(&worker, 1, &paced("1/10s")).await {
        store.ack(&job).await;
    }
    store.leave(&worker).await;
    let worker = store.join("next").await;
    store.advance_secs(10);
    assert!(store.lease_by(&worker, 1, &paced("1/10s")).await.is_empty());
    store.advance(Duration::from_millis(1_001));
    assert_eq!(store.lease_by(&worker, 1, &paced("1/10s")).await.len(), 1);
}

pub(super) async fn a_paced_lane_says_when_it_gives_next(store: &TestStore) {
    let worker = store.join("w").await;
    store.enqueue_many(HOST, 2).await;
    let batch = store.batch(&store.request_by(&worker, 5, &paced("1/s"))).await;
    assert_eq!(batch.jobs.len(), 1);
    assert_wait(batch.next_open, Duration::from_millis(1_100));
    store.advance(Duration::from_millis(600));
    let batch = store.batch(&store.request_by(&worker, 5, &paced("1/s"))).await;
    assert!(batch.jobs.is_empty());
    assert_wait(batch.next_open, Duration::from_millis(500));
}

fn with_role(name: &str, role: Role) -> NewJob {
    job(name, HOST).at(Place::new(lane(HOST), role))
}

/// Otherwise one slow role would freeze the lane for all.
pub(super) async fn inv_pace_each_role_has_a_count_of_its_own(store: &TestStore) {
    let worker = store.join("w").await;
    let rules = paced_by_role("1/s", "off", "1/60s");
    store
        .enqueue_jobs(&[
            with_role("artifact-1", Role::Artifact),
            with_role("artifact-2", Role::Artifact),
            with_role("metadata-1", Role::Metadata),
            with_role("metadata-2", Role::Metadata),
            with_role("landing-1", Role::Landing),
            with_role("landing-2", Role::Landing),
        ])
        .await;
    let mut given = names(&store.lease_by(&worker, 10, &rules).await).join(" ");
    assert_eq!(given, "artifact-1 metadata-1 landing-1 landing-2");
    store.advance_secs(2);
    given = names(&store.lease_by(&worker, 10, &rules).await).join(" ");
    assert_eq!(given, "metadata-2", "the artifacts wait for a minute");
    store.beat(&worker).await;
    store.advance_secs(50);
    store.beat(&worker).await;
    store.advance_secs(20);
    given = names(&store.lease_by(&worker, 10, &rules).await).join(" ");
    assert_eq!(given, "artifact-2");
}

pub(super) async fn work_without_a_host_has_no_pace(store: &TestStore) {
    let worker = store.join("w").await;
    store.enqueue_many("", 5).await;
    assert_eq!(store.lease_by(&worker, 10, &paced("1/h")).await.len(), 5);
}

/// Leases without saying of anything that it has started.
async fn lease_untold(
    store: &TestStore,
    worker: &WorkerId,
    max: usize,
    rules: &Arc<LaneRules>,
) -> LeaseBatch {
    store.batch(&LeaseRequest { started: Vec::new(), ..store.request_by(worker, max, rules) }).await
}

/// Ends a job of which no request was made.
async fn end_unused(store: &TestStore, job: &LeasedJob) {
    let unused = vec![LaneReport::Unused { lane: lane(HOST), role: Role::Artifact }];
    let answer = store.settle_with(job.token, skipped(), unused).await;
    assert_eq!(answer, Answer::Recorded(JobState::Skipped));
}

/// Ten thousand jobs that need no request would otherwise take as long as if they did.
pub(super) async fn a_start_that_was_not_used_is_given_back(store: &TestStore) {
    let worker = store.join("w").await;
    let (rules, free) = (paced("1/10s"), paced("off"));
    store.enqueue_many(HOST, 5).await;
    store.enqueue_many("b.example", 2).await;
    let first = lease_untold(store, &worker, 5, &rules).await.jobs;
    assert!(first.iter().all(|job| job.paced), "{first:?}");
    let of = |host: &str| first.iter().find(|job| job.place.lane == lane(host)).unwrap();
    end_unused(store, of("b.example")).await;
    let none = lease_untold(store, &worker, 5, &rules).await.jobs;
    assert!(none.is_empty(), "a job has nothing to say of another's lane");
    end_unused(store, of(HOST)).await;
    // Said again, it gives nothing back again. What is given back can be had at once, and once.
    end_unused(store, of(HOST)).await;
    let batch = lease_untold(store, &worker, 5, &rules).await;
    assert_eq!(by_lane(&batch.jobs), [(HOST, 1)].into());
    assert_wait(batch.next_open, Duration::from_secs(11));
    let Answer::Recorded(JobState::Queued) = store.settle(batch.jobs[0].token, release()).await else {
        panic!("it is held");
    };
    let none = lease_untold(store, &worker, 5, &rules).await.jobs;
    assert!(none.is_empty(), "a release alone gives nothing back");
    let unpaced = store.lease_by(&worker, 1, &free).await;
    assert!(unpaced.iter().all(|job| !job.paced), "{unpaced:?}");
}

/// With 1/10s, and starts at 0 and 11: to take the first back at 12 would let one start at 12.
pub(super) async fn inv_pace_a_start_that_was_told_is_not_given_back(store: &TestStore) {
    let worker = store.join("w").await;
    let rules = paced("1/10s");
    store.enqueue_many(HOST, 5).await;
    let first = store.lease_by(&worker, 1, &rules).await;
    store.advance_secs(11);
    let second = store.lease_by(&worker, 1, &rules).await;
    assert_eq!((first.len(), second.len()), (1, 1));
    store.advance_secs(1);
    end_unused(store, &first[0]).await;
    assert!(lease_untold(store, &worker, 1, &rules).await.jobs.is_empty());
    // The second start was not told.
    end_unused(store, &second[0]).await;
    assert_eq!(store.lease_by(&worker, 5, &rules).await.len(), 1);
}

/// Asks anew for a start that was granted and not used.
async fn ask_late(store: &TestStore, job: &LeasedJob, rules: &Arc<LaneRules>) -> Admission {
    let request = AdmitRequest {
        token: job.token,
        place: job.place.clone(),
        rules: Arc::clone(rules),
        lead: Duration::ZERO,
        unused: Some(job.place.role),
    };
    store.queue().admit(&request).await.unwrap()
}

/// However late a holder is, it has lost nothing: neither its turn nor its slot.
pub(super) async fn inv_pace_a_late_holder_starts_when_it_is_ready(store: &TestStore) {
    let worker = store.join("w").await;
    let rules = paced("2/s+500/h");
    store.enqueue_many(HOST, 3).await;
    let held = lease_untold(store, &worker, 3, &rules).await.jobs;
    assert_eq!(held.len(), 1);
    for late_ms in [60, 400, 5_000] {
        store.advance(Duration::from_millis(late_ms));
        assert!(matches!(ask_late(store, &held[0], &rules).await, Admission::Admitted { .. }), "{late_ms}");
    }
    // The next one comes an interval after the start that is to be, and not after the one that was not.
    store.ack(&held[0]).await;
    assert!(store.lease_by(&worker, 1, &rules).await.is_empty());
    store.advance(Duration::from_millis(549));
    assert!(store.lease_by(&worker, 1, &rules).await.is_empty());
    store.advance(Duration::from_millis(1));
    assert_eq!(store.lease_by(&worker, 1, &rules).await.len(), 1);
}

/// The second request of a job is no late first one.
pub(super) async fn inv_pace_what_was_used_is_not_counted_anew(store: &TestStore) {
    let worker = store.join("w").await;
    let rules = paced("2/s");
    store.enqueue_many(HOST, 1).await;
    let held = lease_untold(store, &worker, 1, &rules).await.jobs;
    store.advance(Duration::from_millis(100));
    let again = store.admit(held[0].token, HOST, Role::Artifact, &rules).await;
    assert_eq!(again, Admission::NotBefore(Duration::from_millis(450)));
}

/// The store gives a lane's next grant once the last one is told to be used, or its claim has ended. Otherwise late holders
/// would find later grants in their place, again and again.
pub(super) async fn a_lane_waits_to_hear_of_a_start_before_it_gives_another(store: &TestStore) {
    let worker = store.join("w").await;
    let rules = paced("2/s");
    store.enqueue_many(HOST, 5).await;
    let first = lease_untold(store, &worker, 1, &rules).await.jobs;
    store.advance_secs(3);
    let batch = lease_untold(store, &worker, 1, &rules).await;
    assert_eq!(batch.jobs.len(), 0);
    assert!(batch.next_open.is_some_and(|wait| wait <= Duration::from_millis(250)), "{:?}", batch.next_open);
    // Told, settled, or with its process gone: then it is spent.
    let second = store.lease_by(&worker, 1, &rules).await;
    assert_eq!((first.len(), second.len()), (1, 1));
    store.advance_secs(3);
    store.ack(&second[0]).await;
    assert_eq!(lease_untold(store, &worker, 1, &rules).await.jobs.len(), 1);
    store.advance_secs(61);
    let other = store.join("other").await;
    let batch = lease_untold(store, &other, 1, &rules).await;
    assert_eq!(batch.jobs.len(), 1, "the process of the third is gone");
}

/// Commits and preparation cost a lane nothing: its next start is granted a little before its time, for its time.
pub(super) async fn inv_pace_a_start_is_granted_ahead_for_its_own_time(store: &TestStore) {
    let worker = store.join("w").await;
    let rules = paced("1/s");
    store.enqueue_many(HOST, 3).await;
    let lead = Duration::from_millis(20);
    let ask = async |worker: &WorkerId| {
        store.batch(&LeaseRequest { lead, ..store.request_by(worker, 3, &rules) }).await
    };
    let first = ask(&worker).await;
    assert_eq!((first.jobs.len(), first.jobs[0].start_after), (1, Duration::ZERO));
    assert_wait(first.next_open, Duration::from_millis(1_080));
    store.advance(Duration::from_millis(1_079));
    assert!(ask(&worker).await.jobs.is_empty());
    store.advance(Duration::from_millis(5));
    let second = ask(&worker).await;
    assert_eq!((second.jobs.len(), second.jobs[0].start_after), (1, Duration::from_millis(16)));
    assert_eq!(second.jobs[0].start_within, Duration::from_millis(66));
    // Counted from its time on, and not from when it was granted.
    assert_wait(second.next_open, Duration::from_millis(16 + 1_080));
}
