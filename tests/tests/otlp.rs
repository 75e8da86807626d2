//! What a collector gets of a run: every metric and span, equal to what the queue and the hosts counted.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "what was measured is to be seen")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use longhaul_origin::{Answer, Behaviour, Fault, HostConfig, Target};
use longhaul_telemetry::METRICS;
use longhaul_tests::{Finished, Manners, Otlp, Program, Receiver, Stage, Taken, proving, size};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value as Number;
use opentelemetry_proto::tonic::metrics::v1::{Metric, NumberDataPoint};
use opentelemetry_proto::tonic::trace::v1::Span;
use serde_json::Value as Json;

/// Long enough for everything here; a run that hangs fails the test and not the whole suite.
const FAR: Duration = Duration::from_mins(2);

/// What stands in every URL and must stand nowhere else.
const SECRET: &str = "hunter2";

async fn end_of(program: Program) -> Finished {
    tokio::time::timeout(FAR, program.finish()).await.expect("it hangs")
}

/// Hosts of every temper, and jobs for each.
async fn stage() -> (Stage, Vec<Json>) {
    let to = |name: &str, path: &str| Target::Host { name: name.to_owned(), path: path.to_owned() };
    let stage = Stage::new([
        HostConfig::answering("good", Answer::after_ms(20)),
        HostConfig::answering("gone", Answer::status(404)),
        HostConfig::answering(
            "moody",
            Answer::default().failing_first(Fault::Status { status: 500, retry_after: None }),
        ),
        HostConfig::answering("door", Answer::redirect(to("paced", "/behind-the-door"))),
        HostConfig::answering("paced", Answer::after_ms(1)),
        HostConfig::answering("gate", Answer::redirect(to("narrow", "/behind-the-gate"))),
        HostConfig::answering("narrow", Answer::after_ms(150)),
        HostConfig::new("strict")
            .behaving(Behaviour::answering(Answer::after_ms(1)).tolerating_per_second(2)),
    ])
    .await;
    let mut records = Vec::new();
    for (host, jobs) in [("good", 12), ("gone", 3), ("moody", 4), ("door", 4), ("gate", 4), ("strict", 5)] {
        for job in 0..jobs {
            let path = format!("/{job}?api_key={SECRET}");
            records.push(stage.record(&format!("{host}{job}"), host, &path));
        }
    }
    (stage, records)
}

/// The flags of a run in which each wait comes up.
fn flags(stage: &Stage) -> Vec<String> {
    let paced = format!("{}=8/s", stage.origin.address("paced"));
    [
        "--max-per-host",
        "1",
        "--max-per-resolver",
        "direct=4",
        "--retry-backoff",
        "0.1s",
        "--jitter",
        "0s",
        "--rate",
        &paced,
    ]
    .map(str::to_owned)
    .into()
}

fn variables(receiver: &Receiver, otlp: Otlp) -> Vec<(String, String)> {
    vec![
        ("OTEL_EXPORTER_OTLP_ENDPOINT".to_owned(), receiver.endpoint()),
        ("OTEL_EXPORTER_OTLP_PROTOCOL".to_owned(), otlp.name().to_owned()),
        ("OTEL_RESOURCE_ATTRIBUTES".to_owned(), "deployment.environment.name=test".to_owned()),
    ]
}

fn start(stage: &Stage, more: &[&str], variables: &[(String, String)]) -> Program {
    let flags = flags(stage);
    let arguments: Vec<&str> = flags.iter().map(String::as_str).chain(more.iter().copied()).collect();
    let variables: Vec<_> = variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    stage.start_run_with(&arguments, &variables)
}

fn text(value: Option<&AnyValue>) -> String {
    match value.and_then(|value| value.value.as_ref()) {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::IntValue(number)) => number.to_string(),
        Some(Value::BoolValue(value)) => value.to_string(),
        other => panic!("{other:?}"),
    }
}

fn attributes(all: &[KeyValue]) -> BTreeMap<String, String> {
    all.iter().map(|one| (one.key.clone(), text(one.value.as_ref()))).collect()
}

