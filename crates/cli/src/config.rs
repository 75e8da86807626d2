//! Where each setting comes from: a flag, else the environment, else the configuration file, else its default.
//!
//! The command line is the one description of all settings. A file's values become the defaults of the flags they
//! belong to ([`Configuration::amend`]), so that they are read by the same parsers, and a flag or a variable wins.
//! Tables (`[rate]`, `[headers]`) have a key for each host, and so they are merged host by host.

mod fault;
mod file;
mod judge;
mod keys;
mod nearest;
mod tables;

use std::ffi::OsString;

use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command};

pub(crate) use self::fault::{ConfigError, Fault, SettingError};
use self::file::{ConfigFile, Entry};
pub(crate) use self::keys::{Kind, Setting, catalogue, only_in_file};
pub(crate) use self::nearest::is_near;

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A flag, such as `--workers`.
    Flag(String),
    /// An environment variable.
    Environment(String),
    /// A line of the configuration file.
    File { name: String, line: usize },
    /// Nobody set it.
    Default,
}

impl Origin {
    /// The kind, as scripts see it.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Origin::Flag(_) => "flag",
            Origin::Environment(_) => "environment",
            Origin::File { .. } => "file",
            Origin::Default => "default",
        }
    }

    /// Where exactly; nothing for a default.
    pub(crate) fn place(&self) -> Option<String> {
        match self {
            Origin::Flag(name) | Origin::Environment(name) => Some(name.clone()),
            Origin::File { name, line } => Some(format!("{name}:{line}")),
            Origin::Default => None,
        }
    }
}

/// A key with its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Effective {
    /// The key, such as `orchestrator.max_workers`.
    pub(crate) key: String,
    /// How its value is written.
    pub(crate) kind: Kind,
    /// As a flag would be given; empty if nothing is set. Several for a list. A secret is not among them.
    pub(crate) values: Vec<String>,
    /// Where it came from.
    pub(crate) origin: Origin,
}

/// What the file and the environment say, as far as it is well-formed, and what is wrong with the rest.
#[derive(Debug)]
pub(crate) struct Configuration {
    settings: Vec<Setting>,
    file: Option<ConfigFile>,
    /// What was looked for, if no file was there.
    looked_for: Vec<String>,
    /// The file's well-formed entries, each with its setting's place in `settings` and its values as flags would be given.
    entries: Vec<(usize, Entry, Vec<String>)>,
    /// What the file says of keys that no flag has.
    only_in_file: Vec<Effective>,
    faults: Vec<Fault>,
}

impl Configuration {
    /// Reads the file that the command line names or that lies where one is looked for.
    pub(crate) fn read(command: &Command, matches: &ArgMatches) -> Self {
        let settings = catalogue(command);
        let named = matches.get_one::<std::path::PathBuf>("config").cloned();
        let mut faults = Vec::new();
        let (file, looked_for) = ConfigFile::find(named.as_deref(), &mut faults);
        let mut read = Self {
            settings,
            file: None,
            looked_for,
            entries: Vec::new(),
            only_in_file: only_in_file(),
            faults,
        };
        if let Some(mut file) = file {
            let entries = std::mem::take(&mut file.entries);
            for entry in entries {
                read.take_in(&file.name, entry);
            }
            read.file = Some(file);
        }
        read
    }

    fn take_in(&mut self, name: &str, entry: Entry) {
        let judged = judge::entry(&self.settings, &entry);
        match judged {
            Ok(judge::Judged::Setting { index, values }) => self.entries.push((index, entry, values)),
            Ok(judge::Judged::OnlyInFile { index, value }) => {
                let only = &mut self.only_in_file[index];
                only.values = vec![value];
                only.origin = Origin::File { name: name.to_owned(), line: entry.line };
            }
            Ok(judge::Judged::Nothing) => {}
            Err(message) => {
                let place = Origin::File { name: name.to_owned(), line: entry.line };
                self.faults.push(Fault { place, key: Some(entry.key()), message });
            }
        }
    }

    /// The file's name; `None` if there is none.
    pub(crate) fn file(&self) -> Option<&str> {
        self.file.as_ref().map(|file| file.name.as_str())
    }

    /// Where a file was looked for in vain.
    pub(crate) fn looked_for(&self) -> &[String] {
        &self.looked_for
    }

