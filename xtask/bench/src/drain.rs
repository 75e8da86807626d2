//! A full drain: the real orchestrator, eight workers and a pipeline that does nothing, beside a loop that leases 64
//! and acknowledges 64 in one commit.

use std::sync::Arc;

use anyhow::{Result, ensure};
use longhaul_events::Silent;
use longhaul_limiter::{LaneRules, SystemClock};
use longhaul_orchestrator::{Orchestrator, OrchestratorConfig, Parts};
use longhaul_pipeline::{Fetched, FnPipeline, Outcome, Pipeline, Reason};
use longhaul_queue_core::SqliteQueue;

use crate::floor::Floor;
use crate::report::{Bound, Report};
use crate::shape::{Order, Shape};
use crate::{Args, machine, ours};

/// What longhaul is to reach of the floor.
const SHARE: f64 = 0.35;

pub(crate) async fn measure(args: &Args, report: &mut Report) -> Result<()> {
    for (jobs, lanes, order, full) in [
        (100_000, 1, Order::Interleaved, true),
        (100_000, 10_000, Order::Interleaved, true),
        (100_000, 10_000, Order::Grouped, true),
        (100_000, 10, Order::Interleaved, true),
        (10_000, 1, Order::Interleaved, true),
        (100_000, 1, Order::Interleaved, false),
    ] {
        let shape = Shape::new(jobs, lanes, order);
        let (mut pairs, mut cpu) = (Vec::new(), Vec::new());
        for _ in 0..args.runs {
            let (ours, used) = ours(args, shape, full).await?;
            pairs.push((ours, floor(args, shape, full)?));
            cpu.push(used);
        }
        let how = if full { "full" } else { "normal" };
        let bound = if full { Bound::AtLeast(SHARE) } else { Bound::None };
        report.pairs(format!("drain, {}, {how}", shape.name()), "jobs/s", &pairs, bound);
        report.figure(
            format!("drain, {}, {how}: processor time a job", shape.name()),
            "us",
            &cpu,
            Bound::None,
        );
    }
    Ok(())
}

/// A pipeline for which everything is done at once.
pub(crate) fn no_op() -> Arc<dyn Pipeline> {
    Arc::new(FnPipeline::new(|_job, _context| Box::pin(async { Outcome::Done(nothing()).into() })))
}

/// What was fetched where nothing is.
pub(crate) fn nothing() -> Fetched {
    Fetched {
        reason: Reason::Ok,
        resolver: "none".to_owned(),
        url: String::new(),
        http_status: None,
        content_type: None,
        etag: None,
        last_modified: None,
        file: None,
    }
}

/// The parts of a run without files and without anybody who listens.
pub(crate) fn parts(queue: &SqliteQueue, pipeline: Arc<dyn Pipeline>) -> Parts {
    Parts {
        queue: Arc::new(queue.clone()),
        admin: Arc::new(queue.clone()),
        pipeline,
        observer: Arc::new(Silent),
        clock: Arc::new(SystemClock),
        store: None,
    }
}

/// Jobs a second, and processor time a job in microseconds.
async fn ours(args: &Args, shape: Shape, full: bool) -> Result<(f64, f64)> {
    let path = args.dir.join("drain.sqlite");
    ours::remove(&path);
    let queue = ours::open(&path, full).await?;
    ours::fill(&queue, shape).await?;
    let config = OrchestratorConfig {
        drain: true,
        rules: Arc::new(LaneRules::unlimited()),
        ..OrchestratorConfig::default()
    };
    let (began, cpu) = (machine::now(), machine::cpu());
    let summary = Orchestrator::start(config, parts(&queue, no_op())).await?.wait().await;
    let (took, cpu) = (machine::since(began), machine::cpu().saturating_sub(cpu));
    ensure!(
        summary.count("done") == shape.jobs as u64,
        "{} of {} were done",
        summary.count("done"),
        shape.jobs
    );
    Ok((shape.jobs as f64 / took.as_secs_f64(), cpu.as_secs_f64() * 1e6 / shape.jobs as f64))
}

fn floor(args: &Args, shape: Shape, full: bool) -> Result<f64> {
    let path = args.dir.join("drain-floor.sqlite");
    ours::remove(&path);
    Floor::create(&path, full)?.insert_all(shape)?;
    let mut floor = Floor::open(&path, shape.lanes, full)?;
    let began = machine::now();
    let done = floor.work(shape.jobs)?;
    ensure!(done == shape.jobs, "the floor did {done} of {}", shape.jobs);
    Ok(shape.jobs as f64 / machine::since(began).as_secs_f64())
}
