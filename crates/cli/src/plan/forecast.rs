//! What bounds an import, and what changing a limit would change.

use std::sync::Arc;
use std::time::Duration;

use longhaul_limiter::{Lane, LaneRules, Pace, PaceState, Paces, Role, Window};
use longhaul_queue_core::Result;

use super::simulation::{Model, simulate};

/// So many hosts are named.
const NAMED: usize = 10;
/// A host bounds the whole if alone it would take this part of the time.
const BOUNDS: f64 = 0.9;
/// A change that saves less than this part is not worth naming.
const WORTH: f64 = 0.01;

/// What is in the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Setting {
    /// So many jobs at once.
    Workers(usize),
    /// So many requests in flight to the host.
    Cap(u32),
    /// How often requests to the host start.
    Pace(Pace),
}

impl Setting {
    /// As a code.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Setting::Workers(_) => "workers",
            Setting::Cap(_) => "cap",
            Setting::Pace(_) => "pace",
        }
    }

    /// For people.
    pub(crate) fn shown(&self) -> String {
        match self {
            Setting::Workers(workers) => format!("{workers} workers"),
            Setting::Cap(cap) => format!("{cap} at a time"),
            Setting::Pace(pace) => pace.to_string(),
        }
    }
}

/// A host that takes long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HostForecast {
    pub(crate) lane: Lane,
    pub(crate) artifacts: u64,
    /// How long it would take alone.
    pub(crate) takes: Duration,
    /// What keeps it from being faster.
    pub(crate) by: Setting,
}

/// A change, as flags for `queue run`, and how long it would take then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) flags: String,
    pub(crate) takes: Duration,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Forecast {
    /// From the first request to the last answer.
    pub(crate) takes: Duration,
    /// What bounds the whole: a host, or the workers.
    pub(crate) bound: Option<(Option<Lane>, Setting)>,
    /// The hosts that take longest, the longest first.
    pub(crate) hosts: Vec<HostForecast>,
    /// What would make it faster, the best first.
    pub(crate) changes: Vec<Change>,
}

impl Forecast {
    /// Simulates the run, and further ones with other limits.
    pub(crate) async fn of(model: &Model, hosts: &[(Lane, u64)]) -> Result<Self> {
        let takes = simulate(model, hosts).await?;
        let mut slowest: Vec<HostForecast> =
            hosts.iter().map(|(lane, artifacts)| alone(model, lane, *artifacts)).collect();
        slowest.sort_by(|one, next| next.takes.cmp(&one.takes).then_with(|| one.lane.cmp(&next.lane)));
        slowest.truncate(NAMED);
        let bound = slowest.first().map(|host| {
            let is_bound = host.takes.as_secs_f64() >= takes.as_secs_f64() * BOUNDS;
            match &host.by {
                Setting::Workers(_) => (None, Setting::Workers(model.workers)),
                by if is_bound => (Some(host.lane.clone()), by.clone()),
                _ => (None, Setting::Workers(model.workers)),
            }
        });
        let mut changes = Vec::new();
        for (flags, changed) in alternatives(model, bound.as_ref()) {
            let would_take = simulate(&changed, hosts).await?;
            if would_take.as_secs_f64() <= takes.as_secs_f64() * (1.0 - WORTH) {
                changes.push(Change { flags, takes: would_take });
            }
        }
        changes.sort_by_key(|change| change.takes);
        Ok(Self { takes, bound, hosts: slowest, changes })
    }
}

/// How long a host takes alone, and what bounds it. Worked out without a run, as there may be very many hosts.
fn alone(model: &Model, lane: &Lane, artifacts: u64) -> HostForecast {
    let robots = u64::from(model.robots);
    let at_once = |many: u64| model.request_time.mul_f64((robots + artifacts.div_ceil(many.max(1))) as f64);
    let workers = (at_once(model.workers as u64), Setting::Workers(model.workers));
    let cap = model.rules.cap(lane).map(|cap| (at_once(u64::from(cap)), Setting::Cap(cap)));
    let (pace, scope) = model.rules.pace(lane, Role::Artifact);
    let paced = (!pace.is_off()).then(|| {
        let mut state = PaceState::default();
        let mut at = Duration::ZERO;
        for _ in 0..robots + artifacts {
            at = at.max(pace.open_at(&state, scope));
            pace.admit(&mut state, scope, at);
        }
        (at + model.request_time, Setting::Pace(pace.clone()))
    });
    // Of equals the one that is nearest to the host.
    let (takes, by) = [Some(workers), cap, paced]
        .into_iter()
        .flatten()
        .max_by_key(|(takes, _)| *takes)
        .unwrap_or((Duration::ZERO, Setting::Workers(model.workers)));
    HostForecast { lane: lane.clone(), artifacts, takes, by }
}

