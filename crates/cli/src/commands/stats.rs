//! `longhaul queue stats`.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use longhaul_limiter::Clock;
use longhaul_queue_core::QueueStats;
use serde::Serialize;

use crate::args::{Format, Global, StatsArgs};
use crate::exit::Exit;
use crate::output::{count, duration, print_data, table};
use crate::store::Store;

/// Where the store stops counting what is ready and what is delayed.
const COUNTED: u64 = 10_000;

/// Shows what is in the queue.
pub(crate) async fn stats(global: &Global, args: &StatsArgs, clock: Arc<dyn Clock>) -> Result<Exit> {
    let store = Store::open(global, false, clock).await?;
    let stats = store.queue.stats().await?;
    let name = store.name().to_string();
    print_data(&match args.format {
        Format::Json => serde_json::to_string(&Shape::new(&name, &stats))?,
        Format::Table => table(&rows(&name, &stats)),
    })?;
    Ok(Exit::Success)
}

/// The documented JSON. Times are seconds from now; `null` is never, or none.
#[derive(Debug, Serialize)]
struct Shape<'a> {
    queue: &'a str,
    counts: Counts,
    ready: Counted,
    delayed: Counted,
    oldest_ready_seconds: Option<f64>,
    next_open_seconds: Option<f64>,
    lanes_cooling: u64,
    next_cooled_seconds: Option<f64>,
    lanes_paused: u64,
    paused: Option<&'a str>,
    workers: u64,
}

/// Exact counts by state.
#[derive(Debug, Serialize)]
struct Counts {
    queued: u64,
    in_progress: u64,
    done: u64,
    skipped: u64,
    error: u64,
    total: u64,
}

/// A count that ends at 10,000: `more` says that there are more.
#[derive(Debug, Serialize)]
struct Counted {
    count: u64,
    more: bool,
}

impl Counted {
    fn new(number: u64) -> Self {
        Self { count: number.min(COUNTED), more: number > COUNTED }
    }

    fn shown(number: u64) -> String {
        format!("{}{}", count(number.min(COUNTED)), if number > COUNTED { "+" } else { "" })
    }
}

impl<'a> Shape<'a> {
    fn new(queue: &'a str, stats: &'a QueueStats) -> Self {
        let seconds = |time: Option<Duration>| time.map(|time| time.as_secs_f64());
        let counts = &stats.counts;
        Self {
            queue,
            counts: Counts {
                queued: counts.queued,
                in_progress: counts.in_progress,
                done: counts.done,
                skipped: counts.skipped,
                error: counts.error,
                total: counts.total(),
            },
            ready: Counted::new(stats.ready),
            delayed: Counted::new(stats.delayed),
            oldest_ready_seconds: seconds(stats.oldest_ready),
            next_open_seconds: seconds(stats.next_open),
            lanes_cooling: stats.lanes_cooling,
            next_cooled_seconds: seconds(stats.next_cooled),
            lanes_paused: stats.lanes_paused,
            paused: stats.paused.as_deref(),
            workers: stats.workers,
        }
    }
}

fn rows(queue: &str, stats: &QueueStats) -> Vec<(&'static str, String)> {
    let counts = &stats.counts;
    let mut queued = count(counts.queued);
    if counts.queued > 0 {
        let (ready, delayed) = (Counted::shown(stats.ready), Counted::shown(stats.delayed));
        let oldest =
            stats.oldest_ready.map(|age| format!("; the oldest has been ready for {}", duration(age)));
        queued = format!("{queued} ({ready} ready, {delayed} delayed{})", oldest.unwrap_or_default());
    }
    let mut rows = vec![
        ("queue", queue.to_owned()),
        ("queued", queued),
        ("in progress", count(counts.in_progress)),
        ("done", count(counts.done)),
        ("skipped", count(counts.skipped)),
        ("error", count(counts.error)),
        ("total", count(counts.total())),
        ("workers", format!("{} alive", count(stats.workers))),
    ];
    if stats.lanes_cooling > 0 {
        let next = stats.next_cooled.map(|time| format!("; the first opens in {}", duration(time)));
        rows.push((
            "cooling down",
            format!("{} hosts{}", count(stats.lanes_cooling), next.unwrap_or_default()),
        ));
    }
    if stats.lanes_paused > 0 {
        rows.push(("paused hosts", count(stats.lanes_paused)));
    }
    if let Some(paused) = &stats.paused {
        rows.push(("paused", paused.clone()));
    }
    if counts.queued > 0 {
        rows.push((
            "next start",
            match stats.next_open {
                Some(Duration::ZERO) => "now, if a worker runs".to_owned(),
                Some(time) => format!("in {}", duration(time)),
                None => "when something happens: a request ends, or a pause".to_owned(),
            },
        ));
    }
    rows
}

#[cfg(test)]
mod tests {
    use longhaul_queue_core::StateCounts;

    use super::*;

    fn busy() -> QueueStats {
        QueueStats {
            counts: StateCounts { queued: 12_345, in_progress: 8, done: 1_000_000, skipped: 7, error: 1 },
            ready: 10_001,
            delayed: 44,
            oldest_ready: Some(Duration::from_secs(3_725)),
            lanes_cooling: 2,
            next_cooled: Some(Duration::from_millis(41_200)),
            paused: Some("by ann: disk is being changed, until 12:00".to_owned()),
            lanes_paused: 1,
            next_open: Some(Duration::ZERO),
            workers: 2,
        }
    }

    #[test]
    fn the_table_of_a_busy_queue() {
        insta::assert_snapshot!(table(&rows("state/workqueue.sqlite", &busy())));
    }

    #[test]
    fn the_table_of_an_empty_queue() {
        insta::assert_snapshot!(table(&rows("state/workqueue.sqlite", &QueueStats::default())));
    }

    #[test]
    fn the_json_of_a_busy_queue() {
        let shape = serde_json::to_string_pretty(&Shape::new("state/workqueue.sqlite", &busy())).unwrap();
        insta::assert_snapshot!(shape);
    }
}
