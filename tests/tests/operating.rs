//! What an operator does to a queue that is at work: pause, resume, retry, check.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::ops::RangeInclusive;
use std::time::Duration;

use longhaul_origin::{Answer, Behaviour, Fault, FaultRule, HostConfig, Shape};
use longhaul_queue_core::{Epoch, JobState, WorkQueue as _};
use longhaul_tests::Stage;
use serde_json::Value;

/// A host whose answers take so long.
fn taking(host: &str, millis: u64) -> HostConfig {
    let answer = Answer { latency_ms: millis, ..Answer::document(Shape::pdf(3_000)) };
    HostConfig::new(host).behaving(Behaviour::answering(answer))
}

fn records(stage: &Stage, host: &str, many: usize) -> Vec<Value> {
    (0..many)
        .map(|number| stage.record(&format!("{host}-{number}"), host, &format!("/{number}.pdf")))
        .collect()
}

async fn said(stage: &Stage, arguments: &[&str]) -> Value {
    let arguments = [arguments, &["--format", "json"]].concat();
    let finished = stage.run(&arguments).await.expect_code(0);
    serde_json::from_str(&finished.stdout).unwrap()
}

/// Makes a pause of three seconds and waits for its end, which is when requests start again at these hosts. None of them may
/// have started one from a second after the pause was made.
async fn check_pause(stage: &Stage, scope: &[&str], hosts: &[&str]) -> RangeInclusive<Duration> {
    let age = || Duration::from_millis(stage.origin.report().at_ms);
    let asked = age();
    let flags = [&["queue", "pause", "--for", "3s", "--reason", "a test"], scope].concat();
    let _ = stage.run(&flags).await.expect_code(0);
    let quiet = age() + Duration::from_secs(1)..=asked + Duration::from_secs(3);
    for host in hosts {
        let before = stage.origin.counts(host).requests;
        // More than are on their way in any second of what is paused.
        stage.origin.wait_for(host, |counts| counts.requests >= before + 200).await;
        let arrivals = stage.origin.arrivals(host);
        assert!(arrivals.iter().all(|at| !quiet.contains(at)), "{host} in {quiet:?}: {arrivals:?}");
        assert!(arrivals.last().is_some_and(|last| last > quiet.end()), "{host}: the pause did not end");
    }
    quiet
}

/// No request starts later than a second after the pause was made, at the host that is paused, in a process that was at
/// work; after its end, or a resume, it goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_pause_stops_new_starts_within_a_second_and_a_resume_goes_on() {
    let stage = Stage::new([taking("a", 20), taking("b", 20)]).await;
    let all = [records(&stage, "a", 3_000), records(&stage, "b", 3_000)].concat();
    stage.import(&all).await;
    let lane_a = stage.origin.url("a", "/");
    let mut program = stage.start_run(&["--max-per-host", "2"]);
    for host in ["a", "b"] {
        stage.origin.wait_for(host, |counts| counts.requests >= 20).await;
    }

    let quiet = check_pause(&stage, &["--lane", &lane_a], &["a"]).await;
    let of_b = stage.origin.arrivals("b").into_iter().filter(|at| quiet.contains(at)).count();
    assert!(of_b >= 50, "the other host goes on: {of_b}");
    let _ = check_pause(&stage, &[], &["a", "b"]).await;

    let _ = stage.run(&["queue", "pause", "--reason", "a test"]).await.expect_code(0);
    let queue = stage.queue().await;
    let mut epoch = Epoch::default();
    while queue.stats().await.unwrap().counts.in_progress > 0 {
        epoch = queue.changed(epoch).await.unwrap();
    }
    let stats = said(&stage, &["queue", "stats"]).await;
    assert!(stats["paused"].as_str().unwrap().ends_with(": a test"), "{stats}");
    assert_eq!((&stats["workers"], &stats["counts"]["in_progress"]), (&1.into(), &0.into()));
    assert!(program.is_running(), "a run that does not drain waits for the end of the pause");
    let before = ["a", "b"].map(|host| (host, stage.origin.counts(host).requests));
    let _ = stage.run(&["queue", "resume"]).await.expect_code(0);
    for (host, then) in before {
        stage.origin.wait_for(host, |counts| counts.requests >= then + 20).await;
    }
    program.signal("INT");
    let _ = program.finish().await.expect_code(130);
}

