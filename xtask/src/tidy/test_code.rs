//! Which lines are test code, and that test code awaits what it waits for instead of sleeping.
//!
//! A clock's own `clock.sleep(…)` is not meant: a test moves that clock itself.

use super::Finding;
use super::tree::{File, Tree};

/// On a comment line directly above: `// tidy:allow-sleep: why nothing can be awaited here`.
const ALLOW: &str = "tidy:allow-sleep:";

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in tree.with_extension(&["rs"]) {
        let is_test = test_lines(file);
        let lines: Vec<&str> = file.text.lines().collect();
        for (index, line) in lines.iter().enumerate() {
            if is_test[index] && sleeps(line) && !allowed(&lines[..index]) {
                findings.push(Finding::new(
                    &file.path,
                    index + 1,
                    "a test sleeps",
                    format!(
                        "await the event, use a clock of the test's own, or say why not: `// {ALLOW} reason`"
                    ),
                ));
            }
        }
    }
    findings
}

/// For each line of the file, whether it is test code.
pub(super) fn test_lines(file: &File) -> Vec<bool> {
    let lines: Vec<&str> = file.text.lines().collect();
    if is_test_file(&file.path) {
        return vec![true; lines.len()];
    }
    let mut is_test = vec![false; lines.len()];
    let mut index = 0;
    while index < lines.len() {
        if is_test_attribute(lines[index]) {
            // rustfmt puts the closing brace under the item's first letter. A `;` before it means that the item has
            // no body here.
            let indentation = &lines[index][..lines[index].len() - lines[index].trim_start().len()];
            let closes =
                |line: &&str| line.strip_prefix(indentation).is_some_and(|rest| rest.starts_with('}'));
            let ends = |line: &&str| closes(line) || ends_at_once(line, indentation);
            let length = lines[index..].iter().position(ends).unwrap_or(lines.len() - index - 1);
            is_test[index..=index + length].fill(true);
            index += length;
        }
        index += 1;
    }
    is_test
}

fn is_test_attribute(line: &str) -> bool {
    let line = line.trim();
    line == "#[cfg(test)]" || line.starts_with("#[cfg(all(test,")
}

/// A declaration on one line at this indentation, like `mod tests;` or `use super::found;`.
fn ends_at_once(line: &str, indentation: &str) -> bool {
    line.strip_prefix(indentation).is_some_and(|rest| !rest.starts_with(' ') && rest.ends_with(';'))
}

/// Integration tests, the conformance suite, and the files to which unit tests were moved. The test origin is a server:
/// what it waits for is what it was told, so its sources are no test code.
fn is_test_file(path: &str) -> bool {
    let in_tests =
        path.split('/').any(|part| matches!(part, "tests" | "tests.rs" | "conformance" | "conformance.rs"));
    in_tests && !path.starts_with("tests/origin/src/")
}

/// Whether the line calls a function, not a method, named `sleep`.
fn sleeps(line: &str) -> bool {
    let line = line.trim_start();
    !line.starts_with("//")
        && line.match_indices(concat!("sleep", "(")).any(|(at, _)| {
            let before = &line[..at];
            let part_of_a_name = before.ends_with(|c: char| c.is_alphanumeric() || c == '_');
            !part_of_a_name && !before.ends_with('.') && !before.ends_with("fn ")
        })
}

/// Whether the comment that ends these lines allows it, with a reason.
fn allowed(above: &[&str]) -> bool {
    let comment = above.iter().rev().take_while(|line| line.trim_start().starts_with("//"));
    comment.filter_map(|line| line.split_once(ALLOW)).any(|(_, reason)| !reason.trim().is_empty())
}

#[cfg(test)]
mod tests {
    use super::super::found;
    use super::*;

    const SLEEP: &str = concat!("tokio::time::sleep", "(Duration::ZERO).await;");

    fn lines_found(path: &str, text: &str) -> Vec<String> {
        found(check, &[(path, text)])
    }

    #[test]
    fn a_sleeping_test_is_found_wherever_tests_are() {
        let text = format!("//! a\n{SLEEP}\n");
        for path in [
            "crates/a/tests/run.rs",
            "tests/tests/crash.rs",
            "crates/a/src/pace/tests.rs",
            "src/conformance/a.rs",
        ] {
            assert_eq!(lines_found(path, &text), [format!("{path}:2: a test sleeps")]);
        }
        for path in ["crates/a/src/run.rs", "tests/origin/src/serve.rs"] {
            assert_eq!(lines_found(path, &text), [""; 0]);
        }
    }

    #[test]
    fn only_the_test_module_of_a_source_file_is_test_code() {
        let text = format!(
            "//! a\n{SLEEP}\n#[cfg(test)]\nmod tests {{\n    fn a() {{\n        {SLEEP}\n    }}\n}}\nfn b() {{\n    {SLEEP}\n}}\n"
        );
        assert_eq!(lines_found("src/a.rs", &text), ["src/a.rs:6: a test sleeps"]);
        let moved = format!("//! a\n#[cfg(test)]\nmod tests;\n\nfn b() {{\n    {SLEEP}\n}}\n");
        assert_eq!(lines_found("src/a.rs", &moved), [""; 0]);
    }

    #[test]
    fn a_reason_above_allows_it_and_a_bare_mark_does_not() {
        let reason = format!("//! a\n// {ALLOW} the kernel tells nobody\n// when it is done.\n{SLEEP}\n");
        assert_eq!(lines_found("tests/a.rs", &reason), [""; 0]);
        let bare = format!("//! a\n// {ALLOW}\n{SLEEP}\n");
        assert_eq!(lines_found("tests/a.rs", &bare).len(), 1);
        let not_directly_above = format!("//! a\n// {ALLOW} reason\nlet a = 1;\n{SLEEP}\n");
        assert_eq!(lines_found("tests/a.rs", &not_directly_above).len(), 1);
    }

    #[test]
    fn a_clock_of_the_tests_own_may_be_slept_on() {
        let text = concat!("//! a\nclock.sleep", "(hour).await;\nfn sleep", "() {}\nno_sleep", "();\n");
        assert_eq!(lines_found("tests/a.rs", text), [""; 0]);
    }
}
