//! Making visible what the queue recorded.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use longhaul_events::Event;
use longhaul_pipeline::PublishError;
use longhaul_queue_core::{JobState, LeaseRequest, StoreId, StoredFile, WorkQueue, WorkQueueExt, WorkerInfo};

use crate::draining::{lease_of, other_process};
use crate::support::{Bench, done, end_of, fetched, with_file};

fn quick() -> Bench {
    Bench::new(|_job, _context| Box::pin(async { with_file("x.pdf") }))
}

#[tokio::test(start_paused = true)]
async fn a_slow_publication_holds_up_no_slot() {
    let mut bench = Bench::new(|_job, _context| Box::pin(async { done() }));
    bench.config.workers = 2;
    bench.enqueue("", 20).await;
    let taken = bench.pipeline.gate.acquire_many(10_000).await.unwrap();
    taken.forget();
    let handle = bench.start().await;
    for _ in 0..20 {
        bench.event(|event| matches!(event, Event::JobSettled { .. }).then_some(())).await;
    }
    assert!(bench.pipeline.published.lock().unwrap().is_empty());
    bench.pipeline.gate.add_permits(10_000);
    let summary = end_of(handle).await;
    assert_eq!(summary.unpublished, 0);
    assert_eq!(bench.pipeline.published.lock().unwrap().len(), 20);
    bench.assert_tidy().await;
}

#[tokio::test(start_paused = true)]
async fn a_publication_that_fails_is_repeated() {
    let bench = quick();
    let left = AtomicU32::new(2);
    *bench.pipeline.publishing.lock().unwrap() = Some(Box::new(move |_| {
        if left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok() {
            let source = std::io::Error::from(std::io::ErrorKind::StorageFull);
            return Err(PublishError::Io { what: "renaming x.pdf".to_owned(), source });
        }
        Ok(())
    }));
    bench.enqueue("", 1).await;
    let summary = bench.run().await;
    assert_eq!((summary.unpublished, bench.pipeline.published.lock().unwrap().len()), (0, 1));
    bench.assert_tidy().await;
}

#[tokio::test(start_paused = true)]
async fn a_publication_that_keeps_failing_is_left_to_the_next_start() {
    let bench = quick();
    *bench.pipeline.publishing.lock().unwrap() = Some(Box::new(|ended| {
        assert!(!ended.recovered, "the recovery at the end of the drain leaves it to the publisher");
        let source = std::io::Error::from(std::io::ErrorKind::StorageFull);
        Err(PublishError::Io { what: "renaming x.pdf".to_owned(), source })
    }));
    bench.enqueue("", 1).await;
    let summary = bench.run().await;
    assert_eq!((summary.count("done"), summary.unpublished), (1, 1));
    *bench.pipeline.publishing.lock().unwrap() = None;
    let summary = bench.run().await;
    assert_eq!((summary.terminal, summary.unpublished), (0, 0));
    let published = bench.pipeline.published.lock().unwrap().clone();
    assert!(published.len() == 1 && published[0].recovered);
    bench.assert_tidy().await;
}

#[tokio::test(start_paused = true)]
async fn inv_whole_file_a_recorded_file_that_is_gone_is_fetched_again() {
    let bench = quick();
    let first = AtomicU32::new(0);
    *bench.pipeline.publishing.lock().unwrap() = Some(Box::new(move |_| {
        if first.fetch_add(1, Ordering::SeqCst) == 0 {
            return Err(PublishError::Missing { path: "x.pdf".to_owned() });
        }
        Ok(())
    }));
    bench.enqueue("", 1).await;
    let summary = bench.run().await;
    assert_eq!((summary.count("done"), summary.left.unwrap().done), (2, 1));
    assert_eq!(bench.pipeline.published.lock().unwrap().len(), 1);
    bench.assert_tidy().await;
}

