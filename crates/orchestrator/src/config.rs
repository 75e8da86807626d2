//! What a run is told.

use std::sync::Arc;
use std::time::Duration;

use longhaul_limiter::{LaneRules, Limits, NoLimits};
use longhaul_worker::WorkerConfig;

use crate::{OrchestratorError, Result};

/// The configuration of one run. [`OrchestratorConfig::default`] is a good one; [`OrchestratorConfig::validate`] says
/// what cannot be.
#[derive(Debug, Clone)]
pub struct OrchestratorConfig {
    /// Jobs at work at the same time in this process, 1 to 256.
    pub workers: usize,
    /// How long the queue keeps a silent process' leases. At least a second.
    pub lease_ttl: Duration,
    /// How often the process says that it is alive. Less than a third of `lease_ttl`, so that one lost beat is no loss.
    pub heartbeat: Duration,
    /// So many charged tries a job, unless it brings a limit of its own.
    pub max_job_attempts: u32,
    /// After so many died processes a job ends in error.
    pub max_losses: u32,
    /// The wait after a job's first failed try; each further one waits twice as long, up to an hour.
    pub retry_backoff: Duration,
    /// Up to so much more, at random.
    pub jitter: Duration,
    /// How long a stopped run lets its jobs finish.
    pub grace: Duration,
    /// End when nothing is left to do; otherwise wait for more.
    pub drain: bool,
    /// What cannot start within this long is left to another run.
    pub drain_horizon: Duration,
    /// What the run may use up.
    pub budgets: Budgets,
    /// Caps and paces, sent with every request to the queue.
    pub rules: Arc<LaneRules>,
    /// What this process allows itself beside that: concurrency of resolvers, request rate, bandwidth.
    pub limits: Arc<dyn Limits>,
    /// A try that runs longer is cut off and fails as transient.
    pub job_time_limit: Option<Duration>,
}

/// What one run may use up. `None` is without bound.
#[derive(Debug, Clone, Default)]
pub struct Budgets {
    /// Exactly so many jobs end (as done, skipped or error), if there are as many.
    pub max_jobs: Option<u64>,
    /// After so many received bytes nothing more is leased; what is in flight finishes.
    pub max_bytes: Option<u64>,
    /// After this long the run stops as if it were told to.
    pub max_runtime: Option<Duration>,
    /// After so many jobs that ended in error nothing more is leased; what is in flight finishes.
    pub max_errors: Option<u64>,
}

impl Default for OrchestratorConfig {
    fn default() -> Self {
        Self {
            workers: 8,
            lease_ttl: Duration::from_mins(2),
            heartbeat: Duration::from_secs(15),
            max_job_attempts: 3,
            max_losses: 5,
            retry_backoff: Duration::from_mins(1),
            jitter: Duration::from_secs(15),
            grace: Duration::from_secs(30),
            drain: false,
            drain_horizon: Duration::from_hours(1),
            budgets: Budgets::default(),
            rules: Arc::new(LaneRules::default()),
            limits: Arc::new(NoLimits),
            job_time_limit: Some(Duration::from_hours(2)),
        }
    }
}

impl OrchestratorConfig {
    /// Refuses what cannot be, naming the value and what it may be. [`crate::Orchestrator::start`] calls it.
    pub fn validate(&self) -> Result<()> {
        let refuse = |message: String| Err(OrchestratorError::config(message));
        if !(1..=256).contains(&self.workers) {
            return refuse(format!("workers is {}; it must be 1 to 256", self.workers));
        }
        if self.lease_ttl < Duration::from_secs(1) {
            return refuse(format!("lease_ttl is {:?}; it must be at least 1 s", self.lease_ttl));
        }
        if self.heartbeat.is_zero() || self.heartbeat >= self.lease_ttl / 3 {
            return refuse(format!(
                "heartbeat is {:?}; it must be more than nothing and less than a third of lease_ttl ({:?})",
                self.heartbeat, self.lease_ttl
            ));
        }
        for (name, value) in [("max_job_attempts", self.max_job_attempts), ("max_losses", self.max_losses)] {
            if value == 0 {
                return refuse(format!("{name} is 0; no job could ever be tried"));
            }
        }
        let Budgets { max_jobs, max_bytes, max_errors, max_runtime } = &self.budgets;
        for (name, zero) in [
            ("max_jobs", *max_jobs == Some(0)),
            ("max_bytes", *max_bytes == Some(0)),
            ("max_errors", *max_errors == Some(0)),
            ("max_runtime", *max_runtime == Some(Duration::ZERO)),
            ("job_time_limit", self.job_time_limit == Some(Duration::ZERO)),
        ] {
            if zero {
                return refuse(format!("{name} is 0; leave it out for no bound"));
            }
        }
        Ok(())
    }

    pub(crate) fn worker(&self) -> WorkerConfig {
        WorkerConfig {
            max_attempts: self.max_job_attempts,
            retry_backoff: self.retry_backoff,
            jitter: self.jitter,
            job_time_limit: self.job_time_limit,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn refused(change: impl FnOnce(&mut OrchestratorConfig)) -> String {
        let mut config = OrchestratorConfig::default();
        change(&mut config);
        config.validate().unwrap_err().to_string()
    }

    #[test]
    fn the_defaults_are_valid() {
        OrchestratorConfig::default().validate().unwrap();
    }

    #[test]
    fn what_cannot_be_is_named() {
        assert!(refused(|c| c.workers = 0).contains("workers is 0"));
        assert!(refused(|c| c.workers = 257).contains("1 to 256"));
        assert!(refused(|c| c.lease_ttl = Duration::from_millis(900)).contains("at least 1 s"));
        assert!(refused(|c| c.heartbeat = Duration::from_secs(40)).contains("a third"));
        assert!(refused(|c| c.heartbeat = Duration::ZERO).contains("more than nothing"));
        assert!(refused(|c| c.max_job_attempts = 0).contains("max_job_attempts"));
        assert!(refused(|c| c.max_losses = 0).contains("max_losses"));
        assert!(refused(|c| c.budgets.max_jobs = Some(0)).contains("max_jobs"));
        assert!(refused(|c| c.budgets.max_runtime = Some(Duration::ZERO)).contains("max_runtime"));
    }
}
