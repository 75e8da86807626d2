//! Properties of grants that are used, late, taken back or lost.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use proptest::prelude::*;

use super::*;
use crate::{Controller, HostPace, Lane, LaneLimits, LaneRules, Paces};

const HOUR: Duration = Duration::from_hours(1);

fn ms(length: u64) -> Duration {
    Duration::from_millis(length)
}

fn claim(job: i64) -> Claim {
    Claim { job, fence: 1 }
}

/// What binds the artifacts of a lane with this pace.
fn bounds(pace: &str) -> Bounds {
    bounds_of(pace, None, Role::Artifact)
}

fn bounds_of(pace: &str, host: Option<HostPace>, role: Role) -> Bounds {
    let paces = Paces::Shared(pace.parse().unwrap());
    let rules = LaneRules { any: LaneLimits { cap: None, paces }, ..LaneRules::unlimited() };
    Bounds::new(&rules, [], host, &Lane::new("a.example").unwrap(), role)
}

#[test]
fn a_late_grant_is_counted_when_its_holder_is_ready() {
    let bounds = bounds("2/s");
    let mut state = PaceState::default();
    assert!(bounds.grant(&mut state, claim(1), Role::Artifact, HOUR));
    let ready = HOUR + ms(400);
    assert!(state.take_back_from(claim(1), Role::Artifact, &bounds));
    assert!(bounds.grant(&mut state, claim(1), Role::Artifact, ready), "no turn is lost");
    assert_eq!(bounds.open_at(&state), ready + ms(550), "and the next one waits its interval from then on");
}

#[test]
fn one_grant_is_out_at_a_time_until_it_is_used() {
    let bounds = bounds("2/s");
    let mut state = PaceState::default();
    assert!(bounds.grant(&mut state, claim(1), Role::Artifact, HOUR));
    assert!(!bounds.has_room(&state));
    state.forget_before(2 * HOUR);
    assert!(!bounds.has_room(&state), "however late its holder is");
    assert!(!state.started(claim(1), Role::Landing) && !state.started(claim(2), Role::Artifact));
    assert!(state.started(claim(1), Role::Artifact));
    assert!(bounds.has_room(&state) && !state.started(claim(1), Role::Artifact), "it is said once");
}

#[test]
fn fast_lanes_have_as_many_grants_out_as_follow_each_other_soon() {
    for (pace, most) in [("1/s", 1), ("2/s", 1), ("10/s", 2), ("40/s", 9), ("1000/s", 16), ("10/s+1/s", 1)] {
        let bounds = bounds(pace);
        let mut state = PaceState::default();
        let out = (1..100).take_while(|job| {
            let has_room = bounds.has_room(&state);
            let at = bounds.open_at(&state).max(HOUR);
            has_room && bounds.grant(&mut state, claim(*job), Role::Artifact, at)
        });
        assert_eq!(out.count(), most, "{pace}");
    }
}

/// Of a longer window, too, whatever it had counted before, and whatever was counted behind it.
#[test]
fn what_is_taken_back_leaves_all_as_if_it_had_not_been() {
    let bounds = bounds("10/s+500/h");
    let (mut with, mut without) = (PaceState::default(), PaceState::default());
    for second in 0..10 {
        let at = HOUR + Duration::from_secs(second);
        for state in [&mut with, &mut without] {
            assert!(bounds.admit(state, at));
        }
    }
    let at = HOUR + ms(9_200);
    assert!(bounds.grant(&mut with, claim(1), Role::Artifact, at));
    for state in [&mut with, &mut without] {
        assert!(bounds.grant(state, claim(2), Role::Artifact, at + ms(110)));
        state.spent(claim(2));
    }
    assert_ne!(with, without);
    assert!(with.take_back(claim(1), Role::Artifact));
    assert_eq!(with, without);
    assert!(!with.take_back(claim(2), Role::Artifact), "what is spent stays");
}

