//! Properties of what binds a lane's starts.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use proptest::prelude::*;

use super::*;
use crate::{LaneLimits, Paces};

fn rules(pace: &str) -> LaneRules {
    let paces = Paces::Shared(pace.parse().unwrap());
    LaneRules { any: LaneLimits { cap: None, paces }, ..LaneRules::unlimited() }
}

fn lane() -> Lane {
    Lane::new("a.example").unwrap()
}

fn host(every: Duration) -> HostPace {
    HostPace { controller: Controller::CrawlDelay, every, until: Duration::MAX }
}

/// The most starts that any window of this length holds.
fn most_in(starts: &[Duration], unit: Duration) -> usize {
    let within = |first: &Duration| starts.iter().filter(|at| **at >= *first && **at < *first + unit).count();
    starts.iter().map(within).max().unwrap_or(0)
}

/// INV-PACE: each process asks by its own rules and by what the others state, in whatever order.
fn started(texts: &[&str], every: Option<Duration>, turns: impl Iterator<Item = usize>) -> Vec<Duration> {
    let all: Vec<LaneRules> = texts.iter().map(|text| rules(text)).collect();
    let mut state = PaceState::default();
    let (mut now, mut starts) = (Duration::from_hours(5), Vec::new());
    for turn in turns {
        let bounds = Bounds::new(&all[turn % all.len()], &all, every.map(host), &lane(), Role::Artifact);
        if bounds.admit(&mut state, now) {
            starts.push(now);
        }
        now += Duration::from_millis(50);
        state.forget_before(now);
    }
    starts
}

#[test]
fn inv_pace_two_paces_on_one_lane_start_no_more_than_the_stricter() {
    let starts = started(&["2/s", "3/10s", "30/min"], None, 0..4_000);
    assert!(most_in(&starts, Duration::from_secs(1)) <= 2);
    assert!(most_in(&starts, Duration::from_secs(10)) <= 3, "{starts:?}");
    // 200 s at one in 3.67 s: it is not merely safe, it keeps up.
    assert!(starts.len() >= 54, "{}", starts.len());
}

#[test]
fn inv_pace_of_two_limits_in_windows_of_one_length_the_lower_holds() {
    let starts = started(&["5/s", "1/s", "3/s"], None, 0..400);
    assert_eq!(most_in(&starts, Duration::from_secs(1)), 1);
    assert!(starts.len() >= 18);
}

#[test]
fn a_hosts_own_pace_holds_over_all_roles() {
    let off = LaneRules::unlimited();
    let mut state = PaceState::default();
    let now = Duration::from_secs(100);
    let of = |role| Bounds::new(&off, [], Some(host(Duration::from_secs(10))), &lane(), role);
    assert!(of(Role::Landing).admit(&mut state, now));
    assert!(!of(Role::Artifact).admit(&mut state, now + Duration::from_secs(10)), "stretched by a tenth");
    assert!(of(Role::Artifact).admit(&mut state, now + Duration::from_secs(11)));
    assert_eq!(of(Role::Artifact).controller(&state), Controller::CrawlDelay);
}

#[test]
fn a_pace_that_a_host_has_just_asked_for_begins_with_that_answer() {
    let (slow, fast) = (host(Duration::from_secs(10)), host(Duration::from_secs(1)));
    let mut state = PaceState::default();
    let now = Duration::from_secs(100);
    let opens = |state: &PaceState, host| {
        Bounds::new(&LaneRules::unlimited(), [], host, &lane(), Role::Artifact).open_at(state)
    };
    assert!(!state.host_pace_changed(None, Some(slow), now));
    assert_eq!(opens(&state, Some(slow)), now + Duration::from_secs(11));
    assert!(!state.host_pace_changed(Some(slow), Some(slow), now + Duration::from_secs(5)));
    assert_eq!(opens(&state, Some(slow)), now + Duration::from_secs(11), "saying it again puts nothing off");
    assert!(state.host_pace_changed(Some(slow), Some(fast), now));
    assert_eq!(opens(&state, Some(fast)), now + Duration::from_millis(1_100));
    let ends = HostPace { until: now + Duration::from_millis(300), ..fast };
    assert_eq!(opens(&state, Some(ends)), ends.until, "nothing is put off beyond its end");
    assert!(state.host_pace_changed(Some(fast), None, now));
    assert!(opens(&state, None) <= now);
}

#[test]
fn work_without_a_host_is_bound_by_nothing() {
    let bounds = Bounds::new(&rules("1/h"), [&rules("1/d")], None, &Lane::NONE, Role::Artifact);
    assert!(bounds.is_off());
}

proptest! {
    #[test]
    fn inv_pace_no_order_of_processes_starts_more(
        turns in prop::collection::vec(0..3_usize, 200..800),
        every in prop::option::of(100_u64..5_000),
    ) {
        let every = every.map(Duration::from_millis);
        let starts = started(&["4/s+20/10s", "3/2s", "10/5s"], every, turns.into_iter());
        for (unit, most) in [(1, 4), (10, 20), (2, 3), (5, 10)] {
            prop_assert!(most_in(&starts, Duration::from_secs(unit)) <= most);
        }
        if let Some(every) = every {
            prop_assert!(most_in(&starts, every) <= 1);
        }
    }
}
