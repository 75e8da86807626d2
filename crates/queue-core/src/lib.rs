//! A durable job queue with fenced leases, fair lanes, slots and paces.
//!
//! - [`WorkQueue`] is what workers need, [`QueueAdmin`] what operators need; both are small, batch-first and
//!   object-safe. [`WorkQueueExt`] adds the classic verbs for one job.
//! - [`MemoryQueue`] is the reference model: obviously right, and real enough to embed.
//! - `SqliteQueue` (feature `sqlite`, default) is the embedded store.
//! - `DocsToKgQueue` (feature `sqlite`) reads the queue file of DocsToKG, whose jobs [`QueueAdmin::adopt`] takes over.
//! - `FlakyQueue` (feature `fakes`) stands before any of them and loses calls and replies by a plan.
//! - `conformance` (feature) is the suite that every backend must pass; write your own backend against it.
//!
//! Without features this crate knows no SQL and no runtime, and it never reads a clock itself: a store is given
//! one. It knows nothing of HTTP; a [`Lane`] is a key, and what a job carries is opaque to it.

mod admin;
#[cfg(feature = "sqlite")]
mod config;
mod critical;
#[cfg(feature = "sqlite")]
mod docstokg;
mod error;
mod explain;
#[cfg(feature = "fakes")]
mod flaky;
mod grant;
mod ids;
mod job;
mod lane;
mod lease;
mod memory;
mod queue;
mod settle;
mod state;
mod stats;

pub use admin::{Explanation, JobFilter, JobPage, LanePage, QueueAdmin, QueueCheck, WorkerRow};
pub use critical::{Critical, CriticalTurns, Survey, Throughput};
pub use error::{ErrorKind, QueueError, Result};
#[cfg(feature = "fakes")]
pub use flaky::{FlakyPlan, FlakyQueue};
pub use grant::LEAD_MAX;
pub use ids::{ArtifactId, Class, Epoch, JobId, LeaseToken, RequestNumber, StoreId, Timestamp, WorkerId};
pub use job::{AdoptedJob, Enqueued, HistoryEntry, JobRecord, LeasedJob, NewJob, Place};
pub use lane::{LaneClosure, LanePace, LaneReport, LaneRow};
pub use lease::{Admission, AdmitRequest, Heartbeat, LeaseBatch, LeaseRequest, Started, WorkerInfo};
pub use longhaul_limiter::{Keying, Lane, LaneRules, Role, StatedLimits};
pub use memory::MemoryQueue;
pub use queue::{WorkQueue, WorkQueueExt};
pub use settle::{Answer, Settled, Settlement, StoredFile, Verdict};
pub use state::{Charge, IllegalTransition, JobEvent, JobState, Transition};
pub use stats::{QueueStats, StateCounts};

#[cfg(feature = "conformance")]
pub mod conformance;
#[cfg(feature = "sqlite")]
mod sqlite;
#[cfg(feature = "sqlite")]
pub use config::{Backend, QueueConfig};
#[cfg(feature = "sqlite")]
pub use docstokg::{DocsToKgJob, DocsToKgQueue, DocsToKgRow};
#[cfg(feature = "sqlite")]
pub use sqlite::{Durability, SqliteOptions, SqliteQueue};
