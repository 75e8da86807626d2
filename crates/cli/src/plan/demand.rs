//! What the lines of an import ask of hosts: so many artifacts each.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::Duration;

use longhaul_limiter::Lane;
use longhaul_queue_core::NewJob;

/// So many artifacts are remembered, so that one that is named twice is counted once; the queue knows all of them.
const REMEMBERED: usize = 1_000_000;

/// How much is asked of whom.
#[derive(Debug, Default)]
pub(crate) struct Demand {
    lanes: HashMap<Lane, u64>,
    seen: HashSet<u64>,
    /// Artifacts, each counted once.
    pub(crate) artifacts: u64,
    /// Lines that name one again.
    pub(crate) duplicates: u64,
    /// Artifacts that name no URL: whom they will press on is known only once a resolver has been asked.
    pub(crate) without_host: u64,
    /// The longest time that an artifact is not to be fetched before.
    pub(crate) delay: Duration,
}

impl Demand {
    /// Counts one.
    pub(crate) fn add(&mut self, job: &NewJob) {
        let mut hasher = DefaultHasher::new();
        job.artifact_id.as_str().hash(&mut hasher);
        let id = hasher.finish();
        if self.seen.contains(&id) {
            self.duplicates += 1;
            return;
        }
        if self.seen.len() < REMEMBERED {
            self.seen.insert(id);
        }
        self.artifacts += 1;
        self.delay = self.delay.max(job.delay);
        if job.place.lane.is_none() {
            self.without_host += 1;
        } else {
            *self.lanes.entry(job.place.lane.clone()).or_default() += 1;
        }
    }

    /// The hosts with what is asked of each, the most first.
    pub(crate) fn by_host(&self) -> Vec<(Lane, u64)> {
        let mut hosts: Vec<(Lane, u64)> =
            self.lanes.iter().map(|(lane, count)| (lane.clone(), *count)).collect();
        hosts.sort_by(|one, next| next.1.cmp(&one.1).then_with(|| one.0.cmp(&next.0)));
        hosts
    }
}

#[cfg(test)]
mod tests {
    use longhaul_limiter::Role;
    use longhaul_queue_core::{ArtifactId, Place};

    use super::*;

    fn job(id: &str, host: &str) -> NewJob {
        let lane = if host.is_empty() { Lane::NONE } else { Lane::new(host).unwrap() };
        NewJob { place: Place::new(lane, Role::Artifact), ..NewJob::new(ArtifactId::new(id).unwrap(), "{}") }
    }

    #[test]
    fn an_artifact_counts_once_and_at_its_host() {
        let mut demand = Demand::default();
        for (id, host) in
            [("1", "a.example"), ("2", "b.example"), ("3", "a.example"), ("1", "a.example"), ("4", "")]
        {
            demand.add(&job(id, host));
        }
        let hosts: Vec<_> =
            demand.by_host().into_iter().map(|(lane, count)| (lane.to_string(), count)).collect();
        assert_eq!(hosts, [("a.example".to_owned(), 2), ("b.example".to_owned(), 1)]);
        assert_eq!((demand.artifacts, demand.duplicates, demand.without_host), (4, 1, 1));
    }
}
