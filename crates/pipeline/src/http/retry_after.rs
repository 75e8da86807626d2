//! How long a host asks to be left alone.

use std::time::{Duration, SystemTime};

/// The longest time that is believed.
const MOST: Duration = Duration::from_hours(24);

/// The length that a `Retry-After` names: seconds, or an HTTP date in one of its three forms, relative to `sent_at`, when the
/// answer was made.
///
/// `None` if it names none: zero and past dates count as absent, as does what cannot be read. Never more than 24 h.
pub(super) fn parse(value: &str, sent_at: SystemTime) -> Option<Duration> {
    let value = value.trim();
    let length = if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than a number takes mean "very long", which the cap turns into a day.
        Duration::from_secs(value.parse().unwrap_or(u64::MAX))
    } else {
        httpdate::parse_http_date(value).ok()?.duration_since(sent_at).ok()?
    };
    (!length.is_zero()).then(|| length.min(MOST))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Sun, 06 Nov 1994 08:49:37 GMT, the example of the standard.
    fn then() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777)
    }

    fn check(value: &str, seconds: Option<u64>) {
        let wall = then() - Duration::from_secs(90);
        assert_eq!(parse(value, wall), seconds.map(Duration::from_secs), "{value:?}");
    }

    #[test]
    fn seconds_and_the_three_forms_of_a_date() {
        check("120", Some(120));
        check(" 1 ", Some(1));
        check("Sun, 06 Nov 1994 08:49:37 GMT", Some(90));
        check("Sunday, 06-Nov-94 08:49:37 GMT", Some(90));
        check("Sun Nov  6 08:49:37 1994", Some(90));
    }

    #[test]
    fn nothing_zero_and_the_past_are_absent() {
        for value in ["", "0", "000", "-5", "1.5", "soon", "+3", "Sun, 06 Nov 1993 08:49:37 GMT"] {
            check(value, None);
        }
        assert_eq!(parse("Sun, 06 Nov 1994 08:49:37 GMT", then()), None);
    }

    #[test]
    fn no_host_closes_itself_for_more_than_a_day() {
        check("86401", Some(86_400));
        check("99999999999999999999999999", Some(86_400));
        check("Fri, 31 Dec 9999 23:59:59 GMT", Some(86_400));
    }

    proptest! {
        #[test]
        fn any_text_gives_a_time_within_the_day_or_none(value in ".{0,40}", now in 0_u64..4_000_000_000) {
            let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(now);
            if let Some(length) = parse(&value, wall) {
                prop_assert!(length > Duration::ZERO && length <= MOST);
            }
        }

        #[test]
        fn a_date_is_as_far_away_as_it_says(now in 0_u64..4_000_000_000, ahead in 1_u64..86_400) {
            let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(now);
            let value = httpdate::fmt_http_date(wall + Duration::from_secs(ahead));
            prop_assert_eq!(parse(&value, wall), Some(Duration::from_secs(ahead)));
        }
    }
}
