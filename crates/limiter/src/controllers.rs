//! What a host says, and shows, about how often it wants to be asked: the controllers on a lane beside the configured
//! pace.
//!
//! Each is a shortest time between two starts, counted over all roles and all processes, since a host does not know
//! our roles. The slowest holds. All of it is one small value in the lane's row, changed by pure functions inside the
//! store's transactions; times are the store's.
//!
//! # The learned pace
//! It is additive increase and multiplicative decrease (Chiu and Jain, 1989; TCP; Netflix's concurrency-limits does the
//! same on a limit), on the pace and not on a window. At a refusal that closes the lane, with S requests served since it
//! opened, and T since the first of them:
//!
//! - If it was open for less time than it now closes, the pace was far off. The new one is S ÷ (T + closure): what the
//!   host has served over the whole circle. It is certainly borne. No host is known to count in windows below a second,
//!   so S ÷ max(T, 1 s) is no less than what it bears; that is the ceiling. A host that refuses because several came at
//!   once, and not because they came too often, bears more: the ceiling finds that out, but slowly.
//! - If the one request that goes first after a closure is refused, the closure was no closure of its own: T goes on,
//!   and the same estimate falls.
//! - Otherwise the pace was a little too high: pace and ceiling fall to four fifths, of what was learned before or else of
//!   S ÷ T. If the host served not even half of what it was asked at, they fall to a half.
//!
//! Each request served raises the pace by an eighth of what is missing to its ceiling, and the ceiling by a
//! 12,800th (one per cent in 128 requests), or by ever more once hundreds were served without a refusal, as after a drop
//! for another's sake. So a host that lets twenty a second through is asked a little below that within a few seconds, and
//! tried for more once in many hundred requests; and one whose pace was taken for a tenth of what it is has it back
//! after five thousand.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What decides how often requests to a lane may start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Controller {
    /// The pace that a process is configured to, or the strictest of those of several.
    Configured,
    /// `Crawl-delay` in the host's robots.txt.
    CrawlDelay,
    /// A limit that the host announces with its answers.
    Announced,
    /// What the host was seen to bear.
    Learned,
}

impl Controller {
    /// The name, as stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Controller::Configured => "configured",
            Controller::CrawlDelay => "crawl_delay",
            Controller::Announced => "announced",
            Controller::Learned => "learned",
        }
    }

    /// The longest time between two starts that is granted to whoever asks by this controller.
    fn longest(self) -> Duration {
        match self {
            Controller::CrawlDelay => Duration::from_mins(5),
            Controller::Configured | Controller::Announced | Controller::Learned => Duration::from_hours(24),
        }
    }
}

impl fmt::Display for Controller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A pace that a host's controller asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostPace {
    /// Who asks.
    pub controller: Controller,
    /// The shortest time between two starts.
    pub every: Duration,
    /// Until when it asks, since the store's epoch.
    pub until: Duration,
}

/// A rate in starts per 10⁹ seconds: fine enough for one a day, and whole, so that every store computes the same.
type Rate = u128;

const PER_SECOND: Rate = 1_000_000_000;
const SECOND: Duration = Duration::from_secs(1);
/// What was learned holds for so long after the last refusal.
const REMEMBERED: Duration = Duration::from_hours(7 * 24);
/// A host that served nothing for so long begins a new count of what it serves.
const QUIET: Duration = Duration::from_mins(1);
/// A host that bears as many a second needs no pace.
const NO_PACE: Rate = 2_000 * PER_SECOND;
/// The part of what is missing to the ceiling by which each request served raises the pace.
const APPROACH: Rate = 8;
/// The part by which each request served raises the ceiling,
const RAISE: Rate = 12_800;
/// or the part of this that was served since the lane opened, if that is more.
const RAISE_LATER: Rate = 5_000_000;

/// The controllers of one lane, as its row keeps them. The default has none. Serialises as a small JSON object.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Controllers {
    #[serde(skip_serializing_if = "Option::is_none")]
    crawl_delay: Option<Said>,
    #[serde(skip_serializing_if = "Option::is_none")]
    announced: Option<Said>,
    #[serde(skip_serializing_if = "Option::is_none")]
    learned: Option<Learned>,
    /// Since when requests served are counted, how many there were, and when the last was; milliseconds.
    since_ms: u64,
    served: u64,
    last_ms: u64,
}

/// What a host said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Said {
    every_us: u64,
    until_ms: u64,
}

/// What was learned of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Learned {
    rate: u64,
    ceiling: u64,
    until_ms: u64,
}

