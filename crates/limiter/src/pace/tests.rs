//! Properties of the paces.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use proptest::prelude::*;

use super::*;

fn pace(text: &str) -> Pace {
    text.parse().unwrap()
}

#[test]
fn rates_read_and_show_the_same() {
    for text in ["2/s", "2/s+500/h", "1/3s", "300/min", "off", "1/2.5s", "10/d", "5/2h"] {
        assert_eq!(pace(text).to_string(), text);
    }
    assert_eq!(pace("500/h+2/s").to_string(), "2/s+500/h");
}

#[test]
fn bad_rates_say_what_is_wrong() {
    for (text, why) in [
        ("2", "`/` is missing"),
        ("x/s", "not a whole number"),
        ("2/", "unit is missing"),
        ("2/fortnight", "not one of"),
        ("0/s", "never let anything start"),
        ("1/0s", "between 1 ms"),
        ("2/s+", "`/` is missing"),
        ("1/-3s", "out of range"),
    ] {
        let error = text.parse::<Pace>().unwrap_err().to_string();
        assert!(error.contains(why), "{text}: {error}");
    }
}

#[test]
fn bursts_are_one_for_the_shortest_window_and_half_for_the_others() {
    let pace = pace("2/s+500/h");
    assert_eq!(pace.windows()[0].burst(), 1);
    assert_eq!(pace.windows()[1].burst(), 250);
    let interval = pace.windows()[1].interval().as_secs_f64() / 1.1;
    assert!((interval - 14.34).abs() < 0.01, "{interval}");
}

#[test]
fn roles_count_apart_unless_shared() {
    let pace = pace("1/s");
    let mut state = PaceState::default();
    let now = Duration::from_secs(5);
    assert!(pace.admit(&mut state, Scope::Role(Role::Artifact), now));
    assert!(pace.admit(&mut state, Scope::Role(Role::Landing), now));
    assert!(!pace.admit(&mut state, Scope::Role(Role::Landing), now));
}

#[test]
fn the_state_survives_its_json() {
    let pace = pace("2/s+500/h");
    let mut state = PaceState::default();
    assert!(pace.admit(&mut state, Scope::Shared, Duration::from_secs(7)));
    let json = serde_json::to_string(&state).unwrap();
    assert_eq!(serde_json::from_str::<PaceState>(&json).unwrap(), state);
    state.forget_before(Duration::from_hours(1));
    assert!(state.is_empty());
}

proptest! {
    /// INV-PACE: however greedily and irregularly starts are asked for, no window of any unit holds more than
    /// its limit, even if every start happens as late as `start_within` allows.
    #[test]
    fn inv_pace_no_window_ever_holds_more_than_its_limit(
        limit in 1u32..40, unit_ms in 100u64..5_000, long in 1u32..60,
        steps in proptest::collection::vec((0u64..400, any::<bool>()), 1..400),
    ) {
        let unit = Duration::from_millis(unit_ms);
        let pace = Pace::of([
            Window::new(limit, unit, 1).unwrap(),
            Window::new(limit * long, unit * 20, 1).unwrap(),
        ]);
        let late = pace.start_within().unwrap();
        let mut state = PaceState::default();
        let mut now = Duration::from_secs(1_000);
        let mut starts = Vec::new();
        for (step, delayed) in steps {
            now += Duration::from_millis(step);
            if pace.admit(&mut state, Scope::Shared, now) {
                starts.push(if delayed { now + late } else { now });
            }
        }
        for window in pace.windows() {
            for (index, first) in starts.iter().enumerate() {
                let inside = starts[index..].iter().filter(|t| **t >= *first && **t < *first + window.unit()).count();
                prop_assert!(inside <= window.limit() as usize, "{inside} in {window}");
            }
        }
    }

    /// A pace is not merely safe: asked all the time, it gives at least nine tenths of what the interval says.
    #[test]
    fn a_pace_keeps_up(limit in 1u32..50) {
        let pace = Pace::of([Window::new(limit, Duration::from_secs(1), 1).unwrap()]);
        let mut state = PaceState::default();
        let mut given = 0u32;
        for tick in 0..60_000u64 {
            if pace.admit(&mut state, Scope::Shared, Duration::from_millis(tick)) { given += 1; }
        }
        prop_assert!(f64::from(given) >= 0.85 * 60.0 * f64::from(limit), "{given} of {}", 60 * limit);
    }
}
