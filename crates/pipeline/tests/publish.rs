//! What the queue recorded gets its name and its line, once, whenever the process dies.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod support;

use std::fs;

use longhaul_origin::Answer;
use longhaul_pipeline::{Ended, EndedState, HttpPipeline, Job, Pipeline, PublishError, RunResult};
use serde_json::json;
use support::{Bench, Desk, done, ended, file, job, next_try, pdf, recovered, run};

/// A job that is done and recorded, and not yet published.
struct Recorded {
    bench: Bench,
    pipeline: HttpPipeline,
    job: Job,
    result: RunResult,
}

impl Recorded {
    async fn new() -> Self {
        let bench = Bench::answering(Answer::default()).await;
        let (pipeline, job) = (bench.pipeline(), bench.job("/x.pdf"));
        let result = run(&pipeline, &job, &Desk::default()).await;
        Self { bench, pipeline, job, result }
    }

    fn ended(&self) -> Ended {
        ended(&self.job, &self.result)
    }

    /// As after the process has died and another has started: locks are gone, the outcome is read from the queue.
    fn crash(self) -> (Bench, HttpPipeline, Ended) {
        let ended = recovered(&self.ended());
        let Self { bench, pipeline, result, .. } = self;
        drop((result, pipeline));
        let pipeline = bench.pipeline();
        (bench, pipeline, ended)
    }
}

async fn publish(pipeline: &HttpPipeline, ended: &Ended) -> Result<(), PublishError> {
    pipeline.publish(std::slice::from_ref(ended)).await.pop().unwrap()
}

fn assert_published(bench: &Bench, ended: &Ended) {
    bench.assert_final(ended.fetched.as_ref().unwrap(), "/x.pdf");
    assert_eq!(bench.parts().len(), 0);
    assert_eq!(bench.manifest().len(), 1);
}

#[tokio::test]
async fn a_recorded_file_gets_its_name_and_its_line() {
    let recorded = Recorded::new().await;
    let ended = recorded.ended();
    publish(&recorded.pipeline, &ended).await.unwrap();
    assert_published(&recorded.bench, &ended);
    let line = &recorded.bench.manifest()[0];
    let (fetched, file) = (done(&recorded.result), file(&recorded.result));
    let expect = json!({
        "schema_version": 1, "run_id": "run", "timestamp": "2023-11-14T22:13:20.000Z", "artifact_id": "x",
        "title": null, "resolver": "direct", "url": fetched.url, "path": file.path,
        "content_type": "application/pdf", "bytes": file.bytes, "sha256": file.sha256, "etag": fetched.etag,
        "last_modified": fetched.last_modified, "outcome": "done", "reason": "ok", "detail": null,
        "attempts": 1, "job": 7, "token": 1,
    });
    assert_eq!(*line, expect);
}

#[tokio::test]
async fn publishing_twice_writes_one_line() {
    let recorded = Recorded::new().await;
    let ended = recorded.ended();
    publish(&recorded.pipeline, &ended).await.unwrap();
    publish(&recorded.pipeline, &ended).await.unwrap();
    // Another process knows nothing of it and looks.
    publish(&recorded.bench.pipeline(), &ended).await.unwrap();
    assert_published(&recorded.bench, &ended);
}

#[tokio::test]
async fn a_crash_before_the_rename_is_made_good() {
    let (bench, pipeline, ended) = Recorded::new().await.crash();
    publish(&pipeline, &ended).await.unwrap();
    publish(&pipeline, &ended).await.unwrap();
    assert_published(&bench, &ended);
}

#[tokio::test]
async fn a_crash_between_the_rename_and_the_line_is_made_good() {
    let (bench, pipeline, ended) = Recorded::new().await.crash();
    let file = ended.fetched.as_ref().unwrap().file.as_ref().unwrap();
    fs::rename(bench.path(file.part.to_str().unwrap()), bench.path(&file.path)).unwrap();
    publish(&pipeline, &ended).await.unwrap();
    assert_published(&bench, &ended);
}

#[tokio::test]
async fn a_crash_after_the_line_writes_no_second_one() {
    let recorded = Recorded::new().await;
    publish(&recorded.pipeline, &recorded.ended()).await.unwrap();
    let (bench, pipeline, ended) = recorded.crash();
    publish(&pipeline, &ended).await.unwrap();
    assert_published(&bench, &ended);
}

