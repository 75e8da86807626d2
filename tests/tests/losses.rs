//! What becomes of jobs whose process was killed: how soon work goes on, and what a poison job does to the others.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "the figures are part of what a proof shows")]

use std::time::{Duration, Instant};

use longhaul_origin::{Answer, Behaviour, Fault, FaultRule, HostConfig};
use longhaul_queue_core::JobState;
use longhaul_tests::Stage;

/// With default flags a restarted run starts in a lane with a free slot within a second and gets to the orphans within
/// ten. INV-NO-LOSS.
#[tokio::test(flavor = "multi_thread")]
async fn after_a_kill_free_lanes_go_on_within_a_second_and_orphans_within_ten() {
    let silent_once = Answer::default().with_fault(FaultRule::first(Fault::NeverAnswer));
    let slow = Behaviour::answering(Answer::after_ms(100));
    let hosts = [
        HostConfig::new("full").behaving(Behaviour::answering(silent_once)),
        HostConfig::new("free").behaving(slow.clone()),
        HostConfig::new("other").behaving(slow),
    ];
    let stage = Stage::new(hosts).await;
    let mut records: Vec<_> =
        (0..4).map(|job| stage.record(&format!("full{job}"), "full", &format!("/{job}"))).collect();
    // Two lanes share the four workers that are left, so that each has free slots when the process dies.
    for host in ["free", "other"] {
        records.extend((0..200).map(|job| stage.record(&format!("{host}{job}"), host, &format!("/{job}"))));
    }
    stage.import(&records).await;
    let first = stage.start_run(&["--drain"]);
    stage.origin.wait_for("full", |counts| counts.in_flight == 4).await;
    stage.origin.wait_for("free", |counts| counts.requests >= 20).await;
    first.kill().await;
    let before = stage.origin.wait_for("free", |counts| counts.in_flight == 0).await.requests;

    #[allow(clippy::disallowed_methods, reason = "what is measured is the time that a person waits")]
    let restarted = Instant::now();
    let second = stage.start_run(&["--drain"]);
    stage.origin.wait_for("free", |counts| counts.requests > before).await;
    let free = restarted.elapsed();
    stage.origin.wait_for("full", |counts| counts.requests >= 8).await;
    let orphans = restarted.elapsed();
    println!("first start in a free lane after {free:?}, all orphans after {orphans:?}");
    assert!(free < Duration::from_secs(1), "{free:?}");
    assert!(orphans < Duration::from_secs(10), "{orphans:?}");
    let _ = second.finish().await.expect_code(0);
    let jobs = stage.check_drained(&records).await;
    // INV-ATTEMPTS: a death charges a loss, not an attempt.
    assert!(
        (0..4)
            .all(|job| (jobs[&format!("full{job}")].losses, jobs[&format!("full{job}")].attempts) == (1, 0))
    );
}

/// INV-ATTEMPTS: a job that kills its process each time ends in error after five losses and says so; those that ran
/// beside it do not.
#[tokio::test(flavor = "multi_thread")]
async fn inv_attempts_a_poison_job_ends_in_error_and_takes_nobody_along() {
    let poison = Answer::default().with_fault(FaultRule::always(Fault::NeverAnswer));
    let behaviour = Behaviour::answering(Answer::after_ms(300)).with_route("/poison", poison);
    let hosts = (0..4).map(|host| HostConfig::new(format!("host{host}")).behaving(behaviour.clone()));
    let stage = Stage::new(hosts).await;
    let mut records = vec![stage.record("poison", "host0", "/poison")];
    records.extend(
        (0..40).map(|job| stage.record(&format!("a{job}"), &format!("host{}", job % 4), &format!("/{job}"))),
    );
    stage.import(&records).await;
    for death in 1..=5 {
        let program = stage.start_run(&["--drain"]);
        stage.origin.wait_for("host0", |_| stage.origin.path_counts("host0", "/poison").asked >= death).await;
        program.kill().await;
    }
    let finished = stage.start_run(&["--drain"]).finish().await.expect_code(3);
    assert!(finished.stdout.contains("poison") || finished.stderr.contains("poison"), "{}", finished.stderr);
    let jobs = stage.check_drained(&records).await;
    let poison = &jobs["poison"];
    assert_eq!((poison.state, poison.losses, poison.attempts), (JobState::Error, 5, 0));
    let said = poison.last_error.as_deref().unwrap();
    assert!(said.contains("its worker process died 5 times"), "{said}");
    for (id, job) in jobs.iter().filter(|(id, _)| *id != "poison") {
        assert_eq!(job.state, JobState::Done, "{id} is innocent: {:?}", job.last_error);
    }
    assert_eq!(stage.origin.path_counts("host0", "/poison").asked, 5);
}
