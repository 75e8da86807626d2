//! What the queue is told about each end of a try.

use std::time::Duration;

use crate::support::{Desk, ScriptedQueue, fetched, lane, leased};
use longhaul_limiter::{Lane, Role};
use longhaul_pipeline::{
    EndedState, FailureClass, Fetched, HostReport, Outcome, PartFile, Reason, RunResult,
};
use longhaul_queue_core::{
    JobRecord, JobState, LaneReport, LeasedJob, Place, StoreId, StoredFile, Timestamp, Verdict,
};
use longhaul_worker::{Finished, ended_from_record, is_out_of_attempts};

fn failed(class: FailureClass, reason: Reason) -> Outcome {
    Outcome::Failed {
        reason,
        class,
        detail: "it broke".to_owned(),
        resolver: Some("arxiv".to_owned()),
        checkpoint: Some("new".to_owned()),
    }
}

async fn end_of(leased: LeasedJob, result: impl Into<RunResult>) -> Finished {
    let result = result.into();
    let desk = Desk::new(ScriptedQueue::default(), move |_job, _context| {
        let result = result.clone();
        Box::pin(async move { result })
    });
    desk.run(leased).await
}

fn with_file() -> Fetched {
    Fetched {
        file: Some(PartFile {
            store: "store-1".to_owned(),
            part: ".parts/7-3.part".into(),
            path: "x.pdf".to_owned(),
            sha256: "ab".repeat(32),
            bytes: 1234,
            guard: None,
        }),
        ..fetched()
    }
}

fn retry_after(finished: &Finished) -> Option<Duration> {
    match &finished.settlement.verdict {
        Verdict::Retry { after, .. } => Some(*after),
        _ => None,
    }
}

#[tokio::test]
async fn done_records_the_file_and_all_that_publishing_needs() {
    let finished = end_of(leased(), Outcome::Done(with_file())).await;
    let Verdict::Done { reason, outcome, file } = &finished.settlement.verdict else {
        panic!("{finished:?}")
    };
    assert_eq!(reason, "ok");
    let file = file.clone().unwrap();
    let expected =
        StoredFile { store: StoreId("store-1".into()), path: "x.pdf".into(), sha256: "ab".repeat(32) };
    assert_eq!(file, expected);

    let live = finished.ended(JobState::Done, 42).unwrap();
    let record = record(JobState::Done, reason, Some(outcome.clone()));
    let rebuilt = ended_from_record(&record).unwrap();
    assert!(!live.recovered && rebuilt.recovered);
    assert_eq!(
        (live.number, live.fence, live.state, live.attempts, &live.resolver, live.at_ms),
        (rebuilt.number, rebuilt.fence, rebuilt.state, rebuilt.attempts, &rebuilt.resolver, rebuilt.at_ms)
    );
    let (live, rebuilt) = (live.fetched.unwrap(), rebuilt.fetched.unwrap());
    assert_eq!(format!("{live:?}"), format!("{rebuilt:?}"));
}

fn record(state: JobState, reason: &str, outcome: Option<String>) -> JobRecord {
    let leased = leased();
    JobRecord {
        id: leased.token.job,
        artifact_id: leased.artifact_id,
        payload: leased.payload,
        resolver_hint: None,
        place: leased.place,
        slot: None,
        priority: leased.priority,
        state,
        reason: Some(reason.to_owned()),
        attempts: u32::from(state == JobState::Error),
        losses: 0,
        throttles: 0,
        max_attempts: None,
        available_at: Timestamp(0),
        fence: leased.token.fence,
        worker: None,
        checkpoint: None,
        last_error: Some("five processes died with it".to_owned()),
        outcome,
        store: None,
        path: None,
        sha256: None,
        published: false,
        slim: false,
        created_at: Timestamp(1),
        updated_at: Timestamp(43),
        finished_at: Some(Timestamp(42)),
    }
}

#[tokio::test]
async fn an_error_is_rebuilt_with_its_detail_and_resolver() {
    let finished = end_of(leased(), failed(FailureClass::Permanent, Reason::Gone)).await;
    let Verdict::Error { reason, outcome, .. } = &finished.settlement.verdict else { panic!("{finished:?}") };
    let live = finished.ended(JobState::Error, 42).unwrap();
    let mut rebuilt = ended_from_record(&record(JobState::Error, reason, Some(outcome.clone()))).unwrap();
    rebuilt.recovered = false;
    assert_eq!(format!("{live:?}"), format!("{rebuilt:?}"));
    assert_eq!((live.state, live.attempts), (EndedState::Error, 1));
}