/// The last value of each series: name, labels, number. A histogram is its count, sum and buckets.
fn numbers(metrics: &[Metric]) -> BTreeMap<(String, BTreeMap<String, String>), f64> {
    let mut all = BTreeMap::new();
    let mut points = |name: &str, points: &[NumberDataPoint]| {
        for point in points {
            let value = match point.value {
                Some(Number::AsInt(value)) => value as f64,
                Some(Number::AsDouble(value)) => value,
                None => panic!("{name} has no value"),
            };
            all.insert((name.to_owned(), attributes(&point.attributes)), value);
        }
    };
    for metric in metrics {
        match metric.data.as_ref().unwrap() {
            Data::Sum(sum) => points(&metric.name, &sum.data_points),
            Data::Gauge(gauge) => points(&metric.name, &gauge.data_points),
            Data::Histogram(_) => {}
            other => panic!("{other:?}"),
        }
    }
    for metric in metrics {
        let Some(Data::Histogram(histogram)) = &metric.data else { continue };
        for point in &histogram.data_points {
            let labels = attributes(&point.attributes);
            all.insert((format!("{}_count", metric.name), labels.clone()), point.count as f64);
            all.insert((format!("{}_sum", metric.name), labels.clone()), point.sum.unwrap());
            let mut up_to = 0;
            let bounds = point.explicit_bounds.iter().map(f64::to_string).chain(["+Inf".to_owned()]);
            for (bound, count) in bounds.zip(&point.bucket_counts) {
                up_to += count;
                let mut labels = labels.clone();
                labels.insert("le".to_owned(), bound);
                all.insert((format!("{}_bucket", metric.name), labels), up_to as f64);
            }
        }
    }
    all
}

/// The sum of all series of a metric whose labels have these values.
fn sum(metrics: &[Metric], name: &str, labels: &[(&str, &str)]) -> u64 {
    let is_it = |(of, has): &&(String, BTreeMap<String, String>)| {
        of == name && labels.iter().all(|(name, value)| has.get(*name).is_some_and(|one| one == value))
    };
    let all = numbers(metrics);
    all.iter().filter(|(key, _)| is_it(key)).map(|(_, value)| *value as u64).sum()
}

/// The numbers of a drain equal those of the queue and of the hosts.
async fn check_metrics(stage: &Stage, taken: &Taken) {
    let last = taken.metrics.last().expect("metrics were sent");
    let arrived: BTreeSet<&str> = last.iter().map(|metric| metric.name.as_str()).collect();
    let named: BTreeSet<&str> = METRICS.iter().map(|metric| metric.name).collect();
    assert_eq!(arrived, named);

    let sum = |name: &str, labels: &[(&str, &str)]| sum(last, &format!("contentdownload_{name}"), labels);
    let counts = stage.counts().await;
    for (state, count) in [("done", counts.done), ("skipped", counts.skipped), ("error", counts.error)] {
        assert_eq!(sum("jobs_completed_total", &[("outcome", state)]), count, "{state}");
        assert_eq!(sum("outcomes_total", &[("outcome", state)]), count, "{state}");
        assert_eq!(sum("queue_depth", &[("state", state)]), count, "{state}");
    }
    assert_eq!((sum("queue_depth", &[]), sum("queue_depth", &[("state", "queued")])), (counts.total(), 0));
    assert_eq!((sum("jobs_failed_total", &[]), sum("jobs_failed_total", &[("reason", "gone")])), (3, 3));
    assert_eq!((sum("jobs_inflight", &[]), sum("leases_lost_total", &[])), (0, 0));

    let report = stage.origin.report();
    assert_eq!(sum("attempts_total", &[]), report.requests());
    assert_eq!(sum("http_latency_ms_count", &[]), report.requests());
    let mut statuses: BTreeMap<u16, u64> = BTreeMap::new();
    for host in report.hosts.values() {
        for (status, count) in &host.statuses {
            *statuses.entry(*status).or_default() += count;
        }
    }
    assert!(statuses[&500] == 4 && statuses[&429] >= 1, "{statuses:?}");
    for (status, count) in statuses {
        assert_eq!(sum("attempts_total", &[("status", &status.to_string())]), count, "{status}");
    }
    assert_eq!(sum("retries_total", &[]), 4);
    let bytes: u64 = stage.manifest().iter().filter_map(|line| line["bytes"].as_u64()).sum();
    assert_eq!(sum("bytes_total", &[("resolver", "direct")]), bytes);
    for waits in ["rate_sleep_ms", "host_concurrency_wait_ms", "resolver_concurrency_wait_ms"] {
        assert!(sum(&format!("{waits}_count"), &[]) > 0, "{waits}");
    }
    assert_eq!(sum("lanes", &[("state", "paused")]), 0);
}

