//! A run on simulated time: the reference queue leases as a real one does, to workers whose requests take as long as they
//! are said to.
//!
//! A lane holds only as many jobs as it could give at once; each goes back when it has ended, for the next artifact of its
//! host, until there is none. So a host costs the same memory however much is asked of it.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use longhaul_limiter::{Clock as _, Lane, LaneRules, ManualClock, Role};
use longhaul_queue_core::{
    ArtifactId, CriticalTurns, LeaseRequest, LeaseToken, LeasedJob, MemoryQueue, NewJob, Place,
    RequestNumber, Result, Settlement, Started, Survey, Throughput, Verdict, WorkQueue as _, WorkerId,
    WorkerInfo,
};

/// At most so many jobs are in the queue at a time; the hosts with the most artifacts come first.
const IN_QUEUE: usize = 10_000;
/// The process never expires: nothing of it can be lost here.
const FOR_EVER: Duration = Duration::from_hours(24 * 366 * 1000);
/// Time between two looks at which lanes bound the run.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// The store's time has this grain.
const GRAIN: Duration = Duration::from_millis(1);

/// What a run is made of.
#[derive(Debug, Clone)]
pub(crate) struct Model {
    /// Caps and paces.
    pub(crate) rules: Arc<LaneRules>,
    /// How many jobs run at once.
    pub(crate) workers: usize,
    /// How long a request takes.
    pub(crate) request_time: Duration,
    /// Whether a host's robots.txt is read before anything else there.
    pub(crate) robots: bool,
}

/// How far a host is.
#[derive(Debug)]
struct Host {
    lane: Lane,
    /// Artifacts that have not been fetched.
    left: u64,
    /// Jobs in the queue or at work.
    jobs: u64,
    /// When its robots.txt is known.
    known_at: Option<Duration>,
    /// The job that reads it.
    reading: Option<LeaseToken>,
}

/// A run over these hosts, on its own time.
#[derive(Debug)]
struct Run<'a> {
    model: &'a Model,
    hosts: Vec<Host>,
    index: HashMap<Lane, usize>,
    /// The first host that has not all the jobs that it could use.
    next: usize,
    clock: ManualClock,
    queue: MemoryQueue,
    worker: WorkerId,
    requests: i64,
    critical: CriticalTurns,
    /// When it is next looked which lanes bound the run.
    look_at: Duration,
    /// What has started since the last request.
    started: Vec<Started>,
    /// Requests under way: when each ends, in order.
    under_way: BinaryHeap<Reverse<(Duration, LeaseToken, usize)>>,
}

/// How long a run takes in which so many artifacts are fetched from each host, from its first request to its last answer.
pub(crate) async fn simulate(model: &Model, hosts: &[(Lane, u64)]) -> Result<Duration> {
    let clock = ManualClock::new();
    let hosts: Vec<Host> = hosts
        .iter()
        .map(|(lane, count)| Host {
            lane: lane.clone(),
            left: *count,
            jobs: 0,
            known_at: None,
            reading: None,
        })
        .collect();
    let index = hosts.iter().enumerate().map(|(index, host)| (host.lane.clone(), index)).collect();
    let queue = MemoryQueue::new(Arc::new(clock.clone()));
    let worker = WorkerId::from_text("plan");
    let run = Run {
        model,
        hosts,
        index,
        next: 0,
        clock,
        queue,
        worker,
        requests: 0,
        critical: CriticalTurns::new(model.workers),
        look_at: Duration::ZERO,
        started: Vec::new(),
        under_way: BinaryHeap::new(),
    };
    run.until_nothing_is_left().await
}

