//! Ending a try: what each verdict records and charges.

use std::time::Duration;

use super::TestStore;
use super::test_store::{defer, done, done_with, error, id, release, retry, skipped, throttled};
use crate::{Answer, JobState, Settlement, StoreId, Verdict};

const HOST: &str = "a.example";

pub(super) async fn done_records_its_outcome_and_its_file(store: &TestStore) {
    let worker = store.join("w").await;
    store.enqueue(HOST, &["a"]).await;
    let job = store.lease_one(&worker).await;
    store.advance_secs(3);
    let mut verdict = done_with("store-1", "10.1/a.pdf");
    if let Verdict::Done { outcome, reason, .. } = &mut verdict {
        "{\"bytes\":7}".clone_into(outcome);
        "not-modified".clone_into(reason);
    }
    assert_eq!(store.settle(job.token, verdict).await, Answer::Recorded(JobState::Done));
    let record = store.record("a").await;
    assert_eq!(record.state, JobState::Done);
    assert_eq!(record.reason.as_deref(), Some("not-modified"));
    assert_eq!(record.outcome.as_deref(), Some("{\"bytes\":7}"));
    assert_eq!(record.store, Some(StoreId("store-1".to_owned())));
    assert_eq!(record.path.as_deref(), Some("10.1/a.pdf"));
    assert_eq!(record.sha256.as_deref(), Some("0".repeat(64).as_str()));
    assert_eq!((record.attempts, record.published, record.slot, record.worker), (0, false, None, None));
    assert_eq!(record.finished_at.unwrap().0 - record.created_at.0, 3_000);
}

pub(super) async fn inv_final_what_has_ended_is_never_leased_again(store: &TestStore) {
    let worker = store.join("w").await;
    store.enqueue(HOST, &["a", "b", "c"]).await;
    let held = store.lease(&worker, 3).await;
    for (job, verdict) in held.iter().zip([done(), skipped(), error()]) {
        store.settle(job.token, verdict).await;
    }
    store.advance_secs(30);
    assert!(store.lease(&worker, 5).await.is_empty());
    store.advance_secs(60);
    let next = store.join("next").await;
    assert!(store.lease(&next, 5).await.is_empty());
    let counts = store.counts().await;
    assert_eq!((counts.done, counts.skipped, counts.error), (1, 1, 1));
}

pub(super) async fn skipped_and_error_record_why(store: &TestStore) {
    let worker = store.join("w").await;
    store.enqueue(HOST, &["a", "b"]).await;
    let held = store.lease(&worker, 2).await;
    assert_eq!(store.settle(held[0].token, skipped()).await, Answer::Recorded(JobState::Skipped));
    assert_eq!(store.settle(held[1].token, error()).await, Answer::Recorded(JobState::Error));
    let (a, b) = (store.record("a").await, store.record("b").await);
    assert_eq!((a.reason.as_deref(), a.last_error.as_deref()), (Some("robots"), Some("not allowed")));
    assert_eq!((b.reason.as_deref(), b.last_error.as_deref()), (Some("gone"), Some("status 404")));
    assert_eq!((a.attempts, b.attempts), (0, 1));
    assert_eq!((a.outcome.as_deref(), b.outcome.as_deref()), (Some("{}"), Some("{}")));
}

pub(super) async fn inv_attempts_only_retry_and_error_charge(store: &TestStore) {
    let worker = store.join("w").await;
    let now = Duration::ZERO;
    for (name, verdict, charged) in [
        ("retry", retry(now), 1),
        ("error", error(), 1),
        ("release", release(), 0),
        ("defer", defer(now, HOST), 0),
        ("throttled", throttled(), 0),
        ("done", done(), 0),
        ("skipped", skipped(), 0),
    ] {
        store.enqueue("", &[name]).await;
        let job = store.lease_one(&worker).await;
        assert_eq!(job.artifact_id, id(name));
        assert!(matches!(store.settle(job.token, verdict).await, Answer::Recorded(_)));
        let record = store.record(name).await;
        assert_eq!((record.attempts, record.losses), (charged, 0), "{name}");
        if !record.state.is_terminal() {
            store.queue().cancel(&[id(name)]).await.unwrap();
        }
    }
}

