//! Keyed concurrency inside one process: at most so many permits a key at a time.
//!
//! Keys are names such as `resolver:unpaywall` or an embedder's own. Hosts are *not* counted here: their caps hold
//! over all processes and live in the queue's store. Nothing here survives the process.
//!
//! This file is what callers see; who may start, and in which order, is decided in `turns`.

use std::borrow::Borrow;
use std::collections::BTreeSet;
use std::fmt;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use self::turns::{Ticket, Turns};
use crate::LimitError;
use crate::sync::Mutex;

mod turns;

#[cfg(all(test, not(shuttle)))]
mod schedules;
#[cfg(all(test, not(shuttle)))]
mod tests;

/// How often a waiter is overtaken before permits are set aside for it.
const PATIENCE: u32 = 16;

/// What a permit is counted under: any name. Clones share the text.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Arc<str>);

impl Key {
    /// The key of a resolver: `resolver:NAME`.
    pub fn resolver(name: &str) -> Self {
        Self(format!("resolver:{name}").into())
    }

    /// The key of the global pool: everything that the process does at once.
    pub fn pool() -> Self {
        Self("pool".into())
    }

    /// The start of one request by this process. [`crate::Limits::acquire`] takes it from the process-wide request
    /// rate; a [`KeyedLimiter`] gives it no special meaning.
    pub fn request() -> Self {
        Self("request".into())
    }

    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<&str> for Key {
    fn from(name: &str) -> Self {
        Self(name.into())
    }
}

impl From<String> for Key {
    fn from(name: String) -> Self {
        Self(name.into())
    }
}

impl Borrow<str> for Key {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// Caps on how much happens at once under each of any number of keys. Clones share the counts.
///
/// # Contract
/// - A permit is granted only while every one of its keys is below its cap; several keys are taken all or nothing,
///   so nothing holds one key while it waits for another (INV-NO-HOLD-AND-WAIT).
/// - Whoever came first goes first among those that could start. Someone who needs a key that is full does not
///   hold up those behind who do not need it.
/// - Who was overtaken 16 times by a later arrival under one of its capped keys goes before those who were not, and
///   gets one permit of each of its keys set aside, as each comes free, until it has started: nobody waits for ever
///   while holders let go. Only one permit a key is set aside at a time, for the one who came first, so that
///   waiting for a slow key never stops a wide one. Who waits for a key of cap 0 is not counted as overtaken, and
///   nothing is set aside for it.
/// - Dropping a future or a [`Permit`], at any point, gives back whatever it had or waited for.
/// - Memory is O(held + waiting + configured): a key that is idle and not configured is forgotten.
///
/// What it does not do: it knows no rates, no other process, and no re-entrance. Who waits for a key while it holds
/// a permit for the same one may wait for itself.
///
/// ```
/// # use longhaul_limiter::{Key, KeyedLimiter};
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let limiter = KeyedLimiter::new(Some(2));
/// limiter.set_limit("resolver:arxiv", Some(1));
/// let permit = limiter.acquire(&[Key::resolver("arxiv"), Key::pool()]).await;
/// assert!(limiter.try_acquire(&[Key::resolver("arxiv")]).is_none());
/// drop(permit);
/// assert!(limiter.try_acquire(&[Key::resolver("arxiv")]).is_some());
/// # });
/// ```
#[derive(Debug, Clone)]
pub struct KeyedLimiter {
    turns: Arc<Mutex<Turns>>,
}

impl KeyedLimiter {
    /// A limiter whose keys have this cap unless [`KeyedLimiter::set_limit`] says otherwise; `None` is no cap.
    pub fn new(default_cap: Option<u32>) -> Self {
        Self::with_patience(default_cap, PATIENCE)
    }

    fn with_patience(default_cap: Option<u32>, patience: u32) -> Self {
        Self { turns: Arc::new(Mutex::new(Turns::new(default_cap, patience))) }
    }

    /// A permit for all of `keys` together. A key that is named twice counts once; no keys at all is granted.
    ///
    /// The future's place in the order is that of its first poll. Cancel-safe: dropped, it leaves no trace. It holds
    /// no borrow, so it may be kept. Once started it must be polled when woken, or be dropped: a grant
    /// that nobody picks up is held.
    pub fn acquire(&self, keys: &[Key]) -> Acquire {
        Acquire { limiter: self.clone(), keys: distinct(keys), state: AcquireState::New }
    }

    /// As [`KeyedLimiter::acquire`], given up when `deadline` is ready: `clock.sleep(..)` of a [`crate::Clock`], a
    /// cancellation token, or any other future. If both are ready at once the permit wins.
    ///
    /// # Errors
    /// [`crate::LimitErrorKind::DeadlinePassed`]; nothing is held then.
    pub async fn acquire_until(&self, keys: &[Key], deadline: impl Future) -> Result<Permit, LimitError> {
        let mut acquire = self.acquire(keys);
        let mut deadline = pin!(deadline);
        std::future::poll_fn(|context| {
            if let Poll::Ready(permit) = Pin::new(&mut acquire).poll(context) {
                return Poll::Ready(Ok(permit));
            }
            deadline.as_mut().poll(context).map(|_| Err(LimitError::deadline_passed(keys)))
        })
        .await
    }

