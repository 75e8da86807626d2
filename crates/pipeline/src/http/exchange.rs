//! One request and its answer's head: what it means for the plan, and whom it blames.

use std::time::Duration;

use longhaul_limiter::Controller;
use reqwest::{Response, header};
use tracing::Instrument as _;

use super::announced::{self, Announced};
use super::answer::{self, Meaning};
use super::attempt::Attempt;
use super::client::Ask;
use super::deadline::{Deadline, Late};
use super::fault::Fault;
use super::progress::{Partial, PlanEnd};
use super::sink::Sink;
use super::stop::{Note, Step, Stop, Target};
use crate::{FailureClass, HostReport, Reason};

/// How long a lane is held back here if the host did not say; the queue's penalty box decides for everybody.
pub(super) const HOLD_BACK: Duration = Duration::from_mins(1);
/// What is read of a body that nobody wants, so that its connection can be used again and is not in flight any more.
const DRAIN_BYTES: u64 = 64 * 1024;
/// And for how long.
const DRAIN_TIME: Duration = Duration::from_secs(2);

impl<'a> Attempt<'a> {
    /// Sends the request and judges the answer.
    pub(super) async fn exchange(
        &mut self,
        target: Target<'_>,
        part: Option<(Sink, Partial)>,
        note: &mut Note,
    ) -> Result<Step, Stop> {
        let context = self.context;
        let options = &self.inside.options;
        let rest = part.as_ref().map(|(sink, partial)| (sink.bytes(), &partial.validator));
        let ask = Ask {
            url: &target.hop.url,
            referer: target.hop.referer.as_ref(),
            expect: target.plan.expect,
            rest,
        };
        let silence = options.connect_timeout * 2 + options.first_byte_timeout;
        let mut deadline = self.deadline(silence);
        let sent = deadline
            .wait(self.inside.client.send(&ask, self.context.clock().monotonic()))
            .instrument(note.span.clone())
            .await;
        drop(deadline);
        let response = match sent {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => return Err(self.fault(&error, target).await),
            Err(late) => return Err(self.late(late, "the host did not answer in time", target)),
        };
        self.progress.moves = 0;
        let (status, headers) = (response.status().as_u16(), response.headers());
        note.answered(status);
        note.content_type = answer::text(headers, &header::CONTENT_TYPE).map(str::to_owned);
        let wall = context.clock().wall();
        let meaning = answer::meaning(status, headers, rest.is_some(), wall);
        if let Some(Announced { every, valid_for }) = announced::read(headers) {
            let (lane, controller) = (target.lane.clone(), Controller::Announced);
            self.hosts.push(HostReport::Paced { lane, controller, every, valid_for });
        }
        if let Meaning::Throttled(retry_after) = &meaning {
            // From this instant on, and not from when the answer has been dealt with (INV-COOLDOWN).
            context.hold_back(target.lane, retry_after.unwrap_or(HOLD_BACK));
            note.retry_after = *retry_after;
        }
        match meaning {
            Meaning::Body | Meaning::Rest => self.body(target, response, part, note).await,
            other => self.without_body(target, &other, response, note).await,
        }
    }

