//! The conformance suite on SQLite, once through one handle and once with its calls spread over two on one file.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![cfg(all(feature = "conformance", feature = "sqlite"))]

use std::sync::Arc;

use async_trait::async_trait;
use longhaul_limiter::ManualClock;
use longhaul_queue_core::conformance::{Backend, QueueHandle, Store};
use longhaul_queue_core::{SqliteOptions, SqliteQueue};

#[derive(Debug)]
struct Sqlite {
    handles: usize,
}

struct SqliteStore {
    folder: tempfile::TempDir,
    clock: ManualClock,
}

#[async_trait]
impl Backend for Sqlite {
    async fn fresh(&self, clock: ManualClock) -> Box<dyn Store> {
        Box::new(SqliteStore { folder: tempfile::tempdir().unwrap(), clock })
    }

    fn is_durable(&self) -> bool {
        true
    }

    fn handles(&self) -> usize {
        self.handles
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn open(&self) -> Arc<dyn QueueHandle> {
        let options = SqliteOptions::new(self.folder.path().join("queue.sqlite"));
        Arc::new(SqliteQueue::open(options, Arc::new(self.clock.clone())).await.unwrap())
    }
}

longhaul_queue_core::conformance_tests!(Sqlite { handles: 1 });

mod spread_over_two_handles {
    use super::Sqlite;

    longhaul_queue_core::conformance_tests!(Sqlite { handles: 2 });
}
