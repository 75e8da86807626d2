//! What goes wrong twenty times in the same way is not said twenty times.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use longhaul_origin::{Answer, HostConfig};
use longhaul_tests::Stage;
use serde_json::Value;

/// Files that were fetched but not listed are taken away, so that the next run has to fetch each of them again, and warns
/// of each.
#[tokio::test(flavor = "multi_thread")]
async fn repeats_are_held_back_and_counted() {
    const JOBS: usize = 20;
    let stage = Stage::new([HostConfig::answering("good", Answer::after_ms(1))]).await;
    let records: Vec<_> =
        (0..JOBS).map(|job| stage.record(&format!("a{job}"), "good", &format!("/{job}"))).collect();
    // The run waits for work, and before there is any, no line can be written any more.
    let mut first = stage.start_run(&["--manifest", "lists/m.jsonl", "--max-jobs", &JOBS.to_string()]);
    let manifest = stage.folder().join("lists/m.jsonl");
    first.wait_until_it_says("nothing to do yet").await;
    std::fs::remove_file(&manifest).unwrap();
    std::fs::create_dir(&manifest).unwrap();
    stage.import(&records).await;
    let first = first.finish().await.expect_code(5);
    assert!(first.stderr.contains("20 finished jobs have no final name or no line"), "{}", first.stderr);
    let mut files: Vec<_> =
        std::fs::read_dir(stage.output()).unwrap().flatten().map(|file| file.path()).collect();
    files.retain(|path| path.is_file());
    assert_eq!(files.len(), JOBS);
    for file in files {
        std::fs::remove_file(file).unwrap();
    }

    let run = stage.start_run(&["--drain", "--log-format", "json"]).finish().await.expect_code(0);
    let events: Vec<Value> = run.stderr.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let said = |message: &str| events.iter().filter(|event| event["fields"]["message"] == message).count();
    assert_eq!(said("the job is queued again"), 5, "{}", run.stderr);
    assert_eq!(said("held back more of the same"), 1, "{}", run.stderr);
    let held = events.iter().find(|event| event["fields"]["of"] == "the job is queued again").unwrap();
    assert_eq!((&held["level"], held["fields"]["times"].as_u64()), (&"WARN".into(), Some(JOBS as u64 - 5)));
    let _ = stage.check_drained(&records).await;
}
