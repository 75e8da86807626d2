//! The report as data. Its JSON is this, field by field.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use longhaul_limiter::{Lane, LaneRules, Role};
use serde::Serialize;

use super::hosts::{Host, MOST, Sums, Waits};
use super::seen::Seen;
use super::{EndedRun, Left, RunEnding};

/// The form of the JSON: a field may be added to it, but none is taken away or given another meaning.
const SCHEMA_VERSION: u32 = 1;

/// A run, as its process saw it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// 1.
    pub schema_version: u32,
    /// What kind of file this is: `longhaul run report`.
    pub kind: &'static str,
    /// The program's version.
    pub version: String,
    /// The id in the manifest's lines.
    pub run_id: String,
    /// The queue's name.
    pub queue: String,
    /// When the run began, RFC 3339.
    pub started_at: String,
    /// When it ended, by the same clock that measured `seconds`.
    pub ended_at: String,
    /// How long it took.
    pub seconds: f64,
    /// How it ended.
    pub ended: RunEnding,
    /// Why, for people.
    pub ended_because: Option<String>,
    /// Where files are.
    pub output_dir: String,
    /// Where the manifest is.
    pub manifest: String,
    /// Where the attempts are.
    pub attempts: Option<String>,
    /// What ended.
    pub jobs: Jobs,
    /// What was tried for that.
    pub tries: Tries,
    /// What was asked of hosts.
    pub requests: Requests,
    /// How long tries waited, all together, by what for.
    pub waits: BTreeMap<&'static str, Waited>,
    /// How often this machine could not work.
    pub local_faults: u64,
    /// How often the queue could not be reached.
    pub store_unavailable: u64,
    /// What the whole queue holds now.
    pub left: Option<Left>,
    /// What happened when.
    pub progress: Progress,
    /// What was seen of hosts.
    pub hosts: Hosts,
    /// What in this report is not exact, in words; empty if all is.
    pub notes: Vec<String>,
}

/// Jobs that ended in this run. Exact; the same as this run's lines in the manifest, once those that are in
/// `unpublished` have theirs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Jobs {
    /// Done.
    pub done: u64,
    /// Skipped.
    pub skipped: u64,
    /// In error.
    pub error: u64,
    /// Bytes of the files of jobs that are done.
    pub file_bytes: u64,
    /// Jobs that got their final name and their manifest line in this run,
    pub published: u64,
    /// and those of them that an earlier run had ended; they are not in the numbers above.
    pub published_for_earlier_runs: u64,
    /// Jobs that wait for theirs.
    pub unpublished: u64,
    /// The same by reason: done first, then error, then skipped, the most frequent first.
    pub by_reason: Vec<OutcomeRow>,
}

/// Jobs that ended alike.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OutcomeRow {
    /// `done`, `skipped` or `error`, as in the manifest.
    pub outcome: &'static str,
    /// The reason code, as in the manifest.
    pub reason: String,
    /// How many.
    pub count: u64,
    /// Bytes of their files.
    pub file_bytes: u64,
    /// The first of them.
    pub example: String,
    /// What was said of it.
    pub detail: String,
    /// What the reason means and what can be done about it.
    pub advice: &'static str,
}

/// Tries. Exact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Tries {
    /// Tries that began.
    pub started: u64,
    /// Failed, to be repeated.
    pub retry: u64,
    /// Sent to wait for another host.
    pub deferred: u64,
    /// Ended because a host asked for quiet.
    pub throttled: u64,
    /// Given back: the run ended, or this machine could not work.
    pub released: u64,
    /// Taken away, because their lease had ended.
    pub leases_lost: u64,
}

/// Requests. Exact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Requests {
    /// Started.
    pub started: u64,
    /// Told to their end. The others were cut off with their try.
    pub ended: u64,
    /// Bytes of bodies, of files that failed too.
    pub received_bytes: u64,
    /// Answered 429.
    pub answered_429: u64,
    /// Answered 503.
    pub answered_503: u64,
    /// Ended, by the answer's status; `none` if there was no answer.
    pub by_status: BTreeMap<String, u64>,
    /// Ended, by reason code.
    pub by_reason: BTreeMap<String, u64>,
    /// Ended, by resolver.
    pub by_resolver: BTreeMap<String, u64>,
}

/// How often and how long something was waited for.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Waited {
    /// How often.
    pub times: u64,
    /// How long, all together. Tries wait at the same time, so this may be more than the run took.
    pub seconds: f64,
}

/// What happened when. Sums are exact, times are as fine as a bucket is wide.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Progress {
    /// How long each bucket is; the last one ends with the run.
    pub bucket_seconds: f64,
    /// From the run's beginning on, at most 480.
    pub buckets: Vec<ProgressBucket>,
}

/// What happened in a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct ProgressBucket {
    /// Jobs that ended as done,
    pub done: u64,
    /// as skipped,
    pub skipped: u64,
    /// as error.
    pub error: u64,
    /// Requests that started.
    pub requests: u64,
    /// Answers 429 and 503.
    pub throttled: u64,
    /// Bytes that arrived.
    pub received_bytes: u64,
}

