//! `longhaul queue plan`.

use std::fmt::Write as _;
use std::sync::Arc;

use anyhow::Result;
use longhaul_limiter::Clock;
use serde::Serialize;

use super::import::open_all;
use crate::args::{Format, Global, PlanArgs};
use crate::exit::Exit;
use crate::import::{Making, survey};
use crate::limits;
use crate::output::{Column, Console, Grid, count, data_width, duration, number_of, print_data};
use crate::plan::{Demand, Forecast, Model};

/// Simulates an import.
pub(crate) async fn plan(
    global: &Global,
    args: PlanArgs,
    console: &Console,
    clock: Arc<dyn Clock>,
) -> Result<Exit> {
    let rules = limits::rules(&args.limits, global.keying())?;
    let sources = open_all(&args.files)?;
    let mut demand = Demand::default();
    let making = Making { keying: global.keying(), clock };
    let rejected = survey(sources, making, |job| demand.add(job)).await?;
    let model = Model {
        rules: Arc::new(rules),
        workers: usize::from(args.workers),
        request_time: args.request_time,
        robots: !args.no_robots,
    };
    let hosts = demand.by_host();
    let mut forecast = Forecast::of(&model, &hosts).await?;
    // What is not to be fetched before a time is fetched then, however little there is to do until it.
    let last = demand.delay + if demand.delay.is_zero() { demand.delay } else { args.request_time };
    forecast.takes = forecast.takes.max(last);
    let shape = Shape::new(&demand, rejected, hosts.len() as u64, &model, &forecast);
    match args.output.format {
        Format::Json | Format::Jsonl => print_data(&serde_json::to_string(&shape)?)?,
        Format::Table => print_data(&shown(&shape, &forecast))?,
    }
    if demand.without_host > 0 {
        console.note(&format!(
            "{} no URL; whom a resolver will ask for them, and how long that takes, is not in it",
            number_of(demand.without_host, "artifact names", "artifacts name")
        ));
    }
    if rejected > 0 {
        console.warn(&format!(
            "{} cannot be read; `longhaul queue import FILE --rejects BAD` says which and why",
            number_of(rejected, "line", "lines")
        ));
    }
    Ok(if rejected > 0 { Exit::Rejected } else { Exit::Success })
}

/// The documented JSON. Times are in seconds. `bound_by` is `workers`, `cap` or `pace`, and `null` if nothing is to be
/// fetched; `bound_host` is the host whose cap or pace it is.
#[derive(Debug, Serialize)]
struct Shape {
    artifacts: u64,
    duplicates: u64,
    rejected: u64,
    without_host: u64,
    hosts: u64,
    workers: usize,
    request_seconds: f64,
    takes_seconds: f64,
    bound_by: Option<&'static str>,
    bound_host: Option<String>,
    slowest: Vec<HostShape>,
    faster_with: Vec<ChangeShape>,
}

/// A host that takes long; `takes_seconds` is what it would take alone.
#[derive(Debug, Serialize)]
struct HostShape {
    host: String,
    artifacts: u64,
    takes_seconds: f64,
    bound_by: &'static str,
    limit: String,
}

/// A change of flags of `queue run`.
#[derive(Debug, Serialize)]
struct ChangeShape {
    flags: String,
    takes_seconds: f64,
}

impl Shape {
    fn new(demand: &Demand, rejected: u64, hosts: u64, model: &Model, forecast: &Forecast) -> Self {
        let (bound_by, bound_host) = match &forecast.bound {
            Some((host, by)) => (Some(by.kind()), host.as_ref().map(ToString::to_string)),
            None => (None, None),
        };
        let host = |host: &crate::plan::HostForecast| HostShape {
            host: host.lane.to_string(),
            artifacts: host.artifacts,
            takes_seconds: host.takes.as_secs_f64(),
            bound_by: host.by.kind(),
            limit: host.by.shown(),
        };
        let change = |change: &crate::plan::Change| ChangeShape {
            flags: change.flags.clone(),
            takes_seconds: change.takes.as_secs_f64(),
        };
        Self {
            artifacts: demand.artifacts,
            duplicates: demand.duplicates,
            rejected,
            without_host: demand.without_host,
            hosts,
            workers: model.workers,
            request_seconds: model.request_time.as_secs_f64(),
            takes_seconds: forecast.takes.as_secs_f64(),
            bound_by,
            bound_host,
            slowest: forecast.hosts.iter().map(host).collect(),
            faster_with: forecast.changes.iter().map(change).collect(),
        }
    }
}

fn shown(shape: &Shape, forecast: &Forecast) -> String {
    let mut text = format!(
        "{} at {}, {} a request: {}\n",
        number_of(shape.artifacts - shape.without_host, "artifact", "artifacts"),
        number_of(shape.hosts, "host", "hosts"),
        duration(std::time::Duration::from_secs_f64(shape.request_seconds)),
        duration(forecast.takes),
    );
    // Writing to a text does not fail.
    match &forecast.bound {
        Some((Some(host), by)) => {
            let _ = writeln!(text, "bound by {host}: {}", by.shown());
        }
        Some((None, by)) => {
            let _ = writeln!(text, "bound by {}", by.shown());
        }
        None => {}
    }
    if !forecast.hosts.is_empty() {
        let mut grid = Grid::new([
            Column::Cut("host"),
            Column::Number("artifacts"),
            Column::Number("alone"),
            Column::Text("bound by"),
        ]);
        for host in &forecast.hosts {
            grid.row([host.lane.to_string(), count(host.artifacts), duration(host.takes), host.by.shown()]);
        }
        let _ = write!(text, "\n{}", grid.text(data_width()));
    }
    if !forecast.changes.is_empty() {
        let mut grid = Grid::new([Column::Text("with"), Column::Number("it takes")]);
        for change in &forecast.changes {
            grid.row([change.flags.clone(), duration(change.takes)]);
        }
        let _ = write!(text, "\n{}", grid.text(data_width()));
    }
    text
}