#[tokio::test]
async fn a_torn_line_is_removed_and_written_again() {
    let recorded = Recorded::new().await;
    publish(&recorded.pipeline, &recorded.ended()).await.unwrap();
    let manifest = recorded.bench.path("manifest.jsonl");
    let whole = fs::read(&manifest).unwrap();
    fs::write(&manifest, [&whole[..], &whole[..whole.len() / 2]].concat()).unwrap();
    let (bench, pipeline, ended) = recorded.crash();
    publish(&pipeline, &ended).await.unwrap();
    assert_published(&bench, &ended);

    fs::write(&manifest, &whole[..whole.len() / 2]).unwrap();
    publish(&bench.pipeline(), &ended).await.unwrap();
    assert_eq!(fs::read(&manifest).unwrap(), whole);
}

#[tokio::test]
async fn a_part_that_its_owner_holds_is_left_to_it() {
    let recorded = Recorded::new().await;
    let other = recorded.bench.pipeline();
    let outcome = publish(&other, &recovered(&recorded.ended())).await;
    assert!(matches!(outcome, Err(PublishError::Held)), "{outcome:?}");
    assert_eq!(recorded.bench.manifest().len(), 0);
    publish(&recorded.pipeline, &recorded.ended()).await.unwrap();
    assert_published(&recorded.bench, &recorded.ended());
}

#[tokio::test]
async fn a_file_of_another_store_is_left_to_it() {
    let (recorded, other) = (Recorded::new().await, Bench::answering(Answer::default()).await);
    let outcome = publish(&other.pipeline(), &recovered(&recorded.ended())).await;
    assert!(matches!(outcome, Err(PublishError::Held)), "{outcome:?}");
}

#[tokio::test]
async fn inv_whole_file_what_is_lost_or_damaged_is_not_published() {
    let (bench, pipeline, ended) = Recorded::new().await.crash();
    let file = ended.fetched.as_ref().unwrap().file.as_ref().unwrap();
    let part = bench.path(file.part.to_str().unwrap());
    let mut bytes = fs::read(&part).unwrap();
    bytes[2000] ^= 1;
    fs::write(&part, bytes).unwrap();
    let outcome = publish(&pipeline, &ended).await;
    assert!(matches!(&outcome, Err(PublishError::Missing { path }) if *path == file.path), "{outcome:?}");
    fs::remove_file(&part).unwrap();
    assert!(matches!(publish(&pipeline, &ended).await, Err(PublishError::Missing { .. })));
    fs::write(bench.path(&file.path), "something else").unwrap();
    assert!(matches!(publish(&pipeline, &ended).await, Err(PublishError::Missing { .. })));
    assert_eq!(bench.manifest().len(), 0);
}

#[tokio::test]
async fn a_batch_is_answered_one_by_one_and_in_order() {
    let bench = Bench::answering(Answer::default()).await;
    let pipeline = bench.pipeline();
    let mut batch = Vec::new();
    for number in 1..=3 {
        let record = json!({ "id": format!("x{number}"), "url": bench.origin.url("a", "/x.pdf") });
        let job = Job { number, ..job(&record) };
        batch.push(ended(&job, &run(&pipeline, &job, &Desk::default()).await));
    }
    fs::remove_file(bench.path(".longhaul/parts/2.part")).unwrap();
    let skipped = Ended {
        number: 4,
        state: EndedState::Skipped,
        reason: "robots".to_owned(),
        detail: "disallowed".to_owned(),
        fetched: None,
        ..batch[0].clone()
    };
    batch.push(skipped);
    let results = pipeline.publish(&batch).await;
    let told: Vec<bool> = results.iter().map(Result::is_ok).collect();
    assert_eq!(told, [true, false, true, true]);
    let lines = bench.manifest();
    let jobs: Vec<i64> = lines.iter().map(|line| line["job"].as_i64().unwrap()).collect();
    assert_eq!(jobs, [1, 3, 4]);
    let skipped = &lines[2];
    assert_eq!((&skipped["outcome"], &skipped["reason"]), (&json!("skipped"), &json!("robots")));
    assert_eq!((&skipped["path"], &skipped["detail"]), (&json!(null), &json!("disallowed")));
}

