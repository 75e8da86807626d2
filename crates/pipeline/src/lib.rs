//! What is done with one job: resolve → plan → stream → finalize.
//!
//! [`Pipeline`] is the contract; it knows nothing of the queue. It is handed a [`Job`] and a [`Context`], through
//! which it asks before every request, and it returns a [`RunResult`]. [`FnPipeline`] makes a pipeline from a
//! closure, for work that is not HTTP. The feature `http` (default) is the one that downloads.

mod closure;
mod contract;
mod outcome;
mod reason;
mod record;
mod redact;

pub use closure::FnPipeline;
pub use contract::{Context, Grant, Job, Pipeline, PublishError};
pub use outcome::{Ended, EndedState, FailureClass, Fetched, HostReport, Move, Outcome, PartFile, RunResult};
pub use reason::Reason;
pub use record::{Expect, Record, RecordError};

#[cfg(feature = "http")]
mod http;
#[cfg(feature = "http")]
pub use http::{
    FileState, HttpOptions, HttpPipeline, Layout, Leftover, Network, NetworkError, OutputFolder,
    SecretHeaders, SetupError,
};
