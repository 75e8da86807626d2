//! Observers that tell other programs what happens in a run.
//!
//! [`Metrics`] counts; feature `prometheus` serves its numbers, feature `otel` sends them, and traces with them.
//! [`AttemptsFile`] has one line for each request. Nothing here can slow a job down: what cannot be written in time is
//! dropped and counted.

mod attempts;
mod metrics;
#[cfg(feature = "otel")]
mod otel;
#[cfg(feature = "prometheus")]
mod prometheus;

pub use attempts::AttemptsFile;
pub use metrics::{
    Distribution, Instrument, LABEL_VALUES, METRICS, Metric, Metrics, Sample, Sampler, Value, sample_queue,
};
#[cfg(feature = "otel")]
pub use otel::{Export, ExportError, current_trace};
#[cfg(feature = "prometheus")]
pub use prometheus::{MetricsServer, Readiness, render};
