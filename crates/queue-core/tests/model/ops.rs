//! What may happen in a sequence, and how sequences are drawn. Numbers are small on purpose, so that operations meet:
//! few artifacts, few lanes, few paths, and picks among what a run has seen so far.

use std::time::Duration;

use longhaul_limiter::Controller;
use longhaul_queue_core::JobState;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{Index, select};

/// Worker processes at a time.
pub const WORKERS: usize = 3;
/// Artifacts that a sequence may name.
pub const KEYS: usize = 24;
/// The lanes; the empty one presses on nobody.
pub const LANES: [&str; 5] = ["", "a.example", "b.example", "c.example", "d.example:8443"];

/// A job to enqueue.
#[derive(Debug, Clone)]
pub struct NewSpec {
    pub key: usize,
    pub lane: usize,
    pub role: usize,
    pub priority: u8,
    pub delay: Duration,
    pub bare: bool,
}

/// A wish for jobs.
#[derive(Debug, Clone)]
pub struct LeaseSpec {
    pub worker: usize,
    pub max: usize,
    pub ahead: usize,
    pub alone: bool,
    /// Whether it says that what was granted lately has started.
    pub tells: bool,
    /// So many lanes are named as critical.
    pub critical: usize,
}

/// A claim that was made in this sequence: one that is held if there is any and `stale` does not ask for another.
#[derive(Debug, Clone)]
pub struct ClaimSpec {
    pub pick: Index,
    pub stale: bool,
}

/// How a try ends.
#[derive(Debug, Clone)]
pub enum VerdictSpec {
    Done { file: Option<(usize, usize)> },
    Skipped,
    Error,
    Retry { after: Duration, to: Option<usize> },
    Defer { after: Duration, to: usize },
    Throttled { to: Option<usize> },
    Release { checkpoint: bool },
}

/// What a try says of a lane.
#[derive(Debug, Clone)]
pub enum ReportSpec {
    Served,
    Failed { times: usize },
    Throttled { retry_after: Option<Duration> },
    Paced { controller: Controller, every: Duration, valid_for: Duration },
    Unused,
}

/// A settlement.
#[derive(Debug, Clone)]
pub struct SettleSpec {
    pub claim: ClaimSpec,
    pub verdict: VerdictSpec,
    pub reports: Vec<(usize, ReportSpec)>,
}

/// Which jobs an operator means.
#[derive(Debug, Clone)]
pub struct FilterSpec {
    pub state: Option<JobState>,
    pub lane: Option<usize>,
    pub reason: Option<&'static str>,
}

/// One step.
#[derive(Debug, Clone)]
pub enum Op {
    Enqueue(Vec<NewSpec>),
    Join {
        worker: usize,
        ttl: Duration,
    },
    Heartbeat {
        worker: usize,
        ttl: Duration,
    },
    Leave {
        worker: usize,
    },
    Lease(LeaseSpec),
    RepeatLease {
        pick: Index,
    },
    Admit {
        claim: ClaimSpec,
        lane: usize,
        role: usize,
        /// Of which role the claim has a grant in that lane that it did not use.
        unused: Option<usize>,
    },
    Checkpoint {
        claim: ClaimSpec,
    },
    Settle {
        settlements: Vec<SettleSpec>,
        then: Option<LeaseSpec>,
    },
    RepeatSettle {
        pick: Index,
    },
    Published {
        keys: Vec<usize>,
    },
    CachePut {
        key: usize,
        ttl: Duration,
    },
    CacheGet {
        key: usize,
    },
    Pause {
        lane: Option<usize>,
        length: Option<Duration>,
    },
    Resume {
        lane: Option<usize>,
    },
    Close {
        lane: usize,
        length: Duration,
    },
    RetryFailed {
        filter: FilterSpec,
        limit: usize,
    },
    Requeue {
        keys: Vec<usize>,
    },
    Cancel {
        keys: Vec<usize>,
    },
    Reconcile {
        worker: usize,
        keep: Index,
    },
    Prune {
        state: JobState,
        age: Duration,
    },
    Check {
        repair: bool,
    },
    List {
        filter: FilterSpec,
        after: Option<i64>,
        limit: usize,
    },
    Get {
        key: usize,
    },
    Explain {
        key: usize,
        worker: usize,
    },
    Lanes {
        after: Option<usize>,
        limit: usize,
    },
    Unpublished {
        store: usize,
        after: Option<i64>,
        limit: usize,
    },
    Workers,
    Stats,
    Changed,
    /// Time goes on.
    Advance {
        time: Duration,
    },
    /// The calendar is set, and time goes on as it did.
    StepWall {
        seconds: u64,
    },
    /// Every handle is dropped and the file is opened again; processes start anew under other names, or go on.
    Crash {
        renamed: bool,
    },
}

