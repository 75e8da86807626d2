//! Worker processes: joining, heartbeats, leaving.

use std::time::Duration;

use super::TestStore;
use super::test_store::{TTL, error, names, worker_info};
use crate::{Answer, ErrorKind, Heartbeat, JobState, LaneRules, StatedLimits, WorkerId, WorkerInfo};

pub(super) async fn a_stranger_has_no_heart(store: &TestStore) {
    let refused = store.queue().heartbeat(&WorkerId::from_text("stranger"), TTL).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::NotFound);
    assert!(!refused.is_retryable());
    assert!(store.queue().workers().await.unwrap().is_empty());
}

pub(super) async fn a_heartbeat_keeps_all_leases_alive(store: &TestStore) {
    let (one, two) = (store.join("one").await, store.join("two").await);
    store.enqueue_many("a.example", 3).await;
    assert_eq!(store.lease(&one, 3).await.len(), 3);
    for _ in 0..5 {
        store.advance_secs(50);
        assert_eq!(store.beat(&one).await, Heartbeat { held: 3, was_expired: false });
        store.beat(&two).await;
    }
    assert!(store.lease(&two, 3).await.is_empty());
    assert_eq!(store.counts().await.in_progress, 3);
}

pub(super) async fn a_heartbeat_says_how_much_is_held(store: &TestStore) {
    let worker = store.join("w").await;
    store.enqueue_many("a.example", 3).await;
    assert_eq!(store.beat(&worker).await.held, 0);
    let held = store.lease(&worker, 3).await;
    store.ack(&held[0]).await;
    assert_eq!(store.beat(&worker).await.held, 2);
    store.queue().cancel(&[held[1].artifact_id.clone()]).await.unwrap();
    assert_eq!(store.beat(&worker).await.held, 1, "fewer than the process believes");
}

pub(super) async fn joining_again_renews(store: &TestStore) {
    let worker = store.join("w").await;
    store.enqueue_many("a.example", 1).await;
    let job = store.lease_one(&worker).await;
    store.advance_secs(50);
    store.join("w").await;
    store.advance_secs(50);
    assert_eq!(store.beat(&worker).await, Heartbeat { held: 1, was_expired: false });
    store.ack(&job).await;
    assert_eq!(store.queue().workers().await.unwrap().len(), 1);
}

/// INV-FENCE, INV-ATTEMPTS: whoever slept too long has lost its leases, though nobody has asked for them yet.
pub(super) async fn a_heartbeat_after_the_end_starts_afresh(store: &TestStore) {
    let (late, other) = (store.join("late").await, store.join("other").await);
    store.enqueue_many("a.example", 1).await;
    let lost = store.lease_one(&late).await;
    store.advance_secs(30);
    store.beat(&other).await;
    store.advance_secs(30);
    assert_eq!(store.beat(&late).await, Heartbeat { held: 0, was_expired: true });
    assert_eq!(store.beat(&late).await, Heartbeat { held: 0, was_expired: false });
    assert_eq!(store.settle(lost.token, error()).await, Answer::LeaseLost);
    let again = store.lease_one(&other).await;
    assert_eq!((again.losses, again.attempts), (1, 0));
    assert!(again.token > lost.token);
    store.enqueue("b.example", &["new"]).await;
    assert_eq!(names(&store.lease(&late, 5).await), ["new"], "it may work again");
}

/// The same of a process that joins again under its old name.
pub(super) async fn joining_after_the_end_starts_afresh(store: &TestStore) {
    let late = store.join("late").await;
    store.enqueue_many("a.example", 1).await;
    let lost = store.lease_one(&late).await;
    store.advance_secs(60);
    store.join("late").await;
    assert_eq!(store.settle(lost.token, error()).await, Answer::LeaseLost);
    let again = store.lease_one(&late).await;
    assert_eq!(again.losses, 1);
}

