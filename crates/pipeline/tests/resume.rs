//! What came is not fetched again, if it can be continued; and nothing is joined that does not belong together.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod support;

use longhaul_events::Event;
use longhaul_origin::{Answer, Behaviour, Fault, FaultRule, Framing, Ranges, Validators};
use longhaul_pipeline::{FailureClass, HttpPipeline, Job, Pipeline, Reason, RunResult};
use serde_json::json;
use support::{
    Bench, Desk, Ear, checkpoint, done, failed, file, job, next_try, pdf, pdf_text, reports, run, soon,
};

const BYTES: u64 = 400_000;

/// An honest answer whose first body breaks off in its middle.
fn breaking(answer: Answer) -> Answer {
    answer.failing_first(Fault::TruncateBody { at_percent: 50 })
}

/// A first try that breaks off, and its job's next try.
async fn broken_try(bench: &Bench, pipeline: &HttpPipeline) -> (RunResult, Job) {
    let job = bench.job("/x.pdf");
    let result = run(pipeline, &job, &Desk::default()).await;
    assert_eq!(failed(&result), (Reason::ConnError, FailureClass::Transient));
    assert_eq!(reports(&result), ["failed"]);
    let next = next_try(&job, checkpoint(&result));
    (result, next)
}

/// How many bytes of bodies host `a` sends for this.
async fn sent_for<T>(bench: &Bench, what: impl Future<Output = T>) -> (T, u64) {
    let before = bench.origin.counts("a").body_bytes_sent;
    let result = what.await;
    (result, bench.origin.counts("a").body_bytes_sent - before)
}

fn assert_whole(bench: &Bench, result: &RunResult) {
    let (file, document) = (file(result), bench.origin.document("a", "/x.pdf"));
    assert_eq!((file.bytes, file.sha256.as_str()), (document.len(), document.sha256().as_str()));
    let part = std::fs::read(bench.path(file.part.to_str().unwrap())).unwrap();
    assert_eq!(part, document.whole());
}

#[tokio::test]
async fn a_body_that_broke_off_is_continued() {
    for fault in [Fault::TruncateBody { at_percent: 50 }, Fault::ResetInBody { at_percent: 50 }] {
        let bench = Bench::answering(pdf(BYTES).failing_first(fault)).await;
        let pipeline = bench.pipeline();
        let job = bench.job("/x.pdf");
        let first = run(&pipeline, &job, &Desk::default()).await;
        assert_eq!(failed(&first), (Reason::ConnError, FailureClass::Transient));
        let next = next_try(&job, checkpoint(&first));
        let (result, sent) = sent_for(&bench, run(&pipeline, &next, &Desk::default())).await;
        assert_whole(&bench, &result);
        // A reset may take with it what was on the way.
        let resumed = done(&result).http_status == Some(206);
        assert_eq!(resumed, sent < BYTES, "{sent} bytes were sent");
    }
}

#[tokio::test]
async fn the_next_process_continues_what_this_one_began() {
    let bench = Bench::answering(breaking(pdf(BYTES))).await;
    let (_, next) = broken_try(&bench, &bench.pipeline()).await;
    let (result, sent) = sent_for(&bench, run(&bench.pipeline(), &next, &Desk::default())).await;
    assert_whole(&bench, &result);
    assert_eq!((done(&result).http_status, sent), (Some(206), BYTES / 2));
    assert_eq!(bench.parts(), ["7.part"]);
}

#[tokio::test]
async fn another_version_is_fetched_whole() {
    let bench = Bench::answering(breaking(pdf(BYTES))).await;
    let (_, next) = broken_try(&bench, &bench.pipeline()).await;
    bench.origin.set_behaviour("a", Behaviour::answering(Answer { revision: 1, ..pdf(BYTES) }));
    let desk = Desk::default();
    let result = run(&bench.pipeline(), &next, &desk).await;
    assert_whole(&bench, &result);
    assert_eq!(done(&result).http_status, Some(200));
    // The old part was given up in the store before its bytes were.
    assert!(matches!(&desk.checkpoints()[..], [only] if only.contains("\"partial\":null")));
}

#[tokio::test]
async fn hosts_that_cannot_continue_send_it_whole() {
    for ranges in [Ranges::Unsupported, Ranges::Ignored, Ranges::WrongContentRange] {
        let bench = Bench::answering(breaking(Answer { ranges, ..pdf(BYTES) })).await;
        let (_, next) = broken_try(&bench, &bench.pipeline()).await;
        let desk = Desk::default();
        let result = run(&bench.pipeline(), &next, &desk).await;
        assert_whole(&bench, &result);
        // A 206 of the wrong range costs a request of its own, and that one is admitted too.
        let requests = if ranges == Ranges::WrongContentRange { 2 } else { 1 };
        assert_eq!(desk.asked().len(), requests, "{ranges:?}");
        assert_eq!(bench.origin.path_counts("a", "/x.pdf").asked, 1 + requests as u64);
    }
}

