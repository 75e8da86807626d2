//! What was seen of each host, for as many hosts as fit.
//!
//! The table is that of the Space-Saving algorithm (Metwally, Agrawal, El Abbadi: Efficient Computation of Frequent and
//! Top-k Elements in Data Streams, 2005): a host that finds no place takes that of the one with the least weight, and
//! inherits the weight. Of W events about hosts, each host with more than W / [`MOST`] is in the table at the end.
//! Unlike there, the numbers of whom has to go are not inherited but added to those of the others, so that the sums are
//! exact; a host that came when the table was full may have been there before, and says so.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use longhaul_limiter::Lane;

use super::starts::Starts;

/// So many hosts have a place. More than a process has requests in flight, so that one of them can always go.
pub(super) const MOST: usize = 512;

/// How long was waited, and how often.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Wait {
    pub(super) times: u64,
    pub(super) length: Duration,
}

impl Wait {
    pub(super) fn add(&mut self, other: Self) {
        self.times += other.times;
        self.length += other.length;
    }
}

/// Waits by reason, of which there are a handful.
pub(super) type Waits = BTreeMap<&'static str, Wait>;

/// What can simply be added up.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Sums {
    /// Requests that started.
    pub(super) requests: u64,
    /// Requests that did not come to what they were made for.
    pub(super) failed: u64,
    pub(super) answered_429: u64,
    pub(super) answered_503: u64,
    /// Bytes of bodies.
    pub(super) bytes: u64,
    /// From before the connect to the body's end, all requests together.
    pub(super) busy: Duration,
    pub(super) waits: Waits,
    /// How often it was left alone,
    pub(super) closings: u64,
    /// and for how long in all.
    pub(super) closed: Duration,
}

impl Sums {
    fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.failed += other.failed;
        self.answered_429 += other.answered_429;
        self.answered_503 += other.answered_503;
        self.bytes += other.bytes;
        self.busy += other.busy;
        self.closings += other.closings;
        self.closed += other.closed;
        for (reason, wait) in &other.waits {
            self.waits.entry(reason).or_default().add(*wait);
        }
    }

    /// How long tries waited, whatever for.
    pub(super) fn waited(&self) -> Duration {
        self.waits.values().map(|wait| wait.length).sum()
    }
}

/// One host.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) lane: Lane,
    pub(super) sums: Sums,
    pub(super) peak_in_flight: u32,
    pub(super) starts: Starts,
    /// Whether nothing before its first event here can have been missed.
    pub(super) whole: bool,
    /// What it did when it was closed last.
    pub(super) cause: String,
    in_flight: u32,
    closed_until: Duration,
}

impl Host {
    fn new(lane: Lane, whole: bool) -> Self {
        Self {
            lane,
            sums: Sums::default(),
            peak_in_flight: 0,
            starts: Starts::default(),
            whole,
            cause: String::new(),
            in_flight: 0,
            closed_until: Duration::ZERO,
        }
    }

    /// A request starts.
    pub(super) fn start(&mut self, now: Duration) {
        self.sums.requests += 1;
        self.in_flight += 1;
        self.peak_in_flight = self.peak_in_flight.max(self.in_flight);
        self.starts.start(now);
    }

    /// Its body has ended, or its connection.
    pub(super) fn end(&mut self) {
        self.in_flight = self.in_flight.saturating_sub(1);
    }

    /// It is left alone from now on.
    pub(super) fn close(&mut self, now: Duration, length: Duration, cause: &str) {
        // Answers to requests that were under way when it closed are the same closing.
        self.sums.closings += u64::from(now >= self.closed_until);
        let until = self.closed_until.max(now + length);
        self.sums.closed += until.saturating_sub(self.closed_until.max(now));
        self.closed_until = until;
        cause.clone_into(&mut self.cause);
    }

    /// Its sums until now: what is left of a closing is not over yet.
    pub(super) fn sums_until(&self, now: Duration) -> Sums {
        let mut sums = self.sums.clone();
        sums.closed = sums.closed.saturating_sub(self.closed_until.saturating_sub(now));
        sums
    }
}

/// Those that had to make room.
#[derive(Debug, Default)]
pub(super) struct Others {
    /// How many made room; at most so many hosts, since one may have done so more than once.
    pub(super) hosts: u64,
    pub(super) sums: Sums,
    pub(super) peak_in_flight: u32,
    pub(super) peak_in_any_second: u32,
}

