//! What is said at once, and not again and again.

use std::collections::HashMap;
use std::time::Duration;

use longhaul_events::Event;
use longhaul_limiter::Lane;

use crate::output::{duration, number_of};

/// A wait below this is nothing to speak of.
const LONG_WAIT: Duration = Duration::from_secs(20);

/// The same trouble is said again only after this.
const REPEAT: Duration = Duration::from_mins(1);

/// How many closed hosts are remembered.
const MOST_LANES: usize = 1_000;

/// What is worth saying at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Notice {
    /// This.
    Say(String),
    /// That nothing can start at the moment. For how long, and for what it waits, the queue knows.
    Idle,
}

/// What was said last of a run that waits.
#[derive(Debug, Default)]
pub(crate) struct Waits {
    until: Duration,
    full: Option<Duration>,
}

impl Waits {
    /// What to say of a wait until something can start, or for other runs' requests (`is_full`), if anything.
    pub(crate) fn say(
        &mut self,
        starts_at: Option<Duration>,
        is_full: bool,
        now: Duration,
    ) -> Option<String> {
        let Some(until) = starts_at else {
            if !is_full || self.full.is_some_and(|at| now < at + REPEAT) {
                return None;
            }
            self.full = Some(now);
            return Some(
                "the hosts that are left have all the requests in flight that they may, from other runs; waiting for one to \
                 end"
                    .to_owned(),
            );
        };
        let wait = until.saturating_sub(now);
        // The same end, seen a moment later, is no news.
        if wait < LONG_WAIT || until.abs_diff(self.until) < Duration::from_secs(5) {
            return None;
        }
        self.until = until;
        Some(format!("nothing can start for {}; waiting", duration(wait)))
    }
}

/// What was said last.
#[derive(Debug, Default)]
pub(super) struct Notices {
    closed: HashMap<Lane, Duration>,
    /// When hosts that are open again were forgotten last.
    purged: Duration,
    fault: Option<(String, Duration)>,
    unavailable: Option<Duration>,
}

impl Notices {
    /// What to say of this event, if anything.
    pub(super) fn of(&mut self, event: &Event, now: Duration) -> Option<Notice> {
        if matches!(event, Event::Waiting { .. }) {
            return Some(Notice::Idle);
        }
        self.said(event, now).map(Notice::Say)
    }

    fn said(&mut self, event: &Event, now: Duration) -> Option<String> {
        match event {
            Event::LaneClosed { lane, retry_after, cause } => self.closed(lane, *retry_after, cause, now),
            Event::LocalFault { detail, retry_in } => {
                let again =
                    self.fault.as_ref().is_some_and(|(said, at)| said == detail && now < *at + REPEAT);
                if again {
                    return None;
                }
                self.fault = Some((detail.clone(), now));
                let wait = duration(*retry_in);
                Some(format!("this machine cannot work: {detail}; nothing is charged, next try in {wait}"))
            }
            Event::StoreUnavailable { detail } => {
                if self.unavailable.is_some_and(|at| now < at + REPEAT) {
                    return None;
                }
                self.unavailable = Some(now);
                Some(format!("the queue cannot be reached, and is tried again: {detail}"))
            }
            Event::Stopping { running, grace } if *running > 0 => {
                let jobs = number_of(*running as u64, "job", "jobs");
                let grace = duration(*grace);
                Some(format!("finishing {jobs}, up to {grace}; press Ctrl-C again to stop at once"))
            }
            Event::Stopping { .. } => Some(
                "stopping; what has ended is still published; press Ctrl-C again to stop at once".to_owned(),
            ),
            Event::LeaseLost { job } => {
                Some(format!("job {job} was taken away while it ran: its lease had ended"))
            }
            _ => None,
        }
    }

    fn closed(
        &mut self,
        lane: &Lane,
        length: Option<Duration>,
        cause: &str,
        now: Duration,
    ) -> Option<String> {
        if self.closed.get(lane).is_some_and(|until| now < *until) {
            return None;
        }
        // At most once a second: with thousands of hosts closed, each event would walk all of them.
        if self.closed.len() >= MOST_LANES && now >= self.purged + Duration::from_secs(1) {
            self.purged = now;
            self.closed.retain(|_, until| *until > now);
        }
        if self.closed.len() < MOST_LANES {
            // A host that closes every other second is news once a minute, not every other second.
            self.closed.insert(lane.clone(), now + length.unwrap_or_default().max(REPEAT));
        }
        let length =
            length.map_or_else(|| "for a while".to_owned(), |length| format!("for {}", duration(length)));
        Some(format!("{lane} is left alone {length}: {cause}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn closed(host: &str, seconds: u64) -> Event {
        let retry_after = Some(Duration::from_secs(seconds));
        Event::LaneClosed { lane: Lane::new(host).unwrap(), retry_after, cause: "429".to_owned() }
    }

    #[test]
    fn a_host_that_closes_is_said_once_while_it_is_closed_and_once_a_minute() {
        let mut notices = Notices::default();
        let at = Duration::from_secs;
        assert_eq!(
            notices.said(&closed("a.example", 30), at(0)).unwrap(),
            "a.example is left alone for 30s: 429"
        );
        assert_eq!(notices.of(&closed("a.example", 30), at(5)), None);
        assert!(notices.of(&closed("b.example", 30), at(5)).is_some());
        assert_eq!(notices.of(&closed("a.example", 30), at(31)), None);
        assert!(notices.of(&closed("a.example", 90), at(60)).is_some());
        assert_eq!(notices.of(&closed("a.example", 90), at(149)), None);
        for host in 0..2_000 {
            notices.of(&closed(&format!("h{host}.example"), 30), at(40));
        }
        assert!(notices.closed.len() <= MOST_LANES);
    }

    #[test]
    fn only_a_long_wait_is_announced_and_once() {
        let mut waits = Waits::default();
        let at = Duration::from_secs;
        let mut say = |start, now| waits.say(Some(at(start)), false, at(now));
        assert_eq!(say(3, 0), None);
        assert_eq!(say(90, 0).unwrap(), "nothing can start for 1m 30s; waiting");
        assert_eq!(say(91, 30), None);
        assert!(say(630, 30).is_some());
        assert_eq!(waits.say(None, false, at(30)), None);
        assert!(waits.say(None, true, at(30)).unwrap().contains("from other runs"));
        assert_eq!(waits.say(None, true, at(60)), None);
    }

    #[test]
    fn stopping_says_what_is_waited_for() {
        let stopping = |running| Event::Stopping { running, grace: Duration::from_secs(30) };
        let mut notices = Notices::default();
        assert_eq!(
            notices.said(&stopping(3), Duration::ZERO).unwrap(),
            "finishing 3 jobs, up to 30s; press Ctrl-C again to stop at once"
        );
        assert_eq!(
            notices.said(&stopping(0), Duration::ZERO).unwrap(),
            "stopping; what has ended is still published; press Ctrl-C again to stop at once"
        );
    }
}