/// What might help: twice as many workers, and twice as much of what bounds the whole.
fn alternatives(model: &Model, bound: Option<&(Option<Lane>, Setting)>) -> Vec<(String, Model)> {
    let mut all = Vec::new();
    let workers = (model.workers * 2).min(256);
    if workers > model.workers {
        all.push((format!("--workers {workers}"), Model { workers, ..model.clone() }));
    }
    let Some((Some(lane), by)) = bound else { return all };
    let with = |change: &dyn Fn(&mut LaneRules)| {
        let mut rules = (*model.rules).clone();
        change(&mut rules);
        Model { rules: Arc::new(rules), ..model.clone() }
    };
    match by {
        Setting::Workers(_) => {}
        Setting::Cap(cap) => {
            let cap = cap * 2;
            let changed = with(&|rules| own(rules, lane).cap = Some(cap));
            all.push((format!("--rate {lane}=cap:{cap}"), changed));
        }
        Setting::Pace(pace) => {
            let pace = doubled(pace);
            let changed = with(&|rules| own(rules, lane).paces = Paces::Shared(pace.clone()));
            all.push((format!("--rate {lane}={pace}"), changed));
        }
    }
    all
}

/// The limits of a host, as its own.
fn own<'a>(rules: &'a mut LaneRules, lane: &Lane) -> &'a mut longhaul_limiter::LaneLimits {
    let like_any = longhaul_limiter::LaneLimits { cap: None, paces: rules.any.paces.clone() };
    rules.hosts.entry(lane.clone()).or_insert(like_any)
}

/// Twice as many in each window.
fn doubled(pace: &Pace) -> Pace {
    let double =
        |window: &Window| Window::new(window.limit().saturating_mul(2), window.unit(), 1).unwrap_or(*window);
    Pace::of(pace.windows().iter().map(double))
}

#[cfg(test)]
mod tests {
    use longhaul_limiter::LaneLimits;

    use super::*;

    fn model(cap: u32, pace: &str, workers: usize) -> Model {
        let paces = Paces::Shared(pace.parse::<Pace>().unwrap());
        let rules = LaneRules { any: LaneLimits { cap: Some(cap), paces }, ..LaneRules::unlimited() };
        Model { rules: Arc::new(rules), workers, request_time: Duration::from_secs(1), robots: false }
    }

    fn hosts(counts: &[u64]) -> Vec<(Lane, u64)> {
        let lane = |host| Lane::new(format!("h{host}.example")).unwrap();
        counts.iter().enumerate().map(|(host, count)| (lane(host), *count)).collect()
    }

    async fn check(model: Model, counts: &[u64], bound: &str, change: &str) {
        let forecast = Forecast::of(&model, &hosts(counts)).await.unwrap();
        let (lane, by) = forecast.bound.unwrap();
        let lane = lane.map_or_else(String::new, |lane| format!("{lane}: "));
        assert_eq!(format!("{lane}{}", by.shown()), bound);
        let best = forecast.changes.first().map_or("", |change| change.flags.as_str());
        assert_eq!(best, change, "{:?}", forecast.changes);
        for change in &forecast.changes {
            assert!(change.takes < forecast.takes);
        }
    }

    #[tokio::test]
    async fn what_bounds_a_run_is_named_with_what_would_help() {
        check(model(4, "off", 8), &[50; 20], "8 workers", "--workers 16").await;
        check(model(2, "off", 8), &[200, 5, 5], "h0.example: 2 at a time", "--rate h0.example=cap:4").await;
        check(model(4, "1/s", 8), &[200, 50], "h0.example: 1/s", "--rate h0.example=2/s").await;
        check(model(4, "off", 256), &[1], "h0.example: 4 at a time", "").await;
    }

    #[tokio::test]
    async fn the_slowest_hosts_come_first_and_only_some() {
        let forecast = Forecast::of(&model(1, "off", 8), &hosts(&[1; 30])).await.unwrap();
        assert_eq!(forecast.hosts.len(), NAMED);
        let forecast = Forecast::of(&model(1, "off", 8), &hosts(&[3, 9, 5])).await.unwrap();
        let shown: Vec<_> =
            forecast.hosts.iter().map(|host| (host.artifacts, host.takes.as_secs())).collect();
        assert_eq!(shown, [(9, 9), (5, 5), (3, 3)]);
        let none = Forecast::of(&model(1, "off", 8), &[]).await.unwrap();
        assert_eq!((none.takes, none.bound), (Duration::ZERO, None));
    }

    #[test]
    fn a_doubled_pace_has_the_same_windows() {
        assert_eq!(doubled(&"2/s+500/h".parse().unwrap()).to_string(), "4/s+1000/h");
        assert_eq!(doubled(&"1/3s".parse().unwrap()).to_string(), "2/3s");
    }
}
