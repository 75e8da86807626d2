//! Lanes that bound a run. Pure, and the same in every store.
//!
//! Where open slots are more than workers, even turns give each lane its share, and a lane that needs longer for its jobs
//! than the workers need for all jobs is left with a backlog in the end, alone. So up to half of what a process is given
//! comes first from such lanes, that which lasts longest before the others ("longest remaining time first": R. L. Graham,
//! Bounds on Multiprocessing Timing Anomalies, 1969); the other half goes by turns (INV-FAIR).

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};
use std::sync::Arc;
use std::time::Duration;

use longhaul_limiter::{Bounds, HostPace, Lane, LaneRules, Role};

use crate::LeasedJob;

/// Most lanes that a survey names.
const MOST: usize = 32;
/// Workers for each critical lane, at least, for one of them to wait until that lane opens.
const WAITING_SHARE: usize = 8;
/// Longest time that a worker waits for a critical lane to open.
const HORIZON: Duration = Duration::from_millis(250);

/// Lanes whose jobs a lease takes before it goes by turns.
#[derive(Debug, Clone, Default)]
pub struct Critical {
    /// That which lasts longest first.
    pub lanes: Arc<[Lane]>,
    /// Most jobs that come from them out of turn.
    pub most: usize,
    /// A start in them is granted so far ahead, although a worker then waits for it; no further than a quarter of a second,
    /// less what a start may be late.
    pub horizon: Duration,
}

/// How fast a process gets through its jobs.
#[derive(Debug, Clone)]
pub struct Throughput {
    /// Its caps and paces.
    pub rules: Arc<LaneRules>,
    /// How many jobs it runs at once.
    pub workers: usize,
    /// How long a job keeps a worker.
    pub job_time: Duration,
}

/// Finds critical lanes among all that have queued jobs. Keeps the longest only (INV-BOUNDED).
#[derive(Debug)]
pub struct Survey<'t> {
    throughput: &'t Throughput,
    queued: u64,
    longest: BinaryHeap<Reverse<(Duration, Lane)>>,
}

impl<'t> Survey<'t> {
    /// Nothing is queued yet.
    pub fn new(throughput: &'t Throughput) -> Self {
        Self { throughput, queued: 0, longest: BinaryHeap::new() }
    }

    /// Adds a lane with `queued` jobs, its cap, and the pace that its host asks for.
    pub fn count(&mut self, lane: Lane, queued: u64, cap: Option<u32>, host: Option<HostPace>) {
        self.queued += queued;
        if lane.is_none() || queued == 0 {
            return;
        }
        let slots = cap.map(|cap| self.time(queued) / cap.max(1));
        let paced = Bounds::new(&self.throughput.rules, [], host, &lane, Role::Artifact).lasts(queued);
        self.longest.push(Reverse((paced.max(slots.unwrap_or_default()), lane)));
        if self.longest.len() > MOST {
            self.longest.pop();
        }
    }

    /// The lanes that need at least half of the time that the workers need for all that is queued, the longest first. Half,
    /// since other processes may help the workers, and no lane.
    pub fn critical(self) -> Vec<Lane> {
        let workers = u32::try_from(self.throughput.workers.max(1)).unwrap_or(u32::MAX);
        let all = self.time(self.queued) / workers;
        let longest = self.longest.into_sorted_vec().into_iter().map(|Reverse(lane)| lane);
        longest
            .take_while(|(lasts, _)| *lasts > Duration::ZERO && *lasts * 2 >= all)
            .map(|(_, lane)| lane)
            .collect()
    }

    /// Time that one worker needs for this number of jobs.
    fn time(&self, jobs: u64) -> Duration {
        self.throughput.job_time.saturating_mul(u32::try_from(jobs).unwrap_or(u32::MAX))
    }
}

/// What a process may ask for out of turn: a job for each that it was given in turn, so that a lane waits two rounds at most
/// (INV-FAIR).
#[derive(Debug)]
pub struct CriticalTurns {
    workers: usize,
    lanes: Arc<[Lane]>,
    names: BTreeSet<Lane>,
    credit: usize,
}

