//! What the sequences of a run met: operations, transitions of the state machine, crashes.

use std::collections::BTreeMap;

use longhaul_queue_core::{JobEvent, JobState};

/// Operations that must have been carried out, and situations that must have been met.
const MUST: [&str; 47] = [
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

    /// Prints the table and fails if anything that must be covered was not.
    pub fn check(&self) {
        let mean = self.steps as f64 / self.sequences as f64;
        println!(
            "{} sequences, {mean:.1} steps each, {} of them with a crash",
            self.sequences, self.with_crash
        );
        for (what, times) in &self.met {
            println!("  {what:24} {times:8}");
        }
        println!("transitions");
        let mut missing: Vec<String> = Vec::new();
        for event in JobEvent::ALL {
            for state in JobState::ALL.into_iter().filter(|state| state.apply(event).is_ok()) {
                let times = self.transitions.get(&(state.as_str(), event.as_str())).copied().unwrap_or(0);
                println!("  {:12} {:11} {times:8}", event.as_str(), state.as_str());
                if times == 0 {
                    missing.push(format!("{} of {}", event.as_str(), state.as_str()));
                }
            }
        }
        let is_missing = |what: &&&str| !self.met.contains_key(**what);
        missing.extend(MUST.iter().chain(&EXPLAIN).filter(is_missing).map(ToString::to_string));
        assert!(missing.is_empty(), "not covered: {missing:?}");
        assert!(mean >= 30.0, "sequences are too short");
        assert!(self.with_crash * 2 >= self.sequences, "too few sequences have a crash");
    }
}
