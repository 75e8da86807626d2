//! The seam's contract on the configured limits, on paused time.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::atomic::{AtomicU32, Ordering};

use tokio::task::JoinSet;
use tokio::time::{Instant, advance, timeout};

use super::*;
use crate::BucketConfig;

const TICK: Duration = Duration::from_millis(100);

fn bucket(capacity: u64, burst: u64) -> TokenBucket {
    TokenBucket::new(BucketConfig { capacity, refill: 1, interval: TICK, burst }).unwrap()
}

/// One at a time for the resolver `slow`, one request a tick.
fn limits() -> Arc<ConfiguredLimits> {
    let mut limits = ConfiguredLimits::new(Arc::new(LaneRules::default()));
    limits.requests = Some(bucket(2, 1));
    limits.keyed.set_limit(Key::resolver("slow"), Some(1));
    Arc::new(limits)
}

fn slow() -> Vec<Key> {
    vec![Key::resolver("slow"), Key::request()]
}

#[allow(clippy::disallowed_methods, reason = "the paused clock of the test's runtime")]
fn now() -> Instant {
    Instant::now()
}

#[test]
fn a_lane_is_seen_as_the_rules_say() {
    let limits: Arc<dyn Limits> = limits();
    let (host, arxiv) = (Lane::new("example.org").unwrap(), Lane::new("arxiv.org").unwrap());
    let view = limits.lane(&host, Role::Artifact);
    assert_eq!((view.cap, view.pace.to_string().as_str()), (Some(4), "2/s+500/h"));
    assert_eq!(view.scope, Scope::Role(Role::Artifact));
    assert_eq!(limits.lane(&arxiv, Role::Metadata).scope, Scope::Shared);
    assert_eq!(limits.lane(&Lane::NONE, Role::Artifact), LaneView::UNLIMITED);
    assert_eq!(NoLimits.lane(&host, Role::Artifact), LaneView::UNLIMITED);
}