    /// How many values the file sets.
    pub(crate) fn set_in_file(&self) -> usize {
        let only = self.only_in_file.iter().filter(|only| only.origin != Origin::Default).count();
        self.entries.len() + only
    }

    /// What is wrong with the file and the environment.
    pub(crate) fn all_faults(&self) -> Vec<Fault> {
        self.faults.iter().cloned().chain(self.faults_of_environment()).collect()
    }

    /// What is wrong with the environment, variable by variable.
    pub(crate) fn faults_of_environment(&self) -> Vec<Fault> {
        faults_of_environment(&self.settings)
    }

    /// What is wrong with the environment, if the value of a flag (`--workers`) that this command line does not give came
    /// from there: all of it at once, or the one variable if it belongs to no setting.
    pub(crate) fn faults_of_variable(command: &Command, long: &str, given: &[OsString]) -> Vec<Fault> {
        let mut found = Vec::new();
        with_flag(command, long.trim_start_matches('-'), &mut found);
        let is_given = |arg: &Arg| {
            let short = arg.get_short().map(|short| format!("-{short}"));
            given.iter().map(|one| one.to_string_lossy()).any(|one| {
                one == long
                    || one.strip_prefix(long).is_some_and(|rest| rest.starts_with('='))
                    || short.as_deref().is_some_and(|short| one.starts_with(short))
            })
        };
        let Some(arg) = found.into_iter().find(|arg| !is_given(arg)) else { return Vec::new() };
        let Some((name, text)) = variable(&arg) else { return Vec::new() };
        let Err(message) = judge::flag(&arg, &[text]) else { return Vec::new() };
        let settings = catalogue(command);
        let all = faults_of_environment(&settings);
        let place = Origin::Environment(name);
        if all.iter().any(|fault| fault.place == place) {
            return all;
        }
        vec![Fault { place, key: None, message }]
    }

    /// Variables of the environment that look like settings and are none, each with the nearest one.
    pub(crate) fn unknown_variables(command: &Command) -> Vec<String> {
        let mut known = Vec::new();
        variables(command, &mut known);
        let set = std::env::vars_os().map(|(name, _)| name.to_string_lossy().into_owned());
        let unknown = set.filter(|name| name.starts_with("LONGHAUL_") && !known.contains(name));
        unknown.map(|name| format!("{name} is no setting{}", nearest::did_you_mean(&known, &name))).collect()
    }

    /// The command line with the file's values as defaults.
    pub(crate) fn amend(&self, mut command: Command) -> Command {
        for (index, _, values) in &self.entries {
            let setting = &self.settings[*index];
            if setting.kind.is_table() {
                continue;
            }
            for (path, arg) in &setting.flags {
                // A form of output that one command has and another has not is for those that have it.
                if judge::flag(arg, values).is_err() {
                    continue;
                }
                let (id, values) = (arg.get_id().clone(), values.clone());
                command = changed(command, path, |command| {
                    command.mut_arg(id.as_str(), |arg| arg.default_values(values))
                });
            }
        }
        command
    }

    /// Where the value of a flag of this command came from.
    pub(crate) fn origin(&self, matches: &ArgMatches, id: &str) -> Origin {
        let Some(index) = self.settings.iter().position(|setting| setting.arg.get_id() == id) else {
            return Origin::Default;
        };
        let setting = &self.settings[index];
        if is_given(matches, id) {
            return Origin::Flag(setting.flag());
        }
        if let Some((variable, _)) = environment(setting) {
            return Origin::Environment(variable);
        }
        let entry = self.entries.iter().rfind(|(of, ..)| *of == index);
        entry.map_or(Origin::Default, |(_, entry, _)| self.place(entry))
    }

    /// The key of a flag.
    pub(crate) fn key(&self, id: &str) -> Option<String> {
        self.settings.iter().find(|setting| setting.arg.get_id() == id).map(Setting::key)
    }

