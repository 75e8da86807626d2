//! `longhaul queue import`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Result;
use longhaul_limiter::Clock;
use longhaul_pipeline::Record;
use longhaul_queue_core::DocsToKgQueue;

use crate::args::{Format, Global, ImportArgs};
use crate::exit::{Exit, UsageError};
use crate::import::{Import, ImportReport, Importer, Input, Making, Source, is_same_file};
use crate::output::{Console, print_data, table};
use crate::signals::Signals;
use crate::store::Opening;

/// Imports files.
pub(crate) async fn import(
    global: &Global,
    args: ImportArgs,
    console: &Console,
    clock: Arc<dyn Clock>,
) -> Result<Exit> {
    // Before the queue is made: a mistyped name should leave nothing behind.
    let input = match &args.from_docstokg {
        Some(old) => Input::DocsToKg(Box::new(open_old(old, &global.queue).await?)),
        None => Input::Lines(open_all(&args.files)?),
    };
    let opening = Opening::new(global, Arc::clone(&clock));
    // What is wrong with a queue that is there is said before anything is read.
    if global.queue.exists() {
        opening.store().await?;
    }
    let mut signals = Signals::listen()?;
    let importer = Importer {
        store: &opening,
        making: Making { keying: global.keying(), clock: Arc::clone(&clock) },
        clock,
        console,
        signals: Some(&mut signals),
    };
    let import = Import { input, limit: args.limit, rejects: args.rejects, strict: args.strict };
    let done = importer.run(import).await?;
    let queue = global.queue.display();
    if done.exit == Exit::Success {
        opening.store().await?;
    } else if !global.queue.exists() {
        console.note(&format!("nothing is in, so no queue was made at {queue}"));
    }
    print_report(&done.report, args.format, console)?;
    let to_fetch = done.report.states.map_or(done.report.added, |states| states.queued);
    if to_fetch > 0 && done.exit == Exit::Success {
        console
            .note(&format!("{queue} is filled; fetch it with `longhaul --queue {queue} queue run --drain`"));
    }
    Ok(done.exit)
}

/// Opens the queue of DocsToKG. Both systems keep theirs under the same name, and opening the new one would change the old.
async fn open_old(old: &Path, new: &Path) -> Result<DocsToKgQueue> {
    if is_same_file(old, new) {
        let message = format!(
            "{} is the old queue itself; name another file for the new one with --queue",
            new.display()
        );
        return Err(UsageError(message).into());
    }
    Ok(DocsToKgQueue::open(old, Record::MAX_BYTES).await?)
}

/// Opens all that was named, so that nothing is done if one of them is not there.
pub(super) fn open_all(paths: &[PathBuf]) -> Result<Vec<Source>> {
    paths.iter().map(|path| Source::open(path)).collect()
}

/// Prints what an import did.
pub(super) fn print_report(report: &ImportReport, format: Format, console: &Console) -> Result<()> {
    match format {
        Format::Json | Format::Jsonl => print_data(&serde_json::to_string(report)?)?,
        Format::Table => print_data(&table(&report.rows()))?,
    }
    if let Some(remark) = report.remark() {
        console.note(&remark);
    }
    Ok(())
}
