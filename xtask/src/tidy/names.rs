//! Names of files, folders and modules say what is in them. Some words say nothing, and collect everything.

use super::Finding;
use super::tree::Tree;

const EMPTY_WORDS: [&str; 8] =
    ["util", "utils", "helper", "helpers", "common", "manager", "managers", "misc"];

const MEND: &str = "name it after what it holds or does";

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for path in tree.paths() {
        for name in path.split('/') {
            let stem = name.split('.').find(|part| !part.is_empty()).unwrap_or(name);
            if let Some(word) = empty_word(stem) {
                findings.push(Finding::new(path, 1, format!("the name `{name}` says only `{word}`"), MEND));
            }
        }
    }
    for file in tree.with_extension(&["rs"]) {
        for (number, line) in file.lines() {
            // `mod a;` is found by its file's name.
            let Some(module) = inline_module(line) else { continue };
            if let Some(word) = empty_word(module) {
                let what = format!("the module's name `{module}` says only `{word}`");
                findings.push(Finding::new(&file.path, number, what, MEND));
            }
        }
    }
    findings
}

fn empty_word(name: &str) -> Option<&'static str> {
    let name = name.to_lowercase();
    EMPTY_WORDS.into_iter().find(|word| name.split(['_', '-']).any(|part| part == *word))
}

/// The name in `pub(crate) mod name {`.
fn inline_module(line: &str) -> Option<&str> {
    let declaration = line.trim().strip_suffix('{')?.trim_end();
    let (before, name) = declaration.rsplit_once(' ')?;
    let is_module = before == "mod" || (before.starts_with("pub") && before.ends_with(" mod"));
    is_module.then_some(name)
}

#[cfg(test)]
mod tests {
    use super::super::found;
    use super::*;

    #[test]
    fn empty_words_in_paths_are_found() {
        let files =
            [("src/utils.rs", ""), ("src/lease_manager.rs", ""), ("common/a.md", ""), ("src/lane.rs", "")];
        let findings = found(check, &files);
        assert_eq!(findings.len(), 3, "{findings:?}");
        assert!(findings[1].contains("`lease_manager.rs` says only `manager`"), "{findings:?}");
    }

    #[test]
    fn empty_words_of_inline_modules_are_found() {
        let text = "//! a\nmod helpers {\n}\n    pub(crate) mod test_utils {\n}\nmod lanes {\n}\n// a mod common {\n";
        let findings = found(check, &[("a.rs", text)]);
        assert_eq!(findings.len(), 2, "{findings:?}");
        assert!(findings[0].starts_with("a.rs:2:") && findings[1].starts_with("a.rs:4:"), "{findings:?}");
    }

    #[test]
    fn a_longer_word_that_contains_an_empty_one_is_fine() {
        assert_eq!(found(check, &[("src/uncommon.rs", ""), ("src/utility_bill.rs", "")]), [""; 0]);
    }
}
