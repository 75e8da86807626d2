//! Precise waiting. Tokio's timer counts whole milliseconds and rounds up, which adds one to two milliseconds to
//! each latency: too much where a benchmark of the makespan is built on a latency of fifty. One thread with a heap
//! and a condition variable wakes within the kernel's own precision.
//!
//! It never wakes early.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use std::{io, thread};

use tokio::sync::oneshot;

use crate::clock;

/// A handle to the timer thread, which ends when the last handle is dropped.
#[derive(Debug, Clone)]
pub(crate) struct Timer {
    handle: Arc<Handle>,
}

#[derive(Debug)]
struct Handle(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: BinaryHeap<Reverse<Alarm>>,
    next_number: u64,
    stopped: bool,
}

#[derive(Debug)]
struct Alarm {
    at: Instant,
    number: u64,
    wake: oneshot::Sender<()>,
}

impl Timer {
    pub(crate) fn start() -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let for_thread = Arc::clone(&shared);
        thread::Builder::new().name("origin-timer".into()).spawn(move || for_thread.run())?;
        Ok(Self { handle: Arc::new(Handle(shared)) })
    }

    /// Resolves at `at` or as soon after it as the machine allows, at once if it has passed. A dropped receiver
    /// costs nothing but its place in the heap until then.
    pub(crate) fn at(&self, at: Instant) -> oneshot::Receiver<()> {
        let (wake, woken) = oneshot::channel();
        let shared = &self.handle.0;
        let mut state = shared.lock();
        let number = state.next_number;
        state.next_number += 1;
        let first = state.waiting.peek().is_none_or(|Reverse(alarm)| at < alarm.at);
        state.waiting.push(Reverse(Alarm { at, number, wake }));
        drop(state);
        if first {
            shared.changed.notify_one();
        }
        woken
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.lock().stopped = true;
        self.0.changed.notify_one();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        let mut due = Vec::new();
        let mut state = self.lock();
        while !state.stopped {
            let now = clock::now().instant;
            while state.waiting.peek().is_some_and(|Reverse(alarm)| alarm.at <= now) {
                due.extend(state.waiting.pop());
            }
            if due.is_empty() {
                state = match state.waiting.peek() {
                    Some(Reverse(alarm)) => {
                        let rest = alarm.at.saturating_duration_since(now);
                        self.changed.wait_timeout(state, rest).unwrap_or_else(PoisonError::into_inner).0
                    }
                    None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                };
            } else {
                // Waking writes to another thread's event queue: not under the lock that it may want next.
                drop(state);
                for Reverse(alarm) in due.drain(..) {
                    let _the_waiter_may_have_left = alarm.wake.send(());
                }
                state = self.lock();
            }
        }
    }
}

impl PartialEq for Alarm {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Alarm {}

impl PartialOrd for Alarm {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Alarm {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn alarms_come_in_their_order_and_never_early() {
        let timer = Timer::start().unwrap();
        let start = clock::now().instant;
        let late = timer.at(start + Duration::from_millis(20));
        let soon = timer.at(start + Duration::from_millis(5));
        let past = timer.at(start);
        past.await.unwrap();
        soon.await.unwrap();
        assert!(start.elapsed() >= Duration::from_millis(5));
        late.await.unwrap();
        assert!(start.elapsed() >= Duration::from_millis(20));
    }

    #[tokio::test]
    async fn the_thread_ends_with_the_last_handle() {
        let timer = Timer::start().unwrap();
        let never = timer.at(clock::now().instant + Duration::from_hours(1));
        drop(timer);
        assert!(never.await.is_err(), "the sender goes down with the thread");
    }
}
