//! The manifest: one line of JSON for each job that ended, the last for an artifact wins.
//!
//! It is written here, and not by an observer, because an observer may drop what it hears. Several processes may
//! append to one manifest; an OS lock on it makes their lines whole.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::part::is_at;
use super::store::sync_folder;
use crate::{Ended, EndedState, Record};

/// The form of the lines.
const SCHEMA_VERSION: u32 = 1;
/// How much is read at once when the end of the last line is looked for.
const STEP_BYTES: u64 = 64 * 1024;

/// One line.
#[derive(Debug, Serialize)]
struct Line<'a> {
    schema_version: u32,
    run_id: &'a str,
    timestamp: String,
    artifact_id: &'a str,
    title: Option<String>,
    resolver: Option<&'a str>,
    url: Option<&'a str>,
    path: Option<&'a str>,
    content_type: Option<&'a str>,
    bytes: Option<u64>,
    sha256: Option<&'a str>,
    etag: Option<&'a str>,
    last_modified: Option<&'a str>,
    outcome: EndedState,
    reason: &'a str,
    detail: Option<&'a str>,
    attempts: u32,
    job: i64,
    token: i64,
}

/// What names a line: the job's number and claim, and the artifact, since another queue may count alike. Also how it ended:
/// a job that was put back and then cancelled has ended twice under one claim.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Deserialize)]
pub(super) struct LineKey {
    job: i64,
    token: i64,
    artifact_id: String,
    outcome: EndedState,
    reason: String,
}

impl LineKey {
    pub(super) fn of(ended: &Ended) -> Self {
        Self {
            job: ended.number,
            token: ended.fence,
            artifact_id: ended.artifact_id.clone(),
            outcome: ended.state,
            reason: ended.reason.clone(),
        }
    }
}

/// The line of a job that ended, with its line feed.
pub(super) fn line(ended: &Ended, run_id: &str) -> io::Result<String> {
    let fetched = ended.fetched.as_ref();
    let file = fetched.and_then(|fetched| fetched.file.as_ref());
    let timestamp = jiff::Timestamp::from_millisecond(ended.at_ms).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    let line = Line {
        schema_version: SCHEMA_VERSION,
        run_id,
        timestamp: format!("{timestamp:.3}"),
        artifact_id: &ended.artifact_id,
        title: Record::from_payload(&ended.payload).ok().and_then(|record| record.title),
        resolver: ended.resolver.as_deref().or(fetched.map(|fetched| fetched.resolver.as_str())),
        url: fetched.map(|fetched| fetched.url.as_str()),
        path: file.map(|file| file.path.as_str()),
        content_type: fetched.and_then(|fetched| fetched.content_type.as_deref()),
        bytes: file.map(|file| file.bytes),
        sha256: file.map(|file| file.sha256.as_str()),
        etag: fetched.and_then(|fetched| fetched.etag.as_deref()),
        last_modified: fetched.and_then(|fetched| fetched.last_modified.as_deref()),
        outcome: ended.state,
        reason: &ended.reason,
        detail: Some(ended.detail.as_str()).filter(|detail| !detail.is_empty()),
        attempts: ended.attempts,
        job: ended.number,
        token: ended.fence,
    };
    let mut line = serde_json::to_string(&line).map_err(io::Error::other)?;
    line.push('\n');
    Ok(line)
}

/// The manifest under lock. Whoever waits for the lock waits for a few appends.
#[derive(Debug)]
pub(super) struct Manifest {
    file: File,
    made: bool,
}

impl Manifest {
    /// Opens it, makes it if it is not there, waits for the lock, and repairs what a crash left of a last line.
    pub(super) fn lock(path: &Path) -> io::Result<Self> {
        loop {
            let made = !path.try_exists()?;
            let file = File::options().read(true).write(true).create(true).truncate(false).open(path)?;
            file.lock()?;
            // An operator may have moved it away between the opening and the lock.
            if is_at(&file, path)? {
                let mut manifest = Self { file, made };
                manifest.repair()?;
                return Ok(manifest);
            }
        }
    }