    /// As [`KeyedLimiter::acquire_until`] with a time of tokio's clock. Zero tries once.
    ///
    /// # Errors
    /// [`crate::LimitErrorKind::DeadlinePassed`]; nothing is held then.
    pub async fn acquire_within(&self, keys: &[Key], timeout: Duration) -> Result<Permit, LimitError> {
        if timeout.is_zero() {
            // A timer of zero length still takes its runtime's next tick.
            return self.try_acquire(keys).ok_or_else(|| LimitError::deadline_passed(keys));
        }
        self.acquire_until(keys, tokio::time::sleep(timeout)).await
    }

    /// A permit for all of `keys` if they can be had now. It takes nothing that is set aside for another, but it does
    /// not queue up behind those who wait for other keys as well.
    pub fn try_acquire(&self, keys: &[Key]) -> Option<Permit> {
        let keys = distinct(keys);
        self.with(|turns| turns.try_start(&keys)).then(|| Permit { limiter: self.clone(), keys })
    }

    /// Sets the cap of a key, at once: raised, it lets waiters start; lowered, it lets holders finish and starts
    /// nobody until they are fewer. 0 closes the key; `None` is no cap.
    pub fn set_limit(&self, key: impl Into<Key>, cap: Option<u32>) {
        let key = key.into();
        self.with(|turns| turns.set_cap(key, cap));
    }

    /// Forgets what [`KeyedLimiter::set_limit`] said of a key: it has the default cap again, at once.
    pub fn clear_limit(&self, key: impl Into<Key>) {
        let key = key.into();
        self.with(|turns| turns.clear_cap(key));
    }

    /// The cap of a key; `None` is no cap.
    pub fn limit(&self, key: &Key) -> Option<u32> {
        self.with(|turns| turns.cap(key))
    }

    /// How many permits of a key are given out. One that was granted to a future counts before it is picked up.
    pub fn held(&self, key: &Key) -> u64 {
        self.with(|turns| turns.held(key))
    }

    /// How many futures wait.
    pub fn waiting(&self) -> usize {
        self.with(|turns| turns.waiting())
    }

    /// How many keys are held or waited for; idle ones are forgotten.
    pub fn active_keys(&self) -> usize {
        self.with(|turns| turns.active_keys())
    }

    /// Does something under the lock, and wakes whom it started after the lock is gone: a waker is foreign code, which
    /// may drop a permit of this same limiter.
    fn with<R>(&self, act: impl FnOnce(&mut Turns) -> R) -> R {
        let (result, woken) = {
            // Nothing between two statements of `Turns` can panic, so a poisoned lock guards whole data.
            let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
            let result = act(&mut turns);
            (result, turns.take_woken())
        };
        for waker in woken {
            waker.wake();
        }
        result
    }
}

/// Without repetitions.
fn distinct(keys: &[Key]) -> Arc<[Key]> {
    keys.iter().cloned().collect::<BTreeSet<_>>().into_iter().collect()
}

/// The future of [`KeyedLimiter::acquire`].
#[derive(Debug)]
#[must_use = "a future does nothing unless it is awaited"]
pub struct Acquire {
    limiter: KeyedLimiter,
    keys: Arc<[Key]>,
    state: AcquireState,
}

#[derive(Debug, Clone, Copy)]
enum AcquireState {
    New,
    Waiting(Ticket),
    Done,
}

impl Future for Acquire {
    type Output = Permit;

    /// Once it was ready it stays pending.
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Permit> {
        let this = &mut *self;
        // Cloned before and dropped after the lock is held, as wakers are foreign code.
        let mut waker = context.waker().clone();
        let granted = match this.state {
            AcquireState::Done => false,
            AcquireState::Waiting(ticket) => this.limiter.with(|turns| turns.poll(ticket, &mut waker)),
            AcquireState::New => {
                let ticket = this.limiter.with(|turns| {
                    if turns.try_start(&this.keys) { None } else { Some(turns.wait(&this.keys, waker)) }
                });
                if let Some(ticket) = ticket {
                    this.state = AcquireState::Waiting(ticket);
                }
                ticket.is_none()
            }
        };
        if !granted {
            return Poll::Pending;
        }
        this.state = AcquireState::Done;
        Poll::Ready(Permit { limiter: this.limiter.clone(), keys: Arc::clone(&this.keys) })
    }
}

impl Drop for Acquire {
    fn drop(&mut self) {
        if let AcquireState::Waiting(ticket) = self.state {
            // The waker that comes back is dropped here, after the lock.
            let _waker = self.limiter.with(|turns| turns.abandon(ticket));
        }
    }
}

/// The right to do one thing under some keys; dropping it gives all of them back.
#[must_use = "a permit that is not kept is given back at once"]
pub struct Permit {
    limiter: KeyedLimiter,
    keys: Arc<[Key]>,
}

impl Permit {
    /// The keys that are held, each once.
    pub fn keys(&self) -> &[Key] {
        &self.keys
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit").field("keys", &self.keys).finish_non_exhaustive()
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.limiter.with(|turns| turns.release(&self.keys));
    }
}
