//! A SQLite store and the reference model under one clock, and what the sequence has seen of them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use longhaul_limiter::{Clock as _, LaneLimits, ManualClock, Pace, Paces};
use longhaul_queue_core::{
    ArtifactId, Critical, Epoch, JobFilter, JobId, JobPage, JobRecord, JobState, Lane, LaneRules,
    LeaseRequest, LeaseToken, MemoryQueue, Place, QueueAdmin as _, RequestNumber, Role, Settlement,
    SqliteOptions, SqliteQueue, Started, StatedLimits, StoreId, WorkQueue as _, WorkerId, WorkerInfo,
};
use proptest::sample::Index;

use super::coverage::Coverage;
use super::ops::{ClaimSpec, LANES, LeaseSpec, Sequence, WORKERS};

/// How many sets of rules there are.
pub const RULES: usize = 5;
/// Everything.
pub const ALL: JobPage = JobPage { after: None, limit: 1_000_000 };
/// How long the SQLite store waits for what a dead process' requests may still be doing.
const AFTERMATH: Duration = Duration::from_secs(5);
/// How often a handle of it looks whether processes have died.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A set of rules.
fn rules(number: usize) -> LaneRules {
    let pace = |text: &str| text.parse::<Pace>().unwrap();
    let of = |cap, paces| LaneRules { any: LaneLimits { cap, paces }, ..LaneRules::unlimited() };
    match number {
        0 => LaneRules::unlimited(),
        1 => of(Some(1), Paces::Shared(Pace::OFF)),
        2 => of(Some(2), Paces::Shared(pace("2/s"))),
        3 => {
            let (metadata, landing, artifact) = (pace("1/s"), pace("2/s+5/min"), pace("1/3s"));
            of(None, Paces::PerRole { metadata, landing, artifact })
        }
        _ => {
            let mut rules = of(Some(2), Paces::Shared(Pace::OFF));
            rules.hosts.insert(lane(1), LaneLimits { cap: Some(3), paces: Paces::Shared(Pace::OFF) });
            rules.hosts.insert(lane(2), LaneLimits { cap: Some(1), paces: Paces::Shared(pace("1/s")) });
            rules
        }
    }
}

pub fn lane(number: usize) -> Lane {
    Lane::new(LANES[number]).unwrap()
}

pub fn place(lane_number: usize, role: usize) -> Place {
    Place::new(lane(lane_number), Role::ALL[role])
}

pub fn key(number: usize) -> ArtifactId {
    ArtifactId::new(format!("key:{number}")).unwrap()
}

/// A worker process.
#[derive(Debug)]
pub struct Worker {
    pub info: WorkerInfo,
    pub rules: Arc<LaneRules>,
    starts: u32,
    requests: i64,
}

/// A claim under both its numbers.
#[derive(Debug, Clone, Copy)]
pub struct Claim {
    pub sql: LeaseToken,
    pub mem: LeaseToken,
}

/// A call that can be repeated: what each store was told, and with which request.
#[derive(Debug, Clone)]
pub struct Call {
    pub sql: Vec<Settlement>,
    pub mem: Vec<Settlement>,
    pub then: Option<LeaseRequest>,
}

/// Everything of one sequence.
#[derive(Debug)]
pub struct World<'c> {
    folder: tempfile::TempDir,
    pub clock: ManualClock,
    sql: Option<SqliteQueue>,
    pub mem: MemoryQueue,
    pub workers: Vec<Worker>,
    pub max_losses: u32,
    pub lead: Duration,
    /// All workers have the same rules.
    pub agree: bool,
    pub claims: Vec<Claim>,
    pub calls: Vec<Call>,
    pub leases: Vec<LeaseRequest>,
    /// The requests that were answered.
    pub given: BTreeSet<(WorkerId, RequestNumber)>,
    /// By how much the fences of a job differ: SQLite ends the claims of a process that comes back late with a fence of
    /// their own before their loss is charged.
    pub offsets: BTreeMap<JobId, i64>,
    /// The processes whose OS lock this handle holds.
    pub locked: BTreeSet<WorkerId>,
    looked: Option<Duration>,
    /// How often the wall clock was set.
    pub wall_steps: u32,
    pub epochs: (Option<Epoch>, Epoch),
    pub coverage: &'c mut Coverage,
}

impl<'c> World<'c> {
    pub async fn new(sequence: &Sequence, coverage: &'c mut Coverage) -> Self {
        // In memory where the machine has that at the usual place: this is not about the disk.
        let memory = Path::new("/dev/shm");
        let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
        let (folder, clock) = (folder.unwrap(), ManualClock::new());
        let mem = MemoryQueue::new(Arc::new(clock.clone()));
        let workers = (0..WORKERS).map(|slot| {
            let rules = Arc::new(rules(sequence.rules[slot]));
            Worker { info: info(slot, 0, &rules), rules, starts: 0, requests: 0 }
        });
        let mut world = Self {
            clock,
            sql: None,
            mem,
            workers: workers.collect(),
            max_losses: sequence.max_losses,
            lead: sequence.lead,
            agree: sequence.rules.iter().all(|rules| *rules == sequence.rules[0]),
            claims: Vec::new(),
            calls: Vec::new(),
            leases: Vec::new(),
            given: BTreeSet::new(),
            offsets: BTreeMap::new(),
            locked: BTreeSet::new(),
            looked: None,
            wall_steps: 0,
            epochs: (None, Epoch(0)),
            coverage,
            folder,
        };
        world.open().await;
        world
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("queue.sqlite")
    }

