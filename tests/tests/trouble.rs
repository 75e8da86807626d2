//! What is taken away from a run while it is at work: its queue, its folder, its turn to write.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::fs::File;
use std::time::Duration;

use longhaul_origin::{Answer, Behaviour, HostConfig};
use longhaul_queue_core::JobState;
use longhaul_tests::{Finished, Program, Stage};
use serde_json::Value;

/// Long enough for everything here; a run that hangs fails the test and not the whole suite.
const FAR: Duration = Duration::from_mins(1);

async fn end_of(program: Program) -> Finished {
    tokio::time::timeout(FAR, program.finish()).await.expect("it hangs")
}

/// A host that answers slowly and one job after the other, so that a run is at work while something is taken away.
async fn stage(jobs: usize) -> (Stage, Vec<Value>) {
    let slow = Behaviour::answering(Answer::after_ms(100));
    let stage = Stage::new([HostConfig::new("host").behaving(slow)]).await;
    let records: Vec<_> =
        (0..jobs).map(|job| stage.record(&format!("j{job}"), "host", &format!("/{job}"))).collect();
    stage.import(&records).await;
    (stage, records)
}

#[tokio::test(flavor = "multi_thread")]
async fn inv_no_loss_a_queue_that_is_deleted_ends_the_run_with_a_message() {
    let (stage, _) = stage(400).await;
    let program = stage.start_run(&["--drain"]);
    stage.origin.wait_for("host", |counts| counts.requests >= 8).await;
    std::fs::remove_file(stage.folder().join("state/workqueue.sqlite")).unwrap();
    let ended = end_of(program).await.expect_code(1);
    assert!(ended.stderr.contains("workqueue.sqlite was removed, moved or replaced"), "{}", ended.stderr);
    assert!(stage.origin.counts("host").requests < 400, "it went on");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_run_notices_that_its_queue_is_gone() {
    let (stage, _) = stage(1).await;
    let program = stage.start_run(&[]);
    stage.origin.wait_for("host", |counts| counts.requests >= 1).await;
    std::fs::remove_file(stage.folder().join("state/workqueue.sqlite")).unwrap();
    let ended = end_of(program).await.expect_code(1);
    assert!(ended.stderr.contains("was removed, moved or replaced"), "{}", ended.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_output_folder_that_is_deleted_ends_a_drain_and_the_next_run_fetches_what_was_lost() {
    let (stage, records) = stage(60).await;
    let program = stage.start_run(&["--drain", "--drain-horizon", "2s"]);
    stage.origin.wait_for("host", |counts| counts.requests >= 8).await;
    // Whoever is at work makes files in it meanwhile.
    while stage.output().exists() {
        let _ = std::fs::remove_dir_all(stage.output());
    }
    let ended = end_of(program).await.expect_code(1);
    assert!(ended.stderr.contains("this machine cannot work"), "{}", ended.stderr);
    assert!(ended.stderr.contains("downloads"), "{}", ended.stderr);
    let jobs = stage.jobs().await;
    assert!(jobs.values().all(|job| job.state != JobState::Error && job.attempts == 0), "nobody is charged");
    // What was published before it was deleted is gone by the user's own hand; all else is there afterwards.
    let published: Vec<&str> =
        jobs.values().filter(|job| job.published).map(|job| job.artifact_id.as_str()).collect();
    assert!(published.len() < records.len());
    let _ = end_of(stage.start_run(&["--drain"])).await.expect_code(0);
    for (name, job) in stage.jobs().await {
        assert_eq!((job.state, job.published), (JobState::Done, true), "{name}");
        let path = stage.output().join(job.path.unwrap());
        assert!(path.exists() || published.contains(&name.as_str()), "{name} has no file");
    }
}

/// A process that is frozen in a commit holds the writer's lock, as this test does.
#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_cannot_write_says_who_is_in_the_way_and_ends() {
    let (stage, _) = stage(1).await;
    let lock = File::options().write(true).open(stage.folder().join("state/workqueue.sqlite.locks/writer"));
    let lock = lock.unwrap();
    lock.lock().unwrap();
    let list = stage.write("more.jsonl", &[stage.record("more", "host", "/more")]);
    // A command that only looks waits for nobody.
    let _ = end_of(stage.start(&["queue", "stats"])).await.expect_code(0);
    let pause = stage.start(&["queue", "pause"]);
    let import = stage.start(&["queue", "import", &list]);
    let (pause, import) = tokio::join!(end_of(pause), end_of(import));
    for ended in [pause, import] {
        let ended = ended.expect_code(1);
        let named = format!("process {}", std::process::id());
        assert!(ended.stderr.contains("kept this one from writing"), "{}", ended.stderr);
        assert!(!cfg!(target_os = "linux") || ended.stderr.contains(&named), "{}", ended.stderr);
    }
    lock.unlock().unwrap();
    let _ = stage.run(&["queue", "import", &list]).await.expect_code(0);
}

/// Lets a process have so many files and connections open from now on.
fn allow_open_files(program: &Program, most: u32) {
    let (pid, most) = (program.id().to_string(), format!("--nofile={most}:"));
    assert!(std::process::Command::new("prlimit").args(["--pid", &pid, &most]).status().unwrap().success());
}

/// INV-ATTEMPTS: no host and no job is to blame for what this machine has run out of.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_may_open_no_more_connections_waits_and_charges_nobody() {
    let names: Vec<String> = (0..20).map(|host| format!("h{host}")).collect();
    let hosts = names.iter().map(|name| HostConfig::answering(name, Answer::status(404)));
    let slow = HostConfig::answering("slow", Answer::after_ms(1_000));
    let stage = Stage::new(hosts.chain([slow])).await;
    stage.import(&[stage.record("slow", "slow", "/")]).await;
    let mut program = stage.start_run(&["--workers", "4"]);
    stage.origin.wait_for("slow", |counts| counts.in_flight == 1).await;
    allow_open_files(&program, 8);
    let records: Vec<_> = names.iter().map(|name| stage.record(name, name, "/")).collect();
    stage.import(&records).await;
    program.wait_until_it_says("Too many open files").await;
    assert!(names.iter().all(|name| stage.origin.counts(name).requests == 0));
    allow_open_files(&program, 1024);
    program.wait_until_it_says("21/21 ended").await;
    program.signal("TERM");
    let _ = end_of(program).await;
    for (name, job) in stage.jobs().await.iter().filter(|(name, _)| *name != "slow") {
        assert_eq!((job.reason.as_deref(), job.attempts), (Some("gone"), 1), "{name}: {job:?}");
    }
}
