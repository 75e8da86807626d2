//! The caps and paces of a run: the documented defaults, and what the command line changes in them.

use std::sync::Arc;
use std::time::Duration;

use longhaul_limiter::{
    BucketConfig, ConfiguredLimits, Key, Keying, Lane, LaneLimits, LaneRules, Pace, Paces, Role, TokenBucket,
    Window,
};
use longhaul_queue_core::{StatedLimits, WorkerRow};

use crate::args::{HostLimit, HostRate, LimitArgs, RunArgs};
use crate::config::SettingError;

/// The rules of a run.
pub(crate) fn lane_rules(args: &RunArgs, keying: Keying) -> Result<LaneRules, SettingError> {
    made_of(keying, args.max_per_host, args.contact.is_some(), &args.rate)
}

/// What the process allows itself beside them.
pub(crate) fn process(args: &RunArgs, rules: Arc<LaneRules>) -> Result<ConfiguredLimits, SettingError> {
    let mut limits = ConfiguredLimits::new(rules);
    for one in &args.max_per_resolver {
        limits.keyed.set_limit(Key::resolver(&one.name), Some(one.cap));
    }
    if let Some(rate) = args.max_bandwidth {
        // Room for a quarter of a second: no burst that anybody would call one.
        let bucket = TokenBucket::new(BucketConfig::per_second(rate, rate / 4)).map_err(|error| {
            SettingError { flag: "max_bandwidth", message: format!("--max-bandwidth: {error}") }
        })?;
        limits.bytes = Some(bucket);
    }
    Ok(limits)
}

/// The rules by which the runs at work go, each that differs, the longest at work first; if none is, those of runs that are
/// started with these flags. Never empty.
pub(crate) fn in_force(
    args: &LimitArgs,
    keying: &Keying,
    workers: &[WorkerRow],
) -> Result<Vec<LaneRules>, SettingError> {
    let of_flags = rules(args, keying.clone())?;
    let mut at_work: Vec<_> = workers.iter().filter(|worker| worker.alive).collect();
    at_work.sort_by_key(|worker| worker.started_at);
    let mut stated: Vec<&StatedLimits> = Vec::new();
    for limits in at_work.into_iter().filter_map(|worker| worker.limits.as_ref()) {
        if !stated.contains(&limits) {
            stated.push(limits);
        }
    }
    let rules = |limits: &&StatedLimits| LaneRules { keying: keying.clone(), ..limits.rules() };
    Ok(if stated.is_empty() { vec![of_flags] } else { stated.iter().map(rules).collect() })
}

/// The rules of runs that are started with these flags.
pub(crate) fn rules(args: &LimitArgs, keying: Keying) -> Result<LaneRules, SettingError> {
    made_of(keying, args.max_per_host, args.contact.is_some(), &args.rate)
}

fn made_of(
    keying: Keying,
    max_per_host: u32,
    has_contact: bool,
    rates: &[HostRate],
) -> Result<LaneRules, SettingError> {
    let mut rules = LaneRules { keying, ..LaneRules::default() };
    rules.any.cap = Some(max_per_host);
    if has_contact {
        with_contact(&mut rules);
    }
    // First what holds for any host: a host of which only a part is named has the rest from there.
    for rate in rates.iter().filter(|rate| rate.host.is_none()) {
        apply(&mut rules.any, &rate.limit);
    }
    for rate in rates {
        let Some(host) = &rate.host else { continue };
        let lane = rules
            .keying
            .lane(host)
            .map_err(|error| SettingError { flag: "rate", message: format!("--rate: {error}") })?;
        let like_any = LaneLimits { cap: None, paces: rules.any.paces.clone() };
        apply(rules.hosts.entry(lane).or_insert(like_any), &rate.limit);
    }
    Ok(rules)
}

fn apply(limits: &mut LaneLimits, limit: &HostLimit) {
    match limit {
        HostLimit::Pace(pace) => limits.paces = Paces::Shared(pace.clone()),
        HostLimit::RolePace(role, pace) => {
            // From now on each role is counted for itself, at the pace that all had together.
            let of = |one: Role| if one == *role { pace.clone() } else { limits.paces.of(one).0.clone() };
            limits.paces = Paces::PerRole {
                metadata: of(Role::Metadata),
                landing: of(Role::Landing),
                artifact: of(Role::Artifact),
            };
        }
        HostLimit::Cap(cap) => limits.cap = Some(*cap),
    }
}

/// Crossref gives more to those whom it can reach:
/// <https://www.crossref.org/documentation/retrieve-metadata/rest-api/access-and-authentication/>.
fn with_contact(rules: &mut LaneRules) {
    let window = Window::new(10, Duration::from_secs(1), 1);
    if let (Ok(lane), Ok(window)) = (Lane::new("api.crossref.org"), window) {
        rules.hosts.insert(lane, LaneLimits { cap: Some(3), paces: Paces::Shared(Pace::of([window])) });
    }
}

