//! The seam through which every crate learns the time, and a clock for tests that only moves when told.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Poll, Waker};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;

/// Where time comes from.
///
/// # Contract
/// `monotonic` never goes back, counts time spent in suspend, and is the same for all processes of one boot;
/// `wall` is what people read and may step in any direction, so nothing is ever decided by it; `boot` differs
/// between two boots of a machine.
#[async_trait]
pub trait Clock: Debug + Send + Sync + 'static {
    /// Time since some fixed instant of this boot.
    fn monotonic(&self) -> Duration;

    /// The calendar's time.
    fn wall(&self) -> SystemTime;

    /// An identifier of this boot of this machine.
    fn boot(&self) -> String;

    /// Waits until `monotonic` has advanced by `duration`. Cancel-safe: dropping the future forgets it.
    async fn sleep(&self, duration: Duration);
}

/// A clock that stands still until [`ManualClock::advance`] moves it. Clones share the time.
#[derive(Debug, Clone)]
pub struct ManualClock {
    shared: Arc<Mutex<Manual>>,
}

#[derive(Debug)]
struct Manual {
    monotonic: Duration,
    wall: SystemTime,
    boot: String,
    sleepers: BTreeMap<u64, (Duration, Waker)>,
    sleeps: u64,
}

impl ManualClock {
    /// A clock at an arbitrary, fixed time.
    pub fn new() -> Self {
        Self {
            shared: Arc::new(Mutex::new(Manual {
                monotonic: Duration::from_hours(24),
                wall: SystemTime::UNIX_EPOCH + Duration::from_hours(24 * 20_000),
                boot: "boot-1".to_owned(),
                sleepers: BTreeMap::new(),
                sleeps: 0,
            })),
        }
    }

    /// Moves both times forward and wakes every sleeper whose time has come.
    pub fn advance(&self, duration: Duration) {
        let mut manual = self.lock();
        manual.monotonic += duration;
        manual.wall += duration;
        let now = manual.monotonic;
        manual.sleepers.retain(|_, (until, waker)| {
            let waits = *until > now;
            if !waits {
                waker.wake_by_ref();
            }
            waits
        });
    }

    /// Steps the wall clock alone, as an administrator or NTP may.
    pub fn set_wall(&self, wall: SystemTime) {
        self.lock().wall = wall;
    }

    /// As after a restart of the machine: a new boot whose monotonic time starts near zero.
    pub fn reboot(&self) {
        let mut manual = self.lock();
        manual.boot.push('\'');
        manual.monotonic = Duration::from_secs(1);
    }

    /// How many tasks sleep on this clock now.
    pub fn sleepers(&self) -> usize {
        self.lock().sleepers.len()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Manual> {
        // The state is plain data, whole after every statement, so a panic elsewhere cannot have torn it.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for ManualClock {
    fn default() -> Self {
        Self::new()
    }
}

/// One sleep; forgotten when it ends or is dropped.
struct Sleep {
    clock: ManualClock,
    id: u64,
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.clock.lock().sleepers.remove(&self.id);
    }
}

#[async_trait]
impl Clock for ManualClock {
    fn monotonic(&self) -> Duration {
        self.lock().monotonic
    }

    fn wall(&self) -> SystemTime {
        self.lock().wall
    }

    fn boot(&self) -> String {
        self.lock().boot.clone()
    }

    async fn sleep(&self, duration: Duration) {
        let (until, sleep) = {
            let mut manual = self.lock();
            manual.sleeps += 1;
            (manual.monotonic + duration, Sleep { clock: self.clone(), id: manual.sleeps })
        };
        poll_fn(|context| {
            let mut manual = sleep.clock.lock();
            if manual.monotonic >= until {
                return Poll::Ready(());
            }
            manual.sleepers.insert(sleep.id, (until, context.waker().clone()));
            Poll::Pending
        })
        .await;
    }
}
