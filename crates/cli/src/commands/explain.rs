//! `longhaul queue explain`: why a job is not running now, and when it could.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use longhaul_limiter::{Clock, Controller};
use longhaul_queue_core::{
    ErrorKind, Explanation, JobRecord, JobState, LaneRules, Timestamp, WorkerId, WorkerRow,
};
use longhaul_worker::is_out_of_attempts;
use serde::Serialize;

use super::jobs::{find, say_missing, say_namesake};
use super::pace_shown::{least_cap, strictest};
use crate::args::{ExplainArgs, Format, Global};
use crate::exit::Exit;
use crate::limits;
use crate::output::{Console, duration, number_of, pause, print_data, print_text, rfc3339, table, wall};
use crate::store::Store;
use crate::summary::advice;

/// A job that two processes died with is given only to one that has nothing else.
const LOSSES_ALONE: u32 = 2;

/// Explains one job.
pub(crate) async fn explain(
    global: &Global,
    args: ExplainArgs,
    console: &Console,
    clock: Arc<dyn Clock>,
) -> Result<Exit> {
    let store = Store::open(global, false, Arc::clone(&clock)).await?;
    let workers = store.admin.workers().await?;
    let rules = limits::in_force(&args.limits, &global.keying(), &workers)?;
    let Some((job, _)) = find(&store, &args.id, args.number.job).await? else {
        say_missing(&store, &args.id, args.number.job, console);
        return Ok(Exit::Failure);
    };
    // The queue itself knows the paces of the others; caps are the asking process' own.
    let explanation = match store.admin.explain(&job.artifact_id, &rules[0]).await {
        // No row is ever removed, so somebody has replaced the queue meanwhile.
        Err(error) if error.kind() == ErrorKind::NotFound => {
            say_missing(&store, &args.id, args.number.job, console);
            return Ok(Exit::Failure);
        }
        explanation => explanation?,
    };
    let told = Told::new(&job, explanation, &rules, &workers);
    let now = wall(clock.as_ref());
    match args.output.format {
        Format::Json | Format::Jsonl => print_data(&serde_json::to_string(&Shape::new(&job, &told, now))?)?,
        Format::Table => print_text(&table(&rows(&job, &told, now)))?,
    }
    say_namesake(&store, &args.id, &job, console).await?;
    Ok(Exit::Success)
}

/// What is told of a job.
#[derive(Debug, PartialEq)]
struct Told {
    /// A code for programs.
    cause: &'static str,
    /// A sentence for people.
    because: String,
    /// In how long it could start; `None` if only an event can make it, or never.
    wait: Option<Duration>,
    /// What its reader can do about it.
    to_do: Option<String>,
    /// Whose pace it waits for, if it waits for one.
    controller: Option<Controller>,
}