    async fn open(&mut self) {
        let options = SqliteOptions::new(self.path());
        self.sql = Some(SqliteQueue::open(options, Arc::new(self.clock.clone())).await.unwrap());
    }

    pub fn sql(&self) -> &SqliteQueue {
        self.sql.as_ref().expect("it is open")
    }

    /// As the kernel leaves it when the process is killed: nobody says good-bye, and all OS locks are free.
    pub async fn crash(&mut self, renamed: bool) {
        self.sql = None;
        (self.looked, self.epochs.0) = (None, None);
        self.locked.clear();
        if renamed {
            for (slot, worker) in self.workers.iter_mut().enumerate() {
                worker.starts += 1;
                worker.info = info(slot, worker.starts, &worker.rules);
            }
        }
        self.open().await;
    }

    /// A new request of a worker.
    pub fn request(&mut self, spec: &LeaseSpec) -> LeaseRequest {
        let started = if spec.tells { self.started() } else { Vec::new() };
        let (max_losses, lead) = (self.max_losses, self.lead);
        let worker = &mut self.workers[spec.worker];
        worker.requests += 1;
        LeaseRequest {
            worker: worker.info.id.clone(),
            number: RequestNumber(worker.requests),
            max: spec.max,
            ahead: spec.ahead,
            alone: spec.alone,
            max_losses,
            rules: Arc::clone(&worker.rules),
            lead,
            critical: Critical {
                lanes: LANES[..spec.critical].iter().map(|lane| Lane::new(*lane).unwrap()).collect(),
                most: 2,
                horizon: Duration::from_millis(100),
            },
            started,
        }
    }

    /// All that the latest claims may have started, as SQLite names them.
    fn started(&self) -> Vec<Started> {
        let claims = self.claims.iter().rev().take(8);
        let places = || (0..LANES.len()).flat_map(|lane| (0..3).map(move |role| place(lane, role)));
        claims.flat_map(|claim| places().map(|place| Started { token: claim.sql, place })).collect()
    }

    /// The same request with claims as the model names them.
    pub fn for_model(&self, request: &LeaseRequest) -> LeaseRequest {
        let mut request = request.clone();
        for started in &mut request.started {
            let claim = self.claims.iter().find(|claim| claim.sql == started.token);
            started.token = claim.expect("it was told of a claim that is known").mem;
        }
        request
    }

    /// A request that is given nothing: what it does is the sweep. By the process' own rules, as everything it asks.
    pub fn sweeper(&self, id: WorkerId) -> LeaseRequest {
        let own = self.workers.iter().find(|worker| worker.info.id == id);
        LeaseRequest {
            rules: own.map_or_else(|| Arc::new(LaneRules::unlimited()), |worker| Arc::clone(&worker.rules)),
            worker: id,
            number: RequestNumber(0),
            max: 0,
            ahead: 0,
            alone: false,
            max_losses: self.max_losses,
            lead: self.lead,
            critical: Critical::default(),
            started: Vec::new(),
        }
    }

    /// What SQLite does before a lease: processes whose OS lock is free end after the aftermath.
    pub async fn look_for_dead(&mut self, asker: &WorkerId) {
        let now = self.clock.monotonic();
        if self.looked.is_some_and(|last| now.saturating_sub(last) < LOOK_EVERY) {
            return;
        }
        self.looked = Some(now);
        let wall = self.clock.wall().duration_since(UNIX_EPOCH).unwrap();
        let soon = i64::try_from((wall + AFTERMATH).as_millis()).unwrap();
        for row in self.mem.workers().await.unwrap() {
            if row.id != *asker && !self.locked.contains(&row.id) && row.expires_at.0 > soon {
                self.mem.heartbeat(&row.id, AFTERMATH).await.unwrap();
            }
        }
    }

    /// All jobs of the model.
    pub async fn jobs(&self) -> BTreeMap<JobId, JobRecord> {
        let jobs = self.mem.list(&JobFilter::default(), ALL).await.unwrap();
        jobs.into_iter().map(|job| (job.id, job)).collect()
    }

    /// Whether a claim is the current one of a held job.
    pub fn is_held(jobs: &BTreeMap<JobId, JobRecord>, claim: LeaseToken) -> bool {
        let job = jobs.get(&claim.job);
        job.is_some_and(|job| job.state == JobState::InProgress && job.fence == claim.fence)
    }

    /// The claim that is meant; `None` as long as there was no lease.
    pub fn claim(&self, jobs: &BTreeMap<JobId, JobRecord>, spec: &ClaimSpec) -> Option<Claim> {
        let held: Vec<&Claim> = self.claims.iter().filter(|claim| Self::is_held(jobs, claim.mem)).collect();
        if !held.is_empty() && !spec.stale {
            return Some(**spec.pick.get(&held));
        }
        pick(&self.claims, spec.pick).copied()
    }
}

/// One of them, if there is any.
pub fn pick<T>(values: &[T], index: Index) -> Option<&T> {
    (!values.is_empty()).then(|| index.get(values))
}

/// One states nothing: its paces bind only itself.
fn info(slot: usize, starts: u32, rules: &LaneRules) -> WorkerInfo {
    WorkerInfo {
        id: WorkerId::from_text(format!("w{slot}-{starts}")),
        host: "here".to_owned(),
        pid: slot as u32,
        version: "0".to_owned(),
        store: (slot != 2).then(|| StoreId(format!("s{}", slot % 2))),
        limits: (slot != 1).then(|| StatedLimits::from(rules)),
    }
}