/// Paused work is not waited for.
#[tokio::test(flavor = "multi_thread")]
async fn a_drain_of_a_paused_queue_ends_with_6_and_says_so() {
    let stage = Stage::new([taking("a", 0), taking("b", 0)]).await;
    stage.import(&[records(&stage, "a", 3), records(&stage, "b", 3)].concat()).await;
    let _ = stage.run(&["queue", "pause", "--for", "30m", "--reason", "a test"]).await.expect_code(0);
    let drained = stage.start_run(&["--drain"]).finish().await.expect_code(6);
    assert!(drained.stderr.contains("nothing starts, because the queue is paused by "), "{}", drained.stderr);
    assert!(drained.stdout.contains("left: 6 queued; the queue is paused by "), "{}", drained.stdout);
    let told =
        [": a test; for 30m more", ": a test; for 29m "].iter().any(|text| drained.stdout.contains(text));
    assert!(told, "{}", drained.stdout);
    assert_eq!(stage.origin.counts("a").requests, 0);
    let _ = stage.run(&["queue", "resume"]).await.expect_code(0);

    let lane = stage.origin.url("a", "/");
    let _ = stage.run(&["queue", "pause", "--lane", &lane]).await.expect_code(0);
    let drained = stage.start_run(&["--drain"]).finish().await.expect_code(6);
    assert!(
        drained.stdout.contains("left: 3 queued; it waits for a pause to end (1 host is paused"),
        "{}",
        drained.stdout
    );
    assert_eq!((stage.origin.counts("a").requests, stage.origin.counts("b").requests), (0, 3));

    // A pause that ends within the horizon is an operator's all the same.
    let _ = stage.run(&["queue", "pause", "--lane", &lane, "--for", "30m"]).await.expect_code(0);
    let drained = stage.start_run(&["--drain"]).finish().await.expect_code(6);
    let told = ["in 30m, ", "in 29m "]
        .iter()
        .any(|time| drained.stdout.contains(&format!("left: 3 queued; the first can start {time}")));
    assert!(told && drained.stdout.contains("(1 host is paused"), "{}", drained.stdout);
    let _ = stage.run(&["queue", "resume", "--lane", &lane]).await.expect_code(0);
    let _ = stage.start_run(&["--drain"]).finish().await.expect_code(0);
    assert_eq!(stage.origin.counts("a").requests, 3);
}

/// The host is mended, and what had failed is fetched; what failed for another reason is left.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_failed_completes_after_retry_failed() {
    let broken = Answer::document(Shape::pdf(3_000))
        .with_fault(FaultRule::always(Fault::Status { status: 500, retry_after: None }));
    let stage = Stage::new([
        HostConfig::new("broken").behaving(Behaviour::answering(broken)),
        HostConfig::new("gone").behaving(Behaviour::answering(Answer::status(404))),
    ])
    .await;
    let all = [records(&stage, "broken", 1), records(&stage, "gone", 1)].concat();
    stage.import(&all).await;
    let flags = ["--drain", "--max-attempts", "2", "--retry-backoff", "0s", "--jitter", "0s"];
    let _ = stage.start_run(&flags).finish().await.expect_code(3);
    let told = said(&stage, &["queue", "explain", "broken-0"]).await;
    assert_eq!(told["cause"], "out_of_attempts", "{told}");
    assert_eq!(said(&stage, &["queue", "explain", "gone-0"]).await["cause"], "failed");
    let job = said(&stage, &["queue", "show", "broken-0"]).await;
    assert_eq!((&job["state"], &job["attempts"]), (&"error".into(), &2.into()));

    stage.origin.set_behaviour("broken", Behaviour::default());
    let reason = job["reason"].as_str().unwrap();
    let retried = said(&stage, &["queue", "retry-failed", "--reason", reason]).await;
    assert_eq!(retried["jobs"], 1);
    let job = said(&stage, &["queue", "show", "broken-0"]).await;
    assert_eq!((&job["state"], &job["attempts"], &job["losses"]), (&"queued".into(), &0.into(), &0.into()));
    let _ = stage.start_run(&flags).finish().await.expect_code(3);
    let jobs = stage.jobs().await;
    assert_eq!((jobs["broken-0"].state, jobs["gone-0"].state), (JobState::Done, JobState::Error));
}

/// Its first end has a line in the manifest already, under the same claim; the second gets one of its own.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_is_cancelled_after_it_failed_has_the_last_line_of_the_manifest() {
    let stage =
        Stage::new([HostConfig::new("gone").behaving(Behaviour::answering(Answer::status(404)))]).await;
    stage.import(&records(&stage, "gone", 1)).await;
    let _ = stage.start_run(&["--drain"]).finish().await.expect_code(3);
    assert_eq!(said(&stage, &["queue", "retry-failed"]).await["jobs"], 1);
    let cancelled = said(&stage, &["queue", "cancel", "gone-0"]).await;
    assert_eq!(cancelled[0]["changed"], true, "{cancelled}");
    let again = said_failing(&stage, &["queue", "cancel", "gone-0"]).await;
    assert_eq!(again[0]["changed"], false, "{again}");
    let _ = stage.start_run(&["--drain"]).finish().await.expect_code(0);
    let ends: Vec<_> = stage.manifest().iter().map(|line| line["outcome"].clone()).collect();
    assert_eq!(ends, ["error", "skipped"]);
}

