//! What happened when, in a fixed number of buckets that become wider as the run goes on.

use std::time::Duration;

/// So many buckets there are at most.
const BUCKETS: usize = 480;

/// The width that they begin with: enough for 48 seconds.
const FIRST_WIDTH: Duration = Duration::from_millis(100);

/// What happened in one bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Bucket {
    pub(super) done: u64,
    pub(super) skipped: u64,
    pub(super) error: u64,
    /// Requests that started.
    pub(super) requests: u64,
    /// Answers that asked for quiet, 429 or 503.
    pub(super) throttled: u64,
    /// Bytes that arrived.
    pub(super) bytes: u64,
}

impl Bucket {
    fn add(&mut self, other: &Self) {
        self.done += other.done;
        self.skipped += other.skipped;
        self.error += other.error;
        self.requests += other.requests;
        self.throttled += other.throttled;
        self.bytes += other.bytes;
    }
}

/// The buckets from the run's beginning to the last event. Sums are exact, times are as fine as the width.
#[derive(Debug)]
pub(super) struct Timeline {
    width: Duration,
    buckets: Vec<Bucket>,
}

impl Default for Timeline {
    fn default() -> Self {
        Self { width: FIRST_WIDTH, buckets: Vec::new() }
    }
}

impl Timeline {
    /// The bucket of a time since the run's beginning.
    pub(super) fn at(&mut self, since: Duration) -> &mut Bucket {
        while since.as_nanos() / self.width.as_nanos() >= BUCKETS as u128 {
            self.coarsen();
        }
        let index = (since.as_nanos() / self.width.as_nanos()) as usize;
        if self.buckets.len() <= index {
            self.buckets.resize(index + 1, Bucket::default());
        }
        &mut self.buckets[index]
    }

    /// How wide each is.
    pub(super) fn width(&self) -> Duration {
        self.width
    }

    pub(super) fn buckets(&self) -> &[Bucket] {
        &self.buckets
    }

    /// Two become one.
    fn coarsen(&mut self) {
        self.width *= 2;
        let pairs = self.buckets.chunks(2).map(|pair| {
            let mut sum = pair[0];
            pair[1..].iter().for_each(|other| sum.add(other));
            sum
        });
        self.buckets = pairs.collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inv_bounded_buckets_become_wider_and_lose_nothing() {
        let mut timeline = Timeline::default();
        let week = 7 * 24 * 3600;
        for second in (0..week).step_by(60) {
            timeline.at(Duration::from_secs(second)).done += 1;
        }
        assert!(timeline.buckets().len() <= BUCKETS && timeline.buckets().len() > BUCKETS / 2);
        assert_eq!(timeline.buckets().iter().map(|bucket| bucket.done).sum::<u64>(), week / 60);
        let first = timeline.buckets()[0].done;
        assert_eq!(first, timeline.width().as_secs().div_ceil(60), "as many as there are minutes in it");
    }

    #[test]
    fn a_leap_of_the_clock_is_a_few_doublings() {
        let mut timeline = Timeline::default();
        timeline.at(Duration::ZERO).done = 1;
        timeline.at(Duration::from_hours(1_000_000)).done = 1;
        assert_eq!(timeline.buckets().iter().map(|bucket| bucket.done).sum::<u64>(), 2);
    }
}
