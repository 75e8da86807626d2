//! What an operator looks at, in a large queue: statistics, why a job waits, a page of lanes.

use anyhow::Result;
use longhaul_limiter::LaneRules;
use longhaul_queue_core::{ArtifactId, LanePage, QueueAdmin as _, WorkQueue as _};

use crate::report::{Bound, Report};
use crate::shape::{self, Order, Shape};
use crate::{Args, machine, ours};

const CALLS: usize = 21;

/// Many lanes with little each, and one page of lanes with much each, and how long a view may take. Of the latter's million
/// jobs a thousand a lane are counted.
const LANES: [(usize, f64); 2] = [(10_000, 5.0), (50, 10.0)];

pub(crate) async fn measure(args: &Args, report: &mut Report) -> Result<()> {
    for (lanes, most_ms) in LANES {
        measure_shape(args, Shape::new(args.jobs, lanes, Order::Interleaved), most_ms, report).await?;
    }
    Ok(())
}

async fn measure_shape(args: &Args, shape: Shape, most_ms: f64, report: &mut Report) -> Result<()> {
    let path = args.dir.join("views.sqlite");
    ours::remove(&path);
    let queue = ours::open(&path, false).await?;
    ours::fill(&queue, shape).await?;
    let mut hand = ours::Hand::join(&queue).await?;
    hand.work(10_000).await?;
    let (mut stats, mut explain, mut lanes) = (Vec::new(), Vec::new(), Vec::new());
    let (rules, page) = (LaneRules::unlimited(), LanePage { after: None, limit: 50 });
    for call in 0..CALLS {
        let began = machine::now();
        queue.stats().await?;
        stats.push(ms_since(began));
        let id = ArtifactId::new(shape::artifact_id(shape.jobs - 1 - call * shape.jobs / (2 * CALLS)))?;
        let began = machine::now();
        queue.explain(&id, &rules).await?;
        explain.push(ms_since(began));
        let began = machine::now();
        queue.lanes(&page).await?;
        lanes.push(ms_since(began));
    }
    hand.leave().await?;
    drop(queue);
    for (name, values) in [("stats", stats), ("explain", explain), ("a page of lanes", lanes)] {
        report.figure(format!("{name}, {}", shape.name()), "ms", &values, Bound::AtMost(most_ms));
    }
    ours::remove(&path);
    Ok(())
}

fn ms_since(began: std::time::Duration) -> f64 {
    machine::since(began).as_secs_f64() * 1e3
}
