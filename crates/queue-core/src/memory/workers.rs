//! Worker processes: joining, staying alive, leaving, and what becomes of the leases of those that died.

use std::collections::BTreeSet;
use std::time::Duration;

use longhaul_limiter::Lane;

use super::model::{Model, Worker, shortened};
use crate::lease::died;
use crate::{
    ErrorKind, Heartbeat, JobEvent, JobId, LeaseToken, QueueError, Result, StatedLimits, StoreId, WorkerId,
    WorkerInfo, WorkerRow,
};

/// Why a job is queued again, or in error, after its process died.
const LEASE_LOST: &str = "lease-lost";

impl Model {
    pub(super) fn join(&mut self, info: &WorkerInfo, ttl: Duration) -> Result<()> {
        self.end_if_expired(&info.id)?;
        let expires_at = self.now.plus(ttl);
        let known = self.workers.entry(info.id.clone());
        let worker = known.or_insert_with(|| Worker {
            info: info.clone(),
            started_at: self.now,
            expires_at,
            held: BTreeSet::new(),
            max_losses: u32::MAX,
            stated: info.limits.as_ref().map(StatedLimits::rules),
        });
        worker.expires_at = expires_at;
        Ok(())
    }

    pub(super) fn heartbeat(&mut self, id: &WorkerId, ttl: Duration) -> Result<Heartbeat> {
        let was_expired = self.end_if_expired(id)?;
        let expires_at = self.now.plus(ttl);
        let Some(worker) = self.workers.get_mut(id) else {
            let message = format!("worker process {id} is not known to the queue; it must join first");
            return Err(QueueError::new(ErrorKind::NotFound, message));
        };
        worker.expires_at = expires_at;
        Ok(Heartbeat { held: worker.held.len() as u64, was_expired })
    }

    /// A process that comes back after its time has lost its leases, though nobody has swept them yet.
    fn end_if_expired(&mut self, id: &WorkerId) -> Result<bool> {
        let Some(worker) = self.workers.get(id).filter(|worker| worker.expires_at <= self.now) else {
            return Ok(false);
        };
        let (max_losses, store) = (worker.max_losses, worker.info.store.clone());
        self.lose(id, max_losses, store.as_ref())?;
        Ok(true)
    }

    pub(super) fn leave(&mut self, id: &WorkerId) -> Result<()> {
        self.release_all(id, &[])?;
        if let Some(gone) = self.workers.remove(id) {
            self.unbind(&gone.info);
        }
        Ok(())
    }

    /// Releases whatever the process holds beyond `held`.
    pub(super) fn release_all(&mut self, id: &WorkerId, held: &[LeaseToken]) -> Result<u64> {
        let believed: BTreeSet<LeaseToken> = held.iter().copied().collect();
        let mut released = 0;
        for job in self.held_by(id) {
            let fence = self.jobs.get(&job).map_or(0, |job| job.row.fence);
            if !believed.contains(&LeaseToken { job, fence }) {
                self.transition(job, JobEvent::Release, None, |_| {})?;
                released += 1;
            }
        }
        Ok(released)
    }

    /// Ends the leases of processes that have expired. It compares expiry and sets in one step (INV-NO-LOSS). Jobs that
    /// end thereby are published in the store of `sweeper`: it is there to do it.
    pub(super) fn sweep(&mut self, sweeper: &WorkerId, max_losses: u32) -> Result<()> {
        let store = self.workers.get(sweeper).and_then(|worker| worker.info.store.clone());
        let expired = self.workers.iter().filter(|(_, worker)| worker.expires_at <= self.now);
        let expired: Vec<WorkerId> = expired.map(|(id, _)| id.clone()).collect();
        for id in expired {
            self.lose(&id, max_losses, store.as_ref())?;
            if let Some(gone) = self.workers.remove(&id) {
                self.unbind(&gone.info);
            }
        }
        Ok(())
    }

    /// A process is gone: what it had put off by limits of its own, others may start now.
    fn unbind(&mut self, gone: &WorkerInfo) {
        if gone.limits.is_some() && self.workers.values().any(|worker| worker.info.limits != gone.limits) {
            let lanes: BTreeSet<Lane> = self.turns.iter().map(|(lane, ..)| lane.clone()).collect();
            for lane in &lanes {
                self.turns.reopen(lane, self.now);
            }
            self.epoch += 1;
        }
    }

    /// Charges a loss to each job that a dead process held (INV-ATTEMPTS).
    fn lose(&mut self, id: &WorkerId, max_losses: u32, store: Option<&StoreId>) -> Result<()> {
        for job in self.held_by(id) {
            let losses = self.jobs.get(&job).map_or(0, |job| job.row.losses) + 1;
            let is_last = losses >= max_losses;
            let event = if is_last { JobEvent::LoseLast } else { JobEvent::Lose };
            let store = store.filter(|_| is_last).cloned();
            let text = died(losses, is_last);
            self.transition(job, event, Some(LEASE_LOST), |job| {
                job.row.reason = Some(LEASE_LOST.to_owned());
                job.row.store = store;
                job.row.last_error = Some(shortened(&text));
            })?;
        }
        Ok(())
    }

    fn held_by(&self, id: &WorkerId) -> Vec<JobId> {
        self.workers.get(id).map_or_else(Vec::new, |worker| worker.held.iter().copied().collect())
    }

    pub(super) fn worker_rows(&self) -> Vec<WorkerRow> {
        let rows = self.workers.values().map(|worker| WorkerRow {
            id: worker.info.id.clone(),
            alive: worker.expires_at > self.now,
            host: worker.info.host.clone(),
            pid: worker.info.pid,
            version: worker.info.version.clone(),
            store: worker.info.store.clone(),
            limits: worker.info.limits.clone(),
            started_at: self.wall(worker.started_at),
            expires_at: self.wall(worker.expires_at),
            held: worker.held.len() as u64,
        });
        rows.collect()
    }
}
