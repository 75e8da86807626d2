//! Group commit: concurrent calls become one transaction, and nobody is answered before it is committed
//! (INV-DURABLE-REPLY).
//!
//! If one call of a group fails, the group is rolled back and each call is carried out again on its own, so that a
//! bad one fails alone.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{Connection as _, SqliteConnection};
use tokio::sync::{Mutex, mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use super::anchor::Anchor;
use super::checkpoint::{Checkpointer, Log};
use super::locks::Locks;
use super::open::{Inner, failed, located, open_to_write};
use super::tx::Tx;
use crate::{Epoch, ErrorKind, QueueError, Result};

/// At most so many calls in one transaction.
const GROUP_MAX: usize = 256;
/// A transaction takes no further call after so long,
const GROUP_TIME: Duration = Duration::from_millis(400);
/// or, if another process waits for its turn, after so long.
const GROUP_TIME_OF_TURN: Duration = Duration::from_millis(5);
/// Calls that may wait for the writer before callers are held back.
const WAITING_MAX: usize = 1024;

/// After a slow commit the next group waits for those that it answered, an eighth of its time: what they have to say next
/// would else have to wait for one more slow commit,
const COMPANY_SHARE: u32 = 8;
/// but no longer than this,
const COMPANY_MAX: Duration = Duration::from_millis(10);
/// and not at all if it would be shorter than this, which no timer keeps.
const COMPANY_MIN: Duration = Duration::from_millis(1);

/// Who goes first in a group, and what a call waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Urgency {
    /// What keeps leases alive.
    First,
    /// Most things, in order of arrival.
    Work,
    /// One request of a running job: many are asked for at about the same time.
    Request,
    /// What nothing waits for: it rides along with the next call, if one comes soon.
    Mark,
}

impl Urgency {
    /// How long a call may wait for others to share its commit with.
    fn patience(self) -> Duration {
        match self {
            Urgency::First | Urgency::Work => Duration::ZERO,
            Urgency::Request => Duration::from_millis(3),
            Urgency::Mark => Duration::from_millis(20),
        }
    }
}

/// The result of carrying a call out inside a transaction.
pub(super) type Carried<'t, T> = Pin<Box<dyn Future<Output = Result<T>> + Send + 't>>;

/// A call that waits for the writer. Carried out possibly twice, answered once.
pub(super) trait Call: Send {
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
    /// Set when the writer is to end; it also ends when the last way to it is dropped.
    is_ending: watch::Sender<bool>,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer")
            .field("waiting", &(WAITING_MAX - self.calls.capacity()))
            .finish_non_exhaustive()
    }
}

/// What the writer's task needs.
pub(super) struct WriterParts {
    /// How it opens its connections when the first call comes.
    pub(super) connect: SqliteConnectOptions,
    /// The connection that opening the queue needed for its own writes, if it did.
    pub(super) conn: Option<SqliteConnection>,
    pub(super) anchor: Arc<Anchor>,
    pub(super) locks: Arc<Locks>,
    pub(super) epoch: watch::Sender<u64>,
    pub(super) log: Log,
}

impl Writer {
    /// Starts the writer's task.
    #[allow(
        clippy::disallowed_methods,
        reason = "the task ends by itself when the last handle is dropped, and `close` awaits it"
    )]
    pub(super) fn start(parts: WriterParts) -> Self {
        let (calls, queue) = mpsc::channel(WAITING_MAX);
        let (is_ending, ending) = watch::channel(false);
        let task = tokio::spawn(write(parts, queue, ending));
        Self { calls, is_ending, task: Mutex::new(Some(task)) }
    }

    /// Has the calls that wait carried out and answered, takes no more, and closes the writer's connections.
    pub(super) async fn close(&self) {
        self.is_ending.send_replace(true);
        // Whoever closes at the same time waits as well.
        let mut task = self.task.lock().await;
        if let Some(ended) = task.as_mut()
            && let Err(error) = ended.await
        {
            tracing::debug!(%error, "the queue's writer did not end in order");
        }
        *task = None;
    }
}

impl Writer {
    /// A place in the queue of calls. Cancel-safe.
    pub(super) async fn way(&self) -> Result<mpsc::Permit<'_, Box<dyn Call>>> {
        let ended = || QueueError::new(ErrorKind::Unavailable, "the queue was closed");
        self.calls.reserve().await.map_err(|_| ended())
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
        let ended = || QueueError::new(ErrorKind::Unavailable, "the queue was closed");
        let (reply, answer) = oneshot::channel();
        let call = Request { urgency, work, result: None, reply };
        self.writer.way().await?.send(Box::new(call));
        answer.await.map_err(|_| ended())?.map_err(|error| located(&self.path, error))
    }
}

