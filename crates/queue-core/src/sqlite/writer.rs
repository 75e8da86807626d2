//! Group commit: concurrent calls become one transaction, and nobody is answered before it is committed
//! (INV-DURABLE-REPLY).
//!
//! If one call of a group fails, the group is rolled back and each call is carried out again on its own, so that a
//! bad one fails alone.

use std::fmt;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use sqlx::{AssertSqlSafe, Connection as _, SqliteConnection};
use tokio::sync::{mpsc, oneshot, watch};

use super::anchor::Anchor;
use super::locks::Locks;
use super::open::{BUSY_TIMEOUT, Inner, located};
use super::tx::Tx;
use crate::{Epoch, ErrorKind, QueueError, Result};

/// At most so many calls in one transaction.
const GROUP_MAX: usize = 64;
/// A transaction takes no further call after so long,
const GROUP_TIME: Duration = Duration::from_millis(400);
/// or, if another process waits for its turn, after so long.
const GROUP_TIME_OF_TURN: Duration = Duration::from_millis(5);
/// Calls that may wait for the writer before callers are held back.
const WAITING_MAX: usize = 1024;
/// After so many written rows the log is copied back into the database.
const CHECKPOINT_WEIGHT: usize = 10_000;
/// A log of so many bytes is emptied by the writer itself, between two groups: copying beside a writer that never
/// rests never reaches the log's end, and the file would grow without bound.
const LOG_MAX_BYTES: u64 = 40 << 20;
/// How much longer a log that could not be emptied gets before it is tried again.
const LOG_STEP_BYTES: u64 = 10 << 20;
/// How long emptying waits for readers. Ours are shorter; a backup may read for hours, and meanwhile nobody could write.
const READERS_PATIENCE: Duration = Duration::from_millis(250);

/// Who goes first in a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Urgency {
    /// What keeps leases alive.
    First,
    /// Everything else, in order of arrival.
    Work,
}

/// The result of carrying a call out inside a transaction.
pub(super) type Carried<'t, T> = Pin<Box<dyn Future<Output = Result<T>> + Send + 't>>;

/// A call that waits for the writer. Carried out possibly twice, answered once.
trait Call: Send {
    fn urgency(&self) -> Urgency;
    fn carry_out<'t>(&'t mut self, tx: &'t mut Tx<'_>) -> Carried<'t, ()>;
    fn answer(self: Box<Self>, committed: Result<()>);
}

struct Request<F, T> {
    urgency: Urgency,
    work: F,
    result: Option<T>,
    reply: oneshot::Sender<Result<T>>,
}

impl<F, T> Call for Request<F, T>
where
    F: for<'t> Fn(&'t mut Tx<'_>) -> Carried<'t, T> + Send,
    T: Send,
{
    fn urgency(&self) -> Urgency {
        self.urgency
    }

    fn carry_out<'t>(&'t mut self, tx: &'t mut Tx<'_>) -> Carried<'t, ()> {
        Box::pin(async move {
            self.result = Some((self.work)(tx).await?);
            tx.end_of_call();
            Ok(())
        })
    }

    fn answer(self: Box<Self>, committed: Result<()>) {
        let Request { result, reply, .. } = *self;
        let carried_out =
            || QueueError::new(ErrorKind::Corrupt, "a call was committed without being carried out");
        // A caller that has gone does not want to know; its call is carried out all the same.
        let _ = reply.send(committed.and_then(|()| result.ok_or_else(carried_out)));
    }
}

/// The way to the writer.
pub(super) struct Writer {
    calls: mpsc::Sender<Box<dyn Call>>,
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").field("waiting", &(WAITING_MAX - self.calls.capacity())).finish()
    }
}

/// What the writer's task needs.
pub(super) struct WriterParts {
    pub(super) conn: SqliteConnection,
    pub(super) checkpointer: SqliteConnection,
    pub(super) anchor: Arc<Anchor>,
    pub(super) locks: Arc<Locks>,
    pub(super) epoch: watch::Sender<u64>,
    /// The path of the write-ahead log.
    pub(super) log: PathBuf,
}

impl Writer {
    /// Starts the writer's tasks; they end when the last way to them is dropped.
    #[allow(
        clippy::disallowed_methods,
        reason = "both tasks end by themselves when the last handle is dropped, and hold nothing that needs awaiting"
    )]
    pub(super) fn start(parts: WriterParts) -> Self {
        let (calls, queue) = mpsc::channel(WAITING_MAX);
        let (written, weight) = watch::channel(0usize);
        tokio::spawn(copy_back(parts.checkpointer, weight));
        tokio::spawn(write(parts.conn, parts.anchor, parts.locks, parts.epoch, parts.log, queue, written));
        Self { calls }
    }
}

impl Inner {
    /// Has `work` carried out in a transaction and returns its result once that is committed.
    pub(super) async fn write<F, T>(&self, urgency: Urgency, work: F) -> Result<T>
    where
        F: for<'t> Fn(&'t mut Tx<'_>) -> Carried<'t, T> + Send + 'static,
        T: Send + 'static,
    {
        self.is_at_home()?;
        let ended = || QueueError::new(ErrorKind::Unavailable, "the queue's writer has ended");
        let (reply, answer) = oneshot::channel();
        let call = Request { urgency, work, result: None, reply };
        self.writer.calls.send(Box::new(call)).await.map_err(|_| ended())?;
        answer.await.map_err(|_| ended())?.map_err(|error| located(&self.path, error))
    }
}

