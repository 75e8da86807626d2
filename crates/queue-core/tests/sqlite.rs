//! What only the SQLite store has: its file, its time, its locks, its group commit.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]
#![cfg(feature = "sqlite")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use longhaul_limiter::{Clock as _, ManualClock};
use longhaul_queue_core::{
    Answer, ArtifactId, Critical, Enqueued, Epoch, ErrorKind, JobState, Keying, Lane, LaneReport, LaneRules,
    LeaseRequest, NewJob, Place, QueueAdmin as _, RequestNumber, Role, Settlement, SqliteOptions,
    SqliteQueue, Verdict, WorkQueue as _, WorkQueueExt as _, WorkerId, WorkerInfo,
};
use sqlx::{ConnectOptions as _, Connection as _, SqliteConnection};

const TTL: Duration = Duration::from_mins(2);

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

    async fn raw(&self) -> SqliteConnection {
        raw(&self.path()).await
    }
}

async fn raw(path: &Path) -> SqliteConnection {
    sqlx::sqlite::SqliteConnectOptions::new().filename(path).create_if_missing(true).connect().await.unwrap()
}

fn job(id: &str, lane: &str) -> NewJob {
    NewJob::new(ArtifactId::new(id).unwrap(), "{}").at(Place::new(Lane::new(lane).unwrap(), Role::Artifact))
}

fn worker(id: &str) -> WorkerInfo {
    WorkerInfo {
        id: WorkerId::from_text(id),
        host: "here".into(),
        pid: 1,
        version: "0".into(),
        store: None,
        limits: None,
    }
}

fn request(id: &str, number: i64, max: usize) -> LeaseRequest {
    LeaseRequest {
        worker: WorkerId::from_text(id),
        number: RequestNumber(number),
        max,
        ahead: 0,
        alone: false,
        max_losses: 5,
        rules: Arc::new(LaneRules::unlimited()),
        lead: Duration::ZERO,
        critical: Critical::default(),
        started: Vec::new(),
    }
}

#[tokio::test]
async fn a_job_goes_through_a_reopened_file() {
    let fixture = Fixture::new();
    let queue = fixture.open().await;
    queue.enqueue(&[job("a", "h.example"), job("b", "h.example"), job("a", "h.example")]).await.unwrap();
    queue.join(&worker("w"), TTL).await.unwrap();
    let batch = queue.lease(&request("w", 1, 10)).await.unwrap();
    assert_eq!(batch.jobs.len(), 2);
    drop(queue);
    let queue = fixture.open().await;
    let again = queue.lease(&request("w", 1, 10)).await.unwrap();
    assert_eq!(again.jobs.len(), 2, "the same request is given the same jobs");
    assert_eq!(
        queue.ack(again.jobs[0].token, "{}", None).await.unwrap(),
        Answer::Recorded(longhaul_queue_core::JobState::Done)
    );
    let stats = queue.stats().await.unwrap();
    assert_eq!((stats.counts.done, stats.counts.in_progress, stats.counts.total()), (1, 1, 2));
    assert_eq!(queue.check(false).await.unwrap().problems, Vec::<String>::new());
}

