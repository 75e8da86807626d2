//! Runs a queue: leases jobs, lets workers run them, settles, publishes, and ends when it is told to or done.
//!
//! [`Orchestrator::start`] takes a configuration and the [`Parts`] (queue, pipeline, observer, clock) and returns a
//! [`RunHandle`]. One dispatcher decides everything about jobs; it is driven by events and has no tick. Beside it a
//! heartbeat keeps the leases alive, a publisher gives files their final names off the slots' path, and a recovery
//! publishes what a crash left unpublished.
//!
//! This crate opens no store, knows no HTTP, reads no configuration file, and installs no signal handler and no
//! subscriber; whoever embeds it does, and calls [`RunHandle::stop`].

mod ahead;
mod alone;
mod call;
mod config;
mod critical;
mod dispatcher;
mod error;
mod fault;
mod heartbeat;
mod identity;
mod late;
mod publisher;
mod recovery;
mod registry;
mod run;
mod shared;
mod summary;
mod tally;

pub use config::{Budgets, OrchestratorConfig};
pub use error::{ErrorKind, OrchestratorError, Result};
pub use run::{Orchestrator, Parts, RunHandle, Stopper};
pub use summary::{Budget, RunEnd, RunSummary};
