//! Random schedules: the limiter against a plain model of the same rules, and against real threads.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU32, Ordering};

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use tokio::task::{JoinSet, yield_now};

use super::tests::{Bell, poll_with};
use super::*;

const KEYS: u8 = 4;

/// What the schedule does next; a number names one of those there are, modulo how many.
#[derive(Debug, Clone)]
enum Step {
    Acquire(Vec<u8>),
    Try(Vec<u8>),
    PickUp(usize),
    Release(usize),
    Cancel(usize),
    SetLimit(u8, Option<u32>),
    ClearLimit(u8),
}

fn key_set() -> impl Strategy<Value = Vec<u8>> {
    // Key 0 is in most requests, as a pool would be, so that others come between.
    (prop::bool::weighted(0.6), prop::collection::vec(1..KEYS, 0..3)).prop_map(|(pool, mut keys)| {
        keys.extend(pool.then_some(0));
        keys
    })
}

fn step() -> impl Strategy<Value = Step> {
    let cap = prop_oneof![1 => Just(None), 1 => Just(Some(0)), 6 => (1..4_u32).prop_map(Some)];
    prop_oneof![
        8 => key_set().prop_map(Step::Acquire),
        6 => key_set().prop_map(Step::Try),
        8 => any::<usize>().prop_map(Step::PickUp),
        14 => any::<usize>().prop_map(Step::Release),
        2 => any::<usize>().prop_map(Step::Cancel),
        1 => (0..KEYS, cap).prop_map(|(key, cap)| Step::SetLimit(key, cap)),
        1 => (0..KEYS).prop_map(Step::ClearLimit),
    ]
}

/// The rules again, with lists and full scans.
#[derive(Debug)]
struct Model {
    default_cap: Option<u32>,
    patience: u32,
    caps: BTreeMap<u8, Option<u32>>,
    /// By arrival; `None` is gone.
    requests: Vec<Option<Request>>,
    most_overtaken: u32,
}

#[derive(Debug, Clone)]
struct Request {
    keys: BTreeSet<u8>,
    overtakings: u32,
    started: bool,
}

impl Model {
    fn cap(&self, key: u8) -> Option<u32> {
        self.caps.get(&key).copied().unwrap_or(self.default_cap)
    }

    fn live(&self) -> impl Iterator<Item = (usize, &Request)> {
        self.requests.iter().enumerate().filter_map(|(id, request)| Some((id, request.as_ref()?)))
    }

    fn held(&self, key: u8) -> u32 {
        self.live().filter(|(_, r)| r.started && r.keys.contains(&key)).count() as u32
    }

    /// Those who wait and are not shut out by a closed key, the overtaken first.
    fn in_line(&self) -> Vec<usize> {
        let mut line: Vec<(bool, usize)> = self
            .live()
            .filter(|(_, r)| !r.started && r.keys.iter().all(|key| self.cap(*key) != Some(0)))
            .map(|(id, r)| (r.overtakings < self.patience, id))
            .collect();
        line.sort_unstable();
        line.into_iter().map(|(_, id)| id).collect()
    }

    fn could_start(&self, id: usize) -> bool {
        let keys = |id: usize| &self.requests[id].as_ref().unwrap().keys;
        keys(id).iter().all(|key| {
            let first_overtaken = self
                .in_line()
                .into_iter()
                .find(|other| keys(*other).contains(key) && self.overtakings(*other) >= self.patience);
            let set_aside = u32::from(first_overtaken.is_some_and(|first| first != id));
            self.cap(*key).is_none_or(|cap| self.held(*key) + set_aside < cap)
        })
    }

    fn overtakings(&self, id: usize) -> u32 {
        self.requests[id].as_ref().unwrap().overtakings
    }

    fn start(&mut self, id: usize) {
        let keys = self.requests[id].as_ref().unwrap().keys.clone();
        for earlier in self.in_line().into_iter().filter(|other| *other < id) {
            let capped: BTreeSet<u8> = keys.iter().copied().filter(|key| self.cap(*key).is_some()).collect();
            let patience = self.patience;
            let waiter = self.requests[earlier].as_mut().unwrap();
            if waiter.overtakings < patience && !waiter.keys.is_disjoint(&capped) {
                waiter.overtakings += 1;
                self.most_overtaken = self.most_overtaken.max(waiter.overtakings);
            }
        }
        self.requests[id].as_mut().unwrap().started = true;
    }

    fn settle(&mut self) {
        while let Some(id) = self.in_line().into_iter().find(|id| self.could_start(*id)) {
            self.start(id);
        }
    }

    /// A new request's number; it has started if it could.
    fn arrive(&mut self, keys: &[u8]) -> usize {
        let keys = keys.iter().copied().collect();
        self.requests.push(Some(Request { keys, overtakings: 0, started: false }));
        let id = self.requests.len() - 1;
        self.settle();
        id
    }