#[tokio::test(start_paused = true)]
async fn a_request_key_takes_a_token_and_the_others_are_held() {
    let limits = limits();
    let permit = limits.acquire(&slow(), None).await.unwrap();
    assert_eq!(limits.keyed.held(&Key::resolver("slow")), 1);
    assert_eq!(limits.keyed.held(&Key::request()), 0, "a start is counted, not held");
    let start = now();
    // The next request of the same work: a token, and no second permit of its resolver.
    drop(limits.acquire(&[Key::request()], None).await.unwrap());
    assert_eq!(now() - start, TICK);
    drop(permit);
    drop(limits.acquire(&[Key::resolver("slow")], Some(Duration::ZERO)).await.unwrap());
    assert_eq!(limits.keyed.active_keys(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_deadline_holds_neither_key_nor_token() {
    let limits = limits();
    let permit = limits.acquire(&[Key::resolver("slow")], None).await.unwrap();
    // The token is there, the key is not.
    for deadline in [Duration::ZERO, TICK / 2] {
        let error = limits.acquire(&slow(), Some(deadline)).await.unwrap_err();
        assert_eq!(error.kind(), LimitErrorKind::DeadlinePassed);
        assert!(error.to_string().contains("resolver:slow"), "{error}");
        assert_eq!(limits.keyed.waiting(), 0);
    }
    drop(permit);
    // The key is there, the token is not.
    assert!(limits.requests.as_ref().unwrap().try_consume(1), "the token was given back");
    assert!(limits.acquire(&slow(), Some(TICK / 4)).await.is_err());
    assert_eq!(limits.keyed.active_keys(), 0);
}

#[tokio::test(start_paused = true)]
async fn inv_no_hold_and_wait_a_request_that_waits_for_its_pace_holds_no_key() {
    let limits = limits();
    assert!(limits.requests.as_ref().unwrap().try_consume(1));
    let keys = slow();
    let mut waits = Box::pin(limits.acquire(&keys, None));
    assert!(timeout(TICK / 2, &mut waits).await.is_err());
    assert!(limits.keyed.try_acquire(&[Key::resolver("slow")]).is_some());
    assert!(waits.await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_request_that_waits_for_a_key_keeps_no_token_from_others() {
    let limits = limits();
    let permit = limits.acquire(&[Key::resolver("slow")], None).await.unwrap();
    let keys = slow();
    let mut waits = Box::pin(limits.acquire(&keys, None));
    assert!(timeout(TICK / 2, &mut waits).await.is_err());
    assert!(limits.acquire(&[Key::resolver("other"), Key::request()], Some(Duration::ZERO)).await.is_ok());
    drop(permit);
    let start = now();
    assert!(waits.await.is_ok());
    assert_eq!(now() - start, TICK / 2, "it starts with the next tick's token");
}

#[tokio::test(start_paused = true)]
async fn a_token_that_went_to_another_meanwhile_is_waited_for_again() {
    let limits = limits();
    assert!(limits.requests.as_ref().unwrap().try_consume(1));
    let keys = slow();
    let mut waits = Box::pin(limits.acquire(&keys, None));
    assert!(timeout(TICK / 2, &mut waits).await.is_err());
    // The token comes while the key is held by another, and goes to a third one.
    let permit = limits.keyed.try_acquire(&[Key::resolver("slow")]).unwrap();
    assert!(timeout(TICK, &mut waits).await.is_err());
    assert!(limits.acquire(&[Key::request()], Some(Duration::ZERO)).await.is_ok());
    drop(permit);
    let start = now();
    assert!(waits.await.is_ok());
    assert_eq!(now() - start, TICK / 2);
}

#[tokio::test(start_paused = true)]
async fn starts_keep_the_rate_when_keys_and_tokens_are_both_scarce() {
    let limits = limits();
    limits.keyed.set_limit(Key::pool(), Some(3));
    let (inside, mut tasks) = (Arc::new(AtomicU32::new(0)), JoinSet::new());
    for task in 0..30_u32 {
        let (limits, inside) = (Arc::clone(&limits), Arc::clone(&inside));
        tasks.spawn(async move {
            let mut keys = vec![Key::pool(), Key::request()];
            keys.extend((task % 3 == 0).then(|| Key::resolver("slow")));
            let permit = limits.acquire(&keys, None).await.unwrap();
            let start = now();
            assert!(inside.fetch_add(1, Ordering::SeqCst) < 3);
            // tidy:allow-sleep: tokio's time is paused in this test, so this only moves it
            tokio::time::sleep(TICK * (1 + task % 5)).await;
            inside.fetch_sub(1, Ordering::SeqCst);
            drop(permit);
            start
        });
    }
    let mut starts = Vec::new();
    while let Some(ended) = tasks.join_next().await {
        starts.push(ended.unwrap());
    }
    starts.sort_unstable();
    for (index, from) in starts.iter().enumerate() {
        for (last, to) in starts.iter().enumerate().skip(index) {
            let allowed = 2 + (*to - *from).as_nanos() / TICK.as_nanos() + 1;
            assert!(
                (last - index + 1) as u128 <= allowed,
                "{} starts in {:?}",
                last - index + 1,
                *to - *from
            );
        }
    }
    assert_eq!((starts.len(), limits.keyed.active_keys()), (30, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn threads_for_whom_keys_and_tokens_are_both_scarce_all_start() {
    let mut limits = ConfiguredLimits::new(Arc::new(LaneRules::unlimited()));
    let config = BucketConfig { capacity: 2, refill: 2, interval: Duration::from_millis(1), burst: 0 };
    limits.requests = Some(TokenBucket::new(config).unwrap());
    limits.keyed = KeyedLimiter::new(Some(1));
    let (limits, mut tasks) = (Arc::new(limits), JoinSet::new());
    for task in 0..8_u32 {
        let limits = Arc::clone(&limits);
        tasks.spawn(async move {
            for turn in 0..25 {
                let keys = [Key::from(format!("key-{}", (task + turn) % 3)), Key::request()];
                let permit = limits.acquire(&keys, None).await.unwrap();
                tokio::task::yield_now().await;
                drop(permit);
            }
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
    assert_eq!(limits.keyed.active_keys(), 0);
}

#[tokio::test(start_paused = true)]
async fn bandwidth_waits_for_the_bytes_that_came() {
    let mut limits = ConfiguredLimits::new(Arc::new(LaneRules::unlimited()));
    let start = now();
    limits.bandwidth(u32::MAX).await;
    assert_eq!(now(), start, "unlimited unless configured");
    limits.bytes = Some(bucket(4, 4));
    limits.bandwidth(10).await;
    assert_eq!(now() - start, TICK * 6);
    advance(TICK * 4).await;
    NoLimits.bandwidth(u32::MAX).await;
    assert_eq!(now() - start, TICK * 10);
}

#[tokio::test(start_paused = true)]
async fn no_limits_grants_everything_at_once() {
    let limits: Arc<dyn Limits> = Arc::new(NoLimits);
    let permits: Vec<LimitPermit> = vec![
        limits.acquire(&slow(), Some(Duration::ZERO)).await.unwrap(),
        limits.acquire(&slow(), None).await.unwrap(),
    ];
    assert_eq!(permits.len(), 2);
}

#[test]
fn a_permit_of_another_implementation_drops_what_it_holds() {
    let held = Arc::new(());
    let permit = LimitPermit::holding(Arc::clone(&held));
    assert_eq!(Arc::strong_count(&held), 2);
    drop(permit);
    assert_eq!(Arc::strong_count(&held), 1);
}