/// A sequence.
#[derive(Debug, Clone)]
pub struct Sequence {
    /// Whose rules the workers have, by number in the table of rules.
    pub rules: [usize; WORKERS],
    pub max_losses: u32,
    /// How far ahead all workers are granted starts: a turn that was put off for one is not looked at earlier by another.
    pub lead: Duration,
    pub steps: Vec<Op>,
}

/// Sequences of 16 to 40 scenes; three in four have crashes.
pub fn sequences() -> impl Strategy<Value = Sequence> {
    let rules = prop_oneof![
        (0..super::world::RULES).prop_map(|rules| [rules; WORKERS]),
        [0..super::world::RULES, 0..super::world::RULES, 0..super::world::RULES],
    ];
    let crashes = prop_oneof![1 => vec(any::<(Index, bool)>(), 0), 3 => vec(any::<(Index, bool)>(), 1..4)];
    let max_losses = select(&[1u32, 3, 3, 4][..]);
    let lead = select(&[0u64, 0, 20, 150][..]).prop_map(Duration::from_millis);
    let parts = (rules, max_losses, lead, vec(scene(), 16..40), crashes);
    parts.prop_map(|(rules, max_losses, lead, mut scenes, crashes)| {
        for (at, renamed) in crashes {
            let mut scene = vec![Op::Crash { renamed }];
            if renamed {
                scene.extend(joins());
            }
            scenes.insert(at.index(scenes.len() + 1), scene);
        }
        Sequence { rules, max_losses, lead, steps: scenes.concat() }
    })
}

fn joins() -> impl Iterator<Item = Op> {
    (0..WORKERS).map(|worker| Op::Join { worker, ttl: Duration::from_mins(1) })
}

/// One step, or several that seldom come together by chance and must be met in every run.
fn scene() -> impl Strategy<Value = Vec<Op>> {
    let wish =
        |worker, max, alone| Op::Lease(LeaseSpec { worker, max, ahead: 0, alone, tells: true, critical: 0 });
    let long = || Op::Advance { time: Duration::from_secs(130) };
    let dies_twice = (0..WORKERS, 1..4usize).prop_map(move |(worker, max)| {
        let mut steps = Vec::new();
        for alone in [false, false, true] {
            steps.extend([Op::Resume { lane: None }, wish(worker, max, alone), long()]);
            steps.extend(joins());
        }
        steps.extend([wish(0, 3, false), wish(1, 1, true), wish(1, 3, false), wish(1, 3, true)]);
        steps
    });
    let works = (0..WORKERS, vec(new_job(), 1..4), vec(settlement(), 1..4), option::of(lease())).prop_map(
        move |(worker, jobs, settlements, then)| {
            let join = Op::Join { worker, ttl: Duration::from_mins(1) };
            let resume = Op::Resume { lane: None };
            vec![join, resume, Op::Enqueue(jobs), wish(worker, 5, false), Op::Settle { settlements, then }]
        },
    );
    let repeats = (any::<Index>(), any::<bool>()).prop_map(|(pick, settlement)| {
        vec![if settlement { Op::RepeatSettle { pick } } else { Op::RepeatLease { pick } }]
    });
    let remembers = (0..3usize, seconds(&[5, 60])).prop_map(|(key, ttl)| {
        vec![Op::CachePut { key, ttl }, Op::Advance { time: Duration::from_secs(5) }, Op::CacheGet { key }]
    });
    let prunes = select(&[JobState::Done, JobState::Skipped, JobState::Error][..]).prop_map(|state| {
        let keys = (0..KEYS).collect();
        vec![Op::Published { keys }, Op::Prune { state, age: Duration::ZERO }]
    });
    let is_full =
        (vec((claim(), 1..LANES.len(), 0..3usize), 2), 0..WORKERS).prop_map(move |(claims, worker)| {
            let admits =
                claims.into_iter().map(|(claim, lane, role)| Op::Admit { claim, lane, role, unused: None });
            let explain = (0..KEYS).step_by(2).map(|key| Op::Explain { key, worker });
            std::iter::once(wish(worker, 20, false)).chain(admits).chain(explain).collect()
        });
    let pauses = (option::of(0..LANES.len()), 0..WORKERS).prop_map(move |(lane, worker)| {
        let length = Some(Duration::from_secs(10));
        let explain = (0..KEYS).step_by(2).map(|key| Op::Explain { key, worker });
        let resume = Op::Resume { lane };
        let pause = Op::Pause { lane, length };
        std::iter::once(pause).chain(explain).chain([wish(worker, 3, false), resume]).collect()
    });
    let operates =
        (keys(), 0..LANES.len(), 0..WORKERS, any::<Index>()).prop_map(move |(keys, lane, worker, keep)| {
            let filter = FilterSpec { state: None, lane: None, reason: None };
            vec![
                wish(worker, 3, false),
                Op::Cancel { keys: keys.clone() },
                Op::Requeue { keys: (0..KEYS).step_by(5).collect() },
                Op::RetryFailed { filter, limit: 1 },
                wish(worker, 3, false),
                Op::Reconcile { worker, keep },
                Op::Close { lane, length: Duration::from_secs(1) },
            ]
        });
    let goes = (0..WORKERS, claim()).prop_map(move |(worker, claim)| {
        let ttl = Duration::from_secs(10);
        let (beat, leave) = (Op::Heartbeat { worker, ttl }, Op::Leave { worker });
        let checkpoint = Op::Checkpoint { claim };
        vec![wish(worker, 2, false), checkpoint, long(), beat.clone(), Op::Workers, leave, beat]
    });
    prop_oneof![
        34 => step().prop_map(|step| vec![step]),
        8 => works,
        1 => dies_twice,
        3 => repeats,
        1 => remembers,
        1 => prunes,
        4 => is_full,
        2 => pauses,
        2 => operates,
        1 => goes,
    ]
}

