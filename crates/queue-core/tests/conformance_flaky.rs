//! The conformance suite through a decorator, on each store behind it: what it passes on it passes on whole.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![cfg(all(feature = "conformance", feature = "fakes"))]

use std::sync::Arc;

use async_trait::async_trait;
use longhaul_limiter::ManualClock;
use longhaul_queue_core::conformance::{Backend, QueueHandle, Store};
use longhaul_queue_core::{FlakyPlan, FlakyQueue, MemoryQueue};

#[derive(Debug)]
struct OnMemory;

struct MemoryStore(MemoryQueue);

#[async_trait]
impl Backend for OnMemory {
    async fn fresh(&self, clock: ManualClock) -> Box<dyn Store> {
        Box::new(MemoryStore(MemoryQueue::new(Arc::new(clock))))
    }

    fn is_durable(&self) -> bool {
        false
    }

    fn handles(&self) -> usize {
        1
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn open(&self) -> Arc<dyn QueueHandle> {
        Arc::new(FlakyQueue::new(self.0.clone(), FlakyPlan::default()))
    }
}

longhaul_queue_core::conformance_tests!(OnMemory);

#[cfg(feature = "sqlite")]
mod on_sqlite {
    use std::sync::Arc;

    use async_trait::async_trait;
    use longhaul_limiter::ManualClock;
    use longhaul_queue_core::conformance::{Backend, QueueHandle, Store};
    use longhaul_queue_core::{FlakyPlan, FlakyQueue, SqliteOptions, SqliteQueue};

    #[derive(Debug)]
    struct OnSqlite;

    struct SqliteStore {
        folder: tempfile::TempDir,
        clock: ManualClock,
    }

    #[async_trait]
    impl Backend for OnSqlite {
        async fn fresh(&self, clock: ManualClock) -> Box<dyn Store> {
            Box::new(SqliteStore { folder: tempfile::tempdir().unwrap(), clock })
        }

        fn is_durable(&self) -> bool {
            true
        }

        fn handles(&self) -> usize {
            1
        }
    }

    #[async_trait]
    impl Store for SqliteStore {
        async fn open(&self) -> Arc<dyn QueueHandle> {
            let options = SqliteOptions::new(self.folder.path().join("queue.sqlite"));
            let queue = SqliteQueue::open(options, Arc::new(self.clock.clone())).await.unwrap();
            Arc::new(FlakyQueue::new(queue, FlakyPlan::default()))
        }
    }

    longhaul_queue_core::conformance_tests!(OnSqlite);
}
