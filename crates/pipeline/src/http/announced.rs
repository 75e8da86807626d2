//! The limit that a host announces with its answers.
//!
//! Read are `X-Rate-Limit-Limit` with `X-Rate-Limit-Interval` (Crossref's), and the `RateLimit-Policy` and `RateLimit`
//! fields of the IETF's draft (draft-ietf-httpapi-ratelimit-headers-10, sections 3 and 4). What cannot be read says
//! nothing.

use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderName};

use super::answer;

/// What an answer without its own end is believed for; the next one renews it.
const VALID_FOR: Duration = Duration::from_hours(1);
/// Nothing that is announced holds longer, or keeps two requests further apart.
const MOST: Duration = Duration::from_hours(24);

const LIMIT: HeaderName = HeaderName::from_static("x-rate-limit-limit");
const INTERVAL: HeaderName = HeaderName::from_static("x-rate-limit-interval");
const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const REMAINING: HeaderName = HeaderName::from_static("ratelimit");

/// A pace that a host asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Announced {
    /// The shortest time between two starts.
    pub(super) every: Duration,
    /// For how long.
    pub(super) valid_for: Duration,
}

/// The slowest pace that an answer announces. A quota for a time is spread evenly over it.
pub(super) fn read(headers: &HeaderMap) -> Option<Announced> {
    let all = |name: &HeaderName| {
        headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok()).flat_map(items)
    };
    let policies =
        all(&POLICY).filter_map(|item| Some((number(item, "q")?, seconds(number(item, "w")?), VALID_FOR)));
    let left = all(&REMAINING).filter_map(|item| {
        let rest = seconds(number(item, "t")?);
        Some((number(item, "r")?, rest, rest))
    });
    let paces =
        crossref(headers).into_iter().chain(policies).chain(left).map(|(quota, length, valid_for)| {
            let quota = u32::try_from(quota).unwrap_or(u32::MAX).max(1);
            Announced { every: (length / quota).min(MOST), valid_for: valid_for.min(MOST) }
        });
    paces.filter(|pace| !pace.every.is_zero()).max_by_key(|pace| pace.every)
}

/// `X-Rate-Limit-Limit: 50` and `X-Rate-Limit-Interval: 1s`; an interval without a unit is in seconds.
fn crossref(headers: &HeaderMap) -> Option<(u64, Duration, Duration)> {
    let quota = answer::text(headers, &LIMIT)?.trim().parse().ok().filter(|quota| *quota > 0)?;
    let interval = answer::text(headers, &INTERVAL)?.trim();
    let (many, unit) = interval.split_at(interval.trim_end_matches(|c: char| c.is_ascii_alphabetic()).len());
    let unit = match unit {
        "ms" => Duration::from_millis(1),
        "" | "s" => Duration::from_secs(1),
        "m" | "min" => Duration::from_mins(1),
        "h" => Duration::from_hours(1),
        _ => return None,
    };
    let many: u32 = many.trim().parse().ok()?;
    Some((quota, unit.saturating_mul(many), VALID_FOR))
}

/// The members of a structured list (RFC 9651): commas and semicolons within a quoted name are part of it, and a
/// name that is cut by one has no parameters that are read.
fn items(value: &str) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    value.split(move |c: char| {
        quoted ^= c == '"';
        c == ',' && !quoted
    })
}

/// A parameter of a member, as a whole number that is not negative.
fn number(item: &str, name: &str) -> Option<u64> {
    // The name of the policy comes first, and may be quoted.
    let parameters = item.rfind('"').map_or(item, |end| &item[end..]);
    let mut parameters = parameters.split(';').skip(1).filter_map(|one| one.trim().split_once('='));
    parameters.find(|(key, _)| *key == name)?.1.trim().parse().ok()
}

fn seconds(many: u64) -> Duration {
    Duration::from_secs(many)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use proptest::prelude::*;

    use super::*;

    fn check(headers: &[(&'static str, &str)], expect: Option<(u64, u64)>) {
        let named = headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()))
            .collect::<HeaderMap>();
        let found = read(&named).map(|pace| (pace.every.as_millis(), pace.valid_for.as_secs()));
        let expect = expect.map(|(every, valid)| (u128::from(every), valid));
        assert_eq!(found, expect, "{headers:?}");
    }

    #[test]
    fn crossrefs_limit_and_interval() {
        let limit = ("x-rate-limit-limit", "50");
        check(&[limit, ("x-rate-limit-interval", "1s")], Some((20, 3600)));
        check(&[limit, ("x-rate-limit-interval", "10")], Some((200, 3600)));
        check(&[("x-rate-limit-limit", "5"), ("x-rate-limit-interval", "1m")], Some((12_000, 3600)));
        check(&[limit], None);
        check(&[limit, ("x-rate-limit-interval", "soon")], None);
        check(&[("x-rate-limit-limit", "0"), ("x-rate-limit-interval", "1s")], None);
    }

    #[test]
    fn the_policies_of_the_draft_the_slowest_holds() {
        check(&[("ratelimit-policy", "\"burst\";q=100;w=60, \"day\";q=1000;w=86400")], Some((86_400, 3600)));
        check(&[("ratelimit-policy", "\"a;q=1;w=9,b\"; q=10; w=1")], Some((100, 3600)));
        check(&[("ratelimit-policy", "default;q=10")], None);
        check(&[("ratelimit-policy", "\"default\";q=-1;w=5")], None);
    }

    #[test]
    fn what_remains_is_spread_until_it_is_filled_up() {
        check(&[("ratelimit", "\"default\";r=50;t=30")], Some((600, 30)));
        check(&[("ratelimit", "\"default\";r=0;t=30")], Some((30_000, 30)));
        check(&[("ratelimit", "\"default\";r=50")], None);
        check(&[("ratelimit-policy", "\"d\";q=100;w=10"), ("ratelimit", "\"d\";r=1;t=4")], Some((4_000, 4)));
    }

    proptest! {
        #[test]
        fn any_text_gives_a_pace_within_the_day_or_none(value in "[ -~]{0,40}", other in "\"?[a-z]?\"?(;[qwrt]=[0-9]{0,22}){0,4}") {
            for (name, text) in [(POLICY, &value), (REMAINING, &other), (POLICY, &other)] {
                let headers = [(name, text.parse().unwrap())].into_iter().collect::<HeaderMap>();
                if let Some(pace) = read(&headers) {
                    prop_assert!(!pace.every.is_zero() && pace.every <= MOST && pace.valid_for <= MOST);
                }
            }
        }
    }
}
