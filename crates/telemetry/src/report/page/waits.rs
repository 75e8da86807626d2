//! Hosts by time waited, and why.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::text::escaped;
use super::{begin, seconds};
use crate::human::{duration, number_of};
use crate::report::{Report, Waited};

/// So many hosts are shown.
const SHOWN: usize = 15;

/// A wait below this would be shown as none.
const LEAST: f64 = 0.05;

/// One line of the picture.
struct Line {
    name: String,
    waits: BTreeMap<&'static str, Waited>,
    waited: f64,
    closed: f64,
    closings: u64,
}

/// The section.
pub(super) fn section(page: &mut String, report: &Report) {
    begin(
        page,
        "waits",
        "What was waited for",
        "How long tries waited before their requests, by host and cause. Tries wait at the same time, so sums can be more \
         than the run took.",
    );
    let listed = &report.hosts.listed;
    let mut lines: Vec<Line> = listed
        .iter()
        .filter(|row| row.waited_seconds >= LEAST || row.closings > 0)
        .map(|row| Line {
            name: row.host.clone(),
            waits: row.waits.clone(),
            waited: row.waited_seconds,
            closed: row.closed_seconds,
            closings: row.closings,
        })
        .collect();
    let elsewhere = elsewhere(report);
    if lines.is_empty() && elsewhere.is_none() {
        let _ = writeln!(page, "<p class=\"nothing\">No request had to wait.</p>\n</section>");
        return;
    }
    let more = lines.len().saturating_sub(SHOWN);
    lines.truncate(SHOWN);
    if let Some(others) = report.hosts.others.as_ref().filter(|others| others.waited_seconds >= LEAST) {
        lines.push(Line {
            name: "other hosts".to_owned(),
            waits: others.waits.clone(),
            waited: others.waited_seconds,
            closed: others.closed_seconds,
            closings: others.closings,
        });
    }
    lines.extend(elsewhere);
    let most = lines.iter().map(|line| line.waited.max(line.closed)).fold(LEAST, f64::max);
    legend(page, &lines);
    let _ = writeln!(page, "<table class=\"bars\">\n<tbody>");
    for line in &lines {
        row(page, line, most);
    }
    let _ = writeln!(page, "</tbody>\n</table>");
    if more > 0 {
        let hosts = number_of(more as u64, "more host was", "more hosts were");
        let _ =
            writeln!(page, "<p class=\"small\">{hosts} waited for, each for less; they are in the data.</p>");
    }
    let _ = writeln!(page, "</section>");
}

/// What was waited for besides hosts.
fn elsewhere(report: &Report) -> Option<Line> {
    let of_hosts = ["pace", "cap", "cool-down"];
    let waits = report.waits.iter().filter(|(why, _)| !of_hosts.contains(why));
    let waits: BTreeMap<&'static str, Waited> = waits.map(|(why, wait)| (*why, *wait)).collect();
    let waited: f64 = waits.values().map(|wait| wait.seconds).sum();
    let name = "no host in particular".to_owned();
    (waited >= LEAST).then_some(Line { name, waits, waited, closed: 0.0, closings: 0 })
}

fn legend(page: &mut String, lines: &[Line]) {
    let mut reasons: Vec<&str> = lines.iter().flat_map(|line| line.waits.keys().copied()).collect();
    reasons.sort_unstable();
    reasons.dedup();
    let _ = write!(page, "<ul class=\"legend\">");
    for reason in reasons {
        let _ = write!(page, "<li><i class=\"wait {}\"></i>{}</li>", class(reason), escaped(meaning(reason)));
    }
    if lines.iter().any(|line| line.closings > 0) {
        let _ = write!(page, "<li><i class=\"closed\"></i>the host was left alone (wall time)</li>");
    }
    let _ = writeln!(page, "</ul>");
}

fn row(page: &mut String, line: &Line, most: f64) {
    let mut bars = String::new();
    let mut x = 0.0;
    for (reason, wait) in &line.waits {
        let width = wait.seconds / most * 1000.0;
        let _ = write!(
            bars,
            "<rect class=\"wait {}\" x=\"{x:.2}\" y=\"2\" width=\"{width:.2}\" height=\"12\"><title>{}: {}</title></rect>",
            class(reason),
            escaped(meaning(reason)),
            duration(seconds(wait.seconds))
        );
        x += width;
    }
    let closed = line.closed / most * 1000.0;
    let _ = write!(bars, "<rect class=\"closed\" y=\"16\" width=\"{closed:.2}\" height=\"4\"/>");
    let mut figures = Vec::new();
    if line.waited >= LEAST {
        figures.push(format!("{} waited", duration(seconds(line.waited))));
    }
    if line.closings > 0 {
        let times = number_of(line.closings, "time", "times");
        figures.push(format!("left alone {times}, {}", duration(seconds(line.closed))));
    }
    let _ = writeln!(
        page,
        "<tr><th title=\"{0}\">{0}</th><td class=\"bar\"><svg class=\"stack\" viewBox=\"0 0 1000 22\" \
         preserveAspectRatio=\"none\" role=\"img\" aria-label=\"{1}\">{bars}</svg></td><td class=\"figure\">{1}</td></tr>",
        escaped(&line.name),
        escaped(&figures.join("; "))
    );
}

/// The colour of a reason.
fn class(reason: &str) -> &'static str {
    match reason {
        "pace" => "pace",
        "cap" => "cap",
        "cool-down" => "cool-down",
        "resolver" => "resolver",
        "process" => "process",
        "bandwidth" => "bandwidth",
        _ => "other",
    }
}

/// What a reason means.
fn meaning(reason: &str) -> &str {
    match reason {
        "pace" => "its pace",
        "cap" => "a free slot (cap)",
        "cool-down" => "its cool-down",
        "resolver" => "the resolver's limit",
        "process" => "this process's own rate",
        "bandwidth" => "bandwidth",
        other => other,
    }
}