#[tokio::test]
async fn leftovers_go_with_the_job() {
    let recorded = Recorded::new().await;
    let parts = recorded.bench.path(".longhaul/parts");
    fs::write(parts.join("7-3.part"), "left by a claim that was lost").unwrap();
    fs::write(parts.join("77.part"), "another job's").unwrap();
    publish(&recorded.pipeline, &recorded.ended()).await.unwrap();
    assert_eq!(recorded.bench.parts(), ["77.part"]);
}

#[tokio::test]
async fn names_that_are_taken_on_the_disk_are_not_taken_away() {
    let bench = Bench::answering(Answer::default()).await;
    let (pipeline, job) = (bench.pipeline(), bench.job("/x.pdf"));
    let first = run(&pipeline, &job, &Desk::default()).await;
    let plain = file(&first).path.clone();
    fs::write(bench.path(&plain), "a stranger's").unwrap();

    // It came between the try and its publication.
    let outcome = publish(&pipeline, &ended(&job, &first)).await;
    let Err(PublishError::Taken { path }) = outcome else { panic!("{outcome:?}") };
    assert_eq!(path, plain);
    drop(first);

    // It was there before.
    let next = next_try(&job, None);
    let second = run(&pipeline, &next, &Desk::default()).await;
    assert_ne!(file(&second).path, plain);
    publish(&pipeline, &ended(&next, &second)).await.unwrap();
    bench.assert_final(done(&second), "/x.pdf");
    assert_eq!(fs::read(bench.path(&plain)).unwrap(), b"a stranger's");
}

#[tokio::test]
async fn the_same_file_under_the_name_is_no_collision() {
    let bench = Bench::answering(Answer::default()).await;
    let (pipeline, job) = (bench.pipeline(), bench.job("/x.pdf"));
    let first = run(&pipeline, &job, &Desk::default()).await;
    publish(&pipeline, &ended(&job, &first)).await.unwrap();
    let again = next_try(&job, None);
    let second = run(&pipeline, &again, &Desk::default()).await;
    assert_eq!(file(&second).path, file(&first).path);
    publish(&pipeline, &ended(&again, &second)).await.unwrap();
    assert_eq!((bench.manifest().len(), bench.parts().len()), (2, 0));
}

#[tokio::test]
async fn a_path_of_another_job_is_given_up() {
    let recorded = Recorded::new().await;
    let Recorded { pipeline, job, result, bench } = recorded;
    let renamed = pipeline.rename(&job, &result.outcome).unwrap();
    let longer = pipeline.rename(&job, &renamed).unwrap();
    let path = |outcome: &longhaul_pipeline::Outcome| file(&RunResult::from(outcome.clone())).path.clone();
    assert_ne!(path(&renamed), path(&result.outcome));
    assert_ne!(path(&longer), path(&renamed));
    let renamed = RunResult::from(renamed);
    publish(&pipeline, &ended(&job, &renamed)).await.unwrap();
    bench.assert_final(done(&renamed), "/x.pdf");
}

#[tokio::test]
async fn files_may_lie_in_folders() {
    let mut bench = Bench::answering(pdf(5000)).await;
    bench.options.layout = longhaul_pipeline::Layout::Sharded;
    bench.options.manifest = Some(bench.path("elsewhere.jsonl"));
    let (pipeline, job) = (bench.pipeline(), bench.job("/x.pdf"));
    let result = run(&pipeline, &job, &Desk::default()).await;
    assert_eq!(file(&result).path.matches('/').count(), 2);
    publish(&pipeline, &ended(&job, &result)).await.unwrap();
    bench.assert_final(done(&result), "/x.pdf");
    assert!(bench.path("elsewhere.jsonl").exists());
}

#[tokio::test]
async fn a_discarded_part_is_gone_and_a_file_is_not() {
    let recorded = Recorded::new().await;
    let Recorded { pipeline, job, result, bench } = recorded;
    publish(&pipeline, &ended(&job, &result)).await.unwrap();
    // Too late: it has its name.
    pipeline.discard(&result.outcome).await;
    bench.assert_final(done(&result), "/x.pdf");
    let again = run(&pipeline, &next_try(&job, None), &Desk::default()).await;
    assert_eq!(bench.parts(), ["7.part"]);
    // That is another one now, under the same name.
    pipeline.discard(&result.outcome).await;
    assert_eq!(bench.parts(), ["7.part"]);
    pipeline.discard(&again.outcome).await;
    assert_eq!(bench.parts().len(), 0);
}

