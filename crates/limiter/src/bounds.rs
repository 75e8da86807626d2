//! What binds the starts in a lane at one moment: all the windows of all the processes that are at work, and the host's
//! own wish.

use std::cmp::Ordering;
use std::time::Duration;

use crate::{Controller, HostPace, Lane, LaneRules, Pace, PaceState, Role, Scope, Window};

/// What the key of the host's own pace is in a [`PaceState`].
const HOST: &str = "host";
/// A host's pace is a time between two starts; whoever counts them does so in windows of a second at least.
const SHORTEST_WINDOW: Duration = Duration::from_secs(1);
/// By how much an interval is stretched, see [`Window::interval`].
const STRETCH_PERCENT: u32 = 110;

/// All that binds the starts of one role in one lane.
///
/// A start is counted in every window of it, also in those of other processes: two that are configured to different
/// paces together start no more than the stricter allows (INV-PACE). Of windows that share a count the strictest holds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Bounds {
    windows: Vec<(Scope, Window)>,
    host: Option<HostPace>,
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
            let shared = self.windows.iter_mut().find(|(s, w)| *s == scope && w.unit() == window.unit());
            match shared {
                Some((_, kept)) => *kept = kept.stricter(window),
                None => self.windows.push((scope, *window)),
            }
        }
    }

    /// Whether nothing binds: a start is neither counted nor put off.
    pub fn is_off(&self) -> bool {
        self.windows.is_empty() && self.host.is_none()
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
        let windows = self.windows.iter().map(|(scope, window)| window.open_at(state.tat(*scope, window)));
        let configured = (windows.max().unwrap_or_default(), Controller::Configured);
        // At its end it no longer holds, so nothing is put off beyond.
        let host = self.host.map(|host| (state.host_opens().min(host.until), host.controller));
        host.into_iter().fold(configured, |slowest, host| if host.0 > slowest.0 { host } else { slowest })
    }

    /// Counts one start at `now` if everything allows it, and says whether it did. Nothing is counted otherwise.
    /// INV-PACE.
    pub fn admit(&self, state: &mut PaceState, now: Duration) -> bool {
        if self.open_at(state) > now {
            return false;
        }
        if !self.is_off() {
            state.begin_start(now);
        }
        for (scope, window) in &self.windows {
            state.count(*scope, window, now);
        }
        if let Some(host) = self.host {
            state.put_host_off(now + host.stretched());
        }
        true
    }

    /// How long after it was counted a start may still happen; `None` if nothing binds it. Half of the slack that the
    /// stretched intervals leave in the shortest window, see [`Pace`].
    pub fn start_within(&self) -> Option<Duration> {
        let windows = self.windows.iter().map(|(_, window)| window.unit());
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
        // What a start put off is moved below, so its refund would no longer leave things as they were.
        self.keep_starts();
        let until = now + after.map_or(Duration::ZERO, HostPace::stretched);
        let change = HostPace::every(after).cmp(&HostPace::every(before));
        match change {
            Ordering::Greater => self.put_host_off(until),
            Ordering::Less => self.lower(HOST, until),
            Ordering::Equal => {}
        }
        change == Ordering::Less
    }

    fn host_opens(&self) -> Duration {
        self.named(HOST)
    }

    fn put_host_off(&mut self, until: Duration) {
        self.raise(HOST, until);
    }
}

#[cfg(test)]
mod tests;
