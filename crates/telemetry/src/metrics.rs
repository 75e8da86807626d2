//! The metrics of a process: one registry in memory, which every export reads.
//!
//! [`Metrics`] is an observer that only counts, so it is told at once and misses nothing: at the end of a drain its
//! counts are the queue's. What the queue holds is [sampled](sample_queue), not counted. OTLP and Prometheus show the
//! same numbers, because they are the same numbers.

mod catalogue;
mod family;
mod labels;
mod sample;

use std::sync::OnceLock;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use longhaul_events::{Event, Observer, WaitCause};

use self::catalogue::{
    ATTEMPTS, BYTES, HOST_WAIT, HTTP_LATENCY, JOBS_COMPLETED, JOBS_FAILED, JOBS_INFLIGHT, LANES, LEASES_LOST,
    OUTCOMES, QUEUE_DEPTH, RATE_SLEEP, RESOLVER_WAIT, RETRIES,
};
pub use self::catalogue::{Instrument, METRICS, Metric};
pub use self::family::{Distribution, Sample, Value};
use self::family::{Family, Measured};
use self::labels::Bounded;
pub use self::sample::{Sampler, sample_queue};

/// So many hosts, and so many resolvers, have a label of their own if nothing else is said.
pub const LABEL_VALUES: usize = 100;

/// Hears of each measurement of a histogram.
pub(crate) type Hook = Box<dyn Fn(&'static Metric, f64, &[&str]) + Send + Sync>;

/// The registry. Counts what it is told; labels never hold more values than it was made for.
pub struct Metrics {
    queue_depth: Family<AtomicI64>,
    lanes: Family<AtomicI64>,
    inflight: Family<AtomicI64>,
    completed: Family<AtomicU64>,
    failed: Family<AtomicU64>,
    attempts: Family<AtomicU64>,
    outcomes: Family<AtomicU64>,
    retries: Family<AtomicU64>,
    bytes: Family<AtomicU64>,
    leases_lost: Family<AtomicU64>,
    latency: Family<Measured>,
    rate_sleep: Family<Measured>,
    resolver_wait: Family<Measured>,
    host_wait: Family<Measured>,
    resolvers: Bounded,
    hosts: Bounded,
    reasons: Bounded,
    hook: OnceLock<Hook>,
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new(LABEL_VALUES)
    }
}

impl Metrics {
    /// A registry in which so many hosts, and so many resolvers, have a label of their own; all further ones are
    /// `other`.
    pub fn new(label_values: usize) -> Self {
        let metrics = Self {
            queue_depth: Family::new(&QUEUE_DEPTH),
            lanes: Family::new(&LANES),
            inflight: Family::new(&JOBS_INFLIGHT),
            completed: Family::new(&JOBS_COMPLETED),
            failed: Family::new(&JOBS_FAILED),
            attempts: Family::new(&ATTEMPTS),
            outcomes: Family::new(&OUTCOMES),
            retries: Family::new(&RETRIES),
            bytes: Family::new(&BYTES),
            leases_lost: Family::new(&LEASES_LOST),
            latency: Family::new(&HTTP_LATENCY),
            rate_sleep: Family::new(&RATE_SLEEP),
            resolver_wait: Family::new(&RESOLVER_WAIT),
            host_wait: Family::new(&HOST_WAIT),
            resolvers: Bounded::new(label_values),
            hosts: Bounded::new(label_values),
            // Codes are few; should an embedder's not be, they are bounded like the others.
            reasons: Bounded::new(LABEL_VALUES),
            hook: OnceLock::new(),
        };
        // What is known to exist begins at zero: a rate can be taken from its first change on.
        metrics.inflight.with(&[]);
        metrics.leases_lost.with(&[]);
        for state in ["done", "skipped", "error"] {
            metrics.completed.with(&[state]);
        }
        metrics
    }

