//! Files of the same content, stored once: the whole program, with its queue and its manifest.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::os::unix::fs::MetadataExt as _;

use longhaul_origin::{Answer, Behaviour, HostConfig, Shape};
use longhaul_queue_core::JobState;
use longhaul_tests::Stage;

/// Two mirrors and a second id of the same paper are three artifacts with one content.
#[tokio::test(flavor = "multi_thread")]
async fn each_artifact_has_a_file_and_a_line_and_the_content_is_stored_once() {
    let host = HostConfig::new("host").behaving(Behaviour::answering(Answer::document(Shape::pdf(20_000))));
    let stage = Stage::new([host]).await;
    let mut records: Vec<_> =
        (0..3).map(|number| stage.record(&format!("same-{number}"), "host", "/same.pdf")).collect();
    records.push(stage.record("other", "host", "/other.pdf"));
    stage.import(&records).await;
    let _ = stage.start_run(&["--drain", "--dedupe"]).finish().await.expect_code(0);
    let jobs = stage.check_drained(&records).await;
    let about = |id: &str| std::fs::metadata(stage.output().join(jobs[id].path.as_deref().unwrap())).unwrap();
    for id in ["same-0", "same-1", "same-2"] {
        assert_eq!(jobs[id].state, JobState::Done);
        assert_eq!((about(id).ino(), about(id).nlink()), (about("same-0").ino(), 3), "{id}");
    }
    assert_eq!(about("other").nlink(), 1);
    let _ = stage.run(&["queue", "check"]).await.expect_code(0);
}
