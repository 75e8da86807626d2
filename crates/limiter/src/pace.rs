//! Paces: how often requests to a lane may start.
//!
//! A pace is a set of windows that all hold at once (`2/s+500/h`). Each window is a GCRA (the generic cell rate
//! algorithm of ATM traffic management, ITU-T I.371): one timestamp, the *theoretical arrival time*. Everything
//! here is pure: the caller says what time it is and keeps the state, so that memory, SQLite, PostgreSQL and a
//! simulator share the same arithmetic.
//!
//! # Why an interval is what it is
//! A window of N per UNIT with burst b has the interval T = UNIT / (N − b + 1): in any UNIT at most
//! b + (N − b) = N requests start. Servers count *arrivals*, and arrivals jitter; so T is stretched by a tenth.
//! Over one UNIT that leaves UNIT / 10 by which the first of N + 1 requests would have to be late before a server
//! could count N + 1; a grant may therefore be used up to half of that, UNIT / 20, after its time
//! ([`Pace::start_within`]), and the other half is the network's. A holder that is later than that does not lose its turn:
//! its grant is taken back and counted anew, at the time at which it is ready ([`PaceState`]).

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{Bounds, Role};

mod state;

pub use state::{Claim, PaceState};
pub(crate) use state::{host_key, window_key};

/// By how much an interval is stretched: eleven tenths.
const STRETCH_NUMERATOR: u32 = 11;
const STRETCH_DENOMINATOR: u32 = 10;

/// At most `limit` starts in any `unit`, of which `burst` may come at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Window {
    limit: u32,
    unit: Duration,
    burst: u32,
}

impl Window {
    /// A window; `burst` is brought into `1..=limit`.
    ///
    /// # Errors
    /// If `limit` is 0, or `unit` is shorter than a millisecond or longer than 366 days.
    pub fn new(limit: u32, unit: Duration, burst: u32) -> Result<Self, RateError> {
        if limit == 0 {
            return Err(RateError::new("a rate of 0 would never let anything start; use `queue pause`"));
        }
        if unit < Duration::from_millis(1) || unit > Duration::from_hours(366 * 24) {
            return Err(RateError::new("the unit of a rate lies between 1 ms and 366 days"));
        }
        Ok(Self { limit, unit, burst: burst.clamp(1, limit) })
    }

    /// How many may start in any [`Window::unit`].
    pub fn limit(&self) -> u32 {
        self.limit
    }

    /// The length of the window.
    pub fn unit(&self) -> Duration {
        self.unit
    }

    /// How many may start at once after a quiet time.
    pub fn burst(&self) -> u32 {
        self.burst
    }

    /// The time between two starts once the burst is used up, stretched (see the module).
    pub fn interval(&self) -> Duration {
        self.unit * STRETCH_NUMERATOR / STRETCH_DENOMINATOR / (self.limit - self.burst + 1)
    }

    /// How far ahead of now the theoretical arrival time may lie for a start to be allowed.
    fn tolerance(&self) -> Duration {
        self.interval() * (self.burst - 1)
    }

    /// The earliest time at which a start is allowed, given the theoretical arrival time.
    pub(crate) fn open_at(&self, tat: Duration) -> Duration {
        tat.saturating_sub(self.tolerance())
    }

    /// Of two windows of the same length the one that lets less through.
    pub(crate) fn stricter(&self, other: &Window) -> Window {
        if (other.limit, other.burst) < (self.limit, self.burst) { *other } else { *self }
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/", self.limit)?;
        let named = [(1, "s"), (60, "min"), (3600, "h"), (86400, "d")];
        for (seconds, name) in named.into_iter().rev() {
            let unit = Duration::from_secs(seconds);
            if self.unit >= unit && (self.unit.as_nanos()).is_multiple_of(unit.as_nanos()) {
                let many = self.unit.as_secs() / seconds;
                return if many == 1 { write!(f, "{name}") } else { write!(f, "{many}{name}") };
            }
        }
        write!(f, "{}s", self.unit.as_secs_f64())
    }
}

/// Which requests share one count: those of one role, or all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// One count for all roles of the lane.
    Shared,
    /// A count of the role's own.
    Role(Role),
}

impl Scope {
    fn as_str(self) -> &'static str {
        match self {
            Scope::Shared => "all",
            Scope::Role(role) => role.as_str(),
        }
    }
}

