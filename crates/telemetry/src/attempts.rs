//! The attempts file: one JSON line for each request that was made.
//!
//! Lines are appended by a thread of its own, behind a bounded channel. A line that a crash has torn is ended when the
//! file is opened again, so that no later line is spoilt by it.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use longhaul_events::{Event, Observer};
use serde_json::{Value, json};

/// Lines that may wait to be written; at most a few hundred kilobytes.
const WAITING_MAX: usize = 1024;

/// Writes a line for each [`Event::Request`]. What is waiting when it is dropped is still written.
#[derive(Debug)]
pub struct AttemptsFile {
    run_id: String,
    lines: Mutex<Option<SyncSender<String>>>,
    dropped: AtomicU64,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl AttemptsFile {
    /// Appends to a file, which is created if it is missing. `run_id` stands in every line.
    ///
    /// # Errors
    /// If the file cannot be opened for appending.
    pub fn open(path: &Path, run_id: impl Into<String>) -> io::Result<Self> {
        let mut file = OpenOptions::new().create(true).read(true).append(true).open(path)?;
        end_torn_line(&mut file)?;
        let (lines, waiting) = sync_channel(WAITING_MAX);
        let writer = thread::spawn(move || write(file, &waiting));
        Ok(Self {
            run_id: run_id.into(),
            lines: Mutex::new(Some(lines)),
            dropped: AtomicU64::new(0),
            writer: Mutex::new(Some(writer)),
        })
    }

    /// Writes what is waiting and returns how many lines were dropped because the disk was too slow. Later events
    /// are dropped and not counted.
    pub fn finish(&self) -> u64 {
        // The writer ends when the channel is closed. If it has panicked, its file ends where it did.
        drop(self.lines.lock().unwrap_or_else(PoisonError::into_inner).take());
        if let Some(writer) = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take() {
            let _ = writer.join();
        }
        self.dropped.load(Ordering::Relaxed)
    }
}

impl Drop for AttemptsFile {
    fn drop(&mut self) {
        self.finish();
    }
}

impl Observer for AttemptsFile {
    fn on_event(&self, event: &Event) {
        let Some(line) = line(&self.run_id, event) else { return };
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.as_ref().is_some_and(|lines| lines.try_send(line.to_string()).is_err()) {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The line of an event, if it has one.
fn line(run_id: &str, event: &Event) -> Option<Value> {
    let Event::Request {
        job,
        artifact_id,
        resolver,
        resolver_order,
        url,
        lane,
        role,
        verb,
        http_status,
        content_type,
        elapsed,
        bytes,
        reason,
        retry_after,
        ..
    } = event
    else {
        return None;
    };
    Some(json!({
        "timestamp": jiff::Timestamp::now().to_string(),
        "run_id": run_id,
        "job_id": job,
        "artifact_id": artifact_id,
        "resolver": resolver,
        "resolver_order": resolver_order,
        "url": url,
        "lane": lane,
        "role": role,
        "verb": verb,
        "http_status": http_status,
        "content_type": content_type,
        "elapsed_ms": u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX),
        "bytes": bytes,
        "reason": reason,
        "retry_after_s": retry_after.map(|length| length.as_secs_f64()),
    }))
}

fn end_torn_line(file: &mut File) -> io::Result<()> {
    if file.seek(SeekFrom::End(0))? == 0 {
        return Ok(());
    }
    file.seek(SeekFrom::End(-1))?;
    let mut last = [0];
    file.read_exact(&mut last)?;
    if last == *b"\n" { Ok(()) } else { file.write_all(b"\n") }
}

/// Writes lines until the channel closes; flushes whenever nothing waits.
fn write(file: File, waiting: &Receiver<String>) {
    let mut file = BufWriter::new(file);
    while let Ok(line) = waiting.recv() {
        let mut next = Some(line);
        while let Some(line) = next {
            // A full disk loses lines of this file and nothing else; the run itself meets it and says so.
            let _ = writeln!(file, "{line}");
            next = waiting.try_recv().ok();
        }
        let _ = file.flush();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::time::Duration;

    use longhaul_events::{RequestStatus, Verb};
    use longhaul_limiter::{Lane, Role};

    use super::*;

    fn request(job: i64) -> Event {
        Event::Request {
            job,
            artifact_id: "a".to_owned(),
            resolver: "direct".to_owned(),
            resolver_order: 0,
            url: "https://h.example/a".to_owned(),
            lane: Lane::new("h.example").unwrap(),
            role: Role::Artifact,
            verb: Verb::Get,
            status: RequestStatus::Throttled,
            http_status: Some(429),
            content_type: None,
            wait: Duration::ZERO,
            elapsed: Duration::from_millis(12),
            bytes: 0,
            reason: "throttled".to_owned(),
            retry_after: Some(Duration::from_secs(2)),
            from_cache: false,
            sha256: None,
        }
    }

    fn read(path: &Path) -> Vec<Value> {
        let text = std::fs::read_to_string(path).unwrap();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    #[test]
    fn each_request_has_a_line_and_other_events_have_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("attempts.jsonl");
        let attempts = AttemptsFile::open(&path, "run").unwrap();
        for job in 0..500 {
            attempts.on_event(&request(job));
            attempts.on_event(&Event::Leased { count: 1 });
        }
        assert_eq!(attempts.finish(), 0);
        let lines = read(&path);
        assert_eq!(lines.len(), 500);
        assert_eq!(
            (&lines[7]["job_id"], &lines[7]["verb"], &lines[7]["retry_after_s"]),
            (&7.into(), &"GET".into(), &2.0.into())
        );
    }

    #[test]
    fn a_torn_line_spoils_no_later_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("attempts.jsonl");
        std::fs::write(&path, "{\"job_id\": 1}\n{\"job_").unwrap();
        let attempts = AttemptsFile::open(&path, "run").unwrap();
        attempts.on_event(&request(2));
        drop(attempts);
        let jobs: Vec<Value> = read(&path).into_iter().map(|line| line["job_id"].clone()).collect();
        assert_eq!(jobs, [1, 2]);
    }
}