/// Each defect is planted, found, and mended; what was missing is fetched again.
#[tokio::test(flavor = "multi_thread")]
async fn a_check_finds_and_mends_files_parts_and_leases() {
    let stage = Stage::new([taking("host", 0)]).await;
    let all = records(&stage, "host", 5);
    stage.import(&all).await;
    let _ = stage.start_run(&["--drain"]).finish().await.expect_code(0);
    let clean = stage.run(&["queue", "check"]).await.expect_code(0);
    assert_eq!(clean.stdout, "counts, turns and leases are as they should be\n5 files compared\n");
    let elsewhere = stage.run(&["queue", "check", "--output-dir", "elsewhere"]).await.expect_code(1);
    assert!(
        elsewhere.stdout.starts_with("files: none was compared, because elsewhere is no"),
        "{}",
        elsewhere.stdout
    );

    let jobs = stage.jobs().await;
    let file = |number: usize| stage.output().join(jobs[&format!("host-{number}")].path.as_deref().unwrap());
    std::fs::remove_file(file(0)).unwrap();
    std::fs::write(file(1), "short").unwrap();
    let mut bytes = std::fs::read(file(2)).unwrap();
    bytes[1_500] ^= 1;
    std::fs::write(file(2), bytes).unwrap();
    let parts = std::fs::read_dir(stage.output().join(".longhaul/parts")).unwrap();
    let parts = parts.map(|entry| entry.unwrap().path()).find(|path| path.is_dir()).unwrap();
    // One of a job that has ended, one of no job at all, and one that somebody is at work on.
    for name in ["4.part", "77-1.part", "5.part"] {
        std::fs::write(parts.join(name), "half").unwrap();
    }
    let held = std::fs::File::open(parts.join("5.part")).unwrap();
    held.lock().unwrap();

    let found = stage.run(&["queue", "check"]).await.expect_code(1);
    let expected = [
        "host-0 is missing",
        "host-1 is altered: it has 5 bytes instead of 3000",
        "host-2 is altered: its SHA-256 is another one",
        "4.part (4 B) was left over",
        "77-1.part (4 B) was left over",
        "5 files compared",
    ];
    for (line, end) in found.stdout.lines().zip(expected) {
        assert!(line.ends_with(end), "{line}");
    }
    assert_eq!(found.stdout.lines().count(), expected.len(), "{}", found.stdout);
    assert!(
        found.stderr.contains("5 problems are there; `longhaul queue check --repair`"),
        "{}",
        found.stderr
    );
    let fast = said_failing(&stage, &["queue", "check", "--fast"]).await;
    assert_eq!(fast["findings"].as_array().unwrap().len(), 4, "a digest is not looked at: {fast}");
    assert_eq!(stage.counts().await.done, 5, "nothing was changed");

    let mended = stage.run(&["queue", "check", "--repair"]).await.expect_code(0);
    assert!(mended.stdout.contains("host-0 is missing; mended: job 1 is queued again"), "{}", mended.stdout);
    for (number, text) in [(1, "host-1"), (2, "host-2")] {
        let name = file(number).file_name().unwrap().to_str().unwrap().to_owned() + ".damaged";
        assert!(
            mended.stdout.contains(&format!("what lay there is kept as {name}")),
            "{text}: {}",
            mended.stdout
        );
    }
    assert!(mended.stdout.contains("77-1.part (4 B) was left over; mended: removed"), "{}", mended.stdout);
    assert!(parts.join("5.part").exists() && !parts.join("4.part").exists());
    drop(held);
    std::fs::remove_file(parts.join("5.part")).unwrap();
    let _ = stage.start_run(&["--drain"]).finish().await.expect_code(0);
    let clean = stage.run(&["queue", "check"]).await.expect_code(0);
    assert!(clean.stdout.ends_with("5 files compared\n"), "{}", clean.stdout);
    assert_eq!(stage.origin.counts("host").requests, 8, "three were fetched again");
    let again = stage.jobs().await;
    assert!(jobs.iter().all(|(id, job)| again[id].path == job.path), "each under the name that it had");
    assert_eq!(
        std::fs::read(file(1).with_extension("pdf.damaged")).unwrap(),
        b"short",
        "nothing is thrown away"
    );

    // A run that is killed leaves its lease behind.
    stage.origin.set_behaviour("host", Behaviour::answering(Answer::after_ms(600_000)));
    let _ = stage.run(&["queue", "requeue", "host-3"]).await.expect_code(0);
    let program = stage.start_run(&["--drain"]);
    stage.origin.wait_for("host", |counts| counts.in_flight == 1).await;
    program.kill().await;
    let died = said(&stage, &["queue", "explain", "host-3"]).await;
    assert_eq!(died["cause"], "worker_died", "{died}");
    let found = said_failing(&stage, &["queue", "check"]).await;
    let problem = found["findings"][0]["problem"].as_str().unwrap();
    assert!(problem.starts_with("leases: 1 job is held by worker process "), "{found}");
    let mended = said(&stage, &["queue", "check", "--repair"]).await;
    assert_eq!(mended["findings"][0]["how"], "given back, each charged a loss", "{mended}");
    let job = said(&stage, &["queue", "show", "host-3"]).await;
    assert_eq!((&job["state"], &job["losses"]), (&"queued".into(), &1.into()));
    assert_eq!(said(&stage, &["queue", "workers"]).await, Value::Array(Vec::new()));
}

