//! The reference of the events, from the vocabulary itself.

use longhaul_events::{Event, EventField, EventKind};

/// The page's beginning.
const HEAD: &str = "\
# Events

What happens in a run is told to observers in one vocabulary: `longhaul_events::Event`. The progress display, the
attempts file, the metrics, the report and tests all hear the same. This page is made from the vocabulary
(`cargo xtask reference`).

An observer hears and cannot change what happens. It is told on the path of the work: one that is slow, blocks or panics
is kept apart by `Fanout`, which drops what it cannot take in time and counts that. Each event is written as JSON with its
name as `event`; times are seconds and nanoseconds.
";

/// The page.
pub(super) fn page() -> String {
    Event::KINDS.iter().fold(HEAD.to_owned(), |page, kind| page + &section(kind))
}

fn section(kind: &EventKind) -> String {
    let head = format!("\n## `{}`\n\n{}\n\n", kind.name(), joined(kind.doc));
    let table = "| field | what it is | what it says |\n|---|---|---|\n".to_owned();
    head + &kind.fields.iter().fold(table, |table, field| table + &row(field))
}

fn row(field: &EventField) -> String {
    format!("| `{}` | {} | {} |\n", field.name, shape(field.shape), joined(field.doc))
}

/// A type in the words of somebody who reads JSON.
fn shape(rust: &str) -> String {
    let rust: String = rust.split_whitespace().collect();
    if let Some(inner) = rust.strip_prefix("Option<").and_then(|rest| rest.strip_suffix('>')) {
        return format!("{} or null", shape(inner));
    }
    match rust.as_str() {
        "i64" | "u16" | "u32" | "u64" | "usize" => "number",
        "String" | "&'staticstr" | "Lane" => "text",
        "bool" => "true or false",
        "Duration" => "time",
        "Role" => "`metadata`, `landing`, `artifact`",
        "Verb" => "`GET`, `HEAD`, `POST`",
        "WaitCause" => "`pace`, `cap`, `cool-down`, `resolver`, `process`, `bandwidth`",
        "RequestStatus" => "`ok`, `redirected`, `throttled`, `rejected`, `failed`, `cancelled`",
        other => other,
    }
    .to_owned()
}

/// The lines of a documentation comment as one.
fn joined(lines: &[&str]) -> String {
    lines.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_and_field_is_on_the_page_in_words() {
        let page = page();
        for kind in Event::KINDS {
            assert!(page.contains(&format!("\n## `{}`\n", kind.name())), "{}", kind.variant);
            for field in kind.fields {
                assert!(page.contains(&format!("| `{}` |", field.name)), "{}", field.name);
                assert!(!shape(field.shape).contains(['<', ':']), "{}: {}", field.name, field.shape);
            }
        }
        assert!(page.contains("| `retry_after` | time or null | What the host asked for. |"), "{page}");
    }
}
