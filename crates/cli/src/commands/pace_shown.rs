//! A host's pace in words: the slowest of its controllers, and how long jobs take by it.

use std::time::Duration;

use longhaul_limiter::{Controller, LaneRules, Pace, Role};
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
    pub(crate) fn new(row: &LaneRow, rules: &LaneRules) -> Option<Self> {
        let (configured, _) = rules.pace(&row.lane, Role::Artifact);
        // Of the two the one by which what is queued takes longer.
        let starts = row.queued.max(2);
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
    if seconds >= 1.0 { format!("1/{}s", shown(seconds)) } else { format!("{}/s", shown(1.0 / seconds)) }
}
