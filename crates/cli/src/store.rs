//! Opens the queue. The one place that knows which store there is.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use longhaul_limiter::{Clock, Keying};
use longhaul_queue_core::{Backend, QueueAdmin, QueueConfig, Result, SqliteQueue, WorkQueue};

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
