//! Runs one job: pipeline, panic, time limit, cancellation.

use std::any::Any;
use std::future::pending;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use longhaul_events::{Event, Observer};
use longhaul_limiter::{Clock, LaneRules, Limits};
use longhaul_pipeline::{FailureClass, Job, Outcome, Pipeline, Reason, RunResult};
use longhaul_queue_core::{LEAD_MAX, LeasedJob, Settlement, Started, Verdict, WorkQueue};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument as _, field, info_span};

use crate::context::{Answered, JobContext, SentBack};
use crate::finished::unused_start;
use crate::permits::Lines;
use crate::starts::{Latency, Starts};
use crate::verdict::{decide, lane_reports};
use crate::waits::Waits;
use crate::{Finished, HoldBacks, LeaseTrust};

/// So long a cancelled try may take to end by itself, for instance to sync what it has; then it is dropped.
const CANCEL_PATIENCE: Duration = Duration::from_secs(1);

/// A rename gives a name of the job's own, so a second one is already odd; without a bound a pipeline that always
/// returns the same name would go in circles.
const MOST_RENAMES: u32 = 8;

/// What tries are made of.
#[derive(Debug, Clone)]
pub struct WorkerParts {
    /// Where jobs come from.
    pub queue: Arc<dyn WorkQueue>,
    /// What is done with them.
    pub pipeline: Arc<dyn Pipeline>,
    /// Who wants to hear.
    pub observer: Arc<dyn Observer>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// The caps and paces that this process is configured to.
    pub rules: Arc<LaneRules>,
    /// What this process allows itself beside that: concurrency of resolvers, request rate, bandwidth.
    pub limits: Arc<dyn Limits>,
}

/// How tries are bounded.
#[derive(Debug, Clone)]
pub struct WorkerConfig {
    /// So many charged tries, for jobs that bring no limit of their own.
    pub max_attempts: u32,
    /// The wait after the first failed try; each further one waits twice as long, up to an hour.
    pub retry_backoff: Duration,
    /// Up to so much more, at random.
    pub jitter: Duration,
    /// A try that runs longer is cut off and fails as transient; `None` lets it run.
    pub job_time_limit: Option<Duration>,
}

impl WorkerConfig {
    pub(crate) fn max_attempts(&self, leased: &LeasedJob) -> u32 {
        leased.max_attempts.unwrap_or(self.max_attempts)
    }
}

/// What all tries of a process share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) parts: WorkerParts,
    pub(crate) trust: Arc<LeaseTrust>,
    pub(crate) hold_backs: HoldBacks,
    pub(crate) lines: Arc<Lines>,
    pub(crate) waits: Waits,
    pub(crate) starts: Starts,
    /// What is being written to the durable cache, which no try waits for.
    pub(crate) cache_writes: TaskTracker,
    /// From a lease's grant to its reply, once a batch: all jobs of a batch are equally late by it.
    pub(crate) replies: Latency,
    /// From a lease's reply, or from when a worker was free, to the moment at which its holder is ready to start.
    pub(crate) leases: Latency,
    /// From the question for an admission to its answer.
    pub(crate) answers: Latency,
}

/// Runs leased jobs, one a call, any number at the same time.
#[derive(Debug)]
pub struct Worker {
    shared: Arc<Shared>,
    config: WorkerConfig,
}

/// Tells that a try is over, also if it is dropped.
struct Finishing<'a> {
    parts: &'a WorkerParts,
    job: i64,
    began: Duration,
}

impl Drop for Finishing<'_> {
    fn drop(&mut self) {
        let elapsed = self.parts.clock.monotonic().saturating_sub(self.began);
        self.parts.observer.on_event(&Event::JobFinished { job: self.job, elapsed });
    }
}

/// How the pipeline's task came to its end.
enum End {
    Returned(Box<RunResult>),
    Panicked(String),
    TimedOut,
    /// Cancelled, and it did not end by itself.
    Cut,
}

impl Worker {
    /// A worker whose tries start requests only while `trust` holds.
    pub fn new(parts: WorkerParts, config: WorkerConfig, trust: Arc<LeaseTrust>) -> Self {
        let (lines, waits) = (Arc::new(Lines::default()), Waits::default());
        let shared = Arc::new(Shared {
            parts,
            trust,
            hold_backs: HoldBacks::new(),
            lines,
            waits,
            starts: Starts::default(),
            cache_writes: TaskTracker::new(),
            replies: Latency::default(),
            leases: Latency::default(),
            answers: Latency::default(),
        });
        Self { shared, config }
    }

