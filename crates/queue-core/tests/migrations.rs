//! Queues of earlier and of later versions of the schema.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]
#![cfg(feature = "sqlite")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use longhaul_limiter::{LaneLimits, ManualClock, Paces};
use longhaul_queue_core::{
    Answer, ArtifactId, Critical, ErrorKind, JobPage, JobRecord, Lane, LanePage, LaneRules, LeaseRequest,
    LeasedJob, NewJob, QueueAdmin as _, QueueError, RequestNumber, Settlement, SqliteOptions, SqliteQueue,
    StatedLimits, StoreId, Verdict, WorkQueue as _, WorkQueueExt as _, WorkerId, WorkerInfo,
};
use sqlx::{ConnectOptions as _, Connection as _, SqliteConnection};

const TTL: Duration = Duration::from_mins(2);
const VERSION_1: &str = include_str!("fixtures/queue_v1.sql");
const VERSION_2: &str = include_str!("fixtures/queue_v2.sql");
const VERSION_3: &str = include_str!("fixtures/queue_v3.sql");
/// A queue of each earlier version, the first one first.
const VERSION_4: &str = include_str!("fixtures/queue_v4.sql");
const EARLIER: [&str; 4] = [VERSION_1, VERSION_2, VERSION_3, VERSION_4];

struct Fixture {
    folder: tempfile::TempDir,
    clock: ManualClock,
}

impl Fixture {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), clock: ManualClock::new() }
    }

    /// A database made by these statements.
    async fn of(statements: &str) -> Self {
        let fixture = Self::new();
        fixture.run(statements).await;
        fixture
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("queue.sqlite")
    }

    async fn try_open(&self) -> Result<SqliteQueue, QueueError> {
        SqliteQueue::open(SqliteOptions::new(self.path()), Arc::new(self.clock.clone())).await
    }

    async fn open(&self) -> SqliteQueue {
        self.try_open().await.unwrap()
    }

    async fn raw(&self) -> SqliteConnection {
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(self.path());
        options.create_if_missing(true).connect().await.unwrap()
    }

    /// Carries statements out as somebody beside the program would.
    async fn run(&self, statements: &str) {
        let mut conn = self.raw().await;
        sqlx::raw_sql(sqlx::AssertSqlSafe(statements.to_owned())).execute(&mut conn).await.unwrap();
        conn.close().await.unwrap();
    }

    async fn version(&self) -> i64 {
        sqlx::query_scalar("PRAGMA user_version").fetch_one(&mut self.raw().await).await.unwrap()
    }

    /// Every table and index, as it was made.
    async fn schema(&self) -> Vec<(String, Option<String>)> {
        let all = "SELECT name, sql FROM sqlite_schema ORDER BY name";
        sqlx::query_as(all).fetch_all(&mut self.raw().await).await.unwrap()
    }

    /// What lies in the folder, with every byte of it.
    fn files(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let read = |path: &Path| if path.is_dir() { Vec::new() } else { std::fs::read(path).unwrap() };
        let entries = std::fs::read_dir(self.folder.path()).unwrap().map(|entry| entry.unwrap().path());
        let mut files: Vec<_> = entries.map(|path| (path.clone(), read(&path))).collect();
        files.sort();
        files
    }
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

fn id(name: &str) -> ArtifactId {
    ArtifactId::new(name).unwrap()
}

/// What is in a queue of version 1, work in the hands of a dead process too, is there afterwards and goes on.
#[tokio::test]
async fn a_queue_of_version_1_is_migrated_and_goes_on() {
    let fixture = Fixture::new();
    let mut conn = fixture.raw().await;
    sqlx::raw_sql(VERSION_1).execute(&mut conn).await.unwrap();
    conn.close().await.unwrap();
    let queue = fixture.open().await;
    assert_eq!(queue.id(), "0123456789abcdef");
    assert_eq!(queue.check(false).await.unwrap().problems, Vec::<String>::new());
    let stats = queue.stats().await.unwrap();
    assert_eq!((stats.counts.queued, stats.counts.in_progress, stats.counts.total()), (2, 1, 5));
    assert_eq!(stats.lanes_cooling, 1);
    // What version 1 did not say whose it was is published by whoever finds it, as it was then.
    let one = StoreId("one".to_owned());
    let page = JobPage { after: None, limit: 10 };
    let names = |jobs: Vec<JobRecord>| -> Vec<String> {
        jobs.into_iter().map(|job| job.artifact_id.to_string()).collect()
    };
    assert_eq!(names(queue.unpublished(&one, page).await.unwrap()), ["done", "skipped"]);

    queue.join(&WorkerInfo { store: Some(one.clone()), ..worker("new") }, TTL).await.unwrap();
    let given = queue.lease(&request("new", 1, 10)).await.unwrap().jobs;
    let given: Vec<_> = given.iter().map(|job| (job.artifact_id.as_str(), job.losses, job.token)).collect();
    assert_eq!(
        given.iter().map(|(name, losses, _)| (*name, *losses)).collect::<Vec<_>>(),
        [("queued", 0), ("held", 1)]
    );
    for (_, _, token) in &given {
        let verdict = Verdict::Skipped { reason: "gone".into(), outcome: "{}".into(), detail: String::new() };
        let settled = queue.settle_one(Settlement::new(*token, verdict)).await.unwrap();
        assert!(matches!(settled, Answer::Recorded(_)));
    }
    let two = StoreId("two".to_owned());
    assert_eq!(names(queue.unpublished(&two, page).await.unwrap()), ["skipped"]);
    assert_eq!(names(queue.unpublished(&one, page).await.unwrap()), ["queued", "held", "done", "skipped"]);
    drop(queue);
    let version: i64 =
        sqlx::query_scalar("PRAGMA user_version").fetch_one(&mut fixture.raw().await).await.unwrap();
    assert_eq!(version, 5, "and this test knows what came with it");
    let _ = fixture.open().await;
}