pub(super) async fn inv_fence_stale_ack_changes_nothing(store: &TestStore) {
    let (one, two) = (store.join("one").await, store.join("two").await);
    store.enqueue(HOST, &["a"]).await;
    let stale = store.lease_one(&one).await;
    store.release(&stale).await;
    let current = store.lease_one(&two).await;
    let before = store.record("a").await;
    for verdict in [done(), skipped(), error(), retry(Duration::ZERO), defer(Duration::ZERO, ""), throttled()]
    {
        assert_eq!(store.settle(stale.token, verdict).await, Answer::LeaseLost);
    }
    assert!(!store.queue().checkpoint(&stale.token, "stale").await.unwrap());
    assert_eq!(store.record("a").await, before);
    assert_eq!(store.counts().await.in_progress, 1);
    store.ack(&current).await;
}

pub(super) async fn inv_fence_a_token_that_never_was_is_lost(store: &TestStore) {
    let worker = store.join("w").await;
    store.enqueue(HOST, &["a"]).await;
    let job = store.lease_one(&worker).await;
    let mut token = job.token;
    token.fence += 1;
    assert_eq!(store.settle(token, done()).await, Answer::LeaseLost);
    token.job.0 += 1_000;
    assert_eq!(store.settle(token, done()).await, Answer::LeaseLost);
    assert!(!store.queue().checkpoint(&token, "x").await.unwrap());
    store.ack(&job).await;
}

pub(super) async fn inv_fence_a_batch_with_a_stale_one_settles_all_others(store: &TestStore) {
    let worker = store.join("w").await;
    store.enqueue(HOST, &["a", "b", "c"]).await;
    let held = store.lease(&worker, 3).await;
    let mut stale = held[1].token;
    stale.fence -= 1;
    let batch = [
        Settlement::new(held[0].token, done()),
        Settlement::new(stale, done()),
        Settlement::new(held[2].token, error()),
    ];
    let settled = store.queue().settle(&batch, None).await.unwrap();
    let expected = [Answer::Recorded(JobState::Done), Answer::LeaseLost, Answer::Recorded(JobState::Error)];
    assert_eq!(settled.answers, expected);
    assert_eq!(store.state("b").await, JobState::InProgress);
}

pub(super) async fn settling_nothing_is_fine(store: &TestStore) {
    let worker = store.join("w").await;
    store.enqueue(HOST, &["a"]).await;
    assert_eq!(store.queue().settle(&[], None).await.unwrap().answers, []);
    let then = store.request(&worker, 1);
    let settled = store.queue().settle(&[], Some(&then)).await.unwrap();
    assert_eq!(settled.batch.unwrap().jobs.len(), 1);
}

pub(super) async fn a_path_belongs_to_one_job_of_its_store(store: &TestStore) {
    let worker = store.join("w").await;
    store.enqueue(HOST, &["a", "b", "c"]).await;
    let held = store.lease(&worker, 3).await;
    store.settle(held[0].token, done_with("store-1", "10.1/A.pdf")).await;
    let before = store.record("b").await;
    assert_eq!(store.settle(held[1].token, done_with("store-1", "10.1/a.PDF")).await, Answer::PathTaken);
    assert_eq!(store.record("b").await, before, "it is still held");
    let answer = store.settle(held[1].token, done_with("store-1", "10.1/a-2.pdf")).await;
    assert_eq!(answer, Answer::Recorded(JobState::Done));
    let answer = store.settle(held[2].token, done_with("store-2", "10.1/A.pdf")).await;
    assert_eq!(answer, Answer::Recorded(JobState::Done), "another store is another folder");
}

pub(super) async fn a_path_is_taken_within_one_batch_too(store: &TestStore) {
    let worker = store.join("w").await;
    store.enqueue(HOST, &["a", "b", "c"]).await;
    let held = store.lease(&worker, 3).await;
    let paths = ["x.pdf", "X.pdf", "y.pdf"];
    let batch: Vec<Settlement> =
        held.iter().zip(paths).map(|(job, path)| Settlement::new(job.token, done_with("s", path))).collect();
    let settled = store.queue().settle(&batch, None).await.unwrap();
    let recorded = Answer::Recorded(JobState::Done);
    assert_eq!(settled.answers, [recorded, Answer::PathTaken, recorded]);
    assert_eq!(store.counts().await.in_progress, 1);
}

pub(super) async fn a_path_is_free_again_once_its_job_is_not_done_any_more(store: &TestStore) {
    let worker = store.join("w").await;
    store.enqueue(HOST, &["a", "b"]).await;
    let held = store.lease(&worker, 2).await;
    store.settle(held[0].token, done_with("s", "x.pdf")).await;
    assert_eq!(store.queue().requeue(&[id("a")]).await.unwrap(), 1);
    assert_eq!(store.settle(held[1].token, done_with("s", "x.pdf")).await, Answer::Recorded(JobState::Done));
    let again = store.lease_one(&worker).await;
    assert_eq!(store.settle(again.token, done_with("s", "x.pdf")).await, Answer::PathTaken);
}

