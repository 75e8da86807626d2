//! What happened in a run, counted, in memory that does not grow with the run (INV-BOUNDED).

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::time::Duration;

use longhaul_events::Event;
use longhaul_limiter::Lane;

/// How many hosts are counted one by one.
const MOST_LANES: usize = 10_000;

/// A host that did not say for how long it wants quiet is left alone for at least this long.
const AT_LEAST: Duration = Duration::from_mins(1);

/// How many problems are kept word for word.
const LAST_PROBLEMS: usize = 3;

/// Jobs that ended for the same reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Group {
    /// How many.
    pub(crate) count: u64,
    /// One of them,
    pub(crate) example: String,
    /// and what was said of it.
    pub(crate) detail: String,
}

/// What was seen of a host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct LaneTally {
    /// Requests that ended.
    pub(crate) requests: u64,
    /// How long they took together.
    pub(crate) elapsed: Duration,
    /// How long tries waited for the host's turn together.
    pub(crate) waited: Duration,
    /// How often it asked for quiet or failed too often.
    pub(crate) closed: u64,
    /// What it said last when it did.
    pub(crate) cause: String,
}

/// A host that wants to be left alone.
#[derive(Debug)]
struct Closed {
    until: Duration,
    /// Whether it said until when.
    said: bool,
}

/// What happened in a run.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Jobs at work.
    pub(crate) running: HashSet<i64>,
    /// Jobs that are done.
    pub(crate) done: u64,
    /// Jobs that are skipped.
    pub(crate) skipped: u64,
    /// Jobs that ended in error.
    pub(crate) errors: u64,
    /// Tries that are to be repeated.
    pub(crate) retries: u64,
    /// Bytes of files.
    pub(crate) file_bytes: u64,
    /// Bytes that arrived, of files that failed too.
    pub(crate) received: u64,
    /// Errors by reason.
    pub(crate) failed: BTreeMap<String, Group>,
    /// Skipped jobs by reason.
    pub(crate) skips: BTreeMap<String, Group>,
    /// Hosts.
    pub(crate) lanes: HashMap<Lane, LaneTally>,
    /// The last problems, oldest first.
    pub(crate) problems: VecDeque<String>,
    /// How many problems there were.
    pub(crate) problems_seen: u64,
    /// Whether the last thing that is known of this machine is that it cannot work.
    pub(crate) is_at_fault: bool,
    closed: HashMap<Lane, Closed>,
    /// When hosts that cool down no more were forgotten last.
    purged: Duration,
}

impl Tally {
    /// Counts an event.
    pub(crate) fn take(&mut self, event: &Event, now: Duration) {
        match event {
            Event::JobStarted { job, .. } => {
                self.running.insert(*job);
            }
            Event::LeaseLost { job } => {
                self.running.remove(job);
            }
            Event::Received { bytes, .. } => self.received += bytes,
            Event::JobSettled { job, artifact_id, verdict, reason, detail, bytes, .. } => {
                self.running.remove(job);
                self.settled(artifact_id, verdict, reason, detail, *bytes);
            }
            Event::Request { lane, elapsed, .. } => {
                if let Some(seen) = self.lane(lane) {
                    seen.requests += 1;
                    seen.elapsed += *elapsed;
                }
            }
            Event::Waited { why, key, waited, .. } if why.is_of_a_lane() => {
                if let Ok(lane) = Lane::new(key.as_str())
                    && let Some(seen) = self.lane(&lane)
                {
                    seen.waited += *waited;
                }
            }
            Event::LocalFault { .. } => self.is_at_fault = true,
            Event::LaneClosed { lane, retry_after, cause } => self.closed(lane, *retry_after, cause, now),
            _ => {}
        }
    }

