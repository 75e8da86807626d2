//! A stage for tests of the real binary: an origin, a folder, and the program in it.
//!
//! The tests themselves are in `tests/tests/`. Each has its everyday size; with `LONGHAUL_PROVE` set it runs with the
//! full figures (`cargo xtask prove`).
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod busy;
mod commits;
mod delays;
mod fleet;
mod origin_process;
mod pool;
mod program;
mod receiver;
mod stage;
mod starts;
mod usage;

pub use busy::BusyLoops;
pub use commits::Commits;
pub use delays::{freeze, late_syncs};
pub use fleet::{Fleet, Measured, open_host};
pub use origin_process::{OriginProcess, beside_the_test};
pub use pool::{Wanted, fair_pool};
pub use program::{Finished, Program, program_path};
pub use receiver::{Manners, Otlp, Receiver, Taken};
pub use stage::{LOCAL, Stage};
pub use starts::Starts;
pub use usage::Usage;

/// Whether the full figures are asked for.
pub fn proving() -> bool {
    std::env::var_os("LONGHAUL_PROVE").is_some()
}

/// One of two sizes.
pub fn size<T>(everyday: T, full: T) -> T {
    if proving() { full } else { everyday }
}
