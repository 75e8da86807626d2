//! The program is killed at random moments and started again: nothing is lost, nothing is done twice.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "the figures are part of what a proof shows")]

use std::sync::Arc;
use std::time::Duration;

use longhaul_origin::{Answer, Behaviour, Fault, FaultRule, HostConfig, Shape};
use longhaul_queue_core::{
    Critical, JobState, LaneRules, LeaseRequest, RequestNumber, Settlement, StoreId, Verdict, WorkQueue as _,
    WorkQueueExt as _, WorkerId, WorkerInfo,
};
use longhaul_tests::{Stage, size};

/// INV-NO-LOSS, INV-WHOLE-FILE, INV-CONSERVE, INV-FINAL: every job ends once, with one line in the manifest and a
/// whole file.
#[tokio::test(flavor = "multi_thread")]
async fn inv_no_loss_killed_at_random_moments_every_job_ends_once() {
    let (jobs, kills) = size((150, 5), (500, 20));
    // A quarter of the jobs is host0's: more than its requests between all kills together, so that there is always
    // something left to be interrupted.
    let host_of = |job: u64| format!("host{}", if job.is_multiple_of(4) { 0 } else { job % 8 });
    let slow = Answer { latency_ms: 40, ..Answer::document(Shape::pdf(20_000)) };
    let hosts = (0..8).map(|host| {
        let answer = slow.clone().with_fault(
            FaultRule::first(Fault::Status { status: 500, retry_after: None }).on_one_path_in(10),
        );
        HostConfig::new(format!("host{host}")).seeded(host).behaving(Behaviour::answering(answer))
    });
    let stage = Stage::new(hosts).await;
    let records: Vec<_> = (0..jobs)
        .map(|job| stage.record(&format!("a{job}"), &host_of(job), &format!("/{job}.pdf")))
        .collect();
    stage.import(&records).await;
    let arguments = ["--drain", "--max-losses", "100", "--retry-backoff", "0s", "--jitter", "0s"];
    let mut random = fastrand::Rng::with_seed(fastrand::u64(..));
    println!("random moments from seed {}", random.get_seed());
    for _ in 0..kills {
        // A kill comes after a random number of further requests, or a random short time, whichever is first: early
        // in the start, in the middle of bodies, between commit and rename.
        let before = stage.origin.counts("host0").requests;
        let mut program = stage.start_run(&arguments);
        let further = random.u64(1..=5);
        let moment = Duration::from_millis(random.u64(1..6_000));
        let seen = stage.origin.wait_for("host0", |counts| counts.requests >= before + further);
        // A moment that the clock decides is the point here: no state of the program is waited for.
        let _ = tokio::time::timeout(moment, seen).await;
        // tidy:allow-sleep: a random extra of up to 30 ms puts the kill between any two instructions
        tokio::time::sleep(Duration::from_micros(random.u64(0..30_000))).await;
        assert!(program.is_running(), "it had drained before it was killed");
        program.kill().await;
    }
    let _ = stage.start_run(&arguments).finish().await.expect_code(0);
    let ended = stage.check_drained(&records).await;
    assert!(ended.values().all(|job| job.state == JobState::Done));
}

/// A run that was killed right after its last settlement left the manifest line to the next one, although that has
/// nothing to fetch.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_settled_and_not_published_is_published_by_the_next_run() {
    let stage = Stage::new([HostConfig::new("host")]).await;
    let records = [stage.record("a", "host", "/a.pdf")];
    stage.import(&records).await;
    let queue = stage.queue().await;
    let own = stage.output().join(".longhaul");
    std::fs::create_dir_all(&own).unwrap();
    let files = "5e".repeat(16);
    std::fs::write(own.join("store"), &files).unwrap();
    let worker = WorkerInfo {
        id: WorkerId::random(),
        host: "here".into(),
        pid: 1,
        version: "test".into(),
        store: Some(StoreId(files)),
        limits: None,
    };
    queue.join(&worker, Duration::from_mins(1)).await.unwrap();
    let request = LeaseRequest {
        worker: worker.id.clone(),
        number: RequestNumber(1),
        max: 1,
        ahead: 0,
        alone: false,
        max_losses: 5,
        rules: Arc::new(LaneRules::unlimited()),
        lead: Duration::ZERO,
        critical: Critical::default(),
        started: Vec::new(),
    };
    let held = queue.lease(&request).await.unwrap().jobs.remove(0);
    let verdict = Verdict::Error { reason: "gone".into(), outcome: "{}".into(), detail: "404".into() };
    queue.settle_one(Settlement::new(held.token, verdict)).await.unwrap();
    queue.leave(&worker.id).await.unwrap();
    assert_eq!(stage.manifest().len(), 0);
    let _ = stage.start_run(&["--drain"]).finish().await.expect_code(3);
    let lines = stage.manifest();
    assert_eq!(
        (lines.len(), &lines[0]["outcome"], &lines[0]["reason"]),
        (1, &"error".into(), &"gone".into())
    );
    assert_eq!(stage.origin.counts("host").requests, 0);
    // Nothing is left to do now, and a second line does not appear.
    let _ = stage.start_run(&["--drain"]).finish().await;
    assert_eq!(stage.manifest().len(), 1);
}
