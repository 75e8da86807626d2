//! What binds the starts in a lane at one moment: all the windows of all the processes that are at work, and the host's
//! own wish.

use std::cmp::Ordering;
use std::time::Duration;

use crate::pace::{host_key, window_key};
use crate::{Claim, Controller, HostPace, Lane, LaneRules, Pace, PaceState, Role, Scope, Window};

/// A host's pace is a time between two starts; whoever counts them does so in windows of a second at least.
const SHORTEST_WINDOW: Duration = Duration::from_secs(1);
/// By how much an interval is stretched, see [`Window::interval`].
const STRETCH_PERCENT: u32 = 110;
/// Grants that were not used yet are waited for, but as many as follow each other within this time may be out.
const OUT_WITHIN: Duration = Duration::from_millis(250);
/// Never more grants than this are out in a lane: its row keeps them all.
const MOST_OUT: u128 = 16;

/// All that binds the starts of one role in one lane.
///
/// A start is counted in every window of it, also in those of other processes: two that are configured to different
/// paces together start no more than the stricter allows (INV-PACE). Of windows that share a count the strictest holds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Bounds {
    windows: Vec<Counted>,
    host: Option<HostPace>,
}

/// A window, and what it is counted under.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Counted {
    name: String,
    window: Window,
}

impl Bounds {
    /// What binds a role in a lane: the asking process' rules, those of the others that are at work, and the slowest
    /// that the host asks for. [`Lane::NONE`] is bound by nothing.
    pub fn new<'r>(
        rules: &LaneRules,
        others: impl IntoIterator<Item = &'r LaneRules>,
        host: Option<HostPace>,
        lane: &Lane,
        role: Role,
    ) -> Self {
        let mut bounds = Self::default();
        if lane.is_none() {
            return bounds;
        }
        bounds.host = host;
        let (pace, scope) = rules.pace(lane, role);
        bounds.add(pace, scope);
        for rules in others {
            let (pace, scope) = rules.pace(lane, role);
            bounds.add(pace, scope);
        }
        bounds
    }

    /// The windows of one pace.
    pub(crate) fn of(pace: &Pace, scope: Scope) -> Self {
        let mut bounds = Self::default();
        bounds.add(pace, scope);
        bounds
    }

    fn add(&mut self, pace: &Pace, scope: Scope) {
        for window in pace.windows() {
            let name = window_key(scope, window);
            match self.windows.iter_mut().find(|counted| counted.name == name) {
                Some(counted) => counted.window = counted.window.stricter(window),
                None => self.windows.push(Counted { name, window: *window }),
            }
        }
    }

    /// Whether nothing binds: a start is neither counted nor put off.
    pub fn is_off(&self) -> bool {
        self.windows.is_empty() && self.host.is_none()
    }

    /// What starts are counted under.
    pub(crate) fn names(&self) -> impl Iterator<Item = String> {
        let windows = self.windows.iter().map(|counted| counted.name.clone());
        windows.chain(self.host.map(|_| host_key()))
    }

    /// The earliest time at which the next start is allowed; at most `now` if it is allowed now. Times are since the
    /// store's epoch.
    pub fn open_at(&self, state: &PaceState) -> Duration {
        self.opens(state).0
    }

    /// The controller that puts the next start off the longest. [`Controller::Configured`] where none does.
    pub fn controller(&self, state: &PaceState) -> Controller {
        self.opens(state).1
    }

    fn opens(&self, state: &PaceState) -> (Duration, Controller) {
        let windows = self.windows.iter().map(|counted| counted.window.open_at(state.tat(&counted.name)));
        let configured = (windows.max().unwrap_or_default(), Controller::Configured);
        // At its end it no longer holds, so nothing is put off beyond.
        let host = self.host.map(|host| (state.host_opens().min(host.until), host.controller));
        host.into_iter().fold(configured, |slowest, host| if host.0 > slowest.0 { host } else { slowest })
    }

    /// Counts one start at `now` for good if everything allows it, and says whether it did. Nothing is counted otherwise.
    /// INV-PACE.
    pub fn admit(&self, state: &mut PaceState, now: Duration) -> bool {
        let allows = self.open_at(state) <= now;
        if allows && !self.is_off() {
            state.count(self.counts(), now);
        }
        allows
    }

    /// Grants a start at `at` to a claim if everything allows it then, and says whether it did. It is counted, and can be
    /// taken back until it is said to have [started](PaceState::started). INV-PACE.
    pub fn grant(&self, state: &mut PaceState, claim: Claim, role: Role, at: Duration) -> bool {
        let allows = self.open_at(state) <= at;
        if allows && !self.is_off() {
            state.grant(claim, role, self.counts(), at);
        }
        allows
    }

    /// When a start may be granted for, at `now`, to a holder that is ready `lead` later and waits for `horizon` at most: the
    /// lane's next time, if that is no further away, and not so soon that the holder would be late. `None` if the lane opens
    /// later.
    pub fn start_at(
        &self,
        state: &PaceState,
        now: Duration,
        lead: Duration,
        horizon: Duration,
    ) -> Option<Duration> {
        let Some(within) = self.start_within() else { return Some(now) };
        let open_at = self.open_at(state);
        let soonest = now + lead.saturating_sub(within / 2);
        (open_at <= now + horizon).then(|| open_at.max(soonest))
    }

    /// The shortest time from the first to the last of `starts` starts; zero where no window and no host binds them.
    pub fn lasts(&self, starts: u64) -> Duration {
        let starts = u32::try_from(starts).unwrap_or(u32::MAX);
        let windows = self.windows.iter().map(|counted| {
            counted.window.interval().saturating_mul(starts.saturating_sub(counted.window.burst()))
        });
        let host = self.host.map(|host| host.stretched().saturating_mul(starts.saturating_sub(1)));
        windows.chain(host).max().unwrap_or_default()
    }

    /// What a start adds to each time.
    fn counts(&self) -> Vec<(String, Duration)> {
        let windows = self.windows.iter().map(|counted| (counted.name.clone(), counted.window.interval()));
        windows.chain(self.host.map(|host| (host_key(), host.stretched()))).collect()
    }

    /// Whether another start may be granted although some holders have not said that they started: one may be out at a
    /// time, or as many as follow each other within a quarter of a second. A lane whose holders are all late gives the next
    /// grant when one of them has started, so none ever finds that a later grant has taken its place, again and again.
    pub fn has_room(&self, state: &PaceState) -> bool {
        if self.is_off() {
            return true;
        }
        let bursts = self.windows.iter().filter(|counted| counted.window.burst() == 1);
        let intervals = bursts.map(|counted| counted.window.interval());
        let interval = intervals.chain(self.host.map(HostPace::stretched)).max().unwrap_or_default();
        let most = (OUT_WITHIN.as_micros() / interval.as_micros().max(1)).clamp(1, MOST_OUT);
        (state.waited_for(self).count() as u128) < most
    }

    /// How long after its time a start may still happen; `None` if nothing binds it. Half of the slack that the
    /// stretched intervals leave in the shortest window, see [`Pace`].
    pub fn start_within(&self) -> Option<Duration> {
        let windows = self.windows.iter().map(|counted| counted.window.unit());
        let host = self.host.map(|host| host.every.max(SHORTEST_WINDOW));
        windows.chain(host).min().map(|unit| unit / 20)
    }
}

