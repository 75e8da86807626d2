//! What a host tolerates: whether a request that has arrived is let through, refused, or came while the host was
//! closed. Pure over the moments that it is handed; it neither reads a clock nor counts.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::behaviour::{Behaviour, RetryAfter, RetryAfterForm};
use crate::clock::Moment;

/// A client that keeps its times in whole milliseconds may come back a hair before the closing's end.
const END_TOLERANCE: Duration = Duration::from_millis(2);

/// One host's state towards its clients.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    /// When the requests of the last window were let through.
    admitted: VecDeque<Instant>,
    closed: Option<Closed>,
}

#[derive(Debug, Clone)]
struct Closed {
    since: Instant,
    until: Instant,
    until_unix_seconds: u64,
    status: u16,
    form: RetryAfterForm,
}

/// What became of a request at the gate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Let through.
    Open,
    /// Refused while the host was open.
    Refused(Refusal),
    /// Came while the host was closed, this long after the closing began.
    Closed { refusal: Refusal, after: Duration },
}

/// How a refusal is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    /// The value of `Retry-After`.
    pub(crate) retry_after: Option<String>,
    /// For how long the host closed with this refusal.
    pub(crate) closes_for: Option<Duration>,
}

impl Gate {
    /// Judges one arrival. `in_flight` includes it.
    pub(crate) fn judge(&mut self, now: Moment, in_flight: u32, behaviour: &Behaviour) -> Verdict {
        if let Some(closed) = &self.closed {
            if now.instant + END_TOLERANCE < closed.until {
                let refusal = Refusal {
                    status: closed.status,
                    retry_after: Some(closed.remaining(now.instant)),
                    closes_for: None,
                };
                return Verdict::Closed {
                    refusal,
                    after: now.instant.saturating_duration_since(closed.since),
                };
            }
            self.closed = None;
        }
        if let Some(limit) = &behaviour.concurrency
            && behaviour.is_exceeded_by(in_flight)
        {
            return Verdict::Refused(self.refuse(now, limit.status, limit.retry_after));
        }
        if let Some(limit) = &behaviour.rate {
            let window = Duration::from_millis(limit.window_ms);
            while self.admitted.front().is_some_and(|at| now.instant.saturating_duration_since(*at) >= window)
            {
                self.admitted.pop_front();
            }
            if self.admitted.len() >= limit.requests as usize {
                return Verdict::Refused(self.refuse(now, limit.status, limit.retry_after));
            }
            self.admitted.push_back(now.instant);
        }
        Verdict::Open
    }

    /// Refuses, and closes the host if the announcement is meant.
    pub(crate) fn refuse(&mut self, now: Moment, status: u16, announced: Option<RetryAfter>) -> Refusal {
        let Some(announced) = announced else {
            return Refusal { status, retry_after: None, closes_for: None };
        };
        let mut lasts = Duration::from_secs(announced.seconds);
        let mut until_unix_seconds = (now.unix_ms() / 1000).saturating_add(announced.seconds);
        if announced.form == RetryAfterForm::Date {
            // A date has whole seconds. Rounded up, the host never announces less than it was told to.
            let past_second = now.unix_ms() % 1000;
            if past_second > 0 {
                until_unix_seconds += 1;
                lasts += Duration::from_millis(1000 - past_second);
            }
        }
        let closed = Closed {
            since: now.instant,
            until: now.instant + lasts,
            until_unix_seconds,
            status,
            form: announced.form,
        };
        let retry_after = Some(closed.remaining(now.instant));
        if announced.closes {
            self.closed = Some(closed);
        }
        Refusal { status, retry_after, closes_for: announced.closes.then_some(lasts) }
    }
}

