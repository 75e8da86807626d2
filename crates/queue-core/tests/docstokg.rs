//! Reading the queue files that DocsToKG leaves, as it writes them and as they may be found.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stderr, reason = "what is left out is said to whoever runs the tests")]
#![cfg(feature = "sqlite")]

use std::path::{Path, PathBuf};

use longhaul_queue_core::{DocsToKgQueue, DocsToKgRow, ErrorKind, JobState, Timestamp};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode};
use sqlx::{ConnectOptions as _, Connection as _, SqliteConnection};
use tempfile::TempDir;

const LONGEST: usize = 1 << 20;

/// The table as its system makes it.
const TABLE: &str = "CREATE TABLE jobs (
    id INTEGER PRIMARY KEY AUTOINCREMENT, artifact_id TEXT NOT NULL UNIQUE, artifact_json TEXT NOT NULL,
    state TEXT NOT NULL DEFAULT 'queued', attempts INTEGER NOT NULL DEFAULT 0, last_error TEXT, resolver_hint TEXT,
    created_at TEXT, updated_at TEXT, available_at TEXT, lease_expires_at TEXT, worker_id TEXT)";

struct Old {
    folder: TempDir,
}

impl Old {
    fn new() -> Self {
        Self { folder: TempDir::new().unwrap() }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("old.sqlite")
    }

    /// The old system's own connection.
    async fn own(&self, mode: SqliteJournalMode) -> SqliteConnection {
        let options = SqliteConnectOptions::new().filename(self.path()).create_if_missing(true);
        options.journal_mode(mode).connect().await.unwrap()
    }

    /// A file that was made by these statements and closed.
    async fn made(statements: &[&'static str]) -> Self {
        let old = Self::new();
        let mut conn = old.own(SqliteJournalMode::Delete).await;
        for statement in statements {
            sqlx::raw_sql(*statement).execute(&mut conn).await.unwrap();
        }
        conn.close().await.unwrap();
        old
    }

    async fn open(&self) -> longhaul_queue_core::Result<DocsToKgQueue> {
        DocsToKgQueue::open(self.path(), LONGEST).await
    }

    async fn rows(&self) -> Vec<DocsToKgRow> {
        rows(&mut self.open().await.unwrap(), 100).await
    }

    async fn refused(&self) -> String {
        let error = self.open().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
        error.to_string().replace(self.folder.path().to_str().unwrap(), "")
    }
}

async fn rows(queue: &mut DocsToKgQueue, most: usize) -> Vec<DocsToKgRow> {
    let mut rows = Vec::new();
    loop {
        let page = queue.next(most).await.unwrap();
        assert!(page.len() <= most);
        if page.is_empty() {
            return rows;
        }
        rows.extend(page);
    }
}

fn files(folder: &Path) -> Vec<String> {
    let names = std::fs::read_dir(folder).unwrap();
    names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[tokio::test]
async fn a_row_is_read_with_all_that_is_kept_of_it() {
    let old = Old::made(&[
        TABLE,
        "INSERT INTO jobs VALUES (7, 'doi:10.1/a', '{\"title\": \"T\"}', 'in_progress', 2, 'status 500', 'arxiv',
             '2024-01-01T12:00:00+00:00', '2024-01-01T12:00:01.500000', '2024-01-01 12:00:02', '2024-01-01', 'w')",
    ])
    .await;
    let row = old.rows().await.remove(0);
    assert_eq!((row.id, row.artifact_id.as_deref()), (7, Some("doi:10.1/a")));
    assert_eq!((row.artifact_json.as_str(), row.is_cut), ("{\"title\": \"T\"}", false));
    let job = row.job.unwrap();
    assert_eq!((job.state, job.attempts), (JobState::InProgress, 2));
    assert_eq!(
        (job.last_error.as_deref(), job.resolver_hint.as_deref()),
        (Some("status 500"), Some("arxiv"))
    );
    let noon = 1_704_110_400_000;
    let times = [job.created_at, job.updated_at, job.available_at];
    assert_eq!(times, [noon, noon + 1_500, noon + 2_000].map(|at| Some(Timestamp(at))));
}

#[tokio::test]
async fn rows_come_in_pages_by_number_and_again_after_a_rewind() {
    let old = Old::made(&[
        TABLE,
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 250)
         INSERT INTO jobs (id, artifact_id, artifact_json) SELECT i * 3 - 200, 'a' || i, '{}' FROM n",
    ])
    .await;
    let mut queue = old.open().await.unwrap();
    let first = rows(&mut queue, 100).await;
    let numbers: Vec<i64> = first.iter().map(|row| row.id).collect();
    assert_eq!(numbers, (1..=250).map(|number| number * 3 - 200).collect::<Vec<_>>());
    queue.rewind();
    assert_eq!(rows(&mut queue, 7).await, first);
}

