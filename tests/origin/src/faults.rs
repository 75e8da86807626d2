//! Faults on a schedule: whether a request is struck is a pure function of (seed, path, how often the path was
//! asked), so that a test knows beforehand which requests fail and how often.

use serde::{Deserialize, Serialize};

use crate::behaviour::RetryAfter;
use crate::hash;

/// What goes wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Fault {
    /// This status with a short text; a `Retry-After` only if one is given.
    Status {
        /// The status code.
        status: u16,
        /// The announcement; by default it closes the host as a refusal would.
        #[serde(default)]
        retry_after: Option<RetryAfter>,
    },
    /// The connection is reset (RST) before any byte of an answer.
    ResetBeforeHead,
    /// An honest head, part of the body, then a reset (RST).
    ResetInBody {
        /// How much of the body is sent first, in per cent.
        at_percent: u8,
    },
    /// An honest head, part of the body, then an orderly close (FIN), as if that were all.
    TruncateBody {
        /// How much of the body is sent first, in per cent.
        at_percent: u8,
    },
    /// An honest head, part of the body, then silence on an open connection.
    StallInBody {
        /// How much of the body is sent first, in per cent.
        at_percent: u8,
    },
    /// Silence on an open connection.
    NeverAnswer,
    /// The answer is honest, and its first byte late by this much, beyond the latency.
    SlowFirstByte {
        /// The delay in milliseconds.
        delay_ms: u64,
    },
}

/// When a fault strikes: on one path in `every`, and there on asks `after + 1` to `after + times`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FaultRule {
    /// What goes wrong.
    pub fault: Fault,
    /// One path in this many is chosen, by the hash of (seed, path, the rule's place in its list); 1 is every path.
    #[serde(default = "one")]
    pub every: u64,
    /// How many asks of a chosen path are struck; `null` is all of them.
    #[serde(default = "once")]
    pub times: Option<u64>,
    /// How many asks of a chosen path are spared before.
    #[serde(default)]
    pub after: u64,
}

fn one() -> u64 {
    1
}

#[allow(clippy::unnecessary_wraps, reason = "the shape of a serde default")]
fn once() -> Option<u64> {
    Some(1)
}

impl FaultRule {
    /// The fault strikes the first ask of every path.
    pub fn first(fault: Fault) -> Self {
        Self { fault, every: 1, times: Some(1), after: 0 }
    }

    /// The fault strikes each ask of every path.
    pub fn always(fault: Fault) -> Self {
        Self { fault, every: 1, times: None, after: 0 }
    }

    /// Strikes one path in `every` instead of each.
    #[must_use]
    pub fn on_one_path_in(mut self, every: u64) -> Self {
        self.every = every;
        self
    }

    /// Strikes this many asks of a path instead of one or all.
    #[must_use]
    pub fn times(mut self, times: u64) -> Self {
        self.times = Some(times);
        self
    }
}

/// The fault that strikes the `ask`th request (from 1) for `path`, if any: the first rule that applies.
///
/// Only requests that the host's tolerance let through count as asks.
pub fn strikes<'a>(seed: u64, path: &str, ask: u64, rules: &'a [FaultRule]) -> Option<&'a Fault> {
    rules.iter().zip(0_u64..).find_map(|(rule, place)| {
        let chosen = hash::of(seed, &[b"fault", path.as_bytes(), &place.to_le_bytes()])
            .is_multiple_of(rule.every.max(1));
        let due = ask > rule.after && rule.times.is_none_or(|times| ask <= rule.after.saturating_add(times));
        (chosen && due).then_some(&rule.fault)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_strikes_its_asks_and_no_others() {
        let rules = [
            FaultRule { after: 1, ..FaultRule::first(Fault::NeverAnswer).times(2) },
            FaultRule { after: 4, ..FaultRule::always(Fault::ResetBeforeHead) },
        ];
        let struck: Vec<Option<&Fault>> = (1..=6).map(|ask| strikes(9, "/p", ask, &rules)).collect();
        let (never, reset) = (Some(&Fault::NeverAnswer), Some(&Fault::ResetBeforeHead));
        assert_eq!(struck, [None, never, never, None, reset, reset]);
    }

    #[test]
    fn one_path_in_n_is_chosen_and_the_seed_chooses_which() {
        let rules = [FaultRule::first(Fault::NeverAnswer).on_one_path_in(10)];
        let chosen = |seed| -> Vec<usize> {
            (0..2000).filter(|n| strikes(seed, &format!("/{n}"), 1, &rules).is_some()).collect()
        };
        assert!((120..280).contains(&chosen(1).len()), "{}", chosen(1).len());
        assert_eq!(chosen(1), chosen(1));
        assert_ne!(chosen(1), chosen(2));
    }
}
