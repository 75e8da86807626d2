//! Lines that could not be read: the first few are said, all of them can be kept in a file.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use longhaul_pipeline::RecordError;
use serde::Serialize;

use super::source::Source;
use crate::exit::UsageError;
use crate::output::{Console, count};

/// How many bad lines are said one by one.
const SAID: u64 = 20;

/// A line that could not be read. Serialises as a line of the `--rejects` file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Rejected {
    file: String,
    line: u64,
    reason: String,
    /// The line as it came; what is not UTF-8 in it is replaced.
    text: String,
    /// Whether `text` is only its start.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    cut: bool,
}

impl Rejected {
    pub(super) fn new(file: &str, line: u64, error: &RecordError, text: &[u8]) -> Self {
        Self {
            file: file.to_owned(),
            line,
            reason: error.to_string(),
            text: String::from_utf8_lossy(text).into_owned(),
            cut: *error == RecordError::TooLong,
        }
    }
}

/// What is done with them.
#[derive(Debug)]
pub(super) struct Rejects {
    file: Option<(PathBuf, BufWriter<File>)>,
    seen: u64,
}

impl Rejects {
    /// Makes the file anew, if one is wanted.
    pub(super) fn open(path: Option<&Path>, sources: &[Source]) -> Result<Self> {
        let Some(path) = path else { return Ok(Self { file: None, seen: 0 }) };
        if sources.iter().any(|source| source.is_file(path)) {
            let message = format!("--rejects {} would overwrite the file that is imported", path.display());
            return Err(UsageError(message).into());
        }
        let file = File::create(path).with_context(|| format!("{} cannot be written", path.display()))?;
        Ok(Self { file: Some((path.to_owned(), BufWriter::new(file))), seen: 0 })
    }

    /// Another one.
    pub(super) fn add(&mut self, rejected: &Rejected, console: &Console) -> Result<()> {
        self.seen += 1;
        if self.seen <= SAID {
            console.plain(&format!("{}:{}: {}", rejected.file, rejected.line, rejected.reason));
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
            let more = count(self.seen - SAID);
            console.plain(&match &self.file {
                Some((path, _)) => format!("… and {more} more bad lines; all are in {}", path.display()),
                None => format!("… and {more} more bad lines; --rejects FILE keeps them all"),
            });
        }
        if let Some((path, mut file)) = self.file {
            file.flush().with_context(|| format!("{} cannot be written", path.display()))?;
        }
        Ok(())
    }
}
