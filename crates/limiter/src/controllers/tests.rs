//! What is learned of hosts with a hard limit, and what they say.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::VecDeque;

use super::*;

const START: Duration = Duration::from_hours(1000);

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A host that lets `limit` requests through in any window, refuses beyond, and is then closed for `closes`; and a lane
/// that asks it one request at a time, each taking `takes`. No lane has more in flight than matter here: whatever else
/// was under way in a closing is refused and not judged.
struct Host {
    limit: usize,
    window: Duration,
    closes: Duration,
    takes: Duration,
}

/// How a run went.
#[derive(Debug)]
struct Run {
    took: Duration,
    closings: usize,
}

impl Host {
    /// Fetches so many files from `now` on. The configured pace is off.
    fn serve(&self, known: &mut Controllers, files: usize, now: Duration) -> Run {
        let mut let_through = VecDeque::new();
        let (mut at, mut opened, mut closings) = (now, None, 0);
        let mut served = 0;
        while served < files {
            if let_through.len() == self.limit && at < let_through[0] + self.window {
                known.refused(at, self.closes, opened.is_some());
                at += self.closes;
                (opened, closings) = (Some(at), closings + 1);
                continue;
            }
            let_through.push_back(at);
            let_through.drain(..let_through.len().saturating_sub(self.limit));
            served += 1;
            let start = at;
            at += self.takes;
            known.served(at, opened.take().is_some());
            let every = known.slowest(at).map_or(Duration::ZERO, |pace| pace.every * 11 / 10);
            at = at.max(start + every);
        }
        Run { took: at.saturating_sub(now), closings }
    }
}

fn twenty_a_second() -> Host {
    Host { limit: 20, window: SECOND, closes: ms(2_000), takes: ms(8) }
}

#[test]
fn a_host_of_twenty_a_second_is_learned_by_one_refusal() {
    let mut known = Controllers::default();
    let host = twenty_a_second();
    let first = host.serve(&mut known, 200, START);
    assert!(first.closings == 1 && first.took < ms(13_500), "{first:?}");
    let again = host.serve(&mut known, 200, START + Duration::from_hours(20));
    assert!(again.closings == 0 && again.took < ms(11_500), "{again:?}");
}

/// It is tried for more now and then, and falls back by a fifth.
#[test]
fn a_hard_limit_is_met_once_in_many_hundred_requests() {
    let mut known = Controllers::default();
    let run = twenty_a_second().serve(&mut known, 20_000, START);
    assert!((2..=20).contains(&run.closings), "{run:?}");
    assert!(run.took < Duration::from_secs(1_000).mul_f64(1.35), "{run:?}");
}

#[test]
fn a_host_that_names_the_rest_of_its_minute_is_learned_by_few() {
    let mut known = Controllers::default();
    let host = Host { limit: 100, window: Duration::from_mins(1), closes: ms(30_000), takes: ms(8) };
    let run = host.serve(&mut known, 400, START);
    assert!(run.closings <= 5 && run.took < Duration::from_mins(5), "{run:?}");
}

/// It says "one second", and means ten.
#[test]
fn a_host_that_names_too_short_a_time_is_asked_ever_more_slowly() {
    let mut known = Controllers::default();
    let host = Host { limit: 1, window: ms(10_000), closes: ms(1_000), takes: ms(8) };
    let run = host.serve(&mut known, 60, START);
    assert!(run.closings <= 25, "{run:?}");
    assert!(known.slowest(START + run.took).unwrap().every >= ms(9_000));
}

#[test]
fn whoever_served_nothing_is_not_judged() {
    let mut known = Controllers::default();
    known.refused(START, ms(2_000), false);
    assert_eq!(known.slowest(START), None);
    assert!(known.is_empty());
}

#[test]
fn what_was_learned_is_forgotten_a_week_after_the_last_refusal() {
    let mut known = Controllers::default();
    let _ = twenty_a_second().serve(&mut known, 100, START);
    assert!(known.slowest(START + Duration::from_hours(7 * 24)).is_some());
    assert_eq!(known.slowest(START + Duration::from_hours(7 * 24 + 1)), None);
}

