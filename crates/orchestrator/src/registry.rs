//! The jobs that this process is responsible for, from the lease's reply until their publication.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::{Mutex, MutexGuard, PoisonError};

use longhaul_queue_core::{ArtifactId, JobId, LeaseToken};
use tokio_util::sync::CancellationToken;

/// Shared by the dispatcher, the heartbeat, the publisher and the recovery. Holds workers + unpublished jobs
/// (INV-BOUNDED).
#[derive(Debug, Default)]
pub(crate) struct Registry {
    jobs: Mutex<BTreeMap<LeaseToken, Entry>>,
}

#[derive(Debug)]
struct Entry {
    artifact: ArtifactId,
    cancel: CancellationToken,
    /// Whether the lease is settled and only the publication is missing.
    publishing: bool,
}

impl Registry {
    /// A leased job; the token cancels its try.
    pub(crate) fn insert(&self, token: LeaseToken, artifact: ArtifactId) -> CancellationToken {
        let cancel = CancellationToken::new();
        self.lock().insert(token, Entry { artifact, cancel: cancel.clone(), publishing: false });
        cancel
    }

    /// The lease is settled; the job waits for its publication.
    pub(crate) fn publishing(&self, token: LeaseToken) {
        if let Some(entry) = self.lock().get_mut(&token) {
            entry.publishing = true;
        }
    }

    /// The process has nothing more to do with this claim.
    pub(crate) fn remove(&self, token: LeaseToken) {
        self.lock().remove(&token);
    }

    /// The claims that are believed to be held.
    pub(crate) fn held(&self) -> Vec<(LeaseToken, ArtifactId)> {
        let jobs = self.lock();
        let held = jobs.iter().filter(|(_, entry)| !entry.publishing);
        held.map(|(token, entry)| (*token, entry.artifact.clone())).collect()
    }

    /// How many claims are believed to be held.
    pub(crate) fn held_count(&self) -> u64 {
        self.lock().values().filter(|entry| !entry.publishing).count() as u64
    }

    /// How many jobs wait for their publication.
    pub(crate) fn publishing_count(&self) -> usize {
        self.lock().values().filter(|entry| entry.publishing).count()
    }

    /// Whether this process is responsible for the job, so that recovery must leave it alone.
    pub(crate) fn is_ours(&self, job: JobId) -> bool {
        let claims: RangeInclusive<LeaseToken> =
            LeaseToken { job, fence: i64::MIN }..=LeaseToken { job, fence: i64::MAX };
        self.lock().range(claims).next().is_some()
    }

    /// Cancels one try.
    pub(crate) fn cancel(&self, token: LeaseToken) {
        if let Some(entry) = self.lock().get(&token) {
            entry.cancel.cancel();
        }
    }

    /// Cancels every try.
    pub(crate) fn cancel_all(&self) {
        for entry in self.lock().values() {
            entry.cancel.cancel();
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<LeaseToken, Entry>> {
        // Every method leaves the map whole, so a panic elsewhere cannot have torn it.
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
