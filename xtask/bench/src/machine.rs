//! What the machine says: time, processor time, memory, and how long its disk takes to sync.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use rustix::time::{ClockId, clock_gettime};

fn read(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// The monotonic clock that all processes share.
pub(crate) fn now() -> Duration {
    read(ClockId::Boottime)
}

/// Processor time that this process has used, over all its threads.
pub(crate) fn cpu() -> Duration {
    read(ClockId::ProcessCPUTime)
}

/// The most memory that a process has had resident, in MiB; zero once it has ended.
pub(crate) fn peak_memory(pid: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().next()).and_then(|kib| kib.parse::<f64>().ok());
    kib.unwrap_or(0.0) / 1024.0
}

/// The median time of an fdatasync after an append of 4 KiB.
pub(crate) fn sync_time(dir: &Path) -> Result<Duration> {
    let path = dir.join("sync-probe");
    let mut file = File::create(&path)?;
    let mut times = Vec::new();
    for _ in 0..101 {
        file.write_all(&[7; 4096])?;
        let began = now();
        file.sync_data()?;
        times.push(since(began));
    }
    drop(file);
    std::fs::remove_file(&path)?;
    Ok(median(&mut times))
}

pub(crate) fn median<T: Copy + PartialOrd>(values: &mut [T]) -> T {
    values.sort_by(|a, b| a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal));
    values[values.len() / 2]
}

/// Time since `began` on [`now`]'s clock.
pub(crate) fn since(began: Duration) -> Duration {
    now().saturating_sub(began)
}
