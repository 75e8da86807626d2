//! A token bucket that many tasks share: so many tokens an interval, so many at once.
//!
//! It paces what this process does as a whole: how many requests start, how many bytes are read. It is not for the
//! paces of hosts: those must hold over processes and restarts, and are [`crate::Pace`] in the queue's store.

use std::pin::pin;
use std::sync::PoisonError;
use std::time::Duration;

use leaky_bucket::RateLimiter;
use tokio::sync::{Mutex as Line, Notify};

use crate::LimitError;
use crate::sync::{AtomicUsize, Mutex, MutexGuard, Ordering};

#[cfg(all(test, not(shuttle)))]
mod tests;

/// More tokens than any bucket holds: asked for, they are never there, but what is due is filled in.
const MORE_THAN_ANY: usize = usize::MAX;

/// The tick of [`BucketConfig::per_second`] is between these, in milliseconds, unless tokens come more slowly.
const TICK_MS: std::ops::RangeInclusive<u64> = 50..=100;

/// The measures of a [`TokenBucket`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BucketConfig {
    /// The most tokens that the bucket holds.
    pub capacity: u64,
    /// How many tokens come with each interval, at most [`BucketConfig::capacity`].
    pub refill: u64,
    /// The time between two refills; whole milliseconds count, the rest is dropped.
    pub interval: Duration,
    /// How many tokens there are at first, at most [`BucketConfig::capacity`].
    pub burst: u64,
}

impl BucketConfig {
    /// At most `rate` tokens a second, with room for `capacity` of them, full at first. The tick is the one of 50
    /// to 100 ms that comes closest to the rate from below, or one token at a time where that is slower. A capacity
    /// that is smaller than one tick's tokens is raised to them.
    pub fn per_second(rate: u64, capacity: u64) -> Self {
        let refill = |ms: u64| u64::try_from(u128::from(rate) * u128::from(ms) / 1000).unwrap_or(u64::MAX);
        let (refill, ms) = if rate.saturating_mul(*TICK_MS.end()) < 1000 {
            (1.min(rate), 1000_u64.div_ceil(rate.max(1)))
        } else {
            // Of two ticks with the same rate, the shorter is the smoother one.
            TICK_MS.map(|ms| (refill(ms), ms)).fold((0, 1), |best, next| {
                let better =
                    u128::from(next.0) * u128::from(best.1) > u128::from(best.0) * u128::from(next.1);
                if better { next } else { best }
            })
        };
        let capacity = capacity.max(refill);
        Self { capacity, refill, interval: Duration::from_millis(ms), burst: capacity }
    }
}

/// A bucket of tokens that is filled at a steady rate and shared by reference.
///
/// # Contract
/// - In any time t, no more tokens are consumed than `capacity + refill × (⌊t / interval⌋ + 1)`, refunded ones counted
///   as never consumed. What a waiter has been given so far does not count against the capacity.
/// - [`TokenBucket::consume`] serves in order of arrival. A request for more than the capacity is taken in parts of
///   at most the capacity; those who came after it wait for all of them.
/// - Refunded tokens are given out first, and the bucket with them never holds more than its capacity.
/// - A dropped `consume` gives back what it had taken, as a refund.
///
/// # What it does not promise
/// - Tokens come on the grid of a tick, all of an interval's at once, not evenly: ask for short intervals. A refill
///   that a busy runtime makes late is late by as much, and what a long delay lost is not made up for.
/// - It cannot say when the next token will be there.
/// - A request in parts is whole when its last part is there, so its tokens count as consumed over the time that it
///   took, not at its end.
/// - Whoever polls a `consume` once must poll it to its end or drop it: the first in line turns the crank for all.
/// - Its time is tokio's, which may stand still while the machine is suspended.
#[derive(Debug)]
pub struct TokenBucket {
    capacity: u64,
    inner: RateLimiter,
    /// First come, first served. Whoever has it is the only one that waits for `inner`.
    line: Line<()>,
    /// How many stand in line, the first included.
    waiting: AtomicUsize,
    /// Refunded tokens: `inner` has no way to put tokens in.
    credits: Mutex<u64>,
    /// There is something in `credits` for the first in line.
    refunded: Notify,
}

impl TokenBucket {
    /// A bucket of these measures.
    ///
    /// # Errors
    /// [`crate::LimitErrorKind::Invalid`] if capacity or refill is 0 or beyond what can be counted, the refill is more
    /// than the capacity, or the interval is shorter than a millisecond or longer than 366 days.
    pub fn new(config: BucketConfig) -> Result<Self, LimitError> {
        let count = |name: &str, tokens: u64| match usize::try_from(tokens) {
            Ok(count) if count > 0 && isize::try_from(count).is_ok() => Ok(count),
            _ => Err(LimitError::invalid(format!(
                "a token bucket with a {name} of {tokens}: give 1 to {}",
                isize::MAX
            ))),
        };
        let (capacity, refill) = (count("capacity", config.capacity)?, count("refill", config.refill)?);
        if refill > capacity {
            return Err(LimitError::invalid(format!(
                "a token bucket for {capacity} tokens would lose the rest of each refill of {refill}: give a capacity \
                 of at least {refill}"
            )));
        }
        if config.interval < Duration::from_millis(1) || config.interval > Duration::from_hours(366 * 24) {
            let interval = config.interval;
            return Err(LimitError::invalid(format!(
                "a token bucket refilled every {interval:?}: give 1 ms to 366 days"
            )));
        }
        let inner = RateLimiter::builder()
            .max(capacity)
            .refill(refill)
            .interval(Duration::from_millis(config.interval.as_millis() as u64))
            .initial(usize::try_from(config.burst).unwrap_or(capacity).min(capacity))
            .fair(true)
            .build();
        Ok(Self {
            capacity: config.capacity,
            inner,
            line: Line::new(()),
            waiting: AtomicUsize::new(0),
            credits: Mutex::new(0),
            refunded: Notify::new(),
        })
    }

