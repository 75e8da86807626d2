//! The text format, version 0.0.4: <https://prometheus.io/docs/instrumenting/exposition_formats/>.

use std::fmt::Write;

use crate::metrics::{Distribution, Instrument, METRICS, Metric, Metrics, Value};

/// The whole registry as Prometheus reads it. Names are exactly those of [`METRICS`]: nothing is added to them but what
/// a histogram's series have by the format.
pub fn render(metrics: &Metrics) -> String {
    let mut text = String::with_capacity(8 * 1024);
    for metric in METRICS {
        let kind = match metric.instrument {
            Instrument::Counter => "counter",
            Instrument::UpDownCounter | Instrument::Gauge => "gauge",
            Instrument::Histogram => "histogram",
        };
        line(&mut text, format_args!("# HELP {} {}", metric.name, escaped(metric.help, false)));
        line(&mut text, format_args!("# TYPE {} {kind}", metric.name));
        for sample in metrics.read(metric) {
            let labels = labels(metric, &sample.labels);
            match sample.value {
                Value::Count(count) => number(&mut text, metric.name, "", &labels, count),
                Value::Level(level) => number(&mut text, metric.name, "", &labels, level),
                Value::Distribution(measured) => distribution(&mut text, metric, &labels, &measured),
            }
        }
    }
    text
}

fn distribution(text: &mut String, metric: &Metric, labels: &str, measured: &Distribution) {
    let comma = if labels.is_empty() { "" } else { "," };
    let mut up_to = 0;
    for (bound, count) in metric.bounds.iter().zip(&measured.buckets) {
        up_to += count;
        number(text, metric.name, "_bucket", &format!("{labels}{comma}le=\"{bound}\""), up_to);
    }
    number(text, metric.name, "_bucket", &format!("{labels}{comma}le=\"+Inf\""), measured.count);
    number(text, metric.name, "_sum", labels, measured.sum);
    number(text, metric.name, "_count", labels, measured.count);
}

fn labels(metric: &Metric, values: &[String]) -> String {
    let pairs = metric.labels.iter().zip(values);
    pairs.map(|(name, value)| format!("{name}=\"{}\"", escaped(value, true))).collect::<Vec<_>>().join(",")
}

fn number(text: &mut String, name: &str, suffix: &str, labels: &str, value: impl std::fmt::Display) {
    if labels.is_empty() {
        line(text, format_args!("{name}{suffix} {value}"));
    } else {
        line(text, format_args!("{name}{suffix}{{{labels}}} {value}"));
    }
}

fn line(text: &mut String, what: std::fmt::Arguments<'_>) {
    // Writing to a `String` cannot fail.
    let _ = writeln!(text, "{what}");
}

fn escaped(value: &str, quoted: bool) -> String {
    let mut text = String::with_capacity(value.len());
    for letter in value.chars() {
        match letter {
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '"' if quoted => text.push_str("\\\""),
            other => text.push(other),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use longhaul_events::{Event, Observer as _, WaitCause};

    use super::*;

    #[test]
    fn a_name_is_as_it_stands_in_the_catalogue_and_a_histogram_is_cumulative() {
        let metrics = Metrics::default();
        for ms in [1, 30, 30, 9_999_999] {
            let key = "h.example".to_owned();
            let waited = Duration::from_millis(ms);
            metrics.on_event(&Event::Waited { job: 1, why: WaitCause::Cap, key, waited });
        }
        let text = render(&metrics);
        let name = "contentdownload_host_concurrency_wait_ms";
        for expected in [
            "# TYPE contentdownload_jobs_completed_total counter\n".to_owned(),
            "\ncontentdownload_jobs_completed_total{outcome=\"done\"} 0\n".to_owned(),
            "\ncontentdownload_jobs_inflight 0\n".to_owned(),
            format!("# TYPE {name} histogram\n"),
            format!("\n{name}_bucket{{host=\"h.example\",le=\"1\"}} 1\n"),
            format!("\n{name}_bucket{{host=\"h.example\",le=\"100\"}} 3\n"),
            format!("\n{name}_bucket{{host=\"h.example\",le=\"7200000\"}} 3\n"),
            format!("\n{name}_bucket{{host=\"h.example\",le=\"+Inf\"}} 4\n"),
            format!("\n{name}_sum{{host=\"h.example\"}} 10000060\n"),
            format!("\n{name}_count{{host=\"h.example\"}} 4\n"),
        ] {
            assert!(text.contains(&expected), "{expected} is missing in\n{text}");
        }
        assert!(!text.contains("_total_total") && !text.contains("milliseconds_"), "{text}");
    }

    #[test]
    fn a_label_cannot_break_out_of_its_quotes() {
        assert_eq!(escaped("a\"b\\c\nd", true), "a\\\"b\\\\c\\nd");
        assert_eq!(escaped("a\"b", false), "a\"b");
    }
}
