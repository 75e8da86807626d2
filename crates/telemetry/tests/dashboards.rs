//! The board and the alert rules speak of metrics and labels that there are, and Prometheus understands them.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stderr, reason = "what was not shown has to be said")]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::Command;

use longhaul_telemetry::{Instrument, METRICS};
use serde_json::Value;

/// Labels that Prometheus gives to whatever it scrapes.
const OF_TARGETS: [&str; 2] = ["job", "instance"];

/// Values that rules and board name, by label. Reason codes are looked up where they are defined.
const VALUES: &[(&str, &[&str])] = &[
    ("state", &["queued", "in_progress", "done", "skipped", "error", "open", "full", "cooling", "paused"]),
    ("outcome", &["done", "skipped", "error"]),
];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).expect(path)
}

/// The labels of a metric as it is queried, or `None` if there is none of that name.
fn labels_of(name: &str) -> Option<Vec<&'static str>> {
    let of = |name: &str, histogram: bool| {
        let is_it = |metric: &&longhaul_telemetry::Metric| {
            metric.name == name && (metric.instrument == Instrument::Histogram) == histogram
        };
        METRICS.iter().find(is_it).map(|metric| metric.labels.to_vec())
    };
    let part = |suffix: &str| name.strip_suffix(suffix).and_then(|base| of(base, true));
    if let Some(mut labels) = part("_bucket") {
        labels.push("le");
        return Some(labels);
    }
    part("_sum").or_else(|| part("_count")).or_else(|| of(name, false))
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// What is wrong with the names in an expression, and the labels that its metrics have together.
fn look_at(expression: &str, problems: &mut Vec<String>) -> BTreeSet<&'static str> {
    let mut known: BTreeSet<&str> = OF_TARGETS.into();
    // Put on by the expression itself.
    if expression.contains("\"what\"") {
        known.insert("what");
    }
    for (at, _) in expression.match_indices("contentdownload_") {
        let rest = &expression[at..];
        let name = &rest[..rest.find(|c| !is_name(c)).unwrap_or(rest.len())];
        let Some(labels) = labels_of(name) else {
            problems.push(format!("{name} is no metric, or is not queried like this: {expression}"));
            continue;
        };
        known.extend(&labels);
        let Some(selector) = rest[name.len()..].strip_prefix('{') else { continue };
        let selector = &selector[..selector.find('}').expect("it ends")];
        for matcher in selector.split(',') {
            let label = matcher.split(['=', '!']).next().unwrap_or_default();
            if !labels.contains(&label) && !OF_TARGETS.contains(&label) {
                problems.push(format!("{name} has no label {label}: {expression}"));
            }
            let value = matcher.split('"').nth(1).unwrap_or_default();
            problems.extend(unknown_values(label, value));
        }
    }
    for word in ["by (", "on (", "without (", "group_left ("] {
        for (at, _) in expression.match_indices(word) {
            let list = &expression[at + word.len()..];
            let list = &list[..list.find(')').expect("it ends")];
            for label in list.split(',').map(str::trim).filter(|label| !known.contains(label)) {
                problems.push(format!("none of the metrics has the label {label}: {expression}"));
            }
        }
    }
    known
}

fn unknown_values(label: &str, value: &str) -> Vec<String> {
    let reasons = read("crates/pipeline/src/reason.rs");
    let named = value.split('|').filter(|value| !value.starts_with('$') && !value.is_empty());
    let is_known = |value: &&str| match VALUES.iter().find(|(of, _)| *of == label) {
        Some((_, values)) => values.contains(value),
        None if label == "reason" => reasons.contains(&format!("=> \"{value}\"")),
        None => true,
    };
    named.filter(|value| !is_known(value)).map(|value| format!("{label} is never {value}")).collect()
}

/// Every string under these keys, wherever it stands.
fn strings<'a>(value: &'a Value, keys: &[&str], found: &mut Vec<(String, &'a str)>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| strings(item, keys, found)),
        Value::Object(fields) => {
            for (key, value) in fields {
                match value {
                    Value::String(text) if keys.contains(&key.as_str()) => found.push((key.clone(), text)),
                    _ => strings(value, keys, found),
                }
            }
        }
        _ => {}
    }
}

fn board() -> Value {
    serde_json::from_str(&read("dashboards/grafana.json")).unwrap()
}

/// All queries of the board's panels, each with how its lines are called.
fn queries(board: &Value) -> Vec<(String, String)> {
    let panels = board["panels"].as_array().unwrap();
    let targets = panels.iter().filter_map(|panel| panel["targets"].as_array()).flatten();
    let text = |target: &Value, key: &str| target[key].as_str().unwrap().to_owned();
    targets.map(|target| (text(target, "expr"), text(target, "legendFormat"))).collect()
}

/// The names in double braces.
fn named(text: &str) -> impl Iterator<Item = &str> {
    text.split("{{").skip(1).filter_map(|rest| rest.split("}}").next()).map(str::trim)
}