    /// Deals with an answer whose body is not wanted.
    async fn without_body(
        &mut self,
        target: Target<'_>,
        meaning: &Meaning,
        response: Response,
        note: &mut Note,
    ) -> Result<Step, Stop> {
        let status = response.status();
        let location = answer::text(response.headers(), &header::LOCATION).map(str::to_owned);
        self.drain(response, note).await;
        note.ended = Some(self.context.clock().monotonic());
        let lane = target.lane.clone();
        match meaning {
            Meaning::Throttled(retry_after) => {
                let cause = status.to_string();
                self.hosts.push(HostReport::Throttled { lane, retry_after: *retry_after, cause });
                let reason = if retry_after.is_some() { Reason::RetryAfter } else { Reason::Throttled };
                let detail = format!("{} answered {status}", target.lane);
                let at = Some(target.hop.clone());
                return Err(self.end(reason, FailureClass::Throttled, detail, target.plan, at));
            }
            Meaning::Broken => {
                self.hosts.push(HostReport::Failed { lane, cause: status.to_string() });
                let reason = if status.as_u16() == 408 { Reason::Timeout } else { Reason::HttpStatus };
                return Err(Stop::broken(reason, format!("{} answered {status}", target.lane)));
            }
            _ => self.hosts.push(HostReport::Served(lane)),
        }
        let answered = format!("{} answered {status}", target.lane);
        match meaning {
            Meaning::Redirect => {
                let most = self.inside.options.max_redirects;
                let next = target.hop.redirected(location.as_deref(), most);
                next.map(|hop| Step::To(Box::new(hop)))
                    .map_err(|no| Stop::dead(PlanEnd::Failed, no.reason, no.detail))
            }
            Meaning::Afresh => {
                self.forget_part().await?;
                Ok(Step::Afresh)
            }
            Meaning::Gone => Err(Stop::dead(PlanEnd::Gone, Reason::Gone, answered)),
            Meaning::Denied(reason) => Err(Stop::dead(PlanEnd::Failed, *reason, answered)),
            Meaning::Body | Meaning::Rest | Meaning::Throttled(_) | Meaning::Broken => {
                Err(Stop::dead(PlanEnd::Failed, Reason::HttpStatus, answered))
            }
        }
    }

    /// Reads a little of a body that is not wanted.
    pub(super) async fn drain(&self, mut response: Response, note: &mut Note) {
        let short = |length: u64| length <= DRAIN_BYTES;
        if !response.content_length().is_none_or(short) {
            return;
        }
        let until = self.until.min(self.context.clock().monotonic() + DRAIN_TIME);
        let mut deadline =
            Deadline::new(&**self.context.clock(), self.context.cancelled(), DRAIN_TIME, until);
        let mut drained = 0;
        while let Ok(Ok(Some(chunk))) = deadline.wait(response.chunk()).await {
            drained += chunk.len() as u64;
            note.bytes += chunk.len() as u64;
            if !short(drained) {
                break;
            }
        }
    }

    /// What ends the waits of one request.
    pub(super) fn deadline(&self, silence: Duration) -> Deadline<'a> {
        Deadline::new(&**self.context.clock(), self.context.cancelled(), silence, self.until)
    }

    /// A wait was cut short.
    pub(super) fn late(&mut self, late: Late, silent: &str, target: Target<'_>) -> Stop {
        match late {
            Late::Cancelled => self.lost(target.plan),
            // The host did nothing wrong.
            Late::Whole => Stop::broken(Reason::Timeout, "the try took too long"),
            Late::Silent => {
                let cause = Reason::Timeout.to_string();
                self.hosts.push(HostReport::Failed { lane: target.lane.clone(), cause });
                Stop::broken(Reason::Timeout, format!("{}: {silent}", target.lane))
            }
        }
    }

    /// The connection failed.
    pub(super) async fn fault(&mut self, error: &reqwest::Error, target: Target<'_>) -> Stop {
        let (reason, detail) = match self.inside.client.fault(error).await {
            Fault::Refused(detail) => {
                return Stop::dead(PlanEnd::Refused, Reason::PolicyAddress, detail);
            }
            Fault::NoNetwork(detail) => {
                let (class, at) = (FailureClass::LocalFault, Some(target.hop.clone()));
                return self.end(Reason::NoNetwork, class, detail, target.plan, at);
            }
            Fault::Name(detail) => (Reason::DnsError, detail),
            Fault::Timeout(detail) => (Reason::Timeout, detail),
            Fault::Tls(detail) => (Reason::TlsError, detail),
            Fault::Connection(detail) => (Reason::ConnError, detail),
        };
        let cause = reason.to_string();
        self.hosts.push(HostReport::Failed { lane: target.lane.clone(), cause });
        Stop::broken(reason, format!("{}: {detail}", target.lane))
    }
}
