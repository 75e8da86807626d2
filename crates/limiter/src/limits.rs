//! The seam through which work asks what it may press on whom, and for the limits that hold inside the process.

use std::any::Any;
use std::fmt;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use async_trait::async_trait;

use crate::{Key, KeyedLimiter, Lane, LaneRules, Pace, Permit, Role, Scope, TokenBucket};

#[cfg(test)]
mod tests;

/// What is configured for a lane and a role, as told to the queue's store with each request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaneView {
    /// How many requests may be in flight over all roles and processes; `None` is no cap.
    pub cap: Option<u32>,
    /// How often requests may start.
    pub pace: Pace,
    /// With which other requests the pace is counted.
    pub scope: Scope,
}

impl LaneView {
    /// Neither cap nor pace.
    pub const UNLIMITED: LaneView = LaneView { cap: None, pace: Pace::OFF, scope: Scope::Shared };
}

/// Who may do how much: what is configured for hosts, and what this process allows itself.
///
/// # Contract
/// - [`Limits::lane`] only tells; a host's cap and pace are kept by the queue's store, over all processes.
/// - [`Limits::acquire`] waits for limits inside the process. It grants all of `keys` or nothing, holds nothing while
///   it waits (INV-NO-HOLD-AND-WAIT), and the permit's drop gives back what can be given back. A key that is not
///   limited is granted at once. It is cancel-safe: a dropped call has taken nothing.
/// - [`Key::request`] among the keys stands for one request's start. Ask for it once a request; the other keys of a
///   resolver's permit cover its own call and the requests of its plans.
/// - Its errors are those of [`LimitErrorKind`]; a deadline of zero tries once, none waits as long as it takes.
/// - [`Limits::bandwidth`] is called after bytes came in and before more are read. It is cancel-safe.
#[async_trait]
pub trait Limits: fmt::Debug + Send + Sync + 'static {
    /// Cap and pace of a lane for a role.
    fn lane(&self, lane: &Lane, role: Role) -> LaneView;

    /// How many may hold a key at once in this process; `None` is any number.
    fn cap(&self, key: &Key) -> Option<u32>;

    /// Waits for the right to do something under `keys`, at most for `deadline`.
    async fn acquire(&self, keys: &[Key], deadline: Option<Duration>) -> Result<LimitPermit, LimitError>;

    /// Waits until `bytes` that came in are within the bandwidth.
    async fn bandwidth(&self, bytes: u32);
}

/// What [`Limits::acquire`] granted; dropping it gives it back. It tells nothing about itself, so that any
/// implementation can keep in it what it needs.
#[must_use = "a permit that is not kept is given back at once"]
pub struct LimitPermit {
    _held: Option<Box<dyn Any + Send + Sync>>,
}

impl LimitPermit {
    /// A permit that holds nothing.
    pub fn free() -> Self {
        Self { _held: None }
    }

    /// A permit that drops `held` when it is dropped.
    pub fn holding(held: impl Send + Sync + 'static) -> Self {
        Self { _held: Some(Box::new(held)) }
    }
}

impl fmt::Debug for LimitPermit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LimitPermit").finish_non_exhaustive()
    }
}

/// The limits of a configuration: rules for lanes, keyed concurrency, and two buckets for the process.
#[derive(Debug)]
pub struct ConfiguredLimits {
    /// What holds for which lane.
    pub rules: Arc<LaneRules>,
    /// Caps of resolvers, the pool and any other key.
    pub keyed: KeyedLimiter,
    /// How often this process starts a request ([`Key::request`]); `None` is as often as it likes.
    pub requests: Option<TokenBucket>,
    /// How many bytes this process reads; `None` is as many as come.
    pub bytes: Option<TokenBucket>,
}

impl ConfiguredLimits {
    /// Limits of lanes alone; the process allows itself everything.
    pub fn new(rules: Arc<LaneRules>) -> Self {
        Self { rules, keyed: KeyedLimiter::new(None), requests: None, bytes: None }
    }

