//! A try that has ended and waits to be settled.

use std::time::Duration;

use longhaul_pipeline::{Ended, EndedState, FailureClass, Fetched, Outcome, Reason};
use longhaul_queue_core::{JobState, LaneReport, LeasedJob, Settlement, Verdict};

/// That a leased job made no request: the start that its lease counted is given back. Nothing where the lane has no pace,
/// as in most.
pub(crate) fn unused_start(leased: &LeasedJob) -> Option<LaneReport> {
    leased.paced.then(|| LaneReport::Unused { lane: leased.place.lane.clone(), role: leased.place.role })
}

/// What became of one try: what the queue is to be told, and what is needed once it has answered.
#[derive(Debug)]
pub struct Finished {
    /// The job, as it was leased.
    pub leased: LeasedJob,
    /// What the pipeline returned, or what stands for it if it was cut off.
    pub outcome: Outcome,
    /// What the queue is to be told.
    pub settlement: Settlement,
    /// How long the try took.
    pub elapsed: Duration,
    /// Set if this machine cannot work, with what is wrong: nobody is charged, and leasing should pause.
    pub local_fault: Option<String>,
    /// How often the file was renamed because its path was taken.
    pub renames: u32,
}

impl Finished {
    /// A job that was leased and never started: it is given back as it came.
    pub fn unstarted(leased: LeasedJob) -> Self {
        let settlement = Settlement::new(leased.token, Verdict::Release { checkpoint: None })
            .with_lanes(unused_start(&leased).into_iter().collect());
        let outcome = Outcome::Failed {
            reason: Reason::Cancelled,
            class: FailureClass::LocalFault,
            detail: "never started".to_owned(),
            resolver: None,
            checkpoint: None,
        };
        Self { leased, outcome, settlement, elapsed: Duration::ZERO, local_fault: None, renames: 0 }
    }

    /// The settlement's kind: `done`, `skipped`, `error`, `retry`, `deferred`, `throttled`, `released`.
    pub fn verdict(&self) -> &'static str {
        match self.settlement.verdict {
            Verdict::Done { .. } => "done",
            Verdict::Skipped { .. } => "skipped",
            Verdict::Error { .. } => "error",
            Verdict::Retry { .. } => "retry",
            Verdict::Defer { .. } => "deferred",
            Verdict::Throttled { .. } => "throttled",
            Verdict::Release { .. } => "released",
        }
    }

    /// Why, as a reason code; the verdict's own name where there is no other reason.
    pub fn reason(&self) -> &str {
        match &self.settlement.verdict {
            Verdict::Done { reason, .. }
            | Verdict::Skipped { reason, .. }
            | Verdict::Error { reason, .. }
            | Verdict::Retry { reason, .. } => reason,
            Verdict::Defer { .. } | Verdict::Throttled { .. } | Verdict::Release { .. } => self.verdict(),
        }
    }

    /// For people; empty if there is nothing to say.
    pub fn detail(&self) -> &str {
        match &self.settlement.verdict {
            Verdict::Skipped { detail, .. }
            | Verdict::Error { detail, .. }
            | Verdict::Retry { detail, .. }
            | Verdict::Throttled { detail, .. } => detail,
            Verdict::Release { .. } => self.local_fault.as_deref().unwrap_or_default(),
            Verdict::Done { .. } | Verdict::Defer { .. } => "",
        }
    }

    /// Which resolver's plan ended the try, if one did.
    pub fn resolver(&self) -> Option<&str> {
        match &self.outcome {
            Outcome::Done(fetched) => Some(&fetched.resolver),
            Outcome::Failed { resolver, .. } => resolver.as_deref(),
            Outcome::Skipped { .. } | Outcome::Moved(_) => None,
        }
    }

    /// Bytes of the file, if there is one.
    pub fn bytes(&self) -> u64 {
        self.fetched().and_then(|fetched| fetched.file.as_ref()).map_or(0, |file| file.bytes)
    }

    /// Whether the outcome holds something outside memory that the verdict does not hand to the queue.
    pub fn outcome_is_unused(&self) -> bool {
        matches!(self.outcome, Outcome::Done(_)) && !matches!(self.settlement.verdict, Verdict::Done { .. })
    }

    /// What is to be published, if the queue recorded the job in `state`; `None` if it has not ended.
    pub fn ended(&self, state: JobState, at_ms: i64) -> Option<Ended> {
        let (state, charged) = match state {
            JobState::Done => (EndedState::Done, 0),
            JobState::Skipped => (EndedState::Skipped, 0),
            JobState::Error => (EndedState::Error, 1),
            JobState::Queued | JobState::InProgress => return None,
        };
        Some(Ended {
            number: self.leased.token.job.0,
            fence: self.leased.token.fence,
            artifact_id: self.leased.artifact_id.to_string(),
            payload: self.leased.payload.clone(),
            state,
            reason: self.reason().to_owned(),
            detail: self.detail().to_owned(),
            attempts: self.leased.attempts + charged,
            resolver: self.resolver().map(str::to_owned),
            fetched: self.fetched().cloned(),
            at_ms,
            recovered: false,
        })
    }

    fn fetched(&self) -> Option<&Fetched> {
        match (&self.outcome, &self.settlement.verdict) {
            (Outcome::Done(fetched), Verdict::Done { .. }) => Some(fetched),
            _ => None,
        }
    }
}
