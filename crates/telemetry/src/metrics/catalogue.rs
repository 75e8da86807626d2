//! What is measured: names, labels and meaning. Dashboards and alerts are written against these names.

/// How a metric behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Instrument {
    /// Only grows while the process lives.
    Counter,
    /// Goes up and down with what happens.
    UpDownCounter,
    /// Is looked at from time to time.
    Gauge,
    /// How often each length of time came.
    Histogram,
}

/// One metric.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Metric {
    /// Its name, the same in every export.
    pub name: &'static str,
    /// What it says.
    pub help: &'static str,
    /// How it behaves.
    pub instrument: Instrument,
    /// Its labels, in order.
    pub labels: &'static [&'static str],
    /// The upper bounds of a histogram's buckets, in milliseconds.
    pub bounds: &'static [f64],
}

impl Metric {
    const fn new(
        name: &'static str,
        instrument: Instrument,
        labels: &'static [&'static str],
        help: &'static str,
    ) -> Self {
        Self { name, help, instrument, labels, bounds: &[] }
    }

    const fn with_bounds(mut self, bounds: &'static [f64]) -> Self {
        self.bounds = bounds;
        self
    }
}

use Instrument::{Counter, Gauge, Histogram, UpDownCounter};

/// From an answer out of a cache nearby to a large file from a slow host.
const REQUEST_MS: &[f64] = &[
    5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1_000.0, 2_500.0, 5_000.0, 10_000.0, 30_000.0, 60_000.0,
    300_000.0,
];
/// From the last moment of a pace to a host that is closed for hours.
const WAIT_MS: &[f64] = &[
    1.0,
    5.0,
    25.0,
    100.0,
    250.0,
    500.0,
    1_000.0,
    5_000.0,
    15_000.0,
    60_000.0,
    300_000.0,
    1_800_000.0,
    7_200_000.0,
];

pub(super) const QUEUE_DEPTH: Metric = Metric::new(
    "contentdownload_queue_depth",
    Gauge,
    &["state"],
    "Jobs in the queue by state: queued, in_progress, done, skipped, error. Sampled.",
);
pub(super) const JOBS_COMPLETED: Metric = Metric::new(
    "contentdownload_jobs_completed_total",
    Counter,
    &["outcome"],
    "Jobs that ended, as this process recorded them: done, skipped, error.",
);
pub(super) const JOBS_FAILED: Metric = Metric::new(
    "contentdownload_jobs_failed_total",
    Counter,
    &["reason"],
    "Jobs that ended in error, by reason code.",
);
pub(super) const JOBS_INFLIGHT: Metric = Metric::new(
    "contentdownload_jobs_inflight",
    UpDownCounter,
    &[],
    "Jobs that are at work in this process.",
);
pub(super) const ATTEMPTS: Metric = Metric::new(
    "contentdownload_attempts_total",
    Counter,
    &["resolver", "status", "reason", "verb"],
    "Requests that ended, by the answer's status (none without an answer) and by what it came to.",
);
pub(super) const OUTCOMES: Metric = Metric::new(
    "contentdownload_outcomes_total",
    Counter,
    &["resolver", "outcome", "reason"],
    "Tries that were recorded: done, skipped, error, retry, deferred, throttled, released.",
);
pub(super) const RETRIES: Metric = Metric::new(
    "contentdownload_retries_total",
    Counter,
    &["resolver", "reason"],
    "Tries that failed and are repeated, by reason code.",
);
pub(super) const BYTES: Metric = Metric::new(
    "contentdownload_bytes_total",
    Counter,
    &["resolver"],
    "Bytes of artifacts that arrived, of failed tries too.",
);
pub(super) const HTTP_LATENCY: Metric = Metric::new(
    "contentdownload_http_latency_ms",
    Histogram,
    &["resolver", "verb"],
    "Requests from before the connect to the body's end, in milliseconds.",
)
.with_bounds(REQUEST_MS);
pub(super) const RATE_SLEEP: Metric = Metric::new(
    "contentdownload_rate_sleep_ms",
    Histogram,
    &["host"],
    "Waits for a host's pace or cool-down, and for the process' own rate (host none), in milliseconds.",
)
.with_bounds(WAIT_MS);
pub(super) const RESOLVER_WAIT: Metric = Metric::new(
    "contentdownload_resolver_concurrency_wait_ms",
    Histogram,
    &["resolver"],
    "Waits for a permit of a resolver, in milliseconds.",
)
.with_bounds(WAIT_MS);
pub(super) const HOST_WAIT: Metric = Metric::new(
    "contentdownload_host_concurrency_wait_ms",
    Histogram,
    &["host"],
    "Waits for a slot of a host, in milliseconds.",
)
.with_bounds(WAIT_MS);
pub(super) const LEASES_LOST: Metric = Metric::new(
    "contentdownload_leases_lost_total",
    Counter,
    &[],
    "Tries that were not recorded, because the job had been taken away.",
);
pub(super) const LANES: Metric = Metric::new(
    "contentdownload_lanes",
    Gauge,
    &["state"],
    "Hosts that have work or are remembered: open, full, cooling, paused. Sampled.",
);

/// All metrics.
pub const METRICS: &[Metric] = &[
    QUEUE_DEPTH,
    JOBS_COMPLETED,
    JOBS_FAILED,
    JOBS_INFLIGHT,
    ATTEMPTS,
    OUTCOMES,
    RETRIES,
    BYTES,
    HTTP_LATENCY,
    RATE_SLEEP,
    RESOLVER_WAIT,
    HOST_WAIT,
    LEASES_LOST,
    LANES,
];
