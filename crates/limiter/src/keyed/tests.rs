//! What the keyed limiter promises, one sentence a test.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Wake, Waker};

use super::*;
use crate::{Clock, LimitErrorKind, ManualClock};

/// Counts how often it was woken.
#[derive(Debug, Default)]
pub(super) struct Bell(AtomicUsize);

impl Bell {
    pub(super) fn rung(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

pub(super) fn keys(names: &[&str]) -> Vec<Key> {
    names.iter().map(|name| Key::from(*name)).collect()
}

pub(super) fn poll_with(acquire: &mut Acquire, bell: &Arc<Bell>) -> Option<Permit> {
    let waker = Waker::from(Arc::clone(bell));
    match Pin::new(acquire).poll(&mut Context::from_waker(&waker)) {
        Poll::Ready(permit) => Some(permit),
        Poll::Pending => None,
    }
}

fn poll(acquire: &mut Acquire) -> Option<Permit> {
    poll_with(acquire, &Arc::default())
}

/// A future that has taken its place and waits.
fn queued(limiter: &KeyedLimiter, names: &[&str]) -> Acquire {
    let mut acquire = limiter.acquire(&keys(names));
    assert!(poll(&mut acquire).is_none(), "{names:?} was to wait");
    acquire
}

fn held(limiter: &KeyedLimiter, names: &[&str]) -> Permit {
    limiter.try_acquire(&keys(names)).unwrap()
}

fn is_free(limiter: &KeyedLimiter, names: &[&str]) -> bool {
    limiter.try_acquire(&keys(names)).is_some()
}

fn assert_no_trace(limiter: &KeyedLimiter) {
    assert_eq!((limiter.waiting(), limiter.active_keys()), (0, 0), "{limiter:?}");
}

/// Lets others overtake a waiter for `wide` and another key until its patience ends.
fn overtake(limiter: &KeyedLimiter) {
    for turn in 0..16 {
        assert!(is_free(limiter, &["wide"]), "refused at overtaking {turn}");
    }
}

#[test]
fn inv_no_hold_and_wait_several_keys_are_taken_all_or_nothing() {
    let limiter = KeyedLimiter::new(Some(1));
    let a = held(&limiter, &["a"]);
    let mut both = queued(&limiter, &["a", "b"]);
    assert_eq!(limiter.held(&"b".into()), 0);
    let b = held(&limiter, &["b"]);
    drop(a);
    assert!(poll(&mut both).is_none());
    assert_eq!(limiter.held(&"a".into()), 0);
    drop(b);
    let permit = poll(&mut both).unwrap();
    assert_eq!(permit.keys(), keys(&["a", "b"]));
    assert!(!is_free(&limiter, &["a"]) && !is_free(&limiter, &["b"]));
    drop(permit);
    drop(both);
    assert_no_trace(&limiter);
}

#[test]
fn a_key_named_twice_counts_once_and_no_key_is_granted() {
    let limiter = KeyedLimiter::new(Some(1));
    let permit = held(&limiter, &["a", "b", "a"]);
    assert_eq!((limiter.held(&"a".into()), permit.keys().len()), (1, 2));
    assert!(is_free(&limiter, &[]));
    drop(permit);
    assert_no_trace(&limiter);
}

#[test]
fn caps_are_per_key_and_none_is_no_cap() {
    let limiter = KeyedLimiter::new(None);
    limiter.set_limit("b", Some(2));
    let many: Vec<Permit> = (0..1000).map(|_| held(&limiter, &["a"])).collect();
    let two = [held(&limiter, &["a", "b"]), held(&limiter, &["b"])];
    assert!(!is_free(&limiter, &["a", "b"]));
    assert_eq!((limiter.held(&"a".into()), limiter.held(&"b".into())), (1001, 2));
    assert_eq!((limiter.limit(&"a".into()), limiter.limit(&"b".into())), (None, Some(2)));
    drop((many, two));
    assert_no_trace(&limiter);
}

#[test]
fn who_came_first_goes_first_and_nobody_waits_for_a_key_it_does_not_need() {
    let limiter = KeyedLimiter::new(Some(1));
    let (a, b) = (held(&limiter, &["a"]), held(&limiter, &["b"]));
    let mut first = queued(&limiter, &["a", "b"]);
    let mut second = queued(&limiter, &["a"]);
    let mut third = queued(&limiter, &["a"]);
    drop(a);
    assert!(poll(&mut first).is_none() && poll(&mut third).is_none());
    let second = poll(&mut second).unwrap();
    drop(b);
    drop(second);
    let first = poll(&mut first).unwrap();
    assert!(poll(&mut third).is_none());
    drop(first);
    assert!(poll(&mut third).is_some());
}

#[test]
fn a_future_dropped_at_any_point_leaves_no_trace() {
    let limiter = KeyedLimiter::new(Some(1));
    drop(limiter.acquire(&keys(&["a"])));
    assert_no_trace(&limiter);

    let a = held(&limiter, &["a"]);
    drop(queued(&limiter, &["a", "b"]));
    assert_eq!((limiter.waiting(), limiter.active_keys()), (0, 1));

    // Granted, and dropped before it was polled again: the next one gets the permit.
    let granted = queued(&limiter, &["a", "b"]);
    let bell = Arc::default();
    let mut next = limiter.acquire(&keys(&["b", "a"]));
    assert!(poll_with(&mut next, &bell).is_none());
    drop(a);
    assert_eq!((limiter.held(&"a".into()), limiter.waiting(), bell.rung()), (1, 1, 0));
    drop(granted);
    assert_eq!(bell.rung(), 1);

    // Granted and picked up: the future's drop gives nothing back that the permit holds.
    let permit = poll(&mut next).unwrap();
    assert!(poll(&mut next).is_none(), "one future mints one permit");
    drop(next);
    assert!(!is_free(&limiter, &["a"]));
    drop(permit);
    assert_no_trace(&limiter);
}

#[test]
fn a_future_that_was_granted_at_once_mints_one_permit() {
    let limiter = KeyedLimiter::new(Some(2));
    let mut acquire = limiter.acquire(&keys(&["a"]));
    let _permit = poll(&mut acquire).unwrap();
    assert!(poll(&mut acquire).is_none());
    assert_eq!((limiter.held(&"a".into()), limiter.waiting()), (1, 0));
}

#[test]
fn the_waker_of_the_last_poll_is_woken_once() {
    let limiter = KeyedLimiter::new(Some(1));
    let permit = held(&limiter, &["a"]);
    let (first, last) = (Arc::default(), Arc::default());
    let mut acquire = limiter.acquire(&keys(&["a"]));
    assert!(poll_with(&mut acquire, &first).is_none() && poll_with(&mut acquire, &last).is_none());
    drop(permit);
    assert_eq!((first.rung(), last.rung()), (0, 1));
}

#[test]
fn raising_a_limit_starts_waiters_at_once() {
    let limiter = KeyedLimiter::new(Some(0));
    let mut waiting: Vec<Acquire> = (0..5).map(|_| queued(&limiter, &["a"])).collect();
    limiter.set_limit("a", Some(2));
    let mut permits: Vec<Permit> = waiting.iter_mut().filter_map(poll).collect();
    assert_eq!(permits.len(), 2);
    limiter.set_limit("a", Some(3));
    permits.extend(waiting.iter_mut().filter_map(poll));
    assert_eq!(permits.len(), 3);
    limiter.set_limit("a", None);
    permits.extend(waiting.iter_mut().filter_map(poll));
    assert_eq!(permits.len(), 5);
}

#[test]
fn lowering_a_limit_lets_holders_finish_and_starts_nobody_until_they_are_fewer() {
    let limiter = KeyedLimiter::new(Some(3));
    let mut permits: Vec<Permit> = (0..3).map(|_| held(&limiter, &["a"])).collect();
    limiter.set_limit("a", Some(1));
    let mut waiting = queued(&limiter, &["a"]);
    for left in [2, 1] {
        permits.pop();
        assert!(poll(&mut waiting).is_none(), "{left} still held");
    }
    permits.pop();
    assert!(poll(&mut waiting).is_some());
}

#[test]
fn a_cleared_limit_is_the_default_again_and_is_forgotten() {
    let limiter = KeyedLimiter::new(Some(1));
    limiter.set_limit("a", Some(0));
    let mut waiting = queued(&limiter, &["a"]);
    limiter.clear_limit("a");
    drop(poll(&mut waiting).unwrap());
    assert_no_trace(&limiter);
}

#[test]
fn after_sixteen_overtakings_a_permit_is_set_aside() {
    let limiter = KeyedLimiter::new(Some(1));
    let slow = held(&limiter, &["slow"]);
    let mut both = queued(&limiter, &["slow", "wide"]);
    overtake(&limiter);
    assert!(!is_free(&limiter, &["wide"]), "the seventeenth must wait");
    let mut later = queued(&limiter, &["wide"]);
    drop(slow);
    let both = poll(&mut both).unwrap();
    assert!(poll(&mut later).is_none());
    drop(both);
    assert!(poll(&mut later).is_some());
}

#[test]
fn two_keys_that_are_never_free_together_do_not_starve_who_needs_both() {
    let limiter = KeyedLimiter::new(Some(1));
    let mut now = held(&limiter, &["a"]);
    let mut both = queued(&limiter, &["a", "b"]);
    for turn in 0..100 {
        let next = limiter.try_acquire(&keys(&[if turn % 2 == 0 { "b" } else { "a" }]));
        drop(now);
        if let Some(permit) = poll(&mut both) {
            assert!(turn >= 15, "started at turn {turn}, before its patience ended");
            assert_eq!(permit.keys().len(), 2);
            return;
        }
        now = next.unwrap();
    }
    panic!("starved");
}

#[test]
fn waiting_for_a_slow_key_takes_no_more_than_one_permit_from_a_wide_one() {
    let limiter = KeyedLimiter::new(Some(1));
    limiter.set_limit("wide", Some(4));
    let slow = held(&limiter, &["slow", "wide"]);
    let _others: Vec<Acquire> = (0..50).map(|_| queued(&limiter, &["slow", "wide"])).collect();
    for _ in 0..10 {
        overtake(&limiter);
    }
    let two = [held(&limiter, &["wide"]), held(&limiter, &["wide"])];
    assert!(!is_free(&limiter, &["wide"]), "the fourth is set aside for the first of the fifty");
    drop((two, slow));
    assert_eq!(limiter.held(&"slow".into()), 1);
}

#[test]
fn who_waits_for_a_closed_key_stops_nobody() {
    let limiter = KeyedLimiter::new(Some(1));
    limiter.set_limit("closed", Some(0));
    let mut first = queued(&limiter, &["closed", "wide"]);
    for _ in 0..5 {
        overtake(&limiter);
    }
    limiter.set_limit("closed", Some(1));
    assert!(poll(&mut first).is_some(), "opened, it starts");
}

#[test]
fn closing_a_key_frees_what_was_set_aside_and_opening_it_sets_it_aside_again() {
    let limiter = KeyedLimiter::new(Some(1));
    let slow = held(&limiter, &["slow"]);
    let mut both = queued(&limiter, &["slow", "wide"]);
    overtake(&limiter);
    let mut later = queued(&limiter, &["wide"]);
    limiter.set_limit("slow", Some(0));
    let permit = poll(&mut later).unwrap();
    limiter.set_limit("slow", Some(1));
    let mut latest = queued(&limiter, &["wide"]);
    drop(permit);
    assert!(poll(&mut latest).is_none(), "set aside again");
    drop(slow);
    assert!(poll(&mut both).is_some());
}

#[test]
fn who_leaves_gives_up_what_was_set_aside_for_it() {
    let limiter = KeyedLimiter::new(Some(1));
    let slow = held(&limiter, &["slow"]);
    let both = queued(&limiter, &["slow", "wide"]);
    overtake(&limiter);
    let mut later = queued(&limiter, &["wide"]);
    drop(both);
    assert!(poll(&mut later).is_some());
    drop((slow, later));
    assert_no_trace(&limiter);
}

#[test]
fn who_runs_out_of_patience_takes_at_once_what_was_set_aside_for_a_later_one() {
    let limiter = KeyedLimiter::with_patience(Some(1), 1);
    limiter.set_limit("j", Some(2));
    let (d, k, z) = (held(&limiter, &["d"]), held(&limiter, &["k"]), held(&limiter, &["z"]));
    let mut first = queued(&limiter, &["j", "k"]);
    let _later = queued(&limiter, &["k", "z"]);
    let mut last = queued(&limiter, &["d", "j"]);
    drop(z);
    let _z = held(&limiter, &["z"]);
    drop(k);
    assert!(poll(&mut first).is_none(), "`k` is set aside for the later one");
    drop(d);
    let _last = poll(&mut last).unwrap();
    assert!(
        poll(&mut first).is_some(),
        "overtaken under `j`, the first one comes before the later one under `k`"
    );
}

#[test]
fn idle_keys_are_forgotten_and_held_ones_are_not() {
    let limiter = KeyedLimiter::new(Some(1));
    let kept = held(&limiter, &["kept"]);
    let mut waiting = queued(&limiter, &["kept", "other"]);
    for number in 0..10_000 {
        drop(limiter.try_acquire(&[Key::from(format!("host-{number}"))]).unwrap());
        assert_eq!(limiter.active_keys(), 2);
    }
    assert!(!is_free(&limiter, &["kept"]));
    drop(kept);
    drop(poll(&mut waiting).unwrap());
    assert_no_trace(&limiter);
}

/// A task whose last owner is its waker, and which holds a permit and a place in the line.
#[derive(Debug)]
struct Owner {
    _held: Mutex<Option<(Permit, Acquire)>>,
}

impl Wake for Owner {
    fn wake(self: Arc<Self>) {}
}

#[test]
fn a_waker_that_owns_a_permit_may_be_dropped_by_the_limiter() {
    let limiter = KeyedLimiter::new(Some(1));
    let a = held(&limiter, &["a"]);
    let owner = |names| {
        let waiting = limiter.acquire(&keys(&["a"]));
        Waker::from(Arc::new(Owner { _held: Mutex::new(Some((held(&limiter, names), waiting))) }))
    };
    let mut acquire = limiter.acquire(&keys(&["a"]));
    let (first, second) = (owner(&["b"]), owner(&["c"]));
    assert!(Pin::new(&mut acquire).poll(&mut Context::from_waker(&first)).is_pending());
    drop(first);
    // Replaced by another waker, and then abandoned with it.
    assert!(Pin::new(&mut acquire).poll(&mut Context::from_waker(&second)).is_pending());
    assert_eq!(limiter.held(&"b".into()), 0);
    drop(second);
    drop(acquire);
    assert_eq!(limiter.held(&"c".into()), 0);
    // Woken, which drops it.
    let mut acquire = limiter.acquire(&keys(&["a"]));
    let third = owner(&["d"]);
    assert!(Pin::new(&mut acquire).poll(&mut Context::from_waker(&third)).is_pending());
    drop(third);
    drop(a);
    assert_eq!(limiter.held(&"d".into()), 0);
    drop(acquire);
    assert_no_trace(&limiter);
}

#[tokio::test(start_paused = true)]
async fn a_deadline_gives_up_in_time_and_holds_nothing() {
    let limiter = KeyedLimiter::new(Some(1));
    let permit = limiter.acquire(&keys(&["a"])).await;
    for timeout in [Duration::ZERO, Duration::from_millis(1), Duration::from_mins(1)] {
        let error = limiter.acquire_within(&keys(&["a", "b"]), timeout).await.unwrap_err();
        assert_eq!(error.kind(), LimitErrorKind::DeadlinePassed);
        assert!(error.is_retryable() && error.to_string().contains("a, b"), "{error}");
        assert_eq!((limiter.waiting(), limiter.active_keys()), (0, 1));
    }
    drop(permit);
    assert!(limiter.acquire_within(&keys(&["a"]), Duration::ZERO).await.is_ok());
    let first_poll_wins = limiter.acquire_until(&keys(&["a"]), std::future::ready(())).await;
    assert!(first_poll_wins.is_ok());
}

#[tokio::test]
async fn a_deadline_can_be_any_clock_s() {
    let (limiter, clock) = (KeyedLimiter::new(Some(1)), ManualClock::new());
    let permit = limiter.acquire(&keys(&["a"])).await;
    let a = keys(&["a"]);
    let waits = limiter.acquire_until(&a, clock.sleep(Duration::from_secs(5)));
    let advances = async {
        while clock.sleepers() == 0 {
            tokio::task::yield_now().await;
        }
        clock.advance(Duration::from_secs(5));
    };
    let (result, ()) = tokio::join!(waits, advances);
    assert_eq!(result.unwrap_err().kind(), LimitErrorKind::DeadlinePassed);
    drop(permit);
    assert_no_trace(&limiter);
}
