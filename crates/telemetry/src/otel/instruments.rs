//! The registry as OpenTelemetry's instruments: counters and gauges are read when they are sent, histograms are told
//! each measurement, since OpenTelemetry has no way to read one.

use std::collections::HashMap;
use std::sync::Arc;

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Histogram, Meter, MeterProvider as _};
use opentelemetry_sdk::metrics::SdkMeterProvider;

use crate::metrics::{Instrument, METRICS, Metric, Metrics, Value};

/// Sends the registry through this provider from now on.
pub(super) fn attach(provider: &SdkMeterProvider, metrics: &Arc<Metrics>) {
    let meter = provider.meter("longhaul");
    let mut histograms: HashMap<&'static str, Histogram<f64>> = HashMap::new();
    for metric in METRICS {
        match metric.instrument {
            Instrument::Counter => counter(&meter, metric, metrics),
            Instrument::UpDownCounter => up_down_counter(&meter, metric, metrics),
            Instrument::Gauge => gauge(&meter, metric, metrics),
            Instrument::Histogram => {
                let builder = meter.f64_histogram(metric.name).with_description(metric.help);
                let builder = builder.with_unit("ms").with_boundaries(metric.bounds.to_vec());
                histograms.insert(metric.name, builder.build());
            }
        }
    }
    metrics.on_measurement(Box::new(move |metric, value, labels| {
        if let Some(histogram) = histograms.get(metric.name) {
            histogram.record(value, &attributes(metric, labels.iter().map(|label| (*label).to_owned())));
        }
    }));
}

fn attributes(metric: &Metric, values: impl IntoIterator<Item = String>) -> Vec<KeyValue> {
    metric.labels.iter().zip(values).map(|(name, value)| KeyValue::new(*name, value)).collect()
}

/// What is there of a metric when it is sent, of the kind that its instrument takes. The registry outlives the run, but it
/// must not be kept by it alone.
fn read<T>(
    metric: &'static Metric,
    metrics: &Arc<Metrics>,
    kind: fn(&Value) -> Option<T>,
) -> impl Fn() -> Vec<(T, Vec<KeyValue>)> + use<T> {
    let metrics = Arc::downgrade(metrics);
    move || {
        let samples = metrics.upgrade().map(|metrics| metrics.read(metric)).unwrap_or_default();
        samples
            .into_iter()
            .filter_map(|sample| Some((kind(&sample.value)?, attributes(metric, sample.labels))))
            .collect()
    }
}

fn count(value: &Value) -> Option<u64> {
    if let Value::Count(count) = value { Some(*count) } else { None }
}

fn level(value: &Value) -> Option<i64> {
    if let Value::Level(level) = value { Some(*level) } else { None }
}

fn counter(meter: &Meter, metric: &'static Metric, metrics: &Arc<Metrics>) {
    let read = read(metric, metrics, count);
    let builder = meter.u64_observable_counter(metric.name).with_description(metric.help);
    builder.with_callback(move |to| read().iter().for_each(|(count, of)| to.observe(*count, of))).build();
}

fn up_down_counter(meter: &Meter, metric: &'static Metric, metrics: &Arc<Metrics>) {
    let read = read(metric, metrics, level);
    let builder = meter.i64_observable_up_down_counter(metric.name).with_description(metric.help);
    builder.with_callback(move |to| read().iter().for_each(|(level, of)| to.observe(*level, of))).build();
}

fn gauge(meter: &Meter, metric: &'static Metric, metrics: &Arc<Metrics>) {
    let read = read(metric, metrics, level);
    let builder = meter.i64_observable_gauge(metric.name).with_description(metric.help);
    builder.with_callback(move |to| read().iter().for_each(|(level, of)| to.observe(*level, of))).build();
}