#[test]
fn a_job_that_the_store_ended_is_rebuilt_from_its_last_error() {
    let ended = ended_from_record(&record(JobState::Error, "lease-lost", None)).unwrap();
    assert_eq!(ended.detail, "five processes died with it");
    assert!(ended.fetched.is_none());
}

#[test]
fn what_has_not_ended_or_cannot_be_read_is_refused() {
    assert!(ended_from_record(&record(JobState::Queued, "timeout", None)).is_err());
    let unreadable = ended_from_record(&record(JobState::Done, "ok", Some("{\"fetched\":7}".to_owned())));
    assert!(unreadable.unwrap_err().to_string().contains("cannot be read"));
}

#[tokio::test]
async fn transient_failures_wait_twice_as_long_each_time_and_then_end() {
    let leased = |attempts| LeasedJob { attempts, max_attempts: Some(99), ..leased() };
    let mut waits = Vec::new();
    for attempts in [0, 1, 2, 5, 6, 40] {
        let finished = end_of(leased(attempts), failed(FailureClass::Transient, Reason::Timeout)).await;
        waits.push(retry_after(&finished).unwrap().as_secs());
    }
    assert_eq!(waits, [60, 120, 240, 1920, 3600, 3600]);
    let last = LeasedJob { attempts: 2, ..crate::support::leased() };
    let finished = end_of(last, failed(FailureClass::Transient, Reason::Timeout)).await;
    assert_eq!((finished.verdict(), finished.reason()), ("error", "timeout"));
}

#[tokio::test]
async fn a_retry_keeps_what_the_next_try_should_know() {
    let finished = end_of(leased(), failed(FailureClass::Transient, Reason::Timeout)).await;
    let Verdict::Retry { checkpoint, detail, .. } = finished.settlement.verdict else { panic!() };
    assert_eq!((checkpoint.as_deref(), detail.as_str()), (Some("new"), "it broke"));
}

#[tokio::test]
async fn inv_attempts_throttling_charges_nothing_until_it_is_the_jobs_own_fault() {
    let report = HostReport::Throttled {
        lane: lane("b.example"),
        retry_after: Some(Duration::from_secs(9)),
        cause: "429".to_owned(),
    };
    let throttled =
        RunResult { outcome: failed(FailureClass::Throttled, Reason::Throttled), hosts: vec![report] };
    let finished = end_of(leased(), throttled.clone()).await;
    assert_eq!(finished.verdict(), "throttled");
    let lanes = finished.settlement.lanes;
    assert!(matches!(&lanes[..], [LaneReport::Throttled { lane, .. }] if lane.as_str() == "b.example"));

    let tired = LeasedJob { throttles: 10, ..leased() };
    let finished = end_of(tired.clone(), throttled.clone()).await;
    assert_eq!((finished.verdict(), finished.settlement.lanes.len()), ("retry", 1));
    let finished = end_of(LeasedJob { attempts: 2, ..tired }, throttled).await;
    assert_eq!(finished.verdict(), "error");
}

#[tokio::test]
async fn a_throttling_without_a_report_closes_the_jobs_lane_or_is_charged_if_there_is_none() {
    let finished = end_of(leased(), failed(FailureClass::Throttled, Reason::Throttled)).await;
    let lanes = &finished.settlement.lanes;
    assert!(matches!(&lanes[..], [LaneReport::Throttled { lane, .. }] if lane.as_str() == "a.example"));

    let nowhere = LeasedJob { place: Place::new(Lane::NONE, Role::Artifact), ..leased() };
    let finished = end_of(nowhere, failed(FailureClass::Throttled, Reason::Throttled)).await;
    assert_eq!((finished.verdict(), finished.settlement.lanes.len()), ("retry", 0));
}

#[tokio::test]
async fn inv_attempts_a_local_fault_releases_the_job() {
    let finished = end_of(leased(), failed(FailureClass::LocalFault, Reason::DiskFull)).await;
    assert_eq!(finished.verdict(), "released");
    assert_eq!(finished.local_fault.as_deref(), Some("it broke"));
}