/// A job that another process settled and did not live to publish.
async fn settle_elsewhere(bench: &Bench) {
    bench.enqueue("", 1).await;
    let other = other_process();
    bench.queue.join(&other, Duration::from_secs(10)).await.unwrap();
    let leased = bench.queue.lease(&lease_of(&other, 1)).await.unwrap().jobs.remove(0);
    let outcome = serde_json::json!({ "fetched": fetched() }).to_string();
    let file = StoredFile { store: StoreId("store-1".into()), path: "x.pdf".into(), sha256: "ab".repeat(32) };
    bench.queue.ack(leased.token, &outcome, Some(file)).await.unwrap();
    bench.queue.leave(&other.id).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_a_crash_left_unpublished_is_published_by_the_next_start() {
    let bench = quick();
    settle_elsewhere(&bench).await;
    let summary = bench.run().await;
    assert_eq!(summary.terminal, 0);
    let published = bench.pipeline.published.lock().unwrap().clone();
    assert_eq!(published.len(), 1);
    assert!(published[0].recovered);
    assert_eq!(published[0].fetched.as_ref().unwrap().resolver, "test");
    bench.assert_tidy().await;
}

#[tokio::test(start_paused = true)]
async fn what_its_owner_still_holds_is_left_to_it() {
    let bench = quick();
    settle_elsewhere(&bench).await;
    *bench.pipeline.publishing.lock().unwrap() = Some(Box::new(|_| Err(PublishError::Held)));
    let summary = bench.run().await;
    assert_eq!(summary.terminal, 0);
    let record = bench.record("a0").await;
    assert!(record.state == JobState::Done && !record.published);
}

#[tokio::test(start_paused = true)]
async fn a_job_that_the_store_ended_is_published_at_the_end_of_a_drain() {
    let mut bench = quick();
    bench.config.max_losses = 1;
    bench.enqueue("", 1).await;
    let other = other_process();
    bench.queue.join(&other, Duration::from_secs(10)).await.unwrap();
    let request = LeaseRequest { max_losses: 1, ..lease_of(&other, 1) };
    assert_eq!(bench.queue.lease(&request).await.unwrap().jobs.len(), 1);
    let summary = bench.run().await;
    assert_eq!(summary.left.unwrap().error, 1);
    let published = bench.pipeline.published.lock().unwrap().clone();
    assert_eq!(published.len(), 1);
    assert_eq!(published[0].reason, "lease-lost");
    bench.assert_tidy().await;
}

#[tokio::test(start_paused = true)]
async fn what_another_store_ended_is_left_to_it() {
    let bench = quick();
    bench.enqueue("", 1).await;
    let other = WorkerInfo { store: Some(StoreId("store-2".into())), ..other_process() };
    bench.queue.join(&other, Duration::from_secs(10)).await.unwrap();
    let leased = bench.queue.lease(&lease_of(&other, 1)).await.unwrap().jobs.remove(0);
    bench.queue.ack(leased.token, "{}", None).await.unwrap();
    bench.queue.leave(&other.id).await.unwrap();
    let _ = bench.run().await;
    assert!(bench.pipeline.published.lock().unwrap().is_empty());
    assert!(!bench.record("a0").await.published);
}

#[tokio::test(start_paused = true)]
async fn work_without_files_has_nothing_to_publish() {
    let mut bench = Bench::new(|_job, _context| Box::pin(async { done() }));
    bench.store = None;
    bench.config.max_losses = 1;
    bench.enqueue("", 3).await;
    let other = WorkerInfo { store: None, ..other_process() };
    bench.queue.join(&other, Duration::from_secs(10)).await.unwrap();
    let request = LeaseRequest { max_losses: 1, ..lease_of(&other, 1) };
    assert_eq!(bench.queue.lease(&request).await.unwrap().jobs.len(), 1);
    let summary = bench.run().await;
    assert_eq!((summary.count("done"), summary.unpublished), (2, 0));
    assert!(bench.pipeline.published.lock().unwrap().is_empty(), "the pipeline is not asked");
    let events = bench.rest_of_events();
    let marked = events.iter().filter(|event| matches!(event, Event::Published { .. })).count();
    assert_eq!(marked, 1, "only what no process ended is marked by a write of its own");
    let told = events.iter().any(|event| matches!(event, Event::JobSettled { verdict: "error", .. }));
    assert!(told, "the end of the job whose process died is told");
    for name in ["a0", "a1", "a2"] {
        assert!(bench.record(name).await.published, "{name}");
    }
    bench.assert_tidy().await;
}