    fn has_started(&self, id: usize) -> bool {
        self.requests[id].as_ref().unwrap().started
    }

    fn leave(&mut self, id: usize) {
        self.requests[id] = None;
        self.settle();
    }
}

fn key(number: u8) -> Key {
    Key::from(format!("key-{number}"))
}

/// The limiter and the model, side by side.
struct Run {
    limiter: KeyedLimiter,
    model: Model,
    waiting: Vec<(usize, Acquire, Arc<Bell>)>,
    permits: Vec<(usize, Permit)>,
}

impl Run {
    /// A short patience, so that the schedules get to its end often.
    fn new(default_cap: Option<u32>, patience: u32) -> Self {
        let model =
            Model { default_cap, patience, caps: BTreeMap::new(), requests: Vec::new(), most_overtaken: 0 };
        let limiter = KeyedLimiter::with_patience(default_cap, patience);
        Self { limiter, model, waiting: Vec::new(), permits: Vec::new() }
    }

    fn take(&mut self, step: &Step) -> Result<(), TestCaseError> {
        match step {
            Step::Acquire(numbers) => {
                let keys: Vec<Key> = numbers.iter().copied().map(key).collect();
                let (mut acquire, bell) = (self.limiter.acquire(&keys), Arc::default());
                let permit = poll_with(&mut acquire, &bell);
                let id = self.model.arrive(numbers);
                prop_assert_eq!(permit.is_some(), self.model.has_started(id));
                match permit {
                    Some(permit) => self.permits.push((id, permit)),
                    None => self.waiting.push((id, acquire, bell)),
                }
            }
            Step::Try(numbers) => {
                let keys: Vec<Key> = numbers.iter().copied().map(key).collect();
                let permit = self.limiter.try_acquire(&keys);
                let id = self.model.arrive(numbers);
                prop_assert_eq!(permit.is_some(), self.model.has_started(id));
                match permit {
                    Some(permit) => self.permits.push((id, permit)),
                    None => self.model.leave(id),
                }
            }
            Step::PickUp(which) if !self.waiting.is_empty() => {
                let which = which % self.waiting.len();
                let (id, mut acquire, bell) = self.waiting.remove(which);
                let permit = poll_with(&mut acquire, &bell);
                prop_assert_eq!(permit.is_some(), self.model.has_started(id));
                match permit {
                    Some(permit) => self.permits.push((id, permit)),
                    None => self.waiting.insert(which, (id, acquire, bell)),
                }
            }
            Step::Release(which) if !self.permits.is_empty() => {
                let (id, permit) = self.permits.remove(which % self.permits.len());
                drop(permit);
                self.model.leave(id);
            }
            Step::Cancel(which) if !self.waiting.is_empty() => {
                let (id, acquire, _) = self.waiting.remove(which % self.waiting.len());
                drop(acquire);
                self.model.leave(id);
            }
            Step::SetLimit(number, cap) => {
                self.limiter.set_limit(key(*number), *cap);
                self.model.caps.insert(*number, *cap);
                self.model.settle();
            }
            Step::ClearLimit(number) => {
                self.limiter.clear_limit(key(*number));
                self.model.caps.remove(number);
                self.model.settle();
            }
            Step::PickUp(_) | Step::Release(_) | Step::Cancel(_) => {}
        }
        self.check()
    }

    fn check(&self) -> Result<(), TestCaseError> {
        let mut active = BTreeSet::new();
        for number in 0..KEYS {
            prop_assert_eq!(self.limiter.held(&key(number)), u64::from(self.model.held(number)));
        }
        for (_, request) in self.model.live() {
            active.extend(request.keys.iter().copied());
        }
        prop_assert_eq!(self.limiter.active_keys(), active.len());
        let waiting = self.model.live().filter(|(_, request)| !request.started).count();
        prop_assert_eq!(self.limiter.waiting(), waiting);
        for (id, _, bell) in &self.waiting {
            prop_assert_eq!(bell.rung() > 0, self.model.has_started(*id), "wake-up of {}", id);
        }
        Ok(())
    }

