//! From files with one artifact a line, or from the queue of the system before, into the queue, in memory that does not grow with the files.
//!
//! A thread reads and parses ([`reading`]); this side enqueues batch by batch. A batch that is in is in: whoever is
//! interrupted repeats the import, and what was there already is left as it is (INV-IDEMPOTENT).

mod input;
mod lines;
mod reading;
mod rejects;
mod rows;
mod source;
#[cfg(test)]
mod tests;
mod unpacking;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesOrdered;
use longhaul_limiter::Clock;
use longhaul_pipeline::{Record, RecordError};
use longhaul_queue_core::{ArtifactId, Class, Enqueued, JobState, NewJob, Place, StateCounts};
use serde::Serialize;
use serde_json::{Map, Value};

use self::input::Unit;
pub(crate) use self::input::{Input, is_same_file};
pub(crate) use self::lines::{Line, Lines};
pub(crate) use self::reading::Making;
use self::reading::{Batch, Reading};
use self::rejects::Rejects;
pub(crate) use self::source::Source;
use crate::exit::Exit;
use crate::output::{Console, count, number_of};
use crate::signals::Signals;
use crate::store::Opening;

/// How often an import that takes long says where it is.
const NEWS_EVERY: Duration = Duration::from_secs(5);

/// So many batches are on their way into the queue at a time: those that wait share a commit, and where a file goes
/// round many hosts each commit writes a page for almost every one of them.
const ON_THE_WAY: usize = 24;

/// What is imported and how.
#[derive(Debug)]
pub(crate) struct Import {
    /// Where the artifacts come from.
    pub(crate) input: Input,
    /// At most so many artifacts.
    pub(crate) limit: Option<u64>,
    /// Where bad lines are kept.
    pub(crate) rejects: Option<PathBuf>,
    /// Nothing goes in if any line is bad.
    pub(crate) strict: bool,
}

/// What an import did. Serialises as the documented JSON.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub(crate) struct ImportReport {
    /// Lines or rows that were read, blank and bad ones too.
    pub(crate) lines: u64,
    /// Artifacts that are new in the queue.
    pub(crate) added: u64,
    /// Of a take-over: how many of the new ones are in which state.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) states: Option<StateCounts>,
    /// Artifacts that were there already, or stand twice in the files. Left as they are.
    pub(crate) duplicates: u64,
    /// Lines or rows that could not be read.
    pub(crate) rejected: u64,
    /// Blank lines.
    pub(crate) blank: u64,
    /// Whether it ended because of `--limit`, with lines or rows unread.
    pub(crate) limit_reached: bool,
    /// Whether it was stopped before its end.
    pub(crate) interrupted: bool,
    #[serde(skip)]
    unit: Unit,
}

/// How an import ended.
#[derive(Debug)]
pub(crate) struct Imported {
    /// What it did.
    pub(crate) report: ImportReport,
    /// What a script should know.
    pub(crate) exit: Exit,
}

/// What an import works with.
#[derive(Debug)]
pub(crate) struct Importer<'a> {
    pub(crate) store: &'a Opening<'a>,
    pub(crate) making: Making,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) console: &'a Console,
    pub(crate) signals: Option<&'a mut Signals>,
}

