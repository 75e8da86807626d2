//! A body becomes a part: streamed, hashed, checked, made durable.

use std::io;
use std::sync::Arc;

use longhaul_events::Event;
use reqwest::{Response, Version, header};
use tracing::{Instrument as _, info_span};

use super::answer;
use super::attempt::Attempt;
use super::check::{self, Body, HEAD_BYTES};
use super::naming;
use super::progress::{Partial, PlanEnd};
use super::range::{ContentRange, Validator};
use super::sink::{Sealed, Sink, Wanted};
use super::stop::{Note, Step, Stop, Target};
use crate::redact;
use crate::{FailureClass, Fetched, HostReport, Outcome, PartFile, Reason};

/// From how many bytes on a part is kept for the next try.
const WORTH_KEEPING_BYTES: u64 = 64 * 1024;
/// How many bytes come between two checkpoints.
const CHECKPOINT_BYTES: u64 = 64 * 1024 * 1024;
/// How many bytes come between two events.
const EVENT_BYTES: u64 = 128 * 1024;

/// What an answer's head says about its body.
#[derive(Debug)]
struct Head {
    status: u16,
    content_type: Option<String>,
    /// How the body is packed, although nobody asked for that.
    packed: Option<String>,
    etag: Option<String>,
    last_modified: Option<String>,
    /// What the rest of a broken body may be asked for with.
    validator: Option<Validator>,
    /// The file's length, as far as it is announced.
    announced: Option<u64>,
    /// Whether a body that is cut off is seen as such.
    framed: bool,
}

impl Head {
    fn of(response: &Response) -> Self {
        let headers = response.headers();
        let text = |name| answer::text(headers, &name).map(str::to_owned);
        let (etag, last_modified) = (text(header::ETAG), text(header::LAST_MODIFIED));
        let date = text(header::DATE);
        let ranges = text(header::ACCEPT_RANGES).is_none_or(|ranges| ranges.trim() != "none");
        let validator = Validator::of(etag.as_deref(), last_modified.as_deref(), date.as_deref());
        let length = response.content_length();
        let chunked = headers.contains_key(header::TRANSFER_ENCODING);
        let framed = length.is_some() || chunked || response.version() >= Version::HTTP_2;
        Self {
            status: response.status().as_u16(),
            content_type: text(header::CONTENT_TYPE),
            packed: answer::packed(headers),
            validator: validator.filter(|_| ranges),
            etag,
            last_modified,
            announced: length,
            framed,
        }
    }
}

/// How the stream of a body ended.
enum Streamed {
    Whole,
    /// Its first bytes say that it is not what was asked for.
    Wrong(Stop),
    /// It broke off; what came may be kept.
    Broken(Stop),
}

/// How files are named that are packed themselves; some hosts announce that as if only the transfer were.
const PACKED: [&str; 8] = [".gz", ".tgz", ".svgz", ".z", ".bz2", ".xz", ".zst", ".br"];

/// Refuses a body that is packed although it was asked for as it is: what would be stored is not the file.
fn packed(head: &Head, target: Target<'_>) -> Option<Stop> {
    let packed = head.packed.as_ref()?;
    let path = target.hop.url.path().to_ascii_lowercase();
    if PACKED.iter().any(|end| path.ends_with(end)) {
        return None;
    }
    let detail =
        format!("the host sends it packed (Content-Encoding: {packed}), although it was asked not to");
    Some(Stop::dead(PlanEnd::Failed, Reason::UnexpectedType, detail))
}

