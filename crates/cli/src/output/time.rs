//! Times: RFC 3339 for programs, how long ago for people.

use std::time::Duration;

use longhaul_limiter::Clock;
use longhaul_queue_core::Timestamp;

use super::duration;

/// A wall time as RFC 3339, in UTC and always to the millisecond, so that texts sort as times do: `2026-01-31T12:00:00.250Z`.
/// `None` for one that never comes.
pub(crate) fn rfc3339(at: Timestamp) -> Option<String> {
    jiff::Timestamp::from_millisecond(at.0).ok().map(|time| format!("{time:.3}"))
}

/// The wall time now.
pub(crate) fn wall(clock: &dyn Clock) -> Timestamp {
    let since = clock.wall().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Timestamp::default().plus(since)
}

/// How far from now a time is, as people say it: `in 5m`, `3h 10m ago`, `now`, `never`.
pub(crate) fn from_now(at: Timestamp, now: Timestamp) -> String {
    if at == Timestamp::NEVER {
        return "never".to_owned();
    }
    let apart = Duration::from_millis(at.0.abs_diff(now.0));
    match duration(apart) {
        apart if apart == "0s" => "now".to_owned(),
        apart if at > now => format!("in {apart}"),
        apart => format!("{apart} ago"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_get_rfc_3339_and_people_how_far_it_is() {
        let at = Timestamp(1_769_860_800_250);
        assert_eq!(rfc3339(at).as_deref(), Some("2026-01-31T12:00:00.250Z"));
        assert_eq!(rfc3339(Timestamp::NEVER), None);
        let shown = |millis: i64| from_now(Timestamp(at.0 + millis), at);
        assert_eq!([0, 300_000, -11_400_000].map(shown), ["now", "in 5m", "3h 10m ago"]);
        assert_eq!(from_now(Timestamp::NEVER, at), "never");
    }
}
