//! What this process allows itself beside the hosts' lanes: so many jobs of a resolver at once, so many requests a second.
//!
//! The resolver is the one whose plan a try follows. Its permit covers its own calls and the requests of its plans, and is
//! given back with the plan. Whoever waits for a permit has no slot (INV-NO-HOLD-AND-WAIT), but a worker, which others
//! could use. So at most as many wait as may work: they take over at once what comes free. All others go back into the
//! queue, for about half of the time until it is their turn.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use longhaul_events::WaitCause;
use longhaul_limiter::{Clock, Key, LimitPermit, Limits};
use tokio_util::sync::CancellationToken;

/// Until it is known how long permits are held, they are taken to be held for this.
const FIRST_GUESS: Duration = Duration::from_millis(500);
/// Nobody goes back into the queue for less than this, as that costs it a commit,
const SHORTEST: Duration = Duration::from_millis(100);
/// nor for more, as the guess may be wrong.
const LONGEST: Duration = Duration::from_mins(1);
/// The weight of the last time that a permit was held, in the mean.
const WEIGHT: f64 = 0.25;

/// Who waits for which key, for all tries of a process. Only keys with a cap are here, so it is bounded by what is
/// configured.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    lines: Mutex<HashMap<Key, Line>>,
}

#[derive(Debug, Default)]
struct Line {
    waiting: u32,
    /// How long a permit is held, on average.
    held: Option<Duration>,
    /// Until when those who went back into the queue are going to be busy, if they work one after the other.
    planned: Duration,
}

/// A place among those who wait; dropping it gives it up.
struct Place<'a> {
    lines: &'a Lines,
    key: Key,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if let Some(line) = self.lines.lock().get_mut(&self.key) {
            line.waiting = line.waiting.saturating_sub(1);
        }
    }
}

