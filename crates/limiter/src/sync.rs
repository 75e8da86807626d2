//! The lock under what tasks share: the standard one, or the one whose interleavings are searched
//! (`--cfg shuttle`, see `interleavings`).

#[cfg(not(shuttle))]
pub(crate) use std::sync::{Mutex, MutexGuard};

#[cfg(shuttle)]
pub(crate) use shuttle::sync::{Mutex, MutexGuard};
