//! One call of the dispatcher to the queue, repeated until it is answered.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use longhaul_queue_core::{
    Answer, JobState, LaneClosure, LeaseBatch, LeaseRequest, QueueError, QueueStats, Settled, Settlement,
};
use longhaul_worker::{Finished, StoreBackoff};
use tracing::{Instrument as _, Span, field, info_span};

use crate::shared::Shared;

/// A lease whose reply took longer than this is not trusted to start requests by itself: its paces are long past, so
/// each job asks again before its first one (INV-PACE).
const STALE_REPLY: Duration = Duration::from_secs(2);

/// What the queue answered to one call.
#[derive(Debug)]
pub(crate) enum Reply {
    /// Settlements, their answers in the same order, the lanes that they closed, and what was leased.
    Settled {
        finished: Vec<Finished>,
        answers: Vec<Answer>,
        closed: Vec<LaneClosure>,
        leased: Option<Leased>,
    },
    /// A lease was asked for until the process could not trust its leases any more; there is no answer.
    GaveUp,
    /// Repeating mends nothing.
    Failed { finished: Vec<Finished>, error: QueueError },
    /// Counts.
    Stats(Result<QueueStats, QueueError>),
    /// The claims agree with the store's again.
    Reconciled,
}

/// The answer to a lease request.
#[derive(Debug)]
pub(crate) struct Leased {
    pub(crate) request: LeaseRequest,
    pub(crate) batch: LeaseBatch,
    /// When the reply is taken to have come, for the time within which requests may start.
    pub(crate) replied_at: Duration,
}

/// Settles what is finished and leases, in one commit. A call that fails is repeated as it was, under the same number:
/// if only its reply was lost, the answer is the same (INV-FENCE), and no job is stranded.
pub(crate) async fn dispatch(
    shared: Arc<Shared>,
    finished: Vec<Finished>,
    request: Option<LeaseRequest>,
) -> Reply {
    let settled = finished.len();
    let span = info_span!(parent: None, "orchestrator.dispatch", settled, leased = field::Empty);
    call(shared, finished, request).instrument(span).await
}

async fn call(shared: Arc<Shared>, finished: Vec<Finished>, mut request: Option<LeaseRequest>) -> Reply {
    let settlements: Vec<Settlement> = finished.iter().map(|one| one.settlement.clone()).collect();
    let mut backoff = StoreBackoff::new();
    loop {
        let asked = shared.now();
        if request.is_some() && !shared.trust.holds(asked) {
            // What a lost reply may have leased is found by the comparison after the next heartbeats. Settlements are
            // fenced and go on.
            request = None;
        }
        let answer = match &request {
            None if settlements.is_empty() => return Reply::GaveUp,
            Some(request) if settlements.is_empty() => {
                let batch = shared.queue.lease(request).await;
                batch.map(|batch| Settled { answers: Vec::new(), closed: Vec::new(), batch: Some(batch) })
            }
            request => shared.queue.settle(&settlements, request.as_ref()).await,
        };
        match answer {
            Ok(Settled { answers, closed, batch }) => {
                let now = shared.now();
                let given = batch.as_ref().map_or(0, |batch| batch.jobs.len());
                Span::current().record("leased", given);
                let replied_at = if now.saturating_sub(asked) > STALE_REPLY { asked } else { now };
                let leased = request.zip(batch).map(|(request, batch)| Leased { request, batch, replied_at });
                return Reply::Settled { finished, answers, closed, leased };
            }
            Err(error) if error.is_retryable() => {
                shared.store_failed(&error);
                shared.clock.sleep(backoff.wait()).await;
            }
            Err(error) => return Reply::Failed { finished, error },
        }
    }
}

/// Counts, to know whether a drain is over.
pub(crate) async fn stats(shared: Arc<Shared>) -> Reply {
    Reply::Stats(shared.persist(|| shared.queue.stats()).await)
}

/// Brings the store's idea of what this process holds and its own together. Called while no lease is on its way, so
/// the list of what is held is exact: otherwise a job that is about to start could be given to somebody else (INV-CAP).
pub(crate) async fn reconcile(shared: Arc<Shared>) -> Reply {
    shared.reconcile.store(false, Ordering::Release);
    let held = shared.registry.held();
    let tokens: Vec<_> = held.iter().map(|(token, _)| *token).collect();
    match shared.admin.reconcile(&shared.worker, &tokens).await {
        Ok(0) => {}
        Ok(released) => tracing::warn!(released, "the store held jobs that this process knew nothing of"),
        // The heartbeats will find the difference again.
        Err(error) => shared.store_failed(&error),
    }
    for (token, artifact) in held {
        let Ok(found) = shared.admin.get(&artifact).await else { break };
        let is_held = found
            .is_some_and(|(record, _)| record.state == JobState::InProgress && record.fence == token.fence);
        if !is_held {
            shared.registry.cancel(token);
        }
    }
    Reply::Reconciled
}
