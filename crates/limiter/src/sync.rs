//! What tasks share: the standard library's, or those whose interleavings are searched (`--cfg shuttle`, see
//! `interleavings`).

#[cfg(not(shuttle))]
pub(crate) use std::sync::atomic::{AtomicUsize, Ordering};
#[cfg(not(shuttle))]
pub(crate) use std::sync::{Mutex, MutexGuard};

#[cfg(shuttle)]
pub(crate) use shuttle::sync::atomic::{AtomicUsize, Ordering};
#[cfg(shuttle)]
pub(crate) use shuttle::sync::{Mutex, MutexGuard};