impl Attempt<'_> {
    /// Takes a 200, or the 206 that answers a range.
    pub(super) async fn body(
        &mut self,
        target: Target<'_>,
        mut response: Response,
        part: Option<(Sink, Partial)>,
        note: &mut Note,
    ) -> Result<Step, Stop> {
        let mut head = Head::of(&response);
        let resumed = part.is_some() && head.status == 206;
        let mut sink = match part {
            Some((sink, partial)) if resumed => {
                if !continues(&response, &mut head, &sink, &partial) {
                    self.served(target);
                    self.drain(response, note).await;
                    drop(sink);
                    self.forget_part().await?;
                    return Ok(Step::Afresh);
                }
                sink
            }
            Some((mut sink, _)) => {
                // The whole comes, of this version or another.
                self.forget_part().await?;
                sink.restart().await.map_err(|error| self.disk(&error, target))?;
                sink
            }
            None => {
                self.forget_part().await?;
                Sink::new(Arc::clone(&self.inside.store), self.job.number, self.job.fence)
            }
        };
        if let Some(refused) = packed(&head, target).or_else(|| self.announced_too_much(&head, note)) {
            self.served(target);
            self.drain(response, note).await;
            return Err(refused);
        }
        if let Some(announced) = head.announced {
            sink.announce(announced.saturating_sub(sink.bytes()));
        }
        let span = info_span!(parent: &note.span, "stream");
        match self.stream(target, &mut response, &head, &mut sink, note).instrument(span).await? {
            Streamed::Whole => {
                // The request is over here: what is made of its body is not the host's doing.
                note.end(self.context.clock().monotonic(), Reason::Ok);
                self.served(target);
            }
            Streamed::Wrong(stop) => {
                self.served(target);
                self.drain(response, note).await;
                return Err(stop);
            }
            Streamed::Broken(stop) => {
                drop(response);
                return Err(self.keep(stop, &mut sink, &head, target).await);
            }
        }
        let checked = self.checked(target, &head, sink).instrument(info_span!("finalize")).await;
        match checked {
            // Two answers were joined; perhaps they do not belong together.
            Err(Stop::Dead(_)) if resumed => {
                self.forget_part().await?;
                Ok(Step::Afresh)
            }
            checked => checked.map(|fetched| Step::Done(Box::new(fetched))),
        }
    }

    fn served(&mut self, target: Target<'_>) {
        self.hosts.push(HostReport::Served(target.lane.clone()));
    }

    /// Refuses by the announced length, before a byte is read.
    fn announced_too_much(&self, head: &Head, note: &Note) -> Option<Stop> {
        let announced = head.announced?;
        let most = self.inside.options.max_bytes;
        if announced > most {
            let detail = format!("{announced} bytes are announced, {most} are accepted");
            return Some(Stop::dead(PlanEnd::Refused, Reason::PolicySize, detail));
        }
        let page = check::says(note.content_type.as_deref(), "text/html");
        // A page says more by what it is than by its length.
        let expected = self.record.bytes.filter(|expected| *expected != announced && !page)?;
        let detail = format!("{announced} bytes are announced where {expected} were expected");
        Some(Stop::dead(PlanEnd::Failed, Reason::SizeMismatch, detail))
    }

    /// Reads the body to its end, or to what ends it.
    async fn stream(
        &mut self,
        target: Target<'_>,
        response: &mut Response,
        head: &Head,
        sink: &mut Sink,
        note: &mut Note,
    ) -> Result<Streamed, Stop> {
        let most = self.inside.options.max_bytes;
        let expect = target.plan.expect;
        let mut deadline = self.deadline(self.inside.options.idle_timeout);
        let mut judged = false;
        let mut synced = sink.bytes();
        let mut received = Received { job: self.job.number, resolver: &target.plan.resolver, untold: 0 };
        loop {
            let chunk = match deadline.wait(response.chunk()).await {
                Ok(Ok(Some(chunk))) => chunk,
                Ok(Ok(None)) => {
                    received.tell(self);
                    return Ok(Streamed::Whole);
                }
                Ok(Err(error)) => {
                    received.tell(self);
                    return Ok(Streamed::Broken(self.fault(&error, target).await));
                }
                Err(late) => {
                    received.tell(self);
                    return Ok(Streamed::Broken(self.late(late, "the body stopped coming", target)));
                }
            };
            note.bytes += chunk.len() as u64;
            received.untold += chunk.len() as u64;
            if received.untold >= EVENT_BYTES {
                received.tell(self);
            }
            if sink.bytes() + chunk.len() as u64 > most {
                received.tell(self);
                let detail = format!("more than {most} bytes came");
                return Ok(Streamed::Wrong(Stop::dead(PlanEnd::Refused, Reason::TooLarge, detail)));
            }
            sink.push(&chunk).await.map_err(|error| self.disk(&error, target))?;
            let length = u32::try_from(chunk.len()).unwrap_or(u32::MAX);
            // A wait of our own is no silence of the host's, but the try as a whole has its end.
            if let Err(late) = deadline.wait_of_ours(self.context.received(length)).await {
                received.tell(self);
                return Ok(Streamed::Broken(self.late(late, "the body stopped coming", target)));
            }
            if !judged && sink.head().len() >= HEAD_BYTES {
                judged = true;
                if let Err(wrong) = check::head(expect, sink.head(), head.content_type.as_deref()) {
                    received.tell(self);
                    return Ok(Streamed::Wrong(Stop::dead(PlanEnd::Failed, wrong.reason, wrong.detail)));
                }
            }
            if sink.bytes() - synced >= CHECKPOINT_BYTES
                && let Some(validator) = &head.validator
            {
                self.remember(sink, validator, target).await?;
                synced = sink.bytes();
                if !self.store_progress().await {
                    return Err(self.lost(target.plan));
                }
            }
        }
    }

    /// Makes what came durable and says where it is, in that order.
    async fn remember(
        &mut self,
        sink: &mut Sink,
        validator: &Validator,
        target: Target<'_>,
    ) -> Result<(), Stop> {
        let (part, bytes) = sink.sync().await.map_err(|error| self.disk(&error, target))?;
        let store = self.inside.store.id().to_owned();
        let (validator, hop) = (validator.clone(), target.hop.clone());
        self.progress.partial = Some(Partial { store, part, bytes, validator, hop });
        Ok(())
    }

    /// The body broke off: keeps what came, if it is much and can be continued.
    async fn keep(&mut self, stop: Stop, sink: &mut Sink, head: &Head, target: Target<'_>) -> Stop {
        let Some(validator) = &head.validator else { return stop };
        if sink.bytes() < WORTH_KEEPING_BYTES {
            return stop;
        }
        if let Err(disk) = self.remember(sink, validator, target).await {
            return disk;
        }
        match stop {
            // It was made before the part was remembered.
            Stop::End(outcome) => Stop::End(Box::new(self.with_checkpoint(*outcome))),
            stop => stop,
        }
    }

    fn with_checkpoint(&self, outcome: Outcome) -> Outcome {
        match outcome {
            Outcome::Failed { reason, class, detail, resolver, .. } => {
                let checkpoint = self.progress.write_for_next_try(None);
                Outcome::Failed { reason, class, detail, resolver, checkpoint }
            }
            other => other,
        }
    }

    /// The body came to its end: is it what was asked for?
    async fn checked(&mut self, target: Target<'_>, head: &Head, sink: Sink) -> Result<Fetched, Stop> {
        let dead = |reason, detail: String| Stop::dead(PlanEnd::Failed, reason, detail);
        let bytes = sink.bytes();
        if let Some(announced) = head.announced.filter(|announced| *announced != bytes) {
            let detail = format!("{bytes} bytes came where {announced} were announced");
            return Err(Stop::broken(Reason::SizeMismatch, detail));
        }
        let body = Body {
            head: sink.head(),
            tail: sink.tail(),
            bytes,
            framed: head.framed,
            content_type: head.content_type.as_deref(),
        };
        let kind = match check::whole(target.plan.expect, &body) {
            Ok(kind) => kind,
            // Without a length nobody else says that the connection was cut.
            Err(wrong) if wrong.reason == Reason::PdfTruncated && !head.framed => {
                return Err(Stop::broken(wrong.reason, wrong.detail));
            }
            Err(wrong) => return Err(dead(wrong.reason, wrong.detail)),
        };
        if let Some(expected) = self.record.bytes.filter(|expected| *expected != bytes) {
            let detail = format!("{bytes} bytes came where {expected} were expected");
            return Err(dead(Reason::SizeMismatch, detail));
        }
        let extension = naming::extension(kind, &target.plan.url);
        let artifact_id = self.job.artifact_id.clone();
        let path = naming::path(self.inside.options.layout, &artifact_id, &self.record.stem(), &extension);
        let wanted = Wanted { sha256: self.record.sha256.clone(), artifact_id, path };
        let sealed = sink.seal(wanted).await.map_err(|error| self.disk(&error, target))?;
        let (file, part, sha256, path) = match sealed {
            Sealed::Whole { file, part, sha256, path } => (file, part, sha256, path),
            Sealed::OtherDigest(sha256) => {
                return Err(dead(Reason::DigestMismatch, format!("the file's SHA-256 is {sha256}")));
            }
        };
        let store = self.inside.store.id().to_owned();
        // The part is needed no more for resuming, and the queue forgets the checkpoint with the settlement.
        self.progress.partial = None;
        Ok(Fetched {
            reason: Reason::Ok,
            resolver: target.plan.resolver.clone(),
            url: redact::without_secrets(&target.hop.url),
            http_status: Some(head.status),
            content_type: head.content_type.clone(),
            etag: head.etag.clone(),
            last_modified: head.last_modified.clone(),
            file: Some(PartFile { store, part, path, sha256, bytes, guard: Some(file) }),
        })
    }

    /// The disk did not take it. That is hardly ever the job's fault.
    fn disk(&self, error: &io::Error, target: Target<'_>) -> Stop {
        let (reason, class) = match error.kind() {
            io::ErrorKind::InvalidFilename => (Reason::PathPolicy, FailureClass::Permanent),
            io::ErrorKind::FileTooLarge => (Reason::TooLarge, FailureClass::Permanent),
            // Another process has this job's part: one of the two has lost its claim.
            io::ErrorKind::WouldBlock => (Reason::Backoff, FailureClass::Transient),
            _ => (Reason::DiskFull, FailureClass::LocalFault),
        };
        let folder = self.inside.store.root().display();
        let detail = format!("cannot write to {folder}: {error}");
        self.end(reason, class, detail, target.plan, None)
    }
}

/// Bytes that have come and have not been told.
struct Received<'a> {
    job: i64,
    resolver: &'a str,
    untold: u64,
}

impl Received<'_> {
    fn tell(&mut self, attempt: &Attempt<'_>) {
        if self.untold > 0 {
            let (job, bytes) = (self.job, std::mem::take(&mut self.untold));
            let resolver = self.resolver.to_owned();
            attempt.context.observer().on_event(&Event::Received { job, resolver, bytes });
        }
    }
}

/// Whether a 206 is exactly the rest of what is in the part. Completes the head with the whole file's length.
fn continues(response: &Response, head: &mut Head, sink: &Sink, partial: &Partial) -> bool {
    let range = answer::text(response.headers(), &header::CONTENT_RANGE).and_then(ContentRange::parse);
    let Some(range) = range.filter(|range| range.is_rest_from(sink.bytes())) else { return false };
    let rest = range.last - range.first + 1;
    if head.announced.is_some_and(|announced| announced != rest) {
        return false;
    }
    head.announced = Some(range.last + 1);
    // A 206 need not repeat the validators; if it does, they must be the same.
    let same = partial.validator.agrees(head.etag.as_deref(), head.last_modified.as_deref());
    head.validator = Some(partial.validator.clone());
    same
}
