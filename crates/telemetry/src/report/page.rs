//! The report as one page of HTML: no script, nothing from elsewhere, light and dark, on screen and on paper.
//!
//! Pictures are SVG in the page, so that they print as they look. All that strangers wrote is escaped.

mod outcomes;
mod politeness;
mod progress;
mod scale;
mod text;
mod waits;

use std::fmt::Write as _;
use std::time::Duration;

use self::text::escaped;
use super::{Report, RunEnding};
use crate::human::{bytes, count, duration, number_of, rate};

/// What stands at the beginning of every page.
pub(super) const MARK: &str = "<meta name=\"generator\" content=\"longhaul run report\">";

/// Nothing may be loaded and nothing may run, whatever has found its way into the page.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'";

/// The page. `data` is the name of the file beside it that holds the same as JSON.
pub(super) fn html(report: &Report, data: Option<&str>) -> String {
    let mut page = String::with_capacity(64 * 1024);
    head(&mut page, report);
    header(&mut page, report);
    tiles(&mut page, report);
    progress::section(&mut page, report);
    outcomes::section(&mut page, report);
    waits::section(&mut page, report);
    politeness::section(&mut page, report);
    footer(&mut page, report, data);
    page
}

fn head(page: &mut String, report: &Report) {
    let title = escaped(&headline(report));
    let style = include_str!("page/style.css");
    let _ = writeln!(
        page,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n{MARK}\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{POLICY}\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>{title} – longhaul</title>\n<style>\n{style}</style>\n</head>\n<body>\n<main>"
    );
}

/// `1,820 artifacts fetched, 120 failed, 60 skipped`
fn headline(report: &Report) -> String {
    let jobs = &report.jobs;
    let mut parts = vec![format!("{} fetched", number_of(jobs.done, "artifact", "artifacts"))];
    if jobs.error > 0 {
        parts.push(format!("{} failed", count(jobs.error)));
    }
    if jobs.skipped > 0 {
        parts.push(format!("{} skipped", count(jobs.skipped)));
    }
    parts.join(", ")
}

fn header(page: &mut String, report: &Report) {
    let ended = match (report.ended, report.ended_because.as_deref()) {
        (RunEnding::Drained, None) => "Nothing was left that could start soon.".to_owned(),
        (RunEnding::Stopped, None) => "It was asked to stop.".to_owned(),
        (RunEnding::Budget, None) => "A budget was used up.".to_owned(),
        (RunEnding::Failed, None) => "It could not go on.".to_owned(),
        (RunEnding::Failed, Some(because)) => format!("It could not go on: {because}."),
        (_, Some(because)) => format!("It ended because {because}."),
    };
    let state = match report.ended {
        RunEnding::Drained => "drained",
        RunEnding::Budget => "budget used up",
        RunEnding::Stopped => "stopped",
        RunEnding::Failed => "failed",
    };
    let class = if report.ended == RunEnding::Failed { "state bad" } else { "state" };
    let _ = writeln!(
        page,
        "<header>\n<p class=\"brand\"><b>longhaul</b> run report <span class=\"{class}\">{state}</span></p>\n\
         <h1>{}</h1>\n<p class=\"lead\">{} <span class=\"when\">{}</span></p>",
        escaped(&headline(report)),
        escaped(&ended),
        escaped(&when(report)),
    );
    strip(page, report);
    let _ = writeln!(page, "</header>");
}

/// `25 Nov 2026, 17:02:11 to 17:03:23 UTC, 1m 12s`
fn when(report: &Report) -> String {
    let (from, to) = (at(&report.started_at), at(&report.ended_at));
    let took = duration(seconds(report.seconds));
    match (from, to) {
        (Some((day, from)), Some((last, to))) if day == last => format!("{day}, {from} to {to} UTC ({took})"),
        (Some((day, from)), Some((last, to))) => format!("{day}, {from} to {last}, {to} UTC ({took})"),
        _ => took,
    }
}

/// Day and time of day of an RFC 3339 time.
fn at(time: &str) -> Option<(String, String)> {
    let time: jiff::Timestamp = time.parse().ok()?;
    Some((time.strftime("%-d %b %Y").to_string(), time.strftime("%H:%M:%S").to_string()))
}

/// What became of everything, as one bar.
fn strip(page: &mut String, report: &Report) {
    let jobs = &report.jobs;
    let left = report.left.map_or(0, |left| left.queued + left.in_progress);
    let parts = [
        ("done", "fetched", jobs.done),
        ("error", "failed", jobs.error),
        ("skipped", "skipped", jobs.skipped),
        ("left", "left in the queue", left),
    ];
    let all: u64 = parts.iter().map(|(.., number)| number).sum();
    if all == 0 {
        return;
    }
    let mut x = 0.0;
    let mut bars = String::new();
    let mut legend = String::new();
    for (class, name, number) in parts.into_iter().filter(|(.., number)| *number > 0) {
        let width = number as f64 / all as f64 * 1000.0;
        let _ = write!(
            bars,
            "<rect class=\"{class}\" x=\"{x:.2}\" y=\"0\" width=\"{width:.2}\" height=\"10\"><title>{} {name}</title></rect>",
            count(number)
        );
        x += width;
        let share = text::share(number, all);
        let _ =
            write!(legend, "<li><i class=\"{class}\"></i>{} {name} <span>{share}</span></li>", count(number));
    }
    let _ = writeln!(
        page,
        "<svg class=\"strip\" viewBox=\"0 0 1000 10\" preserveAspectRatio=\"none\" role=\"img\" \
         aria-label=\"What became of all artifacts\">{bars}</svg>\n<ul class=\"legend\">{legend}</ul>"
    );
}