#[test]
fn the_board_shows_metrics_that_there_are_and_all_of_them() {
    let board = board();
    let mut problems = Vec::new();
    let queries = queries(&board);
    for (query, legend) in &queries {
        let known = look_at(query, &mut problems);
        for label in named(legend).filter(|label| !known.contains(label)) {
            problems.push(format!("{query} has no label {label}, which {legend} names"));
        }
    }
    let mut definitions = Vec::new();
    strings(&board, &["definition"], &mut definitions);
    for (_, definition) in definitions {
        let known = look_at(definition, &mut problems);
        let label = definition.trim_end_matches(')').rsplit(", ").next().unwrap();
        assert!(known.contains(label), "{definition}");
    }
    assert_eq!(problems, Vec::<String>::new());
    for metric in METRICS {
        let name = metric.name;
        assert!(queries.iter().any(|(query, _)| query.contains(name)), "{name} is not on the board");
    }
}

#[test]
fn a_current_grafana_can_import_the_board() {
    let board = board();
    assert!(board["schemaVersion"].as_u64().unwrap() >= 39);
    assert!(board["id"].is_null(), "an imported board gets its number from Grafana");
    let panels = board["panels"].as_array().unwrap();
    let numbers: BTreeSet<u64> = panels.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
    assert_eq!(numbers.len(), panels.len(), "each panel has a number of its own");
    let place = |panel: &Value, key: &str| panel["gridPos"][key].as_u64().unwrap();
    for (index, panel) in panels.iter().enumerate() {
        let (x, y, w, h) = (place(panel, "x"), place(panel, "y"), place(panel, "w"), place(panel, "h"));
        assert!(x + w <= 24, "{}", panel["title"]);
        for other in &panels[index + 1..] {
            let apart = x + w <= place(other, "x")
                || place(other, "x") + place(other, "w") <= x
                || y + h <= place(other, "y")
                || place(other, "y") + place(other, "h") <= y;
            assert!(apart, "{} and {} overlap", panel["title"], other["title"]);
        }
        let is_row = panel["type"] == "row";
        assert!(is_row || panel["datasource"]["uid"] == "${datasource}", "{}", panel["title"]);
        assert!(is_row || panel["description"].as_str().is_some_and(|text| !text.is_empty()));
    }
}

#[test]
fn each_alert_is_about_metrics_that_there_are_and_says_what_to_do() {
    let rules = read("dashboards/alerts.yml");
    let mut problems = Vec::new();
    let mut names = Vec::new();
    for rule in rules.split("- alert: ").skip(1) {
        let name = rule.lines().next().unwrap();
        names.push(name);
        let expression = rule.split("expr:").nth(1).and_then(|rest| rest.split("labels:").next()).unwrap();
        let known = look_at(expression, &mut problems);
        for part in ["summary:", "description:", "runbook:", "severity:"] {
            assert!(rule.contains(part), "{name} has no {part}");
        }
        for label in named(rule).filter_map(|named| named.strip_prefix("$labels.")) {
            assert!(known.contains(label), "{name} names a label that it does not have: {label}");
        }
    }
    assert_eq!(problems, Vec::<String>::new());
    let tests = read("dashboards/alerts.test.yml");
    for name in &names {
        // Fired at least once, and silent at least once.
        let cases = format!("alertname: {name}");
        let tested = tests.split(&cases).skip(1);
        let fires: Vec<bool> = tested.map(|rest| rest.trim_start().starts_with("exp_alerts")).collect();
        assert!(fires.contains(&true) && fires.contains(&false), "{name}: {fires:?}");
    }
    for series in tests.lines().filter_map(|line| line.trim().strip_prefix("- series: ")) {
        look_at(series, &mut problems);
    }
    assert_eq!(problems, Vec::<String>::new(), "in the rules' tests");
    assert_eq!(names.len(), 6);
}

/// Whether promtool is here. If not, that is said.
fn has_promtool() -> bool {
    let found = Command::new("promtool").arg("--version").output().is_ok();
    if !found {
        eprintln!(
            "promtool is missing (package prometheus): that Prometheus understands rules and board was NOT shown"
        );
    }
    found
}

fn promtool(arguments: &[&str]) {
    let ended =
        Command::new("promtool").args(arguments).current_dir(root().join("dashboards")).output().unwrap();
    let said = String::from_utf8_lossy(&ended.stdout).into_owned() + &String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success(), "{arguments:?}:\n{said}");
}

#[test]
fn the_rules_fire_when_they_should() {
    if has_promtool() {
        promtool(&["check", "rules", "alerts.yml"]);
        promtool(&["test", "rules", "alerts.test.yml"]);
    }
}

#[test]
fn prometheus_understands_the_boards_queries() {
    if !has_promtool() {
        return;
    }
    let mut rules = "groups:\n  - name: board\n    rules:\n".to_owned();
    for (index, (query, _)) in queries(&board()).iter().enumerate() {
        // What Grafana puts in.
        let query = ["$__rate_interval", "$__range"]
            .iter()
            .fold(query.clone(), |query, name| query.replace(name, "5m"));
        let query =
            ["$job", "$instance", "$resolver"].iter().fold(query, |query, name| query.replace(name, ".*"));
        let _ = write!(rules, "      - record: board:{index}\n        expr: '{query}'\n");
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("board.yml");
    std::fs::write(&path, rules).unwrap();
    promtool(&["check", "rules", path.to_str().unwrap()]);
}
