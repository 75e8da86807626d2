//! Politeness, host by host: what was started there, against what may be.

use std::fmt::Write as _;

use super::text::escaped;
use super::{begin, seconds};
use crate::human::{count, duration, number_of};
use crate::report::{HostRow, Report};

/// So many hosts are shown.
const SHOWN: usize = 40;

/// Up to so many slots are drawn one by one.
const DRAWN_SLOTS: u32 = 12;

/// The section.
pub(super) fn section(page: &mut String, report: &Report) {
    begin(
        page,
        "politeness",
        "Politeness",
        "What each host got from this process: the most requests in flight at once against the cap, and the most that \
         started within any second.",
    );
    let listed = &report.hosts.listed;
    if listed.is_empty() {
        let _ = writeln!(page, "<p class=\"nothing\">No host was asked for anything.</p>\n</section>");
        return;
    }
    verdict(page, report);
    let _ = writeln!(
        page,
        "<table>\n<thead><tr><th>Host</th><th class=\"number\">Requests</th><th>Most in flight</th>\
         <th class=\"number\">In any second</th><th>Pace</th><th class=\"number\">429</th><th class=\"number\">503</th>\
         <th class=\"number\">Failed</th><th>Left alone</th></tr></thead>\n<tbody>"
    );
    for row in listed.iter().take(SHOWN) {
        host(page, row);
    }
    rest(page, report);
    let _ = writeln!(page, "</tbody>\n</table>\n</section>");
}

fn is_over(row: &HostRow) -> bool {
    row.cap.is_some_and(|cap| row.peak_in_flight > cap)
}

fn verdict(page: &mut String, report: &Report) {
    let over: Vec<&str> =
        report.hosts.listed.iter().filter(|row| is_over(row)).map(|row| row.host.as_str()).collect();
    let requests = &report.requests;
    let quiet = requests.answered_429 + requests.answered_503;
    let (class, caps) = match over.as_slice() {
        [] => ("good", "No host had more requests in flight than its cap.".to_owned()),
        [first, more @ ..] => {
            let others = if more.is_empty() { String::new() } else { format!(" and {} more", more.len()) };
            ("bad", format!("{first}{others} had more requests in flight than the cap."))
        }
    };
    let closings: u64 = report.hosts.listed.iter().map(|row| row.closings).sum::<u64>()
        + report.hosts.others.as_ref().map_or(0, |others| others.closings);
    let asked = if quiet + closings == 0 {
        "None asked for quiet.".to_owned()
    } else {
        format!(
            "{} asked for quiet, and hosts were left alone {}.",
            number_of(quiet, "answer", "answers"),
            number_of(closings, "time", "times")
        )
    };
    let _ = writeln!(page, "<p class=\"verdict {class}\">{} {}</p>", escaped(&caps), escaped(&asked));
}

fn host(page: &mut String, row: &HostRow) {
    let at_least = if row.peak_in_any_second_is_at_least { "≥ " } else { "" };
    let mark = if row.complete { "" } else { " *" };
    let mut alone = String::new();
    if row.closings > 0 {
        let times = number_of(row.closings, "time", "times");
        let _ = write!(alone, "{times}, {}", duration(seconds(row.closed_seconds)));
        if let Some(because) = &row.closed_because {
            let _ = write!(alone, " <span class=\"example\">{}</span>", escaped(because));
        }
    }
    let _ = writeln!(
        page,
        "<tr><th title=\"{0}\">{0}{mark}</th><td class=\"number\">{1}</td><td>{2}</td><td class=\"number\">{at_least}{3}</td>\
         <td>{4}</td>{5}{6}{7}<td>{alone}</td></tr>",
        escaped(&row.host),
        count(row.requests),
        slots(row),
        count(u64::from(row.peak_in_any_second)),
        if row.pace == "off" { "–".to_owned() } else { escaped(&row.pace) },
        quiet(row.answered_429),
        quiet(row.answered_503),
        quiet(row.failed),
    );
}

/// A number that is best zero.
fn quiet(number: u64) -> String {
    let class = if number == 0 { "number none" } else { "number" };
    format!("<td class=\"{class}\">{}</td>", count(number))
}

/// The slots of a host, those that were in use at the peak filled.
fn slots(row: &HostRow) -> String {
    let peak = row.peak_in_flight;
    let class = if is_over(row) { " class=\"over\"" } else { "" };
    let Some(cap) = row.cap else { return count(u64::from(peak)) };
    let words = format!("<span{class}>{peak} of {cap}</span>");
    let all = cap.max(peak);
    if all > DRAWN_SLOTS {
        return words;
    }
    let mut drawn = String::new();
    for slot in 0..all {
        let class = match slot {
            over if over >= cap => "over",
            used if used < peak => "used",
            _ => "free",
        };
        let _ = write!(
            drawn,
            "<rect class=\"{class}\" x=\"{}\" y=\"1.5\" width=\"9\" height=\"9\" rx=\"2\"/>",
            slot * 12 + 1
        );
    }
    format!(
        "<svg class=\"slots\" width=\"{0}\" height=\"12\" viewBox=\"0 0 {0} 12\" aria-hidden=\"true\">{drawn}</svg>{words}",
        all * 12
    )
}

/// Those that are not shown, and all together.
fn rest(page: &mut String, report: &Report) {
    let hidden = report.hosts.listed.get(SHOWN..).unwrap_or_default();
    let others = report.hosts.others.as_ref();
    let hosts = hidden.len() as u64 + others.map_or(0, |others| others.hosts);
    if hosts > 0 {
        let sum = |of: fn(&HostRow) -> u64| hidden.iter().map(of).sum::<u64>();
        let most = |of: fn(&HostRow) -> u32| hidden.iter().map(of).max().unwrap_or_default();
        let in_flight = most(|row| row.peak_in_flight).max(others.map_or(0, |others| others.peak_in_flight));
        let in_second =
            most(|row| row.peak_in_any_second).max(others.map_or(0, |others| others.peak_in_any_second));
        let closings = sum(|row| row.closings) + others.map_or(0, |others| others.closings);
        let alone = if closings == 0 { String::new() } else { number_of(closings, "time", "times") };
        let up_to = if others.is_some() { "up to " } else { "" };
        let _ = writeln!(
            page,
            "<tr class=\"rest\"><th>{up_to}{} not shown</th><td class=\"number\">{}</td><td>{in_flight} at one of them</td>\
             <td class=\"number\">{in_second}</td><td></td>{}{}{}<td>{alone}</td></tr>",
            number_of(hosts, "host", "hosts"),
            count(sum(|row| row.requests) + others.map_or(0, |others| others.requests)),
            quiet(sum(|row| row.answered_429) + others.map_or(0, |others| others.answered_429)),
            quiet(sum(|row| row.answered_503) + others.map_or(0, |others| others.answered_503)),
            quiet(sum(|row| row.failed) + others.map_or(0, |others| others.failed)),
        );
    }
    let requests = &report.requests;
    let failed = report.hosts.listed.iter().map(|row| row.failed).sum::<u64>()
        + others.map_or(0, |others| others.failed);
    let _ = writeln!(
        page,
        "<tr class=\"sum\"><th>all</th><td class=\"number\">{}</td><td></td><td></td><td></td>{}{}{}<td></td></tr>",
        count(requests.started),
        quiet(requests.answered_429),
        quiet(requests.answered_503),
        quiet(failed),
    );
}
