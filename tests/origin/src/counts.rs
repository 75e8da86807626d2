//! What a host counts, and the reports that others read. The rules of counting are here; when they are applied is
//! `exchange`'s business.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::behaviour::Behaviour;
use crate::clock::Moment;
use crate::policy::{Gate, Verdict};

/// How many closings a report lists; later ones are counted in the totals only.
const CLOSINGS_LISTED: usize = 1000;
/// How many repeated paths a report lists.
const REPEATED_LISTED: usize = 1000;

/// The numbers of one host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counts {
    /// Requests whose head arrived.
    pub requests: u64,
    /// Requests in flight: head arrived, last byte of the answer not yet handed to the kernel, connection open.
    pub in_flight: u32,
    /// The most requests in flight at once.
    pub peak_in_flight: u32,
    /// The most arrivals in any one second, refused ones included.
    pub peak_arrivals_per_second: u64,
    /// Requests refused for concurrency or rate while the host was open.
    pub refused: u64,
    /// Requests that came during a closing, within the grace after its beginning.
    pub refused_in_closing: u64,
    /// Requests that came during a closing, later than the grace after its beginning.
    pub too_early: u64,
    /// Requests that came when as many as the host tolerates were already in flight, closed or not.
    pub over_concurrency: u64,
    /// Requests that were over the concurrency or too early, each counted once. A polite client has 0 here.
    pub impolite: u64,
    /// Faults that struck.
    pub faults: u64,
    /// Answers 200 or 206 whose last byte was handed to the kernel.
    pub completed_bodies: u64,
    /// Answers that the client left before their end, answers that never came included.
    pub aborted: u64,
    /// Answers that the host itself broke off: truncated or reset.
    pub broken_off: u64,
    /// Bytes handed to the kernel, heads included.
    pub bytes_sent: u64,
    /// Bytes of bodies, taken to be sent.
    pub body_bytes_sent: u64,
    /// Connections accepted.
    pub connections: u64,
    /// Connections open now.
    pub connections_open: u32,
    /// When the first request arrived, in milliseconds since the origin's start.
    pub first_arrival_ms: Option<u64>,
    /// When the last request arrived, in milliseconds since the origin's start.
    pub last_arrival_ms: Option<u64>,
}

/// How often a path was asked for, and with what result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PathCounts {
    /// Requests that the host's tolerance let through.
    pub asked: u64,
    /// Bodies served in full (200).
    pub full: u64,
    /// Parts served in full (206).
    pub partial: u64,
    /// Answers that the client left or the host broke off.
    pub unfinished: u64,
}

/// One period in which the host was closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Closing {
    /// When it began, in milliseconds since the origin's start.
    pub began_ms: u64,
    /// How long it lasts, in milliseconds.
    pub lasts_ms: u64,
    /// Requests within the grace after its beginning.
    pub refused_in_closing: u64,
    /// Requests later than that.
    pub too_early: u64,
}

/// One line of the arrival log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Arrival {
    /// When the head arrived, in microseconds since the origin's start.
    pub at_us: u64,
    /// Path and query.
    pub target: String,
    /// The answer's status; absent until it is sent, and for ever if none is.
    pub status: Option<u16>,
}

/// The most arrivals in any window of one length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowPeak {
    /// The window's length in milliseconds.
    pub window_ms: u64,
    /// The most arrivals in it.
    pub peak: u64,
}

/// All that one host counted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostReport {
    /// The host's name.
    pub name: String,
    /// The host's address.
    pub address: Ipv4Addr,
    /// The numbers.
    #[serde(flatten)]
    pub counts: Counts,
    /// Answers by status.
    pub statuses: BTreeMap<u16, u64>,
    /// The peaks of arrivals in the windows of the configuration, after that of one second.
    pub windows: Vec<WindowPeak>,
    /// The closings, oldest first, at most a thousand.
    pub closings: Vec<Closing>,
    /// How many different paths were let through.
    pub distinct_paths: u64,
    /// Paths that were served in full more than once, with how often; at most a thousand.
    pub repeated: BTreeMap<String, u64>,
}

/// All that an origin counted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The port of all hosts.
    pub port: u16,
    /// When the origin started, in milliseconds since the Unix epoch.
    pub started_unix_ms: u64,
    /// The age of this report, in milliseconds since the origin's start.
    pub at_ms: u64,
    /// The hosts by name.
    pub hosts: BTreeMap<String, HostReport>,
}

