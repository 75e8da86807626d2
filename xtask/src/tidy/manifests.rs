//! Each dependency has its line of reason, once, in the workspace's manifest; each crate inherits everything that all
//! have in common.
//!
//! The manifests are read line by line, in the layout that we write: a table's name or a key at the line's start.

use super::Finding;
use super::tree::{File, Tree};

const INHERITED: [&str; 5] = ["version", "edition", "rust-version", "license", "publish"];

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in tree.files() {
        if file.path == "Cargo.toml" {
            reasons(file, &mut findings);
        // A crate that is a workspace of its own (a fuzz target) can inherit nothing.
        } else if file.path.ends_with("/Cargo.toml") && !file.text.lines().any(|line| line == "[workspace]") {
            member(file, &mut findings);
        }
    }
    findings
}

/// Every entry of `[workspace.dependencies]` stands below a comment that names it, as `# name: why` or
/// `# name, other: why`; our own crates stand below any comment.
fn reasons(file: &File, findings: &mut Vec<Finding>) {
    let mut comment = String::new();
    let mut after_comment = false;
    for entry in entries(file).filter(|entry| entry.table == "workspace.dependencies") {
        match entry.line {
            Line::Blank => comment.clear(),
            Line::Comment(text) => {
                if !after_comment {
                    comment.clear();
                }
                comment.push_str(text);
                comment.push(' ');
            }
            Line::Key { name, value } => {
                let our_own = value.contains("path = ") && !comment.is_empty();
                let named = comment.split_once(':').is_some_and(|(names, why)| {
                    names.split(',').any(|named| named.trim() == name) && !why.trim().is_empty()
                });
                if !our_own && !named {
                    let what = format!("the dependency {name} has no reason");
                    let mend = format!("say above it what it is for: `# {name}: …`");
                    findings.push(Finding::new(&file.path, entry.number, what, mend));
                }
            }
            Line::Table | Line::Continued => {}
        }
        after_comment = matches!(entry.line, Line::Comment(_));
    }
}

fn member(file: &File, findings: &mut Vec<Finding>) {
    let keys: Vec<_> = entries(file)
        .filter_map(|entry| match entry.line {
            Line::Key { name, value } => Some((entry.number, entry.table, name, value)),
            _ => None,
        })
        .collect();
    for key in INHERITED {
        let wanted = format!("{key}.workspace");
        if !keys
            .iter()
            .any(|(_, table, name, value)| *table == "package" && *name == wanted && *value == "true")
        {
            let what = format!("the crate does not inherit `{key}`");
            findings.push(Finding::new(
                &file.path,
                1,
                what,
                format!("write `{wanted} = true` below [package]"),
            ));
        }
    }
    if !keys
        .iter()
        .any(|(_, table, name, value)| *table == "lints" && *name == "workspace" && *value == "true")
    {
        let what = "the crate does not inherit the lints";
        findings.push(Finding::new(&file.path, 1, what, "write `workspace = true` below [lints]"));
    }
    for (number, table, name, value) in keys {
        let lists_dependencies = table.rsplit('.').next().is_some_and(|last| last.ends_with("dependencies"));
        let inherits = name.ends_with(".workspace") || value.contains("workspace = true");
        if lists_dependencies && !inherits {
            let what = format!("the dependency {name} is not the workspace's");
            let mend =
                "add it to [workspace.dependencies] with its reason, and write `.workspace = true` here";
            findings.push(Finding::new(&file.path, number, what, mend));
        }
    }
}

struct Entry<'a> {
    number: usize,
    table: &'a str,
    line: Line<'a>,
}

#[derive(Clone, Copy)]
enum Line<'a> {
    Blank,
    Comment(&'a str),
    Table,
    Key {
        name: &'a str,
        value: &'a str,
    },
    /// The rest of a value that goes over several lines.
    Continued,
}

fn entries(file: &File) -> impl Iterator<Item = Entry<'_>> {
    let mut table = "";
    file.lines().map(move |(number, text)| {
        let line = if text.trim().is_empty() {
            Line::Blank
        } else if let Some(comment) = text.strip_prefix('#') {
            Line::Comment(comment.trim())
        } else if text.starts_with('[') {
            table = text.trim_end().trim_start_matches('[').trim_end_matches(']');
            Line::Table
        } else {
            match text.split_once('=') {
                Some((name, value)) if text.starts_with(|c: char| c.is_alphanumeric()) => {
                    Line::Key { name: name.trim(), value: value.trim() }
                }
                _ => Line::Continued,
            }
        };
        Entry { number, table, line }
    })
}

#[cfg(test)]
mod tests {
    use super::super::found;
    use super::*;

    #[test]
    fn a_dependency_without_a_reason_is_found() {
        let manifest = "\
[workspace.dependencies]
# Our own crates.
ours = { path = \"ours\" }
other-of-ours = { path = \"other\" }
# serde, serde_json: what is
# written down.
serde = { version = \"1\", features = [
    \"derive\",
] }
serde_json = \"1\"
url = \"2\"
# sha2: digests.

sha2 = \"0.11\"
# Something about bytes: it is fast.
bytes = \"1\"
# tokio:
tokio = \"1\"

[profile.dev]
debug = 1
";
        let reasons = found(check, &[("Cargo.toml", manifest)]);
        assert_eq!(
            reasons,
            [
                "Cargo.toml:11: the dependency url has no reason",
                "Cargo.toml:14: the dependency sha2 has no reason",
                "Cargo.toml:16: the dependency bytes has no reason",
                "Cargo.toml:18: the dependency tokio has no reason",
            ]
        );
    }

    const MEMBER: &str = "\
[package]
name = \"a\"
version.workspace = true
edition.workspace = true
rust-version.workspace = true
license.workspace = true
publish.workspace = true

[dependencies]
serde.workspace = true
tokio = { workspace = true, optional = true }

[lints]
workspace = true
";

    #[test]
    fn a_crate_that_inherits_everything_is_fine() {
        assert_eq!(found(check, &[("crates/a/Cargo.toml", MEMBER)]), [""; 0]);
    }

    #[test]
    fn a_crate_that_keeps_something_of_its_own_is_found() {
        let own = MEMBER
            .replace("edition.workspace = true", "edition = \"2021\"")
            .replace("serde.workspace = true", "serde = \"1\"")
            .replace(
                "[lints]\nworkspace = true\n",
                "[target.'cfg(unix)'.dev-dependencies]\nlibc = \"0.2\"\n",
            );
        assert_eq!(
            found(check, &[("crates/a/Cargo.toml", &own)]),
            [
                "crates/a/Cargo.toml:1: the crate does not inherit `edition`",
                "crates/a/Cargo.toml:1: the crate does not inherit the lints",
                "crates/a/Cargo.toml:10: the dependency serde is not the workspace's",
                "crates/a/Cargo.toml:14: the dependency libc is not the workspace's",
            ]
        );
    }

    #[test]
    fn a_workspace_of_its_own_is_left_alone() {
        assert_eq!(found(check, &[("fuzz/Cargo.toml", "[package]\nname = \"f\"\n\n[workspace]\n")]), [""; 0]);
    }
}
