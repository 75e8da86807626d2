//! Asks for robots.txt before a page or an artifact: a request like any other, admitted under the host it goes to.
//!
//! A try that waits for another's answer keeps its slot meanwhile: nothing else of its lane could start without the file
//! either, and given back, the slot would only draw more workers to a host that does not answer. Whoever fetches never
//! waits for those: its own slot moves with its request (INV-NO-HOLD-AND-WAIT).

use std::io::Read as _;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use flate2::read::MultiGzDecoder;
use longhaul_events::RequestStatus;
use longhaul_limiter::{Controller, Lane, Role};
use reqwest::{Response, header};
use tokio::sync::watch;
use tracing::Instrument as _;
use url::Url;

use super::rules::{MOST_BYTES, Rules};
use super::{Known, Redirected, Robots, Site, Turn, Unreadable};
use crate::http::answer::{self, Meaning};
use crate::http::attempt::{Attempt, Waits};
use crate::http::client::Ask;
use crate::http::deadline::{Deadline, Late};
use crate::http::exchange::HOLD_BACK;
use crate::http::fault::Fault;
use crate::http::progress::PlanEnd;
use crate::http::stop::{Note, Request, Stop, Target};
use crate::{Expect, FailureClass, HostReport, Reason};

/// So many redirects are followed in a row; beyond, the file counts as not there.
const MOST_REDIRECTS: u32 = 5;
/// A file that could not be read is asked for again after this, which doubles with each failure in a row,
const WAIT: Duration = Duration::from_mins(1);
/// up to this.
const LONGEST_WAIT: Duration = Duration::from_hours(1);
/// So many failures in a row (half an hour) charge nobody. Further ones charge the jobs that wait for the file, so that a
/// host which never comes back does not keep them for ever.
const FREE_FAILURES: u32 = 5;
/// For so long after the next time to ask failures count as being in a row.
const IN_A_ROW: Duration = Duration::from_hours(2);

/// How long a file is left alone that could not be read so many times in a row.
pub(super) fn wait_after(failures: u32) -> Duration {
    let doubled = 1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX);
    WAIT.saturating_mul(doubled).min(LONGEST_WAIT)
}

/// What one request for the file came to.
enum Answer {
    /// The file, or that there is none.
    Rules(Rules),
    /// It is elsewhere.
    At(Url),
    /// It cannot be read at the moment.
    Unreadable(Reason, String),
}

impl<'a> Attempt<'a> {
    /// Makes sure that robots.txt allows the hop. What it does not allow is not asked for.
    pub(in crate::http) async fn ask_robots(&mut self, target: Target<'_>) -> Result<(), Stop> {
        let inside = self.inside;
        let Some(robots) = inside.robots.as_ref().filter(|_| target.plan.role != Role::Metadata) else {
            return Ok(());
        };
        let Some(site) = Site::of(&target.hop.url) else { return Ok(()) };
        loop {
            if let Some(verdict) =
                robots.remembered(&site, self.context).and_then(|known| self.judge(&known, &site, target))
            {
                return verdict;
            }
            match robots.turn(&site) {
                Turn::Theirs(ended) => {
                    self.wait_for(ended).await.map_err(|late| self.cut_short(late, target))?;
                }
                Turn::Ours(_fetching) => {
                    let known = self.fetch_robots(robots, &site, target).await?;
                    if let Some(verdict) = self.judge(&known, &site, target) {
                        return verdict;
                    }
                }
            }
        }
    }

    /// What is known decides, if it is not out of date.
    fn judge(&mut self, known: &Known, site: &Site, target: Target<'_>) -> Option<Result<(), Stop>> {
        match known {
            Known::Rules(rules) if rules.allow(&target.hop.url) => Some(Ok(())),
            Known::Rules(_) => {
                let detail = format!("{} disallows {}", site.file, target.hop.url.path());
                Some(Err(Stop::dead(PlanEnd::Refused, Reason::Robots, detail)))
            }
            Known::Moved(_) => None,
            Known::Unreadable(unreadable) => {
                let rest = unreadable.rest(self.context.clock().wall());
                (!rest.is_zero()).then(|| Err(self.unreadable(unreadable, rest, site, target)))
            }
        }
    }

