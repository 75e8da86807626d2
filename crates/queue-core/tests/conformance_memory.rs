//! The conformance suite on the reference model, once through one handle and once with its calls spread over three.
#![cfg(feature = "conformance")]

use std::sync::Arc;

use async_trait::async_trait;
use longhaul_limiter::ManualClock;
use longhaul_queue_core::MemoryQueue;
use longhaul_queue_core::conformance::{Backend, QueueHandle, Store};

/// Handles on a queue in memory are its clones.
#[derive(Debug)]
struct Memory {
    handles: usize,
}

struct MemoryStore(MemoryQueue);

#[async_trait]
impl Backend for Memory {
    async fn fresh(&self, clock: ManualClock) -> Box<dyn Store> {
        Box::new(MemoryStore(MemoryQueue::new(Arc::new(clock))))
    }

    fn is_durable(&self) -> bool {
        false
    }

    fn handles(&self) -> usize {
        self.handles
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn open(&self) -> Arc<dyn QueueHandle> {
        Arc::new(self.0.clone())
    }
}

longhaul_queue_core::conformance_tests!(Memory { handles: 1 });

mod spread_over_three_handles {
    use super::Memory;

    longhaul_queue_core::conformance_tests!(Memory { handles: 3 });
}
