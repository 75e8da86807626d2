//! `longhaul queue run`: puts queue, pipeline and orchestrator together, and stays with them until the end.

mod others;
mod records;
pub(super) mod settings;
mod telemetry;
mod watch;

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};
use longhaul_events::{Fanout, Observer};
use longhaul_limiter::{Clock, Lane, LaneRules};
use longhaul_orchestrator::{Budget, Orchestrator, Parts, RunEnd, RunSummary};
use longhaul_pipeline::HttpPipeline;
use longhaul_queue_core::{JobPage, QueueStats, StatedLimits, StoreId, WorkerId};
use longhaul_telemetry::{Export, RunEnding};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use self::others::Others;
use self::records::{Ending, Records};
use self::telemetry::Telemetry;
use self::watch::Watch;
use super::import::{open_all, print_report};
use crate::args::{Format, Global, LogFormat, RunArgs};
use crate::exit::Exit;
use crate::import::{Import, Importer, Input, Making};
use crate::limits;
use crate::output::{Console, count, duration, number_of, pause, print_data, print_text};
use crate::progress::RunObserver;
use crate::signals::Signals;
use crate::store::{Opening, Store};
use crate::summary::{End, Summary};

/// Runs the queue.
pub(crate) async fn run(
    global: &Global,
    args: RunArgs,
    export: Option<Export>,
    console: &Console,
    clock: Arc<dyn Clock>,
) -> Result<Exit> {
    allow_open_files(usize::from(args.workers), console);
    records::refuse_collisions(&args, &global.queue)?;
    let rules = limits::lane_rules(&args, global.keying())?;
    let config = settings::orchestrator(&args, rules.clone(), console)?;
    let sources = open_all(&args.import)?;
    // A run that drains has nothing to wait for in a queue that is not there: the name is mistyped, or nothing was
    // imported yet, and both should be said.
    let create = !args.drain || !sources.is_empty();
    let store = Store::open(global, create, Arc::clone(&clock)).await?;
    let mut signals = Signals::listen()?;
    let mut exit = Exit::Success;
    if !sources.is_empty() {
        let importer = Importer {
            store: &Opening::opened(store.clone()),
            making: Making { keying: store.keying.clone(), clock: Arc::clone(&clock) },
            clock: Arc::clone(&clock),
            console,
            signals: Some(&mut signals),
        };
        let done = importer
            .run(Import { input: Input::Lines(sources), limit: None, rejects: None, strict: false })
            .await?;
        exit = done.exit;
        if done.report.interrupted {
            print_report(&done.report, args.format, console)?;
            return Ok(exit);
        }
        console.note(&done.report.sentence());
    }
    let stats = store.queue.stats().await?;
    let unfinished = stats.counts.queued + stats.counts.in_progress;
    let run_id = WorkerId::random().to_string();
    let records = Records::open(&args, &run_id, &clock, console)?;
    if args.drain && stats.counts.total() == 0 {
        return nothing_to_do(&store, &args, (&stats, &rules), &records, console, exit);
    }
    let http =
        HttpPipeline::new(settings::http(&args, &store.id, &run_id)).context("the run cannot start")?;
    let files = StoreId(http.store_id().to_owned());
    // A run that was killed between a settlement and the file's final name has left that to this one.
    let unpublished = store.admin.unpublished(&files, JobPage { after: None, limit: 1 }).await?;
    if args.drain && unfinished == 0 && unpublished.is_empty() {
        return nothing_to_do(&store, &args, (&stats, &rules), &records, console, exit);
    }
    say_start(&store, &args, &rules, &stats, console);
    say_proxies(&http, console);

    let telemetry = Telemetry::start(&args, export, &store, &rules, &clock, console)?;
    let (observer, notices) = RunObserver::new(Arc::clone(&clock));
    let parts = Parts {
        queue: Arc::clone(&store.queue),
        admin: Arc::clone(&store.admin),
        store: Some(files),
        pipeline: Arc::new(http),
        observer: observers(&observer, telemetry.observers(), &records),
        clock: Arc::clone(&clock),
    };
    let run = Orchestrator::start(config, parts).await?;
    let log_apart = global.log_format == LogFormat::Json;
    let watch = Watch {
        observer: &observer,
        notices,
        queue: &store.queue,
        admin: &store.admin,
        others: Others::new(run.worker().clone(), StatedLimits::from(&rules), log_apart),
        clock: &clock,
        console,
    };
    telemetry.ready();
    let (ended, signal) = telemetry.beside(watch.until_its_end(run, &mut signals)).await;
    telemetry.finish(ended.elapsed, console).await;

    exit = exit.or(say_unpublished(&ended, console));
    let (unpublished, elapsed) = (ended.unpublished, ended.elapsed);
    let (ending, end, failed) = why_it_ended(ended.ended, &args);
    let stats = store.queue.stats().await;
    let told = Ending {
        ended: ending,
        because: end.1.as_deref(),
        queue: store.name().to_string(),
        unpublished,
        stats: stats.as_ref().ok(),
        rules: &rules,
        output_dir: &args.output_dir,
        manifest: &manifest(&args),
    };
    exit = exit.or(records.close(&told, console));
    if let Some(error) = failed {
        return Err(error);
    }
    let stats = stats?;
    let summary = observer.with_tally(|tally| {
        Summary::new(end.clone(), elapsed, tally, &stats, (&args.output_dir, &manifest(&args)))
    });
    print_summary(&summary, args.format)?;
    Ok(exit.or(how_it_ended(end.0, signal, &stats)))
}