    /// Every key with its value. Of several command lines a later one wins over an earlier one.
    pub(crate) fn effective(&self, lines: &[&ArgMatches]) -> Vec<Effective> {
        let mut all = Vec::new();
        for (index, setting) in self.settings.iter().enumerate() {
            if setting.kind.is_table() {
                all.extend(self.effective_table(index, lines));
                continue;
            }
            let mut values: Vec<String> = defaults(setting);
            let mut origin = Origin::Default;
            if let Some((_, entry, of_file)) = self.entries.iter().rfind(|(of, ..)| *of == index) {
                (values, origin) = (of_file.clone(), self.place(entry));
            }
            if let Some((variable, text)) = environment(setting) {
                values = split(setting, &text);
                origin = Origin::Environment(variable);
            }
            if let Some(given) = self.of_flags(index, lines) {
                values = given;
                if setting.kind == Kind::Switch {
                    values = vec!["true".to_owned()];
                }
                origin = Origin::Flag(setting.flag());
            }
            all.push(Effective { key: setting.key(), kind: setting.kind, values, origin });
        }
        all.extend(self.only_in_file.iter().cloned());
        all.sort_by(|a, b| a.key.cmp(&b.key));
        all
    }

    /// What the last command line that gives a setting's flag gives.
    fn of_flags(&self, index: usize, lines: &[&ArgMatches]) -> Option<Vec<String>> {
        let id = self.settings[index].arg.get_id().as_str();
        let line = lines.iter().rfind(|line| is_given(line, id))?;
        let given = deepest(line).get_raw(id).into_iter().flatten();
        Some(given.map(|value| value.to_string_lossy().into_owned()).collect())
    }

    fn place(&self, entry: &Entry) -> Origin {
        let name = self.file().unwrap_or_default().to_owned();
        Origin::File { name, line: entry.line }
    }
}

/// The command at the end of a path, changed.
fn changed(command: Command, path: &[String], change: impl FnOnce(Command) -> Command) -> Command {
    match path {
        [] => change(command),
        [first, rest @ ..] => command.mut_subcommand(first, |command| changed(command, rest, change)),
    }
}

/// The matches of the command that was asked for, which know the global flags too.
fn deepest(matches: &ArgMatches) -> &ArgMatches {
    matches.subcommand().map_or(matches, |(_, below)| deepest(below))
}

fn is_given(matches: &ArgMatches, id: &str) -> bool {
    let matches = deepest(matches);
    // An id that this command does not have is no error here.
    matches.try_contains_id(id).is_ok() && matches.value_source(id) == Some(ValueSource::CommandLine)
}

/// What is wrong with the environment, variable by variable.
fn faults_of_environment(settings: &[Setting]) -> Vec<Fault> {
    let mut faults = Vec::new();
    for setting in settings {
        let Some((variable, text)) = environment(setting) else { continue };
        if let Err(message) = judge::any_flag(setting, &[text]) {
            let place = Origin::Environment(variable);
            faults.push(Fault { place, key: Some(setting.key()), message });
        }
    }
    faults
}

/// The flags of this name, whichever commands have them.
fn with_flag(command: &Command, long: &str, found: &mut Vec<Arg>) {
    found.extend(command.get_arguments().filter(|arg| arg.get_long() == Some(long)).cloned());
    command.get_subcommands().for_each(|below| with_flag(below, long, found));
}

/// Whether a flag would take a text, and why not.
#[cfg(test)]
pub(crate) fn takes(arg: &Arg, text: &str) -> Result<(), String> {
    judge::flag(arg, &[text.to_owned()])
}

/// The variable of a setting and its text, if it is set.
fn environment(setting: &Setting) -> Option<(String, String)> {
    variable(&setting.arg)
}

/// The variable of a flag and its text, if it is set.
fn variable(arg: &Arg) -> Option<(String, String)> {
    let name: OsString = arg.get_env()?.to_owned();
    let text = std::env::var_os(&name)?;
    Some((name.to_string_lossy().into_owned(), text.to_string_lossy().into_owned()))
}

/// The variables of all flags.
fn variables(command: &Command, known: &mut Vec<String>) {
    let named = command.get_arguments().filter_map(|arg| arg.get_env());
    known.extend(named.map(|name| name.to_string_lossy().into_owned()));
    for below in command.get_subcommands() {
        variables(below, known);
    }
}

fn split(setting: &Setting, text: &str) -> Vec<String> {
    match setting.arg.get_value_delimiter() {
        Some(delimiter) => text.split(delimiter).map(str::to_owned).collect(),
        None => vec![text.to_owned()],
    }
}

fn defaults(setting: &Setting) -> Vec<String> {
    let values = setting.arg.get_default_values().iter();
    let values: Vec<String> = values.map(|value| value.to_string_lossy().into_owned()).collect();
    match setting.kind {
        Kind::Switch if values.is_empty() => vec!["false".to_owned()],
        _ => values,
    }
}