impl Closed {
    /// What `Retry-After` says now: seconds are rounded up, so that whoever obeys is not early.
    fn remaining(&self, now: Instant) -> String {
        match self.form {
            RetryAfterForm::Seconds => {
                let rest = self.until.saturating_duration_since(now);
                (rest.as_secs() + u64::from(rest.subsec_nanos() > 0)).to_string()
            }
            RetryAfterForm::Date => {
                httpdate::fmt_http_date(std::time::UNIX_EPOCH + Duration::from_secs(self.until_unix_seconds))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::behaviour::{ConcurrencyLimit, RateLimit};
    use crate::clock;

    const MS: Duration = Duration::from_millis(1);

    fn status(verdict: &Verdict) -> Option<u16> {
        match verdict {
            Verdict::Open => None,
            Verdict::Refused(refusal) | Verdict::Closed { refusal, .. } => Some(refusal.status),
        }
    }

    #[test]
    fn the_rate_is_a_sliding_window_of_what_was_let_through() {
        let rate = RateLimit { requests: 3, retry_after: None, ..RateLimit::default() };
        let behaviour = Behaviour { rate: Some(rate), ..Behaviour::default() };
        let start = clock::now();
        let mut gate = Gate::default();
        let mut at = |ms: u32| status(&gate.judge(start.plus(MS * ms), 1, &behaviour));
        assert_eq!([at(0), at(400), at(800)], [None; 3]);
        assert_eq!(at(999), Some(429), "the fourth within a second");
        assert_eq!(at(1000), None, "the first has left the window; the refused one never filled it");
        assert_eq!(at(1399), Some(429));
        assert_eq!(at(1400), None);
    }

    #[test]
    fn a_closing_refuses_until_its_end_and_is_not_extended() {
        let behaviour = Behaviour::default().tolerating_per_second(1);
        let start = clock::now();
        let mut gate = Gate::default();
        assert_eq!(gate.judge(start, 1, &behaviour), Verdict::Open);
        let Verdict::Refused(refusal) = gate.judge(start.plus(MS * 100), 1, &behaviour) else {
            panic!("the second within a second must be refused")
        };
        assert_eq!(refusal.retry_after.as_deref(), Some("1"));
        assert_eq!(refusal.closes_for, Some(Duration::from_secs(1)));
        for (ms, after) in [(300, 200), (700, 600), (1097, 997)] {
            let Verdict::Closed { refusal, after: since } = gate.judge(start.plus(MS * ms), 1, &behaviour)
            else {
                panic!("closed at {ms}")
            };
            assert_eq!(since, MS * after);
            assert_eq!(refusal.retry_after.as_deref(), Some("1"), "rounded up");
        }
        assert_eq!(gate.judge(start.plus(MS * 1100), 1, &behaviour), Verdict::Open);
    }

    #[test]
    fn a_date_names_the_second_at_which_the_closing_ends() {
        let concurrency = ConcurrencyLimit { most: 1, status: 503, retry_after: Some(RetryAfter::date(2)) };
        let behaviour = Behaviour { concurrency: Some(concurrency), ..Behaviour::default() };
        let wall = std::time::UNIX_EPOCH + Duration::from_millis(1_600_000_000_250);
        let start = Moment { wall, ..clock::now() };
        let mut gate = Gate::default();
        assert_eq!(gate.judge(start, 1, &behaviour), Verdict::Open);
        let Verdict::Refused(refusal) = gate.judge(start, 2, &behaviour) else { panic!("two at once") };
        assert_eq!(refusal.status, 503);
        assert_eq!(refusal.retry_after.as_deref(), Some("Sun, 13 Sep 2020 12:26:43 GMT"));
        assert_eq!(refusal.closes_for, Some(MS * 2750));
        assert_eq!(status(&gate.judge(start.plus(MS * 2740), 1, &behaviour)), Some(503));
        assert_eq!(gate.judge(start.plus(MS * 2750), 1, &behaviour), Verdict::Open);
    }

    #[test]
    fn an_announcement_that_is_not_meant_closes_nothing() {
        let announced = RetryAfter { closes: false, ..RetryAfter::seconds(60) };
        let concurrency =
            ConcurrencyLimit { most: 1, retry_after: Some(announced), ..ConcurrencyLimit::default() };
        let behaviour = Behaviour { concurrency: Some(concurrency), ..Behaviour::default() };
        let start = clock::now();
        let mut gate = Gate::default();
        assert_eq!(status(&gate.judge(start, 2, &behaviour)), Some(429));
        assert_eq!(gate.judge(start, 1, &behaviour), Verdict::Open);
    }
}
