//! Opening a database: what is refused, what is asserted, what is migrated.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use longhaul_limiter::{Clock, Keying};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{ConnectOptions as _, Connection as _, SqliteConnection};
use tokio::sync::{Mutex, watch};

use super::SqliteQueue;
use super::admit::Admissions;
use super::anchor::Anchor;
use super::checkpoint::{self, COPY_EVERY, Log};
use super::home::Home;
use super::locks::Locks;
use super::watch::Foreign;
use super::writer::{Writer, WriterParts};
use crate::{ErrorKind, QueueError, Result};

/// Every migration so far; a database's `user_version` says how many it has had.
const MIGRATIONS: [&str; 5] = [
    include_str!("../../migrations/sqlite/0001_queue.sql"),
    include_str!("../../migrations/sqlite/0002_store.sql"),
    include_str!("../../migrations/sqlite/0003_limits.sql"),
    include_str!("../../migrations/sqlite/0004_host_pace.sql"),
    include_str!("../../migrations/sqlite/0005_grants.sql"),
];

/// How long SQLite itself waits for a lock. Ours come first, so this only meets foreign tools on the file.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// When a transaction counts as committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// When the disk has it: survives a power cut.
    #[default]
    Full,
    /// When the operating system has it: survives a crash of the program, and a power cut may lose the last moments.
    Normal,
}

/// How to open a queue.
#[derive(Debug, Clone)]
pub struct SqliteOptions {
    path: PathBuf,
    create: bool,
    durability: Durability,
    keying: Keying,
}

impl SqliteOptions {
    /// The queue in this file, which is created if it is missing.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), create: true, durability: Durability::Full, keying: Keying::default() }
    }

    /// Whether a missing file is created (with its folder), or is `NotFound`.
    #[must_use]
    pub fn create(mut self, create: bool) -> Self {
        self.create = create;
        self
    }

    /// When a transaction counts as committed.
    #[must_use]
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// How this process turns hosts into lanes. A new queue remembers it; an old one must have the same.
    #[must_use]
    pub fn keying(mut self, keying: Keying) -> Self {
        self.keying = keying;
        self
    }
}

/// What all clones of a handle share.
#[derive(Debug)]
pub(super) struct Inner {
    pub(super) id: String,
    pub(super) path: PathBuf,
    pub(super) writer: Writer,
    pub(super) admissions: Arc<Admissions>,
    pub(super) anchor: Arc<Anchor>,
    pub(super) locks: Arc<Locks>,
    pub(super) readers: SqlitePool,
    pub(super) epoch: watch::Sender<u64>,
    pub(super) foreign: Mutex<Foreign>,
    pub(super) liveness: super::workers::Liveness,
    pub(super) home: Home,
}

impl Inner {
    /// Fails if the queue's files are not where they were any more.
    pub(super) fn is_at_home(&self) -> Result<()> {
        self.home.look(self.anchor.clock().monotonic())
    }

    async fn close(&self) {
        self.writer.close().await;
        self.readers.close().await;
        // The last connection, whose end copies the log back. What it cannot do the next process does.
        if let Err(error) = self.foreign.lock().await.close().await {
            tracing::debug!(%error, "the queue's file could not be closed in order");
        }
        self.locks.abandon();
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // The writer's task may outlive the handle by a moment; nobody must take its worker process for alive.
        self.locks.abandon();
    }
}

impl SqliteQueue {
    /// Opens a queue.
    ///
    /// # Errors
    /// `NotFound` without the file, `Unsupported` on a network file system, `SchemaTooNew` if a newer program wrote it,
    /// `Conflict` if it keys lanes otherwise, `Corrupt` if it is no queue, `Unavailable` if it cannot be written.
    pub async fn open(options: SqliteOptions, clock: Arc<dyn Clock>) -> Result<Self> {
        let path = options.path.clone();
        Self::open_at(options, clock).await.map_err(|error| {
            let is_said = error.to_string().contains(&*path.to_string_lossy());
            if is_said { error } else { located(&path, error) }
        })
    }

