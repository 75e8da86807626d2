//! White space, notes of unfinished work, and paths of one person's machine.
//!
//! The words that are looked for are put together here from parts, so that this file passes its own check.

use super::Finding;
use super::tree::{File, Tree};

/// Files that people write and indent. Snapshots and fixtures are as the program made them.
const WRITTEN: [&str; 9] = ["rs", "toml", "md", "sql", "sh", "yml", "yaml", "json", "css"];

const UNFINISHED: [&str; 5] = [
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("XX", "X"),
    concat!("to", "do!"),
    concat!("unimple", "mented!"),
];

/// The folders below which one person's machine keeps its files.
const MACHINE: [&str; 4] =
    [concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/ho", "me/"), concat!("/Us", "ers/")];

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in tree.files() {
        if WRITTEN.contains(&file.extension()) || file.path == ".ci/run" {
            white_space(file, &mut findings);
            unfinished(file, &mut findings);
        }
        machine_paths(file, &mut findings);
    }
    findings
}

fn white_space(file: &File, findings: &mut Vec<Finding>) {
    // `str::lines` would hide a carriage return at a line's end.
    for (index, line) in file.text.split('\n').enumerate() {
        if line.ends_with([' ', '\t', '\r']) {
            findings.push(Finding::new(&file.path, index + 1, "white space at the line's end", "remove it"));
        }
        let indentation = &line[..line.len() - line.trim_start().len()];
        if indentation.contains('\t') {
            findings.push(Finding::new(
                &file.path,
                index + 1,
                "a tab indents the line",
                "indent with spaces",
            ));
        }
    }
}

fn unfinished(file: &File, findings: &mut Vec<Finding>) {
    for (number, line) in file.lines() {
        if let Some(word) = UNFINISHED.iter().find(|word| has_word(line, word)) {
            findings.push(Finding::new(
                &file.path,
                number,
                format!("`{word}` marks unfinished work"),
                "finish it, or write down what is not supported and what happens instead",
            ));
        }
    }
}

fn machine_paths(file: &File, findings: &mut Vec<Finding>) {
    for (number, line) in file.lines() {
        if let Some(folder) = MACHINE.iter().find(|folder| has_absolute(line, folder)) {
            findings.push(Finding::new(
                &file.path,
                number,
                format!("a path below `{folder}` exists on one machine only"),
                "use a relative path, or one that the program is told",
            ));
        }
    }
}

/// Whether `word` stands in the line with nothing of a word around it.
fn has_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        let joined = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
        // A macro ends in a mark of its own, after which anything may follow.
        !joined(before) && (word.ends_with('!') || !joined(after))
    })
}

/// Whether `folder` starts a path: in `https://example.org/…` or `a/…/b` the same letters are only a part of one.
fn has_absolute(line: &str, folder: &str) -> bool {
    line.match_indices(folder).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + folder.len()..].chars().next();
        !before.is_some_and(|c| c.is_alphanumeric() || "._-~}]*/".contains(c))
            && after.is_some_and(|c| c.is_alphanumeric() || "._-".contains(c))
    })
}

#[cfg(test)]
mod tests {
    use super::super::found;
    use super::*;

    #[test]
    fn white_space_that_nobody_sees_is_found() {
        let findings =
            found(check, &[("a.rs", "//! a\nlet a; \n\tlet b;\n    \tc\nd\r\n"), ("a.snap", "x \n")]);
        assert_eq!(
            findings,
            [
                "a.rs:2: white space at the line's end",
                "a.rs:3: a tab indents the line",
                "a.rs:4: a tab indents the line",
                "a.rs:5: white space at the line's end",
            ]
        );
    }

    #[test]
    fn notes_of_unfinished_work_are_found_as_whole_words() {
        for word in UNFINISHED {
            let text = format!("//! a\n// {word}: later\n{word}(\"x\")\n");
            assert_eq!(found(check, &[("a.rs", &text)]).len(), 2, "{word}");
        }
        let part_of_a_word = format!("//! 10.1/{}Y and {}_LIST\n", UNFINISHED[2], UNFINISHED[0]);
        assert_eq!(found(check, &[("a.rs", &part_of_a_word)]), [""; 0]);
    }

    #[test]
    fn paths_of_one_machine_are_found_in_any_text_file() {
        for folder in MACHINE {
            let text = format!("first\nsee {folder}somebody/notes\n");
            assert_eq!(found(check, &[("notes.txt", &text)]).len(), 1, "{folder}");
            let elsewhere = format!("https://example.org{folder}x and src{folder}x and `{folder}`\n");
            assert_eq!(found(check, &[("notes.txt", &elsewhere)]), [""; 0], "{folder}");
        }
    }
}
