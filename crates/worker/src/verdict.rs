//! From what a pipeline returned to what the queue is told.
//!
//! INV-ATTEMPTS is decided here: which end of a try is charged to the job, and which is not.

use std::borrow::Cow;
use std::time::Duration;

use longhaul_limiter::Lane;
use longhaul_pipeline::{FailureClass, Fetched, HostReport, Outcome, Reason};
use longhaul_queue_core::{LaneReport, LeasedJob, Place, StoreId, StoredFile, Verdict};

use crate::WorkerConfig;
use crate::recorded::Recorded;

/// After so many throttlings while its lane served others, it is the job that is at fault, and the next is charged.
const THROTTLES_FREE: u32 = 10;

/// No retry waits longer.
const LONGEST_BACKOFF: Duration = Duration::from_hours(1);

/// The queue keeps no more of what is said to people.
const DETAIL_BYTES: usize = 2048;

/// What the queue is told, and what is wrong with this machine if that is the cause.
pub(crate) struct Decision {
    pub(crate) verdict: Verdict,
    pub(crate) local_fault: Option<String>,
}

impl From<Verdict> for Decision {
    fn from(verdict: Verdict) -> Self {
        Self { verdict, local_fault: None }
    }
}

/// The verdict on a try that was not interrupted. `lanes` are its reports; one is added if a throttled try brought
/// none, because the queue closes a lane only on a report. `last` is the lane of the last request.
pub(crate) fn decide(
    outcome: &Outcome,
    leased: &LeasedJob,
    config: &WorkerConfig,
    lanes: &mut Vec<LaneReport>,
    last: &Lane,
) -> Decision {
    match outcome {
        Outcome::Done(fetched) => done(fetched, leased, config).into(),
        Outcome::Skipped { reason, detail } => {
            let detail = cut(detail);
            Verdict::Skipped {
                reason: reason.to_string(),
                outcome: recorded(&detail, None, false),
                detail: detail.into_owned(),
            }
            .into()
        }
        Outcome::Moved(to) => Verdict::Defer {
            after: to.after,
            place: Place::new(to.lane.clone(), to.role),
            checkpoint: to.checkpoint.clone(),
        }
        .into(),
        Outcome::Failed { reason, class, detail, resolver, checkpoint } => {
            let failure = Failure { reason: *reason, detail: cut(detail), resolver, checkpoint };
            match class {
                FailureClass::LocalFault => Decision {
                    verdict: Verdict::Release { checkpoint: checkpoint.clone() },
                    // The reason's code says less: whatever the disk refuses is `disk-full`.
                    local_fault: Some(detail.clone()),
                },
                FailureClass::Permanent => failure.error(false).into(),
                FailureClass::Transient => failure.retry_or_error(leased, config).into(),
                FailureClass::Throttled => failure.throttled(leased, config, lanes, last).into(),
            }
        }
    }
}

struct Failure<'a> {
    reason: Reason,
    detail: Cow<'a, str>,
    resolver: &'a Option<String>,
    checkpoint: &'a Option<String>,
}

impl Failure<'_> {
    fn error(self, out_of_attempts: bool) -> Verdict {
        Verdict::Error {
            reason: self.reason.to_string(),
            outcome: recorded(&self.detail, self.resolver.clone(), out_of_attempts),
            detail: self.detail.into_owned(),
        }
    }

    fn retry_or_error(self, leased: &LeasedJob, config: &WorkerConfig) -> Verdict {
        if leased.attempts.saturating_add(1) >= config.max_attempts(leased) {
            return self.error(true);
        }
        Verdict::Retry {
            after: backoff(leased.attempts, config),
            reason: self.reason.to_string(),
            detail: self.detail.into_owned(),
            place: None,
            checkpoint: self.checkpoint.clone(),
        }
    }

    fn throttled(
        self,
        leased: &LeasedJob,
        config: &WorkerConfig,
        lanes: &mut Vec<LaneReport>,
        last: &Lane,
    ) -> Verdict {
        if !lanes.iter().any(|report| matches!(report, LaneReport::Throttled { .. })) {
            if last.is_none() {
                // Nobody can cool down, so nothing but an attempt would bound the tries.
                return self.retry_or_error(leased, config);
            }
            let cause = self.detail.clone().into_owned();
            lanes.push(LaneReport::Throttled { lane: last.clone(), retry_after: None, cause });
        }
        if leased.throttles >= THROTTLES_FREE {
            return self.retry_or_error(leased, config);
        }
        Verdict::Throttled {
            detail: self.detail.into_owned(),
            place: None,
            checkpoint: self.checkpoint.clone(),
        }
    }
}

fn done(fetched: &Fetched, leased: &LeasedJob, config: &WorkerConfig) -> Verdict {
    let text = Recorded {
        detail: Cow::Borrowed(""),
        resolver: None,
        out_of_attempts: false,
        fetched: Some(fetched.clone()),
    };
    match serde_json::to_string(&text) {
        Ok(outcome) => Verdict::Done {
            reason: fetched.reason.to_string(),
            outcome,
            file: fetched.file.as_ref().map(|file| StoredFile {
                store: StoreId(file.store.clone()),
                path: file.path.clone(),
                sha256: file.sha256.clone(),
            }),
        },
        // A part whose path is not Unicode: recorded without it, the file could not be found after a crash.
        Err(error) => Failure {
            reason: Reason::PathPolicy,
            detail: Cow::Owned(format!("the outcome cannot be recorded: {error}")),
            resolver: &None,
            checkpoint: &None,
        }
        .retry_or_error(leased, config),
    }
}

fn recorded(detail: &str, resolver: Option<String>, out_of_attempts: bool) -> String {
    let text = Recorded { detail: Cow::Borrowed(detail), resolver, out_of_attempts, fetched: None };
    // Two texts always serialise; an empty object would merely lose them.
    serde_json::to_string(&text).unwrap_or_else(|_| "{}".to_owned())
}

/// `retry_backoff · 2^attempts`, at most an hour, and some jitter so that jobs that failed together part.
fn backoff(attempts: u32, config: &WorkerConfig) -> Duration {
    let doubled = config.retry_backoff.saturating_mul(1u32.checked_shl(attempts).unwrap_or(u32::MAX));
    doubled.min(LONGEST_BACKOFF) + config.jitter.mul_f64(fastrand::f64())
}

fn cut(detail: &str) -> Cow<'_, str> {
    Cow::Borrowed(&detail[..detail.floor_char_boundary(DETAIL_BYTES)])
}

/// What a try learned about hosts, in the queue's words.
pub(crate) fn lane_reports(hosts: Vec<HostReport>) -> Vec<LaneReport> {
    hosts
        .into_iter()
        .map(|report| match report {
            HostReport::Served(lane) => LaneReport::Served { lane },
            HostReport::Failed { lane, cause } => LaneReport::Failed { lane, cause },
            HostReport::Throttled { lane, retry_after, cause } => {
                LaneReport::Throttled { lane, retry_after, cause }
            }
            HostReport::Paced { lane, controller, every, valid_for } => {
                LaneReport::Paced { lane, controller, every, valid_for }
            }
        })
        .collect()
}