    /// The file forbids everything until it can be read: the lane is closed so that no other job comes in vain.
    fn unreadable(
        &mut self,
        unreadable: &Unreadable,
        rest: Duration,
        site: &Site,
        target: Target<'_>,
    ) -> Stop {
        let Unreadable { failures, reason, detail, .. } = unreadable;
        let times = if *failures == 1 { "once".to_owned() } else { format!("{failures} times in a row") };
        let said = format!("{} could not be read, {times}: {detail}", site.file);
        if *failures <= FREE_FAILURES {
            let (lane, rest) = (target.lane.clone(), rest.max(Duration::from_secs(1)));
            self.context.hold_back(&lane, rest);
            let cause = format!("robots.txt: {detail}");
            self.hosts.push(HostReport::Throttled { lane, retry_after: Some(rest), cause });
            let resolver = target.plan.resolver.clone();
            self.waits = Some(Waits { hop: target.hop.clone(), detail: said.clone(), resolver });
        }
        Stop::broken(*reason, said)
    }

    /// Waits until whoever fetches the file has ended, however it did.
    async fn wait_for(&self, mut ended: watch::Receiver<()>) -> Result<(), Late> {
        let patience = self.inside.options.robots_timeout * (MOST_REDIRECTS + 1);
        match self.deadline(patience).wait(ended.changed()).await {
            Ok(_) | Err(Late::Silent) => Ok(()),
            Err(late) => Err(late),
        }
    }

    fn cut_short(&self, late: Late, target: Target<'_>) -> Stop {
        match late {
            Late::Cancelled => self.lost(target.plan),
            Late::Whole | Late::Silent => Stop::broken(Reason::Timeout, "the try took too long"),
        }
    }

    /// Fetches the file, unless somebody else has meanwhile, and remembers what it came to.
    async fn fetch_robots(
        &mut self,
        robots: &Robots,
        site: &Site,
        target: Target<'_>,
    ) -> Result<Known, Stop> {
        let context = self.context;
        let mut failures = 0;
        let mut at = Redirected { to: site.file.clone(), hops: 0 };
        match robots.recorded(site, context).await {
            Some(rules @ Known::Rules(_)) => return Ok(rules),
            Some(Known::Moved(moved)) => at = moved,
            Some(Known::Unreadable(unreadable)) => {
                if !unreadable.rest(context.clock().wall()).is_zero() {
                    return Ok(Known::Unreadable(unreadable));
                }
                failures = unreadable.failures;
            }
            None => {}
        }
        loop {
            let answer = match self.request_robots(&at, target).await {
                Ok(answer) => answer,
                Err(stop) => {
                    if at.hops > 0 {
                        // Whoever goes on need not begin at the first host again.
                        let moved = Known::Moved(at);
                        robots.record(site, &moved, self.inside.options.robots_ttl, context).await;
                    }
                    return Err(stop);
                }
            };
            let (known, length) = match answer {
                Answer::At(to) if at.hops < MOST_REDIRECTS => {
                    at = Redirected { to, hops: at.hops + 1 };
                    continue;
                }
                Answer::At(_) => (Known::Rules(Arc::new(Rules::none())), self.inside.options.robots_ttl),
                Answer::Rules(rules) => {
                    self.heed_delay(&rules, target.lane);
                    (Known::Rules(Arc::new(rules)), self.inside.options.robots_ttl)
                }
                Answer::Unreadable(reason, detail) => {
                    let failures = failures + 1;
                    let wait = wait_after(failures);
                    let until = context.clock().wall() + wait;
                    let until_ms =
                        until.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_millis();
                    let until_ms = u64::try_from(until_ms).unwrap_or(u64::MAX);
                    (Known::Unreadable(Unreadable { failures, until_ms, reason, detail }), wait + IN_A_ROW)
                }
            };
            robots.record(site, &known, length, context).await;
            return Ok(known);
        }
    }

    /// From now on requests keep the distance that the file asks for: all of them once the queue knows, and the next one
    /// from this very one on.
    fn heed_delay(&mut self, rules: &Rules, lane: &Lane) {
        let Some(every) = rules.crawl_delay() else { return };
        self.context.hold_back(lane, every);
        // Each reading renews it, so it ends soon after the file that no longer asks for it.
        let valid_for = self.inside.options.robots_ttl * 2;
        let controller = Controller::CrawlDelay;
        self.hosts.push(HostReport::Paced { lane: lane.clone(), controller, every, valid_for });
    }

