//! How many tests ran, read from the closing lines of nextest and of `cargo test`.

use std::fmt;
use std::ops::AddAssign;

/// Tests by how they ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) skipped: u64,
}

impl Counts {
    /// Reads nextest's `Summary [ 0.1s] 3 tests run: 2 passed (1 slow), 1 timed out, 0 skipped`; any other line is
    /// `None`.
    pub(crate) fn from_nextest(line: &str) -> Option<Self> {
        let (_, ended) = line.trim_start().strip_prefix("Summary [")?.split_once(" run: ")?;
        let mut counts = Self::default();
        for part in without_parentheses(ended).split(',') {
            let (number, word) = part.trim().split_once(' ')?;
            let number = number.parse::<u64>().ok()?;
            match word.trim() {
                "passed" => counts.passed += number,
                "skipped" => counts.skipped += number,
                // failed, timed out, exec failed: no other way to end is a success.
                _ => counts.failed += number,
            }
        }
        Some(counts)
    }

    /// Reads `test result: ok. 3 passed; 0 failed; 1 ignored; …`; any other line is `None`.
    pub(crate) fn from_libtest(line: &str) -> Option<Self> {
        let (_, ended) = line.trim_start().strip_prefix("test result: ")?.split_once(". ")?;
        let mut counts = Self::default();
        for part in ended.split(';') {
            let Some((number, word)) = part.trim().split_once(' ') else { continue };
            let Ok(number) = number.parse::<u64>() else { continue };
            match word {
                "passed" => counts.passed += number,
                "failed" => counts.failed += number,
                "ignored" | "filtered out" => counts.skipped += number,
                _ => {}
            }
        }
        Some(counts)
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

/// The form that machines read: `N passed, N failed, N skipped`.
impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)
    }
}

fn without_parentheses(text: &str) -> String {
    let mut depth = 0_u32;
    text.chars()
        .filter(|&c| {
            match c {
                '(' => depth += 1,
                ')' => {
                    depth = depth.saturating_sub(1);
                    return false;
                }
                _ => {}
            }
            depth == 0
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(passed: u64, failed: u64, skipped: u64) -> Counts {
        Counts { passed, failed, skipped }
    }

    #[test]
    fn nextest_summaries_are_read() {
        let read = Counts::from_nextest;
        assert_eq!(read("     Summary [   0.012s] 3 tests run: 3 passed, 0 skipped"), Some(counts(3, 0, 0)));
        assert_eq!(
            read("     Summary [   1.2s] 1 test run: 1 passed (1 leaky), 2 skipped"),
            Some(counts(1, 0, 2))
        );
        assert_eq!(
            read(
                "Summary [  9.0s] 7/9 tests run: 3 passed (1 slow, 1 flaky), 2 failed, 1 timed out, 1 exec failed, 4 skipped"
            ),
            Some(counts(3, 4, 4))
        );
    }

    #[test]
    fn doc_test_results_are_read() {
        let line = "test result: FAILED. 3 passed; 2 failed; 1 ignored; 0 measured; 4 filtered out; finished in 0.1s";
        assert_eq!(Counts::from_libtest(line), Some(counts(3, 2, 5)));
    }

    #[test]
    fn other_lines_are_not_counts() {
        assert_eq!(Counts::from_nextest("        PASS [   0.004s] a summary of 3 tests run: 3 passed"), None);
        assert_eq!(Counts::from_nextest("     Summary [   0.012s] interrupted"), None);
        assert_eq!(Counts::from_libtest("running 3 tests"), None);
    }

    #[test]
    fn the_closing_line_has_the_form_that_machines_read() {
        let mut sum = Counts { passed: 10, failed: 0, skipped: 1 };
        sum += Counts { passed: 2, failed: 1, skipped: 0 };
        assert_eq!(sum.to_string(), "12 passed, 1 failed, 1 skipped");
    }
}
