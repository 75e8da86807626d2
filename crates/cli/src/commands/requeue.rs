//! `longhaul queue requeue` and `longhaul queue cancel`: what is done to jobs that are named one by one.

use std::sync::Arc;

use anyhow::Result;
use longhaul_limiter::Clock;
use longhaul_queue_core::{ArtifactId, JobRecord, JobState};
use serde::Serialize;

use super::jobs::{find, say_missing};
use crate::args::{CancelArgs, Format, Global, IdsArgs, RequeueArgs};
use crate::exit::Exit;
use crate::output::{Console, print_data, printable};
use crate::store::Store;

/// Fetches jobs again that have ended.
pub(crate) async fn requeue(
    global: &Global,
    args: RequeueArgs,
    console: &Console,
    clock: Arc<dyn Clock>,
) -> Result<Exit> {
    act(global, args.jobs, Act::Requeue, console, clock).await
}

/// Takes jobs out of the queue.
pub(crate) async fn cancel(
    global: &Global,
    args: CancelArgs,
    console: &Console,
    clock: Arc<dyn Clock>,
) -> Result<Exit> {
    act(global, args.jobs, Act::Cancel, console, clock).await
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    Requeue,
    Cancel,
}

impl Act {
    /// Why nothing is done to a job in this state; `None` if something is.
    fn refuses(self, job: &JobRecord) -> Option<&'static str> {
        match (self, job.state) {
            (Act::Requeue, _) if job.slim => Some("was pruned, and cannot run again"),
            (Act::Requeue, JobState::Queued) => Some("is queued already"),
            (Act::Requeue, JobState::InProgress) => Some("is running now"),
            (Act::Cancel, JobState::Done | JobState::Skipped | JobState::Error) => Some("has ended already"),
            _ => None,
        }
    }

    fn done(self) -> &'static str {
        match self {
            Act::Requeue => "is queued again",
            Act::Cancel => "is cancelled",
        }
    }
}

async fn act(
    global: &Global,
    args: IdsArgs,
    act: Act,
    console: &Console,
    clock: Arc<dyn Clock>,
) -> Result<Exit> {
    let store = Store::open(global, false, clock).await?;
    let mut found: Vec<JobRecord> = Vec::new();
    let mut exit = Exit::Success;
    for typed in &args.ids {
        match find(&store, typed, args.number.job).await? {
            Some((job, _)) if found.iter().any(|other| other.id == job.id) => {}
            Some((job, _)) => found.push(job),
            None => {
                say_missing(&store, typed, args.number.job, console);
                exit = Exit::Failure;
            }
        }
    }
    let meant: Vec<ArtifactId> =
        found.iter().filter(|job| act.refuses(job).is_none()).map(|job| job.artifact_id.clone()).collect();
    let changed = match act {
        Act::Requeue => store.admin.requeue(&meant).await?,
        Act::Cancel => store.admin.cancel(&meant).await?,
    };
    if meant.len() < found.len() {
        exit = Exit::Failure;
    }
    if changed < meant.len() as u64 {
        console.warn("some of them changed at this very moment; look again with `longhaul queue list`");
    }
    if !found.is_empty() {
        let shapes: Vec<Shape<'_>> = found.iter().map(|job| Shape::new(job, act)).collect();
        print_data(&match args.output.format {
            Format::Json => serde_json::to_string(&shapes)?,
            Format::Jsonl => lines(&shapes)?,
            Format::Table => shapes.iter().map(|shape| shape.text(act)).collect(),
        })?;
    }
    Ok(exit)
}

fn lines(shapes: &[Shape<'_>]) -> Result<String> {
    let mut lines = String::new();
    for shape in shapes {
        lines.push_str(&serde_json::to_string(shape)?);
        lines.push('\n');
    }
    Ok(lines)
}

/// The documented JSON of a job that was named. `was` is its state before; `refused` says why nothing was done to it.
#[derive(Debug, Serialize)]
struct Shape<'a> {
    job: i64,
    id: &'a str,
    was: &'static str,
    changed: bool,
    refused: Option<&'static str>,
}

impl<'a> Shape<'a> {
    fn new(job: &'a JobRecord, act: Act) -> Self {
        let refused = act.refuses(job);
        Self {
            job: job.id.0,
            id: job.artifact_id.as_str(),
            was: job.state.as_str(),
            changed: refused.is_none(),
            refused,
        }
    }

    fn text(&self, act: Act) -> String {
        let id = printable(self.id);
        match self.refused {
            Some(refused) => format!("{id} (job {}) {refused}; it is left as it is\n", self.job),
            None => format!("{id} (job {}) {}; it was {}\n", self.job, act.done(), self.was),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::jobs::samples::jobs;
    use super::*;

    #[test]
    fn each_job_is_said_to_be_changed_or_why_not() {
        let mut shown = String::new();
        for act in [Act::Requeue, Act::Cancel] {
            for job in jobs() {
                shown.push_str(&Shape::new(&job, act).text(act));
            }
        }
        insta::assert_snapshot!(shown);
    }

    #[test]
    fn the_json_of_a_job_that_is_named() {
        let jobs = jobs();
        let shapes: Vec<Shape<'_>> = jobs.iter().map(|job| Shape::new(job, Act::Requeue)).take(3).collect();
        insta::assert_snapshot!(lines(&shapes).unwrap());
    }
}
