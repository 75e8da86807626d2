//! Runs one leased job.
//!
//! [`Worker::run`] takes a job that the queue leased, lets a [`Pipeline`](longhaul_pipeline::Pipeline) work on it,
//! and returns a [`Finished`]: what the queue is to be told. It settles nothing itself and leases nothing; whoever
//! embeds it (usually longhaul-orchestrator) sends the settlements, many at a time, and publishes what was recorded.
//!
//! Between the pipeline and the queue stands the context that each try is given: it answers the first request from
//! the lease, asks the queue for every further one, and refuses all of them once the process can no longer be sure
//! of its leases ([`LeaseTrust`]) or a host has just asked for quiet ([`HoldBacks`]).

mod backoff;
mod context;
mod finished;
mod hold_back;
mod permits;
mod recorded;
mod starts;
mod trust;
mod verdict;
mod waits;
mod worker;

pub use backoff::StoreBackoff;
pub use context::Answered;
pub use finished::Finished;
pub use hold_back::HoldBacks;
pub use recorded::{RecordedError, ended_from_record, is_out_of_attempts};
pub use trust::LeaseTrust;
pub use worker::{Worker, WorkerConfig, WorkerParts};
