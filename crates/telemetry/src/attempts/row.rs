//! One line of the attempts file, in either form.

use std::io;
use std::path::Path;
use std::time::SystemTime;

use longhaul_events::{Event, RequestStatus, Verb};
use longhaul_limiter::Role;
use serde::Serialize;

/// The fields in their order; [`Row`] has the same.
pub(super) const FIELDS: &[&str] = &[
    "timestamp",
    "run_id",
    "job_id",
    "artifact_id",
    "resolver",
    "resolver_order",
    "url",
    "verb",
    "status",
    "http_status",
    "content_type",
    "elapsed_ms",
    "wait_ms",
    "bytes",
    "reason",
    "retry_after_s",
    "from_cache",
    "sha256",
    "lane",
    "role",
];

/// How lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// One JSON object a line.
    JsonLines,
    /// Comma-separated values under a head line.
    Csv,
}

impl Format {
    /// The form that a name asks for.
    pub(super) fn of(path: &Path) -> Self {
        let csv = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("csv"));
        if csv { Self::Csv } else { Self::JsonLines }
    }

    /// What stands above the first line.
    pub(super) fn head(self) -> String {
        match self {
            Self::JsonLines => String::new(),
            Self::Csv => FIELDS.join(",") + "\n",
        }
    }
}

#[derive(Debug, Serialize)]
struct Row<'a> {
    timestamp: String,
    run_id: &'a str,
    job_id: i64,
    artifact_id: &'a str,
    resolver: &'a str,
    resolver_order: u32,
    url: &'a str,
    verb: Verb,
    status: RequestStatus,
    http_status: Option<u16>,
    content_type: Option<&'a str>,
    elapsed_ms: u64,
    wait_ms: u64,
    bytes: u64,
    reason: &'a str,
    retry_after_s: Option<f64>,
    from_cache: bool,
    sha256: Option<&'a str>,
    lane: &'a str,
    role: Role,
}

/// Appends the line of a request; nothing for any other event.
pub(super) fn write(
    format: Format,
    run_id: &str,
    at: SystemTime,
    event: &Event,
    text: &mut Vec<u8>,
) -> io::Result<()> {
    let Event::Request {
        job,
        artifact_id,
        resolver,
        resolver_order,
        url,
        lane,
        role,
        verb,
        status,
        http_status,
        content_type,
        wait,
        elapsed,
        bytes,
        reason,
        retry_after,
        from_cache,
        sha256,
    } = event
    else {
        return Ok(());
    };
    let milliseconds = |time: std::time::Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let timestamp = jiff::Timestamp::try_from(at).map_err(io::Error::other)?;
    let row = Row {
        timestamp: format!("{timestamp:.3}"),
        run_id,
        job_id: *job,
        artifact_id,
        resolver,
        resolver_order: *resolver_order,
        url,
        verb: *verb,
        status: *status,
        http_status: *http_status,
        content_type: content_type.as_deref(),
        elapsed_ms: milliseconds(*elapsed),
        wait_ms: milliseconds(*wait),
        bytes: *bytes,
        reason,
        retry_after_s: retry_after.map(|length| length.as_secs_f64()),
        from_cache: *from_cache,
        sha256: sha256.as_deref(),
        lane: lane.as_str(),
        role: *role,
    };
    match format {
        Format::JsonLines => {
            serde_json::to_writer(&mut *text, &row)?;
            text.push(b'\n');
        }
        Format::Csv => {
            let start = text.len();
            let mut csv = csv::WriterBuilder::new().has_headers(false).from_writer(&mut *text);
            csv.serialize(&row).map_err(io::Error::other)?;
            csv.flush()?;
            drop(csv);
            one_line(&mut text[start..]);
        }
    }
    Ok(())
}

/// A quoted value may hold line breaks; here each line is a row, so that a torn one can be told from a whole one
/// without reading all that is before it.
fn one_line(row: &mut [u8]) {
    if let Some((_, values)) = row.split_last_mut() {
        values.iter_mut().filter(|byte| matches!(byte, b'\n' | b'\r')).for_each(|byte| *byte = b' ');
    }
}
