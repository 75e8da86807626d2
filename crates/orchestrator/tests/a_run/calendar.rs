//! Steps of the calendar during a run.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use longhaul_events::Event;
use longhaul_limiter::Clock;
use longhaul_pipeline::{FailureClass, HostReport, Reason, RunResult};
use longhaul_queue_core::NewJob;

use crate::support::{Bench, done, end_of, failed, id, lane};

/// When each try of each job started, in the run's time.
type Starts = Vec<(String, Duration)>;

/// A run of jobs that wait for everything that there is to wait for. The calendar goes from step to step, a minute
/// each, until the run ends.
async fn starts(steps: &[i64]) -> Starts {
    let starts = Arc::new(Mutex::new(Starts::new()));
    let noted = starts.clone();
    let mut bench = Bench::new(move |job, context| {
        let noted = noted.clone();
        Box::pin(async move {
            let name = job.artifact_id.as_str();
            let is_first = {
                let mut noted = noted.lock().unwrap();
                noted.push((name.to_owned(), context.clock().monotonic()));
                noted.iter().filter(|(other, _)| other == name).count() == 1
            };
            match name {
                // Many heartbeats and many leases long.
                "long" => context.clock().sleep(Duration::from_mins(90)).await,
                "fails0" if is_first => return failed(FailureClass::Transient, Reason::Timeout),
                "closes0" if is_first => {
                    let mut result: RunResult = failed(FailureClass::Throttled, Reason::Throttled);
                    let retry_after = Some(Duration::from_mins(40));
                    let cause = "429".to_owned();
                    result.hosts.push(HostReport::Throttled { lane: lane("closes"), retry_after, cause });
                    return result;
                }
                _ => {}
            }
            done()
        })
    });
    bench.config.retry_backoff = Duration::from_mins(7);
    bench.enqueue("fails", 1).await;
    bench.enqueue("closes", 1).await;
    bench.enqueue_one(NewJob::new(id("long"), "{}")).await;
    let delay = Duration::from_mins(30);
    bench.enqueue_one(NewJob { delay, ..NewJob::new(id("delayed"), "{}") }).await;
    let handle = bench.start().await;
    let clock = bench.clock.clone();
    let stepping = async {
        for step in steps.iter().cycle() {
            clock.step_wall(*step);
            clock.sleep(Duration::from_mins(1)).await;
        }
        std::future::pending::<()>().await;
    };
    let summary = tokio::select! {
        summary = end_of(handle) => summary,
        () = stepping => unreachable!("it has no end"),
    };
    assert_eq!(summary.count("done"), 4);
    for event in bench.rest_of_events() {
        assert!(!matches!(event, Event::LeaseLost { .. }), "{event:?}");
    }
    for name in ["fails0", "closes0", "long", "delayed"] {
        assert_eq!(bench.record(name).await.losses, 0, "{name}");
    }
    bench.assert_tidy().await;
    let starts = starts.lock().unwrap();
    let began = starts[0].1;
    starts.iter().map(|(name, at)| (name.clone(), at.saturating_sub(began))).collect()
}

/// INV-NO-LOSS, INV-COOLDOWN: with the calendar an hour ahead, an hour behind and back again all the time, no lease is
/// lost and every job starts when it does without that, to the millisecond.
#[tokio::test(start_paused = true)]
async fn inv_cooldown_steps_of_the_calendar_lose_no_lease_and_start_nothing_early() {
    let undisturbed = starts(&[0]).await;
    let second = |name: &str| undisturbed.iter().rfind(|(other, _)| other == name).unwrap().1;
    assert_eq!(second("fails0"), Duration::from_mins(7));
    assert_eq!(second("delayed"), Duration::from_mins(30));
    assert_eq!(second("closes0"), Duration::from_mins(40));
    assert_eq!(starts(&[3600, 0, -3600, 0, 3600, -3600]).await, undisturbed);
}
