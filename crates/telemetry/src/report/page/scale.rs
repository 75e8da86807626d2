//! Axes: where their ticks are and what stands at them.

use std::time::Duration;

use crate::human::duration;

/// Steps of time that people count in, in seconds.
const TIMES: [f64; 27] = [
    0.1,
    0.2,
    0.5,
    1.0,
    2.0,
    5.0,
    10.0,
    15.0,
    30.0,
    60.0,
    120.0,
    300.0,
    600.0,
    900.0,
    1800.0,
    3600.0,
    7200.0,
    10_800.0,
    21_600.0,
    43_200.0,
    86_400.0,
    172_800.0,
    432_000.0,
    864_000.0,
    1_728_000.0,
    4_320_000.0,
    8_640_000.0,
];

/// An axis from zero.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Axis {
    /// Where it ends.
    pub(super) end: f64,
    /// Where its ticks are, zero among them.
    pub(super) ticks: Vec<f64>,
}

impl Axis {
    /// For numbers up to `most`: a little longer than that, with about `wanted` ticks at 1, 2 or 5 times a power of
    /// `base` (10, or 2 for bytes). With `whole`, none is a fraction.
    pub(super) fn of(most: f64, wanted: u32, base: Base, whole: bool) -> Self {
        let most = if most > 0.0 { most } else { 1.0 };
        let mut step = base.step(most / f64::from(wanted));
        if whole {
            step = step.max(1.0);
        }
        let ticks = (most / step).ceil().max(1.0);
        Self { end: ticks * step, ticks: (0..=ticks as u32).map(|tick| f64::from(tick) * step).collect() }
    }

    /// For the time of a run: it ends where the run ends.
    pub(super) fn of_time(seconds: f64, wanted: u32) -> Self {
        let end = if seconds > 0.0 { seconds } else { 1.0 };
        let rough = end / f64::from(wanted);
        let step = TIMES.into_iter().find(|step| *step >= rough).unwrap_or(rough);
        let ticks = (end / step).floor() as u32;
        Self { end, ticks: (0..=ticks).map(|tick| f64::from(tick) * step).collect() }
    }
}

/// In which steps is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Base {
    /// 1, 2, 5, 10, 20, …
    Ten,
    /// 1, 2, 4, 8, …
    Two,
}

impl Base {
    fn step(self, rough: f64) -> f64 {
        match self {
            Base::Two => rough.log2().ceil().exp2(),
            Base::Ten => {
                let power = 10f64.powf(rough.log10().floor());
                [1.0, 2.0, 5.0, 10.0]
                    .map(|times| times * power)
                    .into_iter()
                    .find(|step| *step >= rough * 0.999)
                    .unwrap_or(rough)
            }
        }
    }
}

/// `0`, `1.5`, `12,000`
pub(super) fn number(value: f64) -> String {
    if value.fract() == 0.0 {
        crate::human::count(value as u64)
    } else {
        format!("{value:.1}").trim_end_matches(".0").to_owned()
    }
}

/// `0`, `30s`, `1m 30s`
pub(super) fn time(seconds: f64) -> String {
    if seconds == 0.0 {
        "0".to_owned()
    } else {
        duration(Duration::try_from_secs_f64(seconds).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_at_round_numbers_and_hold_the_most() {
        let ticks = |most, whole| Axis::of(most, 4, Base::Ten, whole).ticks;
        assert_eq!(ticks(1900.0, true), [0.0, 500.0, 1000.0, 1500.0, 2000.0]);
        assert_eq!(ticks(2.0, true), [0.0, 1.0, 2.0]);
        assert_eq!(ticks(2.0, false), [0.0, 0.5, 1.0, 1.5, 2.0]);
        assert_eq!(ticks(0.0, true), [0.0, 1.0]);
        assert_eq!(Axis::of(3e6, 3, Base::Two, true).ticks.last(), Some(&3_145_728.0));
    }

    #[test]
    fn times_are_counted_as_people_count_them() {
        assert_eq!(Axis::of_time(72.0, 8).ticks.last(), Some(&70.0));
        assert_eq!(Axis::of_time(3600.0 * 24.0 * 9.0, 8).ticks.get(1), Some(&172_800.0));
        assert_eq!(Axis::of_time(0.0, 8).ticks.last(), Some(&1.0));
        assert_eq!([0.0, 0.5, 90.0, 86_400.0].map(time), ["0", "0.5s", "1m 30s", "1d"]);
        assert_eq!([0.0, 1.5, 12_000.0].map(number), ["0", "1.5", "12,000"]);
    }
}
