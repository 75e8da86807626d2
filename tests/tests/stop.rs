//! Stopping: once to finish what runs, twice to stop at once.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "the figures are part of what a proof shows")]

use std::time::{Duration, Instant};

use longhaul_origin::{Answer, Behaviour, Fault, FaultRule, HostConfig};
use longhaul_tests::Stage;

fn now() -> Instant {
    #[allow(clippy::disallowed_methods, reason = "what is measured is the time that a person waits")]
    Instant::now()
}

async fn stage(answer: Answer) -> (Stage, Vec<serde_json::Value>) {
    let hosts = (0..4)
        .map(|host| HostConfig::new(format!("host{host}")).behaving(Behaviour::answering(answer.clone())));
    let stage = Stage::new(hosts).await;
    let record =
        |job: usize| stage.record(&format!("a{job}"), &format!("host{}", job % 4), &format!("/{job}"));
    let records: Vec<_> = (0..80).map(record).collect();
    stage.import(&records).await;
    (stage, records)
}

/// The first signal lets the running jobs finish; nothing is left in progress, and the next run starts at once.
#[tokio::test(flavor = "multi_thread")]
async fn one_signal_finishes_what_runs_and_releases_the_rest() {
    for (signal, code) in [("INT", 130), ("TERM", 143), ("HUP", 143)] {
        let (stage, records) = stage(Answer::after_ms(200)).await;
        let program = stage.start_run(&["--drain"]);
        stage.origin.wait_for("host0", |counts| counts.completed_bodies >= 2).await;
        program.signal(signal);
        let stopped = now();
        let _ = program.finish().await.expect_code(code);
        assert!(stopped.elapsed() < Duration::from_secs(30), "the grace period");
        let counts = stage.counts().await;
        assert_eq!(counts.in_progress, 0);
        assert!(counts.queued > 0 && counts.done > 0, "{counts:?}");
        let asked = stage.origin.counts("host0").requests;
        let restarted = now();
        let program = stage.start_run(&["--drain"]);
        stage.origin.wait_for("host0", |counts| counts.requests > asked).await;
        assert!(restarted.elapsed() < Duration::from_secs(1), "{:?}", restarted.elapsed());
        let _ = program.finish().await.expect_code(0);
        let jobs = stage.check_drained(&records).await;
        assert!(
            jobs.values().all(|job| (job.attempts, job.losses) == (0, 0)),
            "nothing is charged for a stop"
        );
    }
}

/// Jobs that do not end within the grace period are released; a second signal does not wait for it.
#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_and_the_end_of_the_grace_period_stop_at_once() {
    for (grace, again, at_most) in [("1s", false, 15), ("10m", true, 15)] {
        let (stage, records) =
            stage(Answer::default().with_fault(FaultRule::first(Fault::NeverAnswer))).await;
        let program = stage.start_run(&["--drain", "--grace", grace]);
        for host in ["host0", "host1"] {
            stage.origin.wait_for(host, |counts| counts.in_flight >= 1).await;
        }
        program.signal("INT");
        let stopped = now();
        if again {
            program.signal("INT");
            // Two signals that come together may be seen as one.
            let mut program = program;
            while program.is_running() && stopped.elapsed() < Duration::from_secs(at_most) {
                program.signal("INT");
                tokio::task::yield_now().await;
                tokio::time::timeout(Duration::from_millis(100), std::future::pending::<()>())
                    .await
                    .unwrap_err();
            }
            let _ = program.finish().await.expect_code(130);
        } else {
            let _ = program.finish().await.expect_code(130);
        }
        assert!(stopped.elapsed() < Duration::from_secs(at_most), "{:?}", stopped.elapsed());
        let counts = stage.counts().await;
        assert_eq!((counts.in_progress, counts.queued), (0, 80));
        for host in 0..4 {
            stage.origin.set_behaviour(&format!("host{host}"), Behaviour::default());
        }
        let _ = stage.start_run(&["--drain"]).finish().await.expect_code(0);
        let jobs = stage.check_drained(&records).await;
        assert!(
            jobs.values().all(|job| (job.attempts, job.losses) == (0, 0)),
            "nothing is charged for a stop"
        );
    }
}
