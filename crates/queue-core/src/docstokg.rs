//! The queue file of DocsToKG, from which longhaul takes over: read a page at a time, and never written.
//!
//! Knows that file's one table, and what its columns may hold. What an artifact in it means is for others to say.

use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::TryStreamExt as _;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use sqlx::sqlite::{SqliteConnectOptions, SqliteRow};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Row as _, SqliteConnection};
use sqlx::{TypeInfo as _, ValueRef as _};

use crate::{ErrorKind, JobState, QueueError, Result, Timestamp};

/// How long to wait for the old system's own writes.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
/// A page ends early with so much text.
const PAGE_BYTES: usize = 4 << 20;
/// How much is kept of a text that is too long, in characters.
const KEPT: usize = 4096;

/// Without these there is nothing to take over.
const NEEDED: [&str; 3] = ["artifact_id", "artifact_json", "state"];
/// Files of older versions may lack these. `worker_id` and `lease_expires_at` are not read: whoever holds a job there
/// holds nothing here.
const OPTIONAL: [&str; 6] =
    ["attempts", "last_error", "resolver_hint", "created_at", "updated_at", "available_at"];

/// An old queue, as it was at one moment: what its own process writes meanwhile is not seen.
#[derive(Debug)]
pub struct DocsToKgQueue {
    path: PathBuf,
    conn: SqliteConnection,
    page: String,
    after: i64,
}

/// A row of the old queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DocsToKgRow {
    /// Its number.
    pub id: i64,
    /// The artifact as it stands there, for whoever has to look at the row; at most its first 4096 characters if it is
    /// longer than an artifact may be.
    pub artifact_json: String,
    /// Whether that is only its start.
    pub is_cut: bool,
    /// The artifact's key as it stands there, if it has one.
    pub artifact_id: Option<String>,
    /// What can be taken over, or what is wrong with it.
    pub job: Result<DocsToKgJob, String>,
}

/// What the old queue knows about a job beside its artifact. Times are wall times in milliseconds since the Unix epoch; a
/// time without a zone is UTC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DocsToKgJob {
    /// Its state there.
    pub state: JobState,
    /// Tries so far.
    pub attempts: u32,
    /// What went wrong last; the first 4096 characters of it.
    pub last_error: Option<String>,
    /// Which resolver to ask first.
    pub resolver_hint: Option<String>,
    /// When it was accepted.
    pub created_at: Option<Timestamp>,
    /// When it last changed.
    pub updated_at: Option<Timestamp>,
    /// When it may be leased.
    pub available_at: Option<Timestamp>,
}

impl DocsToKgQueue {
    /// Opens an old queue. An artifact of more than `longest` bytes is a bad row.
    ///
    /// Its own process may go on: with a write-ahead log it is not disturbed; with a rollback journal its writes wait
    /// until this is dropped.
    ///
    /// # Errors
    /// `NotFound` without the file, `Invalid` if it is no such queue, `Busy` or `Unavailable` if it cannot be read now.
    pub async fn open(path: impl Into<PathBuf>, longest: usize) -> Result<Self> {
        let path = path.into();
        let shown = path.display();
        match std::fs::metadata(&path) {
            Ok(found) if found.is_file() => {}
            Ok(_) => return Err(invalid(format!("{shown} is no file"))),
            Err(error) => {
                let kind = match error.kind() {
                    std::io::ErrorKind::NotFound => ErrorKind::NotFound,
                    _ => ErrorKind::Unavailable,
                };
                return Err(
                    QueueError::new(kind, format!("{shown} cannot be opened: {error}")).with_source(error)
                );
            }
        }
        let mut conn = connect(&path).await?;
        let columns: Vec<String> = sqlx::query_scalar("SELECT name FROM pragma_table_xinfo('jobs')")
            .fetch_all(&mut conn)
            .await
            .map_err(|error| cannot_read(&path, error))?;
        let has = |column: &str| columns.iter().any(|name| name.eq_ignore_ascii_case(column));
        if columns.is_empty() {
            return Err(invalid(format!("{shown} has no table `jobs`, so it is no queue of DocsToKG")));
        }
        if has("lease_token") && has("lane") {
            return Err(invalid(format!("{shown} is a queue of longhaul, not of DocsToKG")));
        }
        let missing: Vec<_> =
            NEEDED.iter().filter(|name| !has(name)).map(|name| format!("`{name}`")).collect();
        if !missing.is_empty() {
            let missing = missing.join(", ");
            return Err(invalid(format!(
                "the table `jobs` in {shown} has no column {missing}, so it is no queue of DocsToKG"
            )));
        }
        let page = page_statement(has, longest);
        Ok(Self { path, conn, page, after: i64::MIN })
    }

