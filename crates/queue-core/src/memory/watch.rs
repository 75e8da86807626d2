//! Waiting for the next epoch without a runtime.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use super::Shared;
use crate::{Epoch, Result};

/// Who is to be woken by the next change.
#[derive(Debug, Default)]
pub(super) struct Watchers {
    wakers: BTreeMap<u64, Waker>,
    next: u64,
}

impl Watchers {
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.wakers.len()
    }

    /// Everybody, to be woken after the lock was let go.
    pub(super) fn take(&mut self) -> Vec<Waker> {
        std::mem::take(&mut self.wakers).into_values().collect()
    }
}

/// Resolves once the epoch is later than `since`. Dropping it leaves nothing behind.
pub(super) struct Changed<'q> {
    shared: &'q Shared,
    since: Epoch,
    ticket: Option<u64>,
}

impl<'q> Changed<'q> {
    pub(super) fn new(shared: &'q Shared, since: Epoch) -> Self {
        Self { shared, since, ticket: None }
    }
}

impl Future for Changed<'_> {
    type Output = Result<Epoch>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = match self.shared.lock() {
            Ok(state) => state,
            Err(error) => return Poll::Ready(Err(error)),
        };
        // Looked at under the lock that every change takes: no wake-up falls between the look and the waiting.
        if state.model.epoch > self.since.0 {
            return Poll::Ready(Ok(Epoch(state.model.epoch)));
        }
        let ticket = self.ticket.unwrap_or(state.watchers.next);
        state.watchers.next = state.watchers.next.max(ticket + 1);
        let replaced = state.watchers.wakers.insert(ticket, context.waker().clone());
        drop(state);
        drop(replaced);
        self.ticket = Some(ticket);
        Poll::Pending
    }
}

impl Drop for Changed<'_> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket
            && let Ok(mut state) = self.shared.lock()
        {
            let waker = state.watchers.wakers.remove(&ticket);
            drop(state);
            drop(waker);
        }
    }
}