impl Lines {
    /// A place, or after how long to come back.
    fn enter(&self, key: &Key, cap: u32, now: Duration) -> Result<Place<'_>, Duration> {
        let mut lines = self.lock();
        let line = lines.entry(key.clone()).or_default();
        // A key that is closed has no turns; one that waits learns of its opening.
        let cap = cap.max(1);
        if line.waiting < cap {
            line.waiting += 1;
            return Ok(Place { lines: self, key: key.clone() });
        }
        line.planned = line.planned.max(now) + line.held.unwrap_or(FIRST_GUESS) / cap / 2;
        Err(line.planned.saturating_sub(now).clamp(SHORTEST, LONGEST))
    }

    fn was_held(&self, key: &Key, length: Duration) {
        if let Some(line) = self.lock().get_mut(key) {
            let mean = line.held.map_or(length, |mean| mean.mul_f64(1.0 - WEIGHT) + length.mul_f64(WEIGHT));
            line.held = Some(mean);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Line>> {
        // Plain values, whole after every call.
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What one try holds.
#[derive(Debug)]
pub(crate) struct Permits {
    limits: Arc<dyn Limits>,
    lines: Arc<Lines>,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The resolver's key, if it has a cap.
    key: Option<(Key, u32)>,
    resolver: String,
    /// Its permit, and since when it is held.
    held: Option<(LimitPermit, Duration)>,
}

/// What became of a wait.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Waited {
    /// Everything is there.
    Granted,
    /// There are too many before it.
    Later(Duration),
    /// The try was cancelled.
    Cancelled,
}

impl Permits {
    pub(crate) fn new(limits: Arc<dyn Limits>, lines: Arc<Lines>, clock: Arc<dyn Clock>) -> Self {
        Self { limits, lines, clock, state: Mutex::default() }
    }

    /// From now on requests are made for this resolver; what was held for another is given back.
    pub(crate) fn serve(&self, resolver: &str) {
        let key = Key::resolver(resolver);
        if self.lock().key.as_ref().is_some_and(|(serving, _)| *serving == key) {
            return;
        }
        self.release();
        let cap = self.limits.cap(&key);
        let mut state = self.lock();
        state.key = cap.map(|cap| (key, cap));
        resolver.clone_into(&mut state.resolver);
    }

    /// What a wait is for, and for whose turn.
    pub(crate) fn cause(&self) -> (WaitCause, String) {
        let state = self.lock();
        match state.key {
            Some(_) => (WaitCause::Resolver, state.resolver.clone()),
            None => (WaitCause::Process, String::new()),
        }
    }

    /// Gives the resolver's permit back.
    pub(crate) fn release(&self) {
        let mut state = self.lock();
        let (Some((permit, since)), Some((key, _))) = (state.held.take(), state.key.clone()) else { return };
        drop(state);
        self.lines.was_held(&key, self.clock.monotonic().saturating_sub(since));
        drop(permit);
    }

    /// What one request needs that is not held yet.
    fn needed(&self) -> Vec<Key> {
        let state = self.lock();
        let resolver = state.key.as_ref().filter(|_| state.held.is_none());
        resolver.map(|(key, _)| key.clone()).into_iter().chain([Key::request()]).collect()
    }

    /// Whether one request may start now, as far as this process is concerned. If not, nothing is held any more.
    pub(crate) async fn try_start(&self) -> bool {
        let Ok(permit) = self.limits.acquire(&self.needed(), Some(Duration::ZERO)).await else {
            self.release();
            return false;
        };
        self.keep(permit);
        true
    }

    /// A place among those who wait for the resolver, which many may want; after how long to come back otherwise.
    fn enter(&self) -> Result<Option<Place<'_>>, Duration> {
        let key = self.lock().key.clone();
        key.map(|(key, cap)| self.lines.enter(&key, cap, self.clock.monotonic())).transpose()
    }

    /// Waits until one request may start. `before` gives back what the try holds elsewhere, and is awaited only if there
    /// is a wait; it says whether to go on.
    pub(crate) async fn wait(
        &self,
        before: impl Future<Output = bool>,
        cancelled: &CancellationToken,
    ) -> Waited {
        let _place = match self.enter() {
            Ok(place) => place,
            Err(after) => return Waited::Later(after),
        };
        if !before.await {
            return Waited::Cancelled;
        }
        let needed = self.needed();
        let granted = self.limits.acquire(&needed, None);
        let granted = tokio::select! {
            biased;
            () = cancelled.cancelled() => return Waited::Cancelled,
            granted = granted => granted,
        };
        match granted {
            Ok(permit) => {
                self.keep(permit);
                Waited::Granted
            }
            // There was no deadline, so this does not happen; coming back is right for whatever it is.
            Err(_) => Waited::Later(SHORTEST),
        }
    }

    fn keep(&self, permit: LimitPermit) {
        let mut state = self.lock();
        if state.key.is_some() && state.held.is_none() {
            state.held = Some((permit, self.clock.monotonic()));
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Permits {
    fn drop(&mut self) {
        self.release();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "resolver:a";

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn as_many_wait_as_may_work_and_the_others_come_back_one_after_the_other() {
        let (lines, key, now) = (Lines::default(), Key::from(KEY), ms(10_000));
        let places: Vec<_> = (0..2).map(|_| lines.enter(&key, 2, now).ok()).collect();
        assert!(places.iter().all(Option::is_some));
        let after: Vec<Duration> =
            (0..4).map(|_| lines.enter(&key, 2, now).err().unwrap_or_default()).collect();
        assert_eq!(after, [ms(125), ms(250), ms(375), ms(500)], "half of 500 ms for each, two at a time");
        drop(places);
        assert!(lines.enter(&key, 2, now).is_ok(), "a place that was given up is free");
    }

    #[test]
    fn how_long_permits_are_held_is_learned_and_no_wait_has_no_end() {
        let (lines, key) = (Lines::default(), Key::from(KEY));
        let _place = lines.enter(&key, 1, ms(0));
        for _ in 0..50 {
            lines.was_held(&key, ms(4_000));
        }
        let after = |now| lines.enter(&key, 1, now).err().unwrap_or_default();
        let first = after(ms(0));
        assert!(first > ms(1_900) && first <= ms(2_000), "{first:?}");
        let last = (0..1_000).map(|_| after(ms(0))).max();
        assert_eq!(last, Some(LONGEST));
        assert!(after(ms(3_600_000)) <= ms(2_000), "what was planned long ago is over");
    }

    #[test]
    fn a_closed_key_has_a_place_to_wait_for_its_opening() {
        let lines = Lines::default();
        assert!(lines.enter(&Key::from(KEY), 0, ms(0)).is_ok());
    }

    /// INV-BOUNDED: what has no cap leaves nothing behind.
    #[tokio::test]
    async fn inv_bounded_only_keys_with_a_cap_are_remembered() {
        let limits =
            longhaul_limiter::ConfiguredLimits::new(Arc::new(longhaul_limiter::LaneRules::unlimited()));
        limits.keyed.set_limit(KEY, Some(1));
        let lines = Arc::new(Lines::default());
        let clock: Arc<dyn Clock> = Arc::new(longhaul_limiter::ManualClock::new());
        let permits = Permits::new(Arc::new(limits), Arc::clone(&lines), clock);
        for number in 0..10_000 {
            permits.serve(&format!("hint-{number}"));
            assert!(permits.try_start().await);
        }
        assert_eq!(lines.lock().len(), 0);
    }
}
