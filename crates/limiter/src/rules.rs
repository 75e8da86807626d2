//! What is configured for which lane: caps and paces, with the documented defaults.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Keying, Lane, Pace, Role, Scope};

/// What lies under [`Lane::NONE`].
static NO_PACE: Pace = Pace::OFF;

/// The paces of one lane.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Paces {
    /// One pace and one count for all roles together.
    Shared(Pace),
    /// A pace and a count for each role.
    PerRole {
        /// For resolvers' API calls.
        metadata: Pace,
        /// For landing pages and robots.txt.
        landing: Pace,
        /// For the artifacts themselves.
        artifact: Pace,
    },
}

impl Paces {
    /// The pace that holds for a role, and with whom it is counted.
    pub fn of(&self, role: Role) -> (&Pace, Scope) {
        match self {
            Paces::Shared(pace) => (pace, Scope::Shared),
            Paces::PerRole { metadata, landing, artifact } => {
                let pace = match role {
                    Role::Metadata => metadata,
                    Role::Landing => landing,
                    Role::Artifact => artifact,
                };
                (pace, Scope::Role(role))
            }
        }
    }
}

/// Cap and paces of one lane.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaneLimits {
    /// How many requests may be in flight over all roles; `None` is the cap of [`LaneRules::any`] for a named
    /// host, and no cap in `any` itself.
    pub cap: Option<u32>,
    /// How often requests may start.
    pub paces: Paces,
}

impl LaneLimits {
    /// Neither cap nor pace.
    pub const NONE: LaneLimits = LaneLimits { cap: None, paces: Paces::Shared(Pace::OFF) };
}

/// What a process is configured to do to whom. Sent with every request to the queue, so that the store applies
/// exactly what the asking process was told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaneRules {
    /// How hosts become lanes.
    pub keying: Keying,
    /// For every lane that is not named.
    pub any: LaneLimits,
    /// For named lanes.
    pub hosts: BTreeMap<Lane, LaneLimits>,
}

impl LaneRules {
    /// No cap and no pace for anybody: for work that presses on no host.
    pub fn unlimited() -> Self {
        Self { keying: Keying::default(), any: LaneLimits::NONE, hosts: BTreeMap::new() }
    }

    /// Whether any lane has a cap.
    pub fn has_caps(&self) -> bool {
        self.any.cap.is_some() || self.hosts.values().any(|limits| limits.cap.is_some())
    }

    /// The cap of a lane; `None` is no cap. [`Lane::NONE`] never has one.
    pub fn cap(&self, lane: &Lane) -> Option<u32> {
        if lane.is_none() {
            return None;
        }
        self.hosts.get(lane).and_then(|limits| limits.cap).or(self.any.cap)
    }

    /// The pace of a lane for a role, and with whom it is counted. [`Lane::NONE`] never has one.
    pub fn pace(&self, lane: &Lane, role: Role) -> (&Pace, Scope) {
        if lane.is_none() {
            return (&NO_PACE, Scope::Shared);
        }
        self.hosts.get(lane).unwrap_or(&self.any).paces.of(role)
    }
}

/// The documented defaults: four in flight a host, and paces that the providers' own pages allow.
impl Default for LaneRules {
    fn default() -> Self {
        let rate = |limit, seconds| {
            crate::Window::new(limit, std::time::Duration::from_secs(seconds), 1)
                .map_or(Pace::OFF, |w| Pace::of([w]))
        };
        let both = |a: Pace, b: Pace| Pace::of(a.windows().iter().chain(b.windows()).copied());
        let mut hosts = BTreeMap::new();
        let mut named = |host: &str, cap, paces| {
            // The names below are host names, so `Lane::new` accepts them.
            if let Ok(lane) = Lane::new(host) {
                hosts.insert(lane, LaneLimits { cap, paces });
            }
        };
        // https://www.crossref.org/documentation/retrieve-metadata/rest-api/access-and-authentication/: 5/s and
        // one at a time without a contact address; 10/s and three with one (the composition root raises it).
        named("api.crossref.org", Some(1), Paces::Shared(rate(5, 1)));
        // https://info.arxiv.org/help/api/tou.html: one request every three seconds, one connection at a time.
        named("arxiv.org", Some(1), Paces::Shared(rate(1, 3)));
        // https://unpaywall.org/products/api: 100,000 calls a day.
        named("api.unpaywall.org", None, Paces::Shared(both(rate(10, 1), rate(100_000, 86_400))));
        // https://docs.openalex.org/how-to-use-the-api/rate-limits-and-authentication: 10/s.
        named("api.openalex.org", None, Paces::Shared(rate(10, 1)));
        // The Internet Archive asks for restraint and publishes no number; these are its SDK's habits.
        named(
            "archive.org",
            None,
            Paces::PerRole {
                metadata: both(rate(10, 1), rate(3_000, 3_600)),
                landing: rate(5, 1),
                artifact: both(rate(3, 1), rate(300, 60)),
            },
        );
        let mut aliases = BTreeMap::new();
        if let (Ok(from), Ok(to)) = (Lane::new("export.arxiv.org"), Lane::new("arxiv.org")) {
            aliases.insert(from, to);
        }
        Self {
            keying: Keying { registrable_domain: false, aliases },
            any: LaneLimits {
                cap: Some(4),
                paces: Paces::PerRole {
                    metadata: both(rate(10, 1), rate(5_000, 3_600)),
                    landing: both(rate(5, 1), rate(2_000, 3_600)),
                    artifact: both(rate(2, 1), rate(500, 3_600)),
                },
            },
            hosts,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn the_defaults_are_the_documented_ones() {
        let rules = LaneRules::default();
        let lane = |host: &str| Lane::new(host).unwrap();
        let shown = |host: &str, role| rules.pace(&lane(host), role).0.to_string();
        assert_eq!(rules.cap(&lane("example.org")), Some(4));
        assert_eq!(shown("example.org", Role::Artifact), "2/s+500/h");
        assert_eq!(shown("example.org", Role::Landing), "5/s+2000/h");
        assert_eq!(shown("example.org", Role::Metadata), "10/s+5000/h");
        assert_eq!(rules.cap(&lane("arxiv.org")), Some(1));
        assert_eq!(shown("arxiv.org", Role::Artifact), "1/3s");
        assert_eq!(rules.pace(&lane("arxiv.org"), Role::Landing).1, Scope::Shared);
        assert_eq!(shown("archive.org", Role::Artifact), "3/s+300/min");
        assert_eq!(rules.cap(&Lane::NONE), None);
        assert!(rules.pace(&Lane::NONE, Role::Artifact).0.is_off());
    }

    #[test]
    fn rules_survive_their_json() {
        let rules = LaneRules::default();
        let json = serde_json::to_string(&rules).unwrap();
        assert_eq!(serde_json::from_str::<LaneRules>(&json).unwrap(), rules);
    }
}
