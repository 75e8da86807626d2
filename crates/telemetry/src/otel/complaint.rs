//! What goes wrong with sending, said at most once a minute.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use longhaul_limiter::Clock;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::metrics::Temporality;
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use opentelemetry_sdk::metrics::exporter::PushMetricExporter;
use opentelemetry_sdk::trace::{SpanData, SpanExporter};

/// So long after something was said nothing more is.
const QUIET: Duration = Duration::from_mins(1);

/// Says what went wrong, unless something was said a moment ago; then it counts.
#[derive(Debug)]
pub(super) struct Complaint {
    clock: Arc<dyn Clock>,
    said: Mutex<Said>,
}

#[derive(Debug, Default)]
struct Said {
    at: Option<Duration>,
    unsaid: u64,
}

impl Complaint {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, said: Mutex::default() }
    }

    /// How many failures to speak of now, this one included; `None` if it is too soon.
    fn due(&self) -> Option<u64> {
        let now = self.clock.monotonic();
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        said.unsaid += 1;
        if said.at.is_some_and(|at| now.saturating_sub(at) < QUIET) {
            return None;
        }
        said.at = Some(now);
        Some(std::mem::take(&mut said.unsaid))
    }

    /// Whether anything was ever said.
    pub(super) fn has_spoken(&self) -> bool {
        self.said.lock().unwrap_or_else(PoisonError::into_inner).at.is_some()
    }

    fn about(&self, target: &str, error: &dyn fmt::Display) {
        if let Some(failures) = self.due() {
            tracing::warn!(
                failures,
                "cannot send {target}: {error}; the run goes on, and what is not taken is lost"
            );
        }
    }
}

/// An exporter whose failures are said.
#[derive(Debug)]
pub(super) struct Reported<E> {
    exporter: E,
    target: String,
    complaint: Arc<Complaint>,
}

impl<E> Reported<E> {
    pub(super) fn new(exporter: E, target: String, complaint: Arc<Complaint>) -> Self {
        Self { exporter, target, complaint }
    }

    fn report(&self, result: OTelSdkResult) -> OTelSdkResult {
        if let Err(error) = &result {
            self.complaint.about(&self.target, error);
        }
        result
    }
}

impl<E: SpanExporter> SpanExporter for Reported<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        self.report(self.exporter.export(batch).await)
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

impl<E: PushMetricExporter> PushMetricExporter for Reported<E> {
    async fn export(&self, metrics: &ResourceMetrics) -> OTelSdkResult {
        self.report(self.exporter.export(metrics).await)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn temporality(&self) -> Temporality {
        self.exporter.temporality()
    }
}

#[cfg(test)]
mod tests {
    use longhaul_limiter::ManualClock;

    use super::*;

    #[test]
    fn a_failure_is_spoken_of_at_most_once_a_minute_with_how_many_there_were() {
        let clock = Arc::new(ManualClock::new());
        let complaint = Complaint::new(Arc::clone(&clock) as Arc<dyn Clock>);
        let mut said = Vec::new();
        for _ in 0..13 {
            said.extend(complaint.due());
            clock.advance(Duration::from_secs(10));
        }
        // At 0, 60 and 120 seconds.
        assert_eq!(said, [1, 6, 6]);
    }
}
