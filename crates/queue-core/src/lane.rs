//! What a lane is told by settlements, and what an operator sees of it.

use std::time::Duration;

use longhaul_limiter::Lane;
use serde::{Deserialize, Serialize};

use crate::Timestamp;

/// What a try learned about a host. Travels with the settlement, so that it is as durable as the outcome.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LaneReport {
    /// It answered as it should; failures in a row end, a lane that was closed reopens by one more slot.
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
    /// It asked to be left alone: the lane is closed. INV-COOLDOWN.
    Throttled {
        /// The lane that asked.
        lane: Lane,
        /// For how long, if it said; otherwise the penalty box decides. Capped at 24 hours.
        retry_after: Option<Duration>,
        /// What it said, for people.
        cause: String,
    },
}

impl LaneReport {
    /// The lane that the report is about.
    pub fn lane(&self) -> &Lane {
        match self {
            LaneReport::Served { lane }
            | LaneReport::Failed { lane, .. }
            | LaneReport::Throttled { lane, .. } => lane,
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