impl Report {
    /// Impolite requests on all hosts.
    pub fn impolite(&self) -> u64 {
        self.hosts.values().map(|host| host.counts.impolite).sum()
    }

    /// Requests on all hosts.
    pub fn requests(&self) -> u64 {
        self.hosts.values().map(|host| host.counts.requests).sum()
    }
}

/// How an exchange ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// The last byte was handed to the kernel.
    Answered(Delivery),
    /// The client left.
    Aborted,
    /// The host broke it off.
    BrokenOff,
}

/// What an answer delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Delivery {
    /// The body of a 200.
    Full,
    /// The body of a 206.
    Partial,
    /// Anything else.
    Nothing,
}

/// A host's books.
#[derive(Debug)]
pub(crate) struct Tally {
    started: Instant,
    grace: Duration,
    log_capacity: usize,
    path_capacity: usize,
    pub(crate) counts: Counts,
    pub(crate) gate: Gate,
    statuses: BTreeMap<u16, u64>,
    windows: Vec<Window>,
    closings: Vec<Closing>,
    log: VecDeque<Arrival>,
    /// The number of the log's first line, so that a line can be found after older ones were dropped.
    log_first: u64,
    paths: HashMap<String, PathCounts>,
}

#[derive(Debug)]
struct Window {
    length: Duration,
    arrivals: VecDeque<Instant>,
    peak: u64,
}

impl Window {
    fn new(length: Duration) -> Self {
        Self { length, arrivals: VecDeque::new(), peak: 0 }
    }

    /// Two arrivals exactly one length apart do not share a window.
    fn arrive(&mut self, at: Instant) {
        while self.arrivals.front().is_some_and(|old| at.saturating_duration_since(*old) >= self.length) {
            self.arrivals.pop_front();
        }
        self.arrivals.push_back(at);
        self.peak = self.peak.max(self.arrivals.len() as u64);
    }
}

impl Tally {
    pub(crate) fn new(
        started: Instant,
        windows_ms: &[u64],
        grace: Duration,
        log_capacity: usize,
        path_capacity: usize,
    ) -> Self {
        let lengths = [1000].into_iter().chain(windows_ms.iter().copied());
        Self {
            started,
            grace,
            log_capacity,
            path_capacity,
            counts: Counts::default(),
            gate: Gate::default(),
            statuses: BTreeMap::new(),
            windows: lengths.map(|ms| Window::new(Duration::from_millis(ms))).collect(),
            closings: Vec::new(),
            log: VecDeque::new(),
            log_first: 0,
            paths: HashMap::new(),
        }
    }

    /// A request's head arrived. The answer is the number of its line in the log. It is in flight once it
    /// [enters](Self::enter).
    pub(crate) fn arrive(&mut self, at: Instant, target: &str) -> u64 {
        let since = at.saturating_duration_since(self.started);
        self.counts.requests += 1;
        self.counts.first_arrival_ms.get_or_insert(since.as_millis() as u64);
        self.counts.last_arrival_ms = Some(since.as_millis() as u64);
        for window in &mut self.windows {
            window.arrive(at);
        }
        self.counts.peak_arrivals_per_second = self.windows.first().map_or(0, |window| window.peak);
        let line = self.log_first + self.log.len() as u64;
        self.log.push_back(Arrival {
            at_us: since.as_micros() as u64,
            target: target.to_owned(),
            status: None,
        });
        if self.log.len() > self.log_capacity {
            self.log.pop_front();
            self.log_first += 1;
        }
        line
    }

    /// A request that has arrived is in flight from now on. It is judged in the same breath, so that whoever sees it
    /// in flight knows that it was.
    pub(crate) fn enter(&mut self, now: Moment, behaviour: &Behaviour) -> Verdict {
        self.counts.in_flight += 1;
        let in_flight = self.counts.in_flight;
        self.counts.peak_in_flight = self.counts.peak_in_flight.max(in_flight);
        let verdict = self.gate.judge(now, in_flight, behaviour);
        self.judged(now.instant, &verdict, behaviour.is_exceeded_by(in_flight));
        verdict
    }