#[tokio::test]
async fn a_precondition_that_fails_is_dropped_once() {
    for status in [412, 416] {
        let fault = FaultRule { after: 1, ..FaultRule::first(Fault::Status { status, retry_after: None }) };
        let bench = Bench::answering(breaking(pdf(BYTES)).with_fault(fault)).await;
        let (_, next) = broken_try(&bench, &bench.pipeline()).await;
        let desk = Desk::default();
        let result = run(&bench.pipeline(), &next, &desk).await;
        assert_whole(&bench, &result);
        assert_eq!((done(&result).http_status, desk.asked().len()), (Some(200), 2), "{status}");
    }
}

#[tokio::test]
async fn only_strong_validators_join_two_answers() {
    for (validators, resumes) in [
        (Validators::Strong, true),
        (Validators::Date, true),
        (Validators::Weak, false),
        (Validators::Absent, false),
    ] {
        let bench = Bench::answering(breaking(Answer { validators, ..pdf(BYTES) })).await;
        let (_, next) = broken_try(&bench, &bench.pipeline()).await;
        let result = run(&bench.pipeline(), &next, &Desk::default()).await;
        assert_whole(&bench, &result);
        assert_eq!(done(&result).http_status == Some(206), resumes, "{validators:?}");
    }
}

#[tokio::test]
async fn a_rest_of_another_version_is_not_joined() {
    let bench = Bench::answering(Answer::default()).await;
    let (pipeline, ear, desk) = (bench.pipeline(), Ear::listen().await, Desk::default());
    let (old, new) = (pdf_text(100_000), pdf_text(120_000).replace('x', "y"));
    let head = "HTTP/1.1 200 OK\r\nETag: \"old\"\r\nContent-Length: 100000\r\n\r\n";
    let first_job = job(&json!({ "id": "x", "pdf_urls": [ear.url("/x.pdf")] }));
    let cut = format!("{head}{}", &old[..80_000]);
    let (first, _) = soon(async { tokio::join!(pipeline.run(&first_job, &desk), ear.answer(&cut)) }).await;

    // It ignores If-Range, as some do.
    let rest = format!(
        "HTTP/1.1 206 Partial Content\r\nETag: \"new\"\r\nContent-Range: bytes 80000-119999/120000\r\n\
         Content-Length: 40000\r\nConnection: close\r\n\r\n{}",
        &new[80_000..]
    );
    let whole = format!("HTTP/1.1 200 OK\r\nContent-Length: 120000\r\nConnection: close\r\n\r\n{new}");
    let next = next_try(&first_job, checkpoint(&first));
    let answers = async { (ear.answer(&rest).await, ear.answer(&whole).await) };
    let (result, (asked, asked_again)) =
        soon(async { tokio::join!(pipeline.run(&next, &desk), answers) }).await;
    let asked = asked.to_lowercase();
    assert!(asked.contains("range: bytes=80000-\r\n") && asked.contains("if-range: \"old\"\r\n"), "{asked}");
    assert!(!asked_again.to_lowercase().contains("range"), "{asked_again}");
    let part = bench.path(file(&result).part.to_str().unwrap());
    assert_eq!(std::fs::read_to_string(part).unwrap(), new);
}

#[tokio::test]
async fn little_is_not_kept() {
    let bench = Bench::answering(breaking(pdf(100_000))).await;
    let (_, next) = broken_try(&bench, &bench.pipeline()).await;
    let result = run(&bench.pipeline(), &next, &Desk::default()).await;
    assert_whole(&bench, &result);
    assert_eq!(done(&result).http_status, Some(200));
}

#[tokio::test]
async fn a_part_that_lost_bytes_or_belongs_elsewhere_is_not_continued() {
    let bench = Bench::answering(breaking(pdf(BYTES))).await;
    let (_, next) = broken_try(&bench, &bench.pipeline()).await;
    let part = std::fs::File::options().write(true).open(bench.path(".longhaul/parts/7.part")).unwrap();
    part.set_len(1000).unwrap();
    let result = run(&bench.pipeline(), &next, &Desk::default()).await;
    assert_whole(&bench, &result);
    assert_eq!(done(&result).http_status, Some(200));

    let (here, there) =
        (Bench::answering(breaking(pdf(BYTES))).await, Bench::answering(Answer::default()).await);
    let (_, next) = broken_try(&here, &here.pipeline()).await;
    let result = run(&there.pipeline(), &next, &Desk::default()).await;
    assert_eq!((done(&result).http_status, file(&result).bytes), (Some(200), BYTES));
}

