//! Lines that could not be read: the first few are said, all of them can be kept in a file.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use longhaul_pipeline::RecordError;
use longhaul_queue_core::DocsToKgRow;
use serde::Serialize;

use super::input::{Input, Unit};
use crate::exit::UsageError;
use crate::output::{Console, count};

/// How many bad lines are said one by one.
const SAID: u64 = 20;

/// A line that could not be read. Serialises as a line of the `--rejects` file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Rejected {
    file: String,
    #[serde(flatten)]
    at: At,
    reason: String,
    /// The line, or the row's artifact, as it came; what is not UTF-8 in it is replaced.
    text: String,
    /// The key that the row gave to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    artifact_id: Option<String>,
    /// Whether `text` is only its start.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    cut: bool,
}

/// Where in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum At {
    Line(u64),
    Row(i64),
}

impl Rejected {
    /// A bad row of another system's table.
    pub(super) fn row(file: &str, row: DocsToKgRow, reason: String) -> Self {
        Self {
            file: file.to_owned(),
            at: At::Row(row.id),
            reason,
            text: row.artifact_json,
            artifact_id: row.artifact_id,
            cut: row.is_cut,
        }
    }

    /// A bad line.
    pub(super) fn line(file: &str, line: u64, error: &RecordError, text: &[u8]) -> Self {
        Self {
            file: file.to_owned(),
            at: At::Line(line),
            reason: error.to_string(),
            text: String::from_utf8_lossy(text).into_owned(),
            artifact_id: None,
            cut: *error == RecordError::TooLong,
        }
    }
}

/// What is done with them.
#[derive(Debug)]
pub(super) struct Rejects {
    file: Option<(PathBuf, BufWriter<File>)>,
    seen: u64,
    unit: Unit,
}

impl Rejects {
    /// Makes the file anew, if one is wanted.
    pub(super) fn open(path: Option<&Path>, input: &Input) -> Result<Self> {
        let unit = input.unit();
        let Some(path) = path else { return Ok(Self { file: None, seen: 0, unit }) };
        if input.has_file(path) {
            let message = format!("--rejects {} would overwrite the file that is imported", path.display());
            return Err(UsageError(message).into());
        }
        let file = File::create(path).with_context(|| format!("{} cannot be written", path.display()))?;
        Ok(Self { file: Some((path.to_owned(), BufWriter::new(file))), seen: 0, unit })
    }

    /// Another one.
    pub(super) fn add(&mut self, rejected: &Rejected, console: &Console) -> Result<()> {
        self.seen += 1;
        if self.seen <= SAID {
            let file = &rejected.file;
            let place = match rejected.at {
                At::Line(line) => format!("{file}:{line}"),
                At::Row(row) => format!("{file}: jobs row {row}"),
            };
            console.plain(&format!("{place}: {}", rejected.reason));
        }
        if let Some((path, file)) = &mut self.file {
            let line = serde_json::to_string(rejected)?;
            writeln!(file, "{line}").with_context(|| format!("{} cannot be written", path.display()))?;
        }
        Ok(())
    }

    /// Says how many there were beyond the first few, and completes the file.
    pub(super) fn finish(self, console: &Console) -> Result<()> {
        if self.seen > SAID {
            let (more, units) = (count(self.seen - SAID), self.unit.many());
            console.plain(&match &self.file {
                Some((path, _)) => format!("… and {more} more bad {units}; all are in {}", path.display()),
                None => format!("… and {more} more bad {units}; --rejects FILE keeps them all"),
            });
        }
        if let Some((path, mut file)) = self.file {
            file.flush().with_context(|| format!("{} cannot be written", path.display()))?;
        }
        Ok(())
    }
}
