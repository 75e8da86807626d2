//! Carrying a step out on both, and comparing the answers.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use longhaul_queue_core::{
    Admission, AdmitRequest, Answer, Class, Enqueued, ErrorKind, Explanation, JobEvent, JobFilter, JobId,
    JobPage, JobRecord, JobState, LanePage, LaneReport, LeaseRequest, LeaseToken, NewJob, QueueAdmin as _,
    Role, Settlement, StoreId, StoredFile, Verdict, WorkQueue as _, WorkerId,
};

use super::ops::{FilterSpec, LeaseSpec, NewSpec, Op, ReportSpec, SettleSpec, VerdictSpec};
use super::world::{Call, World, key, lane, pick, place};

type Jobs = BTreeMap<JobId, JobRecord>;

/// File names, some of which differ in letter case alone.
const PATHS: [&str; 4] = ["a.pdf", "A.pdf", "ä.pdf", "Ä.pdf"];

impl World<'_> {
    /// One step. The answers must be the same.
    pub async fn step(&mut self, op: &Op) {
        let before = self.jobs().await;
        match op {
            Op::Enqueue(specs) => self.enqueue(specs).await,
            Op::Join { worker, ttl } => self.join(*worker, *ttl).await,
            Op::Heartbeat { worker, ttl } => self.heartbeat(*worker, *ttl).await,
            Op::Leave { worker } => {
                let id = self.workers[*worker].info.id.clone();
                self.sql().leave(&id).await.unwrap();
                self.mem.leave(&id).await.unwrap();
                self.locked.remove(&id);
                self.coverage.met("leave");
            }
            Op::Lease(spec) => {
                let request = self.request(spec);
                self.leases.push(request.clone());
                self.lease(&request).await;
            }
            Op::RepeatLease { pick: index } => {
                if let Some(request) = pick(latest(&self.leases), *index).cloned() {
                    self.lease(&request).await;
                }
            }
            Op::Admit { claim, lane, role, unused } => {
                if let Some(claim) = self.claim(&before, claim) {
                    let rules = self.holder_rules(&before, claim.mem);
                    let ask = |token| AdmitRequest {
                        token,
                        place: place(*lane, *role),
                        rules: rules.clone(),
                        lead: self.lead,
                        unused: unused.map(|role| Role::ALL[role]),
                    };
                    let sql = self.sql().admit(&ask(claim.sql)).await.unwrap();
                    assert_eq!(sql, self.mem.admit(&ask(claim.mem)).await.unwrap(), "SQLite's, the model's");
                    self.coverage.met(match sql {
                        Admission::Admitted { .. } => "admit: admitted",
                        Admission::Full => "admit: full",
                        Admission::NotBefore(_) => "admit: not before",
                        Admission::LeaseLost => "admit: lost",
                    });
                }
            }
            Op::Checkpoint { claim } => {
                if let Some(claim) = self.claim(&before, claim) {
                    let text = format!("half way of {}", claim.mem);
                    let sql = self.sql().checkpoint(&claim.sql, &text).await.unwrap();
                    assert_eq!(sql, self.mem.checkpoint(&claim.mem, &text).await.unwrap());
                    self.coverage.met(if sql { "checkpoint: kept" } else { "checkpoint: lost" });
                }
            }
            Op::Settle { settlements, then } => self.settle_anew(&before, settlements, then.as_ref()).await,
            Op::RepeatSettle { pick: index } => {
                if let Some(call) = pick(latest(&self.calls), *index).cloned() {
                    let answers = self.settle(&before, &call).await;
                    for answer in answers {
                        let recorded = matches!(answer, Answer::Recorded(_));
                        self.coverage.met(if recorded {
                            "settle: repeated"
                        } else {
                            "settle: repeated lost"
                        });
                    }
                }
            }
            _ => self.operate(op, &before).await,
        }
        self.count_losses(&before).await;
        self.compare_stats().await;
        self.compare_epochs(matches!(op, Op::Admit { .. })).await;
    }

    async fn enqueue(&mut self, specs: &[NewSpec]) {
        let jobs: Vec<NewJob> = specs.iter().map(new_job).collect();
        let sql = self.sql().enqueue(&jobs).await.unwrap();
        assert_eq!(sql, self.mem.enqueue(&jobs).await.unwrap(), "SQLite's, the model's");
        for answer in sql {
            let is_new = matches!(answer, Enqueued::New(_));
            self.coverage.met(if is_new { "enqueue: new" } else { "enqueue: duplicate" });
        }
    }

    async fn join(&mut self, worker: usize, ttl: Duration) {
        let info = self.workers[worker].info.clone();
        let lost = self.lost_by(&info.id).await;
        self.sql().join(&info, ttl).await.unwrap();
        self.mem.join(&info, ttl).await.unwrap();
        self.locked.insert(info.id.clone());
        self.coverage.met("join");
        self.sweep_lost(info.id, lost).await;
    }

    async fn heartbeat(&mut self, worker: usize, ttl: Duration) {
        let id = self.workers[worker].info.id.clone();
        let lost = self.lost_by(&id).await;
        match (self.sql().heartbeat(&id, ttl).await, self.mem.heartbeat(&id, ttl).await) {
            (Ok(sql), Ok(mem)) => {
                assert_eq!(sql, mem, "SQLite's, the model's");
                self.coverage.met(if sql.was_expired { "heartbeat: expired" } else { "heartbeat" });
            }
            (Err(sql), Err(mem)) => {
                assert_eq!((sql.kind(), mem.kind()), (ErrorKind::NotFound, ErrorKind::NotFound));
                self.coverage.met("heartbeat: stranger");
            }
            (sql, mem) => panic!("{sql:?} is not {mem:?}"),
        }
        self.sweep_lost(id, lost).await;
    }

    /// What a process held that has expired; `None` if it has not.
    async fn lost_by(&self, id: &WorkerId) -> Option<Vec<JobId>> {
        let now = self.mem.workers().await.unwrap().into_iter().find(|row| row.id == *id)?.expires_at;
        let wall = longhaul_limiter::Clock::wall(&self.clock).duration_since(UNIX_EPOCH).unwrap();
        let is_expired = now.0 <= i64::try_from(wall.as_millis()).unwrap();
        let held = self.jobs().await.into_values().filter(|job| job.worker.as_ref() == Some(id));
        is_expired.then(|| held.map(|job| job.id).collect())
    }

    /// The model charges such losses at once, SQLite with the next sweep. Both are right; they are brought together.
    async fn sweep_lost(&mut self, id: WorkerId, lost: Option<Vec<JobId>>) {
        let Some(lost) = lost else { return };
        for id in lost {
            *self.offsets.entry(id).or_default() += 1;
        }
        let request = self.sweeper(id);
        self.lease(&request).await;
    }

    async fn lease(&mut self, request: &LeaseRequest) {
        let before = self.jobs().await;
        let is_repeated = self.is_repeated(request);
        self.look_for_dead(&request.worker).await;
        let sql = self.sql().lease(request).await.unwrap();
        let given: Vec<JobId> = sql.jobs.iter().map(|job| job.token.job).collect();
        let mem = self
            .mem
            .lease_as(&self.for_model(request), &given, self.agree)
            .unwrap_or_else(|error| panic!("{error}"));
        self.compare_batches(request, &sql, &mem, is_repeated);
        self.count_leases(&before, request, &given, is_repeated && !given.is_empty());
    }

    /// Whether the request was answered before.
    fn is_repeated(&self, request: &LeaseRequest) -> bool {
        self.given.contains(&(request.worker.clone(), request.number))
    }

    fn count_leases(&mut self, before: &Jobs, request: &LeaseRequest, given: &[JobId], is_repeated: bool) {
        self.given.insert((request.worker.clone(), request.number));
        self.coverage.met(match given {
            [] => "lease: nothing",
            _ if is_repeated => "lease: repeated",
            _ if request.alone => "lease: alone",
            _ => "lease: given",
        });
        for id in given {
            // A sweep or a settlement of the same step may have made it queued.
            if !is_repeated {
                self.coverage.transition(JobState::Queued, JobEvent::Lease);
            }
            if before.get(id).is_some_and(|job| job.place.lane.is_none()) {
                self.coverage.met("lease: no lane");
            }
        }
    }

    /// Those of whoever holds the job, which a process that has died since had too; of the first worker if nobody does.
    fn holder_rules(&self, jobs: &Jobs, claim: LeaseToken) -> std::sync::Arc<longhaul_queue_core::LaneRules> {
        let holder = jobs.get(&claim.job).and_then(|job| job.worker.as_ref());
        let slot = holder.and_then(|id| id.as_str().strip_prefix('w')?.split('-').next()?.parse().ok());
        self.workers[slot.unwrap_or(0_usize)].rules.clone()
    }

    async fn settle_anew(&mut self, before: &Jobs, specs: &[SettleSpec], then: Option<&LeaseSpec>) {
        let mut call = Call { sql: Vec::new(), mem: Vec::new(), then: None };
        for spec in specs {
            let Some(claim) = self.claim(before, &spec.claim) else { continue };
            let (verdict, lanes) = (verdict(&spec.verdict), reports(&spec.reports));
            call.sql.push(Settlement::new(claim.sql, verdict.clone()).with_lanes(lanes.clone()));
            call.mem.push(Settlement::new(claim.mem, verdict).with_lanes(lanes));
        }
        call.then = then.map(|spec| self.request(spec));
        self.leases.extend(call.then.clone());
        let answers = self.settle(before, &call).await;
        let mut ended = std::collections::BTreeSet::new();
        for (settlement, answer) in call.mem.iter().zip(answers) {
            let token = settlement.token;
            match answer {
                Answer::Recorded(_) => {
                    self.coverage.met("settle: recorded");
                    if World::is_held(before, token) && ended.insert(token) {
                        self.coverage.transition(JobState::InProgress, settlement.verdict.event());
                        self.count_reports(&settlement.lanes);
                    }
                }
                Answer::LeaseLost => self.coverage.met("settle: lost"),
                Answer::PathTaken => self.coverage.met("settle: path taken"),
            }
        }
        self.calls.push(call);
    }

    fn count_reports(&mut self, lanes: &[LaneReport]) {
        for report in lanes {
            self.coverage.met(match report {
                LaneReport::Served { .. } => "report: served",
                LaneReport::Failed { .. } => "report: failed",
                LaneReport::Throttled { retry_after: Some(_), .. } => "report: throttled",
                LaneReport::Throttled { retry_after: None, .. } => "report: strike",
                LaneReport::Paced { .. } => "report: paced",
                LaneReport::Unused { .. } => "report: unused",
            });
        }
    }

    async fn settle(&mut self, before: &Jobs, call: &Call) -> Vec<Answer> {
        // The penalty box draws its jitter from the thread's generator, and this runtime has one thread.
        const SEED: u64 = 17;
        fastrand::seed(SEED);
        let Some(then) = &call.then else {
            let sql = self.sql().settle(&call.sql, None).await.unwrap();
            fastrand::seed(SEED);
            assert_eq!(sql, self.mem.settle(&call.mem, None).await.unwrap(), "SQLite's, the model's");
            return sql.answers;
        };
        let is_repeated = self.is_repeated(then);
        self.look_for_dead(&then.worker).await;
        let sql = self.sql().settle(&call.sql, Some(then)).await.unwrap();
        let batch = sql.batch.expect("it was asked for");
        let given: Vec<JobId> = batch.jobs.iter().map(|job| job.token.job).collect();
        fastrand::seed(SEED);
        let mem = self.mem.settle_as(&call.mem, &self.for_model(then), &given, self.agree);
        let mem = mem.unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(sql.answers, mem.answers, "SQLite's, the model's");
        self.compare_batches(then, &batch, &mem.batch.expect("it was asked for"), is_repeated);
        self.count_leases(before, then, &given, is_repeated && !given.is_empty());
        self.coverage.met("settle: then");
        sql.answers
    }

    async fn count_losses(&mut self, before: &Jobs) {
        for (id, job) in self.jobs().await {
            if before.get(&id).is_some_and(|before| before.losses < job.losses) {
                let is_last = job.state == JobState::Error && job.reason.as_deref() == Some("lease-lost");
                let event = if is_last { JobEvent::LoseLast } else { JobEvent::Lose };
                self.coverage.transition(JobState::InProgress, event);
            }
        }
    }

    async fn operate(&mut self, op: &Op, before: &Jobs) {
        match op {
            Op::Published { keys } => {
                let ended = |number: &usize| before.values().find(|job| job.artifact_id == key(*number));
                let ids: Vec<JobId> = keys.iter().filter_map(ended).map(|job| job.id).collect();
                self.sql().published(&ids).await.unwrap();
                self.mem.published(&ids).await.unwrap();
                self.coverage.met("published");
            }
            Op::CachePut { key, ttl } => {
                let (key, value) = (format!("cache:{key}"), format!("{ttl:?}"));
                self.sql().cache_put(&key, &value, *ttl).await.unwrap();
                self.mem.cache_put(&key, &value, *ttl).await.unwrap();
            }
            Op::CacheGet { key } => {
                let key = format!("cache:{key}");
                let sql = self.sql().cache_get(&key).await.unwrap();
                assert_eq!(sql, self.mem.cache_get(&key).await.unwrap());
                self.coverage.met(if sql.is_some() { "cache: hit" } else { "cache: miss" });
            }
            Op::Pause { lane: number, length } => {
                let lane = number.map(lane);
                self.sql().pause(lane.as_ref(), *length, "somebody").await.unwrap();
                self.mem.pause(lane.as_ref(), *length, "somebody").await.unwrap();
                self.coverage.met(if lane.is_some() { "pause: lane" } else { "pause: all" });
            }
            Op::Resume { lane: number } => {
                let lane = number.map(lane);
                let sql = self.sql().resume(lane.as_ref()).await.unwrap();
                assert_eq!(sql, self.mem.resume(lane.as_ref()).await.unwrap());
                self.coverage.met(if sql { "resume: ended" } else { "resume: nothing" });
            }
            Op::Close { lane: number, length } => {
                let lane = lane(*number);
                let sql = self.sql().close(&lane, *length, "somebody").await;
                let mem = self.mem.close(&lane, *length, "somebody").await;
                assert_eq!(sql.map_err(|error| error.kind()), mem.map_err(|error| error.kind()));
                self.coverage.met(if lane.is_none() { "close: no lane" } else { "close" });
            }
            Op::RetryFailed { .. } | Op::Requeue { .. } | Op::Cancel { .. } => self.act(op, before).await,
            Op::Reconcile { worker, keep } => {
                let id = self.workers[*worker].info.id.clone();
                let held: Vec<_> =
                    self.claims.iter().filter(|claim| World::is_held(before, claim.mem)).copied().collect();
                let kept = &held[..keep.index(held.len() + 1)];
                let tokens =
                    |of: fn(&super::world::Claim) -> LeaseToken| kept.iter().map(of).collect::<Vec<_>>();
                let sql = self.sql().reconcile(&id, &tokens(|claim| claim.sql)).await.unwrap();
                let mem = self.mem.reconcile(&id, &tokens(|claim| claim.mem)).await.unwrap();
                assert_eq!(sql, mem);
                if sql > 0 {
                    self.coverage.met("reconcile: released");
                }
            }
            Op::Prune { state, age } => {
                let sql = self.sql().prune(*state, *age).await.unwrap();
                assert_eq!(sql, self.mem.prune(*state, *age).await.unwrap());
                if sql > 0 {
                    self.coverage.met("prune: pruned");
                }
            }
            Op::Advance { time } => self.clock.advance(*time),
            Op::StepWall { seconds } => self.step_wall(UNIX_EPOCH + Duration::from_secs(*seconds)),
            Op::Crash { renamed } => {
                self.crash(*renamed).await;
                self.coverage.met("crash");
                self.compare_all().await;
            }
            _ => self.see(op).await,
        }
    }

    /// Sets the wall clock, each time by something else: that it is ahead of the store's time by two milliseconds more than
    /// before is no step for SQLite, which takes it for the difference of two readings.
    fn step_wall(&mut self, to: SystemTime) {
        self.wall_steps += 1;
        self.clock.set_wall(to + Duration::from_millis(100_003_137) * self.wall_steps);
    }

    async fn act(&mut self, op: &Op, before: &Jobs) {
        let (sql, mem, event) = match op {
            Op::RetryFailed { filter: spec, limit } => {
                let filter = filter(spec);
                let sql = self.sql().retry_failed(&filter, *limit).await;
                (sql, self.mem.retry_failed(&filter, *limit).await, JobEvent::RetryFailed)
            }
            Op::Requeue { keys } => {
                let ids: Vec<_> = keys.iter().copied().map(key).collect();
                (self.sql().requeue(&ids).await, self.mem.requeue(&ids).await, JobEvent::Requeue)
            }
            Op::Cancel { keys } => {
                let ids: Vec<_> = keys.iter().copied().map(key).collect();
                (self.sql().cancel(&ids).await, self.mem.cancel(&ids).await, JobEvent::Cancel)
            }
            _ => unreachable!("only operators' acts come here"),
        };
        let (sql, mem) = (sql.unwrap(), mem.unwrap());
        assert_eq!(sql, mem, "SQLite's, the model's");
        let after = self.jobs().await;
        let changed = before.values().filter(|job| after[&job.id].state != job.state);
        let changed: Vec<JobState> = changed.map(|job| job.state).collect();
        assert_eq!(changed.len() as u64, mem);
        for state in changed {
            self.coverage.transition(state, event);
        }
    }

    /// What changes nothing.
    async fn see(&mut self, op: &Op) {
        match op {
            Op::Check { repair } => {
                let sql = self.sql().check(*repair).await.unwrap();
                assert_eq!(sql, self.mem.check(*repair).await.unwrap());
                assert_eq!(sql.problems, Vec::<String>::new());
                self.coverage.met("check");
            }
            Op::List { filter: spec, after, limit } => {
                let (filter, page) = (filter(spec), JobPage { after: after.map(JobId), limit: *limit });
                let mem = self.mem.list(&filter, page).await.unwrap();
                self.compare_records(self.sql().list(&filter, page).await.unwrap(), &mem);
                self.coverage.met("list");
            }
            Op::Unpublished { store, after, limit } => {
                let (store, page) =
                    (StoreId(format!("s{store}")), JobPage { after: after.map(JobId), limit: *limit });
                let mem = self.mem.unpublished(&store, page).await.unwrap();
                self.compare_records(self.sql().unpublished(&store, page).await.unwrap(), &mem);
                self.coverage.met("unpublished");
            }
            Op::Get { key: number } => {
                let sql = self.sql().get(&key(*number)).await.unwrap();
                let mem = self.mem.get(&key(*number)).await.unwrap();
                assert_eq!(sql.map(|(_, history)| history), mem.map(|(_, history)| history));
                self.coverage.met("get");
            }
            Op::Explain { key: number, worker } => self.explain(*number, *worker).await,
            Op::Lanes { after, limit } => {
                let page = LanePage { after: after.map(lane).filter(|lane| !lane.is_none()), limit: *limit };
                self.compare_lanes(&page).await;
                self.coverage.met("lanes");
            }
            Op::Workers => {
                self.compare_workers().await;
                self.coverage.met("workers");
            }
            // Compared after every step.
            _ => {}
        }
    }

    async fn explain(&mut self, number: usize, worker: usize) {
        let rules = self.workers[worker].rules.clone();
        let sql = self.sql().explain(&key(number), &rules).await;
        let mem = self.mem.explain(&key(number), &rules).await;
        match (sql, mem) {
            (Ok(sql), Ok(mem)) => {
                assert_eq!(sql, self.expected_explanation(mem).await, "SQLite's, the model's");
                self.coverage.met(match sql {
                    Explanation::Running { .. } => "explain: Running",
                    Explanation::Ended { .. } => "explain: Ended",
                    Explanation::Ready => "explain: Ready",
                    Explanation::Delayed { .. } => "explain: Delayed",
                    Explanation::CoolDown { .. } => "explain: CoolDown",
                    Explanation::Pace { .. } => "explain: Pace",
                    Explanation::CapFull { .. } => "explain: CapFull",
                    Explanation::LanePaused { .. } => "explain: LanePaused",
                    Explanation::QueuePaused { .. } => "explain: QueuePaused",
                    Explanation::WorkerDied { .. } => "explain: WorkerDied",
                });
            }
            (Err(sql), Err(mem)) => assert_eq!(sql.kind(), mem.kind()),
            (sql, mem) => panic!("{sql:?} is not {mem:?}"),
        }
    }
}

