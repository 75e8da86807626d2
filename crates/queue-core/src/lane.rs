//! What a lane is told by settlements, and what an operator sees of it.

use std::borrow::Cow;
use std::time::Duration;

use longhaul_limiter::{Controller, HostPace, Lane, Role};
use serde::{Deserialize, Serialize};

use crate::Timestamp;

/// What a try learned about a host. Travels with the settlement, so that it is as durable as the outcome.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LaneReport {
    /// It answered as it should; failures in a row end, a lane that was closed reopens by one more slot, and one that was
    /// given more slowly is given a little faster.
    Served {
        /// The lane that answered.
        lane: Lane,
    },
    /// It did not (5xx, reset, timeout): five in a row are a strike, and close the lane as a throttling without
    /// `retry_after` does. So is a single one in a lane that was closed and has answered fewer than four times since.
    Failed {
        /// The lane that failed.
        lane: Lane,
        /// What it did, for people.
        cause: String,
    },
    /// It asked to be left alone: the lane is closed (INV-COOLDOWN), and gives more slowly afterwards if it was open.
    Throttled {
        /// The lane that asked.
        lane: Lane,
        /// For how long, if it said; otherwise the penalty box decides. Capped at 24 hours. If it refuses the one request
        /// that goes first after a closure, it has named too short a time, and the penalty box decides if that is longer.
        retry_after: Option<Duration>,
        /// What it said, for people.
        cause: String,
    },
    /// It asks for a pace: no two requests to the lane start closer to each other, over all roles and processes. The
    /// slowest that is asked for holds beside what is configured.
    Paced {
        /// The lane that is meant.
        lane: Lane,
        /// By what it asks: `CrawlDelay` (at most 5 minutes) or `Announced` (at most a day); each replaces what the same
        /// one asked for before. Others say nothing.
        controller: Controller,
        /// The shortest time between two starts; zero takes back what was asked for.
        every: Duration,
        /// For how long from the commit on.
        valid_for: Duration,
    },
    /// No request was made of the start that the lease counted: the lane's paces take it back. Of any other lane than the one that the job was leased for it says nothing.
    Unused {
        /// The lane that the job was leased for.
        lane: Lane,
        /// And what for.
        role: Role,
    },
}

/// A pace that a lane's host asks for, as an operator sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LanePace {
    /// By what it asks.
    pub controller: Controller,
    /// The shortest time between two starts, in microseconds.
    pub every_us: u64,
    /// Until when, wall time.
    pub until: Timestamp,
}

/// As the store counts time.
impl From<HostPace> for LanePace {
    fn from(pace: HostPace) -> Self {
        Self {
            controller: pace.controller,
            every_us: u64::try_from(pace.every.as_micros()).unwrap_or(u64::MAX),
            until: Timestamp::at_least(pace.until),
        }
    }
}

impl LaneReport {
    /// No host closes its lane for longer.
    pub const LONGEST_CLOSURE: Duration = Duration::from_hours(24);

    /// Why a lane is struck that asked for quiet: a time that is not the host's own is said to be ours.
    pub(crate) fn why_struck(cause: &str, said: Option<Duration>) -> Cow<'_, str> {
        match said {
            None => Cow::Borrowed(cause),
            Some(_) => Cow::Owned(format!(
                "{cause}; longer than it asked for, because it refused the first request after a closure"
            )),
        }
    }

    /// The lane that the report is about.
    pub fn lane(&self) -> &Lane {
        match self {
            LaneReport::Served { lane }
            | LaneReport::Failed { lane, .. }
            | LaneReport::Throttled { lane, .. }
            | LaneReport::Paced { lane, .. }
            | LaneReport::Unused { lane, .. } => lane,
        }
    }
}

/// A lane that settlements closed, or closed for longer than it was: a host asked for quiet, or failed too often.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaneClosure {
    /// The host key.
    pub lane: Lane,
    /// For how long from the commit on.
    pub length: Duration,
    /// What the host did, for people.
    pub cause: String,
}

/// A lane as an operator sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaneRow {
    /// The host key.
    pub lane: Lane,
    /// Queued jobs; exact up to 1,000, then 1,001.
    pub queued: u64,
    /// Those of them whose own time has come.
    pub ready: u64,
    /// Slots taken by live leases.
    pub in_flight: u32,
    /// How many slots the lane gives at the moment because it was closed and reopens step by step; `None` if it
    /// gives what is configured.
    pub reopening: Option<u32>,
    /// The slowest pace that its host asks for or was seen to bear; `None` if there is none beside what is configured.
    pub pace: Option<LanePace>,
    /// Until when it is closed, wall time; `None` if it is not.
    pub closed_until: Option<Timestamp>,
    /// Why it is closed.
    pub cause: Option<String>,
    /// Until when it is paused by an operator, wall time; [`Timestamp::NEVER`] without an end.
    pub paused_until: Option<Timestamp>,
    /// Who paused it and why.
    pub pause_reason: Option<String>,
    /// When it may give next, wall time; `None` if only an event can open it or nothing is queued.
    pub open_at: Option<Timestamp>,
}