impl Told {
    fn new(job: &JobRecord, explanation: Explanation, rules: &[LaneRules], workers: &[WorkerRow]) -> Self {
        let told =
            |cause, because: String, wait| Self { cause, because, wait, to_do: None, controller: None };
        let millis = Duration::from_millis;
        let lane = &job.place.lane;
        let runs = workers.iter().any(|worker| worker.alive);
        let mut told = match explanation {
            Explanation::Running { worker } => {
                told("running", format!("it is running, in process {}", process(&worker, workers)), None)
            }
            Explanation::Ended { state, reason } => {
                return ended(job, state, reason.as_deref().unwrap_or_default());
            }
            Explanation::Ready if !runs => told(
                "no_run",
                "it can start now, but no run works on the queue".to_owned(),
                Some(Duration::ZERO),
            ),
            Explanation::Ready if job.losses >= LOSSES_ALONE => told(
                "alone",
                format!(
                    "{} processes died with it, so it runs alone: it waits until a run has nothing else to do",
                    job.losses
                ),
                Some(Duration::ZERO),
            ),
            Explanation::Ready => told(
                "ready",
                "it can start now; it waits for its host's turn and a free worker".to_owned(),
                Some(Duration::ZERO),
            ),
            Explanation::Delayed { wait_ms } => told("delayed", delayed(job), Some(millis(wait_ms))),
            Explanation::CoolDown { wait_ms, reason } => {
                told("cool_down", format!("{lane} is left alone: {reason}"), Some(millis(wait_ms)))
            }
            Explanation::Pace { wait_ms, controller } => {
                let why = of_pace(job, controller, rules);
                let mut told = told("pace", why, Some(millis(wait_ms)));
                told.controller = Some(controller);
                told
            }
            Explanation::CapFull { in_flight, cap } => {
                let reopens = least_cap(rules, lane).is_none_or(|configured| configured > cap);
                let why = if reopens { "; it was closed, and reopens step by step" } else { "" };
                let requests = number_of(u64::from(in_flight), "request is", "requests are");
                told("cap_full", format!("{requests} in flight to {lane}, and {cap} may be{why}"), None)
            }
            Explanation::LanePaused { reason, wait_ms } => {
                let left = wait_ms.map(millis);
                let mut told =
                    told("lane_paused", format!("{lane} is paused by {}", pause(&reason, left)), left);
                told.to_do = Some(format!("`longhaul queue resume --lane {lane}` ends the pause"));
                told
            }
            Explanation::QueuePaused { reason, wait_ms } => {
                let left = wait_ms.map(millis);
                let mut told =
                    told("queue_paused", format!("the queue is paused by {}", pause(&reason, left)), left);
                told.to_do = Some("`longhaul queue resume` ends the pause".to_owned());
                told
            }
            Explanation::WorkerDied { wait_ms } => {
                let holder =
                    job.worker.as_ref().map_or_else(String::new, |id| format!(", {},", process(id, workers)));
                let why = format!(
                    "the process that held it{holder} has died; the next run that looks takes it back"
                );
                told("worker_died", why, Some(millis(wait_ms)))
            }
        };
        if !runs && told.to_do.is_none() {
            told.to_do = Some("no run works on the queue; start one with `longhaul queue run`".to_owned());
        }
        told
    }
}

/// Whose pace a job waits for.
fn of_pace(job: &JobRecord, controller: Controller, rules: &[LaneRules]) -> String {
    let lane = &job.place.lane;
    let whose = match controller {
        Controller::Configured => match strictest(rules, lane, job.place.role, 2) {
            pace if pace.is_off() => "another run is configured to".to_owned(),
            pace => pace.to_string(),
        },
        Controller::CrawlDelay => "its robots.txt allows (Crawl-delay)".to_owned(),
        Controller::Announced => "it announces".to_owned(),
        Controller::Learned => "it was seen to bear; it refused a faster pace".to_owned(),
    };
    format!("{lane} is asked no more often than {whose}")
}

/// Who a process is, as far as is known.
fn process(id: &WorkerId, workers: &[WorkerRow]) -> String {
    match workers.iter().find(|worker| worker.id == *id) {
        Some(worker) => format!("{id} (pid {} on {})", worker.pid, worker.host),
        None => id.to_string(),
    }
}

/// Why a job that has ended does not run.
fn ended(job: &JobRecord, state: JobState, reason: &str) -> Told {
    let advised = advice(reason);
    let because =
        |text: &str| if advised.is_empty() { text.to_owned() } else { format!("{text}: {advised}") };
    let detail = job.last_error.as_deref().map_or_else(String::new, |error| format!(" ({error})"));
    let id = &job.artifact_id;
    let (cause, because, to_do) = match state {
        JobState::Done => {
            let file = job.path.as_ref().map_or_else(String::new, |path| format!(", as {path}"));
            (
                "done",
                format!("it was fetched{file}"),
                format!("`longhaul queue requeue {id}` fetches it again"),
            )
        }
        JobState::Skipped => (
            "skipped",
            because(&format!("it is not to be fetched, for the reason {reason}")),
            format!("`longhaul queue requeue {id}` tries it all the same"),
        ),
        _ if reason == "lease-lost" => (
            "out_of_losses",
            format!("{} processes died while they were at work on it; it may be what kills them", job.losses),
            retry(reason),
        ),
        _ if is_out_of_attempts(job) || job.max_attempts.is_some_and(|most| job.attempts >= most) => (
            "out_of_attempts",
            format!(
                "all of its {} have failed, the last with {reason}{detail}",
                number_of(u64::from(job.attempts), "try", "tries")
            ),
            retry(reason),
        ),
        _ => ("failed", because(&format!("it failed for good, with {reason}{detail}")), retry(reason)),
    };
    let to_do =
        if job.slim { "it was pruned: what it would take to run it again is gone".to_owned() } else { to_do };
    Told { cause, because, wait: None, to_do: Some(to_do), controller: None }
}