/// The spans of each job are one tree, and there are as many as there was work.
fn check_spans(stage: &Stage, taken: &Taken) {
    let spans = &taken.spans;
    let names: BTreeSet<&str> = spans.iter().map(|span| span.name.as_str()).collect();
    let expected =
        ["finalize", "http.request", "job", "orchestrator.dispatch", "prepare", "resolve", "stream"];
    assert_eq!(names, BTreeSet::from(expected));
    let called = |name: &'static str| spans.iter().filter(move |span| span.name == name);
    assert_eq!(called("http.request").count() as u64, stage.origin.report().requests());

    let leased: u64 = called("orchestrator.dispatch")
        .filter_map(|span| {
            attributes(&span.attributes).get("leased").map(|count| count.parse::<u64>().unwrap())
        })
        .sum();
    // What was leased and could not be started in time was given back, which is an outcome too.
    let recorded = sum(taken.metrics.last().unwrap(), "contentdownload_outcomes_total", &[]);
    assert_eq!(leased, recorded, "every lease had its outcome");
    assert!(called("job").count() as u64 <= leased);

    let mut traces: BTreeMap<&[u8], Vec<&Span>> = BTreeMap::new();
    for span in spans {
        traces.entry(&span.trace_id).or_default().push(span);
    }
    for of_trace in traces.values() {
        let ids: BTreeSet<&[u8]> = of_trace.iter().map(|span| span.span_id.as_slice()).collect();
        let roots: Vec<_> = of_trace.iter().filter(|span| span.parent_span_id.is_empty()).collect();
        assert_eq!(roots.len(), 1, "{of_trace:?}");
        for span in of_trace {
            let is_known = span.parent_span_id.is_empty() || ids.contains(span.parent_span_id.as_slice());
            assert!(is_known, "{} hangs in the air", span.name);
            assert!(span.end_time_unix_nano >= span.start_time_unix_nano);
        }
        let root = roots[0];
        if root.name == "job" {
            let has = attributes(&root.attributes);
            assert!(has.contains_key("job.id") && has.contains_key("artifact.id"), "{has:?}");
        } else {
            assert_eq!((root.name.as_str(), of_trace.len()), ("orchestrator.dispatch", 1));
        }
    }
    for span in called("http.request") {
        let has = attributes(&span.attributes);
        for name in [
            "resolver",
            "host",
            "from_cache",
            "http.request.method",
            "http.response.status_code",
            "server.address",
            "server.port",
            "url.full",
        ] {
            assert!(has.contains_key(name), "{name} is missing in {has:?}");
        }
        assert_eq!(
            has.contains_key("error.type"),
            has["http.response.status_code"].parse::<u16>().unwrap() >= 400
        );
    }
}

async fn drain_with(otlp: Otlp) {
    let (stage, records) = stage().await;
    stage.import(&records).await;
    let receiver = Receiver::start(otlp, Manners::Takes);
    let more = ["--drain", "--log", "longhaul_worker=debug", "--log-format", "json"];
    let run = end_of(start(&stage, &more, &variables(&receiver, otlp))).await.expect_code(3);
    assert!(!run.stderr.contains("cannot send"), "{}", run.stderr);
    assert_eq!(stage.jobs().await.len(), records.len());
    let taken = receiver.taken();
    check_metrics(&stage, &taken).await;
    check_spans(&stage, &taken);

    for resource in &taken.resources {
        let has = attributes(&resource.attributes);
        assert_eq!(
            (has["service.name"].as_str(), has["deployment.environment.name"].as_str()),
            ("longhaul", "test")
        );
    }
    assert!(!format!("{taken:?}").contains(SECRET), "a secret was sent");
    check_log(&run.stderr, &taken.spans);
}

