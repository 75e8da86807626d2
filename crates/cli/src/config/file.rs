//! The configuration file: where it lies, and what stands in it on which line. What its keys mean is not known here.

use std::env;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use super::{Fault, Origin};

/// How the file is called where none is named.
const NAME: &str = "longhaul.toml";

/// A file that was read.
#[derive(Debug)]
pub(crate) struct ConfigFile {
    /// Its path, for messages.
    pub(super) name: String,
    /// What stands in it.
    pub(super) entries: Vec<Entry>,
}

/// A key with its value.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entry {
    /// The tables' names, and the key's.
    pub(super) path: Vec<String>,
    /// The key's line, counted from 1.
    pub(super) line: usize,
    pub(super) value: Value,
}

impl Entry {
    /// The key as it is written with dots.
    pub(super) fn key(&self) -> String {
        dotted(&self.path)
    }
}

/// A key as TOML has it: parts that are no bare words are in quotes.
pub(super) fn dotted<T: AsRef<str>>(path: &[T]) -> String {
    let bare =
        |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c));
    let parts = path.iter().map(AsRef::as_ref);
    let parts: Vec<String> =
        parts.map(|part| if bare(part) { part.to_owned() } else { format!("{part:?}") }).collect();
    parts.join(".")
}

/// A value of TOML.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Text(String),
    Whole(i128),
    Number(f64),
    Switch(bool),
    List(Vec<Value>),
    /// A table without keys; one with keys is the entries in it.
    EmptyTable,
    Time,
}

impl Value {
    /// What it is, for messages. Never the value itself, which may be a secret in the wrong place.
    pub(super) fn what(&self) -> &'static str {
        match self {
            Value::Text(_) => "a text",
            Value::Whole(_) => "a whole number",
            Value::Number(_) => "a number with a fraction",
            Value::Switch(_) => "true or false",
            Value::List(_) => "a list",
            Value::EmptyTable => "a table",
            Value::Time => "a date or a time",
        }
    }
}

impl ConfigFile {
    /// The file that was named, else the first that is where one is looked for; and where that was, if there is none.
    pub(super) fn find(named: Option<&Path>, faults: &mut Vec<Fault>) -> (Option<Self>, Vec<String>) {
        if let Some(path) = named {
            return (Self::read(path, true, faults), Vec::new());
        }
        let places = places();
        let found = places.iter().find_map(|path| Self::read(path, false, faults));
        (found, places.iter().map(|path| path.display().to_string()).collect())
    }

