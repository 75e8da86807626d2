//! What a run writes down for others to read, beside its files and their manifest: the attempts and the report.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use longhaul_events::Observer;
use longhaul_limiter::{Clock, LaneRules};
use longhaul_queue_core::QueueStats;
use longhaul_telemetry::{
    AttemptsFile, AttemptsOptions, EndedRun, Left, Repair, ReportFiles, ReportTarget, RunEnding, RunReport,
};

use crate::args::RunArgs;
use crate::exit::{Exit, UsageError};
use crate::output::{Console, count, number_of};
use crate::summary::advice;

/// The files that were asked for, open.
#[derive(Debug)]
pub(super) struct Records {
    run_id: String,
    attempts: Option<(PathBuf, Arc<AttemptsFile>)>,
    report: Option<(Arc<RunReport>, ReportFiles)>,
}

/// The end of a run, as the report tells it.
#[derive(Debug)]
pub(super) struct Ending<'a> {
    pub(super) ended: RunEnding,
    pub(super) because: Option<&'a str>,
    pub(super) queue: String,
    pub(super) unpublished: u64,
    /// What the queue holds, if it could say.
    pub(super) stats: Option<&'a QueueStats>,
    pub(super) rules: &'a LaneRules,
    pub(super) output_dir: &'a Path,
    pub(super) manifest: &'a Path,
}

impl Records {
    /// Opens what is asked for, so that a run does not find out at its end that something cannot be written. The run
    /// begins now.
    pub(super) fn open(
        args: &RunArgs,
        run_id: &str,
        clock: &Arc<dyn Clock>,
        console: &Console,
    ) -> Result<Self> {
        let report = match &args.report {
            None => None,
            Some(target) => {
                let files = target.clone().open();
                let name = target.path().display();
                let files = files.with_context(|| format!("the report {name} cannot be written"))?;
                Some((Arc::new(RunReport::start(Arc::clone(clock))), files))
            }
        };
        let mut attempts = None;
        if let Some(path) = &args.attempts {
            let options = AttemptsOptions { max_bytes: args.attempts_max_size, keep: args.attempts_keep };
            let file = AttemptsFile::open(path, run_id, options, Arc::clone(clock));
            let name = path.display();
            let file = file.with_context(|| format!("the attempts file {name} cannot be written"))?;
            match file.repair() {
                Some(Repair::Removed(bytes)) => console.warn(&format!(
                    "the last line of {name} was torn, perhaps by a crash; {} of it were removed",
                    number_of(bytes, "byte", "bytes")
                )),
                Some(Repair::Ended) => {
                    console
                        .note(&format!("the last line of {name} had no end, and was whole; it has one now"));
                }
                None => {}
            }
            attempts = Some((path.clone(), Arc::new(file)));
        }
        Ok(Self { run_id: run_id.to_owned(), attempts, report })
    }

    /// Who has to hear of the run.
    pub(super) fn observers(&self) -> impl Iterator<Item = Arc<dyn Observer>> {
        let attempts = self.attempts.iter().map(|(_, file)| Arc::clone(file) as Arc<dyn Observer>);
        attempts.chain(self.report.iter().map(|(report, _)| Arc::clone(report) as Arc<dyn Observer>))
    }

    /// Ends the attempts file and writes the report. Says what is missing; the run itself is not changed by that.
    pub(super) fn close(&self, ending: &Ending<'_>, console: &Console) -> Exit {
        self.close_attempts(console);
        let Some((report, files)) = &self.report else { return Exit::Success };
        let counts = ending.stats.map(|stats| &stats.counts);
        let report = report.finish(&EndedRun {
            run_id: &self.run_id,
            version: env!("CARGO_PKG_VERSION"),
            queue: &ending.queue,
            ended: ending.ended,
            because: ending.because,
            output_dir: ending.output_dir,
            manifest: ending.manifest,
            attempts: self.attempts.as_ref().map(|(path, _)| path.as_path()),
            unpublished: ending.unpublished,
            left: counts.map(|counts| Left {
                queued: counts.queued,
                in_progress: counts.in_progress,
                done: counts.done,
                skipped: counts.skipped,
                error: counts.error,
            }),
            rules: ending.rules,
            advice,
        });
        match files.write(&report) {
            Ok(names) => {
                let names: Vec<String> = names.iter().map(|name| name.display().to_string()).collect();
                console.note(&format!("report   {}", names.join(" and ")));
                Exit::Success
            }
            Err(error) => {
                console.error(&format!(
                    "the report could not be written: {error}; the run itself is not affected"
                ));
                Exit::Failure
            }
        }
    }

    fn close_attempts(&self, console: &Console) {
        let Some((path, file)) = &self.attempts else { return };
        let end = file.finish();
        let name = path.display();
        if end.dropped > 0 {
            console.warn(&format!(
                "{} of {name} are missing: the disk was too slow for them, or another process kept the file locked",
                number_of(end.dropped, "line", "lines")
            ));
        }
        if end.failed > 0 {
            let because = end.failed_because.map_or_else(String::new, |because| format!(": {because}"));
            let lines = number_of(end.failed, "line", "lines");
            console.warn(&format!("{lines} of {name} could not be written{because}"));
        }
        if end.mended > 0 {
            let lines = count(end.mended);
            console.warn(&format!(
                "torn lines that other processes left in {name} and that were removed: {lines}"
            ));
        }
    }
}

/// What a run writes down must not be written over anything else of it: another record, its input, its queue, or one of
/// the files that it fetches.
pub(super) fn refuse_collisions(args: &RunArgs, queue: &Path) -> Result<()> {
    let manifest = super::manifest(args);
    let mut written = vec![("the manifest", manifest.as_path())];
    written.extend(args.attempts.iter().map(|path| ("--attempts", path.as_path())));
    for page in args.report.iter().flat_map(ReportTarget::files) {
        if resolved(page).starts_with(resolved(&args.output_dir)) {
            let message = format!(
                "--report {} would lie among the files that are fetched, in {}; choose a place outside of it",
                page.display(),
                args.output_dir.display()
            );
            return Err(UsageError(message).into());
        }
        written.push(("--report", page));
    }
    let read = args.import.iter().map(|path| ("the list to import", path.as_path()));
    let all: Vec<(&str, &Path)> = written.iter().copied().chain([("the queue", queue)]).chain(read).collect();
    for (index, (what, path)) in written.iter().enumerate() {
        if let Some((other, _)) = all[index + 1..].iter().find(|(_, other)| resolved(other) == resolved(path))
        {
            let message = format!(
                "{what} and {other} are the same file, {}; give each a name of its own",
                path.display()
            );
            return Err(UsageError(message).into());
        }
    }
    Ok(())
}

/// Where a path leads, as far as it exists.
fn resolved(path: &Path) -> PathBuf {
    let whole = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut missing = Vec::new();
    let mut there = whole.as_path();
    loop {
        if let Ok(mut found) = there.canonicalize() {
            found.extend(missing.iter().rev());
            return found;
        }
        let (Some(parent), Some(name)) = (there.parent(), there.file_name()) else { return whole };
        missing.push(name);
        there = parent;
    }
}
