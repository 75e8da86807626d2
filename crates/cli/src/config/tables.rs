//! The tables with a key for each host or resolver: `[rate]`, `[headers]`, `[orchestrator.max_per_resolver]`. Flags,
//! environment and file are merged key by key; whoever is stronger has the last word on one.

use clap::ArgMatches;
use longhaul_limiter::{LaneRules, Paces};

use super::file::dotted;
use super::{Configuration, Effective, Kind, Origin, environment, is_given, split};
use crate::args::{HostHeader, HostRate, RunArgs, parse_header, parse_rate, parse_resolver_cap};

impl Configuration {
    /// Puts what the weaker sources say before what the command line or, without it, the environment says.
    pub(crate) fn complete(&self, args: &mut RunArgs, matches: &ArgMatches) {
        self.complete_rates(&mut args.rate, matches);
        let caps = self.weaker(Kind::Counts, "max_per_resolver", matches);
        args.max_per_resolver.splice(..0, caps.iter().filter_map(|(text, _)| parse_resolver_cap(text).ok()));
        let headers = self.weaker(Kind::Headers, "header", matches);
        let headers: Vec<HostHeader> =
            headers.iter().filter_map(|(text, _)| parse_header(text).ok()).collect();
        args.header.splice(..0, headers);
        strongest(&mut args.header);
    }

    /// The same for rates alone, where a command goes by the limits of a run.
    pub(crate) fn complete_rates(&self, rates: &mut Vec<HostRate>, matches: &ArgMatches) {
        let weaker = self.weaker(Kind::Rates, "rate", matches);
        rates.splice(..0, weaker.iter().filter_map(|(text, _)| parse_rate(text).ok()));
    }

    /// All of these were judged before; what is not well-formed has ended the program.
    fn weaker(&self, kind: Kind, id: &str, matches: &ArgMatches) -> Vec<(String, Origin)> {
        let mut texts = self.of_file(kind);
        if is_given(matches, id) {
            texts.extend(self.of_environment(kind));
        }
        texts
    }

    /// One row for each host (and header) that anybody names, with the strongest value; and for rates those that are
    /// built in.
    pub(super) fn effective_table(&self, index: usize, lines: &[&ArgMatches]) -> Vec<Effective> {
        let setting = &self.settings[index];
        let kind = setting.kind;
        let flag = Origin::Flag(setting.flag());
        let given = self.of_flags(index, lines).into_iter().flatten().map(|text| (text, flag.clone()));
        let mut rows: Vec<Effective> = if kind == Kind::Rates { built_in() } else { Vec::new() };
        for (text, origin) in self.of_file(kind).into_iter().chain(self.of_environment(kind)).chain(given) {
            let Some((key, value)) = row(kind, &text) else { continue };
            rows.retain(|row| row.key != key);
            rows.push(Effective { key, kind, values: vec![value], origin });
        }
        rows
    }

    fn of_file(&self, kind: Kind) -> Vec<(String, Origin)> {
        let of_kind = self
            .entries
            .iter()
            .filter(|(index, ..)| self.settings.get(*index).is_some_and(|setting| setting.kind == kind));
        of_kind
            .flat_map(|(_, entry, values)| values.iter().map(|value| (value.clone(), self.place(entry))))
            .collect()
    }

    fn of_environment(&self, kind: Kind) -> Vec<(String, Origin)> {
        let of_kind = self.settings.iter().filter(|setting| setting.kind == kind);
        let set = of_kind.filter_map(|setting| environment(setting).map(|set| (setting, set)));
        set.flat_map(|(setting, (variable, text))| {
            let texts = split(setting, &text).into_iter();
            texts.map(move |text| (text, Origin::Environment(variable.clone()))).collect::<Vec<_>>()
        })
        .collect()
    }
}

/// Of several values for one header the last stays.
fn strongest(headers: &mut Vec<HostHeader>) {
    let mut kept: Vec<HostHeader> = Vec::new();
    for header in headers.drain(..) {
        let same = |one: &HostHeader| {
            one.origin.origin() == header.origin.origin() && one.name.eq_ignore_ascii_case(&header.name)
        };
        kept.retain(|one| !same(one));
        kept.push(header);
    }
    *headers = kept;
}

/// Key and value to show; a header's value is not shown.
fn row(kind: Kind, text: &str) -> Option<(String, String)> {
    if kind == Kind::Counts {
        let one = parse_resolver_cap(text).ok()?;
        return Some((dotted(&["orchestrator", "max_per_resolver", &one.name]), one.cap.to_string()));
    }
    if kind == Kind::Rates {
        let rate = parse_rate(text).ok()?;
        let host = match &rate.host {
            None => "*".to_owned(),
            Some(url) => LaneRules::default().keying.lane(url).ok()?.to_string(),
        };
        let path: Vec<&str> = ["rate", &host].into_iter().chain(rate.limit.key()).collect();
        return Some((dotted(&path), rate.limit.value()));
    }
    let header = parse_header(text).ok()?;
    let origin = header.origin.origin().ascii_serialization();
    let host = origin.strip_prefix("https://").unwrap_or(&origin);
    Some((dotted(&["headers", host, &header.name]), "***".to_owned()))
}

fn built_in() -> Vec<Effective> {
    let rules = LaneRules::default();
    let shown = |paces: &Paces| match paces {
        Paces::Shared(pace) => pace.to_string(),
        Paces::PerRole { metadata, landing, artifact } => {
            format!("metadata {metadata}, landing {landing}, artifact {artifact}")
        }
    };
    let named = rules.hosts.iter().map(|(lane, limits)| (lane.to_string(), shown(&limits.paces)));
    std::iter::once(("*".to_owned(), shown(&rules.any.paces)))
        .chain(named)
        .map(|(host, pace)| Effective {
            key: dotted(&["rate", &host]),
            kind: Kind::Rates,
            values: vec![pace],
            origin: Origin::Default,
        })
        .collect()
}
