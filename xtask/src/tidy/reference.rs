//! What is made from the program is committed as the program makes it.

use std::collections::BTreeMap;

use super::Finding;
use super::tree::Tree;
use crate::reference::MANUAL;

const MEND: &str = "run `cargo xtask reference`, and read what changed";

/// Compares the tree with what the program makes, by path.
pub(super) fn check(tree: &Tree, made: &BTreeMap<String, String>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let of_manual = |path: &str| path.starts_with(&format!("{MANUAL}/"));
    for file in tree.files().filter(|file| made.contains_key(&file.path) || of_manual(&file.path)) {
        let Some(text) = made.get(&file.path) else {
            findings.push(Finding::new(&file.path, 1, "the program has no such command", MEND));
            continue;
        };
        if file.text != *text {
            let differs = |(ours, made): (&str, &str)| ours != made;
            let same = file.text.lines().zip(text.lines()).position(differs);
            let line = same.unwrap_or_else(|| file.text.lines().count().min(text.lines().count())) + 1;
            findings.push(Finding::new(&file.path, line, "this is not what the program prints", MEND));
        }
    }
    for path in made.keys().filter(|path| !tree.has(path)) {
        findings.push(Finding::new(path, 1, "this page of the program is missing", MEND));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::PAGE;

    fn found(files: &[(&str, &str)]) -> Vec<String> {
        let made = [(PAGE, "# Commands\n\na\nb\n"), ("docs/man/longhaul.1", ".TH\n")];
        let made = made.map(|(path, text)| (path.to_owned(), text.to_owned()));
        let findings = check(&Tree::of(files), &BTreeMap::from(made));
        findings.iter().map(|one| format!("{}:{}: {}", one.path, one.line, one.what)).collect()
    }

    #[test]
    fn what_the_program_prints_is_fine() {
        let files =
            [(PAGE, "# Commands\n\na\nb\n"), ("docs/man/longhaul.1", ".TH\n"), ("docs/src/other.md", "x")];
        assert_eq!(found(&files), [""; 0]);
    }

    #[test]
    fn a_drift_a_missing_page_and_one_too_many_are_found() {
        let drifted = [(PAGE, "# Commands\n\na\nc\n"), ("docs/man/longhaul-fly.1", ".TH\n")];
        assert_eq!(
            found(&drifted),
            [
                "docs/src/reference/command-line.md:4: this is not what the program prints",
                "docs/man/longhaul-fly.1:1: the program has no such command",
                "docs/man/longhaul.1:1: this page of the program is missing",
            ]
        );
        let short = [(PAGE, "# Commands\n\na\n"), ("docs/man/longhaul.1", ".TH\n")];
        assert_eq!(
            found(&short),
            ["docs/src/reference/command-line.md:4: this is not what the program prints"]
        );
    }
}
