//! What a process says of its limits to the others on its queue: one short text.
//!
//! It is for comparing, for showing, and for binding: each request to the queue carries the [`LaneRules`] of the process
//! that asks, and is bound by the paces that the others state as well (see [`crate::Bounds`]).

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use crate::{Lane, LaneLimits, LaneRules, Pace, Paces, Role};

/// The name of what holds for every host that is not named.
const ANY: &str = "*";
/// Between two hosts. A [`crate::Lane`] holds no white space.
const BETWEEN: &str = "; ";
/// What a host without a value of its own has.
const INHERITED: &str = "as any host";

/// Caps and paces as one text, the same for the same [`LaneRules`]:
/// `* cap=4 pace=2/s+500/h; arxiv.org cap=1 pace=1/3s`. A host without a cap of its own has none in the text.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StatedLimits(String);

/// A value that two processes do not share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitDifference {
    /// Which value: `cap of any host`, `pace of arxiv.org`.
    pub what: String,
    /// What the one has.
    pub ours: String,
    /// What the other has.
    pub theirs: String,
}

impl StatedLimits {
    /// The text that [`StatedLimits::as_str`] gave, perhaps in another version of this program; nothing is refused.
    pub fn from_text(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Each value by its name, as in [`LimitDifference::what`].
    pub fn values(&self) -> BTreeMap<String, &str> {
        let mut values = BTreeMap::new();
        for host in self.0.split(BETWEEN) {
            let mut words = host.split_whitespace();
            let name = words.next().unwrap_or_default();
            let whose = if name == ANY { "any host" } else { name };
            let pairs = words.filter_map(|word| word.split_once('='));
            values.extend(pairs.map(|(key, value)| (format!("{key} of {whose}"), value)));
        }
        values
    }

    /// The caps and paces that are stated. What cannot be read, of a newer version or a damaged row, binds nobody; how
    /// hosts become lanes is not part of the text.
    pub fn rules(&self) -> LaneRules {
        let mut rules = LaneRules::unlimited();
        for host in self.0.split(BETWEEN) {
            let mut words = host.split_whitespace();
            let name = words.next().unwrap_or_default();
            let (mut cap, mut paces) = (None, None);
            for (key, value) in words.filter_map(|word| word.split_once('=')) {
                match key {
                    "cap" => cap = value.parse().ok(),
                    "pace" => paces = read_paces(value),
                    _ => {}
                }
            }
            if name == ANY {
                rules.any = LaneLimits { cap, paces: paces.unwrap_or(LaneLimits::NONE.paces) };
            } else if let Some(lane) = Lane::new(name).ok().filter(|lane| !lane.is_none()) {
                let paces = paces.unwrap_or_else(|| rules.any.paces.clone());
                rules.hosts.insert(lane, LaneLimits { cap, paces });
            }
        }
        rules
    }

    /// Where the two differ, by name; empty if nowhere.
    pub fn differences(&self, other: &StatedLimits) -> Vec<LimitDifference> {
        let (ours, theirs) = (self.values(), other.values());
        let names = ours.keys().chain(theirs.keys().filter(|name| !ours.contains_key(*name)));
        let of = |values: &BTreeMap<String, &str>, name| (*values.get(name).unwrap_or(&INHERITED)).to_owned();
        let mut found: Vec<LimitDifference> = names
            .map(|name| LimitDifference {
                what: name.clone(),
                ours: of(&ours, name),
                theirs: of(&theirs, name),
            })
            .filter(|one| one.ours != one.theirs)
            .collect();
        found.sort_by(|one, next| one.what.cmp(&next.what));
        found
    }
}

impl From<&LaneRules> for StatedLimits {
    fn from(rules: &LaneRules) -> Self {
        let mut text = String::from(ANY);
        if rules.any.cap.is_none() {
            text.push_str(" cap=none");
        }
        state(&mut text, &rules.any);
        for (lane, limits) in &rules.hosts {
            text.extend([BETWEEN, lane.as_str()]);
            state(&mut text, limits);
        }
        Self(text)
    }
}

/// Appends the values of one host.
fn state(text: &mut String, limits: &LaneLimits) {
    // Writing to a text does not fail.
    if let Some(cap) = limits.cap {
        let _ = write!(text, " cap={cap}");
    }
    let _ = match &limits.paces {
        Paces::Shared(pace) => write!(text, " pace={pace}"),
        Paces::PerRole { metadata, landing, artifact } => {
            let [of_metadata, of_landing, of_artifact] =
                [Role::Metadata, Role::Landing, Role::Artifact].map(Role::as_str);
            write!(text, " pace={of_metadata}:{metadata},{of_landing}:{landing},{of_artifact}:{artifact}")
        }
    };
}

/// Paces as [`state`] writes them.
fn read_paces(text: &str) -> Option<Paces> {
    if !text.contains(':') {
        return text.parse().ok().map(Paces::Shared);
    }
    let of = |role: Role| {
        let mut paces = text.split(',').filter_map(|pace| pace.split_once(':'));
        paces.find(|(name, _)| *name == role.as_str())?.1.parse::<Pace>().ok()
    };
    Some(Paces::PerRole {
        metadata: of(Role::Metadata)?,
        landing: of(Role::Landing)?,
        artifact: of(Role::Artifact)?,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn stated(change: impl FnOnce(&mut LaneRules)) -> StatedLimits {
        let mut rules = LaneRules::default();
        change(&mut rules);
        StatedLimits::from(&rules)
    }

    fn lane(host: &str) -> Lane {
        Lane::new(host).unwrap()
    }

    /// Other versions of the program read it, so it stays as it is.
    #[test]
    fn the_text_of_the_defaults() {
        assert_eq!(
            stated(|_| {}).as_str(),
            "* cap=4 pace=metadata:10/s+5000/h,landing:5/s+2000/h,artifact:2/s+500/h; \
             api.crossref.org cap=1 pace=5/s; api.openalex.org pace=10/s; api.unpaywall.org pace=10/s+100000/d; \
             archive.org pace=metadata:10/s+3000/h,landing:5/s,artifact:3/s+300/min; arxiv.org cap=1 pace=1/3s"
        );
        assert_eq!(StatedLimits::from(&LaneRules::unlimited()).as_str(), "* cap=none pace=off");
    }

    #[test]
    fn equal_rules_differ_nowhere() {
        let named = |rules: &mut LaneRules| {
            rules.hosts.insert(lane("[2001:db8::1]:8443"), LaneLimits::NONE);
        };
        assert_eq!(stated(named).differences(&stated(named)), []);
        assert_eq!(stated(named).values()["pace of [2001:db8::1]:8443"], "off");
    }

    #[test]
    fn each_value_that_differs_is_named_with_both_sides() {
        let ours = stated(|rules| {
            rules.any.cap = Some(1);
            rules.hosts.insert(lane("a.example"), LaneLimits::NONE);
        });
        let theirs = stated(|rules| {
            rules.any.paces = Paces::Shared(Pace::OFF);
            rules.hosts.remove("arxiv.org");
        });
        let found = ours.differences(&theirs);
        let shown: Vec<String> =
            found.iter().map(|one| format!("{}: {} | {}", one.what, one.ours, one.theirs)).collect();
        assert_eq!(
            shown,
            [
                "cap of any host: 1 | 4",
                "cap of arxiv.org: 1 | as any host",
                "pace of a.example: off | as any host",
                "pace of any host: metadata:10/s+5000/h,landing:5/s+2000/h,artifact:2/s+500/h | off",
                "pace of arxiv.org: 1/3s | as any host",
            ]
        );
        let back: Vec<_> = theirs.differences(&ours).into_iter().map(|one| (one.theirs, one.ours)).collect();
        assert_eq!(back, found.into_iter().map(|one| (one.ours, one.theirs)).collect::<Vec<_>>());
    }

    /// Others are bound by it, so nothing may be lost on the way.
    #[test]
    fn the_rules_are_read_back() {
        let mut rules = LaneRules::default();
        rules
            .hosts
            .insert(lane("slow.example"), LaneLimits { cap: Some(2), paces: Paces::Shared(Pace::OFF) });
        let read = StatedLimits::from(&rules).rules();
        assert_eq!((&read.any, &read.hosts), (&rules.any, &rules.hosts));
        let read = StatedLimits::from(&LaneRules::unlimited()).rules();
        assert_eq!(read, LaneRules::unlimited());
        for text in ["", "* pace=soon cap=-1", "* pace=artifact:1/s", "a/b pace=1/s"] {
            assert_eq!(StatedLimits::from_text(text).rules(), LaneRules::unlimited(), "{text:?}");
        }
    }

    /// A newer program may say more than this one knows, and a damaged row anything.
    #[test]
    fn any_text_can_be_compared() {
        let ours = stated(|_| {});
        let more = StatedLimits::from_text(format!("{} burst=3", ours.as_str()));
        assert_eq!(ours.differences(&more).len(), 1);
        for text in ["", "; ;", "=", "* cap", "\u{1b}[2J"] {
            assert!(!ours.differences(&StatedLimits::from_text(text)).is_empty(), "{text:?}");
        }
    }
}