/// Several windows that all hold at once. The default has none: no pace.
///
/// Parsed from and shown as `2/s+500/h`, `1/3s`, `300/min`, or `off`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Pace {
    windows: Vec<Window>,
}

impl Pace {
    /// No pace at all.
    pub const OFF: Pace = Pace { windows: Vec::new() };

    /// A pace of several windows. The shortest gets a burst of 1, the others ⌈N/2⌉, whatever they had.
    pub fn of(windows: impl IntoIterator<Item = Window>) -> Self {
        let mut windows: Vec<Window> = windows.into_iter().collect();
        windows.sort_by_key(|window| window.unit);
        for (index, window) in windows.iter_mut().enumerate() {
            window.burst = if index == 0 { 1 } else { window.limit.div_ceil(2) };
        }
        Self { windows }
    }

    /// The windows, shortest first.
    pub fn windows(&self) -> &[Window] {
        &self.windows
    }

    /// Whether there is no window.
    pub fn is_off(&self) -> bool {
        self.windows.is_empty()
    }

    /// The earliest time at which the next start is allowed; at most `now` if it is allowed now.
    ///
    /// All times are since the store's epoch.
    pub fn open_at(&self, state: &PaceState, scope: Scope) -> Duration {
        Bounds::of(self, scope).open_at(state)
    }

    /// Counts one start at `now` if every window allows it, and says whether they did. Nothing is counted
    /// otherwise. INV-PACE.
    pub fn admit(&self, state: &mut PaceState, scope: Scope, now: Duration) -> bool {
        Bounds::of(self, scope).admit(state, now)
    }

    /// How long after its time a start may still happen (see the module); `None` without a pace.
    pub fn start_within(&self) -> Option<Duration> {
        self.windows.first().map(|window| window.unit / 20)
    }
}

impl fmt::Display for Pace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_off() {
            return f.write_str("off");
        }
        for (index, window) in self.windows.iter().enumerate() {
            write!(f, "{}{window}", if index == 0 { "" } else { "+" })?;
        }
        Ok(())
    }
}

impl FromStr for Pace {
    type Err = RateError;

    fn from_str(text: &str) -> Result<Self, RateError> {
        if text.trim().eq_ignore_ascii_case("off") {
            return Ok(Self::OFF);
        }
        let windows = text.split('+').map(|part| parse_window(part.trim())).collect::<Result<Vec<_>, _>>()?;
        Ok(Self::of(windows))
    }
}

impl TryFrom<String> for Pace {
    type Error = RateError;
    fn try_from(text: String) -> Result<Self, RateError> {
        text.parse()
    }
}

impl From<Pace> for String {
    fn from(pace: Pace) -> Self {
        pace.to_string()
    }
}

fn parse_window(text: &str) -> Result<Window, RateError> {
    let wrong = |why: &str| {
        RateError::new(&format!("{text:?} is not a rate: {why}; write `2/s`, `1/3s`, `500/h` or `off`"))
    };
    let (count, unit) = text.split_once('/').ok_or_else(|| wrong("the `/` is missing"))?;
    let limit: u32 =
        count.trim().parse().map_err(|_| wrong("the number before the `/` is not a whole number"))?;
    let unit = unit.trim();
    let split = unit.find(|c: char| c.is_ascii_alphabetic()).ok_or_else(|| wrong("the unit is missing"))?;
    let (many, name) = unit.split_at(split);
    let many: f64 = match many.trim() {
        "" => 1.0,
        many => many.parse().map_err(|_| wrong("the number before the unit is not a number"))?,
    };
    let seconds = match name {
        "ms" => 0.001,
        "s" | "sec" | "second" => 1.0,
        "m" | "min" | "minute" => 60.0,
        "h" | "hour" => 3600.0,
        "d" | "day" => 86400.0,
        _ => return Err(wrong("the unit is not one of ms, s, min, h, d")),
    };
    let unit = Duration::try_from_secs_f64(many * seconds).map_err(|_| wrong("the unit is out of range"))?;
    Window::new(limit, unit, 1)
}

/// Why a text is not a rate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct RateError(String);

impl RateError {
    fn new(why: &str) -> Self {
        Self(why.to_owned())
    }
}

#[cfg(test)]
mod tests;
