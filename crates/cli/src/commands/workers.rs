//! `longhaul queue workers`.

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::Result;
use longhaul_limiter::Clock;
use longhaul_queue_core::{StatedLimits, Timestamp, WorkerRow};
use serde::Serialize;

use crate::args::{Format, Global, WorkersArgs};
use crate::exit::Exit;
use crate::output::{Column, Console, Grid, data_width, from_now, print_data, rfc3339, wall};
use crate::store::Store;

/// Shows the processes that work on the queue.
pub(crate) async fn workers(
    global: &Global,
    args: WorkersArgs,
    console: &Console,
    clock: Arc<dyn Clock>,
) -> Result<Exit> {
    let store = Store::open(global, false, Arc::clone(&clock)).await?;
    let rows = store.admin.workers().await?;
    let shapes = || rows.iter().map(Shape::new);
    match args.output.format {
        Format::Json => print_data(&serde_json::to_string(&shapes().collect::<Vec<_>>())?)?,
        Format::Jsonl => {
            for shape in shapes() {
                print_data(&serde_json::to_string(&shape)?)?;
            }
        }
        Format::Table if rows.is_empty() => {
            console.note(&format!("no run works on {}; start one with `longhaul queue run`", store.name()));
        }
        Format::Table => {
            print_data(&table(&rows, wall(clock.as_ref())).text(data_width()))?;
            if !differing(&rows).is_empty() {
                console.note(
                    "each process keeps its own limits, so a host may get more than the stricter one allows",
                );
            }
            if rows.iter().any(|row| !row.alive && row.held > 0) {
                console.note("what a dead process held is given back by the next run, or by `longhaul queue check --repair`");
            }
        }
    }
    Ok(Exit::Success)
}

/// The documented JSON of a worker process.
#[derive(Debug, Serialize)]
struct Shape<'a> {
    id: &'a str,
    alive: bool,
    jobs: u64,
    host: &'a str,
    pid: u32,
    version: &'a str,
    store: Option<&'a str>,
    limits: Option<&'a str>,
    started_at: Option<String>,
    expires_at: Option<String>,
}

impl<'a> Shape<'a> {
    fn new(row: &'a WorkerRow) -> Self {
        Self {
            id: row.id.as_str(),
            alive: row.alive,
            jobs: row.held,
            host: &row.host,
            pid: row.pid,
            version: &row.version,
            store: row.store.as_ref().map(|store| store.0.as_str()),
            limits: row.limits.as_ref().map(StatedLimits::as_str),
            started_at: rfc3339(row.started_at),
            expires_at: rfc3339(row.expires_at),
        }
    }
}

fn table(rows: &[WorkerRow], now: Timestamp) -> Grid {
    let differing = differing(rows);
    let mut columns = vec![
        Column::Text("process"),
        Column::Text("alive"),
        Column::Number("jobs"),
        Column::Cut("host"),
        Column::Number("pid"),
        Column::Text("version"),
        Column::Text("started"),
    ];
    if !differing.is_empty() {
        columns.push(Column::Cut("limits that differ"));
    }
    let mut grid = Grid::new(columns);
    for row in rows {
        let limits = (!differing.is_empty()).then(|| values(row, &differing));
        let cells = [
            row.id.to_string(),
            if row.alive { "yes" } else { "dead" }.to_owned(),
            row.held.to_string(),
            row.host.clone(),
            row.pid.to_string(),
            row.version.clone(),
            from_now(row.started_at, now),
        ];
        grid.row(cells.into_iter().chain(limits));
    }
    grid
}

/// Which limits the living processes do not share, by name.
fn differing(rows: &[WorkerRow]) -> BTreeSet<String> {
    let mut living = rows.iter().filter(|row| row.alive).filter_map(|row| row.limits.as_ref());
    let Some(first) = living.next() else { return BTreeSet::new() };
    living.flat_map(|next| first.differences(next)).map(|one| one.what).collect()
}

/// What a process has of the limits with these names; nothing where it has what any host has.
fn values(row: &WorkerRow, names: &BTreeSet<String>) -> String {
    let Some(limits) = &row.limits else { return String::new() };
    let values = limits.values();
    let own = names.iter().filter_map(|name| Some(format!("{name}: {}", values.get(name)?)));
    own.collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
pub(super) mod samples {
    //! Worker processes for the tests of the commands' output.

    use longhaul_queue_core::{StoreId, WorkerId};

    use super::super::jobs::samples::NOON;
    use super::*;

    /// One that lives and one that died.
    pub(in crate::commands) fn workers() -> Vec<WorkerRow> {
        let worker = |id: &str, pid, alive, held| WorkerRow {
            id: WorkerId::from_text(id),
            host: "box".to_owned(),
            pid,
            version: "0.1.0".to_owned(),
            store: Some(StoreId("5e5e".to_owned())),
            limits: Some(StatedLimits::from_text("* cap=4 pace=2/s+500/h; arxiv.org cap=1 pace=1/3s")),
            started_at: Timestamp(NOON.0 - 3_600_000),
            expires_at: Timestamp(NOON.0 + if alive { 60_000 } else { -60_000 }),
            alive,
            held,
        };
        vec![worker("00c0ffee00c0ffee", 4711, true, 8), worker("dead0000dead0000", 99, false, 3)]
    }
}

#[cfg(test)]
mod tests {
    use super::super::jobs::samples::NOON;
    use super::samples::workers;
    use super::*;

    #[test]
    fn the_table_of_two_processes() {
        insta::assert_snapshot!(table(&workers(), NOON).text(Some(80)));
    }

    /// Only what differs, and only among the living.
    #[test]
    fn the_table_of_two_processes_with_other_limits() {
        let mut rows = workers();
        rows[1].limits = Some(StatedLimits::from_text("* cap=1 pace=2/s+500/h"));
        assert!(differing(&rows).is_empty(), "the dead do not count");
        rows[1].alive = true;
        insta::assert_snapshot!(table(&rows, NOON).text(None));
    }

    #[test]
    fn the_json_of_a_process() {
        insta::assert_snapshot!(serde_json::to_string_pretty(&Shape::new(&workers()[0])).unwrap());
    }
}
