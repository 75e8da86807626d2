//! What can be seen of the queue. Nothing here changes it.

use std::collections::{BTreeMap, BTreeSet};

use longhaul_limiter::{Lane, LaneRules};

use super::lanes::Pause;
use super::model::{Job, Model};
use crate::explain::Waiting;
use crate::{
    ArtifactId, ErrorKind, Explanation, HistoryEntry, JobPage, JobRecord, LanePace, LanePage, LaneRow,
    QueueError, QueueStats, Result, Survey, Throughput, Timestamp,
};

/// Where counts that are not kept end.
const COUNT_MAX: usize = 10_001;
/// Where those of a lane end.
const LANE_COUNT_MAX: usize = 1_001;

impl Model {
    /// A row with its times as wall times.
    fn record(&self, job: &Job) -> JobRecord {
        let mut row = job.row.clone();
        row.available_at = self.wall(row.available_at);
        row.created_at = self.wall(row.created_at);
        row.updated_at = self.wall(row.updated_at);
        row.finished_at = row.finished_at.map(|at| self.wall(at));
        row
    }

    pub(super) fn get(&self, id: &ArtifactId) -> Option<(JobRecord, Vec<HistoryEntry>)> {
        let job = self.jobs.get(self.ids.get(id)?)?;
        let lines = job.history.iter().rev();
        let lines = lines.map(|line| HistoryEntry { at: self.wall(line.at), ..line.clone() });
        Some((self.record(job), lines.collect()))
    }

    pub(super) fn list(&self, page: JobPage, is_meant: impl Fn(&Job) -> bool) -> Vec<JobRecord> {
        let after = page.after.map_or(std::ops::Bound::Unbounded, std::ops::Bound::Excluded);
        let jobs = self.jobs.range((after, std::ops::Bound::Unbounded)).map(|(_, job)| job);
        jobs.filter(|job| is_meant(job)).take(page.limit).map(|job| self.record(job)).collect()
    }

    pub(super) fn critical(&self, throughput: &Throughput) -> Vec<Lane> {
        let mut queued: BTreeMap<&Lane, u64> = BTreeMap::new();
        for ((lane, ..), jobs) in &self.lines {
            *queued.entry(lane).or_default() += jobs.len() as u64;
        }
        let mut survey = Survey::new(throughput);
        for (lane, queued) in queued {
            let host = self.lane(lane).host.slowest(self.now.since_epoch());
            survey.count(lane.clone(), queued, self.cap(lane, &throughput.rules), host);
        }
        survey.critical()
    }

    pub(super) fn explain(&self, id: &ArtifactId, rules: &LaneRules) -> Result<Explanation> {
        let Some(job) = self.ids.get(id).and_then(|id| self.jobs.get(id)) else {
            return Err(QueueError::new(
                ErrorKind::NotFound,
                format!("there is no artifact {id} in the queue"),
            ));
        };
        let row = &job.row;
        if row.state.is_terminal() {
            return Ok(Explanation::Ended { state: row.state, reason: row.reason.clone() });
        }
        if let Some(worker) = &row.worker {
            let expires_at = self.workers.get(worker).map(|worker| worker.expires_at);
            return Ok(match expires_at.filter(|at| *at > self.now) {
                Some(_) => Explanation::Running { worker: worker.clone() },
                None => Explanation::WorkerDied { wait_ms: 0 },
            });
        }
        let lane = self.lane(&row.place.lane);
        let bounds = self.bounds(&row.place.lane, row.place.role, rules);
        let of_pause = |pause: Option<&Pause>| {
            let found = pause.map(|pause| (pause.until, Some(pause.reason.clone())));
            found.unwrap_or_default()
        };
        let waiting = Waiting {
            now: self.now,
            queue_pause: of_pause(self.pause.as_ref()),
            lane_pause: of_pause(lane.pause.as_ref()),
            pace_opens: Timestamp::at_least(bounds.open_at(&lane.pace)),
            controller: bounds.controller(&lane.pace),
            available_at: row.available_at,
            in_flight: self.slots_taken(&row.place.lane),
            cap: lane.cap(rules.cap(&row.place.lane)),
            cool_down: (lane.not_before, lane.cause),
        };
        Ok(waiting.explain())
    }

