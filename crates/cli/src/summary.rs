//! What a person wants to read when a run has ended: what was fetched, what was not and why, what is left, who was slow,
//! and where everything is.

mod advice;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use longhaul_queue_core::QueueStats;
use serde::Serialize;

pub(crate) use self::advice::advice;
use crate::output::{bytes, count, duration, number_of, pause, printable, rate};
use crate::progress::{Group, LaneTally, Tally};

/// How many hosts are named.
const NAMED_HOSTS: usize = 5;

/// A host on which tries waited longer than this in all, or whose answers take longer than this, is named.
const SLOW: Duration = Duration::from_secs(10);

/// Why a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum End {
    /// Nothing was left that could start within the horizon.
    Drained,
    /// A budget was used up.
    Budget,
    /// It was asked to stop.
    Stopped,
}

/// A run that has ended. Serialises as the documented JSON.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Summary {
    ended: End,
    /// Which budget, for people.
    budget: Option<String>,
    seconds: f64,
    files: u64,
    bytes: u64,
    retries: u64,
    failed: Vec<Cause>,
    skipped: Vec<Cause>,
    left: Left,
    hosts: Vec<Host>,
    output_dir: String,
    manifest: String,
    #[serde(skip)]
    time: Duration,
}

/// Jobs that ended for one reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Cause {
    reason: String,
    count: u64,
    example: String,
    detail: String,
    advice: &'static str,
}

/// What is still in the queue.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Left {
    queued: u64,
    /// Held by other processes, or by this one if it was stopped at once.
    in_progress: u64,
    /// In how long something could start; `null` if only an event can make it start.
    next_start_seconds: Option<f64>,
    paused: Option<String>,
    lanes_paused: u64,
    lanes_cooling: u64,
    /// Jobs in error, of earlier runs too.
    in_error: u64,
}

/// A host that was slow, or wanted to be left alone.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Host {
    #[serde(rename = "host")]
    name: String,
    requests: u64,
    mean_seconds: f64,
    waited_seconds: f64,
    closed: u64,
    cause: Option<String>,
}

impl Summary {
    /// A summary of what was seen and of what is in the queue now.
    pub(crate) fn new(
        end: (End, Option<String>),
        time: Duration,
        tally: &Tally,
        stats: &QueueStats,
        (output_dir, manifest): (&Path, &Path),
    ) -> Self {
        Self {
            ended: end.0,
            budget: end.1,
            seconds: time.as_secs_f64(),
            files: tally.done,
            bytes: tally.file_bytes,
            retries: tally.retries,
            failed: causes(&tally.failed),
            skipped: causes(&tally.skips),
            left: Left {
                queued: stats.counts.queued,
                in_progress: stats.counts.in_progress,
                next_start_seconds: stats.next_open.map(|time| time.as_secs_f64()),
                paused: stats.paused.as_deref().map(|paused| pause(paused, stats.paused_for)),
                lanes_paused: stats.lanes_paused,
                lanes_cooling: stats.lanes_cooling,
                in_error: stats.counts.error,
            },
            hosts: hosts(tally),
            output_dir: output_dir.display().to_string(),
            manifest: manifest.display().to_string(),
            time,
        }
    }

    /// For people.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        let fetched = number_of(self.files, "file", "files");
        let speed = if self.files > 1 { format!(", {}", rate(self.files, self.time)) } else { String::new() };
        line(
            &mut text,
            &format!("fetched {fetched} ({}) in {}{speed}", bytes(self.bytes), duration(self.time)),
        );
        if self.files > 0 {
            line(&mut text, &format!("  in {}, listed in {}", self.output_dir, self.manifest));
        }
        section(&mut text, "failed", &self.failed);
        section(&mut text, "skipped", &self.skipped);
        if !self.hosts.is_empty() {
            line(&mut text, "hosts that were slow or asked for quiet");
            for host in &self.hosts {
                line(&mut text, &format!("  {}", host.text()));
            }
        }
        if let Some(budget) = &self.budget {
            line(&mut text, &format!("ended because {budget}"));
        }
        if let Some(left) = self.left.text() {
            line(&mut text, &left);
        }
        text
    }
}