/// Says what the publisher could not do.
fn say_unpublished(ended: &RunSummary, console: &Console) -> Exit {
    if ended.unpublished == 0 {
        return Exit::Success;
    }
    let files = number_of(ended.unpublished, "finished job has", "finished jobs have");
    let because =
        ended.unpublished_because.as_ref().map_or_else(String::new, |because| format!(" ({because})"));
    console.warn(&format!(
        "{files} no final name or no line in the manifest yet{because}; the next run tries again"
    ));
    Exit::Remains
}

/// Where the manifest is.
fn manifest(args: &RunArgs) -> PathBuf {
    args.manifest.clone().unwrap_or_else(|| args.output_dir.join("manifest.jsonl"))
}

/// Everybody who hears of the run.
fn observers(
    progress: &Arc<RunObserver>,
    telemetry: Vec<Arc<dyn Observer>>,
    records: &Records,
) -> Arc<dyn Observer> {
    let mut all: Vec<Arc<dyn Observer>> = vec![Arc::clone(progress) as Arc<dyn Observer>];
    all.extend(telemetry);
    all.extend(records.observers());
    Arc::new(Fanout::new(all))
}

/// Why a run ended: for the report, for the summary with the reason in words, and as the error that it ends the program
/// with, if it does.
fn why_it_ended(ended: RunEnd, args: &RunArgs) -> (RunEnding, (End, Option<String>), Option<anyhow::Error>) {
    match ended {
        RunEnd::Failed(error) => {
            let error = anyhow::Error::new(error).context("the run ended early");
            (RunEnding::Failed, (End::Stopped, Some(format!("{error:#}"))), Some(error))
        }
        RunEnd::Budget(budget) => (RunEnding::Budget, (End::Budget, Some(spent(budget, args))), None),
        RunEnd::Drained => (RunEnding::Drained, (End::Drained, None), None),
        _ => (RunEnding::Stopped, (End::Stopped, None), None),
    }
}

/// What a script should know of a run.
fn how_it_ended(end: End, signal: Option<Exit>, stats: &QueueStats) -> Exit {
    let errors = if stats.counts.error > 0 { Exit::JobErrors } else { Exit::Success };
    let own = match end {
        End::Budget => Exit::Budget,
        End::Drained if stats.counts.queued + stats.counts.in_progress > 0 => Exit::Remains,
        End::Drained | End::Stopped => errors,
    };
    own.or(signal.unwrap_or(Exit::Success))
}

fn nothing_to_do(
    store: &Store,
    args: &RunArgs,
    (stats, rules): (&QueueStats, &LaneRules),
    records: &Records,
    console: &Console,
    exit: Exit,
) -> Result<Exit> {
    let told = Ending {
        ended: RunEnding::Drained,
        because: None,
        queue: store.name().to_string(),
        unpublished: 0,
        stats: Some(stats),
        rules,
        output_dir: &args.output_dir,
        manifest: &manifest(args),
    };
    let exit = exit.or(records.close(&told, console));
    if stats.counts.total() == 0 {
        console.note(&format!(
            "nothing to do: {} is empty; import a file first: `longhaul queue import FILE`",
            store.name()
        ));
    } else {
        let counts = &stats.counts;
        console.note(&format!(
            "nothing to do: all {} in {} have ended ({} done, {} skipped, {} in error)",
            number_of(counts.total(), "job", "jobs"),
            store.name(),
            count(counts.done),
            count(counts.skipped),
            count(counts.error),
        ));
    }
    if args.format != Format::Table {
        let summary = Summary::new(
            (End::Drained, None),
            std::time::Duration::ZERO,
            &crate::progress::Tally::default(),
            stats,
            (&args.output_dir, &manifest(args)),
        );
        print_summary(&summary, args.format)?;
    }
    Ok(exit.or(how_it_ended(End::Drained, None, stats)))
}