/// A reply that was lost is asked for again soon, and seldom much later.
fn latest<T>(values: &[T]) -> &[T] {
    &values[values.len().saturating_sub(4)..]
}

fn new_job(spec: &NewSpec) -> NewJob {
    let payload = if spec.bare { "{}".to_owned() } else { format!("{{\"n\":{}}}", spec.key) };
    let mut job = NewJob::new(key(spec.key), payload).at(place(spec.lane, spec.role));
    job.priority = Class::new(spec.priority).unwrap();
    job.delay = spec.delay;
    job.max_attempts = (!spec.bare).then_some(3);
    job.resolver_hint = spec.bare.then(|| "arxiv".to_owned());
    job
}

fn filter(spec: &FilterSpec) -> JobFilter {
    JobFilter { state: spec.state, lane: spec.lane.map(lane), reason: spec.reason.map(str::to_owned) }
}

fn verdict(spec: &VerdictSpec) -> Verdict {
    let (outcome, detail) = ("{\"o\":1}".to_owned(), "what went wrong".to_owned());
    match spec {
        VerdictSpec::Done { file } => {
            let file = file.map(|(store, path)| StoredFile {
                store: StoreId(format!("s{store}")),
                path: PATHS[path].to_owned(),
                sha256: "00".repeat(32),
            });
            Verdict::Done { reason: "ok".to_owned(), outcome, file }
        }
        VerdictSpec::Skipped => Verdict::Skipped { reason: "robots".to_owned(), outcome, detail },
        VerdictSpec::Error => Verdict::Error { reason: "gone".to_owned(), outcome, detail },
        VerdictSpec::Retry { after, to } => Verdict::Retry {
            after: *after,
            reason: "timeout".to_owned(),
            detail,
            place: to.map(|to| place(to, 1)),
            checkpoint: to.map(|to| format!("go on in {to}")),
        },
        VerdictSpec::Defer { after, to } => {
            let checkpoint = (*to > 2).then(|| "deferred".to_owned());
            Verdict::Defer { after: *after, place: place(*to, 2), checkpoint }
        }
        VerdictSpec::Throttled { to } => {
            Verdict::Throttled { detail, place: to.map(|to| place(to, 0)), checkpoint: None }
        }
        VerdictSpec::Release { checkpoint } => {
            Verdict::Release { checkpoint: checkpoint.then(|| "released".to_owned()) }
        }
    }
}

fn reports(specs: &[(usize, ReportSpec)]) -> Vec<LaneReport> {
    let mut reports = Vec::new();
    for (number, spec) in specs {
        let lane = lane(*number);
        match spec {
            ReportSpec::Served => reports.push(LaneReport::Served { lane }),
            ReportSpec::Failed { times } => {
                let failed = LaneReport::Failed { lane, cause: "status 502".to_owned() };
                reports.extend(std::iter::repeat_n(failed, *times));
            }
            ReportSpec::Throttled { retry_after } => {
                let cause = "status 429".to_owned();
                reports.push(LaneReport::Throttled { lane, retry_after: *retry_after, cause });
            }
            ReportSpec::Paced { controller, every, valid_for } => {
                let (controller, every, valid_for) = (*controller, *every, *valid_for);
                reports.push(LaneReport::Paced { lane, controller, every, valid_for });
            }
            ReportSpec::Unused => reports.push(LaneReport::Unused { lane, role: Role::Artifact }),
        }
    }
    reports
}