    async fn open_at(options: SqliteOptions, clock: Arc<dyn Clock>) -> Result<Self> {
        let path = &options.path;
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        if options.create {
            std::fs::create_dir_all(folder).map_err(|error| {
                let message =
                    format!("the folder {} for the queue cannot be made: {error}", folder.display());
                QueueError::new(ErrorKind::Unavailable, message).with_source(error)
            })?;
        } else if std::fs::metadata(path).map_or(0, |found| found.len()) == 0 {
            let message =
                format!("there is no queue at {}; `longhaul queue import FILE` makes one", path.display());
            return Err(QueueError::new(ErrorKind::NotFound, message));
        }
        if path.is_dir() {
            let message = format!("{} is a folder; a queue is a file", path.display());
            return Err(QueueError::new(ErrorKind::Invalid, message));
        }
        refuse_network_file_system(folder)?;
        refuse_read_only(path)?;
        let version = refuse_foreign(path).await?;
        if options.create {
            make_private(path)?;
        }
        let locks = Arc::new(Locks::open(path)?);
        let connect = connect_options(&options);
        let log = log_path(path);
        checkpoint::empty_if_left(log.clone(), &connect).await.map_err(|error| cannot_open(path, error))?;
        // Whoever only looks at a queue that is set up writes nothing, and waits for nobody's turn.
        let settled = match version {
            Some(version) if version == MIGRATIONS.len() => look(&connect, &options.keying, &clock).await,
            _ => None,
        };
        let (foreign, conn, (id, anchor)) = if let Some((foreign, known)) = settled {
            (foreign, None, known)
        } else {
            let (conn, known) = set_up(&connect, &options, &locks, clock).await?;
            let foreign = looking(&connect).connect().await.map_err(|error| cannot_open(path, error))?;
            (foreign, Some(conn), known)
        };
        let anchor = Arc::new(anchor);
        let readers =
            SqlitePoolOptions::new().max_connections(2).connect_lazy_with(connect.clone().read_only(true));
        let (epoch, _) = watch::channel(0);
        let writer = Writer::start(WriterParts {
            connect,
            conn,
            anchor: Arc::clone(&anchor),
            locks: Arc::clone(&locks),
            epoch: epoch.clone(),
            log: Log::new(log.clone()),
        });
        let inner = Inner {
            id,
            path: path.clone(),
            writer,
            admissions: Arc::default(),
            anchor,
            locks,
            readers,
            epoch,
            foreign: Mutex::new(Foreign::new(foreign)),
            liveness: super::workers::Liveness::default(),
            home: Home::new(path, &log),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Ends this queue in all its clones: carries out and answers the calls that wait, and closes the file. If no other
    /// process has it open the write-ahead log is copied back and removed. Calls that come later are `Unavailable`.
    ///
    /// Dropping the last clone loses nothing either, but leaves the log to the next process. If the future is dropped the
    /// queue takes no further calls and closes by itself as far as its runtime goes on.
    pub async fn close(self) {
        self.inner.close().await;
    }

    /// A random id that the queue was given when it was made, 16 hexadecimal digits: what tells its jobs' numbers from
    /// another queue's.
    pub fn id(&self) -> &str {
        &self.inner.id
    }
}

/// The write-ahead log beside a database.
fn log_path(database: &Path) -> PathBuf {
    let mut log = database.as_os_str().to_owned();
    log.push("-wal");
    PathBuf::from(log)
}

fn connect_options(options: &SqliteOptions) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(&options.path)
        .create_if_missing(options.create)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(match options.durability {
            Durability::Full => SqliteSynchronous::Full,
            Durability::Normal => SqliteSynchronous::Normal,
        })
        .busy_timeout(BUSY_TIMEOUT)
        .foreign_keys(false)
        .optimize_on_close(false, None)
        .statement_cache_capacity(128)
        // A batch of rows goes over in one piece; with a small buffer the two threads hand it over bit by bit.
        .row_buffer_size(1024)
}

/// The options of a connection that writes nothing. The file is opened for writing all the same: the last connection to be
/// closed copies the log back and removes it, and one that cannot write would leave it.
fn looking(connect: &SqliteConnectOptions) -> SqliteConnectOptions {
    connect.clone().pragma("query_only", "ON")
}

/// Opens the writer's connection. Copying the log back by itself it would do on the path of a reply. Its 8 MiB of pages hold
/// the indexes of some hundred thousand waiting jobs, whichever lanes have their turn. A log that begins anew is cut, so that
/// the file's length says how much is in it. What statements keep for themselves does not become files.
pub(super) async fn open_to_write(connect: &SqliteConnectOptions) -> sqlx::Result<SqliteConnection> {
    let connect = connect
        .clone()
        .pragma("wal_autocheckpoint", "0")
        .pragma("cache_size", "-8192")
        .pragma("journal_size_limit", COPY_EVERY.to_string())
        .pragma("temp_store", "MEMORY");
    connect.connect().await
}

/// What opening finds out: the queue's id, and its time.
type Known = (String, Anchor);

const KNOWN: &str =
    "SELECT (SELECT journal_mode FROM pragma_journal_mode), (SELECT user_version FROM pragma_user_version),
             (SELECT value FROM meta WHERE key = 'keying'), (SELECT value FROM meta WHERE key = 'id'),
             (SELECT value FROM meta WHERE key = 'anchor')";

/// Opens a queue to which nothing has to be written; `None` if something has to, or if this cannot be told.
async fn look(
    connect: &SqliteConnectOptions,
    keying: &Keying,
    clock: &Arc<dyn Clock>,
) -> Option<(SqliteConnection, Known)> {
    let mut conn = looking(connect).connect().await.ok()?;
    let (mode, version, stored, id, anchor): (String, i64, String, String, String) =
        sqlx::query_as(KNOWN).fetch_one(&mut conn).await.ok()?;
    let is_set_up = mode.eq_ignore_ascii_case("wal") && usize::try_from(version) == Ok(MIGRATIONS.len());
    if !is_set_up || Some(stored) != serde_json::to_string(keying).ok() {
        return None;
    }
    Some((conn, (id, Anchor::of_this_boot(&anchor, Arc::clone(clock))?)))
}

/// Sets a file up as a queue, as far as that was not done, and returns the connection that did.
async fn set_up(
    connect: &SqliteConnectOptions,
    options: &SqliteOptions,
    locks: &Locks,
    clock: Arc<dyn Clock>,
) -> Result<(SqliteConnection, Known)> {
    let path = &options.path;
    let mut conn = open_to_write(connect).await.map_err(|error| cannot_open(path, error))?;
    let _turn = locks.write_turn().await?;
    assert_wal(&mut conn, path).await?;
    migrate(&mut conn, path).await?;
    let mut tx = conn.begin_with("BEGIN IMMEDIATE").await.map_err(failed)?;
    agree_on_keying(&mut tx, &options.keying).await?;
    let id = identity(&mut tx).await?;
    let anchor = Anchor::establish(&mut tx, clock).await?;
    tx.commit().await.map_err(failed)?;
    Ok((conn, (id, anchor)))
}

/// A mistyped pragma is silently ignored by SQLite, and without WAL neither readers nor the durability that is
/// promised work; so the mode is asked for.
async fn assert_wal(conn: &mut SqliteConnection, path: &Path) -> Result<()> {
    let mode: String = sqlx::query_scalar("PRAGMA journal_mode").fetch_one(conn).await.map_err(failed)?;
    if mode.eq_ignore_ascii_case("wal") {
        return Ok(());
    }
    let message =
        format!("the queue {} is in journal mode {mode} and cannot be put into WAL", path.display());
    Err(QueueError::new(ErrorKind::Unsupported, message))
}

/// Somebody else's database and that of a newer program are refused before they are touched: to put one into WAL would
/// change it for good. What cannot be told here is found out by `migrate`. Returns how many migrations it has had.
async fn refuse_foreign(path: &Path) -> Result<Option<usize>> {
    if std::fs::metadata(path).map_or(0, |found| found.len()) == 0 {
        return Ok(None);
    }
    let looking = SqliteConnectOptions::new().filename(path).read_only(true).optimize_on_close(false, None);
    let Ok(mut conn) = looking.connect().await else { return Ok(None) };
    let found: sqlx::Result<(i64, i64)> =
        sqlx::query_as("SELECT (SELECT user_version FROM pragma_user_version), count(*) FROM sqlite_schema")
            .fetch_one(&mut conn)
            .await;
    let _ = conn.close().await;
    match found {
        Ok((0, tables)) if tables > 0 => Err(is_foreign(path)),
        Ok((version, _)) => known(version, path).map(Some),
        Err(_) => Ok(None),
    }
}

/// How many migrations a database has had, if this program knows them all.
fn known(version: i64, path: &Path) -> Result<usize> {
    let known = MIGRATIONS.len();
    match usize::try_from(version) {
        Ok(version) if version <= known => Ok(version),
        _ => {
            let message = format!(
                "the queue {} has schema version {version}, and this program knows up to {known}; use the newer program",
                path.display()
            );
            Err(QueueError::new(ErrorKind::SchemaTooNew, message))
        }
    }
}

fn is_foreign(path: &Path) -> QueueError {
    let message = format!("{} is a SQLite database, but not a queue of this program", path.display());
    QueueError::new(ErrorKind::Corrupt, message)
}

async fn migrate(conn: &mut SqliteConnection, path: &Path) -> Result<()> {
    let mut tx = conn.begin_with("BEGIN IMMEDIATE").await.map_err(failed)?;
    let version: i64 = sqlx::query_scalar("PRAGMA user_version").fetch_one(&mut *tx).await.map_err(failed)?;
    let version = known(version, path)?;
    if version == 0 {
        let foreign: i64 = sqlx::query_scalar("SELECT count(*) FROM sqlite_schema")
            .fetch_one(&mut *tx)
            .await
            .map_err(failed)?;
        if foreign > 0 {
            return Err(is_foreign(path));
        }
    }
    for migration in MIGRATIONS.iter().skip(version) {
        sqlx::raw_sql(*migration).execute(&mut *tx).await.map_err(failed)?;
    }
    if version < MIGRATIONS.len() {
        let statement = sqlx::AssertSqlSafe(format!("PRAGMA user_version = {}", MIGRATIONS.len()));
        sqlx::query(statement).execute(&mut *tx).await.map_err(failed)?;
    }
    tx.commit().await.map_err(failed)
}

async fn identity(conn: &mut SqliteConnection) -> Result<String> {
    sqlx::query("INSERT INTO meta (key, value) VALUES ('id', ?) ON CONFLICT (key) DO NOTHING")
        .bind(format!("{:016x}", fastrand::u64(..)))
        .execute(&mut *conn)
        .await
        .map_err(failed)?;
    sqlx::query_scalar("SELECT value FROM meta WHERE key = 'id'").fetch_one(conn).await.map_err(failed)
}

async fn agree_on_keying(conn: &mut SqliteConnection, keying: &Keying) -> Result<()> {
    let ours = serde_json::to_string(keying).unwrap_or_default();
    sqlx::query("INSERT INTO meta (key, value) VALUES ('keying', ?) ON CONFLICT (key) DO NOTHING")
        .bind(&ours)
        .execute(&mut *conn)
        .await
        .map_err(failed)?;
    let stored: String = sqlx::query_scalar("SELECT value FROM meta WHERE key = 'keying'")
        .fetch_one(conn)
        .await
        .map_err(failed)?;
    if stored == ours {
        return Ok(());
    }
    let by_domain = |keying: &Keying| if keying.registrable_domain { "registrable domain" } else { "host" };
    let message = match serde_json::from_str::<Keying>(&stored) {
        Ok(stored) if stored.registrable_domain != keying.registrable_domain => format!(
            "the queue counts by {}, this process by {}, and caps would be counted under two names; {} --registrable-domain",
            by_domain(&stored),
            by_domain(keying),
            if stored.registrable_domain { "give" } else { "leave out" },
        ),
        _ => format!(
            "the queue turns hosts into lanes by {stored}, this process by {ours}; caps would be counted under two names, \
             so use the queue's setting"
        ),
    };
    Err(QueueError::new(ErrorKind::Conflict, message))
}

/// Locks and shared memory do not work over a network, and a queue there would be corrupted without a word.
fn refuse_network_file_system(folder: &Path) -> Result<()> {
    const NETWORK: [(i64, &str); 8] = [
        (0x6969, "NFS"),
        (0x517B, "SMB"),
        (0xFF53_4D42, "CIFS"),
        (0xFE53_4D42, "SMB"),
        (0x5346_414F, "AFS"),
        (0x00C3_6400, "Ceph"),
        (0x0BD0_0BD0, "Lustre"),
        (0x4750_4653, "GPFS"),
    ];
    // A file system that does not say what it is is given the benefit of the doubt.
    let Ok(stat) = rustix::fs::statfs(folder) else { return Ok(()) };
    #[allow(
        clippy::unnecessary_cast,
        clippy::cast_lossless,
        reason = "the type of f_type differs between platforms"
    )]
    let found = NETWORK.iter().find(|(magic, _)| *magic == (stat.f_type as i64 & 0xFFFF_FFFF));
    match found {
        None => Ok(()),
        Some((_, name)) => {
            let message = format!(
                "{} is on a network file system ({name}), where SQLite's locks do not hold; put the queue on a local disk",
                folder.display()
            );
            Err(QueueError::new(ErrorKind::Unsupported, message))
        }
    }
}