impl Run<'_> {
    async fn until_nothing_is_left(mut self) -> Result<Duration> {
        let began = self.clock.monotonic();
        let info = WorkerInfo {
            id: self.worker.clone(),
            host: String::new(),
            pid: 0,
            version: String::new(),
            store: None,
            limits: None,
        };
        self.queue.join(&info, FOR_EVER).await?;
        self.fill().await?;
        let mut settlements = Vec::new();
        loop {
            let request = self.request();
            let free = request.max;
            let settled = self.queue.settle(&settlements, (free > 0).then_some(&request)).await?;
            settlements.clear();
            let (mut given, mut next_open) = (0, None);
            if let Some(batch) = settled.batch {
                (given, next_open) = (batch.jobs.len(), batch.next_open);
                self.critical.given(&batch.jobs);
                batch.jobs.iter().for_each(|job| self.start(job));
            }
            let now = self.clock.monotonic();
            let ends = self.under_way.peek().map(|Reverse((at, ..))| *at);
            let opens = next_open.filter(|_| given < free).map(|after| now + after.max(GRAIN));
            let Some(then) = ends.into_iter().chain(opens).min() else {
                return Ok(now.saturating_sub(began));
            };
            self.clock.advance(then.saturating_sub(now));
            while let Some(Reverse((at, token, host))) = self.under_way.peek().copied()
                && at <= then
            {
                self.under_way.pop();
                settlements.push(Settlement::new(token, self.ended(token, host)));
            }
        }
    }

    fn request(&mut self) -> LeaseRequest {
        self.requests += 1;
        self.look();
        let max = self.model.workers - self.under_way.len();
        LeaseRequest {
            worker: self.worker.clone(),
            number: RequestNumber(self.requests),
            max,
            ahead: 0,
            alone: false,
            max_losses: 5,
            rules: Arc::clone(&self.model.rules),
            lead: Duration::ZERO,
            critical: self.critical.of(max),
            started: std::mem::take(&mut self.started),
        }
    }

    /// Looks which lanes bound the run, as a run does once in a while.
    fn look(&mut self) {
        let now = self.clock.monotonic();
        if now < self.look_at {
            return;
        }
        // Seldom where a run is long, which has many hosts to look at.
        self.look_at = now + LOOK_EVERY.max(now / 100);
        let Model { rules, workers, request_time, .. } = self.model;
        let throughput = Throughput { rules: Arc::clone(rules), workers: *workers, job_time: *request_time };
        let mut survey = Survey::new(&throughput);
        for host in &self.hosts {
            survey.count(host.lane.clone(), host.left, rules.cap(&host.lane), None);
        }
        self.critical.set(survey.critical());
    }

    fn start(&mut self, job: &LeasedJob) {
        let Some(index) = self.index.get(&job.place.lane).copied() else { return };
        let (now, time) = (self.clock.monotonic(), self.model.request_time);
        let host = &mut self.hosts[index];
        let ends = match host.known_at {
            Some(known_at) => now.max(known_at) + time,
            None if self.model.robots => {
                (host.known_at, host.reading) = (Some(now + time), Some(job.token));
                now + time
            }
            None => now + time,
        };
        self.started.push(Started { token: job.token, place: job.place.clone() });
        self.under_way.push(Reverse((ends, job.token, index)));
    }

    /// One artifact of a host is there. Its job serves the host's next one, else another host's, else it is over. Or it was
    /// the host's robots.txt, and the artifact needs another turn.
    fn ended(&mut self, token: LeaseToken, index: usize) -> Verdict {
        let host = &mut self.hosts[index];
        if host.reading == Some(token) {
            host.reading = None;
            return Verdict::Release { checkpoint: None };
        }
        host.left -= 1;
        if host.left >= host.jobs {
            return Verdict::Release { checkpoint: None };
        }
        host.jobs -= 1;
        match self.wanting() {
            Some(index) => {
                let host = &mut self.hosts[index];
                host.jobs += 1;
                let place = Place::new(host.lane.clone(), Role::Artifact);
                Verdict::Defer { after: Duration::ZERO, place, checkpoint: None }
            }
            None => Verdict::Done { reason: "ok".to_owned(), outcome: String::new(), file: None },
        }
    }

    /// The next host that could use another job.
    fn wanting(&mut self) -> Option<usize> {
        while let Some(host) = self.hosts.get(self.next) {
            let at_once = self.model.rules.cap(&host.lane).map_or(self.model.workers as u64, u64::from);
            if host.jobs < host.left.min(at_once.min(self.model.workers as u64)) {
                return Some(self.next);
            }
            self.next += 1;
        }
        None
    }

    /// Puts the first jobs into the queue.
    async fn fill(&mut self) -> Result<()> {
        let mut jobs = Vec::new();
        while jobs.len() < IN_QUEUE
            && let Some(index) = self.wanting()
        {
            let host = &mut self.hosts[index];
            host.jobs += 1;
            let id = ArtifactId::new(jobs.len().to_string())?;
            jobs.push(NewJob {
                place: Place::new(host.lane.clone(), Role::Artifact),
                ..NewJob::new(id, "{}")
            });
        }
        self.queue.enqueue(&jobs).await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use longhaul_limiter::{LaneLimits, Pace, Paces};

    use super::*;

    fn model(cap: u32, pace: &str, workers: usize) -> Model {
        let paces = Paces::Shared(pace.parse::<Pace>().unwrap());
        let rules = LaneRules { any: LaneLimits { cap: Some(cap), paces }, ..LaneRules::unlimited() };
        Model { rules: Arc::new(rules), workers, request_time: Duration::from_millis(500), robots: false }
    }

    fn hosts(counts: &[u64]) -> Vec<(Lane, u64)> {
        let lane = |host| Lane::new(format!("h{host}.example")).unwrap();
        counts.iter().enumerate().map(|(host, count)| (lane(host), *count)).collect()
    }

    async fn seconds(model: &Model, counts: &[u64]) -> f64 {
        simulate(model, &hosts(counts)).await.unwrap().as_secs_f64()
    }

    fn is_about(is: f64, expected: f64) {
        assert!((is - expected).abs() <= expected * 0.02, "{is} s, expected {expected} s");
    }

    #[tokio::test]
    async fn workers_a_cap_or_a_pace_bound_a_run() {
        is_about(seconds(&model(4, "off", 8), &[100; 20]).await, 2000.0 * 0.5 / 8.0);
        is_about(seconds(&model(4, "off", 8), &[400, 10, 10]).await, 400.0 * 0.5 / 4.0);
        // One every 1.1 s: a pace is stretched by a tenth.
        is_about(seconds(&model(4, "1/s", 8), &[100, 10, 10]).await, 99.0 * 1.1 + 0.5);
        // Half of a long window at once, then at its own interval.
        let long = seconds(&model(4, "10/s+60/min", 8), &[90]).await;
        is_about(long, 60.0 * 60.0 / 31.0 * 1.1);
        is_about(seconds(&model(4, "off", 8), &[]).await, 0.0);
        is_about(seconds(&model(4, "off", 8), &[1]).await, 0.5);
    }

    #[tokio::test]
    async fn a_robots_txt_is_read_first() {
        let robots = |workers| Model { robots: true, ..model(4, "off", workers) };
        is_about(seconds(&robots(8), &[4]).await, 1.0);
        is_about(seconds(&robots(8), &[8]).await, 1.5);
        is_about(seconds(&robots(1), &[4, 4]).await, 5.0);
        // It takes a turn of the host's pace.
        let paced = Model { robots: true, ..model(4, "1/10s", 8) };
        is_about(seconds(&paced, &[1, 1]).await, 11.0 + 0.5);
        is_about(seconds(&paced, &[3]).await, 33.0 + 0.5);
    }

    /// INV-BOUNDED: more hosts than are in the queue at a time.
    #[tokio::test]
    async fn more_hosts_than_the_queue_holds_take_turns() {
        let counts = vec![1; IN_QUEUE + 1_000];
        is_about(seconds(&model(4, "off", 256), &counts).await, counts.len() as f64 * 0.5 / 256.0);
    }

    /// Turns alone would serve the slow host once in seven seconds, and then alone for most of a minute.
    #[tokio::test]
    async fn a_slow_host_is_not_starved_by_many_quick_ones() {
        let mut model = model(4, "off", 8);
        let mut rules = (*model.rules).clone();
        let paces = Paces::Shared("1/s".parse::<Pace>().unwrap());
        rules.hosts.insert(Lane::new("h100.example").unwrap(), LaneLimits { cap: Some(4), paces });
        model.rules = Arc::new(rules);
        let mut counts = vec![12; 100];
        counts.push(68);
        let workers = (1_200.0 + 68.0) * 0.5 / 8.0;
        let took = seconds(&model, &counts).await;
        assert!(took <= workers * 1.03, "{took} s, the workers alone need {workers} s");
    }
}