    /// Which of these have a line. Reads the manifest as a stream; a line that is not ours is passed over.
    pub(super) fn find(&mut self, wanted: &HashSet<LineKey>) -> io::Result<HashSet<LineKey>> {
        let mut found = HashSet::new();
        self.file.rewind()?;
        let mut reader = BufReader::with_capacity(STEP_BYTES as usize, &self.file);
        let mut line = Vec::new();
        while found.len() < wanted.len() {
            line.clear();
            if reader.read_until(b'\n', &mut line)? == 0 {
                break;
            }
            if let Ok(key) = serde_json::from_slice::<LineKey>(&line)
                && wanted.contains(&key)
            {
                found.insert(key);
            }
        }
        Ok(found)
    }

    /// Appends lines and makes them durable. On an error none of them is there.
    pub(super) fn append(mut self, lines: &str, path: &Path) -> io::Result<()> {
        let end = self.file.seek(SeekFrom::End(0))?;
        let written = self.file.write_all(lines.as_bytes()).and_then(|()| self.file.sync_data());
        if let Err(error) = written {
            // If that fails too, the next one who opens it repairs a torn line; whole ones are then there twice, of
            // which the last wins.
            let _ = self.file.set_len(end);
            return Err(error);
        }
        match path.parent() {
            Some(folder) if self.made => sync_folder(folder),
            _ => Ok(()),
        }
    }

    /// If the last line has no end: ends it if it is whole, else removes it. Its job's line is written again.
    fn repair(&mut self) -> io::Result<()> {
        let end = self.file.seek(SeekFrom::End(0))?;
        let mut start = end;
        let mut torn = Vec::new();
        while start > 0 {
            let step = STEP_BYTES.min(start);
            start -= step;
            let mut block = vec![0; step as usize];
            self.file.seek(SeekFrom::Start(start))?;
            self.file.read_exact(&mut block)?;
            if let Some(feed) = block.iter().rposition(|byte| *byte == b'\n') {
                start += feed as u64 + 1;
                block.drain(..=feed);
                block.append(&mut torn);
                torn = block;
                break;
            }
            block.append(&mut torn);
            torn = block;
        }
        if torn.is_empty() {
            return Ok(());
        }
        if serde_json::from_slice::<serde_json::Value>(&torn).is_ok_and(|line| line.is_object()) {
            self.file.seek(SeekFrom::End(0))?;
            return self.file.write_all(b"\n");
        }
        self.file.set_len(start)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::fs;

    use super::*;

    fn check_repair(before: &[u8], after: &[u8]) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("manifest.jsonl");
        fs::write(&path, before).unwrap();
        drop(Manifest::lock(&path).unwrap());
        assert_eq!(fs::read(&path).unwrap(), after);
    }

    #[test]
    fn a_torn_last_line_goes_and_a_whole_one_is_ended() {
        check_repair(b"", b"");
        check_repair(b"{\"a\":1}\n", b"{\"a\":1}\n");
        check_repair(b"{\"a\":1}\n{\"b\":", b"{\"a\":1}\n");
        check_repair(b"{\"a\":1}\n{\"b\":2}", b"{\"a\":1}\n{\"b\":2}\n");
        check_repair(b"{\"a\"", b"");
        check_repair(b"\0\0\0\0", b"");
        let long = format!("{{\"a\":\"{}\"}}\n", "x".repeat(200_000));
        check_repair(format!("{long}{}", &long[..150_000]).as_bytes(), long.as_bytes());
    }

    #[test]
    fn a_line_is_found_by_job_token_artifact_and_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("manifest.jsonl");
        let text = r#"{"job":1,"token":2,"artifact_id":"a","outcome":"error","reason":"gone","more":3}"#;
        Manifest::lock(&path).unwrap().append(&format!("{text}\nnot ours\n"), &path).unwrap();
        let key = |job, artifact: &str, outcome| LineKey {
            job,
            token: 2,
            artifact_id: artifact.to_owned(),
            outcome,
            reason: "gone".to_owned(),
        };
        let there = key(1, "a", EndedState::Error);
        let wanted = HashSet::from([
            there.clone(),
            key(1, "b", EndedState::Error),
            key(2, "a", EndedState::Error),
            key(1, "a", EndedState::Skipped),
        ]);
        let found = Manifest::lock(&path).unwrap().find(&wanted).unwrap();
        assert_eq!(found, HashSet::from([there]));
    }
}