/// SQLite would open such a file all the same, and leave a log beside it that is read-only too and stays so when the
/// file is writable again. Asked without opening it: closing it again would free SQLite's own locks in this process.
fn refuse_read_only(path: &Path) -> Result<()> {
    match rustix::fs::access(path, rustix::fs::Access::WRITE_OK).map_err(std::io::Error::from) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            let message = format!(
                "the queue {} cannot be written: {error}; see that this user may write it and its folder, and try again",
                path.display()
            );
            Err(QueueError::new(ErrorKind::Unavailable, message).with_source(error))
        }
        _ => Ok(()),
    }
}

/// Makes the file, if it is missing, for its owner alone: URLs with keys in them may stand in it. SQLite gives the files
/// beside it the same permissions. Whoever wants to share a queue grants that with `chmod`.
fn make_private(path: &Path) -> Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    match std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            let message = format!(
                "the queue {} cannot be made: {error}; see that its folder is there and that this user may write it",
                path.display()
            );
            Err(QueueError::new(ErrorKind::Unavailable, message).with_source(error))
        }
        _ => Ok(()),
    }
}

fn cannot_open(path: &Path, error: sqlx::Error) -> QueueError {
    let inner = failed(error);
    let message = format!("the queue {} cannot be opened: {inner}", path.display());
    QueueError::new(inner.kind(), message).with_source(inner)
}