    /// Counts what the gate said about a request.
    fn judged(&mut self, at: Instant, verdict: &Verdict, over_concurrency: bool) {
        let mut too_early = false;
        match verdict {
            Verdict::Open => {}
            Verdict::Refused(refusal) => {
                self.counts.refused += 1;
                if let Some(lasts) = refusal.closes_for {
                    self.closed(at, lasts);
                }
            }
            Verdict::Closed { after, .. } => {
                too_early = *after > self.grace;
                let closing = self.closings.last_mut();
                if too_early {
                    self.counts.too_early += 1;
                    if let Some(closing) = closing {
                        closing.too_early += 1;
                    }
                } else {
                    self.counts.refused_in_closing += 1;
                    if let Some(closing) = closing {
                        closing.refused_in_closing += 1;
                    }
                }
            }
        }
        self.counts.over_concurrency += u64::from(over_concurrency);
        self.counts.impolite += u64::from(over_concurrency || too_early);
    }

    /// The host closed.
    pub(crate) fn closed(&mut self, at: Instant, lasts: Duration) {
        // The list keeps the newest, since it is the last one that requests are counted to.
        if self.closings.len() >= CLOSINGS_LISTED {
            self.closings.remove(0);
        }
        self.closings.push(Closing {
            began_ms: at.saturating_duration_since(self.started).as_millis() as u64,
            lasts_ms: lasts.as_millis() as u64,
            refused_in_closing: 0,
            too_early: 0,
        });
    }

    /// A request for a path was let through. The answer says how often it was asked for, this time included.
    pub(crate) fn ask(&mut self, path: &str) -> u64 {
        if let Some(counts) = self.paths.get_mut(path) {
            counts.asked += 1;
            return counts.asked;
        }
        if self.paths.len() < self.path_capacity {
            self.paths.insert(path.to_owned(), PathCounts { asked: 1, ..PathCounts::default() });
        }
        1
    }

    /// An answer's head is about to be sent.
    pub(crate) fn answer(&mut self, line: u64, status: u16) {
        *self.statuses.entry(status).or_default() += 1;
        let entry = line.checked_sub(self.log_first).and_then(|index| self.log.get_mut(index as usize));
        if let Some(entry) = entry {
            entry.status = Some(status);
        }
    }

    /// An exchange is over.
    pub(crate) fn settle(&mut self, path: &str, ending: Ending) {
        self.counts.in_flight = self.counts.in_flight.saturating_sub(1);
        let mut unlisted = PathCounts::default();
        let path = self.paths.get_mut(path).unwrap_or(&mut unlisted);
        match ending {
            Ending::Answered(Delivery::Full) => {
                self.counts.completed_bodies += 1;
                path.full += 1;
            }
            Ending::Answered(Delivery::Partial) => {
                self.counts.completed_bodies += 1;
                path.partial += 1;
            }
            Ending::Answered(Delivery::Nothing) => {}
            Ending::Aborted => {
                self.counts.aborted += 1;
                path.unfinished += 1;
            }
            Ending::BrokenOff => {
                self.counts.broken_off += 1;
                path.unfinished += 1;
            }
        }
    }

    /// Forgets everything but what is still going on: requests in flight, open connections, a closing.
    pub(crate) fn reset(&mut self) {
        let Counts { in_flight, connections_open, .. } = self.counts;
        self.counts = Counts { in_flight, peak_in_flight: in_flight, connections_open, ..Counts::default() };
        self.statuses.clear();
        self.closings.clear();
        self.log_first += self.log.len() as u64;
        self.log.clear();
        self.paths.clear();
        for window in &mut self.windows {
            *window = Window::new(window.length);
        }
    }

    pub(crate) fn log(&self) -> impl Iterator<Item = &Arrival> {
        self.log.iter()
    }

    pub(crate) fn path(&self, path: &str) -> PathCounts {
        self.paths.get(path).copied().unwrap_or_default()
    }