    /// The next rows, at most `most`, in the order of their numbers; none at the end. Fewer if they are large.
    pub async fn next(&mut self, most: usize) -> Result<Vec<DocsToKgRow>> {
        let (mut rows, mut bytes) = (Vec::new(), 0);
        let mut found = sqlx::query(AssertSqlSafe(self.page.as_str()))
            .bind(self.after)
            .bind(i64::try_from(most).unwrap_or(i64::MAX))
            .fetch(&mut self.conn);
        while let Some(row) = found.try_next().await.map_err(|error| cannot_read(&self.path, error))? {
            let row = read(&row);
            bytes += row.artifact_json.len();
            self.after = row.id;
            rows.push(row);
            if bytes >= PAGE_BYTES {
                break;
            }
        }
        Ok(rows)
    }

    /// Begins again with the first row, of the same moment.
    pub fn rewind(&mut self) {
        self.after = i64::MIN;
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Connects, and begins to read: what follows sees the file as it is then.
async fn connect(path: &Path) -> Result<SqliteConnection> {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(false)
        .read_only(true)
        .busy_timeout(BUSY_TIMEOUT)
        .optimize_on_close(false, None);
    match begin(&options).await {
        Ok(conn) => Ok(conn),
        // A log needs files beside the database, and in a folder that we may not write they cannot be made. Without a
        // log nobody is at work there, and the file itself is all there is.
        Err(error) if lacks_place_for_log(&error) && !has_log(path) => {
            begin(&options.immutable(true)).await.map_err(|error| cannot_read(path, error))
        }
        Err(error) => Err(cannot_read(path, error)),
    }
}

async fn begin(options: &SqliteConnectOptions) -> sqlx::Result<SqliteConnection> {
    let mut conn = options.connect().await?;
    let begun = async {
        sqlx::query("BEGIN").execute(&mut conn).await?;
        // Only the first look at the file decides what is seen.
        sqlx::query("SELECT count(*) FROM sqlite_schema").fetch_one(&mut conn).await
    };
    if let Err(error) = begun.await {
        let _ = conn.close().await;
        return Err(error);
    }
    Ok(conn)
}

fn has_log(path: &Path) -> bool {
    ["-wal", "-journal"].into_iter().any(|suffix| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        std::fs::metadata(name).is_ok_and(|found| found.len() > 0)
    })
}

/// The statement for a page: rows after ?1, at most ?2. A column that is not there is NULL. Nothing longer than it may be
/// is ever read into memory.
fn page_statement(has: impl Fn(&str) -> bool, longest: usize) -> String {
    let optional = OPTIONAL.map(|column| match column {
        column if !has(column) => format!("NULL AS {column}"),
        "attempts" => "attempts".to_owned(),
        column => format!("substr({column}, 1, {KEPT}) AS {column}"),
    });
    format!(
        "SELECT rowid AS number, substr(artifact_id, 1, {KEPT}) AS artifact_id,
             octet_length(artifact_json) > {longest} AS too_long,
             CASE WHEN octet_length(artifact_json) > {longest} THEN substr(artifact_json, 1, {KEPT}) ELSE artifact_json END
                 AS artifact_json,
             substr(state, 1, {KEPT}) AS state, {}
         FROM jobs WHERE rowid > ?1 ORDER BY rowid LIMIT ?2",
        optional.join(", ")
    )
}

fn read(row: &SqliteRow) -> DocsToKgRow {
    let lossy = |column: &str| -> Option<String> {
        let bytes: Option<Vec<u8>> = row.try_get_unchecked(column).ok()?;
        bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
    };
    DocsToKgRow {
        id: row.get("number"),
        artifact_json: lossy("artifact_json").unwrap_or_default(),
        is_cut: is_too_long(row),
        artifact_id: lossy("artifact_id").filter(|id| !id.trim().is_empty()),
        job: job(row),
    }
}

fn job(row: &SqliteRow) -> Result<DocsToKgJob, String> {
    if text(row, "artifact_json")?.is_none() {
        return Err("`artifact_json` is empty".to_owned());
    }
    if is_too_long(row) {
        return Err("`artifact_json` is longer than an artifact may be".to_owned());
    }
    text(row, "artifact_id")?;
    let named = text(row, "state")?.ok_or("`state` is empty")?;
    let state = JobState::parse(&named)
        .ok_or_else(|| format!("`state` is {:?}, not one of {}", cut(&named), states()))?;
    Ok(DocsToKgJob {
        state,
        attempts: attempts(row)?,
        last_error: text(row, "last_error")?,
        resolver_hint: text(row, "resolver_hint")?,
        created_at: time(row, "created_at")?,
        updated_at: time(row, "updated_at")?,
        available_at: time(row, "available_at")?,
    })
}

fn is_too_long(row: &SqliteRow) -> bool {
    row.get::<Option<bool>, _>("too_long") == Some(true)
}

/// A text that is not blank.
fn text(row: &SqliteRow, column: &str) -> Result<Option<String>, String> {
    let found = row.try_get_raw(column).map_err(|error| format!("`{column}` cannot be read: {error}"))?;
    if found.is_null() {
        return Ok(None);
    }
    let kind = found.type_info();
    if kind.name() != "TEXT" {
        return Err(format!("`{column}` is {}, not text", kind.name().to_ascii_lowercase()));
    }
    let text: String = row.try_get(column).map_err(|_| format!("`{column}` is not UTF-8"))?;
    Ok(Some(text).filter(|text| !text.trim().is_empty()))
}

fn attempts(row: &SqliteRow) -> Result<u32, String> {
    let wrong = || "`attempts` is not a whole number from 0 on".to_owned();
    let found = row.try_get_raw("attempts").map_err(|_| wrong())?;
    if found.is_null() {
        return Ok(0);
    }
    let attempts: i64 = row.try_get("attempts").map_err(|_| wrong())?;
    u32::try_from(attempts).map_err(|_| wrong())
}

fn time(row: &SqliteRow, column: &str) -> Result<Option<Timestamp>, String> {
    let Some(text) = text(row, column)? else { return Ok(None) };
    let at = parse_time(text.trim());
    at.map(Some)
        .ok_or_else(|| format!("`{column}` is not a time like 2026-01-31T12:00:00+00:00: {:?}", cut(&text)))
}

/// ISO 8601 as Python writes it: with or without a fraction, with or without a zone.
fn parse_time(text: &str) -> Option<Timestamp> {
    let zoned = text.parse::<jiff::Timestamp>().ok();
    let at = zoned.or_else(|| {
        let civil: DateTime = text.parse().ok()?;
        TimeZone::UTC.to_timestamp(civil).ok()
    })?;
    Some(Timestamp(at.as_millisecond()))
}

fn states() -> String {
    JobState::ALL.map(JobState::as_str).join(", ")
}

/// The start of a text, short enough for a message.
fn cut(text: &str) -> String {
    text.chars().take(60).collect()
}

fn invalid(message: String) -> QueueError {
    QueueError::new(ErrorKind::Invalid, message)
}

/// SQLite's primary result code: https://sqlite.org/rescode.html
fn code(error: &sqlx::Error) -> Option<i32> {
    let sqlx::Error::Database(inner) = error else { return None };
    inner.code()?.parse::<i32>().ok()
}

/// The CANTOPEN and READONLY_DIRECTORY of SQLite.
fn lacks_place_for_log(error: &sqlx::Error) -> bool {
    code(error).is_some_and(|code| code & 0xFF == 14 || code == 1544)
}

/// The READONLY_ROLLBACK and READONLY_RECOVERY of SQLite: a transaction was cut off, and mending it means to write.
const UNFINISHED: [i32; 2] = [776, 264];

fn cannot_read(path: &Path, error: sqlx::Error) -> QueueError {
    let shown = path.display();
    let (kind, message) = match code(&error) {
        Some(26) => (ErrorKind::Invalid, format!("{shown} is no SQLite file")),
        Some(code) if UNFINISHED.contains(&code) => (
            ErrorKind::Unavailable,
            format!(
                "{shown} was left in the middle of a write, and only a program that may change it can mend that; open it \
                 once with DocsToKG or `sqlite3`"
            ),
        ),
        Some(code) if matches!(code & 0xFF, 5 | 6) => {
            (ErrorKind::Busy, format!("{shown} is locked by another program; try again when it rests"))
        }
        Some(code) if code & 0xFF == 11 => (ErrorKind::Corrupt, format!("{shown} is damaged ({error})")),
        _ => (ErrorKind::Unavailable, format!("{shown} cannot be read ({error})")),
    };
    QueueError::new(kind, message).with_source(error)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn times_are_read_as_python_writes_them() {
        let noon = Timestamp(1_704_110_400_000);
        for text in [
            "2024-01-01T12:00:00+00:00",
            "2024-01-01T12:00:00Z",
            "2024-01-01T12:00:00",
            "2024-01-01 12:00:00",
            "2024-01-01T12:00:00.000000",
            "2024-01-01T14:30:00.000+02:30",
        ] {
            assert_eq!(parse_time(text), Some(noon), "{text}");
        }
        assert_eq!(parse_time("2024-01-01T12:00:00.123456+00:00"), Some(Timestamp(noon.0 + 123)));
        for text in ["yesterday", "2024-13-01T00:00:00", "1704110400"] {
            assert_eq!(parse_time(text), None, "{text}");
        }
    }
}
