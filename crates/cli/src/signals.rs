//! The signals by which a person or a supervisor stops the program.

use std::future::pending;
use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::exit::Exit;

/// SIGINT, SIGTERM and SIGHUP, from the moment it is made.
#[derive(Debug)]
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    /// `None` where it is ignored.
    hang_up: Option<Signal>,
}

impl Signals {
    /// Listens; from now on none of them ends the process by itself. Whoever starts it with `nohup` has SIGHUP ignored, and
    /// it stays ignored.
    pub(crate) fn listen() -> io::Result<Self> {
        let hears = !ignores_hang_up(&std::fs::read_to_string("/proc/self/status").unwrap_or_default());
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hang_up: hears.then(|| signal(SignalKind::hangup())).transpose()?,
        })
    }

    /// The next signal, as the end that it asks for: a terminal that is closed asks as a supervisor does. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Exit {
        let hang_up = async {
            match &mut self.hang_up {
                Some(hang_up) => hang_up.recv().await,
                None => pending().await,
            }
        };
        tokio::select! {
            Some(()) = self.interrupt.recv() => Exit::Interrupted,
            Some(()) = self.terminate.recv() => Exit::Terminated,
            Some(()) = hang_up => Exit::Terminated,
        }
    }
}

/// Whether a process ignores SIGHUP, by its `/proc/PID/status`: the lowest bit of a mask in hexadecimal.
fn ignores_hang_up(status: &str) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_under_nohup_ignores_a_hang_up() {
        assert!(ignores_hang_up("Name:\tlonghaul\nSigBlk:\t0000000000000000\nSigIgn:\t0000000000001001\n"));
        assert!(!ignores_hang_up("SigBlk:\t0000000000000001\nSigIgn:\t0000000000001000\n"));
        assert!(!ignores_hang_up(""));
    }
}