fn retry(reason: &str) -> String {
    format!("`longhaul queue retry-failed --reason {reason}` tries it and its like again")
}

/// The documented JSON. `could_start_*` are `null` if only an event can make it start, or nothing will.
#[derive(Debug, Serialize)]
struct Shape<'a> {
    job: i64,
    id: &'a str,
    state: &'static str,
    lane: Option<&'a str>,
    cause: &'static str,
    controller: Option<&'static str>,
    because: &'a str,
    could_start_seconds: Option<f64>,
    could_start_at: Option<String>,
    to_do: Option<&'a str>,
}

impl<'a> Shape<'a> {
    fn new(job: &'a JobRecord, told: &'a Told, now: Timestamp) -> Self {
        let lane = &job.place.lane;
        Self {
            job: job.id.0,
            id: job.artifact_id.as_str(),
            state: job.state.as_str(),
            lane: Some(lane.as_str()).filter(|_| !lane.is_none()),
            cause: told.cause,
            controller: told.controller.map(Controller::as_str),
            because: &told.because,
            could_start_seconds: told.wait.map(|wait| wait.as_secs_f64()),
            could_start_at: told.wait.and_then(|wait| rfc3339(now.plus(wait))),
            to_do: told.to_do.as_deref(),
        }
    }
}

fn rows(job: &JobRecord, told: &Told, now: Timestamp) -> Vec<(&'static str, String)> {
    let mut rows = vec![
        ("artifact", format!("{} (job {})", job.artifact_id, job.id)),
        ("state", job.state.as_str().to_owned()),
        ("because", told.because.clone()),
    ];
    match told.wait {
        Some(Duration::ZERO) => {}
        Some(wait) => {
            let at = rfc3339(now.plus(wait)).unwrap_or_default();
            rows.push(("could start", format!("in {}, at {at}", duration(wait))));
        }
        None if told.cause == "cap_full" => rows.push(("could start", "when one of them ends".to_owned())),
        None => {}
    }
    rows.extend(told.to_do.clone().map(|to_do| ("to do", to_do)));
    rows
}

