//! How fast it goes, over the last half minute: an average over a whole run would not notice that it stalled.

use std::collections::VecDeque;
use std::time::Duration;

const WINDOW: Duration = Duration::from_secs(30);

/// Samples of the last half minute.
#[derive(Debug)]
pub(super) struct Speed {
    samples: VecDeque<(Duration, u64, u64)>,
}

impl Speed {
    /// Nothing has ended or arrived yet.
    pub(super) fn since(began: Duration) -> Self {
        Self { samples: VecDeque::from([(began, 0, 0)]) }
    }

    /// Another sample: jobs that have ended and bytes that have arrived so far.
    pub(super) fn add(&mut self, now: Duration, ended: u64, received: u64) {
        self.samples.push_back((now, ended, received));
        // The oldest sample is kept until the next one is old enough, so that there always are two.
        while self.samples.get(1).is_some_and(|(at, _, _)| now.saturating_sub(*at) >= WINDOW) {
            self.samples.pop_front();
        }
    }

    /// Jobs and bytes a second; `None` before there are two samples.
    pub(super) fn now(&self) -> Option<(f64, f64)> {
        let (first, last) = (self.samples.front()?, self.samples.back()?);
        let seconds = last.0.saturating_sub(first.0).as_secs_f64();
        let per_second = |from: u64, to: u64| to.saturating_sub(from) as f64 / seconds;
        (seconds > 0.0).then(|| (per_second(first.1, last.1), per_second(first.2, last.2)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_speed_is_that_of_the_last_half_minute() {
        let mut speed = Speed::since(Duration::ZERO);
        assert_eq!(speed.now(), None);
        speed.add(Duration::from_secs(1), 14, 0);
        assert_eq!(speed.now(), Some((14.0, 0.0)), "what ended before the first look counts");
        let mut speed = Speed::since(Duration::ZERO);
        for second in 0..=100 {
            speed.add(Duration::from_secs(second), second.min(50) * 4, second * 1000);
        }
        assert_eq!(speed.now(), Some((0.0, 1000.0)));
        assert!(speed.samples.len() < 35);
    }
}