/// A process of version 2 said nothing of its limits; the processes of now do.
#[tokio::test]
async fn a_queue_of_version_2_is_migrated_and_goes_on() {
    let fixture = Fixture::of(VERSION_2).await;
    let queue = fixture.open().await;
    assert_eq!(queue.check(false).await.unwrap().problems, Vec::<String>::new());
    let limits = Some(StatedLimits::from(&LaneRules::default()));
    queue.join(&WorkerInfo { limits: limits.clone(), ..worker("new") }, TTL).await.unwrap();
    let rows: Vec<_> = queue.workers().await.unwrap().into_iter().map(|row| (row.pid, row.limits)).collect();
    assert_eq!(rows, [(7, None), (1, limits)]);
    let given = queue.lease(&request("new", 1, 10)).await.unwrap().jobs;
    let given: Vec<_> = given.iter().map(|job| (job.artifact_id.as_str(), job.losses)).collect();
    assert_eq!(given, [("queued", 0), ("held", 1)]);
}

/// The limits that a process of version 3 stated bind the others as long as it is there, and hosts have said nothing yet.
#[tokio::test]
async fn a_queue_of_version_3_is_migrated_and_goes_on() {
    let fixture = Fixture::of(VERSION_3).await;
    let queue = fixture.open().await;
    assert_eq!(queue.check(false).await.unwrap().problems, Vec::<String>::new());
    let lanes = queue.lanes(&LanePage { after: None, limit: 9 }).await.unwrap();
    assert!(lanes.iter().any(|row| row.closed_until.is_some()) && lanes.iter().all(|row| row.pace.is_none()));
    queue.join(&worker("new"), TTL).await.unwrap();
    let given = queue.lease(&request("new", 1, 10)).await.unwrap().jobs;
    assert_eq!(given.len(), 2);
}

/// Version 4 kept a pace's latest start in another form. What it had counted still holds (INV-PACE).
#[tokio::test]
async fn inv_pace_a_queue_of_version_4_keeps_its_paces() {
    let fixture = Fixture::of(VERSION_4).await;
    let queue = fixture.open().await;
    assert_eq!(queue.check(false).await.unwrap().problems, Vec::<String>::new());
    queue.join(&worker("new"), TTL).await.unwrap();
    let paces = Paces::Shared("1/s".parse().unwrap());
    let rules = LaneRules { any: LaneLimits { cap: None, paces }, ..LaneRules::unlimited() };
    let asked = LeaseRequest { rules: Arc::new(rules), ..request("new", 1, 10) };
    let of_a =
        |jobs: Vec<LeasedJob>| jobs.iter().filter(|job| job.place.lane.as_str() == "a.example").count();
    assert_eq!(of_a(queue.lease(&asked).await.unwrap().jobs), 0);
    assert_eq!(of_a(queue.lease(&request("new", 2, 10)).await.unwrap().jobs), 0, "its turn is put off");
    queue.resume(Some(&Lane::new("a.example").unwrap())).await.unwrap();
    assert_eq!(of_a(queue.lease(&request("new", 3, 10)).await.unwrap().jobs), 1, "without a pace it gives");
}

/// Whatever version it began with, a queue ends up with the tables and indexes that a new one has.
#[tokio::test]
async fn every_earlier_version_becomes_what_a_new_queue_is() {
    let new = Fixture::new();
    drop(new.open().await);
    assert_eq!(usize::try_from(new.version().await).unwrap(), EARLIER.len() + 1, "a version has no fixture");
    for (before, statements) in EARLIER.iter().enumerate() {
        let fixture = Fixture::of(statements).await;
        assert_eq!(usize::try_from(fixture.version().await).unwrap(), before + 1);
        drop(fixture.open().await);
        assert_eq!(fixture.version().await, new.version().await);
        assert_eq!(fixture.schema().await, new.schema().await);
    }
}

