//! What telemetry costs a drain: none at all, compiled in and off, and on, in turns.
//!
//! Each drain is a process of its own, since what is compiled in and who subscribes to spans holds for a whole process.
//! `bare` is this same program without the libraries' spans. On, metrics and traces go to a receiver in the measuring
//! process, which throws them away.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use longhaul_events::{Fanout, Silent};
use longhaul_limiter::{LaneRules, SystemClock};
use longhaul_orchestrator::{Orchestrator, OrchestratorConfig, Parts};
use longhaul_telemetry::{Export, Metrics, Sampler};
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::drain::{no_op, parts};
use crate::report::{Bound, Report};
use crate::shape::{Order, Shape};
use crate::{Args, machine, ours};

/// What a drain keeps of its speed with telemetry on,
const ON: f64 = 0.9;
/// and with it compiled in and off.
const OFF: f64 = 0.98;

const JOBS: usize = 100_000;

pub(crate) fn measure(args: &Args, report: &mut Report) -> Result<()> {
    let Some(bare) = &args.bare else {
        bail!(
            "the part `telemetry` needs --bare FILE, this program without spans; cargo xtask bench gives it"
        );
    };
    let this = std::env::current_exe()?;
    let receiver = receive_and_forget()?;
    let (mut off, mut on) = (Vec::new(), Vec::new());
    for _ in 0..args.runs {
        let without = drain(bare, args, None)?;
        let compiled_in = drain(&this, args, None)?;
        off.push((compiled_in, without));
        on.push((drain(&this, args, Some(&receiver))?, without));
    }
    let jobs = args.jobs.min(JOBS);
    let name = |how| format!("drain, {jobs} jobs, 1 lane, full: telemetry {how}");
    report.pairs(name("compiled in and off"), "jobs/s", &off, Bound::AtLeast(OFF));
    report.pairs(name("on (metrics, traces)"), "jobs/s", &on, Bound::AtLeast(ON));
    Ok(())
}

/// Jobs a second of a drain in a process of its own.
fn drain(program: &Path, args: &Args, endpoint: Option<&str>) -> Result<f64> {
    let mut command = Command::new(program);
    command.arg("drain").arg("--dir").arg(&args.dir).args(["--jobs", &args.jobs.min(JOBS).to_string()]);
    if let Some(endpoint) = endpoint {
        command.env("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint);
    }
    let output = command.output().with_context(|| format!("{} cannot be started", program.display()))?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?.trim().parse()?)
}

/// One drain, as `drain` asks for it: prints jobs a second.
pub(crate) async fn one_drain(dir: PathBuf, jobs: usize) -> Result<()> {
    let path = dir.join("telemetry.sqlite");
    ours::remove(&path);
    let queue = ours::open(&path, true).await?;
    ours::fill(&queue, Shape::new(jobs, 1, Order::Interleaved)).await?;
    let export = Export::from_environment(Arc::new(SystemClock))?;
    // What the program has when nothing is asked of it, and the layer of the traces.
    let log = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_filter(LevelFilter::WARN);
    tracing_subscriber::registry().with(export.as_ref().and_then(Export::layer)).with(log).init();
    let config = OrchestratorConfig {
        drain: true,
        rules: Arc::new(LaneRules::unlimited()),
        ..OrchestratorConfig::default()
    };
    let metrics = Arc::new(Metrics::default());
    let parts = parts(&queue, no_op());
    let sampler = Sampler {
        metrics: Arc::clone(&metrics),
        queue: Arc::clone(&parts.queue),
        admin: Arc::clone(&parts.admin),
        rules: Arc::new(LaneRules::unlimited()),
        clock: Arc::new(SystemClock),
    };
    let parts = match &export {
        Some(export) => {
            export.send(&metrics);
            Parts { observer: Arc::new(Fanout::new(vec![metrics])), ..parts }
        }
        None => Parts { observer: Arc::new(Silent), ..parts },
    };
    let began = machine::now();
    let run = Orchestrator::start(config, parts).await?.wait();
    let summary = if export.is_some() {
        tokio::select! {
            summary = run => summary,
            () = sampler.run() => bail!("the sampler ended"),
        }
    } else {
        run.await
    };
    let took = machine::since(began);
    ensure!(summary.count("done") == jobs as u64, "{} of {jobs} were done", summary.count("done"));
    if let Some(export) = export {
        ensure!(export.finish(Duration::from_secs(3)).await, "the last spans and numbers were not taken");
    }
    println!("{}", jobs as f64 / took.as_secs_f64());
    Ok(())
}

/// A receiver of OTLP over HTTP that takes everything and keeps nothing. Its address.
fn receive_and_forget() -> Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || forget(&stream));
        }
    });
    Ok(format!("http://{address}"))
}

/// Reads requests until the other side leaves.
fn forget(stream: &TcpStream) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut writer = stream;
    loop {
        let mut length = 0;
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).ok()? == 0 {
                return None;
            }
            let line = line.trim().to_ascii_lowercase();
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse().ok()?;
            }
            if line.is_empty() {
                break;
            }
        }
        std::io::copy(&mut (&mut reader).take(length), &mut std::io::sink()).ok()?;
        writer.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").ok()?;
    }
}