/// The writer's task.
async fn write(
    mut conn: SqliteConnection,
    anchor: Arc<Anchor>,
    locks: Arc<Locks>,
    epoch: watch::Sender<u64>,
    log: PathBuf,
    mut queue: mpsc::Receiver<Box<dyn Call>>,
    written: watch::Sender<usize>,
) {
    let mut group: Vec<Box<dyn Call>> = Vec::new();
    let mut log_max = LOG_MAX_BYTES;
    loop {
        while group.len() < GROUP_MAX
            && let Ok(call) = queue.try_recv()
        {
            group.push(call);
        }
        if group.is_empty() && queue.recv_many(&mut group, GROUP_MAX).await == 0 {
            break;
        }
        // Stable: within an urgency the order of arrival stays.
        group.sort_by_key(|call| call.urgency() != Urgency::First);
        match commit(&mut conn, &anchor, &locks, &epoch, &written, &mut group).await {
            Ok(carried_out) => {
                for call in group.drain(..carried_out) {
                    call.answer(Ok(()));
                }
            }
            // Somebody else is in the way of all alike, and each would wait for as long again.
            Err(error) if group.len() == 1 || error.kind() == ErrorKind::Busy => {
                let (kind, message) = (error.kind(), error.to_string());
                if let Some(call) = group.pop() {
                    call.answer(Err(error));
                }
                for call in group.drain(..) {
                    call.answer(Err(QueueError::new(kind, message.clone())));
                }
            }
            Err(_) => {
                for mut call in group.drain(..) {
                    let alone = std::slice::from_mut(&mut call);
                    let committed = commit(&mut conn, &anchor, &locks, &epoch, &written, alone).await;
                    call.answer(committed.map(|_| ()));
                }
            }
        }
        if length(&log) > log_max {
            empty_log(&mut conn, &locks).await;
            let left = length(&log);
            log_max = if left > LOG_MAX_BYTES { left + LOG_STEP_BYTES } else { LOG_MAX_BYTES };
        }
    }
    // Closing copies the log back if nobody else has the file open; what it cannot do the next process does.
    let _ = conn.close().await;
}

fn length(log: &Path) -> u64 {
    std::fs::metadata(log).map_or(0, |log| log.len())
}

/// Copies the whole log back and cuts it off. Waits for readers, but not for long: nobody writes meanwhile.
async fn empty_log(conn: &mut SqliteConnection, locks: &Locks) {
    let Ok(_turn) = locks.write_turn().await else { return };
    let patience = |time: Duration| AssertSqlSafe(format!("PRAGMA busy_timeout = {}", time.as_millis()));
    let emptied = async {
        sqlx::query(patience(READERS_PATIENCE)).execute(&mut *conn).await?;
        // A reader in the way is no error here: the log just stays as long as it is.
        sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(&mut *conn).await
    };
    if let Err(error) = emptied.await {
        tracing::debug!(%error, "the write-ahead log could not be emptied; it is tried again when it has grown");
    }
    // The writer has more patience with whoever writes than with readers.
    if let Err(error) = sqlx::query(patience(BUSY_TIMEOUT)).execute(conn).await {
        tracing::debug!(%error, "the writer's patience could not be set back");
    }
}

/// Carries a group out in one transaction, as far as its time goes. Returns how many calls that were.
async fn commit(
    conn: &mut SqliteConnection,
    anchor: &Anchor,
    locks: &Locks,
    epoch: &watch::Sender<u64>,
    written: &watch::Sender<usize>,
    group: &mut [Box<dyn Call>],
) -> Result<usize> {
    let _turn = locks.write_turn().await?;
    let (carried_out, reached, weight) = match carry_out(conn, anchor, locks, group).await {
        Ok(done) => done,
        Err(error) => {
            // SQLite has rolled back by itself after some errors (a full disk), and then says that there is nothing to.
            let _ = sqlx::query("ROLLBACK").execute(conn).await;
            return Err(error);
        }
    };
    noticed(epoch, reached);
    if weight > 0 {
        written.send_modify(|total| *total = total.wrapping_add(weight));
    }
    Ok(carried_out)
}

/// Wakes whoever waits for an epoch before this one.
pub(super) fn noticed(epoch: &watch::Sender<u64>, reached: Epoch) {
    epoch.send_if_modified(|epoch| {
        let later = reached.0 > *epoch;
        *epoch = reached.0.max(*epoch);
        later
    });
}

async fn carry_out(
    conn: &mut SqliteConnection,
    anchor: &Anchor,
    locks: &Locks,
    group: &mut [Box<dyn Call>],
) -> Result<(usize, Epoch, usize)> {
    let began = anchor.clock().monotonic();
    let mut tx = Tx::begin(conn, anchor.now()).await?;
    let mut carried_out = 0;
    for call in group {
        call.carry_out(&mut tx).await?;
        carried_out += 1;
        let spent = anchor.clock().monotonic().saturating_sub(began);
        if spent >= GROUP_TIME || (spent >= GROUP_TIME_OF_TURN && locks.others_wait()) {
            break;
        }
    }
    tx.commit().await?;
    Ok((carried_out, tx.epoch(), tx.weight))
}

/// Copies the log back into the database now and then, off the path of the replies.
async fn copy_back(mut conn: SqliteConnection, mut weight: watch::Receiver<usize>) {
    let mut copied = 0usize;
    while weight.changed().await.is_ok() {
        let total = *weight.borrow_and_update();
        if total.wrapping_sub(copied) >= CHECKPOINT_WEIGHT {
            copied = total;
            // PASSIVE never waits for readers or the writer; what it leaves the next one copies.
            if let Err(error) = sqlx::query("PRAGMA wal_checkpoint(PASSIVE)").execute(&mut conn).await {
                tracing::debug!(%error, "the write-ahead log could not be copied back; it is tried again later");
            }
        }
    }
}
