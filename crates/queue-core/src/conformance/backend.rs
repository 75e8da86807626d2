//! What the author of a backend provides.

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use longhaul_limiter::ManualClock;

use crate::{QueueAdmin, WorkQueue};

/// A handle on a store: both halves of the contract.
pub trait QueueHandle: WorkQueue + QueueAdmin {}

impl<Q: WorkQueue + QueueAdmin> QueueHandle for Q {}

/// A kind of store.
#[async_trait]
pub trait Backend: Debug + Send + Sync {
    /// An empty store whose time is this clock's.
    async fn fresh(&self, clock: ManualClock) -> Box<dyn Store>;

    /// Whether what was answered outlives all handles. Cases about that are left out, and say so, if not.
    fn is_durable(&self) -> bool;

    /// Over how many handles the calls of a case are spread, one after the other. With more than one, every case shows
    /// that processes agree.
    fn handles(&self) -> usize;
}

/// One store, until it is dropped.
#[async_trait]
pub trait Store: Send + Sync {
    /// One more handle, as another process would have.
    async fn open(&self) -> Arc<dyn QueueHandle>;
}
