//! Where files and the manifest lie, if they are told to lie elsewhere than by default.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::path::Path;

use longhaul_origin::{Answer, HostConfig, Shape};
use longhaul_tests::Stage;
use serde_json::Value;

async fn stage(jobs: usize) -> (Stage, Vec<Value>) {
    let stage = Stage::new([HostConfig::answering("good", Answer::document(Shape::pdf(5_000)))]).await;
    let records: Vec<_> =
        (0..jobs).map(|job| stage.record(&format!("a{job}"), "good", &format!("/{job}"))).collect();
    stage.import(&records).await;
    (stage, records)
}

/// INV-WHOLE-FILE holds in the folders of `sharded` too: each file is where the queue and the manifest say, and a run that
/// is killed in between leaves nothing behind.
#[tokio::test(flavor = "multi_thread")]
async fn sharded_files_lie_under_two_levels_of_folders() {
    let (stage, records) = stage(60).await;
    let program = stage.start_run(&["--drain", "--layout", "sharded", "--max-per-host", "1"]);
    stage.origin.wait_for("good", |counts| counts.completed_bodies >= 20).await;
    program.kill().await;
    let _ = stage.start_run(&["--drain", "--layout", "sharded"]).finish().await.expect_code(0);
    let jobs = stage.check_drained(&records).await;
    let mut folders = BTreeSet::new();
    for job in jobs.values() {
        let path = job.path.as_deref().unwrap();
        let parts: Vec<&str> = path.split('/').collect();
        assert_eq!(parts.len(), 3, "{path}");
        assert!(
            parts[..2].iter().all(|part| part.len() == 2 && part.bytes().all(|c| c.is_ascii_hexdigit())),
            "{path}"
        );
        folders.insert(parts[..2].concat());
    }
    assert!(folders.len() > 30, "60 files are spread over {} folders", folders.len());
    let at_the_top = |entry: &std::fs::DirEntry| entry.path().is_file();
    let top = std::fs::read_dir(stage.output()).unwrap().flatten().filter(at_the_top).count();
    assert_eq!(top, 1, "the manifest alone");
}

/// With `--manifest` the list is there and only there, its paths stay relative to the folder of the files, and the run says
/// where it is.
#[tokio::test(flavor = "multi_thread")]
async fn the_manifest_can_lie_elsewhere() {
    let (stage, _) = stage(3).await;
    let run = stage.start_run(&["--drain", "--manifest", "lists/mine.jsonl"]).finish().await.expect_code(0);
    assert!(run.stdout.contains("listed in lists/mine.jsonl"), "{}", run.stdout);
    assert!(!stage.output().join("manifest.jsonl").exists());
    let text = std::fs::read_to_string(stage.folder().join("lists/mine.jsonl")).unwrap();
    assert_eq!(text.lines().count(), 3);
    for line in text.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        let path = line["path"].as_str().unwrap();
        assert!(Path::new(path).is_relative() && stage.output().join(path).is_file(), "{path}");
    }
}