/// Two artifacts of the same bytes, each run and recorded.
async fn twins(bench: &mut Bench) -> (HttpPipeline, Vec<Ended>) {
    bench.options.dedupe = true;
    let pipeline = bench.pipeline();
    let mut ended_ones = Vec::new();
    for number in 1..=2 {
        let record = json!({ "id": format!("x{number}"), "url": bench.origin.url("a", "/x.pdf") });
        let job = Job { number, ..job(&record) };
        ended_ones.push(ended(&job, &run(&pipeline, &job, &Desk::default()).await));
    }
    (pipeline, ended_ones)
}

fn path_of(bench: &Bench, ended: &Ended) -> std::path::PathBuf {
    bench.path(&ended.fetched.as_ref().unwrap().file.as_ref().unwrap().path)
}

fn inode(bench: &Bench, ended: &Ended) -> u64 {
    use std::os::unix::fs::MetadataExt;
    fs::metadata(path_of(bench, ended)).unwrap().ino()
}

#[tokio::test]
async fn files_of_the_same_content_are_stored_once_with_a_line_each() {
    let mut bench = Bench::answering(Answer::default()).await;
    let (pipeline, twins) = twins(&mut bench).await;
    for ended in &twins {
        publish(&pipeline, ended).await.unwrap();
        publish(&pipeline, ended).await.unwrap();
        bench.assert_final(ended.fetched.as_ref().unwrap(), "/x.pdf");
    }
    assert_eq!(inode(&bench, &twins[0]), inode(&bench, &twins[1]));
    assert_eq!((bench.parts().len(), bench.manifest().len()), (0, 2));
    // What is remembered keeps nothing alive, and what is gone is stored anew.
    fs::remove_file(path_of(&bench, &twins[0])).unwrap();
    fs::remove_file(path_of(&bench, &twins[1])).unwrap();
    let record = json!({ "id": "x3", "url": bench.origin.url("a", "/x.pdf") });
    let job = Job { number: 3, ..job(&record) };
    let third = ended(&job, &run(&pipeline, &job, &Desk::default()).await);
    publish(&pipeline, &third).await.unwrap();
    bench.assert_final(third.fetched.as_ref().unwrap(), "/x.pdf");
}

#[tokio::test]
async fn a_crash_between_the_link_and_the_part_s_end_is_made_good() {
    let mut bench = Bench::answering(Answer::default()).await;
    let (pipeline, twins) = twins(&mut bench).await;
    publish(&pipeline, &twins[0]).await.unwrap();
    fs::hard_link(path_of(&bench, &twins[0]), path_of(&bench, &twins[1])).unwrap();
    let again = recovered(&twins[1]);
    drop((twins, pipeline));
    let pipeline = bench.pipeline();
    publish(&pipeline, &again).await.unwrap();
    publish(&pipeline, &again).await.unwrap();
    bench.assert_final(again.fetched.as_ref().unwrap(), "/x.pdf");
    assert_eq!((bench.parts().len(), bench.manifest().len()), (0, 2));
}

#[tokio::test]
async fn inv_whole_file_no_link_is_made_to_a_file_that_was_changed() {
    let mut bench = Bench::answering(Answer::default()).await;
    let (pipeline, twins) = twins(&mut bench).await;
    publish(&pipeline, &twins[0]).await.unwrap();
    let mut bytes = fs::read(path_of(&bench, &twins[0])).unwrap();
    bytes[2000] ^= 1;
    fs::write(path_of(&bench, &twins[0]), bytes).unwrap();
    publish(&pipeline, &twins[1]).await.unwrap();
    bench.assert_final(twins[1].fetched.as_ref().unwrap(), "/x.pdf");
    assert_ne!(inode(&bench, &twins[0]), inode(&bench, &twins[1]));
}

#[tokio::test]
async fn a_stranger_s_file_is_replaced_by_no_link() {
    let mut bench = Bench::answering(Answer::default()).await;
    let (pipeline, twins) = twins(&mut bench).await;
    publish(&pipeline, &twins[0]).await.unwrap();
    fs::write(path_of(&bench, &twins[1]), "a stranger's").unwrap();
    let outcome = publish(&pipeline, &twins[1]).await;
    assert!(matches!(outcome, Err(PublishError::Taken { .. })), "{outcome:?}");
    assert_eq!(fs::read(path_of(&bench, &twins[1])).unwrap(), b"a stranger's");
}
