//! Label values that cannot grow without bound.

use std::collections::HashSet;
use std::sync::{PoisonError, RwLock};

/// The label of everybody who came too late to have one.
pub(super) const OTHER: &str = "other";
/// The label of nobody.
pub(super) const NONE: &str = "none";

/// The values that a label has had so far, and no more than a number of them.
#[derive(Debug)]
pub(super) struct Bounded {
    most: usize,
    known: RwLock<HashSet<String>>,
}

impl Bounded {
    pub(super) fn new(most: usize) -> Self {
        Self { most, known: RwLock::default() }
    }

    /// The value itself if it is one of the first, else `other`; `none` if it is empty.
    pub(super) fn label<'v>(&self, value: &'v str) -> &'v str {
        if value.is_empty() {
            return NONE;
        }
        {
            let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
            if known.contains(value) {
                return value;
            }
            if known.len() >= self.most {
                return OTHER;
            }
        }
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if known.len() < self.most || known.contains(value) {
            known.insert(value.to_owned());
            return value;
        }
        OTHER
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inv_bounded_those_who_come_late_share_a_label() {
        let labels = Bounded::new(2);
        let seen: Vec<_> = ["a", "b", "c", "a", "d", ""].map(|value| labels.label(value)).into();
        assert_eq!(seen, ["a", "b", "other", "a", "other", "none"]);
    }
}
