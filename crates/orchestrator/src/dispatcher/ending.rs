//! How a run ends: why, how long its jobs may go on, and what is done last.

use std::sync::Arc;
use std::time::Duration;

use longhaul_events::Event;
use longhaul_queue_core::{QueueError, QueueStats};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{Dispatcher, Drain};
use crate::recovery::recover;
use crate::{Budget, OrchestratorError, RunEnd, RunSummary};

/// Once no job is at work any more, the queue gets so long to record what is left.
const STORE_PATIENCE: Duration = Duration::from_secs(10);

/// So long may a cancelled job keep the run from ending, if it cannot be cut off because it blocks its thread.
const JOB_PATIENCE: Duration = Duration::from_secs(10);

/// So long may the last publications take.
const PUBLISH_PATIENCE: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(super) enum Phase {
    Running,
    Ending(Ending),
}

#[derive(Debug)]
pub(super) struct Ending {
    why: RunEnd,
    /// When jobs that are still at work are cancelled; `None` lets them finish.
    grace_until: Option<Duration>,
    /// Since when jobs are cancelled.
    cancelled_at: Option<Duration>,
    /// Since when no job is at work.
    idle_since: Option<Duration>,
}

impl Phase {
    pub(super) fn is_running(&self) -> bool {
        matches!(self, Phase::Running)
    }

    /// Whether a budget ends the run.
    fn is_spent(&self) -> bool {
        matches!(self, Phase::Ending(Ending { why: RunEnd::Budget(_), .. }))
    }
}

impl Dispatcher {
    /// Moves on towards the end, if it is time to.
    pub(super) fn advance(&mut self) {
        if self.phase.is_running() {
            self.consider_ending();
        }
        let now = self.shared.now();
        let idle = self.running.is_empty();
        let grace = self.config.grace;
        let Phase::Ending(ending) = &mut self.phase else { return };
        if idle {
            ending.idle_since.get_or_insert(now);
        }
        if self.shared.stop.is_cancelled() {
            ending.grace_until.get_or_insert(now + grace);
        }
        let over =
            ending.grace_until.is_some_and(|until| now >= until) || self.shared.stop_now.is_cancelled();
        if over && ending.cancelled_at.is_none() {
            ending.cancelled_at = Some(now);
            self.shared.registry.cancel_all();
        }
    }

    fn consider_ending(&mut self) {
        let now = self.shared.now();
        let received = self.shared.observer.received();
        let elapsed = now.saturating_sub(self.began);
        if self.shared.stop_now.is_cancelled() {
            self.end(RunEnd::Stopped, Some(Duration::ZERO));
        } else if self.shared.stop.is_cancelled() {
            self.end(RunEnd::Stopped, Some(self.config.grace));
        } else if let Some(budget) = self.tally.exhausted(&self.config.budgets, received, elapsed) {
            // The other budgets let what is in flight finish; time that is over is over.
            let grace = (budget == Budget::Runtime).then_some(self.config.grace);
            self.end(RunEnd::Budget(budget), grace);
        } else if self.drain == Drain::Over {
            self.end(RunEnd::Drained, None);
        } else if self.config.drain
            && let Some((lasts, detail)) = self.faults.lasts(now)
            && lasts >= self.config.drain_horizon
        {
            // A drain waits for nothing longer than that; whoever waits for its end has to hear of it.
            let error = OrchestratorError::local_fault(lasts, detail);
            self.end(RunEnd::Failed(error), Some(self.config.grace));
        }
    }

    fn end(&mut self, why: RunEnd, grace: Option<Duration>) {
        let now = self.shared.now();
        if !matches!(why, RunEnd::Drained) {
            let running = self.running.len();
            // Without a grace period it is the jobs' own time limit that bounds the wait.
            let grace = grace.or(self.config.job_time_limit).unwrap_or(Duration::MAX);
            self.shared.emit(&Event::Stopping { running, grace });
        }
        let grace_until = grace.map(|grace| now + grace);
        self.phase = Phase::Ending(Ending { why, grace_until, cancelled_at: None, idle_since: None });
    }

    /// The queue is of no use any more: the jobs are cancelled, and what can be given back is.
    pub(super) fn fail(&mut self, what: &str, error: QueueError) {
        self.fail_with(OrchestratorError::queue(what, error));
    }

