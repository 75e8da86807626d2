//! A model check of what tasks share: `shuttle` runs each scenario under thousands of schedules of its own making, switching
//! at every lock and every poll, and sees a task that nobody wakes as a deadlock. Small scenarios are run under every
//! schedule that there is.
//!
//! tokio's own primitives, inside of the bucket, count as one step each. Its time stands still here: the only tokens that come
//! are those that somebody gives back, so one that is lost on the way is missed.

#![allow(clippy::expect_used, reason = "a test fails by panicking")]

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use shuttle::future::{JoinHandle, block_on, spawn, yield_now};
use shuttle::rand::{Rng as _, thread_rng};

use crate::{BucketConfig, Key, KeyedLimiter, TokenBucket};

/// Random schedules of each scenario, and as many that are chosen to find rare orders.
const SCHEDULES: usize = 20_000;
/// How many changes of order the rare ones have.
const DEPTH: usize = 3;

/// Runs a scenario under random and under rare schedules.
fn check(scenario: impl Fn() + Send + Sync + 'static) {
    let scenario = Arc::new(scenario);
    let again = Arc::clone(&scenario);
    shuttle::check_random(move || scenario(), SCHEDULES);
    shuttle::check_pct(move || again(), SCHEDULES, DEPTH);
}

/// Runs a small scenario under every schedule that there is, at least so many.
fn check_all(at_least: usize, scenario: impl Fn() + Send + Sync + 'static) {
    let scheduler = shuttle::scheduler::DfsScheduler::new(None, false);
    let runs = shuttle::Runner::new(scheduler, shuttle::Config::default()).run(scenario);
    assert!(runs >= at_least, "only {runs} schedules");
}

/// So many polls, and then it is ready.
async fn polls(count: usize) {
    for _ in 0..count {
        yield_now().await;
    }
}

fn await_all(tasks: Vec<JoinHandle<()>>) {
    for task in tasks {
        block_on(task).expect("no task is cancelled");
    }
}

/// How much is used at once, which is never more than this.
#[derive(Debug)]
struct Gauge {
    used: AtomicU64,
    most: u64,
}

impl Gauge {
    fn new(most: u64) -> Arc<Self> {
        Arc::new(Self { used: AtomicU64::new(0), most })
    }

    fn take(&self, count: u64) {
        let used = self.used.fetch_add(count, Ordering::SeqCst) + count;
        assert!(used <= self.most, "{used} at once of {}", self.most);
    }

    fn give_back(&self, count: u64) {
        self.used.fetch_sub(count, Ordering::SeqCst);
    }
}

const NARROW: &str = "narrow";
const WIDE: &str = "wide";

fn limiter() -> KeyedLimiter {
    let limiter = KeyedLimiter::new(None);
    limiter.set_limit(NARROW, Some(1));
    limiter.set_limit(WIDE, Some(2));
    limiter
}

fn is_idle(limiter: &KeyedLimiter) -> bool {
    limiter.waiting() == 0 && limiter.active_keys() == 0
}

/// Holds permits of these keys for a moment, `gives_up` polls after it first asked at the latest.
async fn hold(limiter: &KeyedLimiter, keys: &[(Key, Arc<Gauge>)], gives_up: Option<usize>) {
    let names: Vec<Key> = keys.iter().map(|(key, _)| key.clone()).collect();
    let permit = match gives_up {
        Some(count) => limiter.acquire_until(&names, polls(count)).await.ok(),
        None => Some(limiter.acquire(&names).await),
    };
    let Some(permit) = permit else { return };
    for (_, gauge) in keys {
        gauge.take(1);
    }
    yield_now().await;
    for (_, gauge) in keys {
        gauge.give_back(1);
    }
    drop(permit);
}

fn keyed() {
    let limiter = limiter();
    let all = [(Key::from(NARROW), Gauge::new(1)), (Key::from(WIDE), Gauge::new(2))];
    let mut tasks = Vec::new();
    for task in 0..4 {
        let (limiter, all) = (limiter.clone(), all.clone());
        tasks.push(spawn(async move {
            for _ in 0..2 {
                let chosen = match thread_rng().gen_range(0..3) {
                    0 => &all[..1],
                    1 => &all[1..],
                    _ => &all[..],
                };
                // One of them has little patience; the others must have their turn.
                let gives_up = (task == 0).then(|| thread_rng().gen_range(0..3));
                hold(&limiter, chosen, gives_up).await;
            }
        }));
    }
    await_all(tasks);
    assert!(is_idle(&limiter), "{limiter:?}");
}

#[test]
fn keys_are_never_exceeded_and_nobody_is_forgotten() {
    check(keyed);
}

