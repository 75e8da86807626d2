//! What was heard of a run, added up in memory that does not grow with it (INV-BOUNDED).

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use longhaul_events::{Event, WaitCause};
use longhaul_limiter::Lane;

use super::hosts::{HostTable, Wait, Waits};
use super::timeline::Timeline;

/// So many different keys (reasons, resolvers, statuses) are counted one by one; they are closed lists, so this is
/// never reached unless an event's producer goes astray.
const MOST_KEYS: usize = 200;

/// What the keys beyond that are counted under.
const OTHER: &str = "other";

/// So many ended jobs are remembered until they are published; a run stops leasing long before.
const MOST_UNPUBLISHED: usize = 16 * 1024;

/// The longest example and detail, in bytes.
const TEXT_BYTES: usize = 300;

/// Jobs that ended alike.
#[derive(Debug, Default)]
pub(super) struct Group {
    pub(super) count: u64,
    /// Bytes of their files.
    pub(super) bytes: u64,
    /// The first of them,
    pub(super) example: String,
    /// and what was said of it.
    pub(super) detail: String,
}

/// All of it.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Jobs that ended, by outcome and reason.
    pub(super) ended: BTreeMap<(&'static str, String), Group>,
    /// Settlements that did not end a job, by verdict.
    pub(super) unended: BTreeMap<&'static str, u64>,
    /// Tries that began.
    pub(super) tries: u64,
    pub(super) leases_lost: u64,
    /// Requests that started,
    pub(super) requests: u64,
    /// and that were told to their end.
    pub(super) requests_ended: u64,
    pub(super) by_status: BTreeMap<String, u64>,
    pub(super) by_reason: BTreeMap<String, u64>,
    pub(super) by_resolver: BTreeMap<String, u64>,
    pub(super) waits: Waits,
    /// Bytes that arrived, of files that failed too.
    pub(super) received: u64,
    /// Jobs that got their final name and their manifest line,
    pub(super) published: u64,
    /// and those among them that an earlier run had ended.
    pub(super) published_for_earlier_runs: u64,
    pub(super) local_faults: u64,
    pub(super) store_unavailable: u64,
    pub(super) hosts: HostTable,
    pub(super) timeline: Timeline,
    /// Jobs at work, with the lane of the request that each has in flight.
    at_work: HashMap<i64, Option<Lane>>,
    unpublished: HashSet<i64>,
}

impl Seen {
    /// Hears an event, so long after the run's beginning.
    pub(super) fn hear(&mut self, event: &Event, now: Duration) {
        match event {
            Event::JobStarted { job, .. } => {
                self.tries += 1;
                self.at_work.insert(*job, None);
            }
            Event::RequestStarted { job, lane, .. } => self.request_started(*job, lane, now),
            Event::Request { job, lane, resolver, http_status, elapsed, bytes, reason, .. } => {
                self.end_request(*job);
                self.requests_ended += 1;
                let status = http_status.map_or_else(|| "none".to_owned(), |status| status.to_string());
                count(&mut self.by_status, &status);
                count(&mut self.by_reason, reason);
                count(&mut self.by_resolver, resolver);
                let sums = &mut self.hosts.host(lane, now).sums;
                sums.busy += *elapsed;
                sums.bytes += bytes;
                sums.failed += u64::from(!is_fine(reason));
                sums.answered_429 += u64::from(*http_status == Some(429));
                sums.answered_503 += u64::from(*http_status == Some(503));
                if matches!(http_status, Some(429 | 503)) {
                    self.timeline.at(now).throttled += 1;
                }
            }
            // It has nothing in flight any more, whatever the queue makes of it.
            Event::JobFinished { job, .. } => self.end_job(*job),
            Event::Waited { why, key, waited, .. } => self.waited(*why, key, *waited, now),
            Event::JobSettled { job, artifact_id, verdict, state, reason, detail, bytes, .. } => {
                self.settled(*job, (verdict, state), reason, *bytes, (artifact_id, detail), now);
            }
            Event::LeaseLost { .. } => self.leases_lost += 1,
            Event::LaneClosed { lane, retry_after, cause } => {
                self.hosts.host(lane, now).close(now, retry_after.unwrap_or_default(), cut(cause));
            }
            Event::Received { bytes, .. } => {
                self.received += bytes;
                self.timeline.at(now).bytes += bytes;
            }
            Event::Published { job } => {
                self.published += 1;
                self.published_for_earlier_runs += u64::from(!self.unpublished.remove(job));
            }
            Event::LocalFault { .. } => self.local_faults += 1,
            Event::StoreUnavailable { .. } => self.store_unavailable += 1,
            _ => {}
        }
    }

    fn request_started(&mut self, job: i64, lane: &Lane, now: Duration) {
        // A job has one request at a time; one that was cut off was not told to its end.
        self.end_request(job);
        self.at_work.insert(job, Some(lane.clone()));
        self.requests += 1;
        self.hosts.host(lane, now).start(now);
        self.timeline.at(now).requests += 1;
    }

    fn waited(&mut self, why: WaitCause, key: &str, length: Duration, now: Duration) {
        let wait = Wait { times: 1, length };
        self.waits.entry(why.as_str()).or_default().add(wait);
        // What is waited for besides hosts is among the sums alone.
        if why.is_of_a_lane()
            && let Ok(lane) = Lane::new(key)
        {
            self.hosts.host(&lane, now).sums.waits.entry(why.as_str()).or_default().add(wait);
        }
    }

    fn end_request(&mut self, job: i64) {
        if let Some(lane) = self.at_work.get_mut(&job).and_then(Option::take)
            && let Some(host) = self.hosts.known(&lane)
        {
            host.end();
        }
    }

    fn end_job(&mut self, job: i64) {
        self.end_request(job);
        self.at_work.remove(&job);
    }

    fn settled(
        &mut self,
        job: i64,
        (verdict, state): (&'static str, &'static str),
        reason: &str,
        bytes: u64,
        (artifact_id, detail): (&str, &str),
        now: Duration,
    ) {
        let bucket = self.timeline.at(now);
        match state {
            "done" => bucket.done += 1,
            "skipped" => bucket.skipped += 1,
            "error" => bucket.error += 1,
            _ => {
                *self.unended.entry(verdict).or_default() += 1;
                return;
            }
        }
        if self.unpublished.len() < MOST_UNPUBLISHED {
            self.unpublished.insert(job);
        }
        let key = (state, reason.to_owned());
        let full = self.ended.len() >= MOST_KEYS && !self.ended.contains_key(&key);
        let key = if full { (state, OTHER.to_owned()) } else { key };
        let group = self.ended.entry(key).or_default();
        if group.count == 0 {
            (group.example, group.detail) = (cut(artifact_id).to_owned(), cut(detail).to_owned());
        }
        group.count += 1;
        // What is skipped or in error has no file.
        group.bytes += if state == "done" { bytes } else { 0 };
    }
}

/// Whether a request came to what it was made for.
fn is_fine(reason: &str) -> bool {
    matches!(reason, "ok" | "not-modified" | "already-downloaded")
}

fn count(counts: &mut BTreeMap<String, u64>, key: &str) {
    if let Some(count) = counts.get_mut(key) {
        *count += 1;
        return;
    }
    let key = if counts.len() < MOST_KEYS { key } else { OTHER };
    *counts.entry(key.to_owned()).or_default() += 1;
}

fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(TEXT_BYTES)]
}