    pub(super) fn fail_torn(&mut self, what: &str) {
        self.fail_with(OrchestratorError::aborted(what));
    }

    fn fail_with(&mut self, error: OrchestratorError) {
        tracing::error!(%error, "the run ends");
        if self.phase.is_running() {
            self.end(RunEnd::Failed(error), Some(Duration::ZERO));
        }
    }

    pub(super) fn phase_deadline(&self) -> Option<Duration> {
        match &self.phase {
            Phase::Running => self.config.budgets.max_runtime.map(|limit| self.began + limit),
            Phase::Ending(ending) => ending.deadline(),
        }
    }

    /// Whether nothing is left that is worth waiting for.
    pub(super) fn is_over(&self) -> bool {
        let Phase::Ending(ending) = &self.phase else { return false };
        let done = self.running.is_empty() && self.finished.is_empty() && self.calls.is_empty();
        done || ending.patience_ends().is_some_and(|at| self.shared.now() >= at)
    }

    /// The last acts, each bounded in time: publish, say good-bye, count.
    pub(super) async fn close(
        mut self,
        end_of_beats: CancellationToken,
        mut beats: JoinSet<()>,
    ) -> RunSummary {
        let shared = self.shared;
        // What is still under way here has used up its patience. Outcomes whose settlement was not answered are not
        // discarded: the queue may have recorded them.
        self.calls.abort_all();
        self.running.abort_all();
        self.recovery.abort_all();
        drop(self.publisher);
        let last = async {
            while self.publishing.join_next().await.is_some() {}
            while self.discards.join_next().await.is_some() {}
        };
        if shared.within(PUBLISH_PATIENCE, last).await.is_none() {
            self.publishing.abort_all();
        }
        if self.config.drain
            && self.phase.is_spent()
            && shared
                .within(STORE_PATIENCE, shared.queue.stats())
                .await
                .and_then(Result::ok)
                .is_some_and(|stats| is_drained(&stats))
        {
            // As at the end of every drain: jobs that the store ended by itself have no other publisher.
            let _ = shared.within(PUBLISH_PATIENCE, recover(Arc::clone(&shared), self.store)).await;
        }
        // Beats go on until here, so that nobody takes over what was still being settled.
        end_of_beats.cancel();
        while beats.join_next().await.is_some() {}
        match shared.within(STORE_PATIENCE, shared.queue.leave(&shared.worker)).await {
            Some(Ok(())) => {}
            Some(Err(error)) => shared.store_failed(&error),
            None => {
                tracing::warn!(
                    "the queue does not answer; it will find out by itself that this process left"
                );
            }
        }
        let stats = shared.within(STORE_PATIENCE, shared.queue.stats()).await.and_then(Result::ok);
        let ended = match self.phase {
            // A budget that was used up by the last job of all has kept nothing from being done.
            Phase::Ending(Ending { why: RunEnd::Budget(_), .. })
                if self.config.drain && stats.as_ref().is_some_and(is_drained) =>
            {
                RunEnd::Drained
            }
            Phase::Ending(ending) => ending.why,
            Phase::Running => RunEnd::Stopped,
        };
        let unpublished = shared.registry.publishing_count() as u64;
        RunSummary {
            ended,
            settled: self.tally.settled,
            terminal: self.tally.terminal,
            bytes: shared.observer.received(),
            elapsed: shared.now().saturating_sub(self.began),
            unpublished,
            unpublished_because: self.health.trouble().filter(|_| unpublished > 0),
            left: stats.as_ref().map(|stats| stats.counts),
            next_open: stats.and_then(|stats| stats.next_open),
        }
    }
}

fn is_drained(stats: &QueueStats) -> bool {
    stats.counts.queued + stats.counts.in_progress == 0
}

impl Ending {
    fn deadline(&self) -> Option<Duration> {
        let grace = self.grace_until.filter(|_| self.cancelled_at.is_none());
        grace.into_iter().chain(self.patience_ends()).min()
    }

    fn patience_ends(&self) -> Option<Duration> {
        match self.idle_since {
            Some(since) => Some(since + STORE_PATIENCE),
            None => self.cancelled_at.map(|since| since + JOB_PATIENCE),
        }
    }
}
