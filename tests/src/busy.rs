//! Processes that want a core each, all the time.

use std::process::{Child, Command, Stdio};

/// Loops that do nothing. Killed when dropped.
#[derive(Debug)]
pub struct BusyLoops(Vec<Child>);

impl BusyLoops {
    /// So many of them.
    pub fn start(count: usize) -> Self {
        let one =
            || Command::new("sh").args(["-c", "while :; do :; done"]).stdin(Stdio::null()).spawn().unwrap();
        Self((0..count).map(|_| one()).collect())
    }
}

impl Drop for BusyLoops {
    fn drop(&mut self) {
        for child in &mut self.0 {
            // One that has ended by itself is no longer in the way.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
