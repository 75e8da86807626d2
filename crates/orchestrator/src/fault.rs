//! Pauses of leasing while this machine cannot work.

use std::time::Duration;

/// Leasing stops for 5 s after a local fault, for twice as long after each that follows, up to 5 min. A try that
/// succeeds ends the pause and starts the series anew.
#[derive(Debug, Default)]
pub(crate) struct LocalFaults {
    last: Duration,
    until: Option<Duration>,
}

impl LocalFaults {
    const FIRST: Duration = Duration::from_secs(5);
    const LONGEST: Duration = Duration::from_mins(5);

    /// A try found a local fault. The length of the pause that begins, or `None` if one is under way: tries that were
    /// at work when it began are no news.
    pub(crate) fn found(&mut self, now: Duration) -> Option<Duration> {
        if self.pauses(now) {
            return None;
        }
        self.last = if self.last.is_zero() { Self::FIRST } else { (self.last * 2).min(Self::LONGEST) };
        self.until = Some(now + self.last);
        Some(self.last)
    }

    /// A try succeeded: the machine can work.
    pub(crate) fn succeeded(&mut self) {
        *self = Self::default();
    }

    /// Whether leasing is to pause.
    pub(crate) fn pauses(&self, now: Duration) -> bool {
        self.until.is_some_and(|until| now < until)
    }

    /// When the pause ends, if there is one.
    pub(crate) fn until(&self, now: Duration) -> Option<Duration> {
        self.until.filter(|until| now < *until)
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
            let pause = faults.found(now).map_or(0, |pause| pause.as_secs());
            assert_eq!(faults.found(now), None, "a second fault in a pause is no news");
            pauses.push(pause);
            now += Duration::from_secs(pause);
        }
        assert_eq!(pauses, [5, 10, 20, 40, 80, 160, 300, 300]);
        faults.succeeded();
        assert_eq!(faults.found(now), Some(Duration::from_secs(5)));
    }
}
