//! When a start is granted for, and when a lane that cannot give one is worth another look. Pure, and the same in every
//! store.

use std::time::Duration;

use longhaul_limiter::{Bounds, Claim, PaceState, Role};

use crate::Timestamp;

/// No process reckons with a longer time from a grant to its start.
pub const LEAD_MAX: Duration = Duration::from_millis(200);
/// No start comes later than this after it was granted (INV-COOLDOWN),
const START_WITHIN_MAX: Duration = Duration::from_millis(250);
/// and none that is paced later than this after its time.
const LATE_MAX: Duration = Duration::from_millis(100);
/// Time after which the store looks again at a lane that waits for earlier grants, if no start and no end was told.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// When a granted start may happen, counted from the store's time at which it was granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StartWindow {
    pub(crate) after: Duration,
    pub(crate) within: Duration,
}

impl StartWindow {
    /// At once, where nothing paces.
    pub(crate) const UNPACED: Self = Self { after: Duration::ZERO, within: START_WITHIN_MAX };
    /// No more: a batch that is answered again was granted too long ago.
    pub(crate) const OVER: Self = Self { after: Duration::ZERO, within: Duration::ZERO };
}

/// Grants a claim a start in a role of a lane, if its pace allows that within `lead` from `now` (INV-PACE), or within
/// `horizon` where that is longer and its holder would rather wait. Whether earlier grants have to be waited for is for a
/// lease to ask ([`Bounds::has_room`]): an admission starts at once, so it is never what a late holder finds in its way again
/// and again.
pub(crate) fn grant(
    bounds: &Bounds,
    pace: &mut PaceState,
    (claim, role): (Claim, Role),
    now: Timestamp,
    (lead, horizon): (Duration, Duration),
) -> Option<StartWindow> {
    let now = now.since_epoch();
    let at = bounds.start_at(pace, now, lead.min(LEAD_MAX), lead.max(horizon).min(furthest(bounds)))?;
    let Some(within) = start_within(bounds) else { return Some(StartWindow::UNPACED) };
    pace.forget_before(now);
    let after = at.saturating_sub(now);
    let within = after + within;
    bounds.grant(pace, claim, role, at).then_some(StartWindow { after, within })
}

/// When a role of a lane is worth a visit by a process with this lead: a lower bound on when it may give.
pub(crate) fn visit_at(bounds: &Bounds, pace: &PaceState, now: Timestamp, lead: Duration) -> Timestamp {
    if waits_for_a_start(bounds, pace, now, lead) {
        now.plus(LOOK_AGAIN)
    } else {
        opens_at(bounds, pace, lead)
    }
}

/// Whether nothing but an earlier grant, which may still be used, keeps a role of a lane from giving.
pub(crate) fn waits_for_a_start(bounds: &Bounds, pace: &PaceState, now: Timestamp, lead: Duration) -> bool {
    opens_at(bounds, pace, lead) <= now && !bounds.has_room(pace)
}

/// When the pace lets a process with this lead be given a start.
fn opens_at(bounds: &Bounds, pace: &PaceState, lead: Duration) -> Timestamp {
    Timestamp::at_least(bounds.open_at(pace).saturating_sub(lead.min(furthest(bounds))))
}

/// How long after its time a start may happen; `None` where nothing paces.
fn start_within(bounds: &Bounds) -> Option<Duration> {
    bounds.start_within().map(|within| within.min(LATE_MAX))
}

/// How far ahead a start may be granted: as far as the last moment at which it may happen.
fn furthest(bounds: &Bounds) -> Duration {
    START_WITHIN_MAX.saturating_sub(start_within(bounds).unwrap_or_default())
}

/// Before a claim is granted another start in the windows of `bounds`: what it was granted there for the role `unused` is
/// taken back, and all else has been used, since a job makes one request at a time. True if something changed.
pub(crate) fn ask_anew(bounds: &Bounds, pace: &mut PaceState, claim: Claim, unused: Option<Role>) -> bool {
    let taken_back = unused.is_some_and(|role| pace.take_back_from(claim, role, bounds));
    pace.spent_in(claim, bounds) || taken_back
}
