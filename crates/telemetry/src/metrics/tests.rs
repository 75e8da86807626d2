//! What each event counts, and how labels and buckets are chosen.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use longhaul_events::{RequestStatus, Verb};
use longhaul_limiter::{Lane, Role};

use super::*;

fn settled(verdict: &'static str, state: &'static str, reason: &str) -> Event {
    Event::JobSettled {
        job: 1,
        artifact_id: "a".to_owned(),
        verdict,
        state,
        reason: reason.to_owned(),
        detail: String::new(),
        resolver: Some("direct".to_owned()),
        bytes: 0,
        elapsed: Duration::ZERO,
    }
}

fn request(status: Option<u16>, reason: &str, ms: u64) -> Event {
    Event::Request {
        job: 1,
        artifact_id: "a".to_owned(),
        resolver: "direct".to_owned(),
        resolver_order: 0,
        url: "https://h.example/secret".to_owned(),
        lane: Lane::new("h.example").unwrap(),
        role: Role::Artifact,
        verb: Verb::Get,
        status: RequestStatus::Ok,
        http_status: status,
        content_type: None,
        wait: Duration::ZERO,
        elapsed: Duration::from_millis(ms),
        bytes: 0,
        reason: reason.to_owned(),
        retry_after: None,
        from_cache: false,
        sha256: None,
    }
}

/// Every series as `name{values} value`.
fn all(metrics: &Metrics) -> Vec<String> {
    let line = |metric: &Metric, sample: Sample| {
        let value = match sample.value {
            Value::Count(count) => count.to_string(),
            Value::Level(level) => level.to_string(),
            Value::Distribution(measured) => format!("{} of {}", measured.count, measured.sum),
        };
        let name = metric.name.strip_prefix("contentdownload_").unwrap();
        format!("{name}{{{}}} {value}", sample.labels.join(","))
    };
    let samples =
        |metric: &'static Metric| metrics.read(metric).into_iter().map(move |one| line(metric, one));
    METRICS.iter().flat_map(samples).collect()
}

#[test]
fn each_event_counts_where_it_belongs() {
    let metrics = Metrics::default();
    let waited = |why, key: &str| Event::Waited {
        job: 1,
        why,
        key: key.to_owned(),
        waited: Duration::from_millis(30),
    };
    for event in [
        Event::JobStarted { job: 1, artifact_id: "a".to_owned(), attempt: 1, lane: Lane::NONE },
        Event::JobStarted { job: 2, artifact_id: "b".to_owned(), attempt: 1, lane: Lane::NONE },
        waited(WaitCause::Pace, "h.example"),
        waited(WaitCause::CoolDown, "h.example"),
        waited(WaitCause::Bandwidth, ""),
        waited(WaitCause::Cap, "h.example"),
        waited(WaitCause::Resolver, "direct"),
        request(Some(200), "ok", 20),
        request(None, "timeout", 50),
        Event::Received { job: 1, resolver: "direct".to_owned(), bytes: 700 },
        Event::JobFinished { job: 1, elapsed: Duration::ZERO },
        settled("done", "done", "ok"),
        settled("error", "error", "gone"),
        settled("retry", "queued", "timeout"),
        settled("skipped", "skipped", "robots"),
        Event::LeaseLost { job: 2 },
    ] {
        metrics.on_event(&event);
    }
    let expected = [
        "jobs_completed_total{done} 1",
        "jobs_completed_total{error} 1",
        "jobs_completed_total{skipped} 1",
        "jobs_failed_total{gone} 1",
        "jobs_inflight{} 1",
        "attempts_total{direct,200,ok,GET} 1",
        "attempts_total{direct,none,timeout,GET} 1",
        "outcomes_total{direct,done,ok} 1",
        "outcomes_total{direct,error,gone} 1",
        "outcomes_total{direct,retry,timeout} 1",
        "outcomes_total{direct,skipped,robots} 1",
        "retries_total{direct,timeout} 1",
        "bytes_total{direct} 700",
        "http_latency_ms{direct,GET} 2 of 70",
        "rate_sleep_ms{h.example} 2 of 60",
        "rate_sleep_ms{none} 1 of 30",
        "resolver_concurrency_wait_ms{direct} 1 of 30",
        "host_concurrency_wait_ms{h.example} 1 of 30",
        "leases_lost_total{} 1",
    ];
    assert_eq!(all(&metrics), expected);
}

#[test]
fn a_length_of_time_falls_into_the_bucket_whose_bound_it_does_not_pass() {
    let metrics = Metrics::default();
    for ms in [5, 6, 10, 300_001] {
        metrics.on_event(&request(Some(200), "ok", ms));
    }
    let Value::Distribution(measured) = metrics.read(&HTTP_LATENCY).remove(0).value else { panic!() };
    assert_eq!((measured.buckets[0], measured.buckets[1]), (1, 2));
    assert_eq!(measured.buckets.last(), Some(&1));
    assert_eq!(measured.buckets.iter().sum::<u64>(), measured.count);
}

#[test]
fn inv_bounded_hosts_beyond_the_limit_share_one_series() {
    let metrics = Metrics::new(2);
    for host in 0..1000 {
        let key = format!("h{host}.example");
        metrics.on_event(&Event::Waited { job: 1, why: WaitCause::Cap, key, waited: Duration::ZERO });
    }
    let series = metrics.read(&HOST_WAIT);
    assert_eq!(series.len(), 3);
    let Value::Distribution(other) = &series[2].value else { panic!() };
    assert_eq!((series[2].labels[0].as_str(), other.count), ("other", 998));
}

#[test]
fn a_hook_hears_of_each_measurement_with_its_labels() {
    let heard = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let metrics = Metrics::default();
    let into = std::sync::Arc::clone(&heard);
    metrics.on_measurement(Box::new(move |metric, value, labels| {
        into.lock().unwrap().push((metric.name, value, labels.join(",")));
    }));
    metrics.on_event(&request(Some(200), "ok", 12));
    let expected = ("contentdownload_http_latency_ms", 12.0, "direct,GET".to_owned());
    assert_eq!(*heard.lock().unwrap(), [expected]);
}
