//! `longhaul queue manifest`: merges manifests into one with a line for each artifact.
//!
//! The files are read twice, as streams: first to find the line of each artifact that holds, then to copy these lines as they
//! are. Between the two, memory holds some fifty bytes for each artifact, however long its lines.

mod merge;

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use self::merge::{Merge, Report};
use super::import::open_all;
use crate::args::{Format, ManifestArgs};
use crate::exit::{Exit, UsageError};
use crate::import::{Source, is_same_file};
use crate::output::{Console, count, number_of, print_data, table, write_data};
use anyhow::{Context, Result, bail};

/// So much is written at once.
const CHUNK_BYTES: usize = 256 * 1024;
/// How many bad lines are said one by one.
const SAID: u64 = 20;

/// Merges.
pub(crate) fn manifest(args: &ManifestArgs, console: &Console) -> Result<Exit> {
    if let Some(output) = &args.output
        && args.files.iter().any(|file| is_same_file(file, output))
    {
        let message = format!(
            "--output {0} is one of the files that are merged, and a run may be writing to it; name another file",
            output.display()
        );
        return Err(UsageError(message).into());
    }
    let mut sources = open_all(&args.files)?;
    sources.iter_mut().try_for_each(Source::make_repeatable)?;
    let mut merge = Merge::default();
    let mut said = 0;
    for source in &mut sources {
        merge.read(source, |place, what| {
            said += 1;
            if said <= SAID {
                console.plain(&format!("{place}: {what}"));
            }
        })?;
    }
    if said > SAID {
        console.plain(&format!("… and {} more bad lines", count(said - SAID)));
    }
    let (winners, mut report) = merge.end();
    if let Some(output) = &args.output {
        write_file(output, |take| merge::copy(&mut sources, &winners, &mut report, take))?;
        print_data(&match args.format {
            Format::Json | Format::Jsonl => serde_json::to_string(&report)?,
            Format::Table => table(&report.rows()),
        })?;
    } else {
        print(args.format, |take| merge::copy(&mut sources, &winners, &mut report, take))?;
        console.note(&report.sentence());
    }
    Ok(if report.rejected > 0 { Exit::Rejected } else { Exit::Success })
}

/// Prints the lines as they are, or as one JSON list.
fn print(
    format: Format,
    lines: impl FnOnce(&mut dyn FnMut(&str) -> Result<bool>) -> Result<bool>,
) -> Result<()> {
    let is_list = format == Format::Json;
    let mut chunk = String::from(if is_list { "[" } else { "" });
    let mut is_first = true;
    let wanted = lines(&mut |line| {
        if is_list && !is_first {
            chunk.push(',');
        }
        is_first = false;
        chunk.push_str(line);
        if !is_list {
            chunk.push('\n');
        }
        if chunk.len() < CHUNK_BYTES {
            return Ok(true);
        }
        Ok(write_data(&std::mem::take(&mut chunk))?)
    })?;
    if wanted {
        chunk.push_str(if is_list { "]\n" } else { "" });
        write_data(&chunk)?;
    }
    Ok(())
}

/// Writes a file beside the one that it replaces, so that nobody ever sees half of it.
fn write_file(
    path: &Path,
    lines: impl FnOnce(&mut dyn FnMut(&str) -> Result<bool>) -> Result<bool>,
) -> Result<()> {
    let failed = || format!("{} cannot be written", path.display());
    if path.is_dir() {
        bail!("{} is a folder; name a file in it", path.display());
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // Whoever may read other new files may read this one.
    let mode = std::fs::Permissions::from_mode(0o666);
    let temporary = tempfile::Builder::new().permissions(mode).tempfile_in(folder).with_context(failed)?;
    let mut file = std::io::BufWriter::with_capacity(CHUNK_BYTES, temporary);
    lines(&mut |line| {
        file.write_all(line.as_bytes()).and_then(|()| file.write_all(b"\n")).with_context(failed)?;
        Ok(true)
    })?;
    let file = file.into_inner().map_err(std::io::IntoInnerError::into_error).with_context(failed)?;
    file.as_file().sync_all().with_context(failed)?;
    file.persist(path).map_err(|error| error.error).with_context(failed)?;
    std::fs::File::open(folder).and_then(|folder| folder.sync_all()).with_context(failed)
}

impl Report {
    fn by_outcome(&self) -> String {
        let counts = [("done", self.done), ("skipped", self.skipped), ("error", self.error)];
        let counts = counts.iter().filter(|(_, many)| *many > 0);
        let counts: Vec<String> = counts.map(|(name, many)| format!("{} {name}", count(*many))).collect();
        if counts.is_empty() { String::new() } else { format!(" ({})", counts.join(", ")) }
    }

    fn rows(&self) -> Vec<(&'static str, String)> {
        let mut rows = vec![
            ("artifacts", format!("{}{}", count(self.artifacts), self.by_outcome())),
            ("lines", count(self.lines)),
            ("files", count(self.files)),
        ];
        if self.rejected > 0 {
            rows.push(("rejected", count(self.rejected)));
        }
        rows
    }

    fn sentence(&self) -> String {
        let artifacts = number_of(self.artifacts, "artifact", "artifacts");
        let lines = number_of(self.lines, "line", "lines");
        let files = number_of(self.files, "file", "files");
        let rejected = match self.rejected {
            0 => String::new(),
            many => format!("; {} left out", number_of(many, "bad line", "bad lines")),
        };
        format!("{artifacts}{} of {lines} in {files}{rejected}", self.by_outcome())
    }
}
