//! The bucket on paused time: every wait is exact, and none is real.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::future::Future;
use std::sync::Arc;

use proptest::prelude::*;
use tokio::task::{JoinSet, yield_now};
use tokio::time::{Instant, advance, timeout};

use super::*;
use crate::LimitErrorKind;

const TICK: Duration = Duration::from_millis(100);

fn config(capacity: u64, refill: u64, burst: u64) -> BucketConfig {
    BucketConfig { capacity, refill, interval: TICK, burst }
}

fn bucket(capacity: u64, refill: u64, burst: u64) -> TokenBucket {
    TokenBucket::new(config(capacity, refill, burst)).unwrap()
}

#[allow(clippy::disallowed_methods, reason = "the paused clock of the test's runtime")]
fn now() -> Instant {
    Instant::now()
}

async fn elapsed(work: impl Future) -> Duration {
    let start = now();
    work.await;
    now() - start
}

fn run<R>(test: impl Future<Output = R>) -> R {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap()
        .block_on(test)
}

#[tokio::test(start_paused = true)]
async fn the_burst_is_there_at_first_and_the_rest_comes_with_the_ticks() {
    let bucket = bucket(5, 2, 3);
    assert_eq!(elapsed(bucket.consume(3)).await, Duration::ZERO);
    assert_eq!(elapsed(bucket.consume(2)).await, TICK);
    assert_eq!(elapsed(bucket.consume(4)).await, TICK * 2);
    assert_eq!(elapsed(bucket.consume(0)).await, Duration::ZERO);
    advance(TICK * 100).await;
    assert!(bucket.try_consume(5) && !bucket.try_consume(1), "idle, it fills to its capacity");
}

#[tokio::test(start_paused = true)]
async fn more_than_the_capacity_is_taken_in_parts_and_in_order_of_arrival() {
    let bucket = bucket(4, 1, 4);
    assert!(!bucket.try_consume(5));
    let large = async {
        let taken = elapsed(bucket.consume(12)).await;
        (taken, "large")
    };
    let small = async {
        let taken = elapsed(bucket.consume(1)).await;
        (taken, "small")
    };
    // 13 tokens in all, 4 of them at once; the ninth refill is for the one who came last.
    let ((large, _), (small, _)) = tokio::join!(large, small);
    assert_eq!((large, small), (TICK * 8, TICK * 9));
}