    /// Waits for the keys and a token, holding neither while it waits for the other: a token that waited for a key
    /// would start late, together with others', and a key that waited for a token would be kept from who could use it.
    ///
    /// Both are taken in the one instant in which both are there. Whoever fails saw the last token go to someone who
    /// started, so there is always progress; the order among those who miss each other so is not promised.
    async fn start_request(&self, requests: &TokenBucket, keys: &[Key]) -> Permit {
        let mut has_waited = false;
        loop {
            let permit = self.keyed.acquire(keys).await;
            let has_token = if has_waited { requests.take_now(1) } else { requests.try_consume(1) };
            if has_token {
                return permit;
            }
            drop(permit);
            // Until a token is there; it is left for whoever has its keys first.
            requests.consume(1).await;
            requests.refund(1);
            has_waited = true;
        }
    }
}

#[async_trait]
impl Limits for ConfiguredLimits {
    fn lane(&self, lane: &Lane, role: Role) -> LaneView {
        let (pace, scope) = self.rules.pace(lane, role);
        LaneView { cap: self.rules.cap(lane), pace: pace.clone(), scope }
    }

    fn cap(&self, key: &Key) -> Option<u32> {
        self.keyed.limit(key)
    }

    async fn acquire(&self, keys: &[Key], deadline: Option<Duration>) -> Result<LimitPermit, LimitError> {
        let request = Key::request();
        let paced = self.requests.as_ref().filter(|_| keys.contains(&request));
        // A request's start is counted by rate and not held, so it has no place among the permits.
        let held: Vec<Key> = keys.iter().filter(|key| **key != request).cloned().collect();
        let granted = async {
            match paced {
                Some(requests) => self.start_request(requests, &held).await,
                None => self.keyed.acquire(&held).await,
            }
        };
        let permit = match deadline {
            None => granted.await,
            // One look: a timer of zero length still takes its runtime's next tick, and whoever tries may hold something.
            Some(Duration::ZERO) => {
                let mut granted = pin!(granted);
                let tried = poll_fn(|context| Poll::Ready(granted.as_mut().poll(context))).await;
                match tried {
                    Poll::Ready(permit) => permit,
                    Poll::Pending => return Err(LimitError::deadline_passed(keys)),
                }
            }
            // The grant is polled before the timer, so one that can be had at once is given however short the deadline.
            Some(deadline) => tokio::time::timeout(deadline, granted)
                .await
                .map_err(|_| LimitError::deadline_passed(keys))?,
        };
        Ok(LimitPermit::holding(permit))
    }

    async fn bandwidth(&self, bytes: u32) {
        if let Some(bucket) = &self.bytes {
            bucket.consume(u64::from(bytes)).await;
        }
    }
}

/// No limits at all: for tests, and for work that presses on nobody.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoLimits;

#[async_trait]
impl Limits for NoLimits {
    fn lane(&self, _lane: &Lane, _role: Role) -> LaneView {
        LaneView::UNLIMITED
    }

    fn cap(&self, _key: &Key) -> Option<u32> {
        None
    }

    async fn acquire(&self, _keys: &[Key], _deadline: Option<Duration>) -> Result<LimitPermit, LimitError> {
        Ok(LimitPermit::free())
    }

    async fn bandwidth(&self, _bytes: u32) {}
}

/// What went wrong with a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LimitErrorKind {
    /// What was asked for could not be had in time. Nothing is held.
    DeadlinePassed,
    /// A limit was configured that cannot be kept.
    Invalid,
}

/// Why a limit could not be kept or waited for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct LimitError {
    kind: LimitErrorKind,
    message: String,
}

impl LimitError {
    /// The keys could not be had in time; for implementations of [`Limits`].
    pub fn deadline_passed(keys: &[Key]) -> Self {
        let names: Vec<&str> = keys.iter().map(Key::as_str).collect();
        Self {
            kind: LimitErrorKind::DeadlinePassed,
            message: format!("the deadline passed while waiting for {}; try later", names.join(", ")),
        }
    }

    /// A limit that cannot be kept; `message` says what is wrong and what to give instead.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self { kind: LimitErrorKind::Invalid, message: message.into() }
    }

    /// What went wrong.
    pub fn kind(&self) -> LimitErrorKind {
        self.kind
    }

    /// Whether asking again may help.
    pub fn is_retryable(&self) -> bool {
        match self.kind {
            LimitErrorKind::DeadlinePassed => true,
            LimitErrorKind::Invalid => false,
        }
    }
}
