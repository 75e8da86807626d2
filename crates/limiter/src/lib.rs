//! The politeness arithmetic of longhaul.
//!
//! The pure part (always there) knows no runtime and reads no clock: [`Lane`] and [`Keying`] say which host a
//! request presses on, [`Pace`] says when the next one may start, [`LaneRules`] says what is configured for
//! whom, [`Controllers`] what a host says and shows about its own pace, [`Bounds`] what follows from all of
//! these, and [`PenaltyBox`] says how long a host that complained is left alone.
//!
//! The feature `rt` (default) adds what waits: the [`KeyedLimiter`], the [`TokenBucket`], the seam
//! [`Limits`] over both, and the [`SystemClock`].
//!
//! This crate holds no durable state. A lane's pace and cool-down live in the queue's store, which applies the
//! pure functions of this crate inside its own transactions.

mod bounds;
mod clock;
mod controllers;
mod lane;
mod pace;
mod penalty;
mod rules;
mod stated;

pub use bounds::Bounds;
pub use clock::{Clock, ManualClock};
pub use controllers::{Controller, Controllers, HostPace};
pub use lane::{Keying, Lane, LaneError, Role, host_key};
pub use pace::{Claim, Pace, PaceState, RateError, Scope, Window};
pub use penalty::PenaltyBox;
pub use rules::{LaneLimits, LaneRules, Paces};
pub use stated::{LimitDifference, StatedLimits};

#[cfg(feature = "rt")]
mod bucket;
#[cfg(feature = "rt")]
mod keyed;
#[cfg(feature = "rt")]
mod limits;
#[cfg(feature = "rt")]
mod sync;
#[cfg(feature = "rt")]
mod system_clock;
#[cfg(feature = "rt")]
pub use bucket::{BucketConfig, TokenBucket};
#[cfg(feature = "rt")]
pub use keyed::{Acquire, Key, KeyedLimiter, Permit};
#[cfg(feature = "rt")]
pub use limits::{ConfiguredLimits, LaneView, LimitError, LimitErrorKind, LimitPermit, Limits, NoLimits};
#[cfg(feature = "rt")]
pub use system_clock::SystemClock;

#[cfg(all(test, shuttle, feature = "rt"))]
mod interleavings;
