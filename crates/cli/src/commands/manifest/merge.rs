//! Which line of which file holds for each artifact.

use std::borrow::Cow;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasher as _, RandomState};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::import::{Line, Lines, Source};

/// The longest line: a title may have been a mebibyte, and an escape makes six bytes of one.
const LINE_BYTES: usize = 8 * 1024 * 1024;
/// A place is a file's number and a line's, in one word.
const LINE_BITS: u32 = 40;

/// What was merged. Serialises as the documented JSON.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub(super) struct Report {
    pub(super) artifacts: u64,
    pub(super) done: u64,
    pub(super) skipped: u64,
    pub(super) error: u64,
    /// Lines that were read, bad ones too.
    pub(super) lines: u64,
    /// Lines that are none of a manifest.
    pub(super) rejected: u64,
    pub(super) files: u64,
}

/// What of a line is looked at.
#[derive(Debug, Deserialize)]
struct Head<'a> {
    #[serde(borrow)]
    artifact_id: Cow<'a, str>,
    #[serde(borrow, default)]
    timestamp: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    outcome: Option<Cow<'a, str>>,
}

/// The line that holds so far.
#[derive(Debug, Clone, Copy)]
struct Winner {
    place: u64,
    /// Milliseconds since the Unix epoch; the least value if it does not say.
    at: i64,
}

/// A merge under way.
#[derive(Debug, Default)]
pub(super) struct Merge {
    /// By 128 bits of hash under two random keys; two of ten million artifacts meet once in 10^24 merges.
    winners: HashMap<u128, Winner>,
    keys: [RandomState; 2],
    report: Report,
}

impl Merge {
    /// Reads a file; `bad` hears of each line that is none, as `FILE:LINE` and what is wrong.
    pub(super) fn read(&mut self, source: &mut Source, mut bad: impl FnMut(String, String)) -> Result<()> {
        let name = source.name.clone();
        let file = self.report.files;
        self.report.files += 1;
        let mut lines = Lines::new(source.reader()?, LINE_BYTES);
        let mut number = 0;
        loop {
            let line = lines.next_line().with_context(|| format!("{name} cannot be read"))?;
            let Some(line) = line else { return Ok(()) };
            number += 1;
            self.report.lines += 1;
            let is_blank = matches!(line, Line::Whole(line) if line.trim_ascii().is_empty());
            if is_blank {
                continue;
            }
            let taken = head(&line).map(|head| self.take(&head, (file << LINE_BITS) | number));
            if let Err(what) = taken {
                self.report.rejected += 1;
                let what = if lines.has_end() {
                    what
                } else {
                    "the line has no end: a crash cut it off, or a run is writing it; it is left out"
                        .to_owned()
                };
                bad(format!("{name}:{number}"), what);
            }
        }
    }

    fn take(&mut self, head: &Head<'_>, place: u64) {
        let [high, low] = [0, 1].map(|key: usize| u128::from(self.keys[key].hash_one(&*head.artifact_id)));
        let at = head.timestamp.as_ref().and_then(|at| at.parse::<jiff::Timestamp>().ok());
        let new = Winner { place, at: at.map_or(i64::MIN, jiff::Timestamp::as_millisecond) };
        match self.winners.entry((high << 64) | low) {
            Entry::Vacant(free) => {
                free.insert(new);
            }
            Entry::Occupied(mut known) => {
                let old = *known.get();
                // Within a file the order of writing counts, whatever the clock did; between files nothing but the time can.
                let is_same_file = old.place >> LINE_BITS == place >> LINE_BITS;
                let has_times = old.at != i64::MIN && new.at != i64::MIN;
                if is_same_file || !has_times || new.at >= old.at {
                    known.insert(new);
                }
            }
        }
    }

    /// The places of the lines that hold, in order, and what was read.
    pub(super) fn end(self) -> (Vec<u64>, Report) {
        let mut winners: Vec<u64> = self.winners.into_values().map(|winner| winner.place).collect();
        winners.sort_unstable();
        (winners, Report { artifacts: 0, ..self.report })
    }
}

/// Reads the files again and hands out the lines that hold; false if whoever takes them has had enough.
pub(super) fn copy(
    sources: &mut [Source],
    winners: &[u64],
    report: &mut Report,
    take: &mut dyn FnMut(&str) -> Result<bool>,
) -> Result<bool> {
    let mut winners = winners.iter().copied().peekable();
    for (file, source) in sources.iter_mut().enumerate() {
        let name = source.name.clone();
        let of_file = |place: &u64| place >> LINE_BITS == file as u64;
        let mut number = 0;
        let mut lines = Lines::new(source.reader()?, LINE_BYTES);
        while let Some(place) = winners.next_if(of_file) {
            let wanted = place & ((1 << LINE_BITS) - 1);
            loop {
                let line = lines.next_line().with_context(|| format!("{name} cannot be read"))?;
                number += 1;
                if number < wanted && line.is_some() {
                    continue;
                }
                let Some((line, head)) =
                    line.as_ref().and_then(|line| Some((text(line).ok()?, head(line).ok()?)))
                else {
                    bail!("{name} was changed while it was read; merge again");
                };
                report.count(&head);
                if !take(line)? {
                    return Ok(false);
                }
                break;
            }
        }
    }
    Ok(true)
}