/// Hosts. What is listed and `others` add up to exactly all.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Hosts {
    /// How many different ones there were; at most so many, if `others` is there.
    pub seen: u64,
    /// The busiest, at most 512: those for which was waited longest first, then by requests.
    pub listed: Vec<HostRow>,
    /// Those that are not listed, together.
    pub others: Option<OtherHosts>,
}

/// One host, as this process saw it. Other processes on the same queue share its cap, and are not in its numbers.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct HostRow {
    /// The lane's key.
    pub host: String,
    /// Requests that started.
    pub requests: u64,
    /// The most in flight at once, from before the connect to the body's end.
    pub peak_in_flight: u32,
    /// How many may be, if that is bounded.
    pub cap: Option<u32>,
    /// The most that started within any second, wherever that second lies.
    pub peak_in_any_second: u32,
    /// Whether there may have been more in a second.
    pub peak_in_any_second_is_at_least: bool,
    /// The configured pace for artifacts.
    pub pace: String,
    /// Answers 429.
    pub answered_429: u64,
    /// Answers 503.
    pub answered_503: u64,
    /// Requests that did not come to what they were made for.
    pub failed: u64,
    /// Bytes of bodies.
    pub received_bytes: u64,
    /// How long requests took, all together.
    pub busy_seconds: f64,
    /// How long tries waited for it, all together.
    pub waited_seconds: f64,
    /// The same by what for.
    pub waits: BTreeMap<&'static str, Waited>,
    /// How often it was left alone because it asked for quiet or failed too often,
    pub closings: u64,
    /// and for how long in this run.
    pub closed_seconds: f64,
    /// What it did when it was left alone last.
    pub closed_because: Option<String>,
    /// False if it found no place in the table at first, so that what it did before may be among the others.
    pub complete: bool,
}

/// Hosts that made room for busier ones.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OtherHosts {
    /// At most so many.
    pub hosts: u64,
    /// Requests that started.
    pub requests: u64,
    /// The most that any of them had in flight at once.
    pub peak_in_flight: u32,
    /// The most that started at any of them within any second.
    pub peak_in_any_second: u32,
    /// Answers 429.
    pub answered_429: u64,
    /// Answers 503.
    pub answered_503: u64,
    /// Requests that did not come to what they were made for.
    pub failed: u64,
    /// Bytes of bodies.
    pub received_bytes: u64,
    /// How long requests took, all together.
    pub busy_seconds: f64,
    /// How long tries waited for them, all together.
    pub waited_seconds: f64,
    /// The same by what for.
    pub waits: BTreeMap<&'static str, Waited>,
    /// How often one was left alone,
    pub closings: u64,
    /// and for how long, all together.
    pub closed_seconds: f64,
}

/// The report of what was seen until `now`, counted from the run's beginning.
pub(super) fn report(run: &EndedRun<'_>, seen: &Seen, began_at: SystemTime, now: Duration) -> Report {
    let hosts = hosts(seen, run.rules, now);
    let notes = notes(seen, &hosts);
    let unended = |verdict| seen.unended.get(verdict).copied().unwrap_or_default();
    let status = |code: &str| seen.by_status.get(code).copied().unwrap_or_default();
    Report {
        schema_version: SCHEMA_VERSION,
        kind: "longhaul run report",
        version: run.version.to_owned(),
        run_id: run.run_id.to_owned(),
        queue: run.queue.to_owned(),
        started_at: rfc3339(began_at),
        ended_at: rfc3339(began_at + now),
        seconds: now.as_secs_f64(),
        ended: run.ended,
        ended_because: run.because.map(str::to_owned),
        output_dir: run.output_dir.display().to_string(),
        manifest: run.manifest.display().to_string(),
        attempts: run.attempts.map(|path| path.display().to_string()),
        jobs: jobs(run, seen),
        tries: Tries {
            started: seen.tries,
            retry: unended("retry"),
            deferred: unended("deferred"),
            throttled: unended("throttled"),
            released: unended("released"),
            leases_lost: seen.leases_lost,
        },
        requests: Requests {
            started: seen.requests,
            ended: seen.requests_ended,
            received_bytes: seen.received,
            answered_429: status("429"),
            answered_503: status("503"),
            by_status: seen.by_status.clone(),
            by_reason: seen.by_reason.clone(),
            by_resolver: seen.by_resolver.clone(),
        },
        waits: waits(&seen.waits),
        local_faults: seen.local_faults,
        store_unavailable: seen.store_unavailable,
        left: run.left,
        progress: progress(seen),
        hosts,
        notes,
    }
}

