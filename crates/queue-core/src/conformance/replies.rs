//! A reply that was lost is had by asking again (INV-FENCE, INV-DURABLE-REPLY).

use std::time::Duration;

use super::TestStore;
use super::rules::capped;
use super::test_store::{defer, done, done_with, error, failed, release, retry, skipped, throttled, tokens};
use crate::{Answer, JobState, Settlement};

const HOST: &str = "a.example";

pub(super) async fn inv_fence_repeating_a_settlement_is_answered_the_same(store: &TestStore) {
    let worker = store.join("w").await;
    let now = Duration::ZERO;
    let verdicts = [
        done_with("s", "x.pdf"),
        skipped(),
        error(),
        retry(now),
        defer(now, "b.example"),
        throttled(),
        release(),
    ];
    for (number, verdict) in verdicts.into_iter().enumerate() {
        let name = format!("job-{number}");
        store.enqueue(HOST, &[&name]).await;
        let job = store.lease_one(&worker).await;
        let answer = store.settle(job.token, verdict.clone()).await;
        assert!(matches!(answer, Answer::Recorded(_)), "{answer:?}");
        store.advance_secs(1);
        let before = store.record(&name).await;
        for _ in 0..2 {
            assert_eq!(store.settle(job.token, verdict.clone()).await, answer);
        }
        assert_eq!(store.record(&name).await, before, "a repetition changes nothing");
        if before.state == JobState::Queued {
            let again = store.lease_one(&worker).await;
            assert_eq!(store.settle(job.token, verdict).await, Answer::LeaseLost, "it was leased again");
            store.ack(&again).await;
        }
    }
}

pub(super) async fn inv_fence_a_different_settlement_with_a_settled_token_is_lost(store: &TestStore) {
    let worker = store.join("w").await;
    store.enqueue(HOST, &["a", "b"]).await;
    let held = store.lease(&worker, 2).await;
    store.ack(&held[0]).await;
    store.settle(held[1].token, retry(Duration::from_secs(5))).await;
    assert_eq!(store.settle(held[0].token, skipped()).await, Answer::LeaseLost);
    assert_eq!(store.settle(held[0].token, done_with("s", "x.pdf")).await, Answer::LeaseLost);
    assert_eq!(store.settle(held[1].token, retry(Duration::from_secs(6))).await, Answer::LeaseLost);
    assert_eq!(store.settle(held[1].token, done()).await, Answer::LeaseLost);
    assert_eq!((store.state("a").await, store.state("b").await), (JobState::Done, JobState::Queued));
    let reported = store.settle_with(held[0].token, done(), vec![failed(HOST)]).await;
    assert_eq!(reported, Answer::LeaseLost, "what it learned about hosts is part of a settlement");
}

pub(super) async fn inv_fence_the_same_token_twice_in_one_batch_settles_once(store: &TestStore) {
    let worker = store.join("w").await;
    store.enqueue(HOST, &["a"]).await;
    let job = store.lease_one(&worker).await;
    let batch = [
        Settlement::new(job.token, retry(Duration::ZERO)),
        Settlement::new(job.token, retry(Duration::ZERO)),
        Settlement::new(job.token, done()),
    ];
    let settled = store.queue().settle(&batch, None).await.unwrap();
    let recorded = Answer::Recorded(JobState::Queued);
    assert_eq!(settled.answers, [recorded, recorded, Answer::LeaseLost]);
    assert_eq!(store.record("a").await.attempts, 1);
}

pub(super) async fn a_lost_reply_to_settling_and_leasing_strands_nothing(store: &TestStore) {
    let worker = store.join("w").await;
    store.enqueue_many(HOST, 5).await;
    let held = store.lease_by(&worker, 2, &capped(2)).await;
    let batch: Vec<Settlement> = held.iter().map(|job| Settlement::new(job.token, done())).collect();
    let then = store.request_by(&worker, 2, &capped(2));
    let first = store.queue().settle(&batch, Some(&then)).await.unwrap();
    store.advance(Duration::from_millis(300));
    let again = store.queue().settle(&batch, Some(&then)).await.unwrap();
    assert_eq!(again.answers, first.answers);
    assert_eq!(tokens(&again.batch.unwrap().jobs), tokens(&first.batch.unwrap().jobs));
    let counts = store.counts().await;
    assert_eq!((counts.done, counts.in_progress, counts.queued), (2, 2, 1));
}

/// Otherwise a shaky connection to the store would look like a failing host.
pub(super) async fn a_repeated_settlement_reports_its_hosts_once(store: &TestStore) {
    let worker = store.join("w").await;
    store.enqueue(HOST, &["a"]).await;
    let job = store.lease_one(&worker).await;
    for _ in 0..3 {
        let reports = vec![failed(HOST), failed(HOST)];
        let answer = store.settle_with(job.token, retry(Duration::ZERO), reports).await;
        assert_eq!(answer, Answer::Recorded(JobState::Queued));
    }
    assert_eq!(store.queue().stats().await.unwrap().lanes_cooling, 0);
}

/// A settlement that was refused has reported nothing either: its lease is another's now.
pub(super) async fn inv_fence_a_lost_settlement_reports_no_hosts(store: &TestStore) {
    let worker = store.join("w").await;
    store.enqueue(HOST, &["a"]).await;
    let job = store.lease_one(&worker).await;
    store.release(&job).await;
    let reports = (0..5).map(|_| failed(HOST)).collect();
    assert_eq!(store.settle_with(job.token, error(), reports).await, Answer::LeaseLost);
    assert_eq!(store.queue().stats().await.unwrap().lanes_cooling, 0);
}
