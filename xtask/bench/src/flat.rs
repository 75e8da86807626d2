//! What a job costs when the queue is large, and when most of it cannot start.

use anyhow::{Result, ensure};
use longhaul_limiter::Lane;
use longhaul_queue_core::{NewJob, QueueAdmin as _, WorkQueue as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::floor::Floor;
use crate::report::{Bound, Report};
use crate::shape::{self, Order, Shape};
use crate::{Args, machine, ours};

/// Jobs that are leased and settled in one measurement.
const SAMPLE: usize = 6_400;
const BLOCKED: usize = 100_000;

pub(crate) async fn measure(args: &Args, report: &mut Report) -> Result<()> {
    growing(args, report).await?;
    blocked(args, report).await
}

/// From a small queue to a large one: longhaul's cost may grow at most 1.5 times as much as the floor's.
async fn growing(args: &Args, report: &mut Report) -> Result<()> {
    let small = Shape::new(10_000, 10, Order::Interleaved);
    let large = Shape::new(args.jobs, 10_000, Order::Interleaved);
    let (ours_large, floor_large) =
        (filled(args, "large", large).await?, args.dir.join("large-floor.sqlite"));
    copy(&ours_large, &floor_large)?;
    let mut pairs = Vec::new();
    for _ in 0..args.runs {
        let ours_small = filled(args, "small", small).await?;
        let floor_small = args.dir.join("small-floor.sqlite");
        copy(&ours_small, &floor_small)?;
        let ours = by_hand(&ours_large).await? / by_hand(&ours_small).await?;
        let floor = by_floor(&floor_large, large)? / by_floor(&floor_small, small)?;
        pairs.push((ours, floor));
    }
    let name = format!("flat: lease + settle, {} against {}", large.name(), small.name());
    report.pairs(name, "times", &pairs, Bound::AtMost(1.5));
    ours::remove(&ours_large);
    ours::remove(&floor_large);
    Ok(())
}

/// With blocked jobs at the head: longhaul's cost with them beside its cost without.
async fn blocked(args: &Args, report: &mut Report) -> Result<()> {
    let free = Shape::new(100_000, 100, Order::Interleaved);
    for closed in [1, 10_000] {
        let path = args.dir.join("blocked.sqlite");
        ours::remove(&path);
        let queue = ours::open(&path, false).await?;
        block(&queue, closed).await?;
        ours::fill(&queue, free).await?;
        drop(queue);
        let without = filled(args, "free", free).await?;
        // The first lease meets every closed lane once and puts it off.
        by_hand(&path).await?;
        let mut pairs = Vec::new();
        for _ in 0..args.runs {
            pairs.push((by_hand(&path).await?, by_hand(&without).await?));
        }
        let name = format!("flat: {BLOCKED} blocked jobs at the head in {closed} closed lane(s)");
        report.pairs(name, "us/job", &pairs, Bound::AtMost(1.3));
        ours::remove(&path);
        ours::remove(&without);
    }
    Ok(())
}

async fn block(queue: &longhaul_queue_core::SqliteQueue, lanes: usize) -> Result<()> {
    for lane in 0..lanes {
        queue
            .close(&Lane::new(blocked_lane(lane))?, Duration::from_hours(20), "blocked for the measurement")
            .await?;
    }
    for first in (0..BLOCKED).step_by(1_000) {
        let jobs: Result<Vec<NewJob>> = (first..first + 1_000)
            .map(|job| {
                let mut new = shape::new_job(Shape::new(BLOCKED, lanes, Order::Interleaved), job)?;
                new.artifact_id = longhaul_queue_core::ArtifactId::new(format!("blocked:{job}"))?;
                new.place.lane = Lane::new(blocked_lane(job % lanes))?;
                Ok(new)
            })
            .collect();
        queue.enqueue(&jobs?).await?;
    }
    Ok(())
}

fn blocked_lane(lane: usize) -> String {
    format!("blocked{lane:05}.example")
}

/// A fresh queue of this shape; its log is copied back.
async fn filled(args: &Args, name: &str, shape: Shape) -> Result<PathBuf> {
    let path = args.dir.join(format!("{name}.sqlite"));
    ours::remove(&path);
    let queue = ours::open(&path, false).await?;
    ours::fill(&queue, shape).await?;
    drop(queue);
    Floor::open(&path, 1, true)?.copy_log_back()?;
    Ok(path)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    ours::remove(to);
    std::fs::copy(from, to)?;
    Ok(())
}

/// Microseconds a job through longhaul's store.
async fn by_hand(path: &Path) -> Result<f64> {
    let queue = ours::open(path, true).await?;
    let mut hand = ours::Hand::join(&queue).await?;
    let began = machine::now();
    let done = hand.work(SAMPLE).await?;
    let took = machine::since(began);
    hand.leave().await?;
    ensure!(done == SAMPLE, "{done} of {SAMPLE} were done");
    Ok(took.as_secs_f64() * 1e6 / SAMPLE as f64)
}

/// Microseconds a job through the floor.
fn by_floor(path: &Path, shape: Shape) -> Result<f64> {
    let mut floor = Floor::open(path, shape.lanes, true)?;
    let began = machine::now();
    let done = floor.work(SAMPLE)?;
    ensure!(done == SAMPLE, "the floor did {done} of {SAMPLE}");
    Ok(machine::since(began).as_secs_f64() * 1e6 / SAMPLE as f64)
}