    /// Reads a file. What is wrong with it goes into `faults`; then what could be read is returned all the same.
    fn read(path: &Path, must_exist: bool, faults: &mut Vec<Fault>) -> Option<Self> {
        let name = path.display().to_string();
        let mut fault = |line, message: String| {
            let place = Origin::File { name: name.clone(), line };
            faults.push(Fault { place, key: None, message });
        };
        let mut entries = Vec::new();
        match std::fs::read(path).map(String::from_utf8) {
            Ok(Ok(text)) => {
                let (table, errors) = DeTable::parse_recoverable(&text);
                for error in errors {
                    let line = error.span().map_or(1, |span| line_of(&text, span.start));
                    fault(line, not_toml(&text, &error));
                }
                flatten(&text, table.get_ref(), &mut Vec::new(), &mut entries);
            }
            Ok(Err(_)) => fault(0, "the file is not UTF-8".to_owned()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && !must_exist => return None,
            Err(error) => fault(0, format!("the file cannot be read: {error}")),
        }
        Some(Self { name, entries })
    }
}

/// What is wrong, without the text around it, which may be a secret. A key is none.
fn not_toml(text: &str, error: &toml::de::Error) -> String {
    let said = error.message();
    if !said.contains("duplicate key") {
        return format!("this is not TOML: {said}");
    }
    let key =
        error.span().and_then(|span| text.get(span)).map(str::trim).filter(|key| !key.contains(['=', '\n']));
    format!("{} stands twice; leave one of the two", key.unwrap_or("a key"))
}

/// Where a file is looked for: the working directory, then the user's folder for configurations.
fn places() -> Vec<PathBuf> {
    let set = |name| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let user = set("XDG_CONFIG_HOME").or_else(|| set("HOME").map(|home| home.join(".config")));
    let user = user.map(|folder| folder.join("longhaul").join(NAME));
    std::iter::once(PathBuf::from(NAME)).chain(user).collect()
}

fn line_of(text: &str, at: usize) -> usize {
    text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1
}

fn flatten(text: &str, table: &DeTable<'_>, above: &mut Vec<String>, entries: &mut Vec<Entry>) {
    let first = entries.len();
    for (key, value) in table {
        above.push(key.get_ref().to_string());
        match value.get_ref() {
            DeValue::Table(below) if !below.is_empty() => flatten(text, below, above, entries),
            value => {
                let line = line_of(text, key.span().start);
                entries.push(Entry { path: above.clone(), line, value: owned(value) });
            }
        }
        above.pop();
    }
    // The map is sorted by name; people read from the top.
    entries[first..].sort_by_key(|entry| entry.line);
}

fn owned(value: &DeValue<'_>) -> Value {
    match value {
        DeValue::String(text) => Value::Text(text.to_string()),
        DeValue::Integer(number) => {
            // What passes these bounds passes those of every key.
            Value::Whole(i128::from_str_radix(number.as_str(), number.radix()).unwrap_or(i128::MAX))
        }
        DeValue::Float(number) => Value::Number(number.as_str().parse().unwrap_or(f64::NAN)),
        DeValue::Boolean(value) => Value::Switch(*value),
        DeValue::Datetime(_) => Value::Time,
        DeValue::Array(list) => Value::List(list.iter().map(|value| owned(value.get_ref())).collect()),
        DeValue::Table(_) => Value::EmptyTable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (Vec<Entry>, Vec<String>) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c.toml");
        std::fs::write(&path, text).unwrap();
        let mut faults = Vec::new();
        let file = ConfigFile::read(&path, true, &mut faults).unwrap();
        let said = faults.iter().map(|fault| fault.to_string().split("c.toml").nth(1).unwrap().to_owned());
        (file.entries, said.collect())
    }

    #[test]
    fn each_key_has_its_path_and_its_line() {
        let (entries, faults) = read(
            "[queue]\npath = \"q\"\n\n[rate]\n\"arxiv.org\" = \"1/3s\"\n[headers.\"a.example\"]\nX = \"s\"\n[x]\na = { b = 0x10, c = [1.5] }\n[y]\n",
        );
        assert_eq!(faults, [""; 0]);
        let seen: Vec<(String, usize)> = entries.iter().map(|entry| (entry.key(), entry.line)).collect();
        let expected = [
            ("queue.path", 2),
            ("rate.\"arxiv.org\"", 5),
            ("headers.\"a.example\".X", 7),
            ("x.a.b", 9),
            ("x.a.c", 9),
            ("y", 10),
        ];
        assert_eq!(seen, expected.map(|(key, line)| (key.to_owned(), line)));
        assert_eq!(entries[3].value, Value::Whole(16));
        assert_eq!(entries[4].value, Value::List(vec![Value::Number(1.5)]));
        assert_eq!(entries[5].value, Value::EmptyTable);
    }

    #[test]
    fn what_is_no_toml_is_said_with_its_line_and_without_the_text() {
        let (entries, faults) = read("[queue]\npath = \"q\"\n[headers.x]\nkey = hunter2\n");
        assert_eq!(faults.len(), 1, "{faults:?}");
        assert!(
            faults[0].starts_with(":4: this is not TOML: ") && !faults[0].contains("hunter2"),
            "{faults:?}"
        );
        assert_eq!(entries[0].key(), "queue.path");
    }

    #[test]
    fn a_key_that_stands_twice_is_named() {
        let (_, faults) = read("[http]\ncontact = \"a@b.c\"\nno_robots = true\ncontact = \"d@e.f\"\n");
        assert_eq!(faults, [":4: contact stands twice; leave one of the two"]);
    }

    #[test]
    fn a_named_file_must_be_there_and_others_need_not() {
        let nowhere = Path::new("/nowhere/longhaul.toml");
        let mut faults = Vec::new();
        assert!(ConfigFile::read(nowhere, false, &mut faults).is_none() && faults.is_empty());
        ConfigFile::read(nowhere, true, &mut faults);
        assert!(
            faults[0].to_string().starts_with("/nowhere/longhaul.toml: the file cannot be read"),
            "{faults:?}"
        );
    }
}
