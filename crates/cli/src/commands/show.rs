//! `longhaul queue show`.

use std::sync::Arc;

use anyhow::Result;
use longhaul_limiter::Clock;
use longhaul_queue_core::{HistoryEntry, JobRecord, JobState, Timestamp};
use serde::Serialize;
use serde_json::Value;

use super::jobs::{HistoryShape, JobShape, find, say_missing, say_namesake};
use crate::args::{Format, Global, ShowArgs};
use crate::exit::Exit;
use crate::output::{Column, Console, Grid, data_width, from_now, print_data, rfc3339, table, wall};
use crate::store::Store;

/// Shows one job.
pub(crate) async fn show(
    global: &Global,
    args: ShowArgs,
    console: &Console,
    clock: Arc<dyn Clock>,
) -> Result<Exit> {
    let store = Store::open(global, false, Arc::clone(&clock)).await?;
    let Some((job, kept)) = find(&store, &args.id, args.number.job).await? else {
        say_missing(&store, &args.id, args.number.job, console);
        return Ok(Exit::Failure);
    };
    let history = told(&job, kept);
    print_data(&match args.output.format {
        Format::Json | Format::Jsonl => serde_json::to_string(&Shape::new(&job, &history))?,
        Format::Table => text(&job, &history, wall(clock.as_ref()), data_width()),
    })?;
    say_namesake(&store, &args.id, &job, console).await?;
    if !job.state.is_terminal() {
        console.note(&format!("why it is not running now: `longhaul queue explain {}`", job.id));
    }
    Ok(Exit::Success)
}

/// The history as it is told: what the queue keeps, and what the row itself says. Of a first try that succeeds, as most do,
/// nothing else is kept; nor of a job that was pruned.
fn told(job: &JobRecord, kept: Vec<HistoryEntry>) -> Vec<HistoryEntry> {
    let line = |at, event: &str, reason: Option<String>| HistoryEntry {
        at,
        event: event.to_owned(),
        reason,
        worker: None,
    };
    let is_adopted = kept.last().is_some_and(|oldest| oldest.event == "adopted");
    let begun = (!is_adopted).then(|| line(job.created_at, "enqueue", None));
    let end = match job.state {
        JobState::Done => "complete",
        JobState::Skipped if job.reason.as_deref() == Some("cancelled") => "cancel",
        JobState::Skipped => "skip",
        JobState::Error => "fail",
        JobState::Queued | JobState::InProgress => "",
    };
    let ended = job.finished_at.filter(|_| kept.is_empty() && job.state.is_terminal());
    let ended = ended.map(|at| line(at, end, job.reason.clone()));
    ended.into_iter().chain(kept).chain(begun).collect()
}

/// The documented JSON: a job as `list` has it, with what its end recorded and its history, newest first.
#[derive(Debug, Serialize)]
struct Shape<'a> {
    #[serde(flatten)]
    job: JobShape<'a>,
    outcome: Option<Value>,
    history: Vec<HistoryShape<'a>>,
}

impl<'a> Shape<'a> {
    fn new(job: &'a JobRecord, history: &'a [HistoryEntry]) -> Self {
        Self {
            job: JobShape::new(job),
            outcome: job.outcome.as_deref().and_then(|text| serde_json::from_str(text).ok()),
            history: history.iter().map(HistoryShape::new).collect(),
        }
    }
}

/// For people: what is known, then the history, then the artifact itself.
fn text(job: &JobRecord, history: &[HistoryEntry], now: Timestamp, width: Option<usize>) -> String {
    let mut text = table(&rows(job, now));
    if !history.is_empty() {
        let mut grid = Grid::new([
            Column::Text("when"),
            Column::Text("event"),
            Column::Text("reason"),
            Column::Text("worker"),
        ]);
        for line in history {
            let worker = line.worker.as_ref().map(ToString::to_string);
            grid.row([
                at(line.at),
                line.event.replace('_', "-"),
                line.reason.clone().unwrap_or_default(),
                worker.unwrap_or_default(),
            ]);
        }
        text.push('\n');
        text.push_str(&grid.text(width));
    }
    text
}

fn rows(job: &JobRecord, now: Timestamp) -> Vec<(&'static str, String)> {
    let when = |time: Timestamp| format!("{} ({})", at(time), from_now(time, now));
    let state = match &job.reason {
        Some(reason) => format!("{} ({reason})", job.state.as_str()),
        None => job.state.as_str().to_owned(),
    };
    let limit = job.max_attempts.map_or_else(String::new, |most| format!(" of {most}"));
    let mut tries = format!("{}{limit} charged", job.attempts);
    for (many, what) in [(job.losses, "lost with their process"), (job.throttles, "throttled")] {
        if many > 0 {
            tries = format!("{tries}, {many} {what}");
        }
    }
    let mut rows = vec![
        ("artifact", job.artifact_id.to_string()),
        ("job", job.id.to_string()),
        ("state", state),
        ("host", format!("{} ({})", job.place.lane, job.place.role.as_str())),
        ("priority", job.priority.get().to_string()),
        ("tries", tries),
    ];
    let mut more = |name, value: Option<String>| rows.extend(value.map(|value| (name, value)));
    more("last error", job.last_error.clone());
    more("worker", job.worker.as_ref().map(ToString::to_string));
    more("file", job.path.clone());
    more("sha256", job.sha256.clone());
    more("output folder", job.store.as_ref().map(|store| store.0.clone()));
    more("enqueued", Some(when(job.created_at)));
    more(
        "not before",
        (job.state == JobState::Queued && job.available_at > now).then(|| when(job.available_at)),
    );
    more("ended", job.finished_at.map(when));
    more("pruned", job.slim.then(|| "yes: its details are gone, and it never runs again".to_owned()));
    more("record", (!job.slim).then(|| job.payload.clone()));
    rows
}

fn at(time: Timestamp) -> String {
    rfc3339(time).unwrap_or_else(|| "never".to_owned())
}

#[cfg(test)]
mod tests {
    use longhaul_queue_core::WorkerId;

    use super::super::jobs::samples::{NOON, jobs};
    use super::*;

    fn history() -> Vec<HistoryEntry> {
        let line = |seconds: i64, event: &str, reason: Option<&str>, worker: Option<&str>| HistoryEntry {
            at: Timestamp(NOON.0 + seconds * 1000),
            event: event.to_owned(),
            reason: reason.map(str::to_owned),
            worker: worker.map(WorkerId::from_text),
        };
        vec![
            line(7_100, "retry", Some("timeout"), Some("00c0ffee00c0ffee")),
            line(7_000, "retry_failed", None, None),
        ]
    }

    #[test]
    fn the_text_of_each_kind_of_job() {
        let now = Timestamp(NOON.0 + 7_200_000);
        let told = |job: &JobRecord| told(job, Vec::new());
        let shown: Vec<String> = jobs().iter().map(|job| text(job, &told(job), now, Some(80))).collect();
        insta::assert_snapshot!(shown.join("----\n"));
        insta::assert_snapshot!(text(&jobs()[4], &history(), now, Some(80)));
    }

    #[test]
    fn the_json_of_a_job() {
        let mut job = jobs().remove(0);
        job.outcome = Some(r#"{"fetched":{"reason":"ok"}}"#.to_owned());
        insta::assert_snapshot!(serde_json::to_string_pretty(&Shape::new(&job, &history())).unwrap());
    }
}
