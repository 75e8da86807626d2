//! A host's pace in words: the slowest of its controllers, and how long jobs take by it.

use std::time::Duration;

use longhaul_limiter::{Controller, Lane, LaneRules, Pace, Role};
use longhaul_queue_core::LaneRow;

/// Whose pace it is, for people.
pub(crate) fn controller_text(controller: Controller) -> &'static str {
    match controller {
        Controller::Configured => "its configured pace",
        Controller::CrawlDelay => "its robots.txt asks for this pace",
        Controller::Announced => "it announces this limit",
        Controller::Learned => "it was seen to bear this pace",
    }
}

/// The slowest pace of a host for artifacts, which is what most requests are for.
#[derive(Debug)]
pub(crate) struct InForce {
    /// As people read it.
    pub(crate) text: String,
    pub(crate) controller: Controller,
    configured: Pace,
    every: Duration,
}

impl InForce {
    /// `None` if nothing limits how often the host is asked.
    ///
    /// `rules` are those of all processes: the strictest binds them all.
    pub(crate) fn new(row: &LaneRow, rules: &[LaneRules]) -> Option<Self> {
        // Of all the one by which what is queued takes longest.
        let starts = row.queued.max(2);
        let configured = strictest(rules, &row.lane, Role::Artifact, starts);
        let host = row.pace.as_ref().map(|pace| (pace.controller, Duration::from_micros(pace.every_us)));
        let host = host.filter(|(_, every)| of_host(*every, starts) > of_configured(configured, starts));
        let (controller, every, text) = match host {
            Some((controller, every)) => (controller, every, rate(every)),
            None if configured.is_off() => return None,
            None => (Controller::Configured, Duration::ZERO, configured.to_string()),
        };
        Some(Self { text, controller, configured: configured.clone(), every })
    }

    /// How long so many starts take at least.
    pub(crate) fn takes(&self, starts: u64) -> Duration {
        of_configured(&self.configured, starts).max(of_host(self.every, starts))
    }
}

/// Of the paces of all processes the one by which so many starts take longest.
pub(crate) fn strictest<'r>(rules: &'r [LaneRules], lane: &Lane, role: Role, starts: u64) -> &'r Pace {
    static OFF: Pace = Pace::OFF;
    let paces = rules.iter().map(|rules| rules.pace(lane, role).0);
    paces.max_by_key(|pace| of_configured(pace, starts)).unwrap_or(&OFF)
}

/// Of the caps of all processes the least. Each gives by its own.
pub(crate) fn least_cap(rules: &[LaneRules], lane: &Lane) -> Option<u32> {
    rules.iter().filter_map(|rules| rules.cap(lane)).min()
}

fn of_configured(pace: &Pace, starts: u64) -> Duration {
    let windows = pace.windows().iter();
    let longest = windows.map(|window| window.interval().saturating_mul(many(starts, window.burst()))).max();
    longest.unwrap_or_default()
}

fn of_host(every: Duration, starts: u64) -> Duration {
    (every * 11 / 10).saturating_mul(many(starts, 1))
}

/// The starts that wait for others.
fn many(starts: u64, burst: u32) -> u32 {
    u32::try_from(starts.saturating_sub(u64::from(burst))).unwrap_or(u32::MAX)
}

/// A time between two starts as a rate.
fn rate(every: Duration) -> String {
    let seconds = every.as_secs_f64();
    let shown = |number: f64| format!("{number:.1}").trim_end_matches(".0").to_owned();
    match seconds {
        0.0..1.0 => format!("{}/s", shown(1.0 / seconds)),
        1.0..120.0 => format!("1/{}s", shown(seconds)),
        120.0..7200.0 => format!("1/{}min", shown(seconds / 60.0)),
        _ => format!("1/{}h", shown(seconds / 3600.0)),
    }
}
