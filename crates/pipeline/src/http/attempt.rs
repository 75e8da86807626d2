//! One try of a job: plan after plan, hop after hop, until there is a file or a reason why there is none.
//!
//! What one request comes to is in `exchange`, what a body becomes in `download`. Here is who is asked next, what is
//! remembered of it, and how the try ends.

use std::sync::Arc;
use std::time::Duration;

use longhaul_events::{Event, RequestStatus, Verb};
use longhaul_limiter::{Lane, Role};
use tracing::{Instrument as _, info_span};

use super::Inside;
use super::plan::Plan;
use super::progress::{Partial, PlanEnd, Progress};
use super::redirect::Hop;
use super::resolver;
use super::sink::Sink;
use super::stop::{Broken, Note, Request, Step, Stop, Target};
use crate::redact;
use crate::{
    Context, FailureClass, Fetched, Grant, HostReport, Job, Move, Outcome, Reason, Record, RunResult,
};

/// So many moves without an answered request between them, and the try ends: it is being sent in a circle.
const MOST_MOVES: u32 = 8;
/// So many requests a try.
const MOST_REQUESTS: u32 = 64;
/// For so long a redirect is taken to lead where it did.
const FRESH: Duration = Duration::from_mins(1);

/// Runs one try.
pub(super) async fn run(inside: &Inside, job: &Job, context: &dyn Context) -> RunResult {
    let record = match Record::from_payload(&job.payload) {
        Ok(record) => record,
        Err(error) => return failed(Reason::BadRecord, FailureClass::Permanent, error.to_string()).into(),
    };
    let progress = match job.checkpoint.as_deref().and_then(Progress::read) {
        Some(progress) => progress,
        None => Progress::new(plans(inside, &record, context).instrument(info_span!("resolve")).await),
    };
    let until = context.clock().monotonic() + inside.options.whole_timeout;
    let hosts = Vec::new();
    let mut attempt =
        Attempt { inside, job, context, record, progress, hosts, until, broken: None, waits: None };
    let outcome = attempt.outcome().await;
    RunResult { outcome, hosts: attempt.hosts }
}

async fn plans(inside: &Inside, record: &Record, context: &dyn Context) -> Vec<Plan> {
    let mut plans: Vec<Plan> = Vec::new();
    for (resolver, order) in inside.resolvers.iter().zip(0..) {
        for plan in resolver.plans(record, context, order).await {
            if !plans.iter().any(|known| known.url == plan.url) {
                plans.push(plan);
            }
        }
    }
    plans
}

/// The state of one try.
pub(super) struct Attempt<'a> {
    pub(super) inside: &'a Inside,
    pub(super) job: &'a Job,
    pub(super) context: &'a dyn Context,
    pub(super) record: Record,
    pub(super) progress: Progress,
    pub(super) hosts: Vec<HostReport>,
    /// When the try has taken too long.
    pub(super) until: Duration,
    /// What went wrong last that may go right next time.
    broken: Option<Broken>,
    /// What robots.txt keeps waiting, if nothing else gives a file.
    pub(super) waits: Option<Waits>,
}

/// A plan that may be followed once robots.txt can be read.
#[derive(Debug)]
pub(super) struct Waits {
    pub(super) hop: Hop,
    pub(super) detail: String,
    pub(super) resolver: String,
}