fn seconds(choices: &'static [u64]) -> impl Strategy<Value = Duration> {
    select(choices).prop_map(Duration::from_secs)
}

fn keys() -> impl Strategy<Value = Vec<usize>> {
    vec(0..KEYS, 1..6)
}

fn new_job() -> impl Strategy<Value = NewSpec> {
    let delay = prop_oneof![4 => Just(Duration::ZERO), 1 => seconds(&[1, 20])];
    (0..KEYS, 0..LANES.len(), 0..3usize, select(&[0u8, 0, 0, 5, 9][..]), delay, any::<bool>()).prop_map(
        |(key, lane, role, priority, delay, bare)| NewSpec { key, lane, role, priority, delay, bare },
    )
}

fn lease() -> impl Strategy<Value = LeaseSpec> {
    let ahead = prop_oneof![3 => Just(0usize), 1 => select(&[1usize, 4, 30][..])];
    let max = select(&[0usize, 1, 2, 3, 5, 20][..]);
    let critical = prop_oneof![2 => Just(0usize), 1 => 1..=LANES.len()];
    (0..WORKERS, max, ahead, prop::bool::weighted(0.25), prop::bool::weighted(0.7), critical).prop_map(
        |(worker, max, ahead, alone, tells, critical)| LeaseSpec {
            worker,
            max,
            ahead,
            alone,
            tells,
            critical,
        },
    )
}

fn claim() -> impl Strategy<Value = ClaimSpec> {
    (any::<Index>(), prop::bool::weighted(0.1)).prop_map(|(pick, stale)| ClaimSpec { pick, stale })
}

fn verdict() -> impl Strategy<Value = VerdictSpec> {
    let after = || seconds(&[0, 1, 30]);
    prop_oneof![
        3 => option::weighted(0.8, (0..2usize, 0..4usize)).prop_map(|file| VerdictSpec::Done { file }),
        1 => Just(VerdictSpec::Skipped),
        2 => Just(VerdictSpec::Error),
        2 => (after(), option::of(0..LANES.len())).prop_map(|(after, to)| VerdictSpec::Retry { after, to }),
        1 => (after(), 0..LANES.len()).prop_map(|(after, to)| VerdictSpec::Defer { after, to }),
        1 => option::of(0..LANES.len()).prop_map(|to| VerdictSpec::Throttled { to }),
        1 => any::<bool>().prop_map(|checkpoint| VerdictSpec::Release { checkpoint }),
    ]
}

fn report() -> impl Strategy<Value = ReportSpec> {
    prop_oneof![
        3 => Just(ReportSpec::Served),
        1 => select(&[1usize, 1, 5][..]).prop_map(|times| ReportSpec::Failed { times }),
        1 => option::of(seconds(&[0, 2, 15, 200_000])).prop_map(|retry_after| ReportSpec::Throttled { retry_after }),
        1 => paced(),
        2 => Just(ReportSpec::Unused),
    ]
}

fn paced() -> impl Strategy<Value = ReportSpec> {
    let controller = select(&[Controller::CrawlDelay, Controller::Announced][..]);
    (controller, seconds(&[0, 1, 10, 1_000]), seconds(&[3, 60, 100_000]))
        .prop_map(|(controller, every, valid_for)| ReportSpec::Paced { controller, every, valid_for })
}