/// The only host is full with another run's request: what a run that finds it so waits for is that, and no time.
#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_another_run_fills_is_told_as_full() {
    let stage = Stage::new([taking("host", 600_000)]).await;
    stage.import(&records(&stage, "host", 3)).await;
    let first = stage.start_run(&["--max-per-host", "1"]);
    stage.origin.wait_for("host", |counts| counts.in_flight == 1).await;
    let mut second = stage.start_run(&["--max-per-host", "1"]);
    second.wait_until_it_says("have all the requests in flight that they may, from other runs").await;
    // By the limits of the runs at work, which these commands were not told.
    let explained = said(&stage, &["queue", "explain", "host-2"]).await;
    assert_eq!((&explained["cause"], &explained["could_start_seconds"]), (&"cap_full".into(), &Value::Null));
    let lanes = said(&stage, &["queue", "lanes", "--max-per-host", "7"]).await;
    assert_eq!((&lanes["lanes"][0]["cap"], &lanes["lanes"][0]["pace"]), (&1.into(), &Value::Null), "{lanes}");
    second.signal("INT");
    let second = second.finish().await.expect_code(130);
    assert!(!second.stderr.contains("nothing can start for"), "{}", second.stderr);
    first.kill().await;
}

/// A job that finds its host or everything paused on its way waits for that pause and for nothing else: `resume` ends it.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_meets_a_pause_on_its_way_goes_on_at_its_end() {
    // Long enough for the pause to be there before it ends.
    let robots = Answer { latency_ms: 3_000, ..Answer::status(404) };
    let slow = || Behaviour::default().with_route("/robots.txt", robots.clone());
    let stage = Stage::new(["one", "two"].map(|host| HostConfig::new(host).behaving(slow()))).await;
    let lane = stage.origin.address("one").to_string();
    for (host, pause) in [("one", vec!["--lane", &lane]), ("two", Vec::new())] {
        stage.import(&records(&stage, host, 3)).await;
        let flags = ["queue", "run", "--drain", "--allow-network", "127.0.0.0/8", "--rate", "*=off"];
        let program = stage.start(&flags);
        stage.origin.wait_for(host, |counts| counts.in_flight == 1).await;
        let _ = stage.run(&[&["queue", "pause"], &pause[..]].concat()).await.expect_code(0);
        // The jobs have gone back into the queue.
        stage.origin.wait_for(host, |counts| counts.in_flight == 0).await;
        while stage.counts().await.in_progress > 0 {
            tokio::task::yield_now().await;
        }
        let explained = said(&stage, &["queue", "explain", &format!("{host}-0")]).await;
        let cause = if pause.is_empty() { "queue_paused" } else { "lane_paused" };
        assert_eq!((&explained["cause"], &explained["could_start_seconds"]), (&cause.into(), &Value::Null));
        let _ = program.finish().await.expect_code(6);
        let _ = stage.run(&[&["queue", "resume"], &pause[..]].concat()).await.expect_code(0);
        let _ = stage.start(&flags).finish().await.expect_code(0);
    }
    assert_eq!(stage.counts().await.done, 6);
}

async fn said_failing(stage: &Stage, arguments: &[&str]) -> Value {
    let arguments = [arguments, &["--format", "json"]].concat();
    let finished = stage.run(&arguments).await.expect_code(1);
    serde_json::from_str(&finished.stdout).unwrap()
}
