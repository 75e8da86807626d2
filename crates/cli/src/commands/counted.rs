//! Counts that end somewhere, so that they cost the same in a queue of any size.

use serde::Serialize;

use crate::output::count;

/// A count that ends at a number: `more` says that there are more.
#[derive(Debug, Serialize)]
pub(super) struct Counted {
    count: u64,
    more: bool,
}

impl Counted {
    pub(super) fn new(number: u64, most: u64) -> Self {
        Self { count: number.min(most), more: number > most }
    }

    /// `1,000+`.
    pub(super) fn shown(number: u64, most: u64) -> String {
        format!("{}{}", count(number.min(most)), if number > most { "+" } else { "" })
    }
}