/// Lines that were logged for a job name its trace.
fn check_log(log: &str, spans: &[Span]) {
    let hex = |bytes: &[u8]| bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"));
    let of_jobs: BTreeSet<(String, String)> = spans
        .iter()
        .filter(|span| span.name == "job")
        .map(|span| (hex(&span.trace_id), hex(&span.span_id)))
        .collect();
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Json>(line).ok());
    let over: Vec<Json> = lines.filter(|line| line["fields"]["message"] == "a try is over").collect();
    assert_eq!(over.len(), of_jobs.len(), "{log}");
    for line in over {
        let id = |name: &str| line[name].as_str().unwrap_or_default().to_owned();
        assert!(of_jobs.contains(&(id("trace_id"), id("span_id"))), "{line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_metric_and_span_of_a_drain_arrives_by_grpc() {
    drain_with(Otlp::Grpc).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_metric_and_span_of_a_drain_arrives_by_http() {
    drain_with(Otlp::Http).await;
}

/// The text format, read strictly: every line is a comment of a known kind or a sample of the metric that was announced
/// last, and no sample comes twice.
fn parse(text: &str) -> BTreeMap<(String, BTreeMap<String, String>), f64> {
    let mut samples = BTreeMap::new();
    let (mut family, mut kind) = (String::new(), String::new());
    let mut seen = BTreeSet::new();
    assert!(text.ends_with('\n'));
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, said) = help.split_once(' ').expect(line);
            assert!(seen.insert(name.to_owned()) && !said.is_empty(), "{line}");
            name.clone_into(&mut family);
            continue;
        }
        if let Some(announced) = line.strip_prefix("# TYPE ") {
            let (name, of) = announced.split_once(' ').expect(line);
            assert_eq!(name, family, "{line}");
            assert!(["counter", "gauge", "histogram"].contains(&of), "{line}");
            of.clone_into(&mut kind);
            continue;
        }
        let (series, value) = line.rsplit_once(' ').expect(line);
        let (name, labels) = match series.split_once('{') {
            Some((name, labels)) => (name, labels.strip_suffix('}').expect(line)),
            None => (series, ""),
        };
        let suffix = name.strip_prefix(family.as_str()).expect(line);
        let allowed: &[&str] = if kind == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
        assert!(allowed.contains(&suffix), "{line}");
        let mut pairs = BTreeMap::new();
        for pair in labels.split_terminator("\",") {
            let (name, value) = pair.split_once("=\"").expect(line);
            let value = value.strip_suffix('"').unwrap_or(value);
            assert!(!value.contains(['"', '\\']), "no label of this test needs an escape: {line}");
            assert!(pairs.insert(name.to_owned(), value.to_owned()).is_none(), "{line}");
        }
        assert_eq!(pairs.contains_key("le"), suffix == "_bucket", "{line}");
        let value: f64 = value.parse().expect(line);
        assert!(samples.insert((name.to_owned(), pairs), value).is_none(), "{line} comes twice");
    }
    let announced: BTreeSet<&str> = seen.iter().map(String::as_str).collect();
    assert_eq!(announced, METRICS.iter().map(|metric| metric.name).collect());
    samples
}