    /// One request for the file: asks to be admitted, asks, tells.
    async fn request_robots(&mut self, at: &Redirected, target: Target<'_>) -> Result<Answer, Stop> {
        // A redirect to where nobody may be sent leads nowhere, so there is no file.
        let Ok(()) = self.inside.client.check(&at.to) else { return Ok(Answer::Rules(Rules::none())) };
        let Ok(lane) = self.context.keying().lane(&at.to) else { return Ok(Answer::Rules(Rules::none())) };
        let asked = self.context.clock().monotonic();
        let there = Target { lane: &lane, ..target };
        self.admit(there, Role::Landing).await?;
        self.progress.requests += 1;
        let started = self.begin(there, Role::Landing);
        let mut note = Note::of(there, &at.to);
        let answer = self.exchange_robots(at, target, &lane, &mut note).await;
        let came = match &answer {
            Ok(Answer::Unreadable(reason, _)) => (RequestStatus::Failed, *reason),
            Ok(Answer::Rules(_)) => (RequestStatus::Ok, Reason::Ok),
            Ok(Answer::At(_)) => (RequestStatus::Redirected, Reason::Ok),
            Err(stop) => (stop.status(), stop.reason()),
        };
        let request = Request { url: &at.to, role: Role::Landing, asked, started };
        self.tell(there, &request, note, came, None);
        answer
    }

    /// Sends the request and judges the answer (RFC 9309, section 2.3.1).
    async fn exchange_robots(
        &mut self,
        at: &Redirected,
        target: Target<'_>,
        lane: &Lane,
        note: &mut Note,
    ) -> Result<Answer, Stop> {
        let context = self.context;
        let length = self.inside.options.robots_timeout;
        let until = self.until.min(context.clock().monotonic() + length);
        let mut deadline = Deadline::new(&**context.clock(), context.cancelled(), length, until);
        let ask = Ask { url: &at.to, referer: None, expect: Expect::Any, rest: None };
        let sent = deadline
            .wait(self.inside.client.send(&ask, context.clock().monotonic()))
            .instrument(note.span.clone())
            .await;
        let response = match sent {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => {
                let fault = self.inside.client.fault(&error).await;
                return self.robots_fault(fault, at.hops == 0, target, lane);
            }
            Err(cut) => return self.robots_late(cut, target, lane),
        };
        self.progress.moves = 0;
        let (status, headers) = (response.status(), response.headers());
        note.answered(status.as_u16());
        note.content_type = answer::text(headers, &header::CONTENT_TYPE).map(str::to_owned);
        let answered = format!("{lane} answered {status}");
        if let Meaning::Throttled(retry_after) =
            answer::meaning(status.as_u16(), headers, false, context.clock().wall())
        {
            context.hold_back(lane, retry_after.unwrap_or(HOLD_BACK));
            note.retry_after = retry_after;
            self.drain(response, note).await;
            let cause = status.to_string();
            self.hosts.push(HostReport::Throttled { lane: lane.clone(), retry_after, cause });
            let reason = if retry_after.is_some() { Reason::RetryAfter } else { Reason::Throttled };
            let at = Some(target.hop.clone());
            return Err(self.end(reason, FailureClass::Throttled, answered, target.plan, at));
        }
        if status.is_success() {
            let packed = answer::packed(headers);
            return match self.robots_body(response, &mut deadline, note).await {
                Ok(Ok(file)) => {
                    self.hosts.push(HostReport::Served(lane.clone()));
                    Ok(match unpacked(file, packed.as_deref()) {
                        Ok(file) => Answer::Rules(Rules::read(&file)),
                        Err(why) => {
                            Answer::Unreadable(Reason::HttpStatus, format!("{lane} packed it: {why}"))
                        }
                    })
                }
                Ok(Err(error)) => {
                    let fault = self.inside.client.fault(&error).await;
                    self.robots_fault(fault, at.hops == 0, target, lane)
                }
                Err(cut) => self.robots_late(cut, target, lane),
            };
        }
        let location =
            answer::text(headers, &header::LOCATION).and_then(|location| at.to.join(location).ok());
        self.drain(response, note).await;
        if status.is_server_error() {
            self.blame(lane, target, Reason::HttpStatus);
            return Ok(Answer::Unreadable(Reason::HttpStatus, answered));
        }
        self.hosts.push(HostReport::Served(lane.clone()));
        Ok(match location.filter(|_| status.is_redirection()) {
            Some(to) => Answer::At(to),
            // Whatever else the host says, it does not forbid anything.
            None => Answer::Rules(Rules::none()),
        })
    }

