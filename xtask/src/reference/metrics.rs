//! The reference of the metrics, from their catalogue.

use longhaul_telemetry::{Instrument, METRICS, Metric};

/// The page's beginning.
const HEAD: &str = "\
# Metrics and traces

A run counts what it does in one registry. `--metrics-listen 127.0.0.1:9464` serves it for Prometheus; the standard variables
of OpenTelemetry send it by OTLP. Both show the same numbers under the same names. The table is made from the catalogue
(`cargo xtask reference`).

Counters count from the start of a process. What the queue holds (`Sampled`) is looked at every few seconds and once more at
the end of a run. The labels `host` and `resolver` have at most as many values as `--metrics-label-values` says (100); all
further ones are `other`. No label holds a URL, a DOI or a job.

| metric | instrument | labels | meaning |
|---|---|---|---|
";

/// What follows the table.
const TAIL: &str = "
## Prometheus

`--metrics-listen ADDRESS` has three pages: `/metrics`, `/healthz` (the process serves), and `/readyz` (the run takes work: 503
before it has joined its queue and once it is being stopped). There is neither a password nor encryption: listen on the
loopback address, or on a network whose members may know how the run goes.

## OTLP

Nothing is sent unless a variable asks for it.

| variable | meaning |
|---|---|
| `OTEL_EXPORTER_OTLP_ENDPOINT` | where metrics and traces go; `…_METRICS_ENDPOINT` and `…_TRACES_ENDPOINT` for one of them |
| `OTEL_EXPORTER_OTLP_PROTOCOL` | `http/protobuf` (the default) or `grpc`; also for one of them |
| `OTEL_METRICS_EXPORTER`, `OTEL_TRACES_EXPORTER` | `otlp` (to the usual place if no endpoint is named) or `none` |
| `OTEL_EXPORTER_OTLP_HEADERS`, `…_TIMEOUT`, `…_COMPRESSION` | as OpenTelemetry has them |
| `OTEL_METRIC_EXPORT_INTERVAL`, `OTEL_BSP_*` | as OpenTelemetry has them |
| `OTEL_TRACES_SAMPLER`, `…_ARG` | as OpenTelemetry has them; if it is not set, at most 2,000 traces begin at once and 500 a second, each whole, and faster runs are traced in part |
| `OTEL_SERVICE_NAME`, `OTEL_RESOURCE_ATTRIBUTES` | who sends; `longhaul` if neither names a service |
| `OTEL_SDK_DISABLED` | `true` sends nothing |

A receiver that is away, slow or refuses holds no job up. The run says so at most once a minute, and what is not taken is lost.
At its end a run waits for the last sending a twentieth of its own time, at least 0.3 s and at most three.

## Spans

| span | in | attributes |
|---|---|---|
| `orchestrator.dispatch` | – | `leased`, `settled`: one call to the queue |
| `job` | – | `job.id`, `artifact.id`, `job.attempt`, `host`, `outcome`, `reason`: one try, and the root of a trace of its own |
| `resolve` | `job` | |
| `prepare` | `job` | `host`: takes up what an earlier try left, and waits for admission |
| `http.request` | `job` | `resolver`, `host`, `from_cache`, and those of OpenTelemetry's conventions for HTTP clients: `http.request.method`, `http.response.status_code`, `http.response.body.size`, `url.full` (without user info and query), `server.address`, `server.port`, `error.type` |
| `stream` | `http.request` | |
| `finalize` | `job` | checks, digest, the name to be |

While traces are sent, lines of the log that belong to a try end with its `trace_id` and `span_id`.
";

/// The page.
pub(super) fn page() -> String {
    METRICS.iter().fold(HEAD.to_owned(), |page, metric| page + &row(metric)) + TAIL
}

fn row(metric: &Metric) -> String {
    let instrument = match metric.instrument {
        Instrument::Counter => "counter",
        Instrument::UpDownCounter => "up-down counter",
        Instrument::Gauge => "gauge",
        Instrument::Histogram => "histogram",
    };
    let labels = metric.labels.iter().map(|label| format!("`{label}`")).collect::<Vec<_>>().join(", ");
    format!("| `{}` | {instrument} | {labels} | {} |\n", metric.name, metric.help)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_has_its_row() {
        let page = page();
        assert_eq!(page.matches("\n| `contentdownload_").count(), METRICS.len());
        assert!(
            page.contains("| `contentdownload_retries_total` | counter | `resolver`, `reason` |"),
            "{page}"
        );
    }
}