    /// How long a job takes from its lease to its start, as measured: what [`LeaseRequest::lead`] is to be.
    ///
    /// [`LeaseRequest::lead`]: longhaul_queue_core::LeaseRequest::lead
    pub fn lead(&self) -> Duration {
        (self.shared.replies.lead() + self.shared.leases.lead()).min(LEAD_MAX)
    }

    /// Takes note that the queue answered `age` after it decided: a lease, or the call that joined the process.
    pub fn answered(&self, age: Duration) {
        self.shared.replies.observe(age);
    }

    /// Starts that the queue should hear of by now, since their jobs run on. They are told once.
    pub fn take_started(&self) -> Vec<Started> {
        self.shared.starts.take(self.shared.parts.clock.monotonic())
    }

    /// When the queue should hear of a start that it has not heard of.
    pub fn tell_at(&self) -> Option<Duration> {
        self.shared.starts.due_at()
    }

    /// Runs one try to its end. `answered` is when the lease's reply was read.
    ///
    /// A panic of the pipeline is contained. When the future returns, nothing of the try is at work any more, so a
    /// settlement may free its slot (INV-CAP). Cancel-safe: dropping it drops the try.
    pub async fn run(&self, leased: LeasedJob, answered: Answered, cancelled: CancellationToken) -> Finished {
        // A trace of its own: what is done for one job is one tree.
        let span = info_span!(
            parent: None,
            "job",
            job.id = leased.token.job.0,
            artifact.id = %leased.artifact_id,
            job.attempt = leased.attempts.saturating_add(1),
            host = %leased.place.lane,
            outcome = field::Empty,
            reason = field::Empty,
            otel.status_code = field::Empty,
        );
        let finished = self.try_once(leased, answered, cancelled).instrument(span.clone()).await;
        span.in_scope(|| {
            tracing::debug!(verdict = finished.verdict(), reason = finished.reason(), "a try is over");
        });
        if !span.is_disabled() {
            span.record("outcome", finished.verdict());
            span.record("reason", finished.reason());
            if matches!(finished.settlement.verdict, Verdict::Error { .. } | Verdict::Retry { .. }) {
                span.record("otel.status_code", "ERROR");
            }
        }
        finished
    }

    async fn try_once(
        &self,
        leased: LeasedJob,
        answered: Answered,
        cancelled: CancellationToken,
    ) -> Finished {
        let parts = &self.shared.parts;
        let began = parts.clock.monotonic();
        let job = self.job(&leased);
        parts.observer.on_event(&Event::JobStarted {
            job: job.number,
            artifact_id: job.artifact_id.clone(),
            attempt: job.attempt,
            lane: leased.place.lane.clone(),
        });
        let _finishing = Finishing { parts, job: job.number, began };
        if let Some((why, key, waited)) = self.shared.waits.end(job.number, began) {
            parts.observer.on_event(&Event::Waited { job: job.number, why, key, waited });
        }
        let shared = Arc::clone(&self.shared);
        let context = JobContext::new(shared, &leased, answered, cancelled.clone());
        let run = AssertUnwindSafe(parts.pipeline.run(&job, &context)).catch_unwind();
        let end = self.watch(run, &cancelled).await;
        self.shared.starts.ended(leased.token);
        let elapsed = parts.clock.monotonic().saturating_sub(began);
        self.finish(leased, end, &context, elapsed)
    }

    /// The same try with its file under another name, because the queue said that the path is taken. If there is no
    /// other name, the job fails.
    pub fn rename(&self, mut finished: Finished) -> Finished {
        let renamed = (finished.renames < MOST_RENAMES)
            .then(|| self.shared.parts.pipeline.rename(&self.job(&finished.leased), &finished.outcome))
            .flatten();
        finished.renames += 1;
        let lanes = &mut finished.settlement.lanes;
        let lane = &finished.leased.place.lane;
        finished.settlement.verdict = if let Some(outcome) = renamed {
            let verdict = decide(&outcome, &finished.leased, &self.config, lanes, lane).verdict;
            finished.outcome = outcome;
            verdict
        } else {
            let failed = failed(
                Reason::PathPolicy,
                FailureClass::Permanent,
                "another finished job has that file's name, and there is no other for it".to_owned(),
            );
            // The outcome stays: whoever settles this discards the file that it holds.
            decide(&failed, &finished.leased, &self.config, lanes, lane).verdict
        };
        finished
    }