    /// Opens every key and lets all holders go, until all have had their turn.
    fn finish(mut self) -> Result<(), TestCaseError> {
        for number in 0..KEYS {
            self.take(&Step::SetLimit(number, Some(1)))?;
        }
        let mut rounds = self.waiting.len() + self.permits.len() + 1;
        while !(self.waiting.is_empty() && self.permits.is_empty()) {
            prop_assert!(rounds > 0, "somebody starves: {:?}", self.model);
            rounds -= 1;
            for which in (0..self.waiting.len()).rev() {
                self.take(&Step::PickUp(which))?;
            }
            self.take(&Step::Release(0))?;
        }
        prop_assert_eq!(self.limiter.active_keys(), 0);
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_schedule_goes_as_the_plain_model_says(
        default_cap in prop_oneof![1 => Just(None), 4 => (1..3_u32).prop_map(Some)],
        patience in 1..4_u32,
        steps in prop::collection::vec(step(), 1..300),
    ) {
        let mut run = Run::new(default_cap, patience);
        for step in &steps {
            run.take(step)?;
        }
        run.finish()?;
    }

    /// Each holder lets go after at most `LONGEST` steps, and someone new comes for one key at every step: who needs
    /// all keys starts after its patience and the holders of that moment are used up.
    #[test]
    fn nobody_starves(
        caps in prop::collection::vec(1..4_u32, KEYS as usize),
        traffic in prop::collection::vec((0..KEYS, 1..=LONGEST), 400),
    ) {
        let limiter = KeyedLimiter::new(None);
        for (number, cap) in (0..).zip(&caps) {
            limiter.set_limit(key(number), Some(*cap));
        }
        let mut held: Vec<(usize, Permit)> = Vec::new();
        for number in 0..KEYS {
            while let Some(permit) = limiter.try_acquire(&[key(number)]) {
                held.push((LONGEST, permit));
            }
        }
        let all: Vec<Key> = (0..KEYS).map(key).collect();
        let mut everything = limiter.acquire(&all);
        prop_assert!(poll_with(&mut everything, &Arc::default()).is_none());
        let (mut overtakings, mut steps_since) = (0, 0);
        for (now, (number, length)) in traffic.into_iter().enumerate() {
            held.retain(|(until, _)| *until > now);
            if poll_with(&mut everything, &Arc::default()).is_some() {
                return Ok(());
            }
            if let Some(permit) = limiter.try_acquire(&[key(number)]) {
                held.push((now + length, permit));
                overtakings += 1;
            }
            steps_since += usize::from(overtakings >= PATIENCE);
            prop_assert!(steps_since <= 2 * LONGEST, "waited {} steps after its patience", steps_since);
        }
        prop_assert!(overtakings < PATIENCE, "overtaken {} times and never started", overtakings);
    }
}

const LONGEST: usize = 8;

/// The random schedules are worth nothing if they never get to where permits are set aside.
#[test]
fn the_schedules_reach_the_end_of_patience() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let schedules = prop::collection::vec(step(), 300);
    let mut reached = 0;
    for _ in 0..50 {
        let steps = schedules.new_tree(&mut runner).unwrap().current();
        let mut run = Run::new(Some(1), 3);
        for step in &steps {
            run.take(step).unwrap();
        }
        reached += u32::from(run.model.most_overtaken >= 3);
    }
    assert!(reached >= 25, "only {reached} of 50 schedules overtook anybody thrice");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn threads_never_exceed_a_cap_and_lose_nothing_when_cancelled() {
    const CAPS: [u32; 3] = [1, 2, 3];
    let limiter = KeyedLimiter::new(None);
    for (number, cap) in (0..).zip(CAPS) {
        limiter.set_limit(key(number), Some(cap));
    }
    let inside: Arc<[AtomicU32; 3]> = Arc::default();
    let mut tasks = JoinSet::new();
    for task in 0..12_u64 {
        let (limiter, inside) = (limiter.clone(), Arc::clone(&inside));
        tasks.spawn(async move {
            let mut random = fast_random(task);
            for _ in 0..400 {
                let chosen: Vec<u8> = (0..3).filter(|_| random().is_multiple_of(2)).collect();
                let keys: Vec<Key> = chosen.iter().copied().map(key).collect();
                let patience = random() % 6;
                let gives_up = async {
                    for _ in 0..patience {
                        yield_now().await;
                    }
                };
                // One in two waits to the end.
                let permit = if random().is_multiple_of(2) {
                    limiter.acquire_until(&keys, gives_up).await.ok()
                } else {
                    Some(limiter.acquire(&keys).await)
                };
                let Some(permit) = permit else { continue };
                for number in &chosen {
                    let now = inside[usize::from(*number)].fetch_add(1, Ordering::SeqCst) + 1;
                    assert!(now <= CAPS[usize::from(*number)], "{now} inside {number}");
                }
                yield_now().await;
                for number in &chosen {
                    inside[usize::from(*number)].fetch_sub(1, Ordering::SeqCst);
                }
                drop(permit);
            }
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
    assert_eq!((limiter.waiting(), limiter.active_keys()), (0, 0));
}

/// A small generator of the test's own (xorshift), so that a task's choices are the same in every run.
fn fast_random(seed: u64) -> impl FnMut() -> u64 {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state >> 8
    }
}