impl Report {
    fn count(&mut self, head: &Head<'_>) {
        self.artifacts += 1;
        match head.outcome.as_deref() {
            Some("done") => self.done += 1,
            Some("skipped") => self.skipped += 1,
            Some("error") => self.error += 1,
            _ => {}
        }
    }
}

fn text<'a>(line: &Line<'a>) -> Result<&'a str, String> {
    let line = match line {
        Line::Whole(line) => line,
        Line::TooLong(_) => return Err("the line is longer than 8 MiB".to_owned()),
    };
    let text = std::str::from_utf8(line);
    text.map_err(|error| format!("the line is not UTF-8 at column {}", error.valid_up_to() + 1))
}

/// What a line says, or what is wrong with it.
fn head<'a>(line: &Line<'a>) -> Result<Head<'a>, String> {
    let text = text(line)?;
    if !text.trim_start().starts_with('{') {
        return Err("no line of a manifest: it is no JSON object".to_owned());
    }
    // The file's line is said already, and this is the only one that the reader of JSON sees.
    let said = |error: serde_json::Error| error.to_string().replace(" at line 1 column ", " at column ");
    match serde_json::from_str::<Head<'_>>(text) {
        Ok(head) if head.artifact_id.is_empty() => Err("`artifact_id` is empty".to_owned()),
        Ok(head) => Ok(head),
        Err(error) if error.is_data() => Err(format!("no line of a manifest: {}", said(error))),
        Err(error) => Err(format!("not JSON: {}", said(error))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merged(files: &[&str]) -> (Vec<String>, Vec<String>, Report) {
        let folder = tempfile::tempdir().unwrap();
        let mut merge = Merge::default();
        let (mut bad, mut sources) = (Vec::new(), Vec::new());
        for (number, text) in files.iter().enumerate() {
            let path = folder.path().join(number.to_string());
            std::fs::write(&path, text).unwrap();
            sources.push(Source::open(&path).unwrap());
        }
        for source in &mut sources {
            merge.read(source, |place, what| bad.push(format!("{place}: {what}"))).unwrap();
        }
        let (winners, mut report) = merge.end();
        let mut lines = Vec::new();
        copy(&mut sources, &winners, &mut report, &mut |line| {
            lines.push(line.to_owned());
            Ok(true)
        })
        .unwrap();
        (lines, bad, report)
    }

    fn line(id: &str, day: u32, outcome: &str) -> String {
        format!(r#"{{"artifact_id":"{id}","timestamp":"2026-01-{day:02}T00:00:00Z","outcome":"{outcome}"}}"#)
    }

    #[test]
    fn the_last_line_of_an_artifact_wins() {
        // A clock that went back within a file changes nothing; between files the later one wins, wherever it stands.
        let (a1, a2, b) = (line("a", 9, "error"), line("a", 8, "done"), line("b", 5, "done"));
        let (b_old, c) = (line("b", 4, "error"), line("c", 1, "skipped"));
        let (lines, bad, report) = merged(&[&format!("{a1}\n{b}\n{a2}\n"), &format!("{b_old}\n\n{c}")]);
        assert_eq!((lines, bad.len()), (vec![b, a2, c], 0));
        let expected =
            Report { artifacts: 3, done: 2, skipped: 1, error: 0, lines: 6, rejected: 0, files: 2 };
        assert_eq!(report, expected);
    }

    #[test]
    fn without_times_the_file_that_is_named_later_wins() {
        let (one, two) = (r#"{"artifact_id":"a","n":1}"#, r#"{"n":2,"artifact_id":"a"}"#);
        assert_eq!(merged(&[one, two]).0, [two]);
        assert_eq!(merged(&[two, &line("a", 1, "done"), one]).0, [one]);
    }

    #[test]
    fn bad_lines_are_named_and_left_out() {
        let good = line("a", 1, "done");
        let text =
            format!("{good}\nx\n[1]\n{{\"artifact_id\":5}}\n{{\"artifact_id\":\"\"}}\n{}", &good[..20]);
        let (lines, bad, report) = merged(&[&text]);
        assert_eq!((lines, report.rejected, report.artifacts), (vec![good], 5, 1));
        for (said, part) in bad.iter().zip([
            ":2: no line",
            ":3: no line",
            ":4: no line",
            ":5: `artifact_id`",
            ":6: the line has no end",
        ]) {
            assert!(said.contains(part), "{said}");
        }
    }
}