/// The table.
#[derive(Debug, Default)]
pub(super) struct HostTable {
    index: HashMap<Lane, usize>,
    hosts: Vec<Host>,
    /// Apart from the hosts, because the least of them is looked for.
    weights: Vec<u64>,
    others: Others,
}

impl HostTable {
    /// The host, which has a place from now on.
    pub(super) fn host(&mut self, lane: &Lane, now: Duration) -> &mut Host {
        if let Some(&place) = self.index.get(lane) {
            self.weights[place] += 1;
            return &mut self.hosts[place];
        }
        let place = self.hosts.len();
        if place < MOST {
            self.hosts.push(Host::new(lane.clone(), true));
            self.weights.push(1);
            self.index.insert(lane.clone(), place);
            return &mut self.hosts[place];
        }
        let place = self.least();
        let gone = std::mem::replace(&mut self.hosts[place], Host::new(lane.clone(), false));
        self.index.remove(&gone.lane);
        self.weights[place] += 1;
        self.others.hosts += 1;
        self.others.sums.add(&gone.sums_until(now));
        self.others.peak_in_flight = self.others.peak_in_flight.max(gone.peak_in_flight);
        self.others.peak_in_any_second = self.others.peak_in_any_second.max(gone.starts.peak());
        self.index.insert(lane.clone(), place);
        &mut self.hosts[place]
    }

    /// The host if it has a place; an event that ends something gives nobody one.
    pub(super) fn known(&mut self, lane: &Lane) -> Option<&mut Host> {
        self.index.get(lane).map(|place| &mut self.hosts[*place])
    }

    pub(super) fn hosts(&self) -> &[Host] {
        &self.hosts
    }

    pub(super) fn others(&self) -> &Others {
        &self.others
    }

    /// Whose place is given away: that of the least weight among those with nothing in flight.
    fn least(&self) -> usize {
        let lightest =
            |places: &mut dyn Iterator<Item = usize>| places.min_by_key(|place| self.weights[*place]);
        // Nearly always it is simply the lightest, and the weights alone are soon gone through.
        let least =
            self.weights.iter().enumerate().min_by_key(|(_, weight)| **weight).map(|(place, _)| place);
        let is_quiet = |place: &usize| self.hosts[*place].in_flight == 0;
        let quiet = least.filter(is_quiet);
        quiet.or_else(|| lightest(&mut (0..self.hosts.len()).filter(is_quiet))).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn lane(name: &str) -> Lane {
        Lane::new(name).unwrap()
    }

    #[test]
    fn inv_bounded_a_busy_host_keeps_its_place_among_a_hundred_thousand_and_sums_stay_exact() {
        let mut table = HostTable::default();
        let ms = Duration::from_millis;
        for number in 0..100_000_u64 {
            let once = table.host(&lane(&format!("h{number}.example")), ms(number));
            once.start(ms(number));
            once.end();
            if number.is_multiple_of(100) {
                let busy = table.host(&lane("busy.example"), ms(number));
                busy.start(ms(number));
                busy.end();
            }
        }
        assert_eq!(table.hosts().len(), MOST);
        assert_eq!(table.known(&lane("busy.example")).unwrap().sums.requests, 1000);
        let listed: u64 = table.hosts().iter().map(|host| host.sums.requests).sum();
        assert_eq!(listed + table.others().sums.requests, 101_000);
        assert_eq!(table.others().hosts, 100_001 - MOST as u64);
        assert_eq!((table.others().peak_in_flight, table.others().peak_in_any_second), (1, 1));
    }

    #[test]
    fn a_host_with_something_in_flight_keeps_its_place() {
        let mut table = HostTable::default();
        table.host(&lane("long.example"), Duration::ZERO).start(Duration::ZERO);
        for number in 0..10_000 {
            table.host(&lane(&format!("h{number}.example")), Duration::ZERO);
        }
        let long = table.known(&lane("long.example")).unwrap();
        assert!(long.whole);
        long.end();
        assert_eq!(long.peak_in_flight, 1);
    }

    #[test]
    fn closings_that_overlap_are_one_and_what_is_left_of_it_is_not_over() {
        let mut host = Host::new(lane("a.example"), true);
        let at = Duration::from_secs;
        host.close(at(10), at(2), "429");
        host.close(at(11), at(5), "429");
        host.close(at(11), at(1), "429");
        assert_eq!((host.sums.closings, host.sums.closed), (1, at(6)));
        host.close(at(20), at(100), "503");
        assert_eq!((host.sums.closings, host.cause.as_str()), (2, "503"));
        assert_eq!(host.sums_until(at(30)).closed, at(6 + 10));
    }
}
