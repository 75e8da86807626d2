//! Reads and parses lines or rows on a thread of its own, a few batches ahead of who enqueues them.
//!
//! Reading from a terminal or a pipe can block for ever, so nothing awaits the thread itself: it ends with its input, or
//! when nobody wants its batches any more.

use std::sync::Arc;
use std::thread;

use anyhow::{Context, Result, anyhow};
use longhaul_limiter::{Clock, Keying};
use longhaul_pipeline::{Record, RecordError};
use longhaul_queue_core::{AdoptedJob, NewJob};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};

use super::input::Input;
use super::lines::{Line, Lines};
use super::rejects::Rejected;
use super::source::Source;
use super::{new_job, rows};
use crate::output::count;

/// A batch is full with so many lines or rows,
pub(super) const BATCH: usize = 1_000;
/// or with so much text.
const BATCH_BYTES: usize = 4 * 1024 * 1024;

/// What records need to become jobs.
#[derive(Debug, Clone)]
pub(crate) struct Making {
    /// How hosts become lanes.
    pub(crate) keying: Keying,
    /// For the delay of a record that names a time.
    pub(crate) clock: Arc<dyn Clock>,
}

/// What became of some lines that follow each other.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) source: String,
    pub(super) jobs: Vec<NewJob>,
    /// Jobs that another system began; only a take-over has them.
    pub(super) adopted: Vec<AdoptedJob>,
    pub(super) rejected: Vec<Rejected>,
    pub(super) lines: u64,
    pub(super) blank: u64,
    /// The number of the last line or row in its source.
    pub(super) last_line: u64,
    /// Whether the limit was reached and lines remain.
    pub(super) limit_reached: bool,
}

/// A running reader.
#[derive(Debug)]
pub(super) struct Reading {
    batches: mpsc::Receiver<Batch>,
    ended: oneshot::Receiver<Result<Input>>,
    input: Option<Input>,
}

impl Reading {
    /// Starts to read, up to `limit` good lines or rows.
    pub(super) fn start(input: Input, limit: Option<u64>, making: Making) -> Self {
        let (batches, receiver) = mpsc::channel(2);
        let (end, ended) = oneshot::channel();
        let runtime = Handle::current();
        let read = move || {
            // Whoever started this may have lost interest; then the result is of no use.
            let _ = end.send(read_all(input, limit.unwrap_or(u64::MAX), &making, &batches, &runtime));
        };
        // If no thread can be started, `ended` is closed without a result, which `next` reports.
        let _ = thread::Builder::new().name("import".to_owned()).spawn(read);
        Self { batches: receiver, ended, input: None }
    }

    /// The next batch, or `None` at the end. Cancel-safe.
    pub(super) async fn next(&mut self) -> Result<Option<Batch>> {
        if let Some(batch) = self.batches.recv().await {
            return Ok(Some(batch));
        }
        if self.input.is_none() {
            let ended = (&mut self.ended).await.map_err(|_| anyhow!("the reading of the input broke off"))?;
            self.input = Some(ended?);
        }
        Ok(None)
    }

    /// The input back, once `next` has returned `None`.
    pub(super) fn finish(self) -> Result<Input> {
        self.input.context("the input was not read to its end")
    }
}

fn read_all(
    mut input: Input,
    mut left: u64,
    making: &Making,
    batches: &mpsc::Sender<Batch>,
    runtime: &Handle,
) -> Result<Input> {
    match &mut input {
        Input::Lines(sources) => {
            for source in sources {
                if !read_one(source, &mut left, making, batches)? {
                    break;
                }
            }
        }
        Input::DocsToKg(old) => runtime.block_on(rows::read_rows(old, left, making, batches))?,
    }
    Ok(input)
}

/// Reads one source; false if nothing more is wanted.
fn read_one(
    source: &mut Source,
    left: &mut u64,
    making: &Making,
    batches: &mpsc::Sender<Batch>,
) -> Result<bool> {
    let name = source.name.clone();
    let mut lines = Lines::new(source.reader()?, Record::MAX_BYTES);
    let mut number = 0_u64;
    let mut bytes = 0;
    let fresh = || Batch { source: name.clone(), ..Batch::default() };
    let mut batch = fresh();
    loop {
        let line = match lines.next_line() {
            Ok(Some(line)) => line,
            Ok(None) => break,
            Err(error) => {
                // What came before is good, and is not to wait for the rest to be mended.
                let _ = batches.blocking_send(batch);
                return Err(error)
                    .with_context(|| format!("{name} cannot be read after line {}", count(number)));
            }
        };
        let (text, parsed) = match line {
            Line::Whole(text) => (text, Record::parse_bytes(text)),
            Line::TooLong(start) => (start, Err(RecordError::TooLong)),
        };
        if *left == 0 {
            if parsed == Ok(None) {
                continue;
            }
            batch.limit_reached = true;
            break;
        }
        number += 1;
        batch.lines += 1;
        batch.last_line = number;
        bytes += text.len();
        let made = parsed.and_then(|record| record.map(|record| new_job(&record, making)).transpose());
        match made {
            Ok(None) => batch.blank += 1,
            Ok(Some(job)) => {
                batch.jobs.push(job);
                *left -= 1;
            }
            Err(error) => batch.rejected.push(Rejected::line(&name, number, &error, text)),
        }
        if batch.lines >= BATCH as u64 || bytes >= BATCH_BYTES {
            bytes = 0;
            if batches.blocking_send(std::mem::replace(&mut batch, fresh())).is_err() {
                return Ok(false);
            }
        }
    }
    let limit_reached = batch.limit_reached;
    let wanted = batches.blocking_send(batch).is_ok();
    Ok(wanted && !limit_reached)
}