/// INV-BOUNDED: a page ends early if its rows are large, and none is larger than an artifact may be.
#[tokio::test]
async fn inv_bounded_large_rows_make_small_pages() {
    let old = Old::made(&[
        TABLE,
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 12)
         INSERT INTO jobs (artifact_id, artifact_json, last_error)
             SELECT 'a' || i, hex(zeroblob(500000)), hex(zeroblob(500000)) FROM n",
        "INSERT INTO jobs (artifact_id, artifact_json) VALUES ('huge', hex(zeroblob(9000000)))",
    ])
    .await;
    let mut queue = old.open().await.unwrap();
    assert!(queue.next(100).await.unwrap().len() < 6);
    let mut all = rows(&mut queue, 100).await;
    let huge = all.pop().unwrap();
    assert_eq!((huge.artifact_json.len(), huge.is_cut), (4096, true));
    assert_eq!(huge.job.unwrap_err(), "`artifact_json` is longer than an artifact may be");
    assert_eq!(all.pop().unwrap().job.unwrap().last_error.unwrap().len(), 4096);
}

#[tokio::test]
async fn older_files_may_lack_what_can_be_done_without() {
    let old = Old::made(&[
        "CREATE TABLE jobs (artifact_id, artifact_json, state)",
        "INSERT INTO jobs VALUES ('a', '{}', 'error')",
    ])
    .await;
    let job = old.rows().await.remove(0).job.unwrap();
    assert_eq!((job.state, job.attempts, job.last_error), (JobState::Error, 0, None));
    assert_eq!((job.created_at, job.updated_at, job.available_at), (None, None, None));
}

#[tokio::test]
async fn a_bad_row_says_what_is_wrong_and_the_others_are_read() {
    let old = Old::made(&[
        "CREATE TABLE jobs (id INTEGER PRIMARY KEY, artifact_id, artifact_json, state, attempts, created_at)",
        "INSERT INTO jobs (artifact_id, artifact_json, state, attempts, created_at) VALUES
             ('a', '{}', 'leased', 0, NULL),
             ('a', '{}', NULL, 0, NULL),
             ('a', NULL, 'done', 0, NULL),
             ('a', x'ff00', 'done', 0, NULL),
             ('a', CAST(x'7bff7d' AS TEXT), 'done', 0, NULL),
             ('a', '{}', 'done', -1, NULL),
             ('a', '{}', 'done', 'many', NULL),
             ('a', '{}', 'done', 0, 'yesterday'),
             ('a', '{}', 'done', 0, 1704110400),
             (x'00ff', '{}', 'done', 0, NULL),
             ('a', '{}', 'done', 0, '')",
    ])
    .await;
    let mut rows = old.rows().await;
    assert!(rows.pop().unwrap().job.is_ok());
    let said: Vec<String> = rows.into_iter().map(|row| row.job.unwrap_err()).collect();
    insta::assert_snapshot!(said.join("\n"));
}

#[tokio::test]
async fn what_is_no_old_queue_is_named() {
    let old = Old::new();
    assert_eq!(old.open().await.unwrap_err().kind(), ErrorKind::NotFound);
    std::fs::create_dir(old.path()).unwrap();
    assert_eq!(old.refused().await, "/old.sqlite is no file");
    std::fs::remove_dir(old.path()).unwrap();
    std::fs::write(
        old.path(),
        "a list of papers, and long enough to have the header of a database, or is it?".repeat(9),
    )
    .unwrap();
    assert_eq!(old.refused().await, "/old.sqlite is no SQLite file");
    std::fs::write(old.path(), "").unwrap();
    assert_eq!(old.refused().await, "/old.sqlite has no table `jobs`, so it is no queue of DocsToKG");
    let other = Old::made(&["CREATE TABLE jobs (id INTEGER PRIMARY KEY, artifact_id TEXT, what TEXT)"]).await;
    assert_eq!(
        other.refused().await,
        "the table `jobs` in /old.sqlite has no column `artifact_json`, `state`, so it is no queue of DocsToKG"
    );
    let ours = Old::new();
    let options = longhaul_queue_core::SqliteOptions::new(ours.path());
    let clock = std::sync::Arc::new(longhaul_limiter::ManualClock::new());
    drop(longhaul_queue_core::SqliteQueue::open(options, clock).await.unwrap());
    assert_eq!(ours.refused().await, "/old.sqlite is a queue of longhaul, not of DocsToKG");
}

