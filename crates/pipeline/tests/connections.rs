//! How many connections hosts see.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod support;

use futures_util::future::join_all;
use longhaul_origin::{Answer, HostConfig, Origin, OriginConfig, Shape};
use longhaul_pipeline::{HttpPipeline, Pipeline};
use serde_json::json;
use support::{Bench, Desk, done, job, soon};

/// Fetches these URLs, all at once.
async fn fetch(pipeline: &HttpPipeline, urls: impl IntoIterator<Item = String>) {
    let numbered = urls.into_iter().zip(1..).map(|(url, number)| {
        let mut job = job(&json!({ "id": url, "expect": "pdf", "url": url }));
        job.number = number;
        job
    });
    let (jobs, desk): (Vec<_>, _) = (numbered.collect(), Desk::default());
    for result in soon(join_all(jobs.iter().map(|job| pipeline.run(job, &desk)))).await {
        done(&result);
    }
}

#[tokio::test]
async fn a_host_keeps_as_many_connections_as_were_in_use_at_once() {
    let slow = Answer { latency_ms: 50, ..Answer::document(Shape::pdf(5000)) };
    let bench = Bench::answering(slow).await;
    let pipeline = bench.pipeline();
    for round in 0..5 {
        fetch(&pipeline, (0..16).map(|file| bench.origin.url("a", &format!("/{round}/{file}.pdf")))).await;
    }
    let counts = bench.origin.counts("a");
    assert_eq!(counts.requests, 80);
    // A connection is now and then not back when the next request looks for one.
    assert!((16..32).contains(&counts.connections), "{}", counts.connections);
}

#[tokio::test]
async fn each_of_a_hundred_hosts_keeps_its_connection() {
    let hosts = (0..100).map(|host| HostConfig::answering(format!("h{host}"), support::pdf(5000)));
    let origin = Origin::start(OriginConfig::new(hosts)).await.unwrap();
    let bench = Bench::answering(support::pdf(5000)).await;
    let pipeline = bench.pipeline();
    for file in 0..3 {
        let urls = (0..100).map(|host| origin.url(&format!("h{host}"), &format!("/{file}.pdf")));
        fetch(&pipeline, urls).await;
    }
    let connections: u64 = (0..100).map(|host| origin.counts(&format!("h{host}")).connections).sum();
    assert!((100..120).contains(&connections), "{connections}");
}
