//! Outcomes by reason: how many, an example, and what can be done.

use std::fmt::Write as _;

use super::begin;
use super::text::{escaped, share, with_code};
use crate::human::{bytes, count};
use crate::report::Report;

/// So many reasons are shown; there are hardly ever more.
const SHOWN: usize = 40;

/// The section.
pub(super) fn section(page: &mut String, report: &Report) {
    begin(page, "outcomes", "Outcomes by reason", "How artifacts ended, the same as in the manifest.");
    let rows = &report.jobs.by_reason;
    let all: u64 = rows.iter().map(|row| row.count).sum();
    let most = rows.iter().map(|row| row.count).max().unwrap_or_default();
    if most == 0 {
        let _ = writeln!(page, "<p class=\"nothing\">No artifact ended in this run.</p>\n</section>");
        return;
    }
    let _ = writeln!(
        page,
        "<table>\n<thead><tr><th>Outcome</th><th>Reason</th><th class=\"wide\"></th><th class=\"number\">Artifacts</th>\
         <th class=\"number\">Share</th><th>What it means, and one of them</th></tr></thead>\n<tbody>"
    );
    for row in rows.iter().take(SHOWN) {
        let width = row.count as f64 / most as f64 * 100.0;
        let class = row.outcome;
        let name = match class {
            "done" => "fetched",
            "error" => "failed",
            other => other,
        };
        let _ = writeln!(
            page,
            "<tr><td><span class=\"chip {class}\">{name}</span></td><td><code>{}</code></td>\
             <td class=\"wide\"><svg class=\"meter\" viewBox=\"0 0 100 10\" preserveAspectRatio=\"none\" aria-hidden=\"true\">\
             <rect class=\"{class}\" width=\"{width:.2}\" height=\"10\" rx=\"0.6\"/></svg></td>\
             <td class=\"number\">{}</td><td class=\"number\">{}</td><td>{}</td></tr>",
            escaped(&row.reason),
            count(row.count),
            share(row.count, all),
            about(row),
        );
    }
    let _ = writeln!(page, "</tbody>\n</table>");
    if rows.len() > SHOWN {
        let _ = writeln!(page, "<p class=\"small\">{} more reasons are in the data.</p>", rows.len() - SHOWN);
    }
    let _ = writeln!(page, "</section>");
}

fn about(row: &crate::report::OutcomeRow) -> String {
    let mut about = String::new();
    if !row.advice.is_empty() {
        let _ = write!(about, "<span class=\"advice\">{}.</span> ", with_code(&capital(row.advice)));
    }
    if row.outcome == "done" {
        let _ = write!(about, "<span class=\"advice\">{} of files.</span>", bytes(row.file_bytes));
        return about;
    }
    let _ = write!(about, "<span class=\"example\">{}", escaped(&row.example));
    if !row.detail.is_empty() {
        let _ = write!(about, ": {}", escaped(&row.detail));
    }
    about.push_str("</span>");
    about
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}
