//! SQLite and the model side by side. They must be the same, but for what the contract leaves free.

use std::collections::BTreeSet;
use std::time::{Duration, UNIX_EPOCH};

use longhaul_limiter::Clock as _;
use longhaul_queue_core::{
    Epoch, Explanation, JobFilter, JobRecord, LanePage, LaneRow, LeaseBatch, LeaseRequest, LeasedJob,
    QueueAdmin as _, QueueStats, StoreId, Timestamp, WorkQueue, WorkerRow,
};

use super::ops::KEYS;
use super::world::{ALL, Claim, World, key};

impl World<'_> {
    /// A row of SQLite's with the fence that the model has for it.
    fn like_mem(&self, mut record: JobRecord) -> JobRecord {
        record.fence -= self.offsets.get(&record.id).copied().unwrap_or(0);
        record
    }

    pub fn compare_records(&self, sql: Vec<JobRecord>, mem: &[JobRecord]) {
        let sql: Vec<JobRecord> = sql.into_iter().map(|record| self.like_mem(record)).collect();
        assert_eq!(sql, mem, "rows: SQLite's, the model's");
    }

    /// What was leased, and what was said about the next time. Remembers the new claims.
    pub fn compare_batches(
        &mut self,
        request: &LeaseRequest,
        sql: &LeaseBatch,
        mem: &LeaseBatch,
        is_repeated: bool,
    ) {
        assert_eq!(sql.jobs.len(), mem.jobs.len());
        for (sql, mem) in sql.jobs.iter().zip(&mem.jobs) {
            self.claims.retain(|claim| claim.sql != sql.token);
            self.claims.push(Claim { sql: sql.token, mem: mem.token });
            let offset = self.offsets.get(&sql.token.job).copied().unwrap_or(0);
            assert_eq!(sql.token.fence, mem.token.fence + offset, "INV-FENCE");
            assert_eq!(
                LeasedJob { token: mem.token, ..sql.clone() },
                *mem,
                "a leased job: SQLite's, the model's"
            );
        }
        assert!(sql.alone_waiting || !mem.alone_waiting, "a job waits to run alone, and it is not said");
        // Whoever is told so asks for it, and that visit says when its lane really opens.
        let is_told_to_ask = sql.alone_waiting && !mem.alone_waiting;
        if let Some(latest) = mem.next_open.filter(|_| !is_told_to_ask) {
            assert!(
                sql.next_open.is_some_and(|at| at <= latest),
                "{:?} is too late, something opens in {latest:?}: {request:?}",
                sql.next_open
            );
        }
        let is_short = sql.jobs.len() < request.max && !is_repeated;
        assert!(!is_short || sql.next_open != Some(Duration::ZERO), "asking again at once gives nothing");
        self.epochs.0 = Some(sql.epoch.max(self.epochs.0.unwrap_or_default()));
        self.epochs.1 = mem.epoch.max(self.epochs.1);
    }

    fn now_on_the_wall(&self) -> Timestamp {
        let wall = self.clock.wall().duration_since(UNIX_EPOCH).unwrap();
        Timestamp(i64::try_from(wall.as_millis()).unwrap())
    }

    async fn living(&self) -> Vec<WorkerRow> {
        let now = self.now_on_the_wall();
        let rows = self.mem.workers().await.unwrap();
        rows.into_iter().filter(|row| row.expires_at > now).collect()
    }

    pub async fn compare_stats(&self) {
        let (sql, mem) = (self.sql().stats().await.unwrap(), self.mem.stats().await.unwrap());
        // Who has no OS lock is dead, which the model cannot see.
        let alive = self.living().await.iter().filter(|row| self.locked.contains(&row.id)).count() as u64;
        // How much too early it may be is not said; a lane that nobody touches bounds it.
        let expected =
            QueueStats { workers: alive, next_open: sql.next_open, next_unpaused: sql.next_unpaused, ..mem };
        assert_eq!(sql, expected, "stats: SQLite's, the model's");
        if sql.paused.is_some() {
            assert_eq!(sql.next_unpaused, None, "all is paused");
        } else if sql.lanes_paused == 0 {
            assert_eq!(sql.next_unpaused, sql.next_open, "nothing is paused");
        }
        if let Some(latest) = self.certain_opening().await {
            assert!(sql.next_open.is_some_and(|at| at <= latest), "{:?} is after {latest:?}", sql.next_open);
        }
    }

    /// When a lane without taken slots or a host's pace has something to give: nobody's rules can put that off.
    async fn certain_opening(&self) -> Option<Duration> {
        if !self.workers.iter().all(|worker| *worker.rules == longhaul_queue_core::LaneRules::unlimited()) {
            return None;
        }
        let lanes = self.mem.lanes(&LanePage { after: None, limit: 100 }).await.unwrap();
        let now = self.now_on_the_wall();
        if self.mem.stats().await.unwrap().paused.is_some() {
            return None;
        }
        let jobs = self.jobs().await;
        let queued = jobs.values().filter(|job| job.state == longhaul_queue_core::JobState::Queued);
        let opens = queued.filter_map(|job| {
            let lane = lanes.iter().find(|lane| lane.lane == job.place.lane)?;
            let closed = lane.closed_until.into_iter().chain(lane.paused_until).max();
            let at = job.available_at.max(closed.unwrap_or(now));
            let is_free = lane.in_flight == 0 && lane.pace.is_none();
            (is_free && at != Timestamp::NEVER).then(|| at.after(now))
        });
        opens.min()
    }

    /// The model cannot see that a process is dead before its time.
    pub async fn expected_explanation(&self, mem: Explanation) -> Explanation {
        match mem {
            Explanation::Running { worker } if !self.locked.contains(&worker) => {
                let row = self.living().await.into_iter().find(|row| row.id == worker).expect("it runs");
                // Whoever leases next ends its leases five seconds later, if they do not end before.
                let wait = row.expires_at.after(self.now_on_the_wall()).min(Duration::from_secs(5));
                Explanation::WorkerDied { wait_ms: u64::try_from(wait.as_millis()).unwrap() }
            }
            other => other,
        }
    }

    pub async fn compare_lanes(&self, page: &LanePage) {
        // A page may be short of lanes that nothing is remembered of; so whole listings are compared.
        let all = LanePage { after: page.after.clone(), limit: 100 };
        let rows = |rows: Vec<LaneRow>| {
            let blank = |row: &LaneRow| {
                row.queued == 0
                    && row.in_flight == 0
                    && row.reopening.is_none()
                    && row.pace.is_none()
                    && row.closed_until.is_none()
                    && row.paused_until.is_none()
            };
            let rows = rows.into_iter().filter(|row| !blank(row));
            rows.map(|row| LaneRow { open_at: None, ..row }).collect::<Vec<_>>()
        };
        let (sql, mem) = (self.sql().lanes(&all).await.unwrap(), self.mem.lanes(&all).await.unwrap());
        let first: Vec<LaneRow> = sql.iter().take(page.limit).cloned().collect();
        assert_eq!(self.sql().lanes(page).await.unwrap(), first, "a page of lanes");
        assert_eq!(rows(sql), rows(mem), "lanes: SQLite's, the model's");
    }

    pub async fn compare_workers(&self) {
        let sorted = |mut rows: Vec<WorkerRow>| {
            rows.sort_by(|a, b| a.id.cmp(&b.id));
            rows
        };
        let (sql, mem) = (self.sql().workers().await.unwrap(), self.mem.workers().await.unwrap());
        // Who has no OS lock is dead, which the model cannot see.
        let expected =
            mem.into_iter().map(|row| WorkerRow { alive: row.alive && self.locked.contains(&row.id), ..row });
        assert_eq!(sorted(sql), sorted(expected.collect()), "workers: SQLite's, the model's");
    }

    /// Everything that can be seen.
    pub async fn compare_all(&self) {
        let filter = JobFilter::default();
        let sql = self.sql().list(&filter, ALL).await.unwrap();
        let ids: BTreeSet<_> = sql.iter().map(|job| job.id).collect();
        assert_eq!(ids.len(), sql.len(), "INV-IDEMPOTENT");
        self.compare_records(sql, &self.mem.list(&filter, ALL).await.unwrap());
        for number in 0..KEYS {
            let (sql, mem) =
                (self.sql().get(&key(number)).await.unwrap(), self.mem.get(&key(number)).await.unwrap());
            let sql = sql.map(|(record, history)| (self.like_mem(record), history));
            assert_eq!(sql, mem, "a job and its history: SQLite's, the model's");
        }
        self.compare_stats().await;
        self.compare_lanes(&LanePage { after: None, limit: 100 }).await;
        self.compare_workers().await;
        for store in ["s0", "s1"] {
            let store = StoreId(store.to_owned());
            let (sql, mem) =
                (self.sql().unpublished(&store, ALL).await, self.mem.unpublished(&store, ALL).await);
            self.compare_records(sql.unwrap(), &mem.unwrap());
        }
        let problems = self.sql().check(false).await.unwrap().problems;
        assert_eq!(problems, Vec::<String>::new(), "INV-CONSERVE");
        assert_eq!(self.mem.check(false).await.unwrap().problems, Vec::<String>::new(), "INV-CONSERVE");
    }

    /// Whoever waits for the model's next epoch waits for SQLite's as well: no wake-up is lost. Where `admits`, the
    /// model also announces slots that moved from a lane into the same.
    pub async fn compare_epochs(&mut self, admits: bool) {
        let mem = woken(&self.mem, self.epochs.1).await;
        let Some(since) = self.epochs.0 else {
            self.epochs.1 = mem.unwrap_or(self.epochs.1);
            return;
        };
        let sql = woken(self.sql(), since).await;
        assert!(mem.is_none() || sql.is_some() || admits, "the model wakes who waits, SQLite does not");
        if mem.is_some() {
            self.coverage.met("changed: woken");
        }
        self.epochs = (Some(sql.unwrap_or(since)), mem.unwrap_or(self.epochs.1));
    }
}

/// The epoch, if it is later.
async fn woken(queue: &dyn WorkQueue, since: Epoch) -> Option<Epoch> {
    let mut waiting = queue.changed(since);
    std::future::poll_fn(|context| {
        std::task::Poll::Ready(match waiting.as_mut().poll(context) {
            std::task::Poll::Ready(epoch) => Some(epoch.unwrap()),
            std::task::Poll::Pending => None,
        })
    })
    .await
}
