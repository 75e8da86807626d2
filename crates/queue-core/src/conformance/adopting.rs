//! Taking jobs over from another system.

use std::time::{Duration, UNIX_EPOCH};

use super::TestStore;
use super::test_store::{delayed, done, error, id, job, names, only};
use crate::{
    AdoptedJob, Answer, Enqueued, JobFilter, JobPage, JobState, NewJob, StoreId, Timestamp, WorkQueueExt,
};

const HOST: &str = "a.example";

fn adopted(name: &str, state: JobState) -> AdoptedJob {
    AdoptedJob { attempts: 2, ..AdoptedJob::new(job(name, HOST), state) }
}

/// One in each state, named after it.
fn one_of_each() -> Vec<AdoptedJob> {
    JobState::ALL.map(|state| adopted(state.as_str(), state)).to_vec()
}

/// The wall time so long ago.
fn ago(store: &TestStore, duration: Duration) -> Timestamp {
    use longhaul_limiter::Clock as _;
    let wall = store.clock().wall().duration_since(UNIX_EPOCH).unwrap();
    Timestamp(i64::try_from(wall.saturating_sub(duration).as_millis()).unwrap())
}

pub(super) async fn inv_conserve_jobs_are_adopted_in_their_states(store: &TestStore) {
    let answers = store.queue().adopt(&one_of_each()).await.unwrap();
    assert!(answers.iter().all(|answer| matches!(answer, Enqueued::New(_))), "{answers:?}");
    let counts = store.counts().await;
    assert_eq!((counts.queued, counts.in_progress), (2, 0), "what was in progress there is queued here");
    assert_eq!((counts.done, counts.skipped, counts.error), (1, 1, 1));
    for came in JobState::ALL {
        let (record, history) = store.get(came.as_str()).await;
        assert_eq!((record.state, record.attempts, record.fence), (came.adopted(), 2, 0));
        let line = only(history);
        assert_eq!((line.event.as_str(), line.reason.as_deref()), ("adopted", Some(came.as_str())));
    }
    assert_eq!(store.queue().adopt(&[]).await.unwrap(), []);
}

pub(super) async fn what_was_adopted_is_what_is_kept(store: &TestStore) {
    let hours = |hours| Some(ago(store, Duration::from_hours(hours)));
    let new = NewJob { resolver_hint: Some("arxiv".to_owned()), max_attempts: Some(7), ..job("a", HOST) };
    let failed = AdoptedJob {
        attempts: 3,
        last_error: Some("status 404".to_owned()),
        created_at: hours(30),
        updated_at: hours(20),
        available_at: hours(25),
        ..AdoptedJob::new(new, JobState::Error)
    };
    store.queue().adopt(std::slice::from_ref(&failed)).await.unwrap();
    let record = store.record("a").await;
    assert_eq!((record.attempts, record.max_attempts, record.losses), (3, Some(7), 0));
    assert_eq!((record.last_error, record.resolver_hint), (failed.last_error, failed.job.resolver_hint));
    assert_eq!((record.payload, record.place), (failed.job.payload, failed.job.place));
    assert_eq!((Some(record.created_at), Some(record.updated_at)), (failed.created_at, failed.updated_at));
    assert_eq!((record.finished_at, Some(record.available_at)), (failed.updated_at, failed.available_at));
}

pub(super) async fn a_time_that_is_to_come_was_no_past(store: &TestStore) {
    let tomorrow = Some(Timestamp(ago(store, Duration::ZERO).0 + 86_400_000));
    let odd = AdoptedJob { created_at: tomorrow, updated_at: tomorrow, ..adopted("a", JobState::Done) };
    store.queue().adopt(&[odd]).await.unwrap();
    let (record, now) = (store.record("a").await, ago(store, Duration::ZERO));
    assert_eq!((record.created_at, record.updated_at, record.finished_at), (now, now, Some(now)));
}

pub(super) async fn inv_idempotent_adopting_again_changes_nothing(store: &TestStore) {
    let first = only(store.enqueue_jobs(&[job("done", HOST)]).await);
    let answers = store.queue().adopt(&one_of_each()).await.unwrap();
    assert_eq!(answers[2], Enqueued::Duplicate(first), "whoever is there is left as it is");
    assert_eq!(store.state("done").await, JobState::Queued);
    let before = store.all().await;
    store.advance_secs(5);
    let again = store.queue().adopt(&one_of_each()).await.unwrap();
    assert!(again.iter().all(|answer| matches!(answer, Enqueued::Duplicate(_))), "{again:?}");
    assert_eq!(store.all().await, before);
    assert_eq!(store.get("error").await.1.len(), 1);
    let enqueued = store.queue().enqueue_one(job("error", HOST)).await.unwrap();
    assert!(matches!(enqueued, Enqueued::Duplicate(_)));
}

pub(super) async fn inv_idempotent_of_two_with_one_key_the_first_is_adopted(store: &TestStore) {
    let twice = [adopted("a", JobState::Skipped), adopted("a", JobState::Queued)];
    let answers = store.queue().adopt(&twice).await.unwrap();
    let Enqueued::New(number) = answers[0] else { panic!("{answers:?}") };
    assert_eq!(answers[1], Enqueued::Duplicate(number));
    assert_eq!((store.counts().await.skipped, store.counts().await.total()), (1, 1));
    let worker = store.join("w").await;
    assert!(store.lease(&worker, 5).await.is_empty());
}