impl Controllers {
    /// The slowest that still holds at `now`, since the store's epoch.
    pub fn slowest(&self, now: Duration) -> Option<HostPace> {
        let said = [(Controller::CrawlDelay, self.crawl_delay), (Controller::Announced, self.announced)];
        let said = said.into_iter().filter_map(|(controller, said)| {
            let said = said?;
            Some(HostPace {
                controller,
                every: Duration::from_micros(said.every_us),
                until: Duration::from_millis(said.until_ms),
            })
        });
        let learned = self.learned.map(|learned| HostPace {
            controller: Controller::Learned,
            every: every(learned.rate.into()),
            until: Duration::from_millis(learned.until_ms),
        });
        said.chain(learned).filter(|pace| pace.until > now).max_by_key(|pace| pace.every)
    }

    /// The host asks for a shortest time between two starts, for so long from `now`. It replaces what it asked for before;
    /// zero takes it back. `Configured` and `Learned` are nothing that a host says, and change nothing.
    pub fn said(&mut self, controller: Controller, every: Duration, valid_for: Duration, now: Duration) {
        let said = (!every.is_zero()).then(|| Said {
            every_us: micros(every.min(controller.longest())),
            until_ms: millis(now.saturating_add(valid_for)),
        });
        match controller {
            Controller::CrawlDelay => self.crawl_delay = said,
            Controller::Announced => self.announced = said,
            Controller::Configured | Controller::Learned => {}
        }
    }

    /// The host answered as it should, while its lane was open. `reopened` says that it was closed, and this is the first
    /// answer since.
    pub fn served(&mut self, now: Duration, reopened: bool) {
        let now_ms = millis(now);
        let quiet = QUIET.max(self.learned.map_or(Duration::ZERO, |learned| every(learned.rate.into()) * 8));
        if reopened || self.served == 0 || now_ms.saturating_sub(self.last_ms) > millis(quiet) {
            (self.since_ms, self.served) = (now_ms, 0);
        }
        self.served += 1;
        self.last_ms = now_ms;
        if let Some(learned) = &mut self.learned {
            let (mut rate, mut ceiling) = (Rate::from(learned.rate), Rate::from(learned.ceiling));
            ceiling += (ceiling / RAISE).max(ceiling * Rate::from(self.served) / RAISE_LATER) + 1;
            rate += ceiling.saturating_sub(rate) / APPROACH;
            (learned.rate, learned.ceiling) = (narrow(rate), narrow(ceiling));
        }
        if self
            .learned
            .is_some_and(|learned| Rate::from(learned.rate) >= NO_PACE || learned.until_ms <= now_ms)
        {
            self.learned = None;
        }
    }

    /// The host asked for quiet while its lane was open, and is left alone for `closure` from `now` on. `first` says that
    /// it has served nothing since its last closure. Whoever served nothing at all is not judged.
    pub fn refused(&mut self, now: Duration, closure: Duration, first: bool) {
        if self.served == 0 {
            return;
        }
        let open = now.saturating_sub(Duration::from_millis(self.since_ms));
        let before = self.learned.filter(|learned| learned.until_ms > millis(now));
        let before = before.map_or(Rate::MAX, |learned| learned.rate.into());
        let served = Rate::from(self.served);
        let borne = per(served, open.max(SECOND)).max(1);
        let (rate, ceiling) = if !first && open >= closure {
            // A pace that rises was slower on average than in the end, so S ÷ T is no measure of it.
            let lowered = match before {
                Rate::MAX => borne / 5 * 4,
                before if borne < before / 2 => before / 2,
                before => before / 5 * 4,
            };
            (lowered.max(1), lowered.max(1))
        } else {
            let ceiling = borne.min(if first { before } else { before / 5 * 4 }).max(1);
            (per(served, open + closure).clamp(1, ceiling), ceiling)
        };
        let until_ms = millis(now.saturating_add(closure).saturating_add(REMEMBERED));
        self.learned = Some(Learned { rate: narrow(rate), ceiling: narrow(ceiling), until_ms });
    }

    /// Whether nothing is known: such a value need not be kept.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// So many starts in so long.
fn per(starts: Rate, length: Duration) -> Rate {
    starts * PER_SECOND * 1_000_000 / length.as_micros().max(1)
}

/// The time between two starts of a rate, never more than a controller may ask for.
fn every(rate: Rate) -> Duration {
    let longest = Controller::Learned.longest();
    let micros = PER_SECOND * 1_000_000 / rate.max(1);
    u64::try_from(micros).map_or(longest, Duration::from_micros).min(longest)
}

fn narrow(rate: Rate) -> u64 {
    u64::try_from(rate).unwrap_or(u64::MAX)
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