impl Left {
    fn text(&self) -> Option<String> {
        let mut parts = Vec::new();
        if self.queued > 0 {
            parts.push(format!("{} queued", count(self.queued)));
        }
        if self.in_progress > 0 {
            parts.push(format!("{} in progress", count(self.in_progress)));
        }
        if parts.is_empty() {
            return None;
        }
        let mut text = format!("left: {}", parts.join(", "));
        if let Some(paused) = &self.paused {
            let _ = write!(text, "; the queue is paused by {paused}");
        } else if self.queued > 0 {
            match self.next_start_seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()) {
                Some(time) if time < Duration::from_secs(1) => {
                    text.push_str("; go on with `longhaul queue run`");
                }
                Some(time) => {
                    let _ = write!(
                        text,
                        "; the first can start in {}, with `longhaul queue run`",
                        duration(time)
                    );
                }
                None if self.lanes_paused > 0 => text.push_str("; it waits for a pause to end"),
                None => text.push_str("; it waits for a request of another process"),
            }
            if self.lanes_paused > 0 {
                let paused = number_of(self.lanes_paused, "host is", "hosts are");
                let _ = write!(text, " ({paused} paused, `longhaul queue lanes` shows by whom)");
            }
            if self.lanes_cooling > 0 {
                let _ =
                    write!(text, " ({} cooling down)", number_of(self.lanes_cooling, "host is", "hosts are"));
            }
        }
        Some(text)
    }
}

impl Host {
    fn text(&self) -> String {
        let mut text = format!("{}:", self.name);
        if self.closed > 0 {
            let _ = write!(text, " left alone {}", number_of(self.closed, "time", "times"));
            if let Some(cause) = &self.cause {
                let _ = write!(text, " ({cause})");
            }
            text.push(';');
        }
        let shown = |seconds: f64| duration(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX));
        let requests = number_of(self.requests, "request", "requests");
        let _ = write!(text, " {requests}, {} each", shown(self.mean_seconds));
        if self.waited_seconds >= 1.0 {
            let _ = write!(text, ", waited {} for its turn", shown(self.waited_seconds));
        }
        text
    }
}

fn causes(groups: &BTreeMap<String, Group>) -> Vec<Cause> {
    let mut causes: Vec<Cause> = groups
        .iter()
        .map(|(reason, group)| Cause {
            reason: reason.clone(),
            count: group.count,
            example: group.example.clone(),
            detail: group.detail.clone(),
            advice: advice(reason),
        })
        .collect();
    // Stable: equal counts stay in the reasons' order.
    causes.sort_by_key(|cause| std::cmp::Reverse(cause.count));
    causes
}

fn hosts(tally: &Tally) -> Vec<Host> {
    let mean = |seen: &LaneTally| {
        let requests = u32::try_from(seen.requests).unwrap_or(u32::MAX);
        seen.elapsed.checked_div(requests).unwrap_or_default()
    };
    let mut slow: Vec<_> = tally
        .lanes
        .iter()
        .filter(|(_, seen)| seen.closed > 0 || seen.waited >= SLOW || mean(seen) >= SLOW)
        .collect();
    slow.sort_by(|(a, left), (b, right)| {
        let worse =
            (right.closed, right.waited + right.elapsed).cmp(&(left.closed, left.waited + left.elapsed));
        worse.then_with(|| a.cmp(b))
    });
    slow.into_iter()
        .take(NAMED_HOSTS)
        .map(|(lane, seen)| Host {
            name: lane.to_string(),
            requests: seen.requests,
            mean_seconds: mean(seen).as_secs_f64(),
            waited_seconds: seen.waited.as_secs_f64(),
            closed: seen.closed,
            cause: (!seen.cause.is_empty()).then(|| seen.cause.clone()),
        })
        .collect()
}

fn section(text: &mut String, what: &str, causes: &[Cause]) {
    let all: u64 = causes.iter().map(|cause| cause.count).sum();
    if all == 0 {
        return;
    }
    line(text, &format!("{what} {}", number_of(all, "artifact", "artifacts")));
    for cause in causes {
        let advice = if cause.advice.is_empty() { String::new() } else { format!(": {}", cause.advice) };
        line(text, &format!("  {} {}{advice}", count(cause.count), cause.reason));
        let detail = if cause.detail.is_empty() { String::new() } else { format!(": {}", cause.detail) };
        line(text, &format!("    such as {}{detail}", cause.example));
    }
}

fn line(text: &mut String, line: &str) {
    text.push_str(&printable(line));
    text.push('\n');
}