    fn job(&self, leased: &LeasedJob) -> Job {
        Job {
            number: leased.token.job.0,
            fence: leased.token.fence,
            artifact_id: leased.artifact_id.to_string(),
            payload: leased.payload.clone(),
            resolver_hint: leased.resolver_hint.clone(),
            attempt: leased.attempts.saturating_add(1),
            max_attempts: self.config.max_attempts(leased),
            checkpoint: leased.checkpoint.clone(),
        }
    }

    /// Awaits a try, with its panic as an error, for as long as it may take. A try that is cut off is dropped.
    async fn watch(
        &self,
        run: impl Future<Output = std::thread::Result<RunResult>>,
        cancelled: &CancellationToken,
    ) -> End {
        let clock = &self.shared.parts.clock;
        let limit = async {
            match self.config.job_time_limit {
                Some(limit) => clock.sleep(limit).await,
                None => pending().await,
            }
        };
        let mut run = pin!(run);
        tokio::select! {
            biased;
            result = &mut run => return ended(result),
            () = cancelled.cancelled() => {}
            () = limit => return End::TimedOut,
        }
        tokio::select! {
            biased;
            result = &mut run => ended(result),
            () = clock.sleep(CANCEL_PATIENCE) => End::Cut,
        }
    }

    fn finish(&self, leased: LeasedJob, end: End, context: &JobContext, elapsed: Duration) -> Finished {
        context.tell_of_bandwidth();
        let interrupted = context.was_stopped() || context_cancelled(context);
        let (outcome, hosts) = match end {
            End::Returned(result) => (result.outcome, result.hosts),
            End::Panicked(message) => (failed(Reason::Panic, FailureClass::Transient, message), Vec::new()),
            End::TimedOut => {
                let limit = self.config.job_time_limit.unwrap_or_default().as_secs();
                let detail = format!("the try was cut off after {limit} s");
                (failed(Reason::Timeout, FailureClass::Transient, detail), Vec::new())
            }
            End::Cut => {
                (failed(Reason::LeaseLost, FailureClass::Transient, "cut off".to_owned()), Vec::new())
            }
        };
        let mut lanes = lane_reports(hosts);
        // What was done is done, however late the cancellation came: the fence decides whether it counts. All other
        // ends of an interrupted try may be the interruption's own doing, so nobody is charged for them.
        let is_done = matches!(outcome, Outcome::Done(_)) && !context.was_stopped();
        let mut local_fault = context.fault();
        let mut verdict = if interrupted && !is_done {
            Verdict::Release { checkpoint: checkpoint_of(&outcome, context) }
        } else {
            let decision = decide(&outcome, &leased, &self.config, &mut lanes, &context.last_lane());
            local_fault = local_fault.or(decision.local_fault);
            decision.verdict
        };
        if let Verdict::Defer { after, .. } = &mut verdict
            && let Some(SentBack { why, key, by_lane }) = context.sent_back()
        {
            if by_lane {
                *after = Duration::ZERO;
            }
            self.shared.waits.begin(leased.token.job.0, why, key, self.shared.parts.clock.monotonic());
        }
        if !context.used_its_start() {
            lanes.extend(unused_start(&leased));
        }
        let settlement = Settlement::new(leased.token, verdict).with_lanes(lanes);
        Finished { leased, outcome, settlement, elapsed, local_fault, renames: 0 }
    }
}

fn context_cancelled(context: &JobContext) -> bool {
    longhaul_pipeline::Context::cancelled(context).is_cancelled()
}

/// What an interrupted try leaves for the next; `None` keeps what the queue has.
fn checkpoint_of(outcome: &Outcome, context: &JobContext) -> Option<String> {
    if context.was_stopped() {
        return None;
    }
    match outcome {
        Outcome::Failed { checkpoint, .. } => checkpoint.clone(),
        Outcome::Moved(to) => to.checkpoint.clone(),
        Outcome::Done(_) | Outcome::Skipped { .. } => None,
    }
}

fn failed(reason: Reason, class: FailureClass, detail: String) -> Outcome {
    Outcome::Failed { reason, class, detail, resolver: None, checkpoint: None }
}

fn ended(result: std::thread::Result<RunResult>) -> End {
    match result {
        Ok(result) => End::Returned(Box::new(result)),
        Err(panic) => End::Panicked(panic_message(panic.as_ref())),
    }
}

fn panic_message(payload: &(dyn Any + Send)) -> String {
    let message = payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message");
    format!("the pipeline panicked: {message}")
}
