//! What a lane remembers of its starts: what is counted for good, and the grants whose holders may still be late.
//!
//! A grant is one start, counted at its time before it happens. Its holder starts within a short time of that
//! ([`Bounds::start_within`]) or asks again; then the grant is taken back, which leaves exactly the state in which it was
//! never given, and is counted at the time at which the holder is ready. So a late holder loses no turn, and no window
//! ever holds more starts than its limit (INV-PACE): at any moment the counted starts are those that happened and those
//! that may still happen, each at its own time.
//!
//! That is exact because each grant keeps what it counted, and the counts are added up in the order of their times: a
//! grant that is taken out of the middle leaves the others where they are, which are then further apart than they need be.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Scope, Window};
use crate::{Bounds, Role};

/// The key of the host's own pace. It is a time between two starts and not a window: it never adds up.
const HOST: &str = "host";

/// Whom a start is granted to: a job, under one claim of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Claim {
    /// The job's number.
    pub job: i64,
    /// The claim's fence.
    pub fence: i64,
}

/// What a lane remembers of its starts. Serialises as a small JSON object; times are in microseconds since the store's
/// epoch.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct PaceState {
    /// The theoretical arrival time of each (scope, window) by what is counted for good.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    counted: BTreeMap<String, u64>,
    /// Grants that may still be taken back, and what was counted behind them; in the order of their times.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    granted: Vec<Granted>,
}

/// A start that is counted, and may not have happened yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Granted {
    #[serde(flatten)]
    claim: Claim,
    role: Role,
    at: u64,
    /// Its holder has said that it started.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    started: bool,
    /// What it counts, and by how much.
    counts: Vec<(String, u64)>,
}

impl Granted {
    fn counts_in(&self, name: &str) -> Option<u64> {
        self.counts.iter().find(|(counted, _)| counted == name).map(|(_, by)| *by)
    }

    /// Whether the two count in a window together.
    fn meets(&self, other: &Self) -> bool {
        self.counts.iter().any(|(name, _)| other.counts_in(name).is_some())
    }
}

/// A theoretical arrival time once a start is added to it (GCRA; the host's own pace is a mere distance).
fn added(tat: u64, name: &str, at: u64, by: u64) -> u64 {
    if name == HOST { tat.max(at.saturating_add(by)) } else { tat.max(at).saturating_add(by) }
}

impl PaceState {
    /// Whether nothing is remembered.
    pub fn is_empty(&self) -> bool {
        self.counted.is_empty() && self.granted.is_empty()
    }

    /// Forgets what lies before `now`: it equals never having started. A grant whose holder has not said that it started
    /// is kept, since it is to be waited for ([`Bounds::has_room`]).
    pub fn forget_before(&mut self, now: Duration) {
        self.settle();
        let now = micros(now);
        self.counted.retain(|_, tat| *tat > now);
    }

    /// The grant of a role is used: its request has started. True if it was not known to be.
    pub fn started(&mut self, claim: Claim, role: Role) -> bool {
        self.mark(|granted| granted.claim == claim && granted.role == role)
    }

    /// All grants of a claim are spent, used or not. True if one was not known to be.
    pub fn spent(&mut self, claim: Claim) -> bool {
        self.mark(|granted| granted.claim == claim)
    }

    fn mark(&mut self, is_meant: impl Fn(&Granted) -> bool) -> bool {
        let mut changed = false;
        for granted in self.granted.iter_mut().filter(|granted| !granted.started && is_meant(granted)) {
            granted.started = true;
            changed = true;
        }
        if changed {
            self.settle();
        }
        changed
    }

    /// Takes back what a claim was granted for a role and has not used. True if there was any.
    pub fn take_back(&mut self, claim: Claim, role: Role) -> bool {
        self.remove(|granted| granted.claim == claim && granted.role == role)
    }

    /// Takes back what a claim was granted for a role, in windows of `bounds`, and has not used, so that it can be counted at
    /// another time. True if there was any.
    pub fn take_back_from(&mut self, claim: Claim, role: Role, bounds: &Bounds) -> bool {
        self.remove(|granted| granted.claim == claim && granted.role == role && granted.is_bound_by(bounds))
    }

