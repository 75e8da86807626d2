//! What a try may start, and when.

use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use crate::support::{Desk, ScriptedQueue, fetched, lane, leased};
use longhaul_events::{Event, WaitCause};
use longhaul_limiter::{ConfiguredLimits, Key, Lane, LaneRules, Role};
use longhaul_pipeline::{Grant, Move, Outcome};
use longhaul_queue_core::{Admission, ErrorKind, JobId, LeasedJob, Place, QueueError, Result, Verdict};
use longhaul_worker::Answered;
use tokio::sync::Notify;

const LATE: Duration = Duration::from_millis(26);

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn script(admissions: impl IntoIterator<Item = Result<Admission>>) -> ScriptedQueue {
    ScriptedQueue { admissions: Mutex::new(admissions.into_iter().collect()), ..ScriptedQueue::default() }
}

const ADMITTED: Result<Admission> = Ok(Admission::Admitted {
    paced: true,
    start_after: Duration::ZERO,
    start_within: Duration::from_millis(25),
});

/// A desk whose pipeline asks for these requests, in order, and writes down the answers.
fn asks(queue: ScriptedQueue, places: Vec<(Lane, Role)>) -> (Desk, Arc<Mutex<Vec<Grant>>>) {
    let grants = Arc::new(Mutex::new(Vec::new()));
    let written = grants.clone();
    let desk = Desk::new(queue, move |_job, context| {
        let (places, written) = (places.clone(), written.clone());
        Box::pin(async move {
            for (lane, role) in places {
                let grant = context.admit(&lane, role).await;
                written.lock().unwrap().push(grant);
                if let Grant::Move { after } | Grant::Later { after } = grant {
                    return Outcome::Moved(Move { lane, role, after, checkpoint: None }).into();
                }
            }
            Outcome::Done(fetched()).into()
        })
    });
    (desk, grants)
}

fn home() -> (Lane, Role) {
    (lane("a.example"), Role::Artifact)
}

async fn grants_of(queue: ScriptedQueue, places: Vec<(Lane, Role)>) -> (Vec<Grant>, Desk) {
    let (desk, grants) = asks(queue, places);
    desk.run(leased()).await;
    let grants = grants.lock().unwrap().clone();
    (grants, desk)
}

#[tokio::test]
async fn the_first_request_is_granted_by_the_lease_and_the_second_by_the_queue() {
    let (grants, desk) = grants_of(script([ADMITTED]), vec![home(), home()]).await;
    assert_eq!(grants, [Grant::Go, Grant::Go]);
    assert_eq!(*desk.queue.asked.lock().unwrap(), [Place::new(lane("a.example"), Role::Artifact)]);
}

#[tokio::test]
async fn a_first_request_elsewhere_or_for_another_role_asks_the_queue() {
    for place in [(lane("b.example"), Role::Artifact), (lane("a.example"), Role::Landing)] {
        let (grants, desk) = grants_of(script([ADMITTED]), vec![place]).await;
        assert_eq!(grants, [Grant::Go]);
        assert_eq!(desk.queue.asked.lock().unwrap().len(), 1);
    }
}