impl Attempt<'_> {
    async fn outcome(&mut self) -> Outcome {
        if self.progress.plans.is_empty() {
            let detail = match self.record.unfetched() {
                Some(scheme) => {
                    format!("no URL is known for it but a {scheme}: one, and only http and https are fetched")
                }
                None => "no URL is known for it".to_owned(),
            };
            return Outcome::Skipped { reason: Reason::NoCandidates, detail };
        }
        let mut next = self.progress.at.take();
        loop {
            let hop = match next.take() {
                Some(hop) => hop,
                None => match self.progress.next_plan() {
                    Some((index, plan)) => Hop::start(index, plan),
                    None => return self.verdict(),
                },
            };
            let index = hop.plan;
            match self.follow(hop).await {
                Ok(fetched) => return Outcome::Done(fetched),
                Err(Stop::End(outcome)) => return *outcome,
                Err(Stop::Dead(fate)) => {
                    self.progress.plans[index].fate = Some(fate);
                    // If it was remembered on the way, it is the beginning of something that is not wanted.
                    if let Err(Stop::End(outcome)) = self.forget_part().await {
                        return *outcome;
                    }
                }
                Err(Stop::Broken { reason, detail }) => {
                    let resolver = self.progress.plans[index].plan.resolver.clone();
                    self.broken = Some(Broken { reason, detail, resolver });
                    self.progress.plans[index].tried = true;
                    if self.progress.partial.is_some() {
                        // Another plan would need the part's place; what is here is worth more.
                        return self.verdict();
                    }
                }
            }
        }
    }

    /// Follows one plan from a hop to its end.
    async fn follow(&mut self, mut hop: Hop) -> Result<Fetched, Stop> {
        let plan = self.progress.plans[hop.plan].plan.clone();
        self.context.serving(self.source(&plan));
        loop {
            match self.request(&hop, &plan).await {
                Ok(Step::Done(fetched)) => return Ok(*fetched),
                Ok(Step::To(next)) => hop = *next,
                Ok(Step::Afresh) => {}
                Err(Stop::Dead(_)) if hop.aged && !self.progress.plans[hop.plan].restarted => {
                    self.progress.plans[hop.plan].restarted = true;
                    self.forget_part().await?;
                    hop = Hop::start(hop.plan, &plan);
                }
                Err(stop) => return Err(stop),
            }
        }
    }

    /// Whose limits a plan is under: its resolver's. A record that names its source and brings its own URLs is under
    /// the source's.
    fn source<'p>(&'p self, plan: &'p Plan) -> &'p str {
        let named = self.job.resolver_hint.as_deref().filter(|_| plan.resolver == resolver::DIRECT);
        named.unwrap_or(&plan.resolver)
    }

    /// Makes one request: checks, asks to be admitted, asks, judges, tells.
    async fn request(&mut self, hop: &Hop, plan: &Plan) -> Result<Step, Stop> {
        let refused = |detail: String| Stop::dead(PlanEnd::Refused, Reason::PolicyAddress, detail);
        self.inside.client.check(&hop.url).map_err(|error| refused(error.0))?;
        let lane = self.context.keying().lane(&hop.url).map_err(|error| refused(error.to_string()))?;
        let target = Target { hop, plan, lane: &lane };
        self.ask_robots(target).await?;
        // Before the slot is asked for: reading a part again takes its time.
        let prepare = info_span!("prepare", host = %lane);
        let part = self.take_up(hop).instrument(prepare.clone()).await?;
        let asked = self.context.clock().monotonic();
        self.admit(target, plan.role).instrument(prepare).await?;
        self.progress.requests += 1;
        let started = self.begin(target, plan.role);
        let mut note = Note::of(target, &hop.url);
        let step = self.exchange(target, part, &mut note).await;
        let reason = step.as_ref().err().map_or(Reason::Ok, Stop::reason);
        let (status, sha256) = match &step {
            Ok(step) => (step.status(), step.sha256()),
            Err(ended) => (ended.status(), None),
        };
        let request = Request { url: &hop.url, role: plan.role, asked, started };
        self.tell(target, &request, note, (status, reason), sha256);
        step
    }

    /// Tells of a request that starts now, and returns when that is.
    pub(super) fn begin(&self, target: Target<'_>, role: Role) -> Duration {
        let (job, lane) = (self.job.number, target.lane.clone());
        self.context.observer().on_event(&Event::RequestStarted { job, lane, role });
        self.context.clock().monotonic()
    }

    /// Tells of a request that has ended.
    pub(super) fn tell(
        &self,
        target: Target<'_>,
        request: &Request<'_>,
        mut note: Note,
        (status, reason): (RequestStatus, Reason),
        sha256: Option<String>,
    ) {
        let Request { url, role, asked, started } = *request;
        let ended = note.end(self.context.clock().monotonic(), reason);
        self.context.observer().on_event(&Event::Request {
            job: self.job.number,
            artifact_id: self.job.artifact_id.clone(),
            resolver: target.plan.resolver.clone(),
            resolver_order: target.plan.order,
            url: redact::bare(url),
            role,
            verb: Verb::Get,
            status,
            http_status: note.http_status,
            content_type: note.content_type,
            wait: started.saturating_sub(asked),
            elapsed: ended.saturating_sub(started),
            bytes: note.bytes,
            reason: reason.as_str().to_owned(),
            retry_after: note.retry_after,
            from_cache: false,
            sha256,
            lane: target.lane.clone(),
        });
    }

    /// Asks for a request. Whatever the answer is, the bounds hold: a job that is sent to and fro ends its try.
    pub(super) async fn admit(&mut self, target: Target<'_>, role: Role) -> Result<(), Stop> {
        if self.progress.requests >= MOST_REQUESTS {
            return Err(self.backoff("64 requests in one try", target));
        }
        match self.context.admit(target.lane, role).await {
            Grant::Go => Ok(()),
            Grant::Stop => Err(self.lost(target.plan)),
            Grant::Move { .. } if self.progress.moves >= MOST_MOVES => {
                Err(self.backoff("8 moves without an answer between them", target))
            }
            Grant::Move { after } => {
                Err(Stop::End(Box::new(self.moved(target, role, after, self.progress.moves + 1))))
            }
            // This process is busy. Wherever the work leads, it is not being sent in a circle.
            Grant::Later { after } => {
                Err(Stop::End(Box::new(self.moved(target, role, after, self.progress.moves))))
            }
        }
    }

    fn moved(&self, target: Target<'_>, role: Role, after: Duration, moves: u32) -> Outcome {
        let lane: Lane = target.lane.clone();
        let hop = target.hop.clone();
        let at = Some(if after >= FRESH { hop.aged() } else { hop });
        let mut progress = self.progress.clone();
        (progress.at, progress.moves) = (at, moves);
        Outcome::Moved(Move { lane, role, after, checkpoint: progress.write() })
    }

    fn backoff(&self, detail: &str, target: Target<'_>) -> Stop {
        let class = FailureClass::Transient;
        self.end(Reason::Backoff, class, detail.to_owned(), target.plan, None)
    }

    /// The claim is lost or the run is being stopped. What is here may still serve whoever goes on.
    pub(super) fn lost(&self, plan: &Plan) -> Stop {
        let detail = "the claim on the job ended".to_owned();
        self.end(Reason::LeaseLost, FailureClass::Transient, detail, plan, None)
    }

    /// The end of the try, with what the next one should know.
    pub(super) fn end(
        &self,
        reason: Reason,
        class: FailureClass,
        detail: String,
        plan: &Plan,
        at: Option<Hop>,
    ) -> Stop {
        let (resolver, checkpoint) = (Some(plan.resolver.clone()), self.progress.write_for_next_try(at));
        Stop::End(Box::new(Outcome::Failed { reason, class, detail, resolver, checkpoint }))
    }

    /// Takes up the part that an earlier try left of what is at this hop, if it is still there.
    async fn take_up(&mut self, hop: &Hop) -> Result<Option<(Sink, Partial)>, Stop> {
        let Some(partial) = self.progress.partial.clone() else { return Ok(None) };
        if partial.hop.url != hop.url || partial.hop.plan != hop.plan {
            return Ok(None);
        }
        if partial.store == self.inside.store.id() {
            let (store, name) = (Arc::clone(&self.inside.store), partial.part.clone());
            let (number, fence) = (self.job.number, self.job.fence);
            // A part that cannot be read is no reason to fail: all of it can be fetched.
            if let Ok(Some(sink)) = Sink::resume(store, number, fence, name, partial.bytes).await {
                return Ok(Some((sink, partial)));
            }
        }
        self.forget_part().await?;
        Ok(None)
    }

    /// The part is of no use any more. The store must know before its bytes are overwritten: after a crash another
    /// try would else join the old version's head to the new one's tail.
    pub(super) async fn forget_part(&mut self) -> Result<(), Stop> {
        let Some(partial) = self.progress.partial.take() else { return Ok(()) };
        if !self.store_progress().await {
            return Err(self.lost(&self.progress.plans[partial.hop.plan].plan));
        }
        Ok(())
    }

    /// Stores how far the job has got. False if the claim is lost.
    pub(super) async fn store_progress(&self) -> bool {
        match self.progress.write_for_next_try(None) {
            Some(checkpoint) => self.context.checkpoint(&checkpoint).await,
            None => true,
        }
    }

    /// All plans have been followed, or a part is worth more than the others.
    fn verdict(&mut self) -> Outcome {
        if let Some(Waits { hop, detail, resolver }) = self.waits.take() {
            let checkpoint = self.progress.write_for_next_try(Some(hop));
            let (reason, class) = (Reason::Robots, FailureClass::Throttled);
            return Outcome::Failed { reason, class, detail, resolver: Some(resolver), checkpoint };
        }
        if let Some(broken) = self.broken.take() {
            let Broken { reason, detail, resolver } = broken;
            let checkpoint = self.progress.write_for_next_try(None);
            let class = FailureClass::Transient;
            return Outcome::Failed { reason, class, detail, resolver: Some(resolver), checkpoint };
        }
        // What was there but is not what was asked for says more than what is gone, and that more than what was
        // not even asked.
        let last = |end: PlanEnd| {
            let planned = self.progress.plans.iter().rev();
            let mut fates = planned.filter_map(|planned| Some((&planned.plan, planned.fate.as_ref()?)));
            fates.find(|(_, fate)| fate.end == end)
        };
        let found = last(PlanEnd::Failed).or_else(|| last(PlanEnd::Gone));
        if let Some((plan, fate)) = found {
            return Outcome::Failed {
                reason: fate.reason,
                class: FailureClass::Permanent,
                detail: fate.detail.clone(),
                resolver: Some(plan.resolver.clone()),
                checkpoint: None,
            };
        }
        match last(PlanEnd::Refused) {
            Some((_, fate)) => Outcome::Skipped { reason: fate.reason, detail: fate.detail.clone() },
            None => Outcome::Skipped {
                reason: Reason::NoCandidates,
                detail: "no plan could be followed".to_owned(),
            },
        }
    }
}

fn failed(reason: Reason, class: FailureClass, detail: String) -> Outcome {
    Outcome::Failed { reason, class, detail, resolver: None, checkpoint: None }
}