impl Importer<'_> {
    /// Imports. What was committed before an error stays.
    pub(crate) async fn run(mut self, import: Import) -> Result<Imported> {
        let mut rejects = Rejects::open(import.rejects.as_deref(), &import.input)?;
        let mut input = import.input;
        let unit = input.unit();
        let mut report = ImportReport { unit, ..ImportReport::default() };
        if import.strict {
            input.make_repeatable()?;
            let mut checked = ImportReport { unit, ..ImportReport::default() };
            let mut reading = Reading::start(input, import.limit, self.making.clone());
            if let Some(exit) = self.drain(&mut reading, &mut rejects, &mut checked, false).await? {
                rejects.finish(self.console)?;
                self.console.warn(&format!(
                    "stopped while the {} were being checked; nothing was imported",
                    unit.many()
                ));
                return Ok(Imported { report: ImportReport { interrupted: true, ..checked }, exit });
            }
            if checked.rejected > 0 {
                rejects.finish(self.console)?;
                self.console.error(&format!(
                    "nothing was imported: {}, and --strict takes all or nothing",
                    if checked.rejected == 1 {
                        format!("1 {} is bad", unit.one())
                    } else {
                        format!("{} {} are bad", count(checked.rejected), unit.many())
                    }
                ));
                return Ok(Imported { report: checked, exit: Exit::Rejected });
            }
            input = reading.finish()?;
        }
        let mut reading = Reading::start(input, import.limit, self.making.clone());
        let stopped = self.drain(&mut reading, &mut rejects, &mut report, true).await;
        rejects.finish(self.console)?;
        let stopped = stopped.with_context(|| {
            let inside = number_of(report.added + report.duplicates, "artifact is", "artifacts are");
            format!(
                "the import ended early: {inside} in; once it is mended, the same command goes on from there"
            )
        })?;
        report.interrupted = stopped.is_some();
        let rejected = if report.rejected > 0 { Exit::Rejected } else { Exit::Success };
        Ok(Imported { exit: stopped.unwrap_or(rejected), report })
    }

    /// Takes in what is read, or with `enqueue` false only its bad lines. Returns why it was stopped, if it was.
    async fn drain(
        &mut self,
        reading: &mut Reading,
        rejects: &mut Rejects,
        report: &mut ImportReport,
        enqueue: bool,
    ) -> Result<Option<Exit>> {
        let mut said = self.clock.monotonic();
        let store = self.store;
        let mut on_the_way = FuturesOrdered::new();
        // Whatever ends it, what is on the way is awaited: the report says what is in.
        let (mut ended, mut exit, mut failed) = (false, None, None);
        loop {
            let reads = !ended && exit.is_none();
            if !reads && on_the_way.is_empty() {
                return failed.map_or(Ok(exit), Err);
            }
            let (batch, answers) = tokio::select! {
                biased;
                signal = next_signal(&mut self.signals), if exit.is_none() => {
                    exit = Some(signal);
                    continue;
                }
                Some(done) = on_the_way.next() => match done {
                    Ok(done) => done,
                    Err(error) => {
                        ended = true;
                        failed.get_or_insert(error);
                        continue;
                    }
                },
                batch = reading.next(), if reads && on_the_way.len() < ON_THE_WAY => {
                    match batch {
                        Ok(Some(batch)) => {
                            on_the_way.push_back(put_in(store, batch, enqueue, report.unit));
                        }
                        Ok(None) => ended = true,
                        Err(error) => {
                            ended = true;
                            failed.get_or_insert(error);
                        }
                    }
                    continue;
                }
            };
            report.lines += batch.lines;
            report.blank += batch.blank;
            report.limit_reached |= batch.limit_reached;
            report.rejected += batch.rejected.len() as u64;
            for rejected in &batch.rejected {
                rejects.add(rejected, self.console)?;
            }
            report.count(&batch, &answers);
            if self.clock.monotonic().saturating_sub(said) >= NEWS_EVERY {
                said = self.clock.monotonic();
                let what = if enqueue { "imported" } else { "checked" };
                self.console.note(&format!(
                    "{}: {what} up to {} {}",
                    batch.source,
                    report.unit.one(),
                    count(batch.last_line)
                ));
            }
        }
    }
}

/// Reads files without a queue: shows each good line as the job that it would become, and returns how many are bad.
pub(crate) async fn survey(
    sources: Vec<Source>,
    making: Making,
    mut show: impl FnMut(&NewJob),
) -> Result<u64> {
    let mut reading = Reading::start(Input::Lines(sources), None, making);
    let mut rejected = 0;
    while let Some(batch) = reading.next().await? {
        batch.jobs.iter().for_each(&mut show);
        rejected += batch.rejected.len() as u64;
    }
    Ok(rejected)
}

/// Enqueues or adopts a batch, unless it is only looked at. Carried out whole or not at all.
async fn put_in(
    store: &Opening<'_>,
    batch: Batch,
    enqueue: bool,
    unit: Unit,
) -> Result<(Batch, Vec<Enqueued>)> {
    let place = || format!("{}: up to {} {}", batch.source, unit.one(), count(batch.last_line));
    let mut answers = Vec::new();
    if enqueue && !batch.jobs.is_empty() {
        answers = store.store().await?.queue.enqueue(&batch.jobs).await.with_context(place)?;
    }
    if enqueue && !batch.adopted.is_empty() {
        answers = store.store().await?.admin.adopt(&batch.adopted).await.with_context(place)?;
    }
    Ok((batch, answers))
}