#[tokio::test]
async fn inv_pace_a_lease_that_is_not_used_in_time_is_asked_for_again() {
    let (desk, grants) = asks(script([ADMITTED]), vec![home()]);
    let at = longhaul_limiter::Clock::monotonic(&desk.clock);
    let answered = Answered { at, age: Duration::ZERO, free_at: at };
    desk.clock.advance(LATE);
    desk.worker.run(leased(), answered, desk.cancel.clone()).await;
    assert_eq!(*grants.lock().unwrap(), [Grant::Go]);
    assert_eq!(desk.queue.asked.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn inv_pace_a_grant_that_took_seconds_to_arrive_is_asked_for_again() {
    let (desk, grants) = asks(script([ADMITTED, ADMITTED]), vec![(lane("b.example"), Role::Landing)]);
    *desk.queue.frozen.lock().unwrap() = Some(desk.clock.clone());
    desk.run(leased()).await;
    assert_eq!(*grants.lock().unwrap(), [Grant::Go]);
    assert_eq!(desk.queue.asked.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn a_short_wait_is_waited_and_announced() {
    let queue = script([Ok(Admission::NotBefore(ms(250))), ADMITTED]);
    let (desk, grants) = asks(queue, vec![(lane("b.example"), Role::Landing)]);
    // Two sleep on the clock: the try's time limit and the wait.
    tokio::join!(desk.run(leased()), desk.advance_when(2, ms(250)));
    assert_eq!(*grants.lock().unwrap(), [Grant::Go]);
    let waited = |event: &Event| matches!(event, Event::Waited { job: 7, waited, .. } if *waited == ms(250));
    assert!(desk.recorder.events().iter().any(waited));
}

#[tokio::test]
async fn inv_no_hold_and_wait_a_longer_wait_or_a_full_lane_moves_the_job() {
    let elsewhere = (lane("b.example"), Role::Landing);
    for (admission, after) in [(Admission::NotBefore(ms(251)), ms(251)), (Admission::Full, Duration::ZERO)] {
        let (desk, grants) = asks(script([Ok(admission)]), vec![elsewhere.clone()]);
        let finished = desk.run(leased()).await;
        assert_eq!(*grants.lock().unwrap(), [Grant::Move { after }]);
        // The job waits by its lane's turn: what closes the lane may be lifted before that time.
        let (after, place) = (Duration::ZERO, Place::new(elsewhere.0.clone(), elsewhere.1));
        assert_eq!(finished.settlement.verdict, Verdict::Defer { after, place, checkpoint: None });
    }
}

#[tokio::test]
async fn a_lane_that_is_always_taken_by_others_is_not_asked_for_ever() {
    let queue = script((0..8).map(|_| Ok(Admission::NotBefore(ms(10)))));
    let (desk, grants) = asks(queue, vec![(lane("b.example"), Role::Landing)]);
    let clock = async {
        for _ in 0..8 {
            desk.advance_when(2, ms(10)).await;
            tokio::task::yield_now().await;
        }
    };
    tokio::join!(desk.run(leased()), clock);
    assert_eq!(*grants.lock().unwrap(), [Grant::Move { after: ms(10) }]);
}

#[tokio::test]
async fn inv_cooldown_a_lane_that_is_held_back_grants_nothing_even_from_the_lease() {
    let (desk, grants) = asks(script([]), vec![home()]);
    let first = Desk::new(script([]), |_job, context| {
        Box::pin(async move {
            context.hold_back(&lane("a.example"), Duration::from_mins(1));
            let after = match context.admit(&lane("a.example"), Role::Artifact).await {
                Grant::Later { after } => after,
                other => panic!("{other:?}"),
            };
            let (lane, role) = home();
            Outcome::Moved(Move { lane, role, after, checkpoint: None }).into()
        })
    });
    let finished = first.run(leased()).await;
    assert!(
        matches!(finished.settlement.verdict, Verdict::Defer { after, .. } if after == Duration::from_mins(1))
    );
    // Another process knows nothing of it: there the queue is the one to ask.
    desk.run(leased()).await;
    assert_eq!(*grants.lock().unwrap(), [Grant::Go]);
}

#[tokio::test]
async fn inv_cap_nothing_starts_once_the_lease_cannot_be_trusted() {
    let (desk, grants) = asks(script([]), vec![home()]);
    desk.trust.renew(Duration::ZERO, Duration::from_secs(1));
    let finished = desk.run(leased()).await;
    assert_eq!(*grants.lock().unwrap(), [Grant::Stop]);
    assert_eq!(finished.settlement.verdict, Verdict::Release { checkpoint: None });
}

#[tokio::test]
async fn a_lost_lease_stops_the_try_and_cancels_it() {
    let (grants, desk) = grants_of(
        script([Ok(Admission::LeaseLost)]),
        vec![(lane("b.example"), Role::Artifact), (lane("b.example"), Role::Artifact)],
    )
    .await;
    assert_eq!(grants, [Grant::Stop, Grant::Stop]);
    assert!(desk.cancel.is_cancelled());
}

#[tokio::test]
async fn a_store_that_cannot_be_reached_is_asked_again() {
    let down = || Err(QueueError::new(ErrorKind::Unavailable, "no connection"));
    let (desk, grants) = asks(script([down(), down(), ADMITTED]), vec![(lane("b.example"), Role::Landing)]);
    let clock = async {
        desk.advance_when(2, ms(50)).await;
        tokio::task::yield_now().await;
        desk.advance_when(2, ms(100)).await;
    };
    tokio::join!(desk.run(leased()), clock);
    assert_eq!(*grants.lock().unwrap(), [Grant::Go]);
    let down = desk.recorder.events().iter().filter(|e| matches!(e, Event::StoreUnavailable { .. })).count();
    assert_eq!(down, 2);
}

#[tokio::test]
async fn a_store_that_refuses_for_good_is_a_local_fault() {
    let refused = Err(QueueError::new(ErrorKind::Corrupt, "two rows"));
    let (desk, grants) = asks(script([refused]), vec![(lane("b.example"), Role::Landing)]);
    let finished = desk.run(leased()).await;
    assert_eq!(*grants.lock().unwrap(), [Grant::Stop]);
    assert_eq!(finished.settlement.verdict, Verdict::Release { checkpoint: None });
    assert!(finished.local_fault.unwrap().contains("two rows"));
}

#[tokio::test]
async fn a_checkpoint_of_a_lost_claim_cancels_the_try() {
    let queue = ScriptedQueue { checkpoint_lost: true, ..ScriptedQueue::default() };
    let desk = Desk::new(queue, |_job, context| {
        Box::pin(async move {
            assert!(!context.checkpoint("new").await);
            context.cancelled().cancelled().await;
            Outcome::Done(fetched()).into()
        })
    });
    desk.run(LeasedJob { checkpoint: None, ..leased() }).await;
    assert!(desk.cancel.is_cancelled());
}

/// One at a time for the resolver `a`.
fn one_for_a() -> ConfiguredLimits {
    let limits = ConfiguredLimits::new(Arc::new(LaneRules::default()));
    limits.keyed.set_limit(Key::resolver("a"), Some(1));
    limits
}

/// Two tries that follow plans of the resolver `a`, one after the other; the first holds its permit until it is told to end.
fn two_tries(limits: ConfiguredLimits, queue: ScriptedQueue) -> (Desk, Arc<Notify>, Arc<Mutex<Vec<Grant>>>) {
    let (end, grants) = (Arc::new(Notify::new()), Arc::new(Mutex::new(Vec::new())));
    let (ending, written) = (Arc::clone(&end), Arc::clone(&grants));
    let desk = Desk::with_limits(queue, Arc::new(limits), move |job, context| {
        let (ending, written, number) = (Arc::clone(&ending), Arc::clone(&written), job.number);
        Box::pin(async move {
            context.serving("a");
            let (lane, role) = home();
            let grant = context.admit(&lane, role).await;
            written.lock().unwrap().push(grant);
            match grant {
                Grant::Move { after } | Grant::Later { after } => {
                    Outcome::Moved(Move { lane, role, after, checkpoint: None }).into()
                }
                Grant::Go if number == 7 => {
                    ending.notified().await;
                    Outcome::Done(fetched()).into()
                }
                _ => Outcome::Done(fetched()).into(),
            }
        })
    });
    (desk, end, grants)
}

fn another(number: i64) -> LeasedJob {
    let mut job = leased();
    job.token.job = JobId(number);
    job
}

/// The slot is given back before the wait, and taken again after it.
#[tokio::test]
async fn inv_no_hold_and_wait_who_waits_for_a_resolver_has_no_slot() {
    let limits = one_for_a();
    let keyed = limits.keyed.clone();
    let (desk, end, grants) = two_tries(limits, script([ADMITTED, ADMITTED]));
    let release = async {
        while keyed.waiting() == 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(*desk.queue.asked.lock().unwrap(), [Place::new(Lane::NONE, Role::Artifact)]);
        end.notify_one();
    };
    tokio::join!(desk.run(leased()), desk.run(another(8)), release);
    assert_eq!(*grants.lock().unwrap(), [Grant::Go, Grant::Go]);
    assert_eq!(desk.queue.asked.lock().unwrap().len(), 2);
    assert_eq!((keyed.held(&Key::resolver("a")), keyed.waiting()), (0, 0));
    let told = |event: &Event| matches!(event, Event::Waited { job: 8, why: WaitCause::Resolver, key, .. } if key == "a");
    assert!(desk.recorder.events().iter().any(told), "whose turn it waited for is told");
}

/// As many wait as may work; who comes then is not in a worker's way.
#[tokio::test]
async fn a_job_goes_back_into_the_queue_if_enough_wait_for_its_resolver() {
    let limits = one_for_a();
    let keyed = limits.keyed.clone();
    let (desk, end, grants) = two_tries(limits, script([ADMITTED, ADMITTED]));
    let third = async {
        while keyed.waiting() == 0 {
            tokio::task::yield_now().await;
        }
        let finished = desk.run(another(9)).await;
        assert!(matches!(finished.settlement.verdict, Verdict::Defer { after, .. } if after == ms(250)));
        end.notify_one();
    };
    tokio::join!(desk.run(leased()), desk.run(another(8)), third);
    assert_eq!(*grants.lock().unwrap(), [Grant::Go, Grant::Later { after: ms(250) }, Grant::Go]);
}

/// A pace is waited for without the permit, and a lane that is full by then is no move.
#[tokio::test]
async fn inv_no_hold_and_wait_who_waits_for_a_lane_has_no_permit() {
    let limits = one_for_a();
    let keyed = limits.keyed.clone();
    let queue = script([ADMITTED, Ok(Admission::NotBefore(ms(200))), Ok(Admission::Full)]);
    let (desk, end, grants) = two_tries(limits, queue);
    let rest = async {
        while keyed.waiting() == 0 {
            tokio::task::yield_now().await;
        }
        end.notify_one();
        while desk.queue.asked.lock().unwrap().len() < 2 {
            tokio::task::yield_now().await;
        }
        // The time limit of the try and its wait.
        while desk.clock.sleepers() < 2 {
            tokio::task::yield_now().await;
        }
        assert_eq!(keyed.held(&Key::resolver("a")), 0);
        desk.clock.advance(ms(200));
    };
    tokio::join!(desk.run(leased()), desk.run(another(8)), rest);
    assert_eq!(*grants.lock().unwrap(), [Grant::Go, Grant::Later { after: Duration::ZERO }]);
}

#[tokio::test]
async fn a_permit_is_given_back_when_the_next_resolver_is_served() {
    let limits = one_for_a();
    let keyed = limits.keyed.clone();
    let held = keyed.clone();
    let desk = Desk::with_limits(script([ADMITTED]), Arc::new(limits), move |_job, context| {
        let keyed = held.clone();
        Box::pin(async move {
            for (resolver, holding) in [("a", 1), ("b", 0)] {
                context.serving(resolver);
                assert_eq!(context.admit(&lane("a.example"), Role::Artifact).await, Grant::Go);
                assert_eq!(keyed.held(&Key::resolver("a")), holding);
            }
            Outcome::Done(fetched()).into()
        })
    });
    let finished = desk.run(leased()).await;
    assert!(matches!(finished.settlement.verdict, Verdict::Done { .. }));
    assert_eq!(keyed.active_keys(), 0);
}

/// Where all roles of a host are counted as one, the lease has granted whichever comes first.
#[tokio::test]
async fn a_lease_grants_any_role_where_all_share_a_pace() {
    let (desk, grants) = asks(script([]), vec![(lane("arxiv.org"), Role::Landing)]);
    let place = Place::new(lane("arxiv.org"), Role::Artifact);
    desk.run(LeasedJob { place, ..leased() }).await;
    assert_eq!(*grants.lock().unwrap(), [Grant::Go]);
}
