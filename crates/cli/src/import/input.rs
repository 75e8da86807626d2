//! What an import reads: files with an artifact a line, or the queue of the system before.

use std::path::Path;

use anyhow::Result;
use longhaul_queue_core::DocsToKgQueue;

use super::source::Source;

/// All that one import reads.
#[derive(Debug)]
pub(crate) enum Input {
    /// Files and stdin, in order.
    Lines(Vec<Source>),
    /// The queue file of DocsToKG.
    DocsToKg(Box<DocsToKgQueue>),
}

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Unit {
    /// Lines of files.
    #[default]
    Line,
    /// Rows of a table.
    Row,
}

impl Unit {
    /// The word for one of them.
    pub(crate) fn one(self) -> &'static str {
        match self {
            Unit::Line => "line",
            Unit::Row => "row",
        }
    }

    /// The word for several.
    pub(crate) fn many(self) -> &'static str {
        match self {
            Unit::Line => "lines",
            Unit::Row => "rows",
        }
    }
}

impl Input {
    /// What is counted in it.
    pub(super) fn unit(&self) -> Unit {
        match self {
            Input::Lines(_) => Unit::Line,
            Input::DocsToKg(_) => Unit::Row,
        }
    }

    /// Whether this file is read.
    pub(super) fn has_file(&self, path: &Path) -> bool {
        match self {
            Input::Lines(sources) => sources.iter().any(|source| source.is_file(path)),
            Input::DocsToKg(old) => is_same_file(old.path(), path),
        }
    }

    /// Makes sure that it can be read twice.
    pub(super) fn make_repeatable(&mut self) -> Result<()> {
        match self {
            Input::Lines(sources) => sources.iter_mut().try_for_each(Source::make_repeatable),
            Input::DocsToKg(_) => Ok(()),
        }
    }
}

/// Whether both lead to the same file that is there.
pub(crate) fn is_same_file(one: &Path, other: &Path) -> bool {
    match (one.canonicalize(), other.canonicalize()) {
        (Ok(one), Ok(other)) => one == other,
        _ => false,
    }
}