    /// Hosts that cool down, with the time that is left, the longest first. A host that did not say for how long is not
    /// among them.
    pub(crate) fn cooling(&self, now: Duration) -> Vec<(&Lane, Duration)> {
        let mut cooling: Vec<_> = self
            .closed
            .iter()
            .filter(|(_, closed)| closed.said)
            .map(|(lane, closed)| (lane, closed.until.saturating_sub(now)))
            .filter(|(_, left)| !left.is_zero())
            .collect();
        cooling.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(b.0)));
        cooling
    }

    /// Jobs that ended.
    pub(crate) fn ended(&self) -> u64 {
        self.done + self.skipped + self.errors
    }

    fn settled(&mut self, artifact_id: &str, verdict: &str, reason: &str, detail: &str, bytes: u64) {
        let groups = match verdict {
            "done" => {
                self.is_at_fault = false;
                self.done += 1;
                self.file_bytes += bytes;
                return;
            }
            "skipped" => {
                self.skipped += 1;
                &mut self.skips
            }
            "error" => {
                self.errors += 1;
                &mut self.failed
            }
            "retry" => {
                self.retries += 1;
                return;
            }
            // Deferred, throttled, released: it goes on elsewhere or later, and nothing has gone wrong with the job.
            _ => return,
        };
        let group = groups.entry(reason.to_owned()).or_insert_with(|| Group {
            count: 0,
            example: artifact_id.to_owned(),
            detail: detail.to_owned(),
        });
        group.count += 1;
        self.problems_seen += 1;
        let said = if detail.is_empty() { reason } else { detail };
        self.problems.push_back(format!("{artifact_id}: {said}"));
        if self.problems.len() > LAST_PROBLEMS {
            self.problems.pop_front();
        }
    }

    fn lane(&mut self, lane: &Lane) -> Option<&mut LaneTally> {
        if lane.is_none() || (self.lanes.len() >= MOST_LANES && !self.lanes.contains_key(lane)) {
            return None;
        }
        Some(self.lanes.entry(lane.clone()).or_default())
    }

    fn closed(&mut self, lane: &Lane, length: Option<Duration>, cause: &str, now: Duration) {
        let is_closed = self.closed.get(lane).is_some_and(|closed| closed.until > now);
        if let Some(seen) = self.lane(lane) {
            // Answers to requests that were under way when it closed are the same closing.
            seen.closed += u64::from(!is_closed);
            cause.clone_into(&mut seen.cause);
        }
        // At most once a second: with thousands of hosts closed, each event would walk all of them.
        if self.closed.len() >= MOST_LANES && now >= self.purged + Duration::from_secs(1) {
            self.purged = now;
            self.closed.retain(|_, closed| closed.until > now);
        }
        if self.closed.len() < MOST_LANES {
            let until = now + length.unwrap_or(AT_LEAST);
            let closed = self.closed.entry(lane.clone()).or_insert(Closed { until, said: false });
            closed.until = closed.until.max(until);
            closed.said |= length.is_some();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settled(job: i64, verdict: &'static str, reason: &str, bytes: u64) -> Event {
        Event::JobSettled {
            job,
            artifact_id: format!("doi:10.1/{job}"),
            verdict,
            state: "done",
            reason: reason.to_owned(),
            detail: format!("{reason} of {job}"),
            resolver: None,
            bytes,
            elapsed: Duration::from_secs(1),
        }
    }

    #[test]
    fn what_ended_is_counted_by_how_and_why() {
        let mut tally = Tally::default();
        let now = Duration::ZERO;
        for event in [
            settled(1, "done", "ok", 100),
            settled(2, "error", "gone", 0),
            settled(3, "error", "gone", 0),
            settled(4, "skipped", "no-candidates", 0),
            settled(5, "retry", "timeout", 0),
            settled(6, "throttled", "throttled", 0),
        ] {
            tally.take(&event, now);
        }
        assert_eq!(
            (tally.done, tally.errors, tally.skipped, tally.retries, tally.file_bytes),
            (1, 2, 1, 1, 100)
        );
        let gone = &tally.failed["gone"];
        assert_eq!((gone.count, gone.example.as_str(), gone.detail.as_str()), (2, "doi:10.1/2", "gone of 2"));
        assert_eq!(tally.skips["no-candidates"].count, 1);
        assert_eq!(tally.problems_seen, 3);
    }

    #[test]
    fn inv_bounded_memory_does_not_grow_with_the_run() {
        let mut tally = Tally::default();
        for number in 0..30_000_i64 {
            let lane = Lane::new(format!("h{number}.example")).unwrap();
            let retry_after = Some(Duration::from_mins(1));
            tally.take(&Event::LaneClosed { lane, retry_after, cause: "429".to_owned() }, Duration::ZERO);
            tally.take(&settled(number, "error", "gone", 0), Duration::ZERO);
        }
        assert!(tally.lanes.len() <= MOST_LANES && tally.closed.len() <= MOST_LANES);
        assert_eq!((tally.problems.len(), tally.failed.len(), tally.running.len()), (LAST_PROBLEMS, 1, 0));
        assert_eq!(tally.errors, 30_000);
        let later = Duration::from_mins(2);
        let lane = Lane::new("late.example").unwrap();
        tally.take(&Event::LaneClosed { lane, retry_after: Some(later), cause: String::new() }, later);
        assert_eq!(tally.cooling(later).len(), 1, "what is over makes room");
    }

    #[test]
    fn a_host_that_asked_for_quiet_cools_down_until_then() {
        let mut tally = Tally::default();
        let lane = Lane::new("a.example").unwrap();
        let retry_after = Some(Duration::from_mins(1));
        tally.take(
            &Event::LaneClosed { lane: lane.clone(), retry_after, cause: String::new() },
            Duration::ZERO,
        );
        assert_eq!(tally.cooling(Duration::from_secs(20)), [(&lane, Duration::from_secs(40))]);
        assert_eq!(tally.cooling(Duration::from_mins(1)), []);
    }

    #[test]
    fn answers_to_requests_that_were_under_way_are_one_closing() {
        let mut tally = Tally::default();
        let lane = Lane::new("a.example").unwrap();
        let closed =
            |retry_after| Event::LaneClosed { lane: lane.clone(), retry_after, cause: "429".to_owned() };
        tally.take(&closed(None), Duration::ZERO);
        assert_eq!(tally.cooling(Duration::ZERO), [], "it did not say for how long");
        tally.take(&closed(Some(Duration::from_secs(90))), Duration::from_secs(1));
        assert_eq!(tally.lanes[&lane].closed, 1);
        assert_eq!(tally.cooling(Duration::from_secs(1)), [(&lane, Duration::from_secs(90))]);
        tally.take(&closed(None), Duration::from_mins(2));
        assert_eq!(tally.lanes[&lane].closed, 2);
    }
}
