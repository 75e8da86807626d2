//! What the starts at many hosts show, as the hosts saw them arrive: how long they took together, and how polite they
//! were.

use std::collections::BTreeMap;
use std::time::Duration;

/// When artifacts were asked for, by host, in microseconds since the origin's start.
#[derive(Debug, Clone, Default)]
pub struct Starts(BTreeMap<String, Vec<u64>>);

impl Starts {
    /// Of these arrivals.
    pub fn new(mut arrivals: BTreeMap<String, Vec<u64>>) -> Self {
        for host in arrivals.values_mut() {
            host.sort_unstable();
        }
        Self(arrivals)
    }

    /// All of them.
    pub fn count(&self) -> usize {
        self.0.values().map(Vec::len).sum()
    }

    /// By host.
    pub fn by_host(&self) -> &BTreeMap<String, Vec<u64>> {
        &self.0
    }

    /// From the first to the last at any host.
    pub fn makespan(&self) -> Duration {
        let first = self.0.values().filter_map(|host| host.first()).min();
        let last = self.0.values().filter_map(|host| host.last()).max();
        Duration::from_micros(first.zip(last).map_or(0, |(first, last)| last - first))
    }

    /// The most at one host within any window of this length. Two that are exactly as far apart do not share one.
    pub fn most_within(&self, window: Duration) -> usize {
        self.0.values().map(|host| most_within(host, window)).max().unwrap_or(0)
    }

    /// At each host: the fewest starts without which at most `most` were within any window of this length. Of all hosts
    /// the most.
    pub fn worst_beyond(&self, most: usize, window: Duration) -> usize {
        self.0.values().map(|host| beyond(host, most, window)).max().unwrap_or(0)
    }

    /// Starts a second, at all hosts together, after the first second.
    pub fn rate_after_a_second(&self) -> f64 {
        let mut all: Vec<u64> = self.0.values().flatten().copied().collect();
        all.sort_unstable();
        let Some((first, last)) = all.first().zip(all.last()) else { return 0.0 };
        let from = first + 1_000_000;
        let later = all.iter().filter(|at| **at > from).count();
        later as f64 / (last.saturating_sub(from).max(1) as f64 / 1e6)
    }
}

fn most_within(sorted: &[u64], window: Duration) -> usize {
    let window = window.as_micros() as u64;
    let within = |(index, start): (usize, &u64)| sorted[index..].partition_point(|at| at - start < window);
    sorted.iter().enumerate().map(within).max().unwrap_or(0)
}

fn beyond(sorted: &[u64], most: usize, window: Duration) -> usize {
    let window = window.as_micros() as u64;
    let mut kept: Vec<u64> = Vec::new();
    for at in sorted {
        let within = kept.iter().rev().take_while(|earlier| at - **earlier < window).count();
        if within < most {
            kept.push(*at);
        }
    }
    sorted.len() - kept.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn starts(hosts: &[&[u64]]) -> Starts {
        let host = |(index, host): (usize, &&[u64])| (format!("h{index}"), host.to_vec());
        Starts::new(hosts.iter().enumerate().map(host).collect())
    }

    #[test]
    fn the_makespan_is_that_of_all_hosts_together() {
        assert_eq!(starts(&[&[5, 9], &[], &[2, 7]]).makespan(), Duration::from_micros(7));
        assert_eq!(starts(&[]).makespan(), Duration::ZERO);
    }

    #[test]
    fn a_window_slides_and_does_not_hold_its_own_end() {
        let second = Duration::from_secs(1);
        assert_eq!(starts(&[&[0, 999_999, 1_000_000]]).most_within(second), 2);
        assert_eq!(starts(&[&[0, 999_998, 999_999]]).most_within(second), 3);
        assert_eq!(starts(&[&[0], &[0, 5]]).most_within(second), 2, "hosts are counted for themselves");
    }

    #[test]
    fn what_is_beyond_a_pace_is_what_would_have_to_go() {
        let second = Duration::from_secs(1);
        let worst = |host: &[u64]| starts(&[host]).worst_beyond(2, second);
        assert_eq!(worst(&[0, 500_000, 1_000_000, 1_500_000]), 0);
        assert_eq!(worst(&[0, 500_000, 990_000, 1_000_000, 1_500_000]), 1);
        assert_eq!(worst(&[0, 1, 2, 3]), 2);
    }

    #[test]
    fn the_first_second_is_left_out_of_the_rate() {
        let starts = starts(&[&[0, 1, 2, 1_500_000, 2_000_000, 3_000_000]]);
        assert!((starts.rate_after_a_second() - 1.5).abs() < 1e-9);
    }
}
