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

/// What is there of a metric when it is sent. The registry outlives the run, but it must not be kept by it alone.
fn read(metric: &'static Metric, metrics: &Arc<Metrics>) -> impl Fn() -> Vec<(Value, Vec<KeyValue>)> + use<> {
    let metrics = Arc::downgrade(metrics);
    move || {
        let samples = metrics.upgrade().map(|metrics| metrics.read(metric)).unwrap_or_default();
        samples.into_iter().map(|sample| (sample.value, attributes(metric, sample.labels))).collect()
    }
}

fn counter(meter: &Meter, metric: &'static Metric, metrics: &Arc<Metrics>) {
    let read = read(metric, metrics);
    let builder = meter.u64_observable_counter(metric.name).with_description(metric.help);
    builder
        .with_callback(move |observer| {
            for (value, attributes) in read() {
                if let Value::Count(count) = value {
                    observer.observe(count, &attributes);
                }
            }
        })
        .build();
}

fn up_down_counter(meter: &Meter, metric: &'static Metric, metrics: &Arc<Metrics>) {
    let read = read(metric, metrics);
    let builder = meter.i64_observable_up_down_counter(metric.name).with_description(metric.help);
    builder
        .with_callback(move |observer| {
            for (value, attributes) in read() {
                if let Value::Level(level) = value {
                    observer.observe(level, &attributes);
                }
            }
        })
        .build();
}

fn gauge(meter: &Meter, metric: &'static Metric, metrics: &Arc<Metrics>) {
    let read = read(metric, metrics);
    let builder = meter.i64_observable_gauge(metric.name).with_description(metric.help);
    builder
        .with_callback(move |observer| {
            for (value, attributes) in read() {
                if let Value::Level(level) = value {
                    observer.observe(level, &attributes);
                }
            }
        })
        .build();
}