    /// Everything that was measured of one metric, in the order of its labels. Empty if that is nothing yet.
    pub fn read(&self, metric: &Metric) -> Vec<Sample> {
        let counters = [
            &self.completed,
            &self.failed,
            &self.attempts,
            &self.outcomes,
            &self.retries,
            &self.bytes,
            &self.leases_lost,
        ];
        let gauges = [&self.queue_depth, &self.lanes, &self.inflight];
        let histograms = [&self.latency, &self.rate_sleep, &self.resolver_wait, &self.host_wait];
        let counted = counters.iter().find(|family| family.is_of(metric)).map(|family| family.read());
        let held = || gauges.iter().find(|family| family.is_of(metric)).map(|family| family.read());
        let measured = || histograms.iter().find(|family| family.is_of(metric)).map(|family| family.read());
        counted.or_else(held).or_else(measured).unwrap_or_default()
    }

    /// From now on this hears of each measurement of a histogram. Only the first one ever set does.
    #[cfg_attr(not(feature = "otel"), allow(dead_code, reason = "OTLP keeps histograms of its own"))]
    pub(crate) fn on_measurement(&self, hook: Hook) {
        // A second one would count everything twice in the same export.
        let _ = self.hook.set(hook);
    }

    fn measure(&self, family: &Family<Measured>, length: Duration, labels: &[&str]) {
        let ms = length.as_secs_f64() * 1e3;
        family.with(labels).value.add(ms, family.metric().bounds);
        if let Some(hook) = self.hook.get() {
            hook(family.metric(), ms, labels);
        }
    }

    fn waited(&self, why: WaitCause, key: &str, waited: Duration) {
        match why {
            WaitCause::Cap => self.measure(&self.host_wait, waited, &[self.hosts.label(key)]),
            WaitCause::Resolver => self.measure(&self.resolver_wait, waited, &[self.resolvers.label(key)]),
            WaitCause::Pace | WaitCause::CoolDown => {
                self.measure(&self.rate_sleep, waited, &[self.hosts.label(key)]);
            }
            // The process' own rate and bandwidth are nobody's in particular.
            _ => self.measure(&self.rate_sleep, waited, &[labels::NONE]),
        }
    }

    fn settled(&self, verdict: &str, state: &str, resolver: Option<&str>, reason: &str) {
        let resolver = self.resolvers.label(resolver.unwrap_or_default());
        let reason = self.reasons.label(reason);
        count(&self.outcomes, 1, &[resolver, verdict, reason]);
        match state {
            "done" | "skipped" => count(&self.completed, 1, &[state]),
            "error" => {
                count(&self.completed, 1, &[state]);
                count(&self.failed, 1, &[reason]);
            }
            _ => {}
        }
        if verdict == "retry" {
            count(&self.retries, 1, &[resolver, reason]);
        }
    }
}

impl Observer for Metrics {
    fn on_event(&self, event: &Event) {
        match event {
            Event::JobStarted { .. } => {
                self.inflight.with(&[]).value.fetch_add(1, Ordering::Relaxed);
            }
            Event::JobFinished { .. } => {
                self.inflight.with(&[]).value.fetch_sub(1, Ordering::Relaxed);
            }
            Event::Waited { why, key, waited, .. } => self.waited(*why, key, *waited),
            Event::Request { resolver, verb, http_status, elapsed, reason, .. } => {
                let resolver = self.resolvers.label(resolver);
                let status = http_status.map_or_else(|| labels::NONE.to_owned(), |status| status.to_string());
                let reason = self.reasons.label(reason);
                count(&self.attempts, 1, &[resolver, &status, reason, verb.as_str()]);
                self.measure(&self.latency, *elapsed, &[resolver, verb.as_str()]);
            }
            Event::Received { resolver, bytes, .. } => {
                count(&self.bytes, *bytes, &[self.resolvers.label(resolver)]);
            }
            Event::JobSettled { verdict, state, resolver, reason, .. } => {
                self.settled(verdict, state, resolver.as_deref(), reason);
            }
            Event::LeaseLost { .. } => count(&self.leases_lost, 1, &[]),
            _ => {}
        }
    }
}

fn count(family: &Family<AtomicU64>, by: u64, labels: &[&str]) {
    family.with(labels).value.fetch_add(by, Ordering::Relaxed);
}

#[cfg(test)]
mod tests;
