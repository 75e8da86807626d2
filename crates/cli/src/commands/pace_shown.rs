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
        let host = row.pace.as_ref().map(|pace| (pace.controller, Duration::from_micros(pace.every_us)));
        // Of a configured pace with several windows the one that is slower in the long run is compared.
        let long_run = configured.windows().iter().map(|window| window.unit() / window.limit()).max();
        let (controller, every) = match (host, long_run) {
            (None, None) => return None,
            (Some((controller, every)), Some(configured)) if every > configured => (controller, every),
            (Some((controller, every)), None) => (controller, every),
            (_, Some(_)) => (Controller::Configured, Duration::ZERO),
        };
        let text = match controller {
            Controller::Configured => configured.to_string(),
            _ => rate(every),
        };
        Some(Self { text, controller, configured: configured.clone(), every })
    }

    /// How long so many starts take at least.
    pub(crate) fn takes(&self, starts: u64) -> Duration {
        let many = |starts: u64| u32::try_from(starts).unwrap_or(u32::MAX);
        let configured = self.configured.windows().iter().map(|window| {
            window.interval().saturating_mul(many(starts.saturating_sub(u64::from(window.burst()))))
        });
        let host = (self.every * 11 / 10).saturating_mul(many(starts.saturating_sub(1)));
        configured.chain([host]).max().unwrap_or_default()
    }
}

/// A time between two starts as a rate.
fn rate(every: Duration) -> String {
    let seconds = every.as_secs_f64();
    let shown = |number: f64| format!("{number:.1}").trim_end_matches(".0").to_owned();
    if seconds >= 1.0 { format!("1/{}s", shown(seconds)) } else { format!("{}/s", shown(1.0 / seconds)) }
}