fn tiles(page: &mut String, report: &Report) {
    let (jobs, requests) = (&report.jobs, &report.requests);
    let took = seconds(report.seconds);
    let ended = jobs.done + jobs.error + jobs.skipped;
    let throttled = requests.answered_429 + requests.answered_503;
    let waited: f64 = report.waits.values().map(|wait| wait.seconds).sum();
    let per_second = if took.is_zero() { 0.0 } else { requests.received_bytes as f64 / took.as_secs_f64() };
    let _ = writeln!(page, "<dl class=\"tiles\">");
    let mut tile = |name: &str, value: &str, about: &str| {
        let _ = writeln!(
            page,
            "<div><dt>{name}</dt><dd>{}</dd><dd class=\"about\">{}</dd></div>",
            escaped(value),
            escaped(about)
        );
    };
    tile("Files", &count(jobs.done), &format!("{} on disk", bytes(jobs.file_bytes)));
    let failed = if ended == 0 {
        "nothing ended".to_owned()
    } else {
        format!("{} of what ended", text::share(jobs.error, ended))
    };
    tile("Failed", &count(jobs.error), &failed);
    tile("Speed", &rate(jobs.done, took), &format!("{}/s received", bytes(per_second as u64)));
    tile(
        "Requests",
        &count(requests.started),
        &format!(
            "{} to {}",
            number_of(report.tries.started, "try", "tries"),
            number_of(report.hosts.seen, "host", "hosts")
        ),
    );
    tile("Asked for quiet", &count(throttled), "answers 429 and 503");
    tile("Waited", &duration(seconds(waited)), "all tries together");
    let _ = writeln!(page, "</dl>");
}

fn footer(page: &mut String, report: &Report, data: Option<&str>) {
    let _ = writeln!(page, "<section class=\"about-run\">\n<h2>About this run</h2>\n<dl class=\"facts\">");
    let mut fact = |name: &str, value: &str| {
        let _ = writeln!(page, "<dt>{name}</dt><dd>{}</dd>", escaped(value));
    };
    fact("Run", &report.run_id);
    fact("Queue", &report.queue);
    fact("Files", &report.output_dir);
    fact("Manifest", &report.manifest);
    if let Some(attempts) = &report.attempts {
        fact("Attempts", attempts);
    }
    if let Some(data) = data {
        fact("This as data", data);
    }
    let tries = &report.tries;
    fact(
        "Tries",
        &format!(
            "{} begun; {} to be repeated, {} sent to wait for another host, {} ended by a host that asked for quiet, \
             {} given back, {} taken away",
            count(tries.started),
            count(tries.retry),
            count(tries.deferred),
            count(tries.throttled),
            count(tries.released),
            count(tries.leases_lost)
        ),
    );
    if let Some(left) = &report.left {
        fact(
            "The whole queue now",
            &format!(
                "{} done, {} in error, {} skipped, {} queued, {} in progress",
                count(left.done),
                count(left.error),
                count(left.skipped),
                count(left.queued),
                count(left.in_progress)
            ),
        );
    }
    if report.jobs.published_for_earlier_runs > 0 {
        let jobs = number_of(report.jobs.published_for_earlier_runs, "job", "jobs");
        fact("Also published", &format!("{jobs} that an earlier run had ended; they are in no number above"));
    }
    if report.jobs.unpublished > 0 {
        let jobs = number_of(report.jobs.unpublished, "job has", "jobs have");
        fact(
            "Not published yet",
            &format!("{jobs} no final name or no line in the manifest; the next run tries again"),
        );
    }
    if report.local_faults + report.store_unavailable > 0 {
        fact(
            "Trouble",
            &format!(
                "this machine could not work {}, the queue could not be reached {}",
                number_of(report.local_faults, "time", "times"),
                number_of(report.store_unavailable, "time", "times")
            ),
        );
    }
    let _ = writeln!(page, "</dl>");
    let _ = writeln!(
        page,
        "<p class=\"small\">Everything here is what this process saw; other processes on the same queue have reports of \
         their own. Jobs, files, bytes, requests and sums over hosts are exact; the pictures over time are as fine as {}.</p>",
        duration_of_bucket(report)
    );
    for note in &report.notes {
        let _ = writeln!(page, "<p class=\"small\">{}</p>", escaped(note));
    }
    let _ = writeln!(
        page,
        "</section>\n<footer>longhaul {} · run {}</footer>\n</main>\n</body>\n</html>",
        escaped(&report.version),
        escaped(&report.run_id)
    );
}

fn duration_of_bucket(report: &Report) -> String {
    duration(seconds(report.progress.bucket_seconds))
}

/// A number of seconds that came from a duration.
fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}

/// The head of a section.
fn begin(page: &mut String, class: &str, title: &str, about: &str) {
    let _ = writeln!(
        page,
        "<section class=\"{class}\">\n<h2>{}</h2>\n<p class=\"about\">{}</p>",
        escaped(title),
        escaped(about)
    );
}