/// Why a job is not to start before a time of its own.
fn delayed(job: &JobRecord) -> String {
    match &job.reason {
        Some(reason) if job.attempts > 0 => {
            format!("its last try failed ({reason}), and the next one waits")
        }
        // It was leased before, and nothing was wrong with it.
        _ if job.fence > 0 => {
            let resolver = job.resolver_hint.as_ref().map_or_else(String::new, |resolver| {
                format!(" or, in a run with --max-per-resolver, at its resolver {resolver}")
            });
            format!("it went back into the queue until it is its turn at {}{resolver}", job.place.lane)
        }
        _ => "its own time has not come".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use longhaul_queue_core::Lane;

    use super::super::jobs::samples::{NOON, job, jobs};
    use super::super::workers::samples::workers;
    use super::*;

    fn queued() -> JobRecord {
        job(17, "doi:10.1000/x", "example.org")
    }

    /// Every answer of the queue, as a person and as a program reads it.
    #[test]
    fn each_cause_has_its_words() {
        let text = |reason: &str| reason.to_owned();
        let worker = WorkerId::from_text("00c0ffee00c0ffee");
        let held = JobRecord { state: JobState::InProgress, worker: Some(worker.clone()), ..queued() };
        let retried = JobRecord { attempts: 1, reason: Some(text("timeout")), ..queued() };
        let forever = Explanation::LanePaused { reason: text("ann@box: they asked"), wait_ms: None };
        let all = [
            (held.clone(), Explanation::Running { worker }),
            (queued(), Explanation::Ready),
            (JobRecord { losses: 2, ..queued() }, Explanation::Ready),
            (queued(), Explanation::Delayed { wait_ms: 90_000 }),
            (retried, Explanation::Delayed { wait_ms: 60_000 }),
            (queued(), Explanation::CoolDown { wait_ms: 250_000, reason: text("429 Too Many Requests") }),
            (queued(), Explanation::Pace { wait_ms: 550, controller: Controller::Configured }),
            (queued(), Explanation::Pace { wait_ms: 9_000, controller: Controller::CrawlDelay }),
            (queued(), Explanation::Pace { wait_ms: 20, controller: Controller::Announced }),
            (queued(), Explanation::Pace { wait_ms: 105, controller: Controller::Learned }),
            (queued(), Explanation::CapFull { in_flight: 4, cap: 4 }),
            (queued(), Explanation::CapFull { in_flight: 1, cap: 1 }),
            (queued(), forever),
            (queued(), Explanation::QueuePaused { reason: text("ann@box"), wait_ms: Some(7_200_000) }),
            (held, Explanation::WorkerDied { wait_ms: 5_000 }),
        ];
        let rules = [LaneRules::default()];
        let mut shown = String::new();
        let mut causes = Vec::new();
        for (job, explanation) in all {
            let told = Told::new(&job, explanation, &rules, &workers());
            causes.push(told.cause);
            shown.extend([table(&rows(&job, &told, NOON)), "----\n".to_owned()]);
        }
        insta::assert_snapshot!(shown);
        let expected = "running ready alone delayed delayed cool_down pace pace pace pace cap_full cap_full lane_paused queue_paused worker_died";
        assert_eq!(causes.join(" "), expected);
    }

    /// A job that was given back for its turn is not one that somebody delayed.
    #[test]
    fn who_waits_for_a_turn_reads_whose() {
        let because = |resolver: Option<&str>| {
            let job =
                JobRecord { fence: 2, resolver_hint: resolver.map(str::to_owned), reason: None, ..queued() };
            Told::new(&job, Explanation::Delayed { wait_ms: 2_000 }, &[LaneRules::default()], &workers())
                .because
        };
        assert_eq!(because(None), "it went back into the queue until it is its turn at example.org");
        assert_eq!(
            because(Some("unpaywall")),
            "it went back into the queue until it is its turn at example.org or, in a run with --max-per-resolver, at its \
             resolver unpaywall"
        );
    }

    #[test]
    fn each_end_has_its_words() {
        let end = |state, reason: &str| JobRecord {
            state,
            reason: Some(reason.to_owned()),
            attempts: 3,
            ..queued()
        };
        let spent = r#"{"detail":"nothing for 30 s","out_of_attempts":true}"#.to_owned();
        let error = Some("nothing for 30 s from https://example.org/17.pdf".to_owned());
        let all = [
            jobs().remove(0),
            end(JobState::Skipped, "robots"),
            end(JobState::Error, "gone"),
            JobRecord { outcome: Some(spent), last_error: error, ..end(JobState::Error, "timeout") },
            JobRecord { max_attempts: Some(3), ..end(JobState::Error, "conn-error") },
            JobRecord { losses: 5, ..end(JobState::Error, "lease-lost") },
            JobRecord { slim: true, ..end(JobState::Error, "gone") },
        ];
        let mut shown = String::new();
        let mut causes = Vec::new();
        for job in all {
            let explanation = Explanation::Ended { state: job.state, reason: job.reason.clone() };
            let told = Told::new(&job, explanation, &[LaneRules::default()], &[]);
            causes.push(told.cause);
            shown.extend([table(&rows(&job, &told, NOON)), "----\n".to_owned()]);
        }
        insta::assert_snapshot!(shown);
        assert_eq!(
            causes.join(" "),
            "done skipped failed out_of_attempts out_of_attempts out_of_losses failed"
        );
    }

    #[test]
    fn where_no_run_works_that_is_said() {
        let told = |explanation| Told::new(&queued(), explanation, &[LaneRules::default()], &[]);
        assert_eq!(told(Explanation::Ready).cause, "no_run");
        let delayed = told(Explanation::Delayed { wait_ms: 1_000 });
        assert_eq!(delayed.cause, "delayed");
        assert!(delayed.to_do.unwrap().contains("`longhaul queue run`"));
    }

    #[test]
    fn the_json_of_a_wait() {
        let cooling = Explanation::CoolDown { wait_ms: 250_000, reason: "429 Too Many Requests".to_owned() };
        let (job, rules) = (queued(), [LaneRules::default()]);
        let told = Told::new(&job, cooling, &rules, &workers());
        insta::assert_snapshot!(serde_json::to_string_pretty(&Shape::new(&job, &told, NOON)).unwrap());
        let nowhere =
            JobRecord { place: longhaul_queue_core::Place { lane: Lane::NONE, ..job.place.clone() }, ..job };
        let told = Told::new(&nowhere, Explanation::Ready, &rules, &workers());
        insta::assert_snapshot!(serde_json::to_string_pretty(&Shape::new(&nowhere, &told, NOON)).unwrap());
    }
}