impl CriticalTurns {
    /// The turns of a process with this number of workers.
    pub fn new(workers: usize) -> Self {
        Self { workers, lanes: Arc::default(), names: BTreeSet::new(), credit: 0 }
    }

    /// These are critical from now on.
    pub fn set(&mut self, lanes: Vec<Lane>) {
        self.names = lanes.iter().cloned().collect();
        self.lanes = lanes.into();
    }

    /// What a request for `max` jobs names.
    pub fn of(&self, max: usize) -> Critical {
        let most = self.credit.min(max.div_ceil(2));
        if most == 0 || self.lanes.is_empty() {
            return Critical::default();
        }
        // A worker that waits is lost to the other lanes: few may.
        let few = self.lanes.len() * WAITING_SHARE <= self.workers;
        let horizon = if few { HORIZON } else { Duration::ZERO };
        Critical { lanes: Arc::clone(&self.lanes), most, horizon }
    }

    /// What was given.
    pub fn given(&mut self, jobs: &[LeasedJob]) {
        let critical = jobs.iter().filter(|job| self.names.contains(&job.place.lane)).count();
        let in_turn = jobs.len() - critical;
        self.credit = (self.credit.saturating_sub(critical) + in_turn).min(self.workers);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use longhaul_limiter::{LaneLimits, Paces};

    use super::*;

    fn lane(name: &str) -> Lane {
        Lane::new(name).unwrap()
    }

    fn throughput(workers: usize, job_ms: u64) -> Throughput {
        let paces = Paces::Shared("1/s".parse().unwrap());
        let slow = LaneLimits { cap: Some(2), paces };
        let any = LaneLimits { cap: Some(2), ..LaneLimits::NONE };
        let rules = LaneRules { any, hosts: [(lane("slow"), slow)].into(), ..LaneRules::unlimited() };
        Throughput { rules: Arc::new(rules), workers, job_time: Duration::from_millis(job_ms) }
    }

    fn critical(throughput: &Throughput, backlogs: &[(&str, u64)]) -> Vec<String> {
        let mut survey = Survey::new(throughput);
        for (name, queued) in backlogs {
            survey.count(lane(name), *queued, throughput.rules.cap(&lane(name)), None);
        }
        survey.critical().iter().map(|lane| lane.as_str().to_owned()).collect()
    }

    #[test]
    fn a_lane_is_critical_that_lasts_about_as_long_as_the_workers() {
        let many: Vec<String> = (0..300).map(|host| format!("h{host}")).collect();
        let mut backlogs: Vec<(&str, u64)> = many.iter().map(|name| (name.as_str(), 20)).collect();
        backlogs.push(("slow", 150));
        assert_eq!(critical(&throughput(8, 200), &backlogs), ["slow"]);
        assert_eq!(critical(&throughput(1, 200), &backlogs), [""; 0], "one worker bounds the run by itself");
        assert_eq!(critical(&throughput(8, 200), &[("slow", 150)]), ["slow"]);
        assert_eq!(critical(&throughput(8, 200), &[]), [""; 0]);
    }

    #[test]
    fn the_longest_comes_first_by_its_cap_too() {
        let backlogs = [("short", 10), ("long", 4_000), ("slow", 150), ("", 4_000_000)];
        assert_eq!(critical(&throughput(40_000, 200), &backlogs), ["long", "slow"]);
    }

    #[test]
    fn few_of_many_long_lanes_are_named() {
        let many: Vec<String> = (0..1_000).map(|host| format!("h{host}")).collect();
        let backlogs: Vec<(&str, u64)> =
            many.iter().zip(1..).map(|(name, queued)| (name.as_str(), queued)).collect();
        let named = critical(&throughput(100_000, 200), &backlogs);
        assert_eq!((named.len(), named[0].as_str(), named[31].as_str()), (32, "h999", "h968"));
    }
}