/// What is about to happen: whose queue, how much, under which limits.
fn say_start(store: &Store, args: &RunArgs, rules: &LaneRules, stats: &QueueStats, console: &Console) {
    let counts = &stats.counts;
    let ended = counts.done + counts.skipped + counts.error;
    let mut queue = vec![format!("{} to fetch", count(counts.queued))];
    if counts.in_progress > 0 {
        let whose = if stats.workers > 0 { "in progress" } else { "that a run left unfinished" };
        queue.push(format!("{} {whose}", count(counts.in_progress)));
    }
    if ended > 0 {
        queue.push(format!("{} ended before", count(ended)));
    }
    let queue = format!("queue    {}: {}", store.name(), queue.join(", "));
    console.note(&queue);
    if counts.total() == 0 {
        console
            .note("         nothing to do yet: import a file from another terminal; this run waits for it");
    }
    if let Some(paused) = &stats.paused {
        let paused = pause(paused, stats.paused_for);
        console.warn(&format!("nothing starts, because the queue is paused by {paused}"));
    }
    if stats.workers > 0 {
        let others = number_of(stats.workers, "other run works", "other runs work");
        console.note(&format!("         {others} on it"));
    }
    console.note(&format!("files    {}", args.output_dir.display()));
    let workers = number_of(u64::from(args.workers), "worker", "workers");
    console.note(&format!("limits   {workers}; each host: {}{}", limits::shown(rules), arxiv(rules)));
    if args.no_robots {
        console.note("robots   robots.txt is neither asked for nor obeyed (--no-robots)");
    }
    if args.contact.is_none() {
        console.note("         give --contact EMAIL, so that a provider can reach you before it blocks you");
    }
}

fn say_proxies(http: &HttpPipeline, console: &Console) {
    for proxy in http.proxies() {
        console.note(&format!(
            "proxy    {proxy}: it looks names up, so which addresses are contacted is its affair"
        ));
    }
}

/// The best known host with limits of its own.
fn arxiv(rules: &LaneRules) -> String {
    let Ok(lane) = Lane::new("arxiv.org") else { return String::new() };
    let (pace, _) = rules.pace(&lane, longhaul_limiter::Role::Artifact);
    let cap = rules.cap(&lane).map_or_else(String::new, |cap| format!("{cap} at a time, "));
    format!("; arxiv.org: {cap}{pace}")
}

fn spent(budget: Budget, args: &RunArgs) -> String {
    let time = |limit: Option<std::time::Duration>| limit.map_or_else(String::new, duration);
    let number = |limit: Option<u64>| limit.map_or_else(String::new, count);
    match budget {
        Budget::Jobs => format!("{} jobs have ended (--max-jobs)", number(args.max_jobs)),
        Budget::Bytes => format!(
            "{} have been received (--max-bytes)",
            args.max_bytes.map_or_else(String::new, crate::output::bytes)
        ),
        Budget::Runtime => format!("{} have passed (--max-runtime)", time(args.max_runtime)),
        Budget::Errors => format!("{} jobs have ended in error (--max-errors)", number(args.max_errors)),
        _ => "a budget is used up".to_owned(),
    }
}

fn print_summary(summary: &Summary, format: Format) -> Result<()> {
    match format {
        Format::Json | Format::Jsonl => print_data(&serde_json::to_string(summary)?)?,
        Format::Table => print_text(&summary.text())?,
    }
    Ok(())
}

/// What a worker may have open at once: its connections and files.
const OPEN_FILES_EACH: u64 = 4;
/// What a run has open whatever its workers do: its queue and records, and the connections that it keeps.
const OPEN_FILES: u64 = 320;

/// As many files and connections may be open as this process may allow itself. Many systems begin with 1,024, which many
/// workers soon need.
fn allow_open_files(workers: usize, console: &Console) {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })
    {
        tracing::debug!(%error, "the limit of open files stays as it is");
    }
    let needed = OPEN_FILES + OPEN_FILES_EACH * workers as u64;
    if let Some(most) = getrlimit(Resource::Nofile).current.filter(|most| *most < needed) {
        console.warn(&format!(
            "this system lets a process open {} files, and {workers} workers may need {}; raise it (`ulimit -Hn`) or give \
             fewer --workers",
            count(most),
            count(needed)
        ));
    }
}

#[cfg(test)]
mod tests {
    use longhaul_queue_core::StateCounts;

    use super::*;

    #[test]
    fn scripts_learn_how_a_run_ended() {
        let stats = |queued, error| QueueStats {
            counts: StateCounts { queued, error, ..StateCounts::default() },
            ..QueueStats::default()
        };
        let check = |end, signal, queued, error, exit| {
            assert_eq!(how_it_ended(end, signal, &stats(queued, error)), exit, "{end:?} {signal:?}");
        };
        check(End::Drained, None, 0, 0, Exit::Success);
        check(End::Drained, None, 0, 1, Exit::JobErrors);
        check(End::Drained, None, 1, 1, Exit::Remains);
        check(End::Budget, None, 1, 1, Exit::Budget);
        check(End::Stopped, Some(Exit::Interrupted), 1, 1, Exit::Interrupted);
        check(End::Stopped, Some(Exit::Terminated), 0, 0, Exit::Terminated);
        check(End::Drained, Some(Exit::Interrupted), 0, 1, Exit::Interrupted);
    }
}
