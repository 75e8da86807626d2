//! Each Rust file says what it is for, and is small enough to be read at once.

use super::Finding;
use super::tree::Tree;

const MOST_LINES: usize = 600;

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in tree.with_extension(&["rs"]) {
        if !file.text.starts_with("//!") {
            findings.push(Finding::new(
                &file.path,
                1,
                "the file does not open with `//!`",
                "say there what it is for, and what it does not do",
            ));
        }
        let lines = file.lines().count();
        if lines > MOST_LINES {
            findings.push(Finding::new(
                &file.path,
                MOST_LINES + 1,
                format!("the file has {lines} lines, {MOST_LINES} is the most"),
                "it holds more than one idea: give each a file of its own, or move the tests to a file",
            ));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::found;
    use super::*;

    #[test]
    fn a_file_without_a_head_is_found() {
        let files = [("a.rs", "//! Says why.\n"), ("b.rs", "use std::fmt;\n//! late\n"), ("c.rs", "")];
        let heads =
            ["b.rs:1: the file does not open with `//!`", "c.rs:1: the file does not open with `//!`"];
        assert_eq!(found(check, &files), heads);
    }

    #[test]
    fn a_file_of_one_line_too_many_is_found() {
        let fits = format!("//! head\n{}", "x\n".repeat(MOST_LINES - 1));
        let too_long = format!("{fits}x\n");
        let findings = found(check, &[("fits.rs", &fits), ("long.rs", &too_long)]);
        assert_eq!(findings, ["long.rs:601: the file has 601 lines, 600 is the most"]);
    }
}
