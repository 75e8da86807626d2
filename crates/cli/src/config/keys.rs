//! Which key of the file belongs to which flag, and how its value is written there.
//!
//! A flag that has no place of its own below is found under its command: `--strict` of `queue import` is
//! `[import] strict`. A key whose value has a unit carries it in its name.

use std::any::TypeId;
use std::time::Duration;

use clap::{Arg, ArgAction, Command};
use longhaul_queue_core::QueueConfig;

use super::{Effective, Origin, nearest};

/// The flags of the program itself.
const PROGRAM: &[&str] = &[""];
const RUN: &[&str] = &["run"];
/// Who goes by the limits of a run.
const LIMITED: &[&str] = &["run", "explain", "lanes", "plan"];
/// Who runs jobs, or works out what running them would be like.
const RUNNING: &[&str] = &["run", "plan"];
/// Who works with the files of a run.
const STORING: &[&str] = &["run", "check"];

/// Flags with a place of their own: commands, flag, table, key without its unit.
const PLACES: &[(&[&str], &str, &str, &str)] = &[
    (PROGRAM, "queue", "queue", "path"),
    (PROGRAM, "durability", "queue", "durability"),
    (PROGRAM, "registrable_domain", "queue", "registrable_domain"),
    (PROGRAM, "log", "log", "level"),
    (PROGRAM, "log_format", "log", "format"),
    (PROGRAM, "quiet", "output", "quiet"),
    (RUNNING, "workers", "orchestrator", "max_workers"),
    (LIMITED, "max_per_host", "orchestrator", "max_per_host"),
    (RUN, "max_per_resolver", "orchestrator", "max_per_resolver"),
    (RUN, "max_attempts", "orchestrator", "max_job_attempts"),
    (RUN, "max_losses", "orchestrator", "max_losses"),
    (RUN, "retry_backoff", "orchestrator", "retry_backoff"),
    (RUN, "jitter", "orchestrator", "jitter"),
    (RUN, "lease_ttl", "orchestrator", "lease_ttl"),
    (RUN, "heartbeat", "orchestrator", "heartbeat"),
    (RUN, "grace", "orchestrator", "grace"),
    (RUN, "drain", "orchestrator", "drain"),
    (RUN, "drain_horizon", "orchestrator", "drain_horizon"),
    (RUN, "max_jobs", "budgets", "max_jobs"),
    (RUN, "max_bytes", "budgets", "max_bytes"),
    (RUN, "max_runtime", "budgets", "max_runtime"),
    (RUN, "max_errors", "budgets", "max_errors"),
    (STORING, "output_dir", "files", "output_dir"),
    (RUN, "layout", "files", "layout"),
    (RUN, "dedupe", "files", "dedupe"),
    (RUN, "manifest", "files", "manifest"),
    (RUN, "attempts", "files", "attempts"),
    (RUN, "attempts_max_size", "files", "attempts_max"),
    (RUN, "attempts_keep", "files", "attempts_keep"),
    (RUN, "report", "files", "report"),
    (RUN, "metrics_listen", "metrics", "listen"),
    (RUN, "metrics_label_values", "metrics", "label_values"),
    (LIMITED, "contact", "http", "contact"),
    (RUN, "resolvers", "http", "resolvers"),
    (RUN, "allow_network", "http", "allow_networks"),
    (RUNNING, "no_robots", "http", "no_robots"),
    (RUN, "connect_timeout", "http", "connect_timeout"),
    (RUN, "read_timeout", "http", "read_timeout"),
    (RUN, "max_bandwidth", "http", "max_bandwidth"),
    (RUN, "max_redirects", "http", "max_redirects"),
    (RUN, "max_file_size", "http", "max_file"),
    (LIMITED, "rate", "rate", ""),
    (RUN, "header", "headers", ""),
];

/// Flags that say what one call is to do or which file it reads. In a file, where they would hold for every later
/// call, they would be traps.
const OF_ONE_CALL: &[&str] = &[
    "after",
    "config",
    "dir",
    "dry_run",
    "fast",
    "for",
    "from_docstokg",
    "import",
    "input",
    "job",
    "lane",
    "limit",
    "older_than",
    "output",
    "reason",
    "repair",
    "state",
    "watch",
];

/// How a value is written in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `true` or `false`.
    Switch,
    /// A whole number.
    Whole,
    /// A number of seconds.
    Seconds,
    /// A size with its unit, or a number of bytes.
    Bytes,
    /// A text.
    Text,
    /// A list of texts.
    List,
    /// A table with a whole number for each resolver.
    Counts,
    /// A table with a rate, or a table of limits, for each host.
    Rates,
    /// A table of headers for each host. Secret.
    Headers,
}

impl Kind {
    /// Whether each host or resolver has a key of its own.
    pub(crate) fn is_table(self) -> bool {
        matches!(self, Kind::Counts | Kind::Rates | Kind::Headers)
    }

    /// What is wanted, for messages.
    pub(crate) fn wanted(self) -> &'static str {
        match self {
            Kind::Switch => "true or false",
            Kind::Whole => "a whole number like 8",
            Kind::Seconds => "a number of seconds like 120 or 0.5",
            Kind::Bytes => "a size like \"10GiB\", or a number of bytes",
            Kind::Text => "a text in quotes",
            Kind::List => "a list of texts like [\"10.1.0.0/16\"]",
            Kind::Counts => "a table with a whole number for each resolver, like { unpaywall = 2 }",
            Kind::Rates => {
                "a rate in quotes like \"2/s+500/h\", for each host, or a table like { artifact = \"1/s\", cap = 2 }"
            }
            Kind::Headers => "a table for each host, with a text in quotes for each header",
        }
    }
}

