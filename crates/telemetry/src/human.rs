//! Numbers as people read them, on a terminal and in a report.

use std::time::Duration;

/// `1,234,567`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut shown = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            shown.push(',');
        }
        shown.push(digit);
    }
    shown
}

/// `1 file`, `2 files`.
pub fn number_of(number: u64, one: &str, many: &str) -> String {
    format!("{} {}", count(number), if number == 1 { one } else { many })
}

/// `512 B`, `1.5 KiB`, `3.0 GiB`.
pub fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64;
    let mut unit = "B";
    for next in UNITS {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    format!("{value:.1} {unit}")
}

/// The two largest parts: `0.4s`, `12s`, `3m 5s`, `2h 10m`, `4d 3h`.
pub fn duration(duration: Duration) -> String {
    let tenths = (duration.as_millis() + 50) / 100;
    if tenths < 100 && !tenths.is_multiple_of(10) {
        return format!("{}.{}s", tenths / 10, tenths % 10);
    }
    // Rounded to whole seconds, so that 59.96 s is a minute and not 60 s.
    let seconds = (duration.as_millis() + 500) / 1000;
    let parts = [("d", 86400), ("h", 3600), ("m", 60), ("s", 1)];
    let Some(first) = parts.iter().position(|(_, length)| seconds >= *length) else { return "0s".to_owned() };
    let (unit, length) = parts[first];
    let shown = format!("{}{unit}", seconds / length);
    match parts.get(first + 1).map(|(next, next_length)| (seconds % length / next_length, next)) {
        Some((rest, next)) if rest > 0 => format!("{shown} {rest}{next}"),
        _ => shown,
    }
}

/// How often something happened: `2.5/s`, `40/min`, `3/h`.
pub fn rate(number: u64, time: Duration) -> String {
    let seconds = time.as_secs_f64();
    if number == 0 || seconds <= 0.0 {
        return "0/s".to_owned();
    }
    let per_second = number as f64 / seconds;
    let shown = |value: f64| if value < 10.0 { format!("{value:.1}") } else { count(value.round() as u64) };
    match per_second {
        fast if fast >= 1.0 => format!("{}/s", shown(fast)),
        slow if slow * 60.0 >= 1.0 => format!("{}/min", shown(slow * 60.0)),
        slow => format!("{}/h", shown(slow * 3600.0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_shown_as_people_write_them() {
        assert_eq!([0, 999, 1000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(number_of(1, "file", "files"), "1 file");
        assert_eq!(
            [0, 1023, 1536, 3 << 30, u64::MAX].map(bytes),
            ["0 B", "1023 B", "1.5 KiB", "3.0 GiB", "16384.0 PiB"]
        );
    }

    #[test]
    fn durations_show_their_two_largest_parts() {
        let shown = [0, 40, 400, 5_000, 9_960, 59_960, 185_000, 7_800_000, 3_600_000, 360_000_000]
            .map(|millis| duration(Duration::from_millis(millis)));
        assert_eq!(shown, ["0s", "0s", "0.4s", "5s", "10s", "1m", "3m 5s", "2h 10m", "1h", "4d 4h"]);
    }

    #[test]
    fn rates_take_the_unit_that_reads_best() {
        let shown = [(100, 10), (25, 10), (40, 60), (3, 3600), (0, 5), (5, 0)]
            .map(|(number, seconds)| rate(number, Duration::from_secs(seconds)));
        assert_eq!(shown, ["10/s", "2.5/s", "40/min", "3.0/h", "0/s", "0/s"]);
    }
}