async fn next_signal(signals: &mut Option<&mut Signals>) -> Exit {
    match signals {
        Some(signals) => signals.next().await,
        None => std::future::pending().await,
    }
}

/// A record as a job that is to be enqueued now.
pub(crate) fn new_job(record: &Record, making: &Making) -> Result<NewJob, RecordError> {
    // The record's own checks are those of the queue's ids and classes.
    let artifact_id = ArtifactId::new(&record.artifact_id).map_err(|_| RecordError::IdHasControl)?;
    let (lane, role) = record.place(&making.keying);
    Ok(NewJob {
        artifact_id,
        payload: record.payload().to_owned(),
        resolver_hint: record.resolver_hint.clone(),
        place: Place::new(lane, role),
        priority: Class::new(record.priority).unwrap_or_default(),
        max_attempts: record.max_attempts,
        delay: record
            .available_at
            .and_then(|at| at.duration_since(making.clock.wall()).ok())
            .unwrap_or(Duration::ZERO),
    })
}

/// The text of an object with more fields put in front, which it must not have.
pub(crate) fn with_in_front(object: &str, fields: Map<String, Value>) -> String {
    let front = Value::Object(fields).to_string();
    let rest = object.trim_start().trim_start_matches('{').trim_start();
    let comma = if rest.starts_with('}') || front == "{}" { "" } else { "," };
    format!("{}{comma}{rest}", front.strip_suffix('}').unwrap_or(&front))
}

impl ImportReport {
    /// Counts what became of a batch.
    fn count(&mut self, batch: &Batch, answers: &[Enqueued]) {
        for (job, answer) in batch.adopted.iter().zip(answers) {
            let states = self.states.get_or_insert_default();
            *states.get_mut(job.state.adopted()) += u64::from(matches!(answer, Enqueued::New(_)));
        }
        for answer in answers {
            match answer {
                Enqueued::New(_) => self.added += 1,
                Enqueued::Duplicate(_) => self.duplicates += 1,
            }
        }
    }

    /// The new ones by state, if they came in several.
    fn by_state(&self) -> String {
        let Some(states) = self.states.filter(|_| self.added > 0) else { return String::new() };
        let present = JobState::ALL.into_iter().filter(|state| states.get(*state) > 0);
        let counts: Vec<String> =
            present.map(|state| format!("{} {}", count(states.get(state)), state.as_str())).collect();
        format!(" ({})", counts.join(", "))
    }

    /// The report for people, below each other.
    pub(crate) fn rows(&self) -> Vec<(&'static str, String)> {
        let mut rows = vec![("added", format!("{}{}", count(self.added), self.by_state()))];
        if self.duplicates > 0 {
            rows.push((
                "duplicates",
                format!("{} (there already, left as they are)", count(self.duplicates)),
            ));
        }
        if self.rejected > 0 {
            rows.push(("rejected", count(self.rejected)));
        }
        rows.push((self.unit.many(), count(self.lines)));
        rows
    }

    /// The report in one sentence.
    pub(crate) fn sentence(&self) -> String {
        let mut parts = vec![format!("imported {}", number_of(self.added, "new artifact", "new artifacts"))];
        if self.duplicates > 0 {
            parts.push(format!("{} were there already", count(self.duplicates)));
        }
        if self.rejected > 0 {
            parts.push(format!("{} rejected", number_of(self.rejected, self.unit.one(), self.unit.many())));
        }
        parts.join(", ")
    }

    /// What is worth saying beside the numbers.
    pub(crate) fn remark(&self) -> Option<String> {
        if self.interrupted {
            return Some(
                "stopped early: what is in is in, and the same command goes on from there".to_owned(),
            );
        }
        if self.added == 0 && self.duplicates > 0 {
            return Some("nothing new: all of it was in the queue already".to_owned());
        }
        if self.added == 0 && self.rejected == 0 {
            return Some("there was no artifact in it".to_owned());
        }
        self.limit_reached.then(|| format!("ended at --limit; there are more {}", self.unit.many()))
    }
}