/// A burst after a quiet night is judged by itself.
#[test]
fn a_quiet_time_begins_a_new_count() {
    let mut known = Controllers::default();
    known.served(START, false);
    let morning = START + Duration::from_hours(10);
    for _ in 0..20 {
        known.served(morning, false);
    }
    known.refused(morning, ms(2_000), false);
    assert_eq!(known.slowest(morning).unwrap().every, ms(100), "20 in 2 s");
}

#[test]
fn the_slowest_holds_and_says_who_it_is() {
    let mut known = Controllers::default();
    let hour = Duration::from_hours(1);
    known.said(Controller::CrawlDelay, ms(10_000), hour, START);
    known.said(Controller::Announced, ms(20), hour * 2, START);
    let slowest = |known: &Controllers, at| known.slowest(at).map(|pace| (pace.controller, pace.every));
    assert_eq!(slowest(&known, START), Some((Controller::CrawlDelay, ms(10_000))));
    assert_eq!(slowest(&known, START + hour), Some((Controller::Announced, ms(20))), "the other has ended");
    known.said(Controller::Announced, ms(30_000), hour, START);
    assert_eq!(slowest(&known, START), Some((Controller::Announced, ms(30_000))));
    known.said(Controller::Announced, Duration::ZERO, hour, START);
    known.said(Controller::CrawlDelay, Duration::from_hours(9), hour, START);
    assert_eq!(slowest(&known, START), Some((Controller::CrawlDelay, Duration::from_mins(5))), "at most");
    known.said(Controller::Configured, Duration::from_hours(9), hour, START);
    known.said(Controller::CrawlDelay, Duration::ZERO, hour, START);
    assert_eq!(known.slowest(START), None);
}

#[test]
fn it_survives_its_json_and_stays_small() {
    let mut known = Controllers::default();
    assert_eq!(serde_json::from_str::<Controllers>("{}").unwrap(), known);
    known.served(START, false);
    assert!(serde_json::to_string(&known).unwrap().len() < 80);
    let _ = twenty_a_second().serve(&mut known, 100, START);
    known.said(Controller::CrawlDelay, ms(10_000), ms(5), START);
    known.said(Controller::Announced, ms(10_000), ms(5), START);
    let text = serde_json::to_string(&known).unwrap();
    assert_eq!(serde_json::from_str::<Controllers>(&text).unwrap(), known);
    assert!(text.len() < 300, "{text}");
}

/// One URL of a host is refused whenever it is asked for, and in between another is served: the refusals are not the
/// pace's fault, and each lowers it by no more than a fifth.
#[test]
fn a_host_that_refuses_one_url_for_ever_is_not_asked_ever_more_slowly_for_it() {
    let mut known = Controllers::default();
    let (mut now, closes) = (START, ms(2_000));
    for _ in 0..12 {
        known.served(now, true);
        now += known.slowest(now).map_or(ms(5), |pace| pace.every);
        known.refused(now, closes, false);
        now += known.slowest(now).map_or(closes, |pace| pace.every).max(closes);
    }
    let every = known.slowest(now).unwrap().every;
    assert!(every < Duration::from_secs(40), "{every:?}");
}

/// What was learned from a few requests in a bad moment does not last.
#[test]
fn a_pace_that_was_taken_for_far_too_slow_recovers_within_thousands_of_requests() {
    let mut known = Controllers::default();
    known.served(START, false);
    known.served(START + ms(1_000), false);
    let mut now = START + ms(10_000);
    known.refused(now, ms(1_000), false);
    let slow = known.slowest(now).unwrap().every;
    assert!(slow >= ms(5_000), "{slow:?}");
    for request in 0..5_000 {
        now += known.slowest(now).map_or(ms(1), |pace| pace.every);
        known.served(now, request == 0);
    }
    let every = known.slowest(now).map_or(Duration::ZERO, |pace| pace.every);
    assert!(every <= slow / 10, "{every:?} after {slow:?}");
}