/// Version 1 pruned without a mark. What it emptied must not be run again either; what was empty from the start may.
#[tokio::test]
async fn what_version_1_pruned_is_known_to_be_slim() {
    let fixture = Fixture::of(VERSION_1).await;
    let ended =
        "INSERT INTO jobs (artifact_id, artifact_json, lane, role, priority, class, state, available_at,
                     published, created_at, updated_at, finished_at, outcome_json, last_error) VALUES";
    fixture
        .run(&format!(
            "{ended} ('pruned', '{{}}', 'a.example', 'artifact', 0, 0, 'error', 1, 1, 1, 1, 1, NULL, NULL),
                 ('whole', '{{\"doi\":1}}', 'a.example', 'artifact', 0, 0, 'done', 1, 1, 1, 1, 1, NULL, NULL),
                 ('bare', '{{}}', 'a.example', 'artifact', 0, 0, 'done', 1, 1, 1, 1, 1, '{{}}', NULL),
                 ('failed', '{{}}', 'a.example', 'artifact', 0, 0, 'error', 1, 1, 1, 1, 1, NULL, 'gone'),
                 ('cancelled', '{{}}', 'a.example', 'artifact', 0, 0, 'skipped', 1, 1, 1, 1, 1, NULL, NULL);
             INSERT INTO history (job, at, event) SELECT id, 1, 'cancel' FROM jobs WHERE artifact_id = 'cancelled';
             UPDATE tally SET done = done + 2, error = error + 2, skipped = skipped + 1"
        ))
        .await;
    let queue = fixture.open().await;
    let all = ["pruned", "whole", "bare", "failed", "cancelled"].map(id);
    assert_eq!(queue.requeue(&all).await.unwrap(), 4);
    assert!(queue.get(&all[0]).await.unwrap().unwrap().0.slim);
    assert_eq!(queue.check(false).await.unwrap().problems, Vec::<String>::new());
}

/// One migrates, the other waits for it, and both go on.
#[tokio::test]
async fn of_two_that_open_an_earlier_version_one_migrates() {
    let fixture = Fixture::of(VERSION_1).await;
    let locks = fixture.folder.path().join("queue.sqlite.locks");
    std::fs::create_dir_all(&locks).unwrap();
    let writer = std::fs::File::create(locks.join("writer")).unwrap();
    writer.lock().unwrap();
    let mut both = std::pin::pin!(async { tokio::join!(fixture.open(), fixture.open()) });
    // Nobody migrates while somebody else writes.
    let early = tokio::time::timeout(Duration::from_millis(200), &mut both).await;
    assert!(early.is_err());
    assert_eq!(fixture.version().await, 1);
    writer.unlock().unwrap();
    let (one, other) = both.await;
    assert_eq!(fixture.version().await, 5);
    assert_eq!(one.id(), other.id());
    one.enqueue(&[NewJob::new(id("new"), "{}")]).await.unwrap();
    other.join(&worker("w"), TTL).await.unwrap();
    let given = other.lease(&request("w", 1, 10)).await.unwrap().jobs;
    assert!(given.iter().any(|job| job.artifact_id == id("new")), "{given:?}");
    assert_eq!(one.check(false).await.unwrap().problems, Vec::<String>::new());
}

/// Whoever has the newer program must find the file as that program left it.
#[tokio::test]
async fn a_newer_version_is_refused_and_not_touched() {
    let fixture = Fixture::of(VERSION_1).await;
    fixture.run("PRAGMA user_version = 6").await;
    let before = fixture.files();
    assert_eq!(before.len(), 1);
    for _ in 0..2 {
        let refused = fixture.try_open().await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::SchemaTooNew, "{refused}");
        assert!(
            refused.to_string().contains("schema version 6, and this program knows up to 5"),
            "{refused}"
        );
        assert!(fixture.files() == before, "it is neither put into WAL nor given locks");
    }
}

/// The last step of the last migration meets a name that is taken: none of the steps stays, of the others neither.
#[tokio::test]
async fn a_migration_that_fails_half_way_leaves_the_version_before() {
    let fixture = Fixture::of(VERSION_1).await;
    fixture.run("ALTER TABLE workers ADD COLUMN limits TEXT").await;
    let before = fixture.schema().await;
    let failed = fixture.try_open().await.unwrap_err();
    assert!(failed.to_string().contains("duplicate column name: limits"), "{failed}");
    assert_eq!((fixture.version().await, fixture.schema().await), (1, before));
    fixture.run("ALTER TABLE workers DROP COLUMN limits").await;
    let queue = fixture.open().await;
    assert_eq!((queue.stats().await.unwrap().counts.total(), fixture.version().await), (5, 5));
}
