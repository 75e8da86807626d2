//! `longhaul queue stats`.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use longhaul_limiter::Clock;
use longhaul_queue_core::{QueueStats, Timestamp};
use serde::Serialize;

use super::counted::Counted;
use crate::args::{Format, Global, StatsArgs};
use crate::exit::Exit;
use crate::output::{
    Console, count, data_can_be_redrawn, duration, pause, print_data, rate, rfc3339, table, wall, write_data,
};
use crate::signals::Signals;
use crate::store::Store;

/// Where the store stops counting what is ready and what is delayed.
const COUNTED: u64 = 10_000;
/// Where it stops counting what has ended lately.
const ENDED: u64 = 100_000;

/// Shows what is in the queue.
pub(crate) async fn stats(
    global: &Global,
    args: StatsArgs,
    console: &Console,
    clock: Arc<dyn Clock>,
) -> Result<Exit> {
    let store = Store::open(global, false, Arc::clone(&clock)).await?;
    if args.watch {
        return watch(&store, &args, console, &clock).await;
    }
    print_data(&look(&store, args.output.format, clock.as_ref()).await?)?;
    Ok(Exit::Success)
}

/// Shows it again and again, until a signal or until nobody reads it any more. On a terminal each takes the place of the
/// one before.
async fn watch(store: &Store, args: &StatsArgs, console: &Console, clock: &Arc<dyn Clock>) -> Result<Exit> {
    let mut signals = Signals::listen()?;
    let redraws = args.output.format == Format::Table && data_can_be_redrawn();
    let mut shown = 0;
    loop {
        let mut text = match look(store, args.output.format, clock.as_ref()).await {
            Ok(text) => text,
            Err(error) => {
                let is_passing = error.downcast_ref::<longhaul_queue_core::QueueError>();
                if !is_passing.is_some_and(longhaul_queue_core::QueueError::is_retryable) {
                    return Err(error);
                }
                console.warn(&format!("{error}; it is tried again"));
                String::new()
            }
        };
        if !text.is_empty() {
            let lines = text.lines().count();
            text = match (redraws, shown) {
                // Up to where the last one began, and all below it away.
                (true, 1..) => format!("\u{1b}[{shown}A\u{1b}[J{}\n", text.trim_end()),
                (false, 1..) if args.output.format == Format::Table => format!("\n{}\n", text.trim_end()),
                _ => format!("{}\n", text.trim_end()),
            };
            shown = lines;
            if !write_data(&text)? {
                return Ok(Exit::Success);
            }
        }
        tokio::select! {
            () = clock.sleep(args.every) => {}
            signal = signals.next() => return Ok(signal),
        }
    }
}

async fn look(store: &Store, format: Format, clock: &dyn Clock) -> Result<String> {
    let stats = store.queue.stats().await?;
    let name = store.name().to_string();
    Ok(match format {
        Format::Json | Format::Jsonl => serde_json::to_string(&Shape::new(&name, &stats, wall(clock)))?,
        Format::Table => table(&rows(&name, &stats)),
    })
}

/// The documented JSON. Durations are seconds from `at`; `null` is never, or none.
#[derive(Debug, Serialize)]
struct Shape<'a> {
    queue: &'a str,
    at: Option<String>,
    counts: Counts,
    ready: Counted,
    /// Would be ready if their hosts were not cooling down or paused.
    closed: Counted,
    delayed: Counted,
    oldest_ready_seconds: Option<f64>,
    next_open_seconds: Option<f64>,
    /// How many ended in the last five minutes.
    ended_lately: Counted,
    ended_per_minute: f64,
    lanes_cooling: u64,
    next_cooled_seconds: Option<f64>,
    lanes_paused: u64,
    paused: Option<&'a str>,
    paused_seconds: Option<f64>,
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

impl<'a> Shape<'a> {
    fn new(queue: &'a str, stats: &'a QueueStats, now: Timestamp) -> Self {
        let seconds = |time: Option<Duration>| time.map(|time| time.as_secs_f64());
        let counts = &stats.counts;
        Self {
            queue,
            at: rfc3339(now),
            counts: Counts {
                queued: counts.queued,
                in_progress: counts.in_progress,
                done: counts.done,
                skipped: counts.skipped,
                error: counts.error,
                total: counts.total(),
            },
            ready: Counted::new(stats.ready, COUNTED),
            closed: Counted::new(stats.closed, COUNTED),
            delayed: Counted::new(stats.delayed, COUNTED),
            oldest_ready_seconds: seconds(stats.oldest_ready),
            next_open_seconds: seconds(stats.next_open),
            ended_lately: Counted::new(stats.ended_lately, ENDED),
            ended_per_minute: stats.ended_lately as f64 * 60.0 / QueueStats::LATELY.as_secs_f64(),
            lanes_cooling: stats.lanes_cooling,
            next_cooled_seconds: seconds(stats.next_cooled),
            lanes_paused: stats.lanes_paused,
            paused: stats.paused.as_deref(),
            paused_seconds: seconds(stats.paused_for),
            workers: stats.workers,
        }
    }
}

fn rows(queue: &str, stats: &QueueStats) -> Vec<(&'static str, String)> {
    let counts = &stats.counts;
    let mut queued = count(counts.queued);
    if counts.queued > 0 {
        let shown = |many| Counted::shown(many, COUNTED);
        let (ready, delayed) = (shown(stats.ready), shown(stats.delayed));
        let closed = match stats.closed {
            0 => String::new(),
            many => format!("{} at closed hosts, ", shown(many)),
        };
        let oldest = stats.oldest_ready.map(|age| format!("; the oldest has waited for {}", duration(age)));
        queued = format!("{queued} ({ready} ready, {closed}{delayed} delayed{})", oldest.unwrap_or_default());
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
    if stats.ended_lately > 0 {
        let more = if stats.ended_lately > ENDED { "more than " } else { "" };
        let speed = rate(stats.ended_lately.min(ENDED), QueueStats::LATELY);
        rows.push(("throughput", format!("{more}{speed} over the last {}", duration(QueueStats::LATELY))));
    }
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
        rows.push(("paused", format!("by {}", pause(paused, stats.paused_for))));
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
            closed: 300,
            delayed: 44,
            oldest_ready: Some(Duration::from_secs(3_725)),
            lanes_cooling: 2,
            next_cooled: Some(Duration::from_millis(41_200)),
            paused: Some("ann@box: disk is being changed".to_owned()),
            paused_for: Some(Duration::from_mins(80)),
            ended_lately: 612,
            lanes_paused: 1,
            next_open: Some(Duration::ZERO),
            next_unpaused: Some(Duration::ZERO),
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
        let shape = serde_json::to_string_pretty(&Shape::new(
            "state/workqueue.sqlite",
            &busy(),
            super::super::jobs::samples::NOON,
        ))
        .unwrap();
        insta::assert_snapshot!(shape);
    }
}