#[tokio::test]
async fn a_panic_is_contained_and_charged() {
    let desk = Desk::new(ScriptedQueue::default(), |_job, _context| {
        Box::pin(async move { panic!("a pipeline of the test panics") })
    });
    let finished = desk.run(leased()).await;
    assert_eq!((finished.verdict(), finished.reason()), ("retry", "panic"));
    assert_eq!(finished.detail(), "the pipeline panicked: a pipeline of the test panics");
}

#[tokio::test]
async fn a_try_that_runs_too_long_is_cut_off() {
    let desk = Desk::new(ScriptedQueue::default(), |_job, _context| {
        Box::pin(async move { std::future::pending().await })
    });
    let (finished, ()) = tokio::join!(desk.run(leased()), desk.advance_when(1, Duration::from_hours(2)));
    assert_eq!((finished.verdict(), finished.reason()), ("retry", "timeout"));
    assert_eq!(finished.elapsed, Duration::from_hours(2));
}

#[tokio::test]
async fn inv_attempts_a_cancelled_try_is_released_even_if_it_does_not_end_by_itself() {
    let desk = Desk::new(ScriptedQueue::default(), |_job, _context| {
        Box::pin(async move { std::future::pending().await })
    });
    desk.cancel.cancel();
    // The try's time limit and the patience with it.
    let (finished, ()) = tokio::join!(desk.run(leased()), desk.advance_when(1, Duration::from_secs(1)));
    assert_eq!(finished.settlement.verdict, Verdict::Release { checkpoint: None });
}

#[tokio::test]
async fn a_cancelled_try_that_fails_is_released_with_its_checkpoint_and_one_that_is_done_is_done() {
    let desk = |outcome: Outcome| {
        Desk::new(ScriptedQueue::default(), move |_job, context| {
            let outcome = outcome.clone();
            Box::pin(async move {
                context.cancelled().cancelled().await;
                outcome.into()
            })
        })
    };
    let failing = desk(failed(FailureClass::Transient, Reason::ConnError));
    failing.cancel.cancel();
    let finished = failing.run(leased()).await;
    assert_eq!(finished.settlement.verdict, Verdict::Release { checkpoint: Some("new".to_owned()) });
    let done = desk(Outcome::Done(fetched()));
    done.cancel.cancel();
    assert_eq!(done.run(leased()).await.verdict(), "done");
}

#[tokio::test]
async fn a_taken_path_is_settled_again_under_another_name() {
    let desk = Desk::new(ScriptedQueue::default(), |_job, _context| {
        Box::pin(async move { Outcome::Done(with_file()).into() })
    });
    let finished = desk.worker.rename(desk.run(leased()).await);
    let Verdict::Done { file, .. } = &finished.settlement.verdict else { panic!("{finished:?}") };
    assert_eq!(file.as_ref().unwrap().path, "x.pdf-7");
    assert!(!finished.outcome_is_unused());
}

#[tokio::test]
async fn a_taken_path_without_another_name_ends_the_job_and_leaves_the_file_to_be_discarded() {
    let finished = end_of(leased(), Outcome::Done(with_file())).await;
    let desk = Desk::new(ScriptedQueue::default(), |_job, _context| {
        Box::pin(async move { std::future::pending().await })
    });
    let mut finished = finished;
    for _ in 0..9 {
        finished = desk.worker.rename(finished);
    }
    assert_eq!((finished.verdict(), finished.reason()), ("error", "path-policy"));
    assert!(finished.outcome_is_unused());
}

#[tokio::test]
async fn what_is_recorded_says_whether_another_try_could_have_helped() {
    let end = async |attempts, class, reason| {
        let leased = LeasedJob { attempts, max_attempts: Some(3), ..leased() };
        match end_of(leased, failed(class, reason)).await.settlement.verdict {
            Verdict::Error { reason, outcome, .. } => record(JobState::Error, &reason, Some(outcome)),
            other => panic!("{other:?}"),
        }
    };
    let spent = end(2, FailureClass::Transient, Reason::Timeout).await;
    assert!(is_out_of_attempts(&spent));
    assert!(!is_out_of_attempts(&JobRecord { state: JobState::Queued, ..spent }));
    // On its last try, but a hundred more would not have helped.
    assert!(!is_out_of_attempts(&end(2, FailureClass::Permanent, Reason::Gone).await));
    assert!(!is_out_of_attempts(&record(JobState::Error, "gone", Some("[]".to_owned()))));
}