#[tokio::test]
async fn bytes_that_were_damaged_on_the_disk_are_fetched_again() {
    let bench = Bench::answering(breaking(pdf(BYTES))).await;
    let (_, mut next) = broken_try(&bench, &bench.pipeline()).await;
    let sha256 = bench.origin.document("a", "/x.pdf").sha256();
    let mut record: serde_json::Value = serde_json::from_str(&next.payload).unwrap();
    record["sha256"] = sha256.into();
    next.payload = record.to_string();
    let path = bench.path(".longhaul/parts/7.part");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[100_000] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let desk = Desk::default();
    let result = run(&bench.pipeline(), &next, &desk).await;
    assert_whole(&bench, &result);
    assert_eq!((done(&result).http_status, desk.asked().len()), (Some(200), 2));
}

#[tokio::test]
async fn a_part_in_other_hands_is_left_alone() {
    let bench = Bench::answering(pdf(BYTES)).await;
    let (first, job) = (bench.pipeline(), bench.job("/x.pdf"));
    let held = run(&first, &job, &Desk::default()).await;
    let second = run(&bench.pipeline(), &next_try(&job, None), &Desk::default()).await;
    assert_eq!(bench.parts(), ["7-2.part", "7.part"]);
    assert_whole(&bench, &held);
    assert_whole(&bench, &second);
    // The loser throws its own away and nobody else's.
    bench.pipeline().discard(&held.outcome).await;
    bench.pipeline().discard(&held.outcome).await;
    assert_eq!(bench.parts(), ["7-2.part"]);
}

#[tokio::test]
async fn an_old_part_without_a_checkpoint_is_written_anew() {
    let bench = Bench::answering(Answer { framing: Framing::Chunked, ..pdf(5000) }).await;
    let pipeline = bench.pipeline();
    std::fs::write(bench.path(".longhaul/parts/7.part"), vec![b'x'; 100_000]).unwrap();
    let result = run(&pipeline, &bench.job("/x.pdf"), &Desk::default()).await;
    assert_whole(&bench, &result);
}

#[tokio::test]
async fn a_try_that_is_cut_off_keeps_what_it_has() {
    let stall = FaultRule::first(Fault::StallInBody { at_percent: 75 });
    let bench = Bench::answering(pdf(BYTES).with_fault(stall)).await;
    let (pipeline, job, desk) = (bench.pipeline(), bench.job("/x.pdf"), Desk::default());
    let cancel = async {
        while !desk.recorder.events().iter().any(|event| matches!(event, Event::Received { .. })) {
            tokio::task::yield_now().await;
        }
        desk.cancelled.cancel();
    };
    let (result, ()) = soon(async { tokio::join!(pipeline.run(&job, &desk), cancel) }).await;
    assert_eq!(failed(&result).0, Reason::LeaseLost);
    let next = next_try(&job, checkpoint(&result));
    let result = run(&pipeline, &next, &Desk::default()).await;
    assert_whole(&bench, &result);
    assert_eq!(done(&result).http_status, Some(206));
}

#[tokio::test]
async fn a_long_download_says_where_it_is_after_its_bytes_are_safe() {
    let bytes = 70 << 20;
    let bench = Bench::answering(pdf(bytes)).await;
    let desk = Desk::default();
    let result = run(&bench.pipeline(), &bench.job("/x.pdf"), &desk).await;
    assert_eq!(file(&result).bytes, bytes);
    let checkpoints = desk.checkpoints();
    let [only] = &checkpoints[..] else { panic!("{} checkpoints", checkpoints.len()) };
    let partial: serde_json::Value = serde_json::from_str(only).unwrap();
    assert!(partial["partial"]["bytes"].as_u64().unwrap() >= 64 << 20);

    // It continues there after a crash: the file is as long as it got, the checkpoint says what is safe.
    let crashed = bench.job("/x.pdf");
    drop(result);
    let next = next_try(&crashed, Some(only.clone()));
    let (result, sent) = sent_for(&bench, run(&bench.pipeline(), &next, &Desk::default())).await;
    assert_eq!((file(&result).bytes, done(&result).http_status), (bytes, Some(206)));
    assert!(sent <= 6 << 20, "{sent}");
    assert_eq!(file(&result).sha256, bench.origin.document("a", "/x.pdf").sha256());
}

#[tokio::test]
async fn who_cannot_store_a_checkpoint_has_lost_the_job() {
    let bench = Bench::answering(pdf(70 << 20)).await;
    let desk = Desk::default();
    desk.lose();
    let result = run(&bench.pipeline(), &bench.job("/x.pdf"), &desk).await;
    assert_eq!(failed(&result).0, Reason::LeaseLost);
}