/// A beat that came too late to save its leases must not make the job look as if its new holder had lost it.
pub(super) async fn a_late_heartbeat_does_not_touch_what_others_hold_now(store: &TestStore) {
    let (late, other) = (store.join("late").await, store.join("other").await);
    store.enqueue_many("a.example", 1).await;
    store.lease_one(&late).await;
    store.advance_secs(30);
    store.beat(&other).await;
    store.advance_secs(30);
    let job = store.lease_one(&other).await;
    // The sweep has forgotten it; it has to join again.
    assert!(store.handle_of(&late).heartbeat(&late, TTL).await.is_err());
    store.join("late").await;
    assert_eq!(store.beat(&late).await, Heartbeat { held: 0, was_expired: false });
    store.ack(&job).await;
}

pub(super) async fn leaving_releases_everything_and_charges_nothing(store: &TestStore) {
    let (one, two) = (store.join("one").await, store.join("two").await);
    store.enqueue_many("a.example", 2).await;
    let held = store.lease(&one, 2).await;
    store.queue().checkpoint(&held[0].token, "half way").await.unwrap();
    store.leave(&one).await;
    store.leave(&one).await;
    assert_eq!(store.settle(held[0].token, error()).await, Answer::LeaseLost);
    let again = store.lease(&two, 5).await;
    assert_eq!(again.len(), 2);
    assert!(again.iter().all(|job| (job.attempts, job.losses, job.throttles) == (0, 0, 0)));
    let first = again.iter().find(|job| job.artifact_id == held[0].artifact_id).unwrap();
    assert_eq!(first.checkpoint.as_deref(), Some("half way"));
}

pub(super) async fn leaving_as_a_stranger_is_fine(store: &TestStore) {
    store.leave(&WorkerId::from_text("stranger")).await;
}

pub(super) async fn workers_lists_who_has_joined(store: &TestStore) {
    let worker = store.join("w").await;
    store.join("idle").await;
    store.enqueue_many("a.example", 2).await;
    assert_eq!(store.lease(&worker, 2).await.len(), 2);
    let mut rows = store.queue().workers().await.unwrap();
    rows.sort_by(|one, two| one.id.cmp(&two.id));
    assert_eq!(
        rows.iter().map(|row| (row.id.as_str(), row.held)).collect::<Vec<_>>(),
        [("idle", 0), ("w", 2)]
    );
    assert_eq!((rows[1].host.as_str(), rows[1].pid, rows[1].version.as_str()), ("a-machine", 4711, "1.2.3"));
    assert_eq!(rows[1].store.as_ref().map(|store| store.0.as_str()), Some("s"));
    assert_eq!(rows[1].expires_at.0 - rows[1].started_at.0, 60_000);
    assert!(rows.iter().all(|row| row.alive));
    store.advance_secs(60);
    assert!(store.queue().workers().await.unwrap().iter().all(|row| !row.alive));
    store.leave(&worker).await;
    assert_eq!(store.queue().workers().await.unwrap().len(), 1);
    assert_eq!(store.state("a.example/0").await, JobState::Queued);
}

/// What it says of its limits is for others to read, as long as it is there; it may say nothing.
pub(super) async fn workers_shows_the_limits_that_each_has_said(store: &TestStore) {
    let rules = LaneRules::default();
    let limits = Some(StatedLimits::from(&rules));
    let said = WorkerInfo { limits: limits.clone(), ..worker_info("says") };
    store.handle_of(&said.id).join(&said, TTL).await.unwrap();
    store.join("silent").await;
    store.handle_of(&said.id).join(&said, TTL).await.unwrap();
    store.beat(&said.id).await;
    let mut rows = store.queue().workers().await.unwrap();
    rows.sort_by(|one, two| one.id.cmp(&two.id));
    let rows: Vec<_> = rows.into_iter().map(|row| (row.id.to_string(), row.limits)).collect();
    assert_eq!(rows, [("says".to_owned(), limits), ("silent".to_owned(), None)]);
}

pub(super) async fn joining_again_for_a_shorter_time_is_for_that_time(store: &TestStore) {
    let worker = store.join("w").await;
    store.handle_of(&worker).join(&worker_info("w"), Duration::from_secs(10)).await.unwrap();
    store.advance_secs(10);
    assert!(store.beat(&worker).await.was_expired);
}