    /// The most tokens that it holds.
    pub fn capacity(&self) -> u64 {
        self.capacity
    }

    /// Waits until `tokens` were there, and takes them. Nothing to wait for if `tokens` is 0.
    ///
    /// Cancel-safe: dropped, it gives back what it had taken so far.
    pub async fn consume(&self, tokens: u64) {
        if tokens == 0 {
            return;
        }
        // One turn for all parts: if each part had a turn of its own, many waiters would hold finished parts, and
        // what they gave back when cancelled would be more at once than the bucket may hold. `taken` comes after the
        // turn, so that it is given back before the next one's turn begins.
        let _in_line = InLine::of(self);
        let _turn = self.line.lock().await;
        let mut taken = Taken { bucket: self, tokens: 0 };
        drop(self.settled_credits());
        while taken.tokens < tokens {
            let part = (tokens - taken.tokens).min(self.capacity);
            self.consume_part(part, &mut taken).await;
        }
        taken.tokens = 0;
    }

    /// Takes `tokens` if they are all there and nobody waits; more than the capacity never are.
    pub fn try_consume(&self, tokens: u64) -> bool {
        if tokens == 0 {
            return true;
        }
        self.waiting.load(Ordering::SeqCst) == 0 && self.take_now(tokens)
    }

    /// As [`TokenBucket::try_consume`], for who has waited in line before and found a token there: it goes before
    /// those who wait now.
    pub(crate) fn take_now(&self, tokens: u64) -> bool {
        let mut credits = self.settled_credits();
        let from_credits = tokens.min(*credits);
        let enough = self.inner.try_acquire(counted(tokens - from_credits));
        if enough {
            *credits -= from_credits;
        }
        enough
    }

    /// Puts back tokens that were consumed for something that was not done. What the bucket has no room for is lost.
    /// They go to whoever waits first.
    pub fn refund(&self, tokens: u64) {
        if tokens == 0 {
            return;
        }
        {
            let mut credits = self.settled_credits();
            let room = self.capacity.saturating_sub(self.inner.balance() as u64);
            *credits = credits.saturating_add(tokens).min(room);
        }
        self.refunded.notify_one();
    }

    /// Takes `tokens`, at most the capacity, telling `taken` of each step. Only for whoever has the turn.
    async fn consume_part(&self, tokens: u64, taken: &mut Taken<'_>) {
        let mut missing = tokens;
        let mut from_credits = self.take_credits(missing);
        loop {
            missing -= from_credits;
            taken.tokens += from_credits;
            if missing == 0 {
                return;
            }
            // It stays alive until the credits are taken: dropped, it puts its tokens back into the balance, and the
            // two together may be more than there is room for.
            let mut from_refill = pin!(self.inner.acquire(counted(missing)));
            tokio::select! {
                biased;
                () = &mut from_refill => {
                    taken.tokens += missing;
                    return;
                }
                () = self.refunded.notified() => {
                    from_credits = self.take_credits(missing);
                }
            }
        }
    }

    fn take_credits(&self, wanted: u64) -> u64 {
        let mut credits = self.credits();
        let taken = wanted.min(*credits);
        *credits -= taken;
        taken
    }

    /// The credits, after what was due has been filled in and what overflows with it is gone.
    fn settled_credits(&self) -> MutexGuard<'_, u64> {
        let mut credits = self.credits();
        // `inner` fills in what is due only when it is asked for tokens. While someone waits for it, all that is due
        // is theirs and this does nothing.
        self.inner.try_acquire(MORE_THAN_ANY);
        *credits = (*credits).min(self.capacity.saturating_sub(self.inner.balance() as u64));
        credits
    }

    fn credits(&self) -> MutexGuard<'_, u64> {
        // A plain number, whole whatever panicked.
        self.credits.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// At most the capacity, which was a `usize` when the bucket was made.
fn counted(tokens: u64) -> usize {
    usize::try_from(tokens).unwrap_or(MORE_THAN_ANY)
}

/// A place in line.
struct InLine<'a>(&'a TokenBucket);

impl<'a> InLine<'a> {
    fn of(bucket: &'a TokenBucket) -> Self {
        bucket.waiting.fetch_add(1, Ordering::SeqCst);
        Self(bucket)
    }
}

impl Drop for InLine<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

/// What an unfinished `consume` has taken; dropped, it is refunded.
struct Taken<'a> {
    bucket: &'a TokenBucket,
    tokens: u64,
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.bucket.refund(self.tokens);
    }
}
