//! Opens the queue. The one place that knows which store there is.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use longhaul_limiter::{Clock, Keying};
use longhaul_queue_core::{
    Backend, ErrorKind, QueueAdmin, QueueConfig, QueueError, Result, SqliteQueue, WorkQueue,
};
use tokio::sync::OnceCell;

use crate::args::{Durability, Global};

/// An open queue.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    /// Where it is, for messages.
    pub(crate) path: PathBuf,
    /// For work.
    pub(crate) queue: Arc<dyn WorkQueue>,
    /// For operators' acts.
    pub(crate) admin: Arc<dyn QueueAdmin>,
    /// What tells its jobs from another queue's.
    pub(crate) id: String,
    /// How hosts become lanes in it.
    pub(crate) keying: Keying,
}

/// The queues that a command has opened: its end closes them, however it comes to it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Opened(Arc<Mutex<Vec<SqliteQueue>>>);

impl Opened {
    fn lock(&self) -> MutexGuard<'_, Vec<SqliteQueue>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes them, so that no log is left beside their files.
    pub(crate) async fn close(&self) {
        let queues = std::mem::take(&mut *self.lock());
        for queue in queues {
            queue.close().await;
        }
    }
}

/// A queue that is opened, and made if it is missing, when it is first needed: what fails before leaves no empty one behind.
#[derive(Debug)]
pub(crate) struct Opening<'a> {
    how: Option<(&'a Global, Arc<dyn Clock>)>,
    store: OnceCell<Store>,
}

impl<'a> Opening<'a> {
    /// Of the queue that the command line names.
    pub(crate) fn new(global: &'a Global, clock: Arc<dyn Clock>) -> Self {
        Self { how: Some((global, clock)), store: OnceCell::new() }
    }

    /// Of one that is open.
    pub(crate) fn opened(store: Store) -> Self {
        Self { how: None, store: OnceCell::from(store) }
    }

    /// The queue.
    pub(crate) async fn store(&self) -> Result<&Store> {
        let open = || async {
            match &self.how {
                Some((global, clock)) => Store::open(global, true, Arc::clone(clock)).await,
                None => Err(QueueError::new(ErrorKind::Invalid, "no queue is named")),
            }
        };
        self.store.get_or_try_init(open).await
    }
}

impl Store {
    /// Opens the queue that the command line names; `create` makes it if it is missing.
    pub(crate) async fn open(global: &Global, create: bool, clock: Arc<dyn Clock>) -> Result<Self> {
        let keying = global.keying();
        let durability = match global.durability {
            Durability::Full => longhaul_queue_core::Durability::Full,
            Durability::Normal => longhaul_queue_core::Durability::Normal,
        };
        let config =
            QueueConfig { backend: Backend::Sqlite, path: global.queue.clone(), wal_mode: true, durability };
        let options = config.sqlite_options(create, keying.clone())?;
        let queue = SqliteQueue::open(options, clock).await?;
        global.opened.lock().push(queue.clone());
        Ok(Self {
            path: global.queue.clone(),
            id: queue.id().to_owned(),
            queue: Arc::new(queue.clone()),
            admin: Arc::new(queue),
            keying,
        })
    }

    /// Where it is, for messages.
    pub(crate) fn name(&self) -> std::path::Display<'_> {
        Path::display(&self.path)
    }
}
