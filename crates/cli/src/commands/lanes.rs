//! `longhaul queue lanes`.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use longhaul_limiter::{Clock, Controller, LaneRules};
use longhaul_queue_core::{Lane, LanePage, LaneRow, Timestamp};
use serde::Serialize;

use super::counted::Counted;
use super::jobs::lane_of;
use super::pace_shown::{InForce, controller_text, least_cap};
use crate::args::{Format, Global, LanesArgs};
use crate::exit::Exit;
use crate::limits;
use crate::output::{Column, Console, Grid, data_width, duration, from_now, print_data, rfc3339, wall};
use crate::store::Store;

/// Where the store stops counting a lane's jobs.
const COUNTED: u64 = 1_000;

/// Shows hosts.
pub(crate) async fn lanes(
    global: &Global,
    args: LanesArgs,
    console: &Console,
    clock: Arc<dyn Clock>,
) -> Result<Exit> {
    let store = Store::open(global, false, Arc::clone(&clock)).await?;
    let rules = limits::in_force(&args.limits, &global.keying(), &store.admin.workers().await?)?;
    let after = args.after.as_ref().map(|host| lane_of(&store, host)).transpose()?;
    let limit = usize::from(args.limit);
    // One more than is shown says whether there are more.
    let mut rows = store.admin.lanes(&LanePage { after, limit: limit + 1 }).await?;
    let has_more = rows.len() > limit;
    rows.truncate(limit);
    let next = rows.last().map(|row| row.lane.clone()).filter(|_| has_more);
    let now = wall(clock.as_ref());
    let shapes = || rows.iter().map(|row| Shape::new(row, &rules, now));
    match args.output.format {
        Format::Json => {
            let next = next.as_ref().map(Lane::as_str);
            print_data(&serde_json::to_string(&Page { lanes: shapes().collect(), next })?)?;
        }
        Format::Jsonl => {
            for shape in shapes() {
                print_data(&serde_json::to_string(&shape)?)?;
            }
        }
        Format::Table if rows.is_empty() => {
            let what = "has anything waiting, in flight or to remember";
            console.note(&match &args.after {
                Some(_) => format!("no host after that one, by name, {what} in {}", store.name()),
                None => format!("no host in {} {what}", store.name()),
            });
        }
        Format::Table => {
            print_data(&table(&rows, &rules, now).text(data_width()))?;
            if let Some(next) = next {
                console.note(&format!("there are more; go on with --after {next}"));
            }
        }
    }
    Ok(Exit::Success)
}

/// The documented JSON of a page; `next` is what --after takes for the next one, `null` if there is none.
#[derive(Debug, Serialize)]
struct Page<'a> {
    lanes: Vec<Shape<'a>>,
    next: Option<&'a str>,
}

/// The documented JSON of a host. `cap` is what it gives now, `null` for any number; `reopening` says that this is less
/// than configured because it was closed. `pace` is the slowest that holds for artifacts and `controller` whose it is,
/// `null` where there is none; `done_in_seconds`, whole ones, is how long what is queued takes by it at least.
/// `paused_until` is `null` for a pause without an end too: `paused` says which.
#[derive(Debug, Serialize)]
struct Shape<'a> {
    lane: &'a str,
    queued: Counted,
    ready: Counted,
    in_flight: u32,
    cap: Option<u32>,
    reopening: bool,
    pace: Option<String>,
    controller: Option<&'static str>,
    done_in_seconds: Option<u64>,
    cooling_until: Option<String>,
    cause: Option<&'a str>,
    paused: bool,
    paused_until: Option<String>,
    pause_reason: Option<&'a str>,
    opens_at: Option<String>,
}

impl<'a> Shape<'a> {
    fn new(row: &'a LaneRow, rules: &[LaneRules], now: Timestamp) -> Self {
        let pace = InForce::new(row, rules);
        Self {
            lane: row.lane.as_str(),
            queued: Counted::new(row.queued, COUNTED),
            ready: Counted::new(row.ready, COUNTED),
            in_flight: row.in_flight,
            cap: cap(row, rules),
            reopening: row.reopening.is_some(),
            controller: pace.as_ref().map(|pace| pace.controller.as_str()),
            done_in_seconds: done_in(row, pace.as_ref(), now).map(|left| left.as_secs_f64().ceil() as u64),
            pace: pace.map(|pace| pace.text),
            cooling_until: row.closed_until.and_then(rfc3339),
            cause: row.cause.as_deref(),
            paused: row.paused_until.is_some(),
            paused_until: row.paused_until.and_then(rfc3339),
            pause_reason: row.pause_reason.as_deref(),
            opens_at: row.open_at.and_then(rfc3339),
        }
    }
}

fn cap(row: &LaneRow, rules: &[LaneRules]) -> Option<u32> {
    least_cap(rules, &row.lane).into_iter().chain(row.reopening).min()
}

/// How long what is queued takes at least, from `now`: until the lane opens, and then by its pace. `None` where nobody
/// knows: without a pace, or while only an event opens it.
fn done_in(row: &LaneRow, pace: Option<&InForce>, now: Timestamp) -> Option<Duration> {
    let pace = pace.filter(|_| row.queued > 0)?;
    Some(row.open_at?.after(now) + pace.takes(row.queued))
}

