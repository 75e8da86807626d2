//! Jobs whose processes died run alone.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use longhaul_limiter::{Clock, LaneRules};
use longhaul_queue_core::{Critical, JobState, LeaseRequest, RequestNumber, WorkQueue, WorkerId, WorkerInfo};

use crate::support::{Bench, done, end_of, is_state};

/// Two processes die, each with all jobs in its hands.
async fn lose_twice(bench: &Bench) {
    for (number, name) in [(1, "first"), (2, "second")] {
        let id = WorkerId::from_text(name);
        let info = WorkerInfo {
            id: id.clone(),
            host: "h".into(),
            pid: 1,
            version: "0".into(),
            store: None,
            limits: None,
        };
        bench.queue.join(&info, Duration::from_secs(10)).await.unwrap();
        let request = LeaseRequest {
            worker: id,
            number: RequestNumber(number),
            max: 10,
            ahead: 0,
            alone: false,
            max_losses: 5,
            rules: Arc::new(LaneRules::unlimited()),
            lead: Duration::ZERO,
            critical: Critical::default(),
            started: Vec::new(),
        };
        assert!(!bench.queue.lease(&request).await.unwrap().jobs.is_empty());
        bench.clock.sleep(Duration::from_secs(11)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn inv_attempts_a_job_with_two_losses_runs_alone_and_the_others_get_their_time() {
    let at_work = Arc::new(Mutex::new(BTreeSet::<String>::new()));
    let companies = Arc::new(Mutex::new(Vec::new()));
    let (now, seen) = (at_work.clone(), companies.clone());
    let bench = Bench::new(move |job, context| {
        let (now, seen) = (now.clone(), seen.clone());
        Box::pin(async move {
            {
                let mut now = now.lock().unwrap();
                now.insert(job.artifact_id.clone());
                seen.lock().unwrap().push(now.clone());
            }
            context.clock().sleep(Duration::from_secs(2)).await;
            now.lock().unwrap().remove(&job.artifact_id);
            done()
        })
    });
    bench.enqueue("poison.example", 3).await;
    lose_twice(&bench).await;
    assert!(is_state(&bench.record("poison.example0").await, JobState::InProgress, 0));
    bench.enqueue("fine.example", 40).await;
    let summary = end_of(bench.start().await).await;
    assert_eq!(summary.count("done"), 43);
    let companies = companies.lock().unwrap().clone();
    let is_poison = |name: &String| name.starts_with("poison");
    let alone: Vec<_> = companies.iter().filter(|now| now.iter().any(is_poison)).collect();
    assert_eq!(alone.len(), 3);
    assert!(alone.iter().all(|now| now.len() == 1), "{alone:?}");
    // Between two of them the pool got at least as long as a turn took.
    let order: Vec<bool> = companies.iter().map(|now| now.iter().any(is_poison)).collect();
    let first = order.iter().position(|poison| *poison).unwrap();
    assert!(order[first + 1..].iter().take_while(|poison| !**poison).count() >= 8, "{order:?}");
    assert_eq!(bench.record("poison.example0").await.losses, 2);
    bench.assert_tidy().await;
}

#[tokio::test(start_paused = true)]
async fn an_empty_pool_runs_them_one_after_the_other() {
    let bench = Bench::new(|_job, context| {
        Box::pin(async move {
            context.clock().sleep(Duration::from_secs(2)).await;
            done()
        })
    });
    bench.enqueue("poison.example", 3).await;
    lose_twice(&bench).await;
    let summary = end_of(bench.start().await).await;
    assert_eq!((summary.count("done"), summary.elapsed), (3, Duration::from_secs(6)));
}
