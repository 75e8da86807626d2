//! The write-ahead log beside the database: how long it gets, and that nothing of it is left.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]
#![cfg(feature = "sqlite")]

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use longhaul_limiter::ManualClock;
use longhaul_queue_core::{
    ArtifactId, ErrorKind, Lane, NewJob, Place, QueueAdmin as _, Role, SqliteOptions, SqliteQueue,
    WorkQueue as _,
};
use sqlx::{ConnectOptions as _, Connection as _, SqliteConnection};
use tokio::task::JoinSet;

/// The log never gets longer.
const LOG_MAX: u64 = 64 << 20;
const HOSTS: usize = 10_000;
const BATCH: usize = 1_000;

struct Fixture {
    folder: tempfile::TempDir,
    clock: ManualClock,
}

impl Fixture {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), clock: ManualClock::new() }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("queue.sqlite")
    }

    async fn open(&self) -> SqliteQueue {
        SqliteQueue::open(SqliteOptions::new(self.path()), Arc::new(self.clock.clone())).await.unwrap()
    }

    /// The log's length, if there is one.
    fn log(&self) -> Option<u64> {
        std::fs::metadata(beside(&self.path(), "-wal")).ok().map(|log| log.len())
    }
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

async fn raw(path: &Path) -> SqliteConnection {
    sqlx::sqlite::SqliteConnectOptions::new().filename(path).connect().await.unwrap()
}

/// Jobs that go round the hosts, so that nearly each changes a page of its own.
fn jobs(from: usize, count: usize) -> Vec<NewJob> {
    let job = |number: usize| {
        let lane = Lane::new(format!("h{}.example", number % HOSTS)).unwrap();
        let id = ArtifactId::new(format!("a{number}")).unwrap();
        NewJob::new(id, format!(r#"{{"id":"a{number}"}}"#)).at(Place::new(lane, Role::Artifact))
    };
    (from..from + count).map(job).collect()
}

/// Puts batches in as an import does, many on their way at once, and returns the longest log that was seen after each.
async fn import(fixture: &Fixture, queue: &SqliteQueue, batches: Range<usize>) -> u64 {
    let mut on_the_way = JoinSet::new();
    let mut longest = 0;
    for batch in batches {
        if on_the_way.len() >= 24 {
            on_the_way.join_next().await.unwrap().unwrap();
        }
        let queue = queue.clone();
        on_the_way.spawn(async move {
            queue.enqueue(&jobs(batch * BATCH, BATCH)).await.unwrap();
        });
        longest = longest.max(fixture.log().unwrap_or(0));
    }
    while let Some(done) = on_the_way.join_next().await {
        done.unwrap();
        longest = longest.max(fixture.log().unwrap_or(0));
    }
    longest
}

/// Imports beside a reader, which holds the log, until that is so long. Returns how many jobs that took.
async fn import_until(fixture: &Fixture, queue: &SqliteQueue, log: u64) -> u64 {
    let mut batches = 0;
    while fixture.log().unwrap() <= log {
        assert!(batches < 400, "the reader holds nothing: {:?}", fixture.log());
        import(fixture, queue, batches..batches + 20).await;
        batches += 20;
    }
    (batches * BATCH) as u64
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_stays_short_beside_a_writer_that_never_rests_and_is_gone_after_close() {
    let fixture = Fixture::new();
    let queue = fixture.open().await;
    let longest = import(&fixture, &queue, 0..200).await;
    assert!(longest > 4 << 20, "{longest} bytes show nothing");
    assert!(longest <= LOG_MAX, "{longest} bytes");
    assert_eq!(queue.stats().await.unwrap().counts.queued, 200 * BATCH as u64);
    queue.close().await;
    assert_eq!(fixture.log(), None);
}

/// A backup may read for hours: the log grows meanwhile, calls are answered, and it is short again afterwards.
#[tokio::test(flavor = "multi_thread")]
async fn a_reader_of_an_old_state_lengthens_the_log_and_stops_nobody() {
    let fixture = Fixture::new();
    let queue = fixture.open().await;
    queue.enqueue(&jobs(1_000_000, 1)).await.unwrap();
    let mut reader = raw(&fixture.path()).await;
    let mut old = reader.begin().await.unwrap();
    let seen: i64 = sqlx::query_scalar("SELECT count(*) FROM jobs").fetch_one(&mut *old).await.unwrap();
    assert_eq!(seen, 1);
    import_until(&fixture, &queue, 50 << 20).await;
    old.rollback().await.unwrap();
    reader.close().await.unwrap();
    queue.close().await;
    assert_eq!(fixture.log(), None);
}

/// What a process was doing when it was killed is copied from it: a log that nobody is going to copy back.
#[tokio::test(flavor = "multi_thread")]
async fn a_long_log_that_a_killed_process_left_is_emptied_by_the_next() {
    let fixture = Fixture::new();
    let queue = fixture.open().await;
    queue.enqueue(&jobs(1_000_000, 1)).await.unwrap();
    let mut reader = raw(&fixture.path()).await;
    let mut old = reader.begin().await.unwrap();
    let _: i64 = sqlx::query_scalar("SELECT count(*) FROM jobs").fetch_one(&mut *old).await.unwrap();
    let imported = import_until(&fixture, &queue, 41 << 20).await;
    let left = Fixture::new();
    for suffix in ["", "-wal"] {
        std::fs::copy(beside(&fixture.path(), suffix), beside(&left.path(), suffix)).unwrap();
    }

    let next = left.open().await;
    assert_eq!(left.log(), Some(0));
    assert_eq!(next.stats().await.unwrap().counts.queued, imported + 1);
    assert_eq!(next.check(false).await.unwrap().problems, Vec::<String>::new());
    next.close().await;
    assert_eq!(left.log(), None);
}

#[tokio::test]
async fn who_only_looks_waits_for_no_writer_and_leaves_no_log() {
    let fixture = Fixture::new();
    let queue = fixture.open().await;
    queue.enqueue(&jobs(0, 3)).await.unwrap();
    queue.close().await;
    let turn = std::fs::File::open(beside(&fixture.path(), ".locks").join("writer")).unwrap();
    turn.lock().unwrap();

    let looking = fixture.open().await;
    assert_eq!(looking.stats().await.unwrap().counts.queued, 3);
    looking.close().await;
    assert_eq!(fixture.log(), None);
}

#[tokio::test]
async fn a_closed_queue_has_answered_all_and_says_that_it_is_closed() {
    let fixture = Fixture::new();
    let queue = fixture.open().await;
    let mut calls = JoinSet::new();
    for call in 0..50 {
        let queue = queue.clone();
        calls.spawn(async move { queue.enqueue(&jobs(call, 1)).await.map(drop) });
    }
    let (again, other) = (queue.clone(), queue.clone());
    tokio::join!(queue.close(), again.close());
    let mut carried_out = 0;
    while let Some(answer) = calls.join_next().await {
        match answer.unwrap() {
            Ok(()) => carried_out += 1,
            Err(error) => assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}"),
        }
    }
    let error = other.enqueue(&jobs(0, 1)).await.unwrap_err();
    assert!(error.to_string().contains("was closed"), "{error}");
    assert_eq!(other.stats().await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(fixture.open().await.stats().await.unwrap().counts.queued, carried_out);
}
