//! From the call of enqueue to the start of the handler, in an idle orchestrator; and what it costs to be idle.

use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use longhaul_limiter::LaneRules;
use longhaul_orchestrator::{Orchestrator, OrchestratorConfig, RunHandle};
use longhaul_pipeline::{FnPipeline, Outcome};
use longhaul_queue_core::{ArtifactId, NewJob, SqliteQueue, WorkQueueExt as _};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::drain::{nothing, parts};
use crate::report::{Bound, Report};
use crate::{Args, machine, ours};

const ROUNDS: usize = 60;
const IDLE_FOR: Duration = Duration::from_secs(5);

pub(crate) async fn measure(args: &Args, report: &mut Report) -> Result<()> {
    let path = args.dir.join("wake.sqlite");
    ours::remove(&path);
    let queue = ours::open(&path, true).await?;
    let (run, mut started) = idle_run(&queue).await?;
    let same = same_process(&queue, &mut started).await?;
    let bound = 3.0 + 2.0 * report.fdatasync().as_secs_f64() * 1e3;
    report.figure("wake-up, same process: enqueue call to handler start", "ms", &same, Bound::AtMost(bound));
    let other = other_process(&path, &mut started).await?;
    report.figure("wake-up, another process on the file", "ms", &other, Bound::AtMost(30.0));
    let cpu = machine::cpu();
    tokio::time::sleep(IDLE_FOR).await;
    let idle = machine::cpu().saturating_sub(cpu).as_secs_f64() / IDLE_FOR.as_secs_f64() * 100.0;
    report.figure("idle: share of a core", "%", &[idle], Bound::AtMost(1.0));
    drop(run);
    Ok(())
}

/// A run that waits for work and says when each handler starts.
async fn idle_run(queue: &SqliteQueue) -> Result<(RunHandle, UnboundedReceiver<Duration>)> {
    let (starts, started) = unbounded_channel();
    let pipeline = FnPipeline::new(move |_job, _context| {
        // The receiver lives as long as the measurement.
        let _ = starts.send(machine::now());
        Box::pin(async { Outcome::Done(nothing()).into() })
    });
    let config =
        OrchestratorConfig { rules: Arc::new(LaneRules::unlimited()), ..OrchestratorConfig::default() };
    let run = Orchestrator::start(config, parts(queue, Arc::new(pipeline))).await?;
    tokio::time::sleep(Duration::from_millis(500)).await;
    Ok((run, started))
}

async fn same_process(queue: &SqliteQueue, started: &mut UnboundedReceiver<Duration>) -> Result<Vec<f64>> {
    let mut waits = Vec::new();
    for round in 0..ROUNDS {
        tokio::time::sleep(Duration::from_millis(30)).await;
        let called = machine::now();
        queue.enqueue_one(NewJob::new(ArtifactId::new(format!("same:{round}"))?, "{}")).await?;
        let at = started.recv().await.context("the run has ended")?;
        waits.push(at.saturating_sub(called).as_secs_f64() * 1e3);
    }
    Ok(waits)
}

async fn other_process(path: &Path, started: &mut UnboundedReceiver<Duration>) -> Result<Vec<f64>> {
    let mut child = tokio::process::Command::new(std::env::current_exe()?)
        .arg("child")
        .arg(path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut stdin = child.stdin.take().context("the child has a stdin")?;
    let mut lines = BufReader::new(child.stdout.take().context("the child has a stdout")?).lines();
    let mut waits = Vec::new();
    for round in 0..ROUNDS {
        tokio::time::sleep(Duration::from_millis(30)).await;
        stdin.write_all(format!("other:{round}\n").as_bytes()).await?;
        let called = lines.next_line().await?.context("the child has ended")?;
        let called = Duration::from_nanos(called.parse()?);
        let at = started.recv().await.context("the run has ended")?;
        waits.push(at.saturating_sub(called).as_secs_f64() * 1e3);
    }
    drop(stdin);
    child.wait().await?;
    Ok(waits)
}
