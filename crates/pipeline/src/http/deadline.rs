//! Time limits by the context's clock: one for silence, one for the try as a whole, and the end of the claim.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use longhaul_limiter::Clock;
use tokio_util::sync::CancellationToken;

/// What cut a wait short.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Late {
    /// Nothing happened for too long.
    Silent,
    /// The try has taken too long.
    Whole,
    /// The claim is lost or the run is being stopped.
    Cancelled,
}

/// Watches over the waits of one request. One timer serves them all and is set anew only when it rings, so that
/// a body of many chunks costs no timer for each.
pub(super) struct Deadline<'a> {
    clock: &'a dyn Clock,
    cancelled: &'a CancellationToken,
    whole: Duration,
    silence: Duration,
    heard: Duration,
    timer: Option<Pin<Box<dyn Future<Output = ()> + Send + 'a>>>,
}

impl<'a> Deadline<'a> {
    /// Allows so much silence from now on, and nothing beyond `whole` (a time of the clock).
    pub(super) fn new(
        clock: &'a dyn Clock,
        cancelled: &'a CancellationToken,
        silence: Duration,
        whole: Duration,
    ) -> Self {
        let heard = clock.monotonic();
        Self { clock, cancelled, whole, silence, heard, timer: None }
    }

    /// Waits for something, but not for longer than is allowed. That it happened ends the silence.
    pub(super) async fn wait<T>(&mut self, what: impl Future<Output = T>) -> Result<T, Late> {
        let cancelled = self.cancelled;
        let happened = tokio::select! {
            biased;
            () = cancelled.cancelled() => Err(Late::Cancelled),
            happened = what => Ok(happened),
            late = self.expired() => Err(late),
        };
        self.heard = self.clock.monotonic();
        happened
    }

    /// Waits for something that is not the host's doing: only the end of the claim and of the whole cut it short.
    pub(super) async fn wait_of_ours<T>(&mut self, what: impl Future<Output = T>) -> Result<T, Late> {
        let silence = std::mem::replace(&mut self.silence, Duration::MAX / 4);
        // One that is set for the long silence would ring too late for the short one.
        let timer = self.timer.take();
        let happened = self.wait(what).await;
        (self.silence, self.timer) = (silence, timer);
        happened
    }

    async fn expired(&mut self) -> Late {
        loop {
            if let Some(timer) = &mut self.timer {
                timer.await;
                self.timer = None;
            }
            let now = self.clock.monotonic();
            if now >= self.whole {
                return Late::Whole;
            }
            let silent_until = self.heard + self.silence;
            if now >= silent_until {
                return Late::Silent;
            }
            self.timer = Some(self.clock.sleep(silent_until.min(self.whole).saturating_sub(now)));
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::future::pending;

    use longhaul_limiter::ManualClock;
    use tokio::sync::mpsc;

    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[tokio::test]
    async fn each_sign_of_life_ends_the_silence_but_the_whole_has_an_end() {
        let (clock, token) = (ManualClock::new(), CancellationToken::new());
        let mut deadline = Deadline::new(&clock, &token, seconds(30), clock.monotonic() + seconds(100));
        let (say, mut hear) = mpsc::unbounded_channel();
        for _ in 0..4 {
            clock.advance(seconds(20));
            say.send(()).unwrap();
            assert_eq!(deadline.wait(hear.recv()).await, Ok(Some(())));
        }
        clock.advance(seconds(20));
        assert_eq!(deadline.wait(pending::<()>()).await, Err(Late::Whole));
    }

    #[tokio::test]
    async fn silence_and_cancellation_end_a_wait() {
        let (clock, token) = (ManualClock::new(), CancellationToken::new());
        let mut deadline = Deadline::new(&clock, &token, seconds(30), clock.monotonic() + seconds(100));
        clock.advance(seconds(30));
        assert_eq!(deadline.wait(pending::<()>()).await, Err(Late::Silent));
        token.cancel();
        assert_eq!(deadline.wait(pending::<()>()).await, Err(Late::Cancelled));
    }
}