fn settlement() -> impl Strategy<Value = SettleSpec> {
    (claim(), verdict(), vec((0..LANES.len(), report()), 0..3))
        .prop_map(|(claim, verdict, reports)| SettleSpec { claim, verdict, reports })
}

fn filter() -> impl Strategy<Value = FilterSpec> {
    let state = option::weighted(0.4, select(&JobState::ALL[..]));
    let reason = option::weighted(0.2, select(&["ok", "timeout", "cancelled", "lease-lost", "gone"][..]));
    (state, option::weighted(0.3, 0..LANES.len()), reason).prop_map(|(state, lane, reason)| FilterSpec {
        state,
        lane,
        reason,
    })
}

fn step() -> impl Strategy<Value = Op> {
    let limit = || select(&[0usize, 1, 3, 100][..]);
    let after = || option::of(0..20i64);
    let terminal = || select(&[JobState::Done, JobState::Skipped, JobState::Error, JobState::Queued][..]);
    let lane = || 0..LANES.len();
    let work = prop_oneof![
        10 => vec(new_job(), 1..8).prop_map(Op::Enqueue),
        4 => (0..WORKERS, seconds(&[10, 60, 120])).prop_map(|(worker, ttl)| Op::Join { worker, ttl }),
        6 => (0..WORKERS, seconds(&[10, 60, 120])).prop_map(|(worker, ttl)| Op::Heartbeat { worker, ttl }),
        1 => (0..WORKERS).prop_map(|worker| Op::Leave { worker }),
        16 => lease().prop_map(Op::Lease),
        2 => any::<Index>().prop_map(|pick| Op::RepeatLease { pick }),
        5 => (claim(), lane(), 0..3usize, option::of(0..3usize))
            .prop_map(|(claim, lane, role, unused)| Op::Admit { claim, lane, role, unused }),
        2 => claim().prop_map(|claim| Op::Checkpoint { claim }),
        20 => (vec(settlement(), 0..4), option::of(lease()))
            .prop_map(|(settlements, then)| Op::Settle { settlements, then }),
        2 => any::<Index>().prop_map(|pick| Op::RepeatSettle { pick }),
        3 => keys().prop_map(|keys| Op::Published { keys }),
        1 => (0..3usize, seconds(&[0, 5, 60])).prop_map(|(key, ttl)| Op::CachePut { key, ttl }),
        1 => (0..3usize).prop_map(|key| Op::CacheGet { key }),
        1 => Just(Op::Changed),
    ];
    let operators = prop_oneof![
        2 => (option::weighted(0.8, lane()), option::weighted(0.8, seconds(&[1, 10, 60])))
            .prop_map(|(lane, length)| Op::Pause { lane, length }),
        4 => option::of(lane()).prop_map(|lane| Op::Resume { lane }),
        1 => (lane(), seconds(&[1, 10, 90_000])).prop_map(|(lane, length)| Op::Close { lane, length }),
        2 => (filter(), limit()).prop_map(|(filter, limit)| Op::RetryFailed { filter, limit }),
        2 => keys().prop_map(|keys| Op::Requeue { keys }),
        2 => keys().prop_map(|keys| Op::Cancel { keys }),
        1 => (0..WORKERS, any::<Index>()).prop_map(|(worker, keep)| Op::Reconcile { worker, keep }),
        2 => (terminal(), seconds(&[0, 0, 5])).prop_map(|(state, age)| Op::Prune { state, age }),
        1 => any::<bool>().prop_map(|repair| Op::Check { repair }),
        1 => (filter(), after(), limit()).prop_map(|(filter, after, limit)| Op::List { filter, after, limit }),
        1 => (0..KEYS).prop_map(|key| Op::Get { key }),
        4 => (0..KEYS, 0..WORKERS).prop_map(|(key, worker)| Op::Explain { key, worker }),
        1 => (option::of(lane()), limit()).prop_map(|(after, limit)| Op::Lanes { after, limit }),
        1 => (0..2usize, after(), limit())
            .prop_map(|(store, after, limit)| Op::Unpublished { store, after, limit }),
        1 => Just(Op::Workers),
        1 => Just(Op::Stats),
    ];
    let time = prop_oneof![
        4 => select(&[1u64, 150, 550, 1_000, 1_100, 3_000][..]),
        2 => select(&[5_000u64, 10_000, 15_000][..]),
        1 => select(&[60_000u64, 130_000][..]),
    ];
    prop_oneof![
        16 => work,
        10 => operators,
        6 => time.prop_map(|millis| Op::Advance { time: Duration::from_millis(millis) }),
        // A step of a millisecond or two is taken for a cut of the clocks and not for a step.
        1 => select(&[0u64, 1_100_000_000, 4_000_000_000][..]).prop_map(|seconds| Op::StepWall { seconds }),
    ]
}