fn table(rows: &[LaneRow], rules: &[LaneRules], now: Timestamp) -> Grid {
    let mut grid = Grid::new([
        Column::Cut("host"),
        Column::Number("queued"),
        Column::Number("ready"),
        Column::Number("in flight"),
        Column::Number("cap"),
        Column::Text("pace"),
        Column::Text("opens"),
        Column::Text("done in"),
        Column::Cut("why"),
    ]);
    for row in rows {
        let pace = InForce::new(row, rules);
        let left = done_in(row, pace.as_ref(), now);
        grid.row([
            row.lane.to_string(),
            Counted::shown(row.queued, COUNTED),
            Counted::shown(row.ready, COUNTED),
            row.in_flight.to_string(),
            cap(row, rules).map_or_else(|| "any".to_owned(), |cap| cap.to_string()),
            pace.as_ref().map_or_else(|| "any".to_owned(), |pace| pace.text.clone()),
            opens(row, now),
            left.map_or_else(String::new, |left| {
                let more = if row.queued > COUNTED { "> " } else { "" };
                format!("{more}{}", duration(left))
            }),
            why(row, rules, pace.as_ref()),
        ]);
    }
    grid
}

/// When it may give next, as far as the clock decides.
fn opens(row: &LaneRow, now: Timestamp) -> String {
    match row.open_at {
        Some(at) if at <= now => "now".to_owned(),
        Some(at) => from_now(at, now),
        None if row.paused_until == Some(Timestamp::NEVER) => "never".to_owned(),
        // Nothing is queued: what would open it is a cool-down's end.
        None => row.closed_until.max(row.paused_until).map_or_else(String::new, |at| from_now(at, now)),
    }
}

fn why(row: &LaneRow, rules: &[LaneRules], pace: Option<&InForce>) -> String {
    let mut why = Vec::new();
    if let Some(reason) = &row.pause_reason {
        why.push(format!("paused by {reason}"));
    }
    if let Some(cause) = &row.cause {
        why.push(cause.clone());
    }
    let reopens =
        row.reopening.is_some_and(|slots| least_cap(rules, &row.lane).is_none_or(|cap| slots < cap));
    if reopens && row.closed_until.is_none() {
        why.push("reopens step by step".to_owned());
    }
    if let Some(host) = pace.filter(|pace| pace.controller != Controller::Configured) {
        why.push(controller_text(host.controller).to_owned());
    }
    if why.is_empty() && row.queued > 0 && cap(row, rules).is_some_and(|cap| row.in_flight >= cap) {
        why.push("all slots are taken".to_owned());
    }
    why.join("; ")
}

#[cfg(test)]
mod tests {
    use longhaul_queue_core::LanePace;

    use super::super::jobs::samples::NOON;
    use super::*;

    fn rows() -> Vec<LaneRow> {
        let later = |seconds: i64| Some(Timestamp(NOON.0 + seconds * 1000));
        let paced = |controller, every_us| {
            Some(LanePace { controller, every_us, until: Timestamp(NOON.0 + 3_600_000) })
        };
        let lane = |host: &str| LaneRow {
            lane: Lane::new(host).unwrap(),
            queued: 12,
            ready: 12,
            in_flight: 0,
            reopening: None,
            pace: None,
            closed_until: None,
            cause: None,
            paused_until: None,
            pause_reason: None,
            open_at: later(-5),
        };
        vec![
            lane("a.example"),
            LaneRow { in_flight: 1, open_at: None, ..lane("arxiv.org") },
            LaneRow {
                queued: 1_001,
                ready: 900,
                reopening: Some(1),
                closed_until: later(250),
                cause: Some("429 Too Many Requests".to_owned()),
                open_at: later(250),
                ..lane("closed.example")
            },
            LaneRow {
                in_flight: 1,
                reopening: Some(2),
                open_at: later(1),
                pace: paced(Controller::Learned, 1_234_567),
                ..lane("reopening.example:8443")
            },
            LaneRow { pace: paced(Controller::CrawlDelay, 10_000_000), ..lane("slow.example") },
            LaneRow { pace: paced(Controller::Announced, 20_000), ..lane("swift.example") },
            LaneRow {
                paused_until: Some(Timestamp::NEVER),
                pause_reason: Some("ann@box: they asked by mail".to_owned()),
                open_at: None,
                ..lane("paused.example")
            },
            LaneRow {
                queued: 0,
                ready: 0,
                paused_until: later(7_200),
                pause_reason: Some("ann@box".to_owned()),
                open_at: None,
                ..lane("z.example")
            },
        ]
    }

    #[test]
    fn the_table_of_a_page() {
        let rules = [LaneRules::default()];
        insta::assert_snapshot!(table(&rows(), &rules, NOON).text(Some(100)));
        insta::assert_snapshot!(table(&rows(), &[LaneRules::unlimited()], NOON).text(None));
    }

    #[test]
    fn the_json_of_a_page() {
        let (rows, rules) = (rows(), [LaneRules::default()]);
        let lanes = rows[2..7].iter().map(|row| Shape::new(row, &rules, NOON)).collect();
        insta::assert_snapshot!(
            serde_json::to_string_pretty(&Page { lanes, next: Some("z.example") }).unwrap()
        );
    }
}