/// What holds for a host that is not named, in one line for people: `4 at a time, 2/s+500/h`.
pub(crate) fn shown(rules: &LaneRules) -> String {
    let (pace, _) = rules.any.paces.of(Role::Artifact);
    let pace = if pace.is_off() { "as fast as it answers".to_owned() } else { pace.to_string() };
    match rules.any.cap {
        Some(cap) => format!("{cap} at a time, {pace}"),
        None => pace,
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::{Cli, Command, QueueCommand};

    fn rules(flags: &[&str]) -> LaneRules {
        let line = ["longhaul", "queue", "run"].iter().chain(flags);
        let cli = Cli::try_parse_from(line).unwrap();
        match cli.command {
            Command::Queue(QueueCommand::Run(args)) => lane_rules(&args, cli.global.keying()).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    fn pace(rules: &LaneRules, host: &str, role: Role) -> String {
        rules.pace(&Lane::new(host).unwrap(), role).0.to_string()
    }

    #[test]
    fn a_rate_for_any_host_leaves_listed_hosts_alone() {
        let rules = rules(&["--rate", "*=20/s"]);
        for role in Role::ALL {
            assert_eq!(pace(&rules, "example.org", role), "20/s");
        }
        assert_eq!(pace(&rules, "arxiv.org", Role::Artifact), "1/3s");
    }

    #[test]
    fn a_listed_host_changes_by_name_alone_and_keeps_its_cap() {
        let rules = rules(&["--rate", "export.arxiv.org=1/5s", "--rate", "example.org:8443=off"]);
        let arxiv = Lane::new("arxiv.org").unwrap();
        assert_eq!(pace(&rules, "arxiv.org", Role::Landing), "1/5s", "both names are one lane");
        assert_eq!(rules.cap(&arxiv), Some(1));
        assert_eq!(pace(&rules, "example.org:8443", Role::Artifact), "off");
        assert_eq!(pace(&rules, "example.org", Role::Artifact), "2/s+500/h");
    }

    #[test]
    fn a_role_has_a_pace_of_its_own_and_a_host_a_cap() {
        let rules = rules(&[
            "--rate",
            "example.org=artifact:1/3s,example.org=cap:2,arxiv.org=landing:off",
            "--rate",
            "*=landing:1/s",
        ]);
        let example = Lane::new("example.org").unwrap();
        assert_eq!(rules.cap(&example), Some(2));
        assert_eq!(pace(&rules, "example.org", Role::Artifact), "1/3s");
        assert_eq!(pace(&rules, "example.org", Role::Landing), "1/s", "as any host, wherever that is said");
        assert_eq!(pace(&rules, "example.org", Role::Metadata), "10/s+5000/h");
        assert_eq!(
            (pace(&rules, "arxiv.org", Role::Landing).as_str(), rules.cap(&Lane::new("arxiv.org").unwrap())),
            ("off", Some(1))
        );
        assert_eq!(pace(&rules, "arxiv.org", Role::Artifact), "1/3s");
        assert_eq!(rules.cap(&Lane::new("other.example").unwrap()), Some(4));
    }

    #[test]
    fn a_domain_is_one_host_on_request() {
        let line = ["longhaul", "queue", "run", "--registrable-domain", "--rate", "cdn.example.co.uk=1/s"];
        let cli = Cli::try_parse_from(line).unwrap();
        let Command::Queue(QueueCommand::Run(args)) = cli.command else { panic!("{:?}", cli.command) };
        let rules = lane_rules(&args, cli.global.keying()).unwrap();
        assert_eq!(pace(&rules, "example.co.uk", Role::Artifact), "1/s");
        assert!(rules.keying.registrable_domain && !rules.keying.aliases.is_empty());
    }

    #[test]
    fn a_contact_raises_what_crossref_gives() {
        let crossref = Lane::new("api.crossref.org").unwrap();
        let without = rules(&[]);
        assert_eq!(
            (without.cap(&crossref), pace(&without, "api.crossref.org", Role::Metadata).as_str()),
            (Some(1), "5/s")
        );
        let with = rules(&["--contact", "you@example.org", "--max-per-host", "2"]);
        assert_eq!(
            (with.cap(&crossref), pace(&with, "api.crossref.org", Role::Metadata).as_str()),
            (Some(3), "10/s")
        );
        assert_eq!(with.cap(&Lane::new("example.org").unwrap()), Some(2));
        let named = rules(&["--contact", "you@example.org", "--rate", "api.crossref.org=1/s"]);
        assert_eq!(pace(&named, "api.crossref.org", Role::Metadata), "1/s");
    }

    #[test]
    fn the_limits_in_force_are_one_line() {
        assert_eq!(shown(&rules(&[])), "4 at a time, 2/s+500/h");
        assert_eq!(shown(&rules(&["--rate", "*=off"])), "4 at a time, as fast as it answers");
    }
}
