//! One metric with all its label values.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use super::Metric;

/// What was measured for one set of label values.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// The values of the metric's labels, in its order.
    pub labels: Vec<String>,
    /// What was measured.
    pub value: Value,
}

/// A measured value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Of a counter.
    Count(u64),
    /// Of what goes up and down.
    Level(i64),
    /// Of a histogram.
    Distribution(Distribution),
}

/// How often lengths of time came, in milliseconds.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Distribution {
    /// How many came up to each bound but not to the one before, and last those beyond all bounds.
    pub buckets: Vec<u64>,
    /// How many came.
    pub count: u64,
    /// All together.
    pub sum: f64,
}

/// A value that can be read while it changes.
pub(super) trait Read: Default {
    fn read(&self) -> Value;
}

impl Read for AtomicU64 {
    fn read(&self) -> Value {
        Value::Count(self.load(Ordering::Relaxed))
    }
}

impl Read for AtomicI64 {
    fn read(&self) -> Value {
        Value::Level(self.load(Ordering::Relaxed))
    }
}

/// A distribution that is being measured.
#[derive(Debug, Default)]
pub(super) struct Measured(Mutex<Distribution>);

impl Measured {
    /// One more. A value that is exactly a bound belongs to it.
    pub(super) fn add(&self, value: f64, bounds: &[f64]) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.buckets.resize(bounds.len() + 1, 0);
        let bucket = bounds.partition_point(|bound| *bound < value);
        kept.buckets[bucket] += 1;
        kept.count += 1;
        kept.sum += value;
    }
}

impl Read for Measured {
    fn read(&self) -> Value {
        Value::Distribution(self.0.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

/// One set of label values with its value.
#[derive(Debug)]
pub(super) struct Series<V> {
    labels: Vec<String>,
    pub(super) value: V,
}

/// A metric's series by the hash of their label values, so that finding one copies no label. Only those who come first
/// write; after that a look-up is a read lock and a comparison.
#[derive(Debug)]
pub(super) struct Family<V> {
    metric: &'static Metric,
    hasher: RandomState,
    series: RwLock<HashMap<u64, Vec<Arc<Series<V>>>>>,
}

impl<V: Read> Family<V> {
    pub(super) fn new(metric: &'static Metric) -> Self {
        Self { metric, hasher: RandomState::new(), series: RwLock::default() }
    }

    pub(super) fn metric(&self) -> &'static Metric {
        self.metric
    }

    pub(super) fn is_of(&self, metric: &Metric) -> bool {
        self.metric.name == metric.name
    }

    /// The series of these label values, which begins now if it is new.
    pub(super) fn with(&self, labels: &[&str]) -> Arc<Series<V>> {
        let hash = self.hasher.hash_one(labels);
        let is_it = |one: &&Arc<Series<V>>| one.labels.iter().map(String::as_str).eq(labels.iter().copied());
        let known = |all: &HashMap<u64, Vec<Arc<Series<V>>>>| {
            all.get(&hash).and_then(|alike| alike.iter().find(is_it)).map(Arc::clone)
        };
        if let Some(found) = known(&self.series.read().unwrap_or_else(PoisonError::into_inner)) {
            return found;
        }
        let mut all = self.series.write().unwrap_or_else(PoisonError::into_inner);
        // Somebody may have been quicker.
        if let Some(found) = known(&all) {
            return found;
        }
        let labels = labels.iter().map(|label| (*label).to_owned()).collect();
        let new = Arc::new(Series { labels, value: V::default() });
        all.entry(hash).or_default().push(Arc::clone(&new));
        new
    }

    /// All series, in the order of their labels.
    pub(super) fn read(&self) -> Vec<Sample> {
        let all = self.series.read().unwrap_or_else(PoisonError::into_inner);
        let series = all.values().flatten();
        let mut samples: Vec<Sample> =
            series.map(|one| Sample { labels: one.labels.clone(), value: one.value.read() }).collect();
        drop(all);
        samples.sort_by(|a, b| a.labels.cmp(&b.labels));
        samples
    }
}
