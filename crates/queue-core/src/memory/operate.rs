//! What operators do to jobs, and the cache.

use std::time::Duration;

use super::model::{Job, Model};
use crate::{ArtifactId, JobEvent, JobFilter, JobId, JobRecord, JobState, Result, Timestamp};

/// Why a cancelled job is skipped.
const CANCELLED: &str = "cancelled";

impl JobFilter {
    pub(super) fn matches(&self, job: &JobRecord) -> bool {
        self.state.is_none_or(|state| state == job.state)
            && self.lane.as_ref().is_none_or(|lane| *lane == job.place.lane)
            && self.reason.as_ref().is_none_or(|reason| job.reason.as_ref() == Some(reason))
    }
}

impl Model {
    pub(super) fn retry_failed(&mut self, filter: &JobFilter, limit: usize) -> Result<u64> {
        let failed =
            |job: &&Job| job.row.state == JobState::Error && !job.row.slim && filter.matches(&job.row);
        let ids: Vec<JobId> = self.jobs.values().filter(failed).take(limit).map(|job| job.row.id).collect();
        for id in &ids {
            self.start_afresh(*id, JobEvent::RetryFailed)?;
        }
        Ok(ids.len() as u64)
    }

    /// Applies an operator's event to those of the jobs to which it can happen; returns how many they were.
    pub(super) fn operate(&mut self, ids: &[ArtifactId], event: JobEvent) -> Result<u64> {
        let mut done = 0;
        for id in ids {
            let Some(job) = self.ids.get(id).and_then(|id| self.jobs.get(id)) else { continue };
            if job.row.slim || job.row.state.apply(event).is_err() {
                continue;
            }
            let id = job.row.id;
            if event == JobEvent::Cancel {
                self.transition(id, event, Some(CANCELLED), |job| {
                    job.row.reason = Some(CANCELLED.to_owned());
                    job.settled = None;
                })?;
            } else {
                self.start_afresh(id, event)?;
            }
            done += 1;
        }
        Ok(done)
    }

    fn start_afresh(&mut self, id: JobId, event: JobEvent) -> Result<()> {
        let now = self.now;
        self.transition(id, event, None, |job| {
            job.row.available_at = now;
        })?;
        Ok(())
    }

    pub(super) fn prune(&mut self, state: JobState, older_than: Duration) -> u64 {
        let age = i64::try_from(older_than.as_millis()).unwrap_or(i64::MAX);
        let before = Timestamp(self.now.0.saturating_sub(age));
        let mut pruned = 0;
        for job in self.jobs.values_mut() {
            let row = &mut job.row;
            let is_old = row.finished_at.is_some_and(|at| at <= before);
            if row.state != state || !row.published || !is_old || row.slim {
                continue;
            }
            row.slim = true;
            "{}".clone_into(&mut row.payload);
            (row.checkpoint, row.outcome, row.last_error) = (None, None, None);
            row.updated_at = self.now;
            job.history.clear();
            pruned += 1;
        }
        pruned
    }

    pub(super) fn cache_get(&self, key: &str) -> Option<String> {
        let (value, expires_at) = self.cache.get(key)?;
        (*expires_at > self.now).then(|| value.clone())
    }

    pub(super) fn cache_put(&mut self, key: &str, value: &str, ttl: Duration) {
        let now = self.now;
        self.cache.retain(|_, (_, expires_at)| *expires_at > now);
        self.cache.insert(key.to_owned(), (value.to_owned(), now.plus(ttl)));
    }
}
