//! Enqueuing: one job a call by one caller and by eight, and a thousand a call, beside as many plain transactions.

use std::sync::Arc;

use anyhow::Result;
use longhaul_queue_core::WorkQueue as _;
use tokio::task::JoinSet;

use crate::floor::Floor;
use crate::report::{Bound, Report};
use crate::shape::{self, Order, Shape};
use crate::{Args, machine, ours};

pub(crate) async fn measure(args: &Args, report: &mut Report) -> Result<()> {
    for full in [true, false] {
        let how = if full { "full" } else { "normal" };
        for (callers, jobs) in [(1, 2_000), (8, 8_000)] {
            let shape = Shape::new(jobs, 10, Order::Interleaved);
            let mut pairs = Vec::new();
            for _ in 0..args.runs {
                pairs.push((by_callers(args, shape, callers, full).await?, floor(args, shape, 1, full)?));
            }
            let name = format!("enqueue, {callers} caller(s), a job a call, {how}");
            report.pairs(name, "jobs/s", &pairs, Bound::None);
        }
        let shape = Shape::new(100_000, 10, Order::Interleaved);
        let mut pairs = Vec::new();
        for _ in 0..args.runs {
            pairs.push((in_batches(args, shape, full).await?, floor(args, shape, 1_000, full)?));
        }
        report.pairs(format!("enqueue, 1,000 jobs a call, {how}"), "jobs/s", &pairs, Bound::None);
    }
    Ok(())
}

async fn by_callers(args: &Args, shape: Shape, callers: usize, full: bool) -> Result<f64> {
    let path = args.dir.join("enqueue.sqlite");
    ours::remove(&path);
    let queue = Arc::new(ours::open(&path, full).await?);
    let began = machine::now();
    let mut tasks = JoinSet::new();
    for caller in 0..callers {
        let queue = Arc::clone(&queue);
        tasks.spawn(async move {
            for job in (caller..shape.jobs).step_by(callers) {
                queue.enqueue(&[shape::new_job(shape, job)?]).await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(task) = tasks.join_next().await {
        task??;
    }
    Ok(shape.jobs as f64 / machine::since(began).as_secs_f64())
}

async fn in_batches(args: &Args, shape: Shape, full: bool) -> Result<f64> {
    let path = args.dir.join("enqueue.sqlite");
    ours::remove(&path);
    let queue = ours::open(&path, full).await?;
    let began = machine::now();
    ours::fill(&queue, shape).await?;
    Ok(shape.jobs as f64 / machine::since(began).as_secs_f64())
}

fn floor(args: &Args, shape: Shape, each: usize, full: bool) -> Result<f64> {
    let path = args.dir.join("enqueue-floor.sqlite");
    ours::remove(&path);
    let mut floor = Floor::create(&path, full)?;
    let began = machine::now();
    for first in (0..shape.jobs).step_by(each) {
        floor.insert_some(shape, first, each)?;
    }
    Ok(shape.jobs as f64 / machine::since(began).as_secs_f64())
}
