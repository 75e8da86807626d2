//! `cargo xtask tidy`: what people forget and no other tool checks. Each check is a function from the [`Tree`] to
//! its findings, in a module of its own.
//!
//! A finding says where, what and what to do. There is no list of exceptions: a rule that needs one is worded so that
//! the exception is visible where it stands.

mod invariants;
mod links;
mod manifests;
mod names;
mod reference;
mod rust_files;
mod test_code;
mod text;
mod tree;

use std::fmt;

use anyhow::{Result, bail};

use crate::process;
use crate::reference::made;
use tree::Tree;

/// One thing to mend.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Finding {
    path: String,
    /// Counted from 1.
    line: usize,
    what: String,
    mend: String,
}

impl Finding {
    fn new(path: &str, line: usize, what: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line, what: what.into(), mend: mend.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}; {}", self.path, self.line, self.what, self.mend)
    }
}

const CHECKS: [fn(&Tree) -> Vec<Finding>; 7] = [
    rust_files::check,
    text::check,
    names::check,
    test_code::check,
    manifests::check,
    invariants::check,
    links::check,
];

pub(crate) fn run() -> Result<()> {
    let tree = Tree::read(&process::root())?;
    let mut findings: Vec<Finding> = CHECKS.iter().flat_map(|check| check(&tree)).collect();
    findings.extend(reference::check(&tree, &made()?));
    findings.sort();
    for finding in &findings {
        eprintln!("{finding}");
    }
    if !findings.is_empty() {
        bail!("things to mend: {}, in a tree of {} files", findings.len(), tree.paths().len());
    }
    eprintln!("tidy: {} files are as they should be", tree.paths().len());
    Ok(())
}

/// For the checks' tests: what is found in a tree of these files, as `path:line: what`.
#[cfg(test)]
fn found(check: fn(&Tree) -> Vec<Finding>, files: &[(&str, &str)]) -> Vec<String> {
    let findings = check(&Tree::of(files));
    findings.iter().map(|finding| format!("{}:{}: {}", finding.path, finding.line, finding.what)).collect()
}