/// Its own process goes on writing, in either journal mode: what is read is of one moment, and nothing is disturbed.
#[tokio::test]
async fn a_living_queue_is_read_as_it_is_at_one_moment() {
    let old = Old::new();
    let mut own = old.own(SqliteJournalMode::Wal).await;
    sqlx::raw_sql(TABLE).execute(&mut own).await.unwrap();
    let insert = "INSERT INTO jobs (artifact_id, artifact_json) SELECT 'a' || (count(*) + 1), '{}' FROM jobs";
    for _ in 0..3 {
        sqlx::query(insert).execute(&mut own).await.unwrap();
    }
    let mut queue = old.open().await.unwrap();
    assert_eq!(queue.next(2).await.unwrap().len(), 2);
    sqlx::query(insert).execute(&mut own).await.unwrap();
    sqlx::query("UPDATE jobs SET state = 'done'").execute(&mut own).await.unwrap();
    let rest = rows(&mut queue, 2).await;
    assert_eq!(rest.len(), 1);
    assert_eq!(rest[0].job.as_ref().unwrap().state, JobState::Queued);
    drop(queue);
    assert_eq!(old.rows().await.len(), 4, "another look sees what came since");

    let old = Old::new();
    let mut own = old.own(SqliteJournalMode::Delete).await;
    sqlx::raw_sql(TABLE).execute(&mut own).await.unwrap();
    sqlx::query(insert).execute(&mut own).await.unwrap();
    sqlx::raw_sql("BEGIN IMMEDIATE; UPDATE jobs SET state = 'done'").execute(&mut own).await.unwrap();
    assert_eq!(old.rows().await[0].job.as_ref().unwrap().state, JobState::Queued);
    sqlx::raw_sql("COMMIT").execute(&mut own).await.unwrap();
    assert_eq!(old.rows().await[0].job.as_ref().unwrap().state, JobState::Done);
}

#[tokio::test]
async fn reading_changes_nothing() {
    for mode in [SqliteJournalMode::Delete, SqliteJournalMode::Wal] {
        let old = Old::new();
        let mut own = old.own(mode).await;
        sqlx::raw_sql(TABLE).execute(&mut own).await.unwrap();
        sqlx::query("INSERT INTO jobs (artifact_id, artifact_json) VALUES ('a', '{}')")
            .execute(&mut own)
            .await
            .unwrap();
        own.close().await.unwrap();
        let before = std::fs::read(old.path()).unwrap();
        assert_eq!(old.rows().await.len(), 1);
        assert_eq!(std::fs::read(old.path()).unwrap(), before);
        // A log makes files beside the database for whoever reads; what they hold is nothing.
        let beside = std::fs::metadata(old.folder.path().join("old.sqlite-wal"));
        assert_eq!(beside.map_or(0, |found| found.len()), 0);
    }
}

/// As a backup or another person's folder may be: the files beside a database with a log cannot be made.
#[tokio::test]
async fn a_queue_with_a_log_is_read_from_a_folder_that_cannot_be_written() {
    use std::os::unix::fs::PermissionsExt as _;
    let old = Old::new();
    let mut own = old.own(SqliteJournalMode::Wal).await;
    sqlx::raw_sql(TABLE).execute(&mut own).await.unwrap();
    sqlx::query("INSERT INTO jobs (artifact_id, artifact_json) VALUES ('a', '{}')")
        .execute(&mut own)
        .await
        .unwrap();
    own.close().await.unwrap();
    let set =
        |mode| std::fs::set_permissions(old.folder.path(), std::fs::Permissions::from_mode(mode)).unwrap();
    set(0o555);
    if std::fs::write(old.folder.path().join("probe"), "").is_ok() {
        eprintln!("left out: this user may write everywhere");
        return;
    }
    let rows = old.rows().await;
    set(0o755);
    assert_eq!(rows.len(), 1);
    assert_eq!(files(old.folder.path()), ["old.sqlite"]);
}
