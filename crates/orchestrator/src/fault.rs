//! Pauses of leasing while this machine cannot work, and the careful way back.

use std::time::Duration;

/// Leasing stops for 5 s after a local fault, for twice as long after each that follows, up to 5 min. Then one job goes
/// first: were all to try at once, each would download a file for a disk that is still full. A try that succeeds lets
/// the rest follow and starts the series anew.
#[derive(Debug, Default)]
pub(crate) struct LocalFaults {
    last: Duration,
    until: Option<Duration>,
    /// When the first and the last fault of the series were found, and what the last was.
    series: Option<Series>,
    /// Tries that ended without a fault since the last pause, if one goes first at the moment.
    probes: Option<u32>,
}

#[derive(Debug)]
struct Series {
    since: Duration,
    found: Duration,
    detail: String,
}

impl LocalFaults {
    const FIRST: Duration = Duration::from_secs(5);
    const LONGEST: Duration = Duration::from_mins(5);
    /// So many tries in a row that end otherwise than in a fault say as much as one that succeeds: a list of dead links
    /// must not be worked off one by one.
    const PROBES: u32 = 4;

    /// A try found a local fault. The length of the pause that begins, or `None` if one is under way: tries that were
    /// at work when it began are no news.
    pub(crate) fn found(&mut self, now: Duration, detail: &str) -> Option<Duration> {
        if self.pauses(now) {
            return None;
        }
        self.last = if self.last.is_zero() { Self::FIRST } else { (self.last * 2).min(Self::LONGEST) };
        self.until = Some(now + self.last);
        let since = self.series.as_ref().map_or(now, |series| series.since);
        self.series = Some(Series { since, found: now, detail: detail.to_owned() });
        self.probes = Some(0);
        Some(self.last)
    }

    /// A try succeeded: the machine can work.
    pub(crate) fn succeeded(&mut self) {
        *self = Self::default();
    }

    /// A try ended in another way than by a fault, which does not say that all is well.
    pub(crate) fn passed(&mut self, now: Duration) {
        if self.pauses(now) {
            return;
        }
        self.probes = self.probes.map(|probes| probes + 1).filter(|probes| *probes < Self::PROBES);
    }

    /// How many more jobs may be leased while so many are held.
    pub(crate) fn may_lease(&self, held: usize) -> usize {
        if self.probes.is_some() { 1usize.saturating_sub(held) } else { usize::MAX }
    }

    /// Whether leasing is to pause.
    pub(crate) fn pauses(&self, now: Duration) -> bool {
        self.until.is_some_and(|until| now < until)
    }

    /// When the pause ends, if there is one.
    pub(crate) fn until(&self, now: Duration) -> Option<Duration> {
        self.until.filter(|until| now < *until)
    }

    /// For how long the machine has not been able to work, and why, if that was found again in this very pause.
    pub(crate) fn lasts(&self, now: Duration) -> Option<(Duration, &str)> {
        let series = self.series.as_ref().filter(|series| self.pauses(now) && series.found > series.since)?;
        Some((series.found.saturating_sub(series.since), &series.detail))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_and_a_success_resets_them() {
        let mut faults = LocalFaults::default();
        let mut now = Duration::from_secs(1000);
        let mut pauses = Vec::new();
        for _ in 0..8 {
            let pause = faults.found(now, "full").map_or(0, |pause| pause.as_secs());
            assert_eq!(faults.found(now, "full"), None, "a second fault in a pause is no news");
            pauses.push(pause);
            now += Duration::from_secs(pause);
        }
        assert_eq!(pauses, [5, 10, 20, 40, 80, 160, 300, 300]);
        faults.succeeded();
        assert_eq!(faults.found(now, "full"), Some(Duration::from_secs(5)));
    }

    #[test]
    fn after_a_pause_one_goes_first_until_one_succeeds() {
        let mut faults = LocalFaults::default();
        assert_eq!(faults.may_lease(7), usize::MAX);
        faults.found(Duration::from_secs(10), "full");
        let now = Duration::from_secs(15);
        assert!(!faults.pauses(now));
        assert_eq!((faults.may_lease(0), faults.may_lease(1), faults.may_lease(3)), (1, 0, 0));
        faults.succeeded();
        assert_eq!(faults.may_lease(1), usize::MAX);
        // Ends that say nothing of the disk let the rest follow as well, once there are a few.
        faults.found(now, "full");
        faults.passed(now);
        let now = Duration::from_secs(20);
        for passed in 0..LocalFaults::PROBES {
            assert_eq!(
                faults.may_lease(0),
                1,
                "after {passed}; those at work when the pause began do not count"
            );
            faults.passed(now);
        }
        assert_eq!(faults.may_lease(1), usize::MAX);
    }

    #[test]
    fn a_fault_lasts_from_the_first_to_the_last_of_its_series() {
        let mut faults = LocalFaults::default();
        let at = Duration::from_secs;
        faults.found(at(10), "full");
        assert_eq!(faults.lasts(at(10)), None, "one alone has not lasted");
        faults.found(at(40), "still full");
        assert_eq!(faults.lasts(at(41)), Some((at(30), "still full")));
        assert_eq!(faults.lasts(at(60)), None, "it is being tried again");
        faults.succeeded();
        faults.found(at(70), "full");
        assert_eq!(faults.lasts(at(71)), None);
    }
}