fn jobs(run: &EndedRun<'_>, seen: &Seen) -> Jobs {
    let place = |outcome: &str| ["done", "error", "skipped"].iter().position(|one| *one == outcome);
    let mut by_reason: Vec<OutcomeRow> = seen
        .ended
        .iter()
        .map(|((outcome, reason), group)| OutcomeRow {
            outcome,
            reason: reason.clone(),
            count: group.count,
            file_bytes: group.bytes,
            example: group.example.clone(),
            detail: group.detail.clone(),
            advice: (run.advice)(reason),
        })
        .collect();
    // Stable: equal counts stay in the reasons' order.
    by_reason.sort_by_key(|row| (place(row.outcome), std::cmp::Reverse(row.count)));
    let count = |outcome: &str| -> u64 {
        by_reason.iter().filter(|row| row.outcome == outcome).map(|row| row.count).sum()
    };
    Jobs {
        done: count("done"),
        skipped: count("skipped"),
        error: count("error"),
        file_bytes: by_reason.iter().map(|row| row.file_bytes).sum(),
        published: seen.published,
        published_for_earlier_runs: seen.published_for_earlier_runs,
        unpublished: run.unpublished,
        by_reason,
    }
}

fn progress(seen: &Seen) -> Progress {
    let buckets = seen.timeline.buckets().iter().map(|bucket| ProgressBucket {
        done: bucket.done,
        skipped: bucket.skipped,
        error: bucket.error,
        requests: bucket.requests,
        throttled: bucket.throttled,
        received_bytes: bucket.bytes,
    });
    Progress { bucket_seconds: seen.timeline.width().as_secs_f64(), buckets: buckets.collect() }
}

fn hosts(seen: &Seen, rules: &LaneRules, now: Duration) -> Hosts {
    let mut listed: Vec<HostRow> =
        seen.hosts.hosts().iter().map(|host| row(host, &host.sums_until(now), rules)).collect();
    listed.sort_by(|a, b| {
        let weight = |row: &HostRow| row.waited_seconds + row.closed_seconds;
        let longest_first = weight(b).total_cmp(&weight(a));
        longest_first.then(b.requests.cmp(&a.requests)).then_with(|| a.host.cmp(&b.host))
    });
    let others = seen.hosts.others();
    let sums = &others.sums;
    let is_full = others.hosts > 0;
    Hosts {
        seen: others.hosts + listed.len() as u64,
        listed,
        others: is_full.then(|| OtherHosts {
            hosts: others.hosts,
            requests: sums.requests,
            peak_in_flight: others.peak_in_flight,
            peak_in_any_second: others.peak_in_any_second,
            answered_429: sums.answered_429,
            answered_503: sums.answered_503,
            failed: sums.failed,
            received_bytes: sums.bytes,
            busy_seconds: sums.busy.as_secs_f64(),
            waited_seconds: sums.waited().as_secs_f64(),
            waits: waits(&sums.waits),
            closings: sums.closings,
            closed_seconds: sums.closed.as_secs_f64(),
        }),
    }
}

fn row(host: &Host, sums: &Sums, rules: &LaneRules) -> HostRow {
    let (pace, _) = rules.pace(&host.lane, Role::Artifact);
    HostRow {
        host: name(&host.lane),
        requests: sums.requests,
        peak_in_flight: host.peak_in_flight,
        cap: rules.cap(&host.lane),
        peak_in_any_second: host.starts.peak(),
        peak_in_any_second_is_at_least: host.starts.is_at_least(),
        pace: pace.to_string(),
        answered_429: sums.answered_429,
        answered_503: sums.answered_503,
        failed: sums.failed,
        received_bytes: sums.bytes,
        busy_seconds: sums.busy.as_secs_f64(),
        waited_seconds: sums.waited().as_secs_f64(),
        waits: waits(&sums.waits),
        closings: sums.closings,
        closed_seconds: sums.closed.as_secs_f64(),
        closed_because: (!host.cause.is_empty()).then(|| host.cause.clone()),
        complete: host.whole,
    }
}

fn name(lane: &Lane) -> String {
    lane.to_string()
}

fn waits(waits: &Waits) -> BTreeMap<&'static str, Waited> {
    let waited = |wait: &super::hosts::Wait| Waited { times: wait.times, seconds: wait.length.as_secs_f64() };
    waits.iter().map(|(reason, wait)| (*reason, waited(wait))).collect()
}

fn notes(seen: &Seen, hosts: &Hosts) -> Vec<String> {
    let mut notes = Vec::new();
    if let Some(others) = &hosts.others {
        notes.push(format!(
            "There were more hosts than the {MOST} that are kept: quieter ones are counted together ({} times one \
             made room), so the number of hosts is an upper bound. Every host with more than one in {MOST} of all that \
             was heard about hosts is listed; one that is marked as incomplete may have more to its name. Sums over all \
             hosts are exact.",
            others.hosts
        ));
    }
    if hosts.listed.iter().any(|row| row.peak_in_any_second_is_at_least) {
        notes.push("A peak within a second of 1024 or more is a lower bound.".to_owned());
    }
    let cut_off = seen.requests - seen.requests_ended.min(seen.requests);
    if cut_off > 0 {
        notes.push(format!(
            "Requests that were cut off with their try, because the run ended or a lease was lost: {cut_off}. They count \
             as started, and what they received is among the bytes received, but no status or reason is known of them."
        ));
    }
    notes
}

fn rfc3339(at: SystemTime) -> String {
    // A clock that far off shows nothing useful whatever is written.
    jiff::Timestamp::try_from(at).map_or_else(|_| String::new(), |at| format!("{at:.3}"))
}