pub(super) async fn inv_bounded_what_went_wrong_is_kept_up_to_2_kib(store: &TestStore) {
    let worker = store.join("w").await;
    for (name, text) in [("odd", format!("x{}", "é".repeat(2_000))), ("even", "é".repeat(2_000))] {
        store.enqueue("", &[name]).await;
        let job = store.lease_one(&worker).await;
        let verdict =
            Verdict::Error { reason: "x".to_owned(), outcome: "{}".to_owned(), detail: text.clone() };
        store.settle(job.token, verdict).await;
        let kept = store.record(name).await.last_error.unwrap();
        assert!(kept.len() <= 2_048 && kept.len() >= 2_040, "{}", kept.len());
        assert!(text.starts_with(&kept), "cut between characters");
    }
}

pub(super) async fn a_first_try_that_succeeds_leaves_no_history(store: &TestStore) {
    let worker = store.join("w").await;
    store.enqueue(HOST, &["a", "b"]).await;
    let held = store.lease(&worker, 2).await;
    store.ack(&held[0]).await;
    store.settle(held[1].token, retry(Duration::ZERO)).await;
    store.ack(&store.lease_one(&worker).await).await;
    assert_eq!(store.get("a").await.1, []);
    let (_, history) = store.get("b").await;
    assert_eq!(history.last().unwrap().event, "retry");
    assert_eq!(history.last().unwrap().reason.as_deref(), Some("timeout"));
    assert_eq!(history.last().unwrap().worker, Some(worker));
}

pub(super) async fn inv_bounded_history_keeps_the_last_32_newest_first(store: &TestStore) {
    let worker = store.join("w").await;
    store.enqueue(HOST, &["a"]).await;
    for number in 0..40 {
        let job = store.lease_one(&worker).await;
        let verdict = Verdict::Retry {
            after: Duration::ZERO,
            reason: format!("reason-{number}"),
            detail: String::new(),
            place: None,
            checkpoint: None,
        };
        store.settle(job.token, verdict).await;
        store.advance(Duration::from_millis(10));
    }
    let (record, history) = store.get("a").await;
    assert_eq!(record.attempts, 40);
    let reasons: Vec<String> = history.iter().filter_map(|line| line.reason.clone()).collect();
    let expected: Vec<String> = (8..40).rev().map(|number| format!("reason-{number}")).collect();
    assert_eq!(reasons, expected);
    assert!(history.is_sorted_by_key(|line| std::cmp::Reverse(line.at)));
}

pub(super) async fn history_says_the_reason_of_what_happened_and_of_nothing_before(store: &TestStore) {
    store.enqueue_many("a.example", 1).await;
    let worker = store.join("w").await;
    let job = store.lease_one(&worker).await;
    store.settle(job.token, retry(Duration::ZERO)).await;
    let job = store.lease_one(&worker).await;
    store.release(&job).await;
    let (record, history) = store.get("a.example/0").await;
    let said: Vec<_> = history.iter().map(|line| (line.event.as_str(), line.reason.as_deref())).collect();
    assert_eq!(said, [("release", None), ("retry", Some("timeout"))]);
    assert_eq!(record.reason.as_deref(), Some("timeout"), "the row keeps it");
}

pub(super) async fn a_checkpoint_is_a_change_of_the_row_and_admitting_in_place_is_none(store: &TestStore) {
    store.enqueue_many("a.example", 1).await;
    let worker = store.join("w").await;
    let job = store.lease_one(&worker).await;
    let leased = store.record("a.example/0").await.updated_at;
    store.advance_secs(1);
    store.admit(job.token, "a.example", crate::Role::Artifact, &super::rules::unlimited()).await;
    assert_eq!(store.record("a.example/0").await.updated_at, leased);
    store.queue().checkpoint(&job.token, "half way").await.unwrap();
    assert_eq!(store.record("a.example/0").await.updated_at.after(leased), Duration::from_secs(1));
}

pub(super) async fn inv_bounded_operators_acts_do_not_make_history_grow(store: &TestStore) {
    store.enqueue_many("a.example", 1).await;
    for _ in 0..20 {
        store.queue().cancel(&[id("a.example/0")]).await.unwrap();
        store.queue().requeue(&[id("a.example/0")]).await.unwrap();
    }
    assert_eq!(store.get("a.example/0").await.1.len(), 32);
}