impl HostPace {
    /// Whether a pace has become so much faster that what was put off by the old one is worth another look: by a second for
    /// each start, or more.
    pub fn is_much_faster(before: Option<Self>, after: Option<Self>) -> bool {
        Self::every(before) >= Self::every(after) + SHORTEST_WINDOW
    }

    /// The shortest time between two starts; none where no pace is asked for.
    fn every(pace: Option<Self>) -> Duration {
        pace.map_or(Duration::ZERO, |pace| pace.every)
    }

    /// The time between two starts, stretched as that of a window is.
    fn stretched(self) -> Duration {
        self.every * STRETCH_PERCENT / 100
    }
}

impl PaceState {
    /// A host has just asked for another pace than it did, or was seen to bear one. A slower one holds from that answer on,
    /// as if it were a start, whoever got it; what was put off for longer than by a faster one is not any more. True if it
    /// is faster, so that whoever waits may look.
    pub fn host_pace_changed(
        &mut self,
        before: Option<HostPace>,
        after: Option<HostPace>,
        now: Duration,
    ) -> bool {
        let until = now + after.map_or(Duration::ZERO, HostPace::stretched);
        let change = HostPace::every(after).cmp(&HostPace::every(before));
        if change != Ordering::Equal {
            self.set_host(until, change == Ordering::Greater);
        }
        change == Ordering::Less
    }
}

#[cfg(test)]
mod tests;
