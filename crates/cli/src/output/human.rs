//! Numbers as people read them.

use std::time::Duration;

pub(crate) use longhaul_telemetry::human::{bytes, count, duration, number_of, rate};

/// A pause: who made it and why, and for how much longer.
pub(crate) fn pause(who_and_why: &str, left: Option<Duration>) -> String {
    match left {
        Some(left) => format!("{who_and_why}; for {} more", duration(left)),
        None => format!("{who_and_why}; until somebody ends the pause"),
    }
}
