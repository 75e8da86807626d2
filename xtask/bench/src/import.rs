//! The import of a file by the real program: read, validate, commit; beside one transaction that inserts the same rows.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::floor::Floor;
use crate::report::{Bound, Report};
use crate::shape::{self, Order, Shape};
use crate::{Args, machine, ours};

const MOST_MIB: f64 = 64.0;
const SHARE: f64 = 0.5;

pub(crate) fn measure(args: &Args, report: &mut Report) -> Result<()> {
    for (shape, runs) in [
        (Shape::new(args.jobs / 10, 10, Order::Interleaved), args.runs),
        (Shape::new(args.jobs, 10_000, Order::Interleaved), args.runs.min(3)),
        (Shape::new(args.jobs, 10_000, Order::Grouped), args.runs.min(3)),
    ] {
        let list = args.dir.join("import.jsonl");
        write(&list, shape)?;
        let (mut pairs, mut peaks) = (Vec::new(), Vec::new());
        for _ in 0..runs {
            let (rate, peak) = ours(args, &list, shape)?;
            pairs.push((rate, floor(args, shape)?));
            peaks.push(peak);
        }
        report.pairs(format!("import, {}", shape.name()), "lines/s", &pairs, Bound::AtLeast(SHARE));
        report.figure(
            format!("import, {}: peak memory", shape.name()),
            "MiB",
            &peaks,
            Bound::AtMost(MOST_MIB),
        );
        std::fs::remove_file(&list)?;
    }
    Ok(())
}

fn write(list: &Path, shape: Shape) -> Result<()> {
    let mut file = BufWriter::new(File::create(list)?);
    for job in 0..shape.jobs {
        writeln!(file, "{}", shape::record(shape, job))?;
    }
    file.into_inner()?.sync_all()?;
    Ok(())
}

/// Lines a second, and the peak memory in MiB.
fn ours(args: &Args, list: &Path, shape: Shape) -> Result<(f64, f64)> {
    let beside = || Some(std::env::current_exe().ok()?.with_file_name("longhaul"));
    let program = args.program.clone().or_else(beside).context("this program does not know where it is")?;
    let path = args.dir.join("import.sqlite");
    ours::remove(&path);
    let began = machine::now();
    let mut child = Command::new(&program)
        .args(["--quiet", "queue", "import"])
        .arg(list)
        .arg("--queue")
        .arg(&path)
        .stdout(Stdio::null())
        .spawn()
        .with_context(|| format!("{} cannot be started", program.display()))?;
    let mut peak = 0.0_f64;
    let status = loop {
        peak = peak.max(machine::peak_memory(child.id()));
        if let Some(status) = child.try_wait()? {
            break status;
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let took = machine::since(began);
    ensure!(status.success(), "the import failed ({status})");
    ours::remove(&path);
    Ok((shape.jobs as f64 / took.as_secs_f64(), peak))
}

fn floor(args: &Args, shape: Shape) -> Result<f64> {
    let path = args.dir.join("import-floor.sqlite");
    ours::remove(&path);
    let mut floor = Floor::create(&path, true)?;
    let began = machine::now();
    floor.insert_all(shape)?;
    let rate = shape.jobs as f64 / machine::since(began).as_secs_f64();
    drop(floor);
    ours::remove(&path);
    Ok(rate)
}