    pub(crate) fn report(&self, name: &str, address: Ipv4Addr) -> HostReport {
        let mut repeated = BTreeMap::new();
        for (path, counts) in self.paths.iter().filter(|(_, counts)| counts.full > 1).take(REPEATED_LISTED) {
            repeated.insert(path.clone(), counts.full);
        }
        HostReport {
            name: name.to_owned(),
            address,
            counts: self.counts,
            statuses: self.statuses.clone(),
            windows: self
                .windows
                .iter()
                .map(|window| WindowPeak { window_ms: window.length.as_millis() as u64, peak: window.peak })
                .collect(),
            closings: self.closings.clone(),
            distinct_paths: self.paths.len() as u64,
            repeated,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    const MS: Duration = Duration::from_millis(1);

    fn tally(started: Moment, windows_ms: &[u64]) -> Tally {
        Tally::new(started.instant, windows_ms, 250 * MS, 4, 2)
    }

    /// One request that is judged as the service does it.
    fn request(tally: &mut Tally, now: Moment, behaviour: &Behaviour) -> Verdict {
        tally.arrive(now.instant, "/p");
        let verdict = tally.enter(now, behaviour);
        tally.settle("/p", Ending::Answered(Delivery::Full));
        verdict
    }

    #[test]
    fn the_peak_is_that_of_the_worst_window_wherever_it_lies() {
        let start = clock::now();
        let mut tally = tally(start, &[3000]);
        for ms in [0, 900, 1000, 1800, 1899, 1999, 2950, 9000] {
            tally.arrive((start.instant) + MS * ms, "/p");
        }
        // 1000, 1800, 1899 and 1999 share a second with each other but not with 900 and 1999 alike.
        assert_eq!(tally.counts.peak_arrivals_per_second, 4);
        let report = tally.report("h", Ipv4Addr::LOCALHOST);
        assert_eq!(report.windows[1], WindowPeak { window_ms: 3000, peak: 7 });
        assert_eq!((tally.counts.first_arrival_ms, tally.counts.last_arrival_ms), (Some(0), Some(9000)));
    }

    #[test]
    fn a_request_in_a_closing_is_forgiven_within_the_grace_and_too_early_after_it() {
        let behaviour = Behaviour::default().tolerating_per_second(1);
        let start = clock::now();
        let mut tally = tally(start, &[]);
        for ms in [0, 10, 260, 261, 900, 1010] {
            request(&mut tally, start.plus(MS * ms), &behaviour);
        }
        let counts = tally.counts;
        assert_eq!((counts.refused, counts.refused_in_closing, counts.too_early), (1, 1, 2));
        assert_eq!((counts.over_concurrency, counts.impolite), (0, 2));
        let closing = Closing { began_ms: 10, lasts_ms: 1000, refused_in_closing: 1, too_early: 2 };
        assert_eq!(tally.report("h", Ipv4Addr::LOCALHOST).closings, [closing]);
    }

    #[test]
    fn a_request_that_is_both_too_many_and_too_early_is_impolite_once() {
        let behaviour = Behaviour::default().tolerating_per_second(1).tolerating_at_once(1);
        let start = clock::now();
        let mut tally = tally(start, &[]);
        request(&mut tally, start, &behaviour);
        request(&mut tally, start, &behaviour);
        tally.counts.in_flight = 1;
        request(&mut tally, start.plus(500 * MS), &behaviour);
        assert_eq!((tally.counts.over_concurrency, tally.counts.too_early, tally.counts.impolite), (1, 1, 1));
        assert_eq!(tally.counts.peak_in_flight, 2);
    }

    #[test]
    fn log_and_paths_keep_within_their_bounds() {
        let start = clock::now();
        let mut tally = tally(start, &[]);
        let lines: Vec<u64> = (0..6).map(|n| tally.arrive(start.instant, &format!("/{n}"))).collect();
        tally.answer(lines[1], 200);
        tally.answer(lines[5], 404);
        let log: Vec<_> = tally.log().map(|arrival| (arrival.target.as_str(), arrival.status)).collect();
        assert_eq!(log, [("/2", None), ("/3", None), ("/4", None), ("/5", Some(404))]);
        let asks: Vec<u64> = ["/a", "/b", "/c", "/a", "/c"].map(|path| tally.ask(path)).into();
        assert_eq!(asks, [1, 1, 1, 2, 1], "/c is beyond the capacity of two paths");
    }

    #[test]
    fn a_reset_keeps_what_is_still_going_on() {
        let start = clock::now();
        let mut tally = tally(start, &[]);
        let line = tally.arrive(start.instant, "/p");
        tally.enter(start, &Behaviour::default());
        tally.counts.connections_open = 1;
        tally.reset();
        tally.arrive(start.instant, "/q");
        tally.enter(start, &Behaviour::default());
        tally.answer(line, 200);
        assert!(tally.log().all(|arrival| arrival.status.is_none()), "no old answer on a new line");
        assert_eq!((tally.counts.requests, tally.counts.in_flight, tally.counts.connections_open), (1, 2, 1));
    }
}
