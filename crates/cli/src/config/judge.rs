//! Whether a value can stand where it stands. The flags' own parsers decide.

use std::error::Error as _;

use clap::error::{ContextKind, ContextValue};
use clap::{Arg, ArgAction, Command};
use longhaul_queue_core::{Backend, QueueConfig};

use super::file::{Entry, Value};
use super::keys::{self, Kind, Setting};
use crate::args::HostLimit;

/// A well-formed entry.
#[derive(Debug, PartialEq)]
pub(super) enum Judged {
    /// Of a flag's key: its place among the settings, and its values as flags would be given.
    Setting { index: usize, values: Vec<String> },
    /// Of a key that no flag has: its place among those.
    OnlyInFile { index: usize, value: String },
    /// A table without keys.
    Nothing,
}

/// Judges an entry of the file. The message does not repeat what may be a secret.
pub(super) fn entry(settings: &[Setting], entry: &Entry) -> Result<Judged, String> {
    let path = &entry.path;
    if let Some(index) = keys::only_in_file().iter().position(|only| only.key == entry.key()) {
        return only_in_file(index, &entry.value);
    }
    let found = settings.iter().position(|setting| {
        setting.table == path[0]
            && match setting.kind {
                Kind::Rates | Kind::Headers => true,
                Kind::Counts => path.len() >= 2 && setting.name == path[1],
                _ => path.len() == 2 && setting.name == path[1],
            }
    });
    let Some(index) = found else {
        let is_table = settings.iter().any(|setting| setting.table == path[0]);
        if is_table && path.len() == 1 {
            return match entry.value {
                // `[orchestrator]` with nothing below it says nothing.
                Value::EmptyTable => Ok(Judged::Nothing),
                _ => Err(format!("it is {}; a table is wanted, like [{}]", entry.value.what(), path[0])),
            };
        }
        let inside = settings.iter().find(|setting| {
            !setting.kind.is_table() && path.len() > 2 && setting.table == path[0] && setting.name == path[1]
        });
        return Err(match inside {
            Some(setting) => format!("it is a table; {} is wanted", setting.kind.wanted()),
            None => keys::unknown(settings, path),
        });
    };
    let setting = &settings[index];
    // `arxiv.org = "1/3s"` without quotes is a table `arxiv` with a key `org`.
    let is_split = match setting.kind {
        Kind::Rates => path.len() > 3 || path.get(2).is_some_and(|key| !HostLimit::is_key(key)),
        Kind::Headers => path.len() > 3,
        _ => false,
    };
    if is_split {
        return Err("a host with dots is written in quotes, like \"arxiv.org\"".to_owned());
    }
    let values = texts(setting.kind, path, &entry.value)
        .ok_or_else(|| format!("it is {}; {} is wanted", entry.value.what(), setting.kind.wanted()))?;
    any_flag(setting, &values)?;
    Ok(Judged::Setting { index, values })
}

/// The value as flags would be given; `None` if it is of another kind.
fn texts(kind: Kind, path: &[String], value: &Value) -> Option<Vec<String>> {
    let text = match (kind, value) {
        (Kind::Switch, Value::Switch(value)) => value.to_string(),
        (Kind::Whole, Value::Whole(value)) => value.to_string(),
        (Kind::Seconds, Value::Whole(value)) => format!("{value}s"),
        (Kind::Seconds, Value::Number(value)) => format!("{value}s"),
        (Kind::Bytes, Value::Whole(value)) => format!("{value}B"),
        (Kind::Bytes | Kind::Text, Value::Text(text)) => text.clone(),
        (Kind::List, Value::List(list)) => {
            let texts = list.iter().map(|value| match value {
                Value::Text(text) => Some(text.clone()),
                _ => None,
            });
            return texts.collect();
        }
        (Kind::Rates, Value::Text(rate)) if path.len() == 2 => format!("{}={rate}", path[1]),
        (Kind::Rates, Value::Text(rate)) if path.len() == 3 => format!("{}={}:{rate}", path[1], path[2]),
        (Kind::Rates, Value::Whole(cap)) if path.len() == 3 => format!("{}={}:{cap}", path[1], path[2]),
        (Kind::Counts, Value::Whole(count)) if path.len() == 3 => format!("{}={count}", path[2]),
        (Kind::Headers, Value::Text(value)) if path.len() == 3 => format!("{}={}:{value}", path[1], path[2]),
        (Kind::Counts | Kind::Rates | Kind::Headers, Value::EmptyTable) => return Some(Vec::new()),
        _ => return None,
    };
    Some(vec![text])
}

fn only_in_file(index: usize, value: &Value) -> Result<Judged, String> {
    let of_kind = |kind: Kind| format!("it is {}; {} is wanted", value.what(), kind.wanted());
    let text = match (keys::only_in_file()[index].key.as_str(), value) {
        ("queue.backend", Value::Text(name)) => {
            name.parse::<Backend>().map_err(|error| error.to_string())?;
            name.clone()
        }
        ("queue.wal_mode", Value::Switch(wal_mode)) => {
            let config = QueueConfig { wal_mode: *wal_mode, ..QueueConfig::default() };
            config.validate().map_err(|error| error.to_string())?;
            wal_mode.to_string()
        }
        ("queue.backend", _) => return Err(of_kind(Kind::Text)),
        _ => return Err(of_kind(Kind::Switch)),
    };
    Ok(Judged::OnlyInFile { index, value: text })
}

/// Whether a flag of a setting would take these values: what several commands have is well-formed if it is for one of them.
pub(super) fn any_flag(setting: &Setting, values: &[String]) -> Result<(), String> {
    let mut judged = setting.flags.iter().map(|(_, arg)| flag(arg, values));
    let first = judged.next().unwrap_or(Ok(()));
    if first.is_ok() || judged.any(|one| one.is_ok()) { Ok(()) } else { first }
}

/// Whether a flag would take these values.
pub(super) fn flag(arg: &Arg, values: &[String]) -> Result<(), String> {
    let mut alone = Arg::new("value")
        .long("value")
        .action(ArgAction::Append)
        .allow_hyphen_values(true)
        .value_parser(arg.get_value_parser().clone());
    if let Some(delimiter) = arg.get_value_delimiter() {
        alone = alone.value_delimiter(delimiter);
    }
    let command = Command::new("value").no_binary_name(true).disable_help_flag(true).arg(alone);
    let line = values.iter().map(|value| format!("--value={value}"));
    let Err(error) = command.try_get_matches_from(line) else { return Ok(()) };
    if let Some(source) = error.source() {
        return Err(source.to_string());
    }
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => text.clone(),
        Some(ContextValue::Strings(texts)) => texts.join(", "),
        _ => String::new(),
    };
    let (given, valid) = (text(ContextKind::InvalidValue), text(ContextKind::ValidValue));
    Err(if valid.is_empty() {
        "nothing stands there".to_owned()
    } else {
        format!("{given:?} is not one of {valid}")
    })
}