    /// What a claim was granted in windows of `bounds` is spent. True if it was not known to be.
    pub fn spent_in(&mut self, claim: Claim, bounds: &Bounds) -> bool {
        self.mark(|granted| granted.claim == claim && granted.is_bound_by(bounds))
    }

    fn remove(&mut self, is_meant: impl Fn(&Granted) -> bool) -> bool {
        let before = self.granted.len();
        self.granted.retain(|granted| granted.started || !is_meant(granted));
        let changed = self.granted.len() < before;
        if changed {
            self.settle();
        }
        changed
    }

    /// The claims that have not said that they started, in the windows of `bounds`.
    pub fn waited_for(&self, bounds: &Bounds) -> impl Iterator<Item = Claim> {
        let waited_for =
            self.granted.iter().filter(|granted| !granted.started && granted.is_bound_by(bounds));
        waited_for.map(|granted| granted.claim)
    }

    /// Counts a start for good.
    pub(crate) fn count(&mut self, counts: Vec<(String, Duration)>, at: Duration) {
        self.insert(Claim { job: 0, fence: 0 }, Role::Artifact, counts, at, true);
    }

    /// Counts a start that can be taken back.
    pub(crate) fn grant(&mut self, claim: Claim, role: Role, counts: Vec<(String, Duration)>, at: Duration) {
        self.insert(claim, role, counts, at, false);
    }

    fn insert(
        &mut self,
        claim: Claim,
        role: Role,
        counts: Vec<(String, Duration)>,
        at: Duration,
        started: bool,
    ) {
        let at = micros(at);
        let counts = counts.into_iter().map(|(name, by)| (name, micros(by))).collect();
        let place = self.granted.partition_point(|granted| granted.at <= at);
        self.granted.insert(place, Granted { claim, role, at, started, counts });
        self.settle();
    }

    /// Counts for good what has started and is behind nothing that may be taken back.
    fn settle(&mut self) {
        let mut kept: Vec<Granted> = Vec::new();
        for granted in std::mem::take(&mut self.granted) {
            if !granted.started || kept.iter().any(|earlier| earlier.meets(&granted)) {
                kept.push(granted);
                continue;
            }
            for (name, by) in granted.counts {
                let tat = self.counted.entry(name.clone()).or_default();
                *tat = added(*tat, &name, granted.at, by);
            }
        }
        self.granted = kept;
    }

    /// The theoretical arrival time of a window, with all that is granted.
    pub(crate) fn tat(&self, name: &str) -> Duration {
        let counted = self.counted.get(name).copied().unwrap_or(0);
        let granted = self.granted.iter().filter_map(|granted| Some((granted.at, granted.counts_in(name)?)));
        Duration::from_micros(granted.fold(counted, |tat, (at, by)| added(tat, name, at, by)))
    }

    /// The earliest time at which the host's own pace allows a start.
    pub(crate) fn host_opens(&self) -> Duration {
        self.tat(HOST)
    }

    /// The host has another pace from now on. What was counted in its old one stays where it is, also if a grant is taken
    /// back; nothing starts before `until` if `slower`, and nothing is put off beyond it otherwise.
    pub(crate) fn set_host(&mut self, until: Duration, slower: bool) {
        let mut tat = micros(self.host_opens());
        for granted in &mut self.granted {
            granted.counts.retain(|(name, _)| name != HOST);
        }
        tat = if slower { tat.max(micros(until)) } else { tat.min(micros(until)) };
        self.counted.insert(HOST.to_owned(), tat);
        self.settle();
    }
}

impl Granted {
    fn is_bound_by(&self, bounds: &Bounds) -> bool {
        bounds.names().any(|name| self.counts_in(&name).is_some())
    }
}

/// What the host's own pace is counted under.
pub(crate) fn host_key() -> String {
    HOST.to_owned()
}

/// What a window is counted under. The unit belongs into the key, the limit does not: a changed limit goes on from the
/// time that was reached.
pub(crate) fn window_key(scope: Scope, window: &Window) -> String {
    format!("{}/{}ms", scope.as_str(), window.unit().as_millis())
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