#[test]
fn a_grant_of_another_role_is_no_grant_of_this_one() {
    let artifact = bounds_of("1/s", None, Role::Artifact);
    let rules = LaneRules::default();
    let by_role = |role| Bounds::new(&rules, [], None, &Lane::new("a.example").unwrap(), role);
    let mut state = PaceState::default();
    assert!(by_role(Role::Artifact).grant(&mut state, claim(1), Role::Artifact, HOUR));
    assert!(by_role(Role::Landing).grant(&mut state, claim(1), Role::Landing, HOUR));
    assert!(state.started(claim(1), Role::Landing));
    assert!(!by_role(Role::Artifact).has_room(&state), "its own start is still to come");
    assert!(state.take_back_from(claim(1), Role::Artifact, &by_role(Role::Artifact)));
    assert!(by_role(Role::Artifact).grant(&mut state, claim(1), Role::Artifact, HOUR + ms(90)));
    // Where all roles count together, the first request takes the grant, whatever it is for.
    let mut shared = PaceState::default();
    assert!(artifact.grant(&mut shared, claim(1), Role::Artifact, HOUR));
    let landing = bounds_of("1/s", None, Role::Landing);
    assert!(shared.take_back_from(claim(1), Role::Artifact, &landing));
    assert!(landing.grant(&mut shared, claim(1), Role::Landing, HOUR + ms(90)));
}

#[test]
fn a_hosts_new_pace_is_not_undone_by_a_late_holder() {
    let host = |every| HostPace { controller: Controller::Learned, every, until: Duration::MAX };
    let (fast, slow) = (host(Duration::from_secs(1)), host(Duration::from_secs(10)));
    let of = |host| bounds_of("off", Some(host), Role::Artifact);
    let mut state = PaceState::default();
    assert!(of(fast).grant(&mut state, claim(1), Role::Artifact, HOUR));
    assert!(!state.host_pace_changed(Some(fast), Some(slow), HOUR + ms(100)));
    state.take_back(claim(1), Role::Artifact);
    assert_eq!(of(slow).open_at(&state), HOUR + ms(11_100));
}

#[test]
fn the_state_survives_its_json() {
    let bounds = bounds("2/s+500/h");
    let mut state = PaceState::default();
    assert!(bounds.grant(&mut state, claim(1), Role::Artifact, Duration::from_secs(7)));
    let json = serde_json::to_string(&state).unwrap();
    assert_eq!(serde_json::from_str::<PaceState>(&json).unwrap(), state);
    state.spent(claim(1));
    state.forget_before(HOUR);
    assert!(state.is_empty());
}