pub(super) async fn inv_final_only_what_is_queued_is_leased(store: &TestStore) {
    let worker = store.join("w").await;
    let epoch = store.batch(&store.request(&worker, 1)).await.epoch;
    store.queue().adopt(&one_of_each()).await.unwrap();
    assert!(store.handle_of(&worker).changed(epoch).await.unwrap() > epoch, "whoever waits is woken");
    let held = store.lease(&worker, 9).await;
    assert_eq!(names(&held), ["queued", "in_progress"]);
    assert!(held.iter().all(|job| job.attempts == 2));
    let retry = super::test_store::retry(Duration::ZERO);
    assert_eq!(store.settle(held[0].token, retry).await, Answer::Recorded(JobState::Queued));
    assert_eq!(store.record("queued").await.attempts, 3, "counting goes on from there");
    store.ack(&held[1]).await;
}

pub(super) async fn what_is_available_later_waits(store: &TestStore) {
    let worker = store.join("w").await;
    let in_a_minute = Some(Timestamp(ago(store, Duration::ZERO).0 + 60_000));
    let later = AdoptedJob { available_at: in_a_minute, ..adopted("later", JobState::Queued) };
    let own = AdoptedJob::new(delayed("own", HOST, Duration::from_secs(30)), JobState::Queued);
    store.queue().adopt(&[later, own]).await.unwrap();
    assert!(store.lease(&worker, 9).await.is_empty());
    store.advance_secs(30);
    assert_eq!(names(&store.lease(&worker, 9).await), ["own"]);
    store.beat(&worker).await;
    // A store may be a millisecond late.
    store.advance(Duration::from_millis(30_001));
    assert_eq!(names(&store.lease(&worker, 9).await), ["later"]);
}

/// INV-FAIR: what has waited for years in another system goes first in its lane, and its lane takes its turn.
pub(super) async fn inv_fair_age_counts_within_a_lane_only(store: &TestStore) {
    store.enqueue("b.example", &["b1"]).await;
    store.enqueue(HOST, &["young"]).await;
    store.advance_secs(1);
    let aged = |name: &str, host: &str| AdoptedJob {
        available_at: Some(ago(store, Duration::from_hours(1_000))),
        ..AdoptedJob::new(job(name, host), JobState::Queued)
    };
    store.queue().adopt(&[aged("old", HOST), aged("c1", "c.example")]).await.unwrap();
    let worker = store.join("w").await;
    assert_eq!(names(&store.lease(&worker, 3).await), ["b1", "old", "c1"]);
    assert_eq!(names(&store.lease(&worker, 3).await), ["young"]);
}

pub(super) async fn what_ended_elsewhere_is_published_there(store: &TestStore) {
    store.queue().adopt(&one_of_each()).await.unwrap();
    let page = JobPage { after: None, limit: 10 };
    let unpublished = store.queue().unpublished(&StoreId("s".to_owned()), page).await.unwrap();
    assert_eq!(unpublished, []);
    for state in JobState::ALL {
        let record = store.record(state.as_str()).await;
        assert_eq!(record.published, state.is_terminal());
        assert_eq!((record.outcome, record.path, record.store), (None, None, None));
    }
}

pub(super) async fn retry_failed_works_on_adopted_ones(store: &TestStore) {
    store.queue().adopt(&one_of_each()).await.unwrap();
    assert_eq!(store.queue().retry_failed(&JobFilter::default(), 100).await.unwrap(), 1);
    let (record, history) = store.get("error").await;
    assert_eq!((record.state, record.attempts, record.finished_at), (JobState::Queued, 0, None));
    assert_eq!(
        history.iter().map(|line| line.event.as_str()).collect::<Vec<_>>(),
        ["retry_failed", "adopted"]
    );
    assert_eq!(store.queue().requeue(&[id("done"), id("skipped")]).await.unwrap(), 2);
    let worker = store.join("w").await;
    let held = store.lease(&worker, 9).await;
    assert_eq!(held.len(), 5);
    for job in &held[1..] {
        store.settle(job.token, error()).await;
    }
    store.settle(held[0].token, done()).await;
    // INV-CONSERVE: what ended here is to be published here.
    let page = JobPage { after: None, limit: 10 };
    assert_eq!(store.queue().unpublished(&StoreId("s".to_owned()), page).await.unwrap().len(), 5);
}

pub(super) async fn inv_bounded_an_adopted_error_is_kept_up_to_2_kib(store: &TestStore) {
    let long = AdoptedJob { last_error: Some("é".repeat(2_000)), ..adopted("a", JobState::Error) };
    store.queue().adopt(&[long]).await.unwrap();
    assert_eq!(store.record("a").await.last_error, Some("é".repeat(1_024)));
}

pub(super) async fn adopted_jobs_are_pruned_by_the_time_they_ended(store: &TestStore) {
    let ended = |name: &str, hours| AdoptedJob {
        updated_at: Some(ago(store, Duration::from_hours(hours))),
        ..adopted(name, JobState::Done)
    };
    store.queue().adopt(&[ended("old", 50), ended("young", 10)]).await.unwrap();
    assert_eq!(store.queue().prune(JobState::Done, Duration::from_hours(24)).await.unwrap(), 1);
    assert_eq!(store.record("old").await.payload, "{}");
    assert_ne!(store.record("young").await.payload, "{}");
}