/// An error of the database as a fact of the domain.
pub(super) fn failed(error: sqlx::Error) -> QueueError {
    // SQLite's primary result codes: https://sqlite.org/rescode.html
    let code = match &error {
        sqlx::Error::Database(inner) => {
            inner.code().and_then(|code| code.parse::<i32>().ok()).map(|code| code & 0xFF)
        }
        _ => None,
    };
    let (kind, what) = match code {
        Some(5 | 6) => {
            (ErrorKind::Busy, "another program holds the queue's file locked; end it, or try again")
        }
        Some(13) => (
            ErrorKind::Unavailable,
            "the disk that holds the queue is full; nothing is lost, make room and try again",
        ),
        Some(8) => (
            ErrorKind::Unavailable,
            "the queue's file is read-only; see that this user may write it and its folder, and try again",
        ),
        Some(10 | 14) => (
            ErrorKind::Unavailable,
            "the queue's file cannot be read or written; see that its disk is there and has room, that this user may \
             write it and its folder, and try again",
        ),
        Some(11) => (
            ErrorKind::Corrupt,
            "the queue's file is damaged; end all runs, keep a copy, and restore it from a backup or save what is left with \
             sqlite3's `.recover`",
        ),
        Some(26) => (
            ErrorKind::Corrupt,
            "this is no SQLite database, so it is no queue; name the queue's file with --queue",
        ),
        Some(_) => (ErrorKind::Corrupt, "the queue's database refused a statement"),
        None => (ErrorKind::Unavailable, "the queue's database does not answer"),
    };
    QueueError::new(kind, format!("{what} ({error})")).with_source(error)
}

/// The same error with the file that it is about, where whoever reads it has to do something to that file.
pub(super) fn located(path: &Path, error: QueueError) -> QueueError {
    match error.kind() {
        ErrorKind::Busy | ErrorKind::Unavailable | ErrorKind::Corrupt => {
            let message = format!("the queue {}: {error}", path.display());
            QueueError::new(error.kind(), message).with_source(error)
        }
        _ => error,
    }
}