/// Asks a page of the program.
async fn get(address: &str, path: &str) -> (u16, String) {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").expect("a whole answer");
    assert!(!head.to_ascii_lowercase().contains("transfer-encoding"), "{head}");
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_served_for_prometheus_is_what_is_sent_by_otlp() {
    let (stage, records) = stage().await;
    stage.import(&records).await;
    let receiver = Receiver::start(Otlp::Http, Manners::Takes);
    let listen = ["--metrics-listen", "127.0.0.1:0"];
    let mut run = start(&stage, &listen, &variables(&receiver, Otlp::Http));
    run.wait_until_it_says(&format!("{0}/{0} ended", records.len())).await;
    let said = run.said();
    let address = said.split("metrics  http://").nth(1).and_then(|rest| rest.split('/').next()).expect(&said);
    assert_eq!(get(address, "/healthz").await.0, 200);
    assert_eq!(get(address, "/readyz").await.0, 200);
    assert_eq!(get(address, "/nothing").await.0, 404);
    let (status, text) = get(address, "/metrics").await;
    assert_eq!(status, 200);
    assert!(!text.contains(SECRET), "{text}");
    let mut served = parse(&text);
    run.signal("TERM");
    let _ = end_of(run).await.expect_code(143);
    let mut sent = numbers(receiver.taken().metrics.last().expect("metrics were sent"));
    // These are looked at from time to time, and once more at the end.
    for name in ["contentdownload_queue_depth", "contentdownload_lanes"] {
        served.retain(|(of, _), _| of != name);
        sent.retain(|(of, _), _| of != name);
    }
    assert!(served.len() > 60, "{text}");
    for (key, value) in &served {
        let other = sent.get(key).unwrap_or_else(|| panic!("{key:?} was not sent"));
        // The same lengths of time, perhaps added up in another order.
        assert!((value - other).abs() <= value.abs() * 1e-9, "{key:?}: {value} was served, {other} was sent");
    }
    assert_eq!(served.len(), sent.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_is_taken_ends_the_run_before_it_begins() {
    let (stage, records) = stage().await;
    stage.import(&records).await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let run = end_of(start(&stage, &["--drain", "--metrics-listen", &address], &[])).await.expect_code(1);
    assert!(run.stderr.contains(&format!("metrics cannot be served on {address}")), "{}", run.stderr);
    assert_eq!(stage.origin.report().requests(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_variable_that_asks_for_what_is_not_there_is_refused_by_name() {
    let (stage, records) = stage().await;
    stage.import(&records).await;
    let variables = [("OTEL_TRACES_EXPORTER".to_owned(), "zipkin".to_owned())];
    let run = end_of(start(&stage, &["--drain"], &variables)).await.expect_code(2);
    assert!(run.stderr.contains("OTEL_TRACES_EXPORTER=zipkin"), "{}", run.stderr);
}

/// Runs against receivers that are away, slow or refuse, beside runs that send nothing: as long, give or take a tenth
/// (judged where it is measured: `cargo xtask prove otlp`), and one word about it.
#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_is_away_slow_or_refuses_holds_nobody_up_and_is_spoken_of_once() {
    let mut judged = Vec::new();
    for (what, otlp, manners) in [
        ("away", Otlp::Grpc, None),
        ("away", Otlp::Http, None),
        ("slow", Otlp::Grpc, Some(Manners::IsSilent)),
        ("slow", Otlp::Http, Some(Manners::IsSilent)),
        ("refuses", Otlp::Grpc, Some(Manners::Refuses)),
        ("refuses", Otlp::Http, Some(Manners::Refuses)),
    ] {
        let mut ratios = Vec::new();
        for _ in 0..size(1, 5) {
            let plain = seconds_of_a_drain(&[]).await.0;
            let receiver = manners.map(|manners| Receiver::start(otlp, manners));
            let mut variables = vec![
                ("OTEL_EXPORTER_OTLP_ENDPOINT".to_owned(), "http://127.0.0.1:9".to_owned()),
                ("OTEL_EXPORTER_OTLP_PROTOCOL".to_owned(), otlp.name().to_owned()),
                ("OTEL_BSP_SCHEDULE_DELAY".to_owned(), "200".to_owned()),
                ("OTEL_METRIC_EXPORT_INTERVAL".to_owned(), "200".to_owned()),
            ];
            if let Some(receiver) = &receiver {
                variables[0].1 = receiver.endpoint();
            }
            let (seconds, log) = seconds_of_a_drain(&variables).await;
            // A short run may end before its first sending has failed: then its last line says it.
            let said = log.matches("cannot send").count();
            let said_at_the_end = log.contains("not all could be sent before the end");
            assert!(said <= 1, "{what} by {otlp:?}: said {said} times in\n{log}");
            assert!(said == 1 || said_at_the_end, "{what} by {otlp:?}: never said in\n{log}");
            ratios.push(seconds / plain);
        }
        ratios.sort_by(f64::total_cmp);
        judged.push((what, otlp, ratios[ratios.len() / 2]));
    }
    println!("time beside runs that send nothing: {judged:?}");
    if proving() {
        assert!(judged.iter().all(|(.., ratio)| *ratio <= 1.10), "{judged:?}");
    }
}

/// How long a whole drain takes as a process, and what it said.
async fn seconds_of_a_drain(variables: &[(String, String)]) -> (f64, String) {
    let hosts = ["a", "b"].map(|host| HostConfig::answering(host, Answer::after_ms(50)));
    let stage = Stage::new(hosts).await;
    // One request at a time and 50 ms for each: the hosts bound the run, and not this machine.
    let jobs = size(10, 100);
    let records: Vec<_> = ["a", "b"]
        .into_iter()
        .flat_map(|host| (0..jobs).map(move |job| (host, job)))
        .map(|(host, job)| stage.record(&format!("{host}{job}"), host, &format!("/{job}")))
        .collect();
    stage.import(&records).await;
    let variables: Vec<_> = variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let clock = longhaul_limiter::SystemClock;
    let began = longhaul_limiter::Clock::monotonic(&clock);
    let run = stage.start_run_with(&["--drain", "--max-per-host", "1"], &variables);
    let run = end_of(run).await.expect_code(0);
    let took = longhaul_limiter::Clock::monotonic(&clock).saturating_sub(began);
    assert_eq!(stage.counts().await.done, 2 * jobs);
    (took.as_secs_f64(), run.stderr)
}
