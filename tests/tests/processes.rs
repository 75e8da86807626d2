//! Several processes on one queue.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "the figures are part of what a proof shows")]

use longhaul_origin::{Answer, Behaviour, HostConfig};
use longhaul_queue_core::JobState;
use longhaul_tests::Stage;

/// INV-CAP, INV-FENCE: two processes on one file never exceed a host's cap together, and no file is fetched twice.
#[tokio::test(flavor = "multi_thread")]
async fn inv_cap_two_processes_on_one_file_share_a_hosts_cap() {
    let behaviour = Behaviour::answering(Answer::after_ms(20)).tolerating_at_once(2);
    let stage = Stage::new(["a", "b"].map(|name| HostConfig::new(name).behaving(behaviour.clone()))).await;
    let record = |job: usize| stage.record(&format!("j{job}"), ["a", "b"][job % 2], &format!("/{job}"));
    let records: Vec<_> = (0..200).map(record).collect();
    stage.import(&records).await;
    let flags = ["--drain", "--max-per-host", "2"];
    let (first, second) = (stage.start_run(&flags), stage.start_run(&flags));
    let (first, second) = tokio::join!(first.finish(), second.finish());
    let _ = (first.expect_code(0), second.expect_code(0));
    let jobs = stage.check_drained(&records).await;
    assert!(jobs.values().all(|job| job.state == JobState::Done));
    for host in ["a", "b"] {
        let report = stage.origin.host_report(host);
        println!(
            "{host}: peak {} in flight, {} requests",
            report.counts.peak_in_flight, report.counts.requests
        );
        assert_eq!((report.counts.impolite, report.counts.requests), (0, 100));
        assert!(report.counts.peak_in_flight <= 2);
        assert!(report.repeated.is_empty(), "{:?}", report.repeated);
    }
}

/// INV-PACE: a pace holds over two processes and a restart, as arrivals.
#[tokio::test(flavor = "multi_thread")]
async fn inv_pace_holds_over_processes_and_a_restart() {
    let stage = Stage::new([HostConfig { windows_ms: vec![1000], ..HostConfig::new("paced") }]).await;
    let records: Vec<_> =
        (0..40).map(|job| stage.record(&format!("j{job}"), "paced", &format!("/{job}"))).collect();
    stage.import(&records).await;
    let rate = format!("127.0.1.1:{}=5/s", stage.origin.port());
    let flags = ["--drain", "--rate", &rate];
    let (first, second) = (stage.start_run(&flags), stage.start_run(&flags));
    stage.origin.wait_for("paced", |counts| counts.requests >= 10).await;
    first.kill().await;
    let third = stage.start_run(&flags);
    let (second, third) = tokio::join!(second.finish(), third.finish());
    let _ = (second.expect_code(0), third.expect_code(0));
    let _ = stage.check_drained(&records).await;
    let report = stage.origin.host_report("paced");
    assert!(report.windows.iter().all(|window| window.peak <= 5), "{:?}", report.windows);
}

/// INV-WHOLE-FILE: two queues that share an output folder and a file's name both get their file, each once.
#[tokio::test(flavor = "multi_thread")]
async fn inv_whole_file_two_queues_share_a_folder_and_a_name() {
    let stage = Stage::new([HostConfig::new("a").behaving(Behaviour::answering(Answer::after_ms(50)))]).await;
    let mut programs = Vec::new();
    for queue in ["one", "two"] {
        let records: Vec<_> = (0..6)
            .map(|job| {
                let mut record = stage.record(&format!("{queue}{job}"), "a", &format!("/{queue}{job}"));
                record["base_stem"] = format!("same{job}").into();
                record
            })
            .collect();
        let list = stage.write(&format!("{queue}.jsonl"), &records);
        let path = format!("state/{queue}.sqlite");
        let _ = stage.run(&["queue", "--queue", &path, "import", &list]).await.expect_code(0);
        programs.push(stage.start_run(&["--queue", &path, "--drain", "--retry-backoff", "0s"]));
    }
    for program in programs {
        let _ = program.finish().await.expect_code(0);
    }
    let manifest = stage.manifest();
    let mut digests: Vec<&str> = manifest.iter().filter_map(|line| line["sha256"].as_str()).collect();
    digests.sort_unstable();
    digests.dedup();
    assert_eq!((manifest.len(), digests.len()), (12, 12), "a line and a file of its own for each");
    for line in &manifest {
        let bytes = std::fs::read(stage.output().join(line["path"].as_str().unwrap())).unwrap();
        assert_eq!(bytes.len() as u64, line["bytes"].as_u64().unwrap());
    }
    assert_eq!(stage.parts(), Vec::<std::path::PathBuf>::new());
}
