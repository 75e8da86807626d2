//! `longhaul queue list`.

use std::io::IsTerminal as _;
use std::sync::Arc;

use anyhow::Result;
use longhaul_limiter::Clock;
use longhaul_queue_core::{JobFilter, JobId, JobPage, JobRecord, Timestamp};
use serde::Serialize;

use super::jobs::{JobShape, lane_of, last_change};
use crate::args::{FilterArgs, Format, Global, ListArgs};
use crate::exit::Exit;
use crate::output::{Column, Console, Grid, data_width, from_now, print_data, wall, write_data};
use crate::store::Store;

/// How many are shown at once if nobody says how many.
const SHOWN: u64 = 50;
/// How many are read at once; a payload may have a mebibyte.
const PAGE: u64 = 200;

/// Lists jobs.
pub(crate) async fn list(
    global: &Global,
    args: ListArgs,
    console: &Console,
    clock: Arc<dyn Clock>,
) -> Result<Exit> {
    let store = Store::open(global, false, Arc::clone(&clock)).await?;
    let filter = JobFilter { state: args.state, ..filter(&store, &args.filter)? };
    if args.output.format == Format::Jsonl {
        if std::io::stdout().is_terminal() {
            console.warn("the URLs are shown as they were imported, with keys that may stand in them; do not pass this on");
        }
        return stream(&store, &filter, &args).await;
    }
    let limit = args.limit.unwrap_or(SHOWN);
    // One more than is shown says whether there are more.
    let page =
        JobPage { after: args.after, limit: usize::try_from(limit.saturating_add(1)).unwrap_or(usize::MAX) };
    let mut jobs = store.admin.list(&filter, page).await?;
    let has_more = jobs.len() as u64 > limit;
    jobs.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    let next = jobs.last().map(|job| job.id).filter(|_| has_more);
    if args.output.format == Format::Json {
        print_data(&serde_json::to_string(&Page::new(&jobs, next))?)?;
        return Ok(Exit::Success);
    }
    if jobs.is_empty() {
        console.note(&nothing(&store, &filter, args.after).await?);
        return Ok(Exit::Success);
    }
    print_data(&table(&jobs, wall(clock.as_ref())).text(data_width()))?;
    if let Some(next) = next {
        console.note(&format!("there are more; go on with --after {next}"));
    }
    Ok(Exit::Success)
}

/// Why there is nothing to show.
async fn nothing(store: &Store, filter: &JobFilter, after: Option<JobId>) -> Result<String> {
    let has = async |filter: &JobFilter| -> Result<bool> {
        Ok(!store.admin.list(filter, JobPage { after: None, limit: 1 }).await?.is_empty())
    };
    let name = store.name();
    if !has(&JobFilter::default()).await? {
        return Ok(format!("{name} is empty; `longhaul queue import FILE` fills it"));
    }
    if let Some(lane) = &filter.lane
        && !has(&JobFilter { lane: Some(lane.clone()), ..JobFilter::default() }).await?
    {
        return Ok(format!(
            "no job in {name} belongs to {lane}; a port belongs to the name, and `longhaul queue lanes` shows all names"
        ));
    }
    let of = [
        filter.state.map(|state| format!("is {}", state.as_str())),
        filter.lane.as_ref().map(|lane| format!("belongs to {lane}")),
        filter.reason.as_ref().map(|reason| format!("has the reason {reason}")),
    ];
    let of: Vec<String> = of.into_iter().flatten().collect();
    let of = if of.is_empty() { "is there".to_owned() } else { of.join(" and ") };
    Ok(match after {
        Some(after) => format!("no job of a number above {after} {of} in {name}"),
        None => format!("no job in {name} {of}"),
    })
}

/// The filter of the command line.
pub(super) fn filter(store: &Store, args: &FilterArgs) -> Result<JobFilter> {
    let lane = args.lane.as_ref().map(|host| lane_of(store, host)).transpose()?;
    Ok(JobFilter { state: None, lane, reason: args.reason.clone() })
}

/// One line a job, however many there are, a page at a time.
async fn stream(store: &Store, filter: &JobFilter, args: &ListArgs) -> Result<Exit> {
    let mut left = args.limit.unwrap_or(u64::MAX);
    let mut after = args.after;
    while left > 0 {
        let page = JobPage { after, limit: usize::try_from(left.min(PAGE)).unwrap_or(usize::MAX) };
        let jobs = store.admin.list(filter, page).await?;
        let Some(last) = jobs.last() else { break };
        (after, left) = (Some(last.id), left - jobs.len() as u64);
        let mut lines = String::new();
        for job in &jobs {
            lines.push_str(&serde_json::to_string(&JobShape::new(job))?);
            lines.push('\n');
        }
        if !write_data(&lines)? {
            break;
        }
    }
    Ok(Exit::Success)
}

/// The documented JSON of a page; `next` is what --after takes for the next one, `null` if there is none.
#[derive(Debug, Serialize)]
struct Page<'a> {
    jobs: Vec<JobShape<'a>>,
    next: Option<i64>,
}

impl<'a> Page<'a> {
    fn new(jobs: &'a [JobRecord], next: Option<JobId>) -> Self {
        Self { jobs: jobs.iter().map(JobShape::new).collect(), next: next.map(|job| job.0) }
    }
}

fn table(jobs: &[JobRecord], now: Timestamp) -> Grid {
    let mut grid = Grid::new([
        Column::Number("job"),
        Column::Text("state"),
        Column::Text("reason"),
        Column::Number("tries"),
        Column::Text("changed"),
        Column::Cut("host"),
        Column::Cut("artifact"),
    ]);
    for job in jobs {
        grid.row([
            job.id.to_string(),
            job.state.as_str().to_owned(),
            job.reason.clone().unwrap_or_default(),
            job.attempts.to_string(),
            from_now(last_change(job), now),
            job.place.lane.to_string(),
            job.artifact_id.to_string(),
        ]);
    }
    grid
}

#[cfg(test)]
mod tests {
    use super::super::jobs::samples::{NOON, jobs};
    use super::*;

    #[test]
    fn the_table_of_a_page() {
        let now = Timestamp(NOON.0 + 7_200_000);
        insta::assert_snapshot!(table(&jobs(), now).text(Some(80)));
    }

    #[test]
    fn the_json_of_a_page() {
        let jobs = jobs();
        insta::assert_snapshot!(serde_json::to_string_pretty(&Page::new(&jobs, Some(JobId(40)))).unwrap());
    }
}