/// What happens next in a lane.
#[derive(Debug, Clone)]
enum Step {
    Wait(u64),
    /// The lane gives to another job, for a time that is at most so far ahead.
    Lease(u64),
    /// A holder is ready: it starts if it is in time, and asks anew if it is not.
    Ready(prop::sample::Index),
    /// What has started is told.
    Tell,
    /// A holder gives up without a request.
    Cancel(prop::sample::Index),
    /// A holder's process dies; the store cannot know whether it had started.
    Die(prop::sample::Index),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (1_u64..700).prop_map(Step::Wait),
        6 => (0_u64..150).prop_map(Step::Lease),
        8 => any::<prop::sample::Index>().prop_map(Step::Ready),
        3 => Just(Step::Tell),
        1 => any::<prop::sample::Index>().prop_map(Step::Cancel),
        1 => any::<prop::sample::Index>().prop_map(Step::Die),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    /// INV-PACE: whatever holders do, however late they are and whenever it is told, no window holds more starts than its
    /// limit, though each may be as late as `start_within` allows. Nothing is minted; and nothing is lost: once all has
    /// been told, a lane that has been idle gives.
    #[test]
    fn inv_pace_no_window_holds_more_whatever_holders_do(
        limit in 1_u32..12, unit_ms in 500_u64..4_000, long in 1_u32..20,
        steps in prop::collection::vec(step(), 1..150),
    ) {
        let pace = format!("{limit}/{unit_ms}ms+{}/{}ms", limit * long, unit_ms * 20);
        let bounds = bounds(&pace);
        let within = bounds.start_within().unwrap();
        let (mut state, mut now, mut next) = (PaceState::default(), HOUR, 0);
        let mut starts: Vec<Duration> = Vec::new();
        // Who holds a grant, for when, and who has started and not said so.
        let (mut holders, mut untold): (Vec<(Claim, Duration)>, Vec<Claim>) = (Vec::new(), Vec::new());
        for step in steps {
            match step {
                Step::Wait(length) => now += ms(length),
                Step::Lease(lead) => {
                    let at = bounds.open_at(&state).max(now);
                    if at <= now + ms(lead) && bounds.has_room(&state) {
                        next += 1;
                        prop_assert!(bounds.grant(&mut state, claim(next), Role::Artifact, at));
                        holders.push((claim(next), at));
                    }
                }
                Step::Ready(index) => if !holders.is_empty() {
                    let index = index.index(holders.len());
                    let (who, at) = holders[index];
                    if now <= at + within {
                        holders.remove(index);
                        untold.push(who);
                        starts.push(at.max(now));
                    } else {
                        state.take_back_from(who, Role::Artifact, &bounds);
                        if bounds.grant(&mut state, who, Role::Artifact, now) {
                            holders[index].1 = now;
                        } else {
                            holders.remove(index);
                        }
                    }
                },
                Step::Tell => untold.drain(..).for_each(|who| { state.started(who, Role::Artifact); }),
                Step::Cancel(index) => if !holders.is_empty() {
                    let (who, _) = holders.remove(index.index(holders.len()));
                    prop_assert!(state.take_back(who, Role::Artifact));
                },
                Step::Die(index) => if !holders.is_empty() {
                    let (who, at) = holders.remove(index.index(holders.len()));
                    state.spent(who);
                    // As late as it may have.
                    starts.push(at.max(now).min(at + within));
                },
            }
            state.forget_before(now);
        }
        starts.sort();
        for (unit, most) in [(ms(unit_ms), limit), (ms(unit_ms * 20), limit * long)] {
            for (index, first) in starts.iter().enumerate() {
                let inside = starts[index..].iter().filter(|at| **at < *first + unit).count();
                prop_assert!(inside <= most as usize, "{inside} in {unit:?}: {starts:?}");
            }
        }
        for who in untold.into_iter().chain(holders.into_iter().map(|(who, _)| who)) {
            state.spent(who);
        }
        state.forget_before(now + 100 * ms(unit_ms * 20));
        prop_assert!(state.is_empty(), "{state:?}");
    }

}

proptest! {
    #![proptest_config(ProptestConfig { cases: 50, failure_persistence: None, ..ProptestConfig::default() })]

    /// No livelock: whatever the holders' latency, a lane with work starts something at least once in an interval and the
    /// latency together.
    #[test]
    fn inv_pace_late_holders_never_keep_a_lane_from_giving(limit in 1_u32..40, latency in 0_u64..3_000, slots in 1_usize..6) {
        let bounds = bounds(&format!("{limit}/s"));
        let within = bounds.start_within().unwrap();
        let interval = ms(1_100) / limit;
        let (mut state, mut starts, mut next) = (PaceState::default(), Vec::new(), 0);
        // Who holds a grant, for when, and when it is ready; a holder is as late each time that it is granted one.
        let mut holders: Vec<(Claim, Duration, Duration)> = Vec::new();
        let tick = ms(5);
        let mut now = HOUR;
        while now < HOUR + Duration::from_secs(20) {
            while holders.len() < slots && bounds.has_room(&state) && bounds.open_at(&state) <= now {
                next += 1;
                prop_assert!(bounds.grant(&mut state, claim(next), Role::Artifact, now));
                holders.push((claim(next), now, now + ms(latency)));
            }
            holders.retain_mut(|(who, at, ready)| {
                if now < *ready {
                    return true;
                }
                let mut starts_now = now <= *at + within;
                if !starts_now {
                    state.take_back_from(*who, Role::Artifact, &bounds);
                    starts_now = bounds.grant(&mut state, *who, Role::Artifact, now);
                }
                if starts_now {
                    state.started(*who, Role::Artifact);
                    starts.push(now);
                } else {
                    *ready = bounds.open_at(&state);
                }
                !starts_now
            });
            state.forget_before(now);
            now += tick;
        }
        let longest = interval + ms(latency) + 2 * tick;
        let gaps = starts.windows(2).map(|pair| pair[1].saturating_sub(pair[0])).max().unwrap_or_default();
        prop_assert!(starts.len() > 2 && gaps <= longest, "{gaps:?} is longer than {longest:?}");
    }
}
