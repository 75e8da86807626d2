//! What the sequences of a run met: operations, transitions of the state machine, crashes.

use std::collections::BTreeMap;

use longhaul_queue_core::{JobEvent, JobState};

/// Operations that must have been carried out, and situations that must have been met.
const MUST: [&str; 49] = [
    "enqueue: new",
    "enqueue: duplicate",
    "join",
    "heartbeat",
    "heartbeat: expired",
    "heartbeat: stranger",
    "leave",
    "lease: given",
    "lease: nothing",
    "lease: alone",
    "lease: repeated",
    "lease: no lane",
    "admit: admitted",
    "admit: full",
    "admit: not before",
    "admit: lost",
    "checkpoint: kept",
    "checkpoint: lost",
    "settle: recorded",
    "settle: lost",
    "settle: path taken",
    "settle: then",
    "settle: repeated",
    "settle: repeated lost",
    "report: served",
    "report: failed",
    "report: strike",
    "report: throttled",
    "report: paced",
    "report: unused",
    "published",
    "cache: hit",
    "cache: miss",
    "pause: all",
    "pause: lane",
    "resume: ended",
    "resume: nothing",
    "close",
    "close: no lane",
    "reconcile: released",
    "prune: pruned",
    "check",
    "list",
    "get",
    "lanes",
    "unpublished",
    "workers",
    "changed: woken",
    "crash",
];

/// Every answer of `explain`.
const EXPLAIN: [&str; 10] = [
    "explain: Running",
    "explain: Ended",
    "explain: Ready",
    "explain: Delayed",
    "explain: CoolDown",
    "explain: Pace",
    "explain: CapFull",
    "explain: LanePaused",
    "explain: QueuePaused",
    "explain: WorkerDied",
];

/// Counters of one run.
#[derive(Debug, Default)]
pub struct Coverage {
    pub sequences: usize,
    pub steps: usize,
    pub with_crash: usize,
    met: BTreeMap<String, u64>,
    transitions: BTreeMap<(&'static str, &'static str), u64>,
}

impl Coverage {
    pub fn met(&mut self, what: &str) {
        *self.met.entry(what.to_owned()).or_default() += 1;
    }

    pub fn transition(&mut self, from: JobState, event: JobEvent) {
        *self.transitions.entry((from.as_str(), event.as_str())).or_default() += 1;
    }

    fn times(&self, state: JobState, event: JobEvent) -> u64 {
        self.transitions.get(&(state.as_str(), event.as_str())).copied().unwrap_or(0)
    }

    /// What must be covered and was not.
    pub fn missing(&self) -> Vec<String> {
        let transitions = legal_transitions().filter(|(state, event)| self.times(*state, *event) == 0);
        let transitions =
            transitions.map(|(state, event)| format!("{} of {}", event.as_str(), state.as_str()));
        let is_missing = |what: &&&str| !self.met.contains_key(**what);
        transitions.chain(MUST.iter().chain(&EXPLAIN).filter(is_missing).map(ToString::to_string)).collect()
    }

    /// Prints the table and fails if anything that must be covered was not.
    pub fn check(&self) {
        let mean = self.steps as f64 / self.sequences as f64;
        let (sequences, with_crash) = (self.sequences, self.with_crash);
        println!("{sequences} sequences, {mean:.1} steps each, {with_crash} of them with a crash");
        for (what, times) in &self.met {
            println!("  {what:24} {times:8}");
        }
        println!("transitions");
        for (state, event) in legal_transitions() {
            println!("  {:12} {:11} {:8}", event.as_str(), state.as_str(), self.times(state, event));
        }
        let missing = self.missing();
        assert!(missing.is_empty(), "not covered: {missing:?}");
        assert!(mean >= 30.0, "sequences are too short");
        assert!(with_crash * 2 >= sequences, "too few sequences have a crash");
    }
}

/// All of the state machine's grid that is allowed.
fn legal_transitions() -> impl Iterator<Item = (JobState, JobEvent)> {
    let pairs = JobEvent::ALL.into_iter().flat_map(|event| JobState::ALL.map(|state| (state, event)));
    pairs.filter(|(state, event)| state.apply(*event).is_ok())
}
