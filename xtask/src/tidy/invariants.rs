//! Every invariant that `ARCHITECTURE.md` defines is cited where it is kept and where it is tested, and nothing
//! cites one that is not defined.
//!
//! A definition is the invariant's name in bold or at the start of a heading. xtask keeps no invariant, so its sources
//! do not count; nor do the test origin's, which only watches whether one is kept.

use std::collections::{BTreeMap, BTreeSet};

use super::Finding;
use super::test_code::test_lines;
use super::tree::Tree;

const PAGE: &str = "ARCHITECTURE.md";

/// Put together, so that this file cites nothing.
const PREFIX: &str = concat!("IN", "V-");

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let Some(page) = tree.files().find(|file| file.path == PAGE) else {
        return vec![Finding::new(PAGE, 1, "the page is missing", "define the invariants there")];
    };
    let mut defined = BTreeMap::new();
    for (number, line) in page.lines() {
        if let Some(name) = definition(line) {
            defined.entry(name).or_insert(number);
        }
    }
    let mut findings = Vec::new();
    if defined.is_empty() {
        let what = "the page defines no invariant";
        findings.push(Finding::new(PAGE, 1, what, format!("name each in bold: `**{PREFIX}FENCE** …`")));
    }
    let mut cited = Citations::default();
    for file in tree.with_extension(&["rs", "sql", "md"]).filter(|file| !file.path.starts_with("xtask/")) {
        let is_test = test_lines(file);
        for (number, line) in file.lines() {
            let names = names(line);
            for unknown in names.iter().filter(|name| !defined.contains_key(**name)) {
                let what = format!("{unknown} is cited and not defined");
                let mend = format!("correct the name, or define it in {PAGE}");
                findings.push(Finding::new(&file.path, number, what, mend));
            }
            if file.extension() == "md" {
                continue;
            }
            let names = names.into_iter().map(str::to_owned);
            if is_test[number - 1] {
                cited.by_tests.extend(names);
                cited.test_functions.extend(test_function(line).map(str::to_owned));
            } else if file.path.starts_with("crates/") {
                cited.by_sources.extend(names);
            }
        }
    }
    for (name, number) in defined {
        if !cited.by_sources.contains(name) {
            let what = format!("no source cites {name}");
            findings.push(Finding::new(PAGE, number, what, "cite it where the code keeps it"));
        }
        if !cited.tested(name) {
            let function = name.to_lowercase().replace('-', "_");
            let what = format!("no test cites {name}");
            let mend = format!("name a test `{function}_…`, or cite it in a comment of the test");
            findings.push(Finding::new(PAGE, number, what, mend));
        }
    }
    findings
}

#[derive(Default)]
struct Citations {
    by_sources: BTreeSet<String>,
    by_tests: BTreeSet<String>,
    /// Test functions whose name starts like an invariant's.
    test_functions: BTreeSet<String>,
}

impl Citations {
    fn tested(&self, name: &str) -> bool {
        let function = name.to_lowercase().replace('-', "_");
        let continued = format!("{function}_");
        self.by_tests.contains(name)
            || self.test_functions.iter().any(|test| *test == function || test.starts_with(&continued))
    }
}

/// The invariant that this line defines.
fn definition(line: &str) -> Option<&str> {
    let name = names(line).into_iter().next()?;
    let at = line.find(name)?;
    let before = &line[..at];
    let is_heading =
        before.starts_with('#') && before.trim_start_matches('#').trim_matches([' ', '*', '`']).is_empty();
    (is_heading || before.ends_with("**")).then_some(name)
}

/// The invariants' names in a line.
fn names(line: &str) -> Vec<&str> {
    let starts =
        line.match_indices(PREFIX).filter(|(at, _)| !line[..*at].ends_with(|c: char| c.is_alphanumeric()));
    let ends = starts.filter_map(|(at, _)| {
        let name = &line[at + PREFIX.len()..];
        let is_part = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '-';
        let length = name.find(|c| !is_part(c)).unwrap_or(name.len());
        let name = &line[at..at + PREFIX.len() + length];
        name.strip_suffix('-').or(Some(name)).filter(|name| name.len() > PREFIX.len())
    });
    ends.collect()
}

/// The name of a function that is named after an invariant.
fn test_function(line: &str) -> Option<&str> {
    let (_, name) = line.split_once("fn ")?;
    let name = name.split(['(', '<']).next()?;
    name.starts_with("inv_").then_some(name)
}

#[cfg(test)]
mod tests {
    use super::super::found;
    use super::*;

    /// Stands for the prefix in planted texts, so that they too cite nothing.
    fn planted(text: &str) -> String {
        text.replace("I~", PREFIX)
    }

    fn findings(page: &str, source: &str, test: &str) -> Vec<String> {
        let (page, source, test) = (planted(page), planted(source), planted(test));
        found(check, &[(PAGE, &page), ("crates/a/src/a.rs", &source), ("crates/a/tests/a.rs", &test)])
    }

    #[test]
    fn an_invariant_that_is_kept_and_tested_is_fine() {
        let page = "# A\n- **I~FENCE** holds.\n### I~NO-LOSS\n";
        let source = "//! Keeps I~FENCE and I~NO-LOSS.\n";
        let test = "//! a\n// I~FENCE\nasync fn inv_no_loss_after_a_kill() {}\n";
        assert_eq!(findings(page, source, test), [""; 0]);
    }

    #[test]
    fn an_invariant_that_nothing_keeps_or_tests_is_found_where_it_is_defined() {
        let found = findings("\n- **I~CAP** holds.\n", "//! a\n", "//! a\n");
        assert_eq!(
            found,
            [
                planted("ARCHITECTURE.md:2: no source cites I~CAP"),
                planted("ARCHITECTURE.md:2: no test cites I~CAP"),
            ]
        );
    }

    #[test]
    fn a_test_of_a_longer_name_is_no_test_of_the_shorter_one() {
        let found = findings("**I~NO** **x\n", "//! I~NO\n", "//! a\nfn inv_nothing() {}\n");
        assert_eq!(found, [planted("ARCHITECTURE.md:1: no test cites I~NO")]);
    }

    #[test]
    fn a_name_that_is_not_defined_is_found_where_it_is_cited() {
        let found = findings("**I~CAP**\n", "//! I~CAP, I~CAPS.\n", "//! I~CAP\n");
        assert_eq!(found, [planted("crates/a/src/a.rs:1: I~CAPS is cited and not defined")]);
    }

    #[test]
    fn a_test_module_of_a_source_file_cites_as_a_test() {
        let source = "//! I~CAP\n#[cfg(test)]\nmod tests {\n    fn inv_cap_holds() {}\n}\n";
        assert_eq!(findings("**I~CAP**\n", source, "//! a\n"), [""; 0]);
        let only_tests = "//! a\n#[cfg(test)]\nmod tests {\n    // I~CAP\n}\n";
        assert_eq!(findings("**I~CAP**\n", only_tests, "//! a\n").len(), 1);
    }

    #[test]
    fn a_page_of_the_docs_is_neither_a_source_nor_a_test() {
        let page = planted("**I~CAP**\n");
        let files = [(PAGE, page.as_str()), ("crates/a/README.md", &page), ("tests/README.md", &page)];
        assert_eq!(found(check, &files).len(), 2);
    }

    #[test]
    fn without_the_page_there_is_one_finding() {
        assert_eq!(found(check, &[("a.rs", "//! a\n")]), ["ARCHITECTURE.md:1: the page is missing"]);
    }
}