/// A key is closed and opened again while others wait for it.
#[test]
fn who_waits_for_a_closed_key_is_woken_when_it_opens() {
    check(|| {
        let limiter = limiter();
        let narrow = (Key::from(NARROW), Gauge::new(1));
        let mut tasks = Vec::new();
        for _ in 0..3 {
            let (limiter, narrow) = (limiter.clone(), narrow.clone());
            tasks.push(spawn(async move { hold(&limiter, &[narrow], None).await }));
        }
        let operator = limiter.clone();
        tasks.push(spawn(async move {
            operator.set_limit(NARROW, Some(0));
            yield_now().await;
            operator.set_limit(NARROW, Some(1));
        }));
        await_all(tasks);
        assert!(is_idle(&limiter), "{limiter:?}");
    });
}

/// Every schedule that there is of two who want the same permit, one of whom may give up.
#[test]
fn in_no_schedule_at_all_does_a_permit_get_lost() {
    check_all(100, || {
        let limiter = limiter();
        let narrow = (Key::from(NARROW), Gauge::new(1));
        let (other, same) = (limiter.clone(), narrow.clone());
        let task = spawn(async move { hold(&other, &[same], Some(1)).await });
        block_on(hold(&limiter, &[narrow], None));
        await_all(vec![task]);
        assert!(is_idle(&limiter), "{limiter:?}");
    });
}

const CAPACITY: u64 = 3;

/// A bucket that is full and into which nothing falls for an hour.
fn bucket() -> Arc<TokenBucket> {
    let interval = Duration::from_hours(1);
    let config = BucketConfig { capacity: CAPACITY, refill: 1, interval, burst: CAPACITY };
    Arc::new(TokenBucket::new(config).expect("its measures are right"))
}

/// Carries a test out where tokio's time stands still.
fn out_of_time(test: impl FnOnce()) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = runtime.expect("a runtime");
    let _inside = runtime.enter();
    test();
}

/// Either `work` to its end, or nothing of it after so many polls.
async fn or_give_up(work: impl Future<Output = ()>, gives_up: Option<usize>) -> bool {
    let Some(count) = gives_up else {
        work.await;
        return true;
    };
    tokio::select! {
        biased;
        () = work => true,
        () = polls(count) => false,
    }
}

/// Takes tokens and gives them back, `gives_up` polls after it first asked at the latest.
async fn take_for_a_moment(bucket: &TokenBucket, gauge: &Gauge, wanted: u64, gives_up: Option<usize>) {
    if or_give_up(bucket.consume(wanted), gives_up).await {
        gauge.take(wanted);
        yield_now().await;
        gauge.give_back(wanted);
        bucket.refund(wanted);
    }
}

fn tokens() {
    let bucket = bucket();
    let gauge = Gauge::new(CAPACITY);
    let mut tasks = Vec::new();
    for task in 0..4 {
        let (bucket, gauge) = (Arc::clone(&bucket), Arc::clone(&gauge));
        tasks.push(spawn(async move {
            for _ in 0..2 {
                let wanted = thread_rng().gen_range(1..=CAPACITY);
                let gives_up = (task == 0).then(|| thread_rng().gen_range(0..3));
                take_for_a_moment(&bucket, &gauge, wanted, gives_up).await;
            }
        }));
    }
    await_all(tasks);
    assert!(bucket.try_consume(CAPACITY), "a token was lost: {bucket:?}");
    assert!(!bucket.try_consume(1), "a token was minted: {bucket:?}");
}

#[test]
fn tokens_are_neither_minted_nor_lost() {
    out_of_time(|| check(tokens));
}

/// Who asks at the same time as another is not refused for it.
#[test]
fn whoever_does_not_wait_gets_a_token_that_is_there() {
    out_of_time(|| {
        check_all(10, || {
            let bucket = bucket();
            let other = Arc::clone(&bucket);
            let task = spawn(async move { assert!(other.try_consume(1)) });
            assert!(bucket.try_consume(2));
            await_all(vec![task]);
            assert!(!bucket.try_consume(1));
        });
    });
}

/// Every schedule that there is of two who want more than is there together, one of whom may give up.
#[test]
fn in_no_schedule_at_all_does_a_token_get_lost() {
    out_of_time(|| {
        check_all(100, || {
            let bucket = bucket();
            let gauge = Gauge::new(CAPACITY);
            let (other, same) = (Arc::clone(&bucket), Arc::clone(&gauge));
            let task = spawn(async move { take_for_a_moment(&other, &same, 2, Some(1)).await });
            block_on(take_for_a_moment(&bucket, &gauge, 2, None));
            await_all(vec![task]);
            assert!(bucket.try_consume(CAPACITY) && !bucket.try_consume(1), "{bucket:?}");
        });
    });
}