/// A key with the flags that it belongs to.
#[derive(Debug, Clone)]
pub(crate) struct Setting {
    /// The table.
    pub(crate) table: String,
    /// The key in it; empty if the whole table belongs to the flag.
    pub(crate) name: String,
    /// How its value is written.
    pub(crate) kind: Kind,
    /// The flag, as its first command has it.
    pub(crate) arg: Arg,
    /// Each command that has the flag (none is the program itself), with it.
    pub(crate) flags: Vec<(Vec<String>, Arg)>,
}

impl Setting {
    /// The key with its table.
    pub(crate) fn key(&self) -> String {
        match self.kind {
            Kind::Rates => "rate.\"HOST\"".to_owned(),
            Kind::Counts => format!("{}.{}.NAME", self.table, self.name),
            Kind::Headers => "headers.\"HOST\".NAME".to_owned(),
            _ => format!("{}.{}", self.table, self.name),
        }
    }

    /// The flag as people write it.
    pub(crate) fn flag(&self) -> String {
        format!("--{}", self.arg.get_long().unwrap_or_default())
    }
}

/// Every key, in the order of the command line.
pub(crate) fn catalogue(command: &Command) -> Vec<Setting> {
    let mut settings = Vec::new();
    collect(command, &[], &mut settings);
    settings
}

/// Whether a flag has a key; those that say what one call is to do have none.
pub(crate) fn has_key(arg: &Arg) -> bool {
    let id = arg.get_id().as_str();
    arg.get_long().is_some() && !matches!(id, "help" | "help_all" | "version") && !OF_ONE_CALL.contains(&id)
}

fn collect(command: &Command, path: &[String], settings: &mut Vec<Setting>) {
    for arg in command.get_arguments().filter(|arg| has_key(arg)) {
        // A global flag is found where it is defined.
        if !path.is_empty() && arg.is_global_set() {
            continue;
        }
        let kind = kind(arg);
        let (table, name) = place(path, arg, kind);
        match settings.iter_mut().find(|setting| setting.table == table && setting.name == name) {
            Some(setting) => setting.flags.push((path.to_vec(), arg.clone())),
            None => settings.push(Setting {
                table,
                name,
                kind,
                arg: arg.clone(),
                flags: vec![(path.to_vec(), arg.clone())],
            }),
        }
    }
    for below in command.get_subcommands().filter(|command| !command.is_hide_set()) {
        let path: Vec<String> = path.iter().cloned().chain([below.get_name().to_owned()]).collect();
        collect(below, &path, settings);
    }
}

fn place(path: &[String], arg: &Arg, kind: Kind) -> (String, String) {
    let id = arg.get_id().as_str();
    let command = path.last().map_or("", String::as_str);
    if id == "format" {
        return ("output".to_owned(), id.to_owned());
    }
    let own = PLACES.iter().find(|(of, flag, ..)| of.contains(&command) && *flag == id);
    let (table, name) = own.map_or((command, id), |(_, _, table, name)| (*table, *name));
    let unit = match kind {
        Kind::Seconds => "_seconds",
        Kind::Bytes if !name.ends_with("_bytes") => "_bytes",
        _ => "",
    };
    (table.replace('-', "_"), format!("{name}{unit}"))
}

fn kind(arg: &Arg) -> Kind {
    let value = arg.get_value_parser().type_id();
    let is = |one: TypeId| value == one;
    let sized = arg.get_value_names().is_some_and(|names| names.iter().any(|name| name.as_str() == "SIZE"));
    match arg.get_action() {
        _ if arg.get_id() == "rate" => Kind::Rates,
        _ if arg.get_id() == "max_per_resolver" => Kind::Counts,
        _ if arg.get_id() == "header" => Kind::Headers,
        ArgAction::SetTrue | ArgAction::SetFalse => Kind::Switch,
        ArgAction::Append => Kind::List,
        _ if is(TypeId::of::<Duration>()) => Kind::Seconds,
        _ if sized => Kind::Bytes,
        _ if [TypeId::of::<u16>(), TypeId::of::<u32>(), TypeId::of::<u64>(), TypeId::of::<usize>()]
            .into_iter()
            .any(is) =>
        {
            Kind::Whole
        }
        _ => Kind::Text,
    }
}

/// Keys that no flag has, with their defaults. Each has one value that works; a file may say that it means it.
pub(crate) fn only_in_file() -> Vec<Effective> {
    let config = QueueConfig::default();
    let one = |key: &str, kind, value: String| Effective {
        key: key.to_owned(),
        kind,
        values: vec![value],
        origin: Origin::Default,
    };
    vec![
        one("queue.backend", Kind::Text, config.backend.as_str().to_owned()),
        one("queue.wal_mode", Kind::Switch, config.wal_mode.to_string()),
    ]
}

/// What to say of a key that is none: the nearest one, or those of its table.
pub(super) fn unknown(settings: &[Setting], path: &[String]) -> String {
    let table = path.first().map_or("", String::as_str);
    let name = path.get(1).map_or("", String::as_str);
    let mut known: Vec<(String, String, String)> = settings
        .iter()
        .map(|setting| (setting.table.clone(), setting.name.clone(), setting.arg.get_id().to_string()))
        .collect();
    for only in only_in_file() {
        if let Some((table, name)) = only.key.split_once('.') {
            known.push((table.to_owned(), name.to_owned(), name.to_owned()));
        }
    }
    nearest::advice(&known, table, name)
}