    /// Reads as much of the file as is looked at. What is longer is cut off with its connection.
    async fn robots_body(
        &self,
        mut response: Response,
        deadline: &mut Deadline<'a>,
        note: &mut Note,
    ) -> Result<Result<Vec<u8>, reqwest::Error>, Late> {
        let mut file = Vec::new();
        while file.len() <= MOST_BYTES {
            match deadline.wait(response.chunk()).await? {
                Ok(Some(chunk)) => {
                    note.bytes += chunk.len() as u64;
                    file.extend_from_slice(&chunk);
                }
                Ok(None) => break,
                Err(error) => return Ok(Err(error)),
            }
        }
        Ok(Ok(file))
    }

    fn robots_late(&mut self, cut: Late, target: Target<'_>, lane: &Lane) -> Result<Answer, Stop> {
        if cut == Late::Cancelled {
            return Err(self.lost(target.plan));
        }
        self.blame(lane, target, Reason::Timeout);
        let seconds = self.inside.options.robots_timeout.as_secs_f64();
        Ok(Answer::Unreadable(Reason::Timeout, format!("{lane} did not give it within {seconds} s")))
    }

    /// There is no answer. `is_own` says that the request went to the origin itself.
    fn robots_fault(
        &mut self,
        fault: Fault,
        is_own: bool,
        target: Target<'_>,
        lane: &Lane,
    ) -> Result<Answer, Stop> {
        let (reason, detail) = match fault {
            Fault::NoNetwork(detail) => {
                let (class, at) = (FailureClass::LocalFault, Some(target.hop.clone()));
                return Err(self.end(Reason::NoNetwork, class, detail, target.plan, at));
            }
            Fault::Refused(detail) if is_own => {
                return Err(Stop::dead(PlanEnd::Refused, Reason::PolicyAddress, detail));
            }
            Fault::Refused(_) => return Ok(Answer::Rules(Rules::none())),
            // Where there is no host, there is nobody who could forbid anything: the plan itself has failed.
            Fault::Name(detail) if is_own => {
                let cause = Reason::DnsError.to_string();
                self.hosts.push(HostReport::Failed { lane: lane.clone(), cause });
                return Err(Stop::broken(Reason::DnsError, format!("{lane}: {detail}")));
            }
            Fault::Name(detail) => (Reason::DnsError, detail),
            Fault::Timeout(detail) => (Reason::Timeout, detail),
            Fault::Tls(detail) => (Reason::TlsError, detail),
            Fault::Connection(detail) => (Reason::ConnError, detail),
        };
        self.blame(lane, target, reason);
        Ok(Answer::Unreadable(reason, format!("{lane}: {detail}")))
    }

    /// The host did not give the file. The origin's own lane is closed for that; another one has failed.
    fn blame(&mut self, lane: &Lane, target: Target<'_>, reason: Reason) {
        if lane != target.lane {
            self.hosts.push(HostReport::Failed { lane: lane.clone(), cause: reason.to_string() });
        }
    }
}

/// The file as its host has it, if it was packed on the way, which some hosts do unasked. No more of it is unpacked than is
/// looked at.
fn unpacked(file: Vec<u8>, packed: Option<&str>) -> Result<Vec<u8>, String> {
    match packed {
        None => Ok(file),
        Some("gzip" | "x-gzip") => {
            let mut text = Vec::new();
            let most = MOST_BYTES as u64 + 1;
            let read = MultiGzDecoder::new(file.as_slice()).take(most).read_to_end(&mut text);
            read.map_or_else(|error| Err(format!("gzip, but {error}")), |_| Ok(text))
        }
        Some(other) => Err(format!("{other}, which was not asked for")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn a_packed_file_says_what_it_says() {
        let text = b"User-agent: *\nDisallow: /\n";
        assert_eq!(unpacked(gzip(text), Some("gzip")).unwrap(), text);
        assert_eq!(unpacked(text.to_vec(), None).unwrap(), text);
    }

    /// Such a file allows nothing: it could not be read.
    #[test]
    fn what_cannot_be_unpacked_is_no_permission() {
        assert!(unpacked(b"Disallow: /".to_vec(), Some("br")).unwrap_err().contains("br"));
        assert!(unpacked(b"Disallow: /".to_vec(), Some("gzip")).unwrap_err().contains("gzip"));
    }

    #[test]
    fn inv_bounded_no_more_is_unpacked_than_is_looked_at() {
        assert_eq!(unpacked(gzip(&vec![b'#'; 50_000_000]), Some("gzip")).unwrap().len(), MOST_BYTES + 1);
    }
}