#[tokio::test(start_paused = true)]
async fn who_came_first_is_served_first() {
    let bucket = Arc::new(bucket(10, 1, 0));
    let (served, mut order) = tokio::sync::mpsc::unbounded_channel();
    let mut tasks = JoinSet::new();
    for number in 0..20_u64 {
        let (bucket, served) = (Arc::clone(&bucket), served.clone());
        tasks.spawn(async move {
            bucket.consume(1 + number % 3).await;
            served.send(number).unwrap();
        });
        // It runs until it waits, so the tasks come in this order.
        yield_now().await;
    }
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
    drop(served);
    for number in 0..20 {
        assert_eq!(order.recv().await, Some(number));
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_is_overtaken_by_trying() {
    let bucket = bucket(10, 1, 1);
    let mut first = Box::pin(bucket.consume(3));
    assert!(timeout(TICK, &mut first).await.is_err());
    assert!(!bucket.try_consume(1), "the tokens that come are the first one's");
    bucket.refund(1);
    assert!(!bucket.try_consume(1), "so are those that come back");
    first.await;
    advance(TICK).await;
    assert!(bucket.try_consume(1));
}

#[tokio::test(start_paused = true)]
async fn a_dropped_consume_gives_back_what_it_had_at_any_point() {
    for waited in 0..=6_u32 {
        let bucket = bucket(4, 1, 2);
        // Six tokens in parts of four: two at first, two more for the first part, two of the second.
        let mut consume = Box::pin(bucket.consume(6));
        let ended = timeout(TICK * waited + TICK / 2, &mut consume).await.is_ok();
        drop(consume);
        assert_eq!(ended, waited >= 4, "after {waited} ticks");
        let left = if ended { 0 } else { u64::from(2 + waited).min(4) };
        assert!(bucket.try_consume(left), "{left} are back after {waited} ticks");
        assert!(!bucket.try_consume(1), "and no more after {waited} ticks");
    }
}

#[tokio::test(start_paused = true)]
async fn a_dropped_place_in_the_line_holds_up_nobody() {
    let bucket = bucket(4, 1, 0);
    let mut first = Box::pin(bucket.consume(4));
    let mut second = Box::pin(bucket.consume(4));
    let mut third = Box::pin(bucket.consume(2));
    for waiting in [&mut first, &mut second] {
        assert!(timeout(Duration::ZERO, waiting).await.is_err());
    }
    assert!(timeout(Duration::ZERO, &mut third).await.is_err());
    drop(second);
    drop(first);
    assert_eq!(elapsed(third).await, TICK * 2);
}

#[tokio::test(start_paused = true)]
async fn refunded_tokens_go_to_who_waits_at_once() {
    let bucket = bucket(10, 1, 10);
    bucket.consume(10).await;
    let waits = elapsed(bucket.consume(5));
    let refunds = async {
        // tidy:allow-sleep: tokio's time is paused in this test, so this only moves it
        tokio::time::sleep(TICK * 2).await;
        bucket.refund(4);
    };
    // Two came with the ticks, four are refunded: five are there at the second tick, one is left.
    let (waited, ()) = tokio::join!(waits, refunds);
    assert_eq!(waited, TICK * 2);
    assert!(bucket.try_consume(1) && !bucket.try_consume(1));
}

#[tokio::test(start_paused = true)]
async fn a_refund_during_a_large_consume_neither_loses_nor_mints_tokens() {
    for refunded in [1, 2, 100] {
        let bucket = bucket(4, 1, 4);
        let waits = elapsed(bucket.consume(12));
        let refunds = async {
            // tidy:allow-sleep: tokio's time is paused in this test, so this only moves it
            tokio::time::sleep(TICK * 15 / 2).await;
            bucket.refund(refunded);
        };
        // Eleven had come by then. Of a refund, no more is there than the bucket holds, and one is what was missing.
        let (waited, ()) = tokio::join!(waits, refunds);
        assert_eq!(waited, TICK * 15 / 2, "refunded {refunded}");
        let left = (refunded - 1).min(3);
        assert!(left == 0 || bucket.try_consume(left));
        assert!(!bucket.try_consume(1), "refunded {refunded}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_large_consume_gets_no_more_of_a_refund_than_the_bucket_holds() {
    let bucket = bucket(4, 1, 4);
    let waits = elapsed(bucket.consume(16));
    let refunds = async {
        // tidy:allow-sleep: tokio's time is paused in this test, so this only moves it
        tokio::time::sleep(TICK / 2).await;
        bucket.refund(100);
    };
    let (waited, ()) = tokio::join!(waits, refunds);
    assert_eq!(waited, TICK * 8);
}

#[tokio::test(start_paused = true)]
async fn a_refund_never_fills_beyond_the_capacity() {
    let bucket = bucket(10, 10, 10);
    bucket.refund(5);
    assert!(bucket.try_consume(10) && !bucket.try_consume(1), "a full bucket has no room");
    bucket.refund(u64::MAX);
    advance(TICK * 3).await;
    assert!(bucket.try_consume(10) && !bucket.try_consume(1), "refunds and refills overflow together");
}

#[test]
fn measures_that_cannot_be_kept_are_refused() {
    let wrong = [
        config(0, 1, 0),
        config(1, 0, 0),
        config(u64::MAX, 1, 0),
        config(4, 5, 0),
        BucketConfig { interval: Duration::from_micros(999), ..config(1, 1, 1) },
        BucketConfig { interval: Duration::MAX, ..config(1, 1, 1) },
        BucketConfig::per_second(0, 10),
    ];
    for config in wrong {
        let error = TokenBucket::new(config).unwrap_err();
        assert_eq!(error.kind(), LimitErrorKind::Invalid, "{config:?}");
        assert!(!error.is_retryable() && error.to_string().contains("give "), "{error}");
    }
}

#[test]
fn a_rate_per_second_ticks_smoothly() {
    let shape = |rate| {
        let config = BucketConfig::per_second(rate, 1);
        (config.refill, config.interval.as_millis())
    };
    assert_eq!(shape(1), (1, 1000));
    assert_eq!(shape(3), (1, 334));
    assert_eq!(shape(10), (1, 100));
    assert_eq!(shape(39), (3, 77));
    assert_eq!(shape(1_000_000), (50_000, 50));
}

/// What a bucket holds, tick by tick.
struct Model {
    capacity: u64,
    refill: u64,
    tokens: u64,
    since_tick: u64,
}

impl Model {
    fn advance(&mut self, ms: u64) {
        self.since_tick += ms;
        let ticks = self.since_tick / 100;
        self.since_tick %= 100;
        self.tokens = (self.tokens + ticks * self.refill).min(self.capacity);
    }

    fn try_consume(&mut self, tokens: u64) -> bool {
        let enough = tokens <= self.tokens;
        self.tokens -= if enough { tokens } else { 0 };
        enough
    }

    /// A consume that gives up after a time: whether it was served, and after how long. What it has been given does
    /// not count against the capacity until it gives it back.
    fn consume(&mut self, tokens: u64, give_up_after_ms: u64) -> (bool, Duration) {
        let mut has = tokens.min(self.tokens);
        self.tokens -= has;
        let mut waited = 0;
        while has < tokens && waited < give_up_after_ms {
            waited += 1;
            self.since_tick += 1;
            if self.since_tick == 100 {
                self.since_tick = 0;
                let given = (tokens - has).min(self.refill);
                has += given;
                self.tokens = (self.tokens + self.refill - given).min(self.capacity);
            }
        }
        if has < tokens {
            self.tokens = (self.tokens + has).min(self.capacity);
        }
        (has == tokens, Duration::from_millis(waited))
    }
}

#[derive(Debug, Clone)]
enum Step {
    Try(u64),
    Refund(u64),
    Advance(u64),
    /// Consumes, and gives up after a time.
    Consume(u64, u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..12_u64).prop_map(Step::Try),
        (0..12_u64).prop_map(Step::Refund),
        (0..350_u64).prop_map(Step::Advance),
        (0..8_u64, 0..350_u64).prop_map(|(tokens, ms)| Step::Consume(tokens, ms)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn tries_refunds_and_cancelled_waits_go_as_the_plain_model_says(
        (capacity, refill) in (8..12_u64, 1..9_u64),
        burst in 0..15_u64,
        steps in prop::collection::vec(step(), 1..60),
    ) {
        run(async {
            let bucket = bucket(capacity, refill, burst);
            let mut model = Model { capacity, refill, tokens: burst.min(capacity), since_tick: 0 };
            for step in steps {
                match step {
                    Step::Try(tokens) => {
                        prop_assert_eq!(bucket.try_consume(tokens), model.try_consume(tokens));
                    }
                    Step::Refund(tokens) => {
                        bucket.refund(tokens);
                        model.tokens = (model.tokens + tokens).min(capacity);
                    }
                    Step::Advance(ms) => {
                        advance(Duration::from_millis(ms)).await;
                        model.advance(ms);
                    }
                    Step::Consume(tokens, ms) => {
                        let start = now();
                        let done = timeout(Duration::from_millis(ms), bucket.consume(tokens)).await.is_ok();
                        prop_assert_eq!((done, now() - start), model.consume(tokens, ms));
                    }
                }
            }
            Ok(())
        })?;
    }

    #[test]
    fn no_window_holds_more_than_capacity_and_refills(
        (capacity, refill) in (1..8_u64, 1..4_u64).prop_map(|(capacity, refill)| (capacity, refill.min(capacity))),
        pauses in prop::collection::vec(prop::collection::vec(0..400_u64, 1..12), 1..6),
    ) {
        let mut starts = run(async {
            let (bucket, mut tasks) = (Arc::new(bucket(capacity, refill, capacity)), JoinSet::new());
            let start = now();
            for pauses in pauses {
                let bucket = Arc::clone(&bucket);
                tasks.spawn(async move {
                    let mut starts = Vec::new();
                    for (turn, pause) in pauses.into_iter().enumerate() {
                        // tidy:allow-sleep: tokio's time is paused in this test, so this only moves it
                        tokio::time::sleep(Duration::from_millis(pause)).await;
                        // Some are cancelled on the way, which must mint nothing.
                        let _ = timeout(Duration::from_millis(pause / 4), bucket.consume(1 + pause % 5)).await;
                        bucket.consume(1).await;
                        if turn % 4 == 3 {
                            // Not started after all.
                            bucket.refund(1);
                        } else {
                            starts.push(now() - start);
                        }
                    }
                    starts
                });
            }
            let mut starts = Vec::new();
            while let Some(ended) = tasks.join_next().await {
                starts.extend(ended.unwrap());
            }
            starts
        });
        starts.sort_unstable();
        for (first, from) in starts.iter().enumerate() {
            for (last, to) in starts.iter().enumerate().skip(first) {
                let ticks = to.saturating_sub(*from).as_nanos() / TICK.as_nanos() + 1;
                let allowed = u128::from(capacity) + u128::from(refill) * ticks;
                prop_assert!((last - first + 1) as u128 <= allowed, "{:?} to {:?}: {}", from, to, last - first + 1);
            }
        }
    }

    #[test]
    fn a_rate_per_second_is_never_exceeded_and_nearly_kept(rate in 1..10_000_000_u64) {
        let config = BucketConfig::per_second(rate, 1);
        let per_second = config.refill as f64 / config.interval.as_secs_f64();
        prop_assert!(per_second <= rate as f64 && per_second >= rate as f64 * 0.9, "{} as {}", rate, per_second);
        prop_assert!(TokenBucket::new(config).is_ok());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn threads_that_refund_and_cancel_mint_nothing() {
    // Refilled so rarely that all the tokens of this test are those of the burst.
    let day = Duration::from_hours(24);
    let config = BucketConfig { capacity: 1000, refill: 1, interval: day, burst: 1000 };
    let (bucket, mut tasks) = (Arc::new(TokenBucket::new(config).unwrap()), JoinSet::new());
    for task in 0..8_u64 {
        let bucket = Arc::clone(&bucket);
        tasks.spawn(async move {
            let mut kept = 0;
            for turn in 0..500 {
                let tokens = 1 + (task + turn) % 7;
                let got = tokio::select! {
                    biased;
                    () = bucket.consume(tokens) => true,
                    () = yield_now() => false,
                };
                match (got, turn % 8) {
                    (true, 0) => kept += tokens,
                    (true, _) => bucket.refund(tokens),
                    (false, _) => {}
                }
            }
            kept
        });
    }
    let mut kept = 0;
    while let Some(ended) = tasks.join_next().await {
        kept += ended.unwrap();
    }
    assert!(kept <= 1000, "{kept} of 1000 kept");
    assert!(
        bucket.try_consume(1000 - kept) && !bucket.try_consume(1),
        "{kept} kept, and the rest is not there"
    );
}

/// Those who do not wait are not in each other's way.
#[test]
fn whoever_asks_at_the_same_time_as_others_gets_a_token_that_is_there() {
    let bucket = TokenBucket::new(BucketConfig {
        capacity: 8_000,
        refill: 1,
        interval: Duration::from_hours(1),
        burst: 8_000,
    })
    .unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..2_000).for_each(|_| assert!(bucket.try_consume(1))));
        }
    });
    assert!(!bucket.try_consume(1));
}