    pub(super) fn stats(&self) -> QueueStats {
        let ready = || self.queued.iter().take_while(|(available_at, _)| *available_at <= self.now);
        let lane_of = |id: &crate::JobId| self.jobs.get(id).map(|job| self.lane(&job.row.place.lane));
        let is_closed = |id: &crate::JobId| lane_of(id).is_some_and(|lane| lane.closed_until() > self.now);
        let delayed = self.queued.iter().rev().take_while(|(available_at, _)| *available_at > self.now);
        let cooling = || self.lanes.values().map(|lane| lane.not_before).filter(|at| *at > self.now);
        let is_paused =
            |lane: &&super::lanes::LaneState| lane.pause.as_ref().is_some_and(|pause| pause.until > self.now);
        let opens = self.turns.iter().map(|(lane, _, open_at)| open_at.max(self.lane(lane).closed_until()));
        let opens = opens.min().map(|at| at.max(self.paused_until().unwrap_or(at)));
        let is_held_back = self.pause.as_ref().is_some_and(|pause| pause.until > self.now);
        let unpaused = self
            .turns
            .iter()
            .map(|(lane, _, open_at)| (self.lane(lane), open_at))
            .filter(|(lane, _)| !is_held_back && !is_paused(&lane))
            .map(|(lane, open_at)| open_at.max(lane.not_before))
            .min();
        let since =
            self.now.0.saturating_sub(i64::try_from(QueueStats::LATELY.as_millis()).unwrap_or(i64::MAX));
        let ended_lately = |job: &&Job| {
            let row = &job.row;
            row.published && !row.slim && row.finished_at.is_some_and(|at| at.0 > since)
        };
        QueueStats {
            counts: self.counts,
            ended_lately: self.jobs.values().filter(ended_lately).take(QueueStats::ENDED_LATELY_MAX).count()
                as u64,
            ready: ready().filter(|(_, id)| !is_closed(id)).take(COUNT_MAX).count() as u64,
            closed: ready().filter(|(_, id)| is_closed(id)).take(COUNT_MAX).count() as u64,
            delayed: delayed.take(COUNT_MAX).count() as u64,
            oldest_ready: ready().next().map(|(available_at, _)| self.now.after(*available_at)),
            lanes_cooling: cooling().count() as u64,
            next_cooled: cooling().min().map(|at| at.after(self.now)),
            paused_for: self
                .paused_until()
                .filter(|until| *until > self.now && *until != Timestamp::NEVER)
                .map(|until| until.after(self.now)),
            paused: self
                .pause
                .as_ref()
                .filter(|pause| pause.until > self.now)
                .map(|pause| pause.reason.clone()),
            lanes_paused: self.lanes.values().filter(is_paused).count() as u64,
            next_open: opens.filter(|at| *at != Timestamp::NEVER).map(|at| at.after(self.now)),
            next_unpaused: unpaused.filter(|at| *at != Timestamp::NEVER).map(|at| at.after(self.now)),
            workers: self.workers.values().filter(|worker| worker.expires_at > self.now).count() as u64,
        }
    }

    pub(super) fn lane_rows(&self, page: &LanePage) -> Vec<LaneRow> {
        let waiting = self.turns.iter().map(|(lane, ..)| lane);
        let known: BTreeSet<&Lane> = waiting.chain(self.lanes.keys()).chain(self.slots.keys()).collect();
        let after = |lane: &&Lane| page.after.as_ref().is_none_or(|after| *lane > after) && !lane.is_none();
        known.into_iter().filter(after).take(page.limit).map(|lane| self.lane_row(lane)).collect()
    }

    fn lane_row(&self, lane: &Lane) -> LaneRow {
        let state = self.lane(lane);
        let lines = self.lines.range((lane.clone(), 0, longhaul_limiter::Role::ALL[0])..);
        let lines = lines.take_while(|((name, ..), _)| name == lane);
        let counted: Vec<Timestamp> = lines
            .flat_map(|(_, jobs)| jobs)
            .take(LANE_COUNT_MAX)
            .map(|(available_at, _)| *available_at)
            .collect();
        let open_at = self.turns.of(lane).map(|(_, open_at)| open_at.max(state.closed_until())).min();
        let is_closed = state.not_before > self.now;
        let closed = state.closed_until() > self.now;
        let pause = state.pause.as_ref().filter(|pause| pause.until > self.now);
        LaneRow {
            lane: lane.clone(),
            queued: counted.len() as u64,
            ready: counted.iter().filter(|at| !closed && **at <= self.now).count() as u64,
            in_flight: self.slots_taken(lane),
            reopening: state.reopening,
            pace: state.host.slowest(self.now.since_epoch()).map(|pace| LanePace {
                until: self.wall(Timestamp::at_least(pace.until)),
                ..LanePace::from(pace)
            }),
            closed_until: is_closed.then(|| self.wall(state.not_before)),
            cause: state.cause.clone().filter(|_| is_closed),
            paused_until: pause.map(|pause| self.wall(pause.until)),
            pause_reason: pause.map(|pause| pause.reason.clone()),
            open_at: open_at.filter(|at| *at != Timestamp::NEVER).map(|at| self.wall(at)),
        }
    }
}
