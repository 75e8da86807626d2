//! The caps and paces of a run: the documented defaults, and what the command line changes in them.

use std::time::Duration;

use longhaul_limiter::{Lane, LaneLimits, LaneRules, Pace, Paces, Role, Window};

use crate::args::{HostRate, LimitArgs, RunArgs};
use crate::config::SettingError;

/// The rules of a run.
pub(crate) fn lane_rules(args: &RunArgs) -> Result<LaneRules, SettingError> {
    made_of(args.max_per_host, args.contact.is_some(), &args.rate)
}

/// The rules of runs that are started with these flags.
pub(crate) fn rules(args: &LimitArgs) -> Result<LaneRules, SettingError> {
    made_of(args.max_per_host, args.contact.is_some(), &args.rate)
}

fn made_of(max_per_host: u32, has_contact: bool, rates: &[HostRate]) -> Result<LaneRules, SettingError> {
    let mut rules = LaneRules::default();
    rules.any.cap = Some(max_per_host);
    if has_contact {
        with_contact(&mut rules);
    }
    for rate in rates {
        let paces = Paces::Shared(rate.pace.clone());
        let Some(host) = &rate.host else {
            rules.any.paces = paces;
            continue;
        };
        let lane = rules
            .keying
            .lane(host)
            .map_err(|error| SettingError { flag: "rate", message: format!("--rate: {error}") })?;
        rules.hosts.entry(lane).or_insert(LaneLimits::NONE).paces = paces;
    }
    Ok(rules)
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
        match Cli::try_parse_from(line).unwrap().command {
            Command::Queue(QueueCommand::Run(args)) => lane_rules(&args).unwrap(),
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