/// The writer's task.
async fn write(
    parts: WriterParts,
    mut queue: mpsc::Receiver<Box<dyn Call>>,
    mut ending: watch::Receiver<bool>,
) {
    let mut writing = Writing { parts, checkpointer: None };
    let mut group: Vec<Box<dyn Call>> = Vec::new();
    let mut company = Duration::ZERO;
    loop {
        if company >= COMPANY_MIN {
            tokio::time::sleep(company).await;
        }
        while group.len() < GROUP_MAX
            && let Ok(call) = queue.try_recv()
        {
            group.push(call);
        }
        if group.is_empty() {
            tokio::select! {
                received = queue.recv_many(&mut group, GROUP_MAX) => {
                    if received == 0 {
                        break;
                    }
                }
                // An error says that the last handle was dropped, which the queue of calls says as well.
                Ok(_) = ending.wait_for(|is_ending| *is_ending), if !queue.is_closed() => {
                    queue.close();
                    continue;
                }
            }
        }
        wait_for_company(&mut group, &mut queue).await;
        let began = writing.parts.anchor.clock().monotonic();
        // Stable: within an urgency the order of arrival stays.
        group.sort_by_key(|call| call.urgency() != Urgency::First);
        match writing.commit(&mut group).await {
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
                    let committed = writing.commit(std::slice::from_mut(&mut call)).await;
                    call.answer(committed.map(|_| ()));
                }
            }
        }
        let took = writing.parts.anchor.clock().monotonic().saturating_sub(began);
        company = (took / COMPANY_SHARE).min(COMPANY_MAX);
    }
    writing.close().await;
}

/// Waits for further calls as long as all that have come have patience.
async fn wait_for_company(group: &mut Vec<Box<dyn Call>>, queue: &mut mpsc::Receiver<Box<dyn Call>>) {
    let patience = |group: &[Box<dyn Call>]| group.iter().map(|call| call.urgency().patience()).min();
    let mut waited = Duration::ZERO;
    while group.len() < GROUP_MAX
        && let Some(rest) =
            patience(group).and_then(|most| most.checked_sub(waited)).filter(|rest| !rest.is_zero())
    {
        let step = rest.min(COMPANY_MIN);
        match tokio::time::timeout(step, queue.recv()).await {
            Ok(Some(call)) => group.push(call),
            Ok(None) => break,
            Err(_) => waited += step,
        }
    }
}

/// What the writer's task works with. What it opens it opens when the first call comes: a command that only looks makes none.
struct Writing {
    parts: WriterParts,
    checkpointer: Option<Checkpointer>,
}

impl Writing {
    /// Carries a group out in one transaction, as far as its time and the log's room go. Returns how many calls that were.
    async fn commit(&mut self, group: &mut [Box<dyn Call>]) -> Result<usize> {
        let WriterParts { connect, conn, anchor, locks, epoch, log } = &mut self.parts;
        let checkpointer = self.checkpointer.get_or_insert_with(|| Checkpointer::start(connect));
        let conn = match conn {
            Some(conn) => conn,
            None => conn.insert(open_to_write(connect).await.map_err(failed)?),
        };
        let _turn = locks.write_turn().await?;
        let most = log.make_room(checkpointer).await;
        let is_full = || log.is_beyond(most);
        let (carried_out, reached) = match carry_out(conn, anchor, locks, is_full, group).await {
            Ok(done) => done,
            Err(error) => {
                // SQLite has rolled back by itself after some errors (a full disk), and then says that there is nothing to.
                let _ = sqlx::query("ROLLBACK").execute(conn).await;
                return Err(error);
            }
        };
        noticed(epoch, reached);
        log.has_grown(checkpointer);
        Ok(carried_out)
    }

    async fn close(self) {
        if let Some(checkpointer) = self.checkpointer {
            checkpointer.close().await;
        }
        // Closing copies the log back if nobody else has the file open; what it cannot do the next process does.
        if let Some(conn) = self.parts.conn {
            let _ = conn.close().await;
        }
    }
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
    is_full: impl Fn() -> bool,
    group: &mut [Box<dyn Call>],
) -> Result<(usize, Epoch)> {
    let began = anchor.clock().monotonic();
    let mut tx = Tx::begin(conn, anchor.now()).await?;
    let mut carried_out = 0;
    for call in group {
        call.carry_out(&mut tx).await?;
        carried_out += 1;
        let spent = anchor.clock().monotonic().saturating_sub(began);
        if spent >= GROUP_TIME || (spent >= GROUP_TIME_OF_TURN && locks.others_wait()) || is_full() {
            break;
        }
    }
    tx.commit().await?;
    Ok((carried_out, tx.epoch()))
}
