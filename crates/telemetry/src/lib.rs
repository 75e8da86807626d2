//! Observers that tell other programs, and people, what happens in a run.
//!
//! [`Metrics`] counts; feature `prometheus` serves its numbers, feature `otel` sends them, and traces with them.
//! [`AttemptsFile`] has one line for each request; [`RunReport`] becomes the report of a run. Nothing here can slow a
//! job down: what cannot be written in time is dropped and counted.

mod attempts;
pub mod human;
mod metrics;
#[cfg(feature = "otel")]
mod otel;
#[cfg(feature = "prometheus")]
mod prometheus;
mod report;

pub use attempts::{AttemptsEnd, AttemptsFile, AttemptsOptions, Repair};
pub use metrics::{
    Distribution, Instrument, LABEL_VALUES, METRICS, Metric, Metrics, Sample, Sampler, Value, sample_queue,
};
#[cfg(feature = "otel")]
pub use otel::{Export, ExportError, current_trace};
#[cfg(feature = "prometheus")]
pub use prometheus::{MetricsServer, Readiness, render};
pub use report::{
    EndedRun, HostRow, Hosts, Jobs, Left, OtherHosts, OutcomeRow, Progress, ProgressBucket, Report,
    ReportFiles, ReportTarget, Requests, RunEnding, RunReport, Tries, Waited,
};
