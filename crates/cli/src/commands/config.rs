//! `longhaul config show` and `config check`.

use std::ffi::OsString;

use anyhow::Result;
use clap::{ArgMatches, CommandFactory, FromArgMatches};
use serde::Serialize;
use serde_json::Value;

use super::run::settings;
use crate::args::{
    Cli, Command, ConfigArgs, ConfigShowArgs, Format, QueueCommand, parse_duration, parse_size,
};
use crate::config::{ConfigError, Configuration, Effective, Fault, Kind, SettingError};
use crate::exit::Exit;
use crate::limits;
use crate::output::{Console, number_of, print_data, printable};
use crate::refusal;

/// The documented JSON of `config show`.
#[derive(Debug, Serialize)]
struct Shown<'a> {
    /// `null` if there is none.
    file: Option<&'a str>,
    values: Vec<Row<'a>>,
}

#[derive(Debug, Serialize)]
struct Row<'a> {
    key: &'a str,
    /// As the file would have it, in the key's unit; `null` if nothing is set; `***` for a secret.
    value: Value,
    /// `flag`, `environment`, `file` or `default`.
    from: &'static str,
    /// The flag, the variable, or the file's name and line.
    place: Option<String>,
}

/// The documented JSON of `config check`.
#[derive(Debug, Serialize)]
struct Checked<'a> {
    file: Option<&'a str>,
    /// How many values the file sets.
    set: usize,
    faults: Vec<FaultRow>,
}

#[derive(Debug, Serialize)]
struct FaultRow {
    /// The variable, or the file's name and line.
    place: Option<String>,
    key: Option<String>,
    message: String,
}

/// Shows every key.
pub(crate) fn show(
    args: &ConfigShowArgs,
    configuration: &Configuration,
    matches: &ArgMatches,
) -> Result<Exit> {
    refuse(configuration.all_faults())?;
    let line =
        ["longhaul", "queue", "run"].map(OsString::from).into_iter().chain(args.of_run.iter().cloned());
    let command = crate::args::command();
    let of_run =
        command.clone().try_get_matches_from(line).unwrap_or_else(|error| refusal::end(&command, error));
    let effective = configuration.effective(&[matches, &of_run]);
    print_data(&match args.format {
        Format::Json | Format::Jsonl => {
            let values = effective
                .iter()
                .map(|one| Row {
                    key: &one.key,
                    value: typed(one),
                    from: one.origin.kind(),
                    place: one.origin.place(),
                })
                .collect();
            serde_json::to_string(&Shown { file: configuration.file(), values })?
        }
        Format::Table => shown(&effective),
    })?;
    Ok(Exit::Success)
}

/// Names every fault.
pub(crate) fn check(args: &ConfigArgs, configuration: &Configuration, console: &Console) -> Result<Exit> {
    let mut faults = configuration.all_faults();
    if faults.is_empty() {
        faults = faults_together(configuration);
    }
    for unknown in Configuration::unknown_variables(&Cli::command()) {
        console.warn(&unknown);
    }
    let exit = if faults.is_empty() { Exit::Success } else { Exit::Usage };
    if args.format != Format::Table {
        let faults = faults.into_iter().map(|fault| FaultRow {
            place: fault.place.place(),
            key: fault.key,
            message: fault.message,
        });
        let checked = Checked {
            file: configuration.file(),
            set: configuration.set_in_file(),
            faults: faults.collect(),
        };
        print_data(&serde_json::to_string(&checked)?)?;
        return Ok(exit);
    }
    refuse(faults)?;
    let set = number_of(configuration.set_in_file() as u64, "value", "values");
    if let Some(file) = configuration.file() {
        print_data(&format!("{}: {set}, no fault", printable(file)))?;
    } else {
        print_data("no configuration file, no fault")?;
        console.note(&format!("looked for {}", configuration.looked_for().join(" and ")));
    }
    Ok(exit)
}

fn refuse(faults: impl IntoIterator<Item = Fault>) -> Result<(), ConfigError> {
    let faults: Vec<Fault> = faults.into_iter().collect();
    if faults.is_empty() { Ok(()) } else { Err(ConfigError(faults)) }
}

/// What is wrong with values only together, for a run that is given no flags.
fn faults_together(configuration: &Configuration) -> Vec<Fault> {
    // Each value has been judged alone, so this fails only for what does.
    let Ok(matches) = configuration.amend(Cli::command()).try_get_matches_from(["longhaul", "queue", "run"])
    else {
        return Vec::new();
    };
    let Ok(Cli { command: Command::Queue(QueueCommand::Run(mut args)), global }) =
        Cli::from_arg_matches(&matches)
    else {
        return Vec::new();
    };
    configuration.complete(&mut args, &matches);
    let mut faults = settings::faults(&args);
    faults.extend(limits::lane_rules(&args, global.keying()).err());
    let located = |fault: SettingError| Fault {
        place: configuration.origin(&matches, fault.flag),
        key: configuration.key(fault.flag),
        message: fault.message,
    };
    faults.into_iter().map(located).collect()
}

/// The value as the file would have it.
fn typed(one: &Effective) -> Value {
    let text = |text: &String| Value::String(text.clone());
    if one.kind == Kind::List {
        return Value::Array(one.values.iter().map(text).collect());
    }
    let Some(value) = one.values.last() else { return Value::Null };
    match one.kind {
        // The environment has more words for these than the file.
        Kind::Switch => {
            let no = ["false", "no", "off", "0", "n", "f", ""];
            Value::Bool(!no.contains(&value.to_ascii_lowercase().as_str()))
        }
        Kind::Whole | Kind::Counts => value.parse::<u64>().map_or_else(|_| text(value), Value::from),
        Kind::Seconds => match parse_duration(value) {
            Ok(time) if time.subsec_nanos() == 0 => Value::from(time.as_secs()),
            Ok(time) => Value::from(time.as_secs_f64()),
            Err(_) => text(value),
        },
        Kind::Bytes => parse_size(value).map_or_else(|_| text(value), Value::from),
        Kind::Text | Kind::List | Kind::Rates | Kind::Headers => text(value),
    }
}

fn shown(effective: &[Effective]) -> String {
    let rows: Vec<[String; 3]> = effective
        .iter()
        .map(|one| {
            let value = match typed(one) {
                Value::Null => "-".to_owned(),
                Value::String(text) => printable(&text),
                Value::Array(list) if list.is_empty() => "-".to_owned(),
                Value::Array(_) => printable(&one.values.join(", ")),
                value => value.to_string(),
            };
            let from = one.origin.place().unwrap_or_else(|| one.origin.kind().to_owned());
            [printable(&one.key), value, printable(&from)]
        })
        .collect();
    let widest = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let (key, value) = (widest(0).max(3), widest(1).clamp(5, 40));
    let line = |row: [&str; 3]| format!("{:key$}  {:value$}  {}\n", row[0], row[1], row[2]);
    let mut text = line(["KEY", "VALUE", "FROM"]);
    for [key, value, from] in &rows {
        text.push_str(&line([key, value, from]));
    }
    text
}
