//! Copying the write-ahead log back into the database, so that the log stays short.
//!
//! All checkpoints of a handle are made by one task: SQLite answers the second of two at once with "busy", whatever it was
//! asked to wait for. Another process may checkpoint at the same time; that is tried again soon, and not for long.

use std::path::PathBuf;
use std::time::Duration;

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _, SqliteConnection};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

/// After so many more bytes of log what it holds is copied back, beside the writer.
pub(super) const COPY_EVERY: u64 = 8 << 20;
/// A log of so many bytes is emptied before the next transaction begins. Copying beside a writer that never rests does not
/// reach the log's end, and the file would grow without bound.
const EMPTY_AT: u64 = 24 << 20;
/// So many bytes a transaction may add before it takes no further call. Its last call and the pages that SQLite still keeps
/// in memory come on top.
const ROOM: u64 = 20 << 20;
/// A log of so many bytes was left by a process that was killed, and is emptied when the queue is opened.
const LEFT_BEHIND: u64 = 40 << 20;
/// How long emptying waits for readers. Ours are shorter; a backup may read for hours, and meanwhile nobody could write.
const READERS_PATIENCE: Duration = Duration::from_millis(250);
/// How often a checkpoint that met another process's is tried again, and after how long each.
const TRIES: u32 = 50;
const TRY_EVERY: Duration = Duration::from_millis(5);

/// How long the log is, and what that calls for.
#[derive(Debug)]
pub(super) struct Log {
    path: PathBuf,
    copy_at: u64,
    empty_at: u64,
}

impl Log {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, copy_at: COPY_EVERY, empty_at: EMPTY_AT }
    }

    fn bytes(&self) -> u64 {
        std::fs::metadata(&self.path).map_or(0, |log| log.len())
    }

    /// Empties the log if it is long. The caller has the turn to write, so that no other process makes it longer meanwhile.
    /// Returns up to where the coming transaction may lengthen it.
    pub(super) async fn make_room(&mut self, checkpointer: &Checkpointer) -> u64 {
        let mut bytes = self.bytes();
        if bytes > self.empty_at {
            checkpointer.empty().await;
            bytes = self.bytes();
            // What a reader holds back is tried again when the log is longer by a quarter: the longer it is the less often,
            // since each try keeps the writer waiting.
            self.empty_at = EMPTY_AT.max(bytes + bytes / 4);
        }
        bytes.max(EMPTY_AT) + ROOM
    }

    /// Whether the log is longer than a transaction may make it.
    pub(super) fn is_beyond(&self, most: u64) -> bool {
        self.bytes() > most
    }

    /// Has the log copied back if it has grown enough since the last time.
    pub(super) fn has_grown(&mut self, checkpointer: &Checkpointer) {
        let bytes = self.bytes();
        if bytes >= self.copy_at {
            checkpointer.copy();
            self.copy_at = bytes + COPY_EVERY;
        }
        // A log that began anew is cut by the writer, and counts from there.
        self.copy_at = self.copy_at.min(bytes + COPY_EVERY);
    }
}

/// What the checkpointer is asked for.
#[derive(Debug)]
enum Request {
    Copy,
    Empty(oneshot::Sender<()>),
}

/// The task that makes all checkpoints of a handle. It opens its connection when it is first asked for something.
#[derive(Debug)]
pub(super) struct Checkpointer {
    requests: mpsc::Sender<Request>,
    task: JoinHandle<()>,
}

impl Checkpointer {
    #[allow(
        clippy::disallowed_methods,
        reason = "the task ends when its handle is dropped; what it has not copied then the next process copies"
    )]
    pub(super) fn start(connect: &SqliteConnectOptions) -> Self {
        let (requests, asked) = mpsc::channel(1);
        Self { requests, task: tokio::spawn(work(patient(connect), asked)) }
    }

    /// Begins to copy the log back, unless that is being done.
    fn copy(&self) {
        let _ = self.requests.try_send(Request::Copy);
    }

    /// Copies the whole log back and cuts it off, as far as readers allow. Returns when that is done or given up.
    async fn empty(&self) {
        let (done, told) = oneshot::channel();
        if self.requests.send(Request::Empty(done)).await.is_ok() {
            let _ = told.await;
        }
    }

    /// Ends the task and closes its connection.
    pub(super) async fn close(self) {
        drop(self.requests);
        if let Err(error) = self.task.await {
            tracing::debug!(%error, "the task that copies the write-ahead log back did not end in order");
        }
    }
}

async fn work(connect: SqliteConnectOptions, mut asked: mpsc::Receiver<Request>) {
    let mut open = None;
    while let Some(request) = asked.recv().await {
        let conn = match open.take() {
            Some(conn) => Ok(conn),
            None => connect.connect().await,
        };
        let done = match conn {
            Ok(mut conn) => {
                let done = match request {
                    Request::Copy => copy(&mut conn).await,
                    Request::Empty(_) => empty(&mut conn).await,
                };
                open = Some(conn);
                done
            }
            Err(error) => Err(error),
        };
        // The log just stays as long as it is.
        if let Err(error) = done {
            tracing::debug!(%error, "the write-ahead log could not be copied back; it is tried again when it has grown");
        }
        if let Request::Empty(done) = request {
            let _ = done.send(());
        }
    }
    if let Some(conn) = open {
        let _ = conn.close().await;
    }
}

/// Empties a log that a killed process left behind: whoever opens the queue after it would read all of it again.
pub(super) async fn empty_if_left(log: PathBuf, connect: &SqliteConnectOptions) -> sqlx::Result<()> {
    if Log::new(log).bytes() > LEFT_BEHIND {
        let mut conn = patient(connect).connect().await?;
        empty(&mut conn).await?;
        conn.close().await?;
    }
    Ok(())
}

/// The options of a connection for checkpoints, which has less patience with readers than the writer with other writers.
fn patient(connect: &SqliteConnectOptions) -> SqliteConnectOptions {
    connect.clone().busy_timeout(READERS_PATIENCE)
}

/// What SQLite says of a checkpoint: whether something was in its way, and the log's frames, or -1 if that was another
/// checkpoint.
async fn checkpoint(conn: &mut SqliteConnection, how: &'static str) -> sqlx::Result<(bool, i64)> {
    let (busy, frames, _copied): (i64, i64, i64) = sqlx::query_as(how).fetch_one(conn).await?;
    Ok((busy != 0, frames))
}

/// Never waits for readers or the writer; what it leaves the next one copies.
async fn copy(conn: &mut SqliteConnection) -> sqlx::Result<()> {
    checkpoint(conn, "PRAGMA wal_checkpoint(PASSIVE)").await.map(drop)
}

async fn empty(conn: &mut SqliteConnection) -> sqlx::Result<()> {
    for _ in 0..TRIES {
        let (is_busy, frames) = checkpoint(conn, "PRAGMA wal_checkpoint(TRUNCATE)").await?;
        if !is_busy {
            return Ok(());
        }
        if frames >= 0 {
            tracing::debug!(frames, "a reader keeps the write-ahead log from being emptied");
            return Ok(());
        }
        // SQLite waits for readers and for writers, but not for another checkpoint.
        tokio::time::sleep(TRY_EVERY).await;
    }
    tracing::debug!("another process's checkpoint keeps the write-ahead log from being emptied");
    Ok(())
}
