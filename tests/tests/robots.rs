//! robots.txt in the whole program: asked first, believed across restarts, obeyed, and waited for.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::time::Duration;

use longhaul_origin::{Answer, Behaviour, HostConfig, Shape};
use longhaul_queue_core::JobState;
use longhaul_tests::Stage;
use serde_json::Value;

/// As the other tests' flags, with robots.txt.
const FLAGS: [&str; 5] = ["queue", "run", "--drain", "--allow-network", "127.0.0.0/8"];

fn host(name: &str, robots: Answer) -> HostConfig {
    let behaviour =
        Behaviour::answering(Answer::document(Shape::pdf(4_096))).with_route("/robots.txt", robots);
    HostConfig::new(name).behaving(behaviour)
}

fn rules(text: &str) -> Answer {
    Answer::fixed("text/plain", text)
}

async fn run(stage: &Stage, more: &[&str]) -> longhaul_tests::Finished {
    let rate = if more.contains(&"--rate") { &[][..] } else { &["--rate", "*=off"] };
    stage.run(&[&FLAGS[..], rate, more].concat()).await
}

/// So many jobs at a host, each with a page of its own.
async fn stage(host: HostConfig, name: &str, jobs: usize) -> (Stage, Vec<Value>) {
    let stage = Stage::new([host]).await;
    let records: Vec<Value> =
        (0..jobs).map(|job| stage.record(&format!("{name}-{job}"), name, &format!("/{job}"))).collect();
    stage.import(&records).await;
    (stage, records)
}

/// INV-PACE counts requests: what needs none takes no turn. At one every two seconds these would take over a minute.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_disallowed_does_not_wait_for_its_hosts_pace() {
    let closed = host("closed", rules("User-agent: *\nDisallow: /\n"));
    let (stage, _) = stage(closed, "closed", 40).await;
    let clock = longhaul_limiter::SystemClock;
    let began = longhaul_limiter::Clock::monotonic(&clock);
    let _ = run(&stage, &["--rate", "*=1/2s"]).await.expect_code(0);
    let took = longhaul_limiter::Clock::monotonic(&clock).saturating_sub(began);
    assert_eq!(stage.counts().await.skipped, 40);
    assert_eq!(stage.origin.counts("closed").requests, 1);
    assert!(took < Duration::from_secs(40), "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_disallowed_is_skipped_with_its_reason_and_never_requested() {
    let stage = Stage::new([
        host("careful", rules("User-agent: longhaul\nDisallow: /private/\nAllow: /private/open\n")),
        host("open", Answer::status(404)),
    ])
    .await;
    let mut records: Vec<Value> = Vec::new();
    for job in 0..10 {
        records.push(stage.record(&format!("private-{job}"), "careful", &format!("/private/{job}")));
        records.push(stage.record(&format!("public-{job}"), "careful", &format!("/public/{job}")));
        records.push(stage.record(&format!("open-{job}"), "open", &format!("/private/{job}")));
    }
    records.push(stage.record("exception", "careful", "/private/open/x"));
    stage.import(&records).await;
    let ended = run(&stage, &[]).await.expect_code(0);
    let jobs = stage.check_drained(&records).await;
    for (id, job) in &jobs {
        let expected =
            if id.starts_with("private") { (JobState::Skipped, "robots") } else { (JobState::Done, "ok") };
        assert_eq!((job.state, job.reason.as_deref()), (expected.0, Some(expected.1)), "{id}");
    }
    for job in 0..10 {
        assert_eq!(stage.origin.path_counts("careful", &format!("/private/{job}")).asked, 0);
    }
    // One request for the file, however many jobs there were.
    assert_eq!(stage.origin.counts("careful").requests, 12);
    assert_eq!(stage.origin.counts("open").requests, 11);
    let line = stage.manifest().into_iter().find(|line| line["artifact_id"] == "private-3").unwrap();
    assert_eq!((&line["outcome"], &line["reason"]), (&"skipped".into(), &"robots".into()));
    assert!(ended.stdout.contains("stay away"), "{}", ended.stdout);

    // The next process believes what this one read; told to, it asks nobody.
    let more =
        [stage.record("later", "careful", "/private/later"), stage.record("last", "careful", "/public/last")];
    stage.import(&more).await;
    let _ = run(&stage, &[]).await.expect_code(0);
    assert_eq!(stage.origin.counts("careful").requests, 13);
    let last = [stage.record("ignored", "careful", "/private/ignored")];
    stage.import(&last).await;
    let ended = run(&stage, &["--no-robots"]).await.expect_code(0);
    assert!(ended.stderr.contains("robots.txt is neither asked for nor obeyed"), "{}", ended.stderr);
    assert_eq!(stage.jobs().await["ignored"].state, JobState::Done);
}

/// No two requests come closer than the file asks for, its own among them.
#[tokio::test(flavor = "multi_thread")]
async fn a_crawl_delay_is_kept_between_all_requests() {
    let slow = host("slow", rules("User-agent: *\nCrawl-delay: 1\n"));
    let (stage, records) = stage(slow, "slow", 5).await;
    let _ = run(&stage, &[]).await.expect_code(0);
    let _ = stage.check_drained(&records).await;
    let arrivals = stage.origin.arrivals("slow");
    assert_eq!(arrivals.len(), 6);
    for pair in arrivals.windows(2) {
        assert!(pair[1].saturating_sub(pair[0]) >= Duration::from_secs(1), "{arrivals:?}");
    }
}

/// A host whose file cannot be read is closed for all its jobs, across a restart, and charged to none.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_cannot_be_read_closes_its_host_and_no_other() {
    let stage = Stage::new([host("broken", Answer::status(500)), host("well", rules(""))]).await;
    let mut records: Vec<Value> =
        (0..10).map(|job| stage.record(&format!("broken-{job}"), "broken", &format!("/{job}"))).collect();
    records.extend((0..10).map(|job| stage.record(&format!("well-{job}"), "well", &format!("/{job}"))));
    stage.import(&records).await;
    for _ in 0..2 {
        // Drained, and what waits for longer than the horizon is left.
        let _ = run(&stage, &["--drain-horizon", "1s"]).await.expect_code(6);
        assert_eq!((stage.origin.counts("broken").requests, stage.origin.counts("well").requests), (1, 11));
    }
    for (id, job) in stage.jobs().await {
        let expected = if id.starts_with("well") { JobState::Done } else { JobState::Queued };
        assert_eq!((job.state, job.attempts, job.throttles), (expected, 0, 0), "{id}");
    }
    let explained = stage.run(&["queue", "explain", "broken-3"]).await.expect_code(0);
    assert!(explained.stdout.contains("robots.txt"), "{}", explained.stdout);
}
