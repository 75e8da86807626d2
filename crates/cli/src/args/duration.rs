//! Durations as people write them: `90s`, `1.5s`, `15m`, `2h`, `30d`, `1h30m`.

use std::time::Duration;

/// Longer than any run, and short enough that sums of a few never overflow.
const MOST: Duration = Duration::from_hours(24 * 366 * 10);

pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    let wrong = |why: &str| format!("{why}; write a time like 90s, 1.5s, 15m, 2h or 30d");
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(wrong("nothing stands there"));
    }
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, after) = rest.split_at(digits);
        let number: f64 =
            number.parse().map_err(|_| wrong(&format!("{text:?} does not start with a number")))?;
        let letters = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
        let (unit, after) = after.split_at(letters);
        seconds += number
            * match unit {
                "ms" => 0.001,
                "s" | "sec" => 1.0,
                "m" | "min" => 60.0,
                "h" => 3600.0,
                "d" => 86400.0,
                "" => return Err(wrong(&format!("{text:?} has no unit"))),
                _ => return Err(wrong(&format!("{unit:?} is not a unit"))),
            };
        rest = after.trim_start();
    }
    match Duration::try_from_secs_f64(seconds) {
        Ok(duration) if duration <= MOST => Ok(duration),
        _ => Err(wrong(&format!("{text:?} is longer than ten years"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read() {
        let check =
            |text: &str, millis: u64| assert_eq!(parse(text), Ok(Duration::from_millis(millis)), "{text}");
        check("90s", 90_000);
        check("1.5s", 1_500);
        check("250ms", 250);
        check("15m", 900_000);
        check("2h", 7_200_000);
        check("30d", 2_592_000_000);
        check("1h30m", 5_400_000);
        check(" 1h 30m ", 5_400_000);
        check("0s", 0);
    }

    #[test]
    fn what_is_no_duration_is_refused_with_what_one_is() {
        for bad in ["", "5", "s", "-1s", "1x", "1..5s", "1e9h", "99999999d", "1s5", "∞"] {
            let message = parse(bad).unwrap_err();
            assert!(message.contains("write a time like 90s"), "{bad}: {message}");
        }
    }
}
