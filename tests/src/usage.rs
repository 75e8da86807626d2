//! What a process used, as Linux tells it: processor time, and the most memory.

use std::time::Duration;

/// What one process used so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Processor time of all its threads, in user and kernel.
    pub processor: Duration,
    /// The most memory that it had resident, in KiB. A process that has ended no longer says it.
    pub peak_kib: u64,
    /// It has ended and waits to be reaped.
    pub ended: bool,
}

/// Linux counts processor time for people in hundredths of a second, on every machine.
const TICK: Duration = Duration::from_millis(10);

impl Usage {
    /// Of a process that was not reaped.
    pub fn of(process: u32) -> Option<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
        // The name, in brackets, may hold anything.
        let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
        let ended = fields.next()? == "Z";
        // `utime` and `stime` are the fields 14 and 15, the state is the third.
        let mut ticks = fields.skip(10).map_while(|field| field.parse::<u32>().ok());
        let processor = TICK * (ticks.next()? + ticks.next()?);
        let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let peak_kib = line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse().ok());
        Some(Self { processor, peak_kib: peak_kib.unwrap_or(0), ended })
    }

    /// What is known together with a later look at the same process.
    #[must_use]
    pub fn later(self, later: Self) -> Self {
        Self { peak_kib: self.peak_kib.max(later.peak_kib), ..later }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_uses_memory_and_has_not_ended() {
        let usage = Usage::of(std::process::id()).expect("it is here");
        assert!(usage.peak_kib > 0 && !usage.ended, "{usage:?}");
    }

    #[test]
    fn a_process_that_has_ended_still_says_how_long_it_ran() {
        let mut child = std::process::Command::new("true").spawn().expect("it starts");
        let ended = (0..1_000_000).any(|_| Usage::of(child.id()).expect("it is not reaped").ended);
        assert!(ended);
        assert!(child.wait().expect("it was there").success());
        assert_eq!(Usage::of(child.id()), None);
    }
}
