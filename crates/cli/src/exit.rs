//! How the program ends, as scripts see it.

use std::process::ExitCode;

/// Why the program ends. Several may apply; the first in this order is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Exit {
    /// Wrong usage.
    Usage,
    /// The program could not do its work.
    Failure,
    /// Stopped by SIGINT.
    Interrupted,
    /// Stopped by SIGTERM.
    Terminated,
    /// A budget ended the run.
    Budget,
    /// Drained, but work remains.
    Remains,
    /// Some jobs are in error.
    JobErrors,
    /// Some input lines were rejected.
    Rejected,
    /// All as asked.
    Success,
}

impl Exit {
    /// The number that the parent process gets.
    pub(crate) fn code(self) -> u8 {
        match self {
            Exit::Usage => 2,
            Exit::Failure => 1,
            Exit::Interrupted => 130,
            Exit::Terminated => 143,
            Exit::Budget => 5,
            Exit::Remains => 6,
            Exit::JobErrors => 3,
            Exit::Rejected => 4,
            Exit::Success => 0,
        }
    }

    /// The one that wins if both apply.
    #[must_use]
    pub(crate) fn or(self, other: Exit) -> Exit {
        self.min(other)
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        exit.code().into()
    }
}

/// Wrong usage that only shows once the flags are seen together.
#[derive(Debug)]
pub(crate) struct UsageError(pub(crate) String);

impl std::fmt::Display for UsageError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for UsageError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn if_several_apply_the_documented_one_wins() {
        let order = [
            Exit::Usage,
            Exit::Failure,
            Exit::Interrupted,
            Exit::Terminated,
            Exit::Budget,
            Exit::Remains,
            Exit::JobErrors,
            Exit::Rejected,
            Exit::Success,
        ];
        let codes: Vec<u8> = order.iter().map(|exit| exit.code()).collect();
        assert_eq!(codes, [2, 1, 130, 143, 5, 6, 3, 4, 0]);
        for (index, stronger) in order.iter().enumerate() {
            for weaker in &order[index..] {
                assert_eq!(stronger.or(*weaker), *stronger);
                assert_eq!(weaker.or(*stronger), *stronger);
            }
        }
    }
}
