//! Rules for lanes as cases need them.

use std::collections::BTreeMap;
use std::sync::Arc;

use longhaul_limiter::{Keying, LaneLimits, LaneRules, Pace, Paces};

use crate::Lane;

pub(super) fn unlimited() -> Arc<LaneRules> {
    Arc::new(LaneRules::unlimited())
}

/// Every host has this cap, and no pace.
pub(super) fn capped(cap: u32) -> Arc<LaneRules> {
    any(Some(cap), Paces::Shared(Pace::OFF))
}

/// Every host has this pace over all roles, and no cap.
pub(super) fn paced(pace: &str) -> Arc<LaneRules> {
    any(None, Paces::Shared(rate(pace)))
}

/// Every host has this cap and this pace over all roles.
pub(super) fn capped_and_paced(cap: u32, pace: &str) -> Arc<LaneRules> {
    any(Some(cap), Paces::Shared(rate(pace)))
}

/// Every host has these paces by role.
pub(super) fn paced_by_role(metadata: &str, landing: &str, artifact: &str) -> Arc<LaneRules> {
    let paces = Paces::PerRole { metadata: rate(metadata), landing: rate(landing), artifact: rate(artifact) };
    any(None, paces)
}

/// One host has a cap of its own.
pub(super) fn capped_host(cap: u32, host: &str, own: u32) -> Arc<LaneRules> {
    let limits = LaneLimits { cap: Some(own), paces: Paces::Shared(Pace::OFF) };
    let mut rules = (*capped(cap)).clone();
    rules.hosts.insert(lane(host), limits);
    Arc::new(rules)
}

/// Only this host has a cap.
pub(super) fn one_capped(host: &str, cap: u32) -> Arc<LaneRules> {
    only_of(host, LaneLimits { cap: Some(cap), paces: Paces::Shared(Pace::OFF) })
}

/// Only this host has a pace.
pub(super) fn paced_host(host: &str, pace: &str) -> Arc<LaneRules> {
    only_of(host, LaneLimits { cap: None, paces: Paces::Shared(rate(pace)) })
}

fn only_of(host: &str, limits: LaneLimits) -> Arc<LaneRules> {
    let mut rules = LaneRules::unlimited();
    rules.hosts.insert(lane(host), limits);
    Arc::new(rules)
}

fn any(cap: Option<u32>, paces: Paces) -> Arc<LaneRules> {
    Arc::new(LaneRules { keying: Keying::default(), any: LaneLimits { cap, paces }, hosts: BTreeMap::new() })
}

fn rate(text: &str) -> Pace {
    text.parse().expect("a rate")
}

/// The lane of a host; that of nobody for the empty name.
pub(super) fn lane(host: &str) -> Lane {
    Lane::new(host).expect("a lane")
}