#[tokio::test]
async fn concurrent_calls_share_commits_and_a_bad_one_fails_alone() {
    let fixture = Fixture::new();
    let queue = fixture.open().await;
    let mut tasks = tokio::task::JoinSet::new();
    for index in 0..40 {
        let queue = queue.clone();
        tasks.spawn(async move {
            if index == 20 {
                let unknown = queue.heartbeat(&WorkerId::from_text("never joined"), TTL).await;
                assert_eq!(unknown.unwrap_err().kind(), ErrorKind::NotFound);
            } else {
                let answer = queue.enqueue_one(job(&format!("a{index}"), "h.example")).await.unwrap();
                assert!(matches!(answer, Enqueued::New(_)));
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    assert_eq!(queue.stats().await.unwrap().counts.queued, 39);
}

#[tokio::test]
async fn a_newer_schema_and_a_foreign_database_are_refused() {
    let fixture = Fixture::new();
    drop(fixture.open().await);
    let mut conn = fixture.raw().await;
    sqlx::query("PRAGMA user_version = 99").execute(&mut conn).await.unwrap();
    conn.close().await.unwrap();
    let newer = SqliteQueue::open(SqliteOptions::new(fixture.path()), Arc::new(fixture.clock.clone()))
        .await
        .unwrap_err();
    assert_eq!(newer.kind(), ErrorKind::SchemaTooNew, "{newer}");

    let other = fixture.folder.path().join("other.sqlite");
    let mut conn = raw(&other).await;
    sqlx::query("CREATE TABLE theirs (x)").execute(&mut conn).await.unwrap();
    conn.close().await.unwrap();
    let before = std::fs::read(&other).unwrap();
    let foreign =
        SqliteQueue::open(SqliteOptions::new(&other), Arc::new(fixture.clock.clone())).await.unwrap_err();
    assert_eq!(foreign.kind(), ErrorKind::Corrupt, "{foreign}");
    assert!(std::fs::read(&other).unwrap() == before, "it is somebody else's, and is not put into WAL");

    let text = fixture.folder.path().join("text");
    std::fs::write(
        &text,
        "this is no database, although it is long enough to have a header of one hundred bytes, is it not?",
    )
    .unwrap();
    let no_database =
        SqliteQueue::open(SqliteOptions::new(&text), Arc::new(fixture.clock.clone())).await.unwrap_err();
    assert_eq!(no_database.kind(), ErrorKind::Corrupt, "{no_database}");

    let empty = fixture.folder.path().join("empty");
    std::fs::write(&empty, "").unwrap();
    for path in [fixture.folder.path().join("missing"), empty.clone()] {
        let missing = SqliteOptions::new(path).create(false);
        let missing = SqliteQueue::open(missing, Arc::new(fixture.clock.clone())).await.unwrap_err();
        assert_eq!(missing.kind(), ErrorKind::NotFound, "{missing}");
    }
    assert_eq!(std::fs::metadata(&empty).unwrap().len(), 0, "who only looks makes no queue of it");

    let folder = SqliteOptions::new(fixture.folder.path());
    let folder = SqliteQueue::open(folder, Arc::new(fixture.clock.clone())).await.unwrap_err();
    assert!(folder.to_string().contains("is a folder"), "{folder}");
}

/// URLs with keys in them may stand in a queue.
#[tokio::test]
async fn a_queue_s_files_are_their_owner_s_alone_unless_it_shares_the_database() {
    use std::os::unix::fs::PermissionsExt;

    let fixture = Fixture::new();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let files = || {
        let beside = std::fs::read_dir(fixture.folder.path()).unwrap();
        let locks = std::fs::read_dir(fixture.folder.path().join("queue.sqlite.locks")).unwrap();
        beside
            .chain(locks)
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.is_file())
            .collect::<Vec<_>>()
    };
    let queue = fixture.open().await;
    queue.join(&worker("w"), TTL).await.unwrap();
    // The database, its log and index, both locks of writers, and that of the process.
    assert!(files().len() >= 6, "{:?}", files());
    for file in files() {
        assert_eq!(mode(&file), 0o600, "{}", file.display());
    }
    assert_eq!(mode(&fixture.folder.path().join("queue.sqlite.locks")), 0o700);
    // Who lets a group use the database lets it use what goes with it.
    drop(queue);
    let shared = fixture.folder.path().join("shared.sqlite");
    std::fs::write(&shared, "").unwrap();
    std::fs::set_permissions(&shared, std::fs::Permissions::from_mode(0o660)).unwrap();
    let queue =
        SqliteQueue::open(SqliteOptions::new(&shared), Arc::new(fixture.clock.clone())).await.unwrap();
    queue.join(&worker("w"), TTL).await.unwrap();
    for name in
        ["shared.sqlite", "shared.sqlite-wal", "shared.sqlite.locks/turn", "shared.sqlite.locks/worker-w"]
    {
        assert_eq!(mode(&fixture.folder.path().join(name)), 0o660, "{name}");
    }
}

#[tokio::test]
async fn what_is_no_database_is_said_with_what_to_do() {
    let fixture = Fixture::new();
    std::fs::write(fixture.path(), "a list of papers, and no database\n".repeat(100)).unwrap();
    let error = SqliteQueue::open(SqliteOptions::new(fixture.path()), Arc::new(fixture.clock.clone())).await;
    let error = error.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(
        error
            .to_string()
            .contains("no SQLite database, so it is no queue; name the queue's file with --queue"),
        "{error}"
    );
}

#[tokio::test]
async fn another_keying_is_refused() {
    let fixture = Fixture::new();
    drop(fixture.open().await);
    let keying = Keying { registrable_domain: true, ..Keying::default() };
    let options = SqliteOptions::new(fixture.path()).keying(keying);
    let error = SqliteQueue::open(options, Arc::new(fixture.clock.clone())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
}

#[tokio::test]
async fn the_wall_clock_decides_nothing_and_time_goes_on_after_a_reboot() {
    let fixture = Fixture::new();
    let queue = fixture.open().await;
    queue.enqueue(&[job("a", "h.example")]).await.unwrap();
    queue.join(&worker("w"), TTL).await.unwrap();
    let held = queue.lease(&request("w", 1, 1)).await.unwrap().jobs[0].clone();
    queue.fail_and_retry(held.token, Duration::from_mins(10), "timeout", "slow").await.unwrap();
    for wall in [SystemTime::UNIX_EPOCH, SystemTime::UNIX_EPOCH + Duration::from_hours(24 * 365 * 80)] {
        fixture.clock.set_wall(wall);
        let batch = queue.lease(&request("w", 2, 1)).await.unwrap();
        assert!(batch.jobs.is_empty());
        assert_eq!(batch.next_open, Some(Duration::from_mins(10)));
    }
    // The machine restarts with a calendar that is far behind: the wait is neither forgotten nor longer.
    drop(queue);
    fixture.clock.set_wall(SystemTime::UNIX_EPOCH);
    fixture.clock.reboot();
    let queue = fixture.open().await;
    queue.join(&worker("v"), TTL).await.unwrap();
    assert!(queue.lease(&request("v", 1, 1)).await.unwrap().jobs.is_empty());
    fixture.clock.advance(Duration::from_mins(10));
    queue.heartbeat(&WorkerId::from_text("v"), TTL).await.unwrap();
    queue.join(&worker("v"), TTL).await.unwrap();
    assert_eq!(queue.lease(&request("v", 2, 1)).await.unwrap().jobs.len(), 1);
}

#[tokio::test]
async fn a_dead_process_is_noticed_by_its_lock_and_its_leases_end_after_the_aftermath() {
    let fixture = Fixture::new();
    let (dying, living) = (fixture.open().await, fixture.open().await);
    dying.enqueue(&[job("a", "h.example")]).await.unwrap();
    dying.join(&worker("dying"), TTL).await.unwrap();
    living.join(&worker("living"), TTL).await.unwrap();
    assert_eq!(dying.lease(&request("dying", 1, 1)).await.unwrap().jobs.len(), 1);
    assert_eq!(living.lease(&request("living", 1, 1)).await.unwrap().jobs, []);
    // As the kernel does for a killed process: its descriptors are closed, and nobody says good-bye.
    drop(dying);
    fixture.clock.advance(Duration::from_secs(1));
    let waiting = living.lease(&request("living", 2, 1)).await.unwrap();
    assert_eq!((waiting.jobs.len(), waiting.next_open), (0, Some(Duration::from_secs(5))));
    fixture.clock.advance(Duration::from_secs(5));
    let given = living.lease(&request("living", 3, 1)).await.unwrap();
    assert_eq!((given.jobs.len(), given.jobs[0].losses), (1, 1));
}

#[tokio::test]
async fn another_process_is_woken_by_an_enqueue_and_an_idle_one_writes_nothing() {
    let fixture = Fixture::new();
    let (ours, theirs) = (fixture.open().await, fixture.open().await);
    ours.join(&worker("w"), TTL).await.unwrap();
    let epoch = ours.lease(&request("w", 1, 1)).await.unwrap().epoch;
    let before = std::fs::read(fixture.path().with_extension("sqlite-wal")).unwrap();
    ours.lease(&request("w", 2, 1)).await.unwrap();
    assert_eq!(
        std::fs::read(fixture.path().with_extension("sqlite-wal")).unwrap(),
        before,
        "an empty lease wrote"
    );
    let new = [job("a", "h.example")];
    let (woken, enqueued) = tokio::join!(ours.changed(epoch), theirs.enqueue(&new));
    enqueued.unwrap();
    assert!(woken.unwrap() > epoch);
    assert_eq!(ours.changed(Epoch(0)).await.unwrap(), ours.changed(Epoch(0)).await.unwrap());
}

#[tokio::test]
async fn a_full_batch_of_settlements_is_one_commit_with_its_reports() {
    let fixture = Fixture::new();
    let queue = fixture.open().await;
    let jobs: Vec<NewJob> =
        (0..100).map(|index| job(&format!("a{index}"), &format!("h{}.example", index % 10))).collect();
    queue.enqueue(&jobs).await.unwrap();
    queue.join(&worker("w"), TTL).await.unwrap();
    let batch = queue.lease(&request("w", 1, 100)).await.unwrap();
    assert_eq!(batch.jobs.len(), 100);
    let settlements: Vec<Settlement> = batch
        .jobs
        .iter()
        .map(|job| {
            let verdict = Verdict::Throttled { detail: "429".into(), place: None, checkpoint: None };
            let lane = job.place.lane.clone();
            let report = LaneReport::Throttled {
                lane,
                retry_after: Some(Duration::from_secs(30)),
                cause: "429".into(),
            };
            Settlement::new(job.token, verdict).with_lanes(vec![report])
        })
        .collect();
    let settled = queue.settle(&settlements, Some(&request("w", 2, 10))).await.unwrap();
    assert!(settled.answers.iter().all(|answer| matches!(answer, Answer::Recorded(_))));
    let batch = settled.batch.unwrap();
    assert_eq!((batch.jobs.len(), batch.next_open), (0, Some(Duration::from_secs(30))));
    let stats = queue.stats().await.unwrap();
    assert_eq!((stats.lanes_cooling, stats.counts.queued), (10, 100));
    let waits = queue.explain(&ArtifactId::new("a1").unwrap(), &LaneRules::unlimited()).await.unwrap();
    assert!(matches!(waits, longhaul_queue_core::Explanation::CoolDown { wait_ms: 30_000, .. }), "{waits:?}");
    assert!(fixture.clock.monotonic() > Duration::ZERO);
}

/// Whoever reads the file beside the queue sees what was answered, from the moment of the answer.
#[tokio::test]
async fn inv_durable_reply_what_was_answered_is_committed() {
    let fixture = Fixture::new();
    let queue = fixture.open().await;
    let mut beside = fixture.raw().await;
    for jobs in 1..=5i64 {
        queue.enqueue_one(job(&format!("a{jobs}"), "h.example")).await.unwrap();
        let there: i64 =
            sqlx::query_scalar("SELECT count(*) FROM jobs").fetch_one(&mut beside).await.unwrap();
        assert_eq!(there, jobs);
    }
}

/// SQLite itself would go on writing into a file that nobody will ever find again.
#[tokio::test]
async fn a_queue_that_was_taken_away_is_noticed_by_every_kind_of_call() {
    for gone in ["queue.sqlite", "queue.sqlite-wal"] {
        for replaced in [false, true] {
            let fixture = Fixture::new();
            let queue = fixture.open().await;
            queue.enqueue_one(job("a", "h.example")).await.unwrap();
            queue.join(&worker("w"), TTL).await.unwrap();
            let epoch = queue.lease(&request("w", 1, 1)).await.unwrap().epoch;
            let path = fixture.folder.path().join(gone);
            std::fs::rename(&path, fixture.folder.path().join("elsewhere")).unwrap();
            if replaced {
                std::fs::write(&path, "").unwrap();
            }
            fixture.clock.advance(Duration::from_secs(1));
            let errors = [
                queue.heartbeat(&WorkerId::from_text("w"), TTL).await.map(|_| ()).unwrap_err(),
                queue.stats().await.map(|_| ()).unwrap_err(),
                queue.changed(epoch).await.map(|_| ()).unwrap_err(),
            ];
            for error in errors {
                assert!(error.kind() == ErrorKind::Corrupt && !error.is_retryable(), "{gone}: {error}");
                assert!(error.to_string().contains("put the file back"), "{error}");
            }
        }
    }
}

/// Nobody waits for the end of a long retention run, and one that was cut off has done its part for good.
#[tokio::test]
async fn pruning_is_many_short_transactions_and_others_write_in_between() {
    let fixture = Fixture::new();
    let queue = fixture.open().await;
    let jobs: Vec<NewJob> = (0..1_000).map(|number| job(&format!("a{number}"), "h.example")).collect();
    queue.enqueue(&jobs).await.unwrap();
    queue.join(&worker("w"), TTL).await.unwrap();
    let held = queue.lease(&request("w", 1, 1_000)).await.unwrap().jobs;
    let done = Verdict::Done { reason: "ok".into(), outcome: "{}".into(), file: None };
    let ended: Vec<_> = held.iter().map(|job| Settlement::new(job.token, done.clone())).collect();
    queue.settle(&ended, None).await.unwrap();

    let slim = async || -> u64 {
        let slim: i64 = sqlx::query_scalar("SELECT count(*) FROM jobs WHERE slim = 1")
            .fetch_one(&mut fixture.raw().await)
            .await
            .unwrap();
        slim.cast_unsigned()
    };
    let id = WorkerId::from_text("w");
    // Both are asked for at once; the heartbeat is answered after two transactions of the other at most.
    tokio::select! {
        biased;
        pruned = queue.prune(JobState::Done, Duration::ZERO) => panic!("the heartbeat waited for all {pruned:?}"),
        beat = queue.heartbeat(&id, TTL) => drop(beat.unwrap()),
    }
    // What was still on its way to the writer has been carried out when the next call is answered.
    queue.heartbeat(&id, TTL).await.unwrap();
    let before = slim().await;
    assert!((1..=600).contains(&before), "{before}");
    assert_eq!(queue.prune(JobState::Done, Duration::ZERO).await.unwrap(), 1_000 - before);
    assert_eq!(slim().await, 1_000);
}

/// A run meets more hosts than it remembers: values that have expired go, a few with each that is written.
#[tokio::test]
async fn inv_bounded_expired_values_leave_the_cache() {
    let fixture = Fixture::new();
    let queue = fixture.open().await;
    for host in 0..20 {
        queue.cache_put(&format!("robots:h{host}.example"), "Disallow: /", TTL).await.unwrap();
    }
    fixture.clock.advance(TTL);
    let rows = async || -> i64 {
        sqlx::query_scalar("SELECT count(*) FROM cache").fetch_one(&mut fixture.raw().await).await.unwrap()
    };
    assert_eq!(rows().await, 20);
    for host in 20..23 {
        queue.cache_put(&format!("robots:h{host}.example"), "Disallow: /", TTL).await.unwrap();
    }
    assert_eq!(rows().await, 3);
    assert!(queue.cache_get("robots:h22.example").await.unwrap().is_some());
}

/// A backup, or somebody's `sqlite3` shell, may read for hours. The log grows meanwhile, and is emptied afterwards.
#[tokio::test]
async fn a_reader_that_does_not_end_delays_no_write_however_long_the_log_is() {
    let fixture = Fixture::new();
    let queue = fixture.open().await;
    queue.join(&worker("w"), TTL).await.unwrap();
    let mut reader = fixture.raw().await;
    let mut reading = reader.begin().await.unwrap();
    let count = "SELECT count(*) FROM jobs";
    assert_eq!(sqlx::query_scalar::<_, i64>(count).fetch_one(&mut *reading).await.unwrap(), 0);
    let large = |n: usize| NewJob { payload: "1".repeat(500_000), ..job(&format!("a{n}"), "h.example") };
    let jobs: Vec<_> = (0..100).map(large).collect();
    queue.enqueue(&jobs).await.unwrap();
    #[allow(clippy::disallowed_methods, reason = "what is measured is the time that callers wait")]
    let began = std::time::Instant::now();
    for _ in 0..20 {
        queue.heartbeat(&WorkerId::from_text("w"), TTL).await.unwrap();
    }
    // The patience with a reader is 10 s where nothing else could be done.
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    let log = fixture.folder.path().join("queue.sqlite-wal");
    assert!(std::fs::metadata(&log).unwrap().len() > 40 << 20);
    drop(reading);
    reader.close().await.unwrap();
    // It is tried again once the log has grown by a quarter of what it may be.
    queue.enqueue(&(100..130).map(large).collect::<Vec<_>>()).await.unwrap();
    queue.heartbeat(&WorkerId::from_text("w"), TTL).await.unwrap();
    assert!(std::fs::metadata(&log).unwrap().len() < 1 << 20, "it was not emptied");
}

/// Each defect is planted as only damage or a fault of ours could make it.
#[tokio::test]
async fn a_check_finds_and_mends_what_contradicts_the_jobs() {
    let fixture = Fixture::new();
    let queue = fixture.open().await;
    queue.enqueue(&[job("a", "h.example"), job("b", "h.example"), job("c", "other.example")]).await.unwrap();
    queue.join(&worker("w"), TTL).await.unwrap();
    assert_eq!(queue.lease(&request("w", 1, 1)).await.unwrap().jobs.len(), 1);
    let defects = [
        ("UPDATE tally SET queued = 7", "counts: 7 jobs are said to be queued, 2 are"),
        (
            "UPDATE turns SET open_at = open_at + 60000 WHERE lane = 'other.example'",
            "turns: that of lane \"other.example\", class 0, opens 60000 ms late",
        ),
        (
            "DELETE FROM turns WHERE lane = 'other.example'",
            "turns: that of lane \"other.example\", class 0, is missing",
        ),
        ("DELETE FROM workers", "leases: a is held by worker process w, which is not known"),
    ];
    for (plant, said) in defects {
        sqlx::query(plant).execute(&mut fixture.raw().await).await.unwrap();
        let found = queue.check(false).await.unwrap();
        assert_eq!((found.problems, found.repaired), (vec![said.to_owned()], false), "{plant}");
        let mended = queue.check(true).await.unwrap();
        assert_eq!((mended.problems, mended.repaired), (vec![said.to_owned()], true), "{plant}");
        assert_eq!(queue.check(false).await.unwrap().problems, Vec::<String>::new(), "{plant}");
    }
    let (record, history) = queue.get(&ArtifactId::new("a").unwrap()).await.unwrap().unwrap();
    assert_eq!((record.state, record.losses), (JobState::Queued, 1), "INV-NO-LOSS");
    assert_eq!((history[0].event.as_str(), history[0].reason.as_deref()), ("lose", Some("lease-lost")));
    queue.join(&worker("w2"), TTL).await.unwrap();
    assert_eq!(queue.lease(&request("w2", 1, 9)).await.unwrap().jobs.len(), 3);
}
