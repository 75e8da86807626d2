//! The reference: every command, and every flag with its variable, its key and its default, as one page of Markdown.

use std::fmt::Write as _;

use clap::{Arg, ArgAction, Command};

use crate::config::{Kind, Setting, catalogue};

const HEAD: &str = "\
<!-- Made by `cargo xtask reference` from the program itself. Change the program, not this page. -->

# The command line

Each setting can be given as a flag, as an environment variable, or in a [configuration file](#the-configuration-file). The
flag wins over the variable, the variable over the file, and the file over the default.
`longhaul config show` prints every setting with its value and where that came from.
";

const FILE: &str = "
## The configuration file

The file is the one that `--config` names, else `longhaul.toml` in the working directory, else `longhaul/longhaul.toml` in
`$XDG_CONFIG_HOME` (`~/.config`). It is TOML. A key that does not exist is refused, with its line and the nearest key that
does; `longhaul config check` names all faults at once. What the file turns on, such as `drain = true`, is turned off by the
variable: `LONGHAUL_DRAIN=false`. Paths are relative to the working directory.

`[rate]` and `[headers]` have a key for each host; flags, variables and file are merged host by host. Values of `[headers]` are
secrets: they are sent to that host alone, over https unless the host is written with `http://`, and shown nowhere.

```toml
[queue]
path = \"state/workqueue.sqlite\"

[orchestrator]
max_workers = 16
lease_ttl_seconds = 120

[http]
contact = \"you@example.org\"

[rate]
\"*\" = \"1/s\"
\"example.org\" = \"2/s+500/h\"

[headers.\"api.example.org\"]
Authorization = \"Bearer 0123456789\"
```

| key | value | default | flag | variable |
|---|---|---|---|---|
";

/// The page.
pub(super) fn page(mut command: Command) -> String {
    let settings = catalogue(&command);
    command.build();
    let mut text = HEAD.to_owned();
    // Writing to a String cannot fail.
    let _ = writeln!(text, "\n## Commands\n\n| command | does |\n|---|---|");
    for (path, command) in leaves(&command, "longhaul") {
        let about = command.get_about().map(ToString::to_string).unwrap_or_default();
        let _ = writeln!(text, "| [`{path}`](#{}) | {} |", path.replace(' ', "-"), cell(&about));
    }
    for (path, command) in leaves(&command, "longhaul") {
        let _ = writeln!(text, "\n## `{path}`\n");
        let about = command.get_long_about().or(command.get_about());
        let _ = writeln!(text, "{}", escaped(&about.map(ToString::to_string).unwrap_or_default()));
        let usage = command.clone().render_usage().to_string();
        let _ = writeln!(text, "\n```text\n{}\n```", usage.trim_start_matches("Usage: ").trim_end());
        let own: Vec<&Arg> =
            command.get_arguments().filter(|arg| !arg.is_global_set() && shown(arg)).collect();
        flags(&mut text, &own, &settings);
        if let Some(example) = command.get_after_help() {
            let _ = writeln!(text, "\n```text\n{example}\n```");
        }
    }
    let _ = writeln!(text, "\n## Flags of every command");
    let global: Vec<&Arg> = command.get_arguments().filter(|arg| arg.is_global_set() && shown(arg)).collect();
    flags(&mut text, &global, &settings);
    if let Some(codes) = command.get_after_help() {
        let codes = codes.to_string();
        let codes = codes.split_once("Exit codes:\n").map_or("", |(_, codes)| codes);
        let _ = writeln!(text, "\n## Exit codes\n\n| code | meaning |\n|---|---|");
        for (code, meaning) in codes.lines().filter_map(|line| line.trim().split_once("  ")) {
            let _ = writeln!(text, "| {code} | {} |", cell(meaning));
        }
        text.push_str("\nIf several apply, the first of 2, 1, 130, 143, 5, 6, 3, 4, 0 wins.\n");
    }
    text.push_str(FILE);
    keys(&mut text, &settings);
    text
}

/// The commands that do something, each with its full name.
fn leaves<'a>(command: &'a Command, path: &str) -> Vec<(String, &'a Command)> {
    let below: Vec<&Command> = command.get_subcommands().filter(|one| !one.is_hide_set()).collect();
    if below.is_empty() {
        return vec![(path.to_owned(), command)];
    }
    below.into_iter().flat_map(|one| leaves(one, &format!("{path} {}", one.get_name()))).collect()
}

fn shown(arg: &Arg) -> bool {
    !matches!(arg.get_id().as_str(), "help" | "help_all" | "version")
}

fn flags(text: &mut String, args: &[&Arg], settings: &[Setting]) {
    if args.is_empty() {
        return;
    }
    text.push_str("\n| flag | means | default | variable | key |\n|---|---|---|---|---|\n");
    for arg in args {
        let about = arg.get_long_help().or(arg.get_help()).map(ToString::to_string).unwrap_or_default();
        // A cell has one paragraph.
        let about: Vec<&str> = about.split("\n\n").map(|part| part.trim().trim_end_matches('.')).collect();
        let about = about.join(". ");
        let variable = arg.get_env().map(|name| code(&name.to_string_lossy())).unwrap_or_default();
        let key = settings.iter().find(|one| one.flags.iter().any(|(_, of)| same(of, arg)));
        let key = key.map(|one| code(&one.key())).unwrap_or_default();
        let _ = writeln!(
            text,
            "| {} | {}{} | {} | {variable} | {key} |",
            name(arg),
            cell(&about),
            values(arg),
            default(arg)
        );
    }
}

fn same(one: &Arg, other: &Arg) -> bool {
    one.get_id() == other.get_id()
        && one.get_help().map(ToString::to_string) == other.get_help().map(ToString::to_string)
}

fn name(arg: &Arg) -> String {
    let value = if matches!(arg.get_action(), ArgAction::SetTrue) {
        String::new()
    } else {
        let names = arg.get_value_names().unwrap_or_default();
        let fallback = arg.get_id().as_str().to_uppercase();
        names.first().map_or(fallback, ToString::to_string)
    };
    match (arg.get_short(), arg.get_long()) {
        (Some(short), Some(long)) => code(format!("-{short}, --{long} {value}").trim_end()),
        (None, Some(long)) => code(format!("--{long} {value}").trim_end()),
        _ => code(&value),
    }
}

fn values(arg: &Arg) -> String {
    let values = arg.get_possible_values();
    let is_switch = matches!(arg.get_action(), ArgAction::SetTrue);
    if values.is_empty() || is_switch {
        return String::new();
    }
    let names: Vec<String> = values.iter().map(|value| code(value.get_name())).collect();
    format!(" ({})", names.join(", "))
}

fn default(arg: &Arg) -> String {
    let values: Vec<String> =
        arg.get_default_values().iter().map(|value| code(&value.to_string_lossy())).collect();
    match arg.get_action() {
        ArgAction::SetTrue => String::new(),
        _ => values.join(", "),
    }
}

fn keys(text: &mut String, settings: &[Setting]) {
    let mut rows: Vec<String> = settings
        .iter()
        .map(|one| {
            let default = match one.kind {
                Kind::Switch => code("false"),
                _ => default(&one.arg),
            };
            let variable = one.arg.get_env().map(|name| code(&name.to_string_lossy())).unwrap_or_default();
            let wanted = cell(one.kind.wanted());
            format!("| {} | {wanted} | {default} | {} | {variable} |", code(&one.key()), code(&one.flag()))
        })
        .collect();
    for only in crate::config::only_in_file() {
        let default = only.values.join(", ");
        rows.push(format!("| {} | only {} | {} | | |", code(&only.key), code(&default), code(&default)));
    }
    rows.sort();
    for row in rows {
        let _ = writeln!(text, "{row}");
    }
}

fn code(text: &str) -> String {
    format!("`{}`", text.replace('|', "\\|"))
}

fn cell(text: &str) -> String {
    escaped(text).replace('|', "\\|")
}

/// Text as Markdown, outside of code: no tag is made of it.
fn escaped(text: &str) -> String {
    let parts = text.split('`').enumerate();
    let parts: Vec<String> = parts
        .map(
            |(index, part)| {
                if index % 2 == 0 { part.replace('*', "\\*").replace('<', "&lt;") } else { part.to_owned() }
            },
        )
        .collect();
    parts.join("`")
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::args::Cli;

    fn check(command: &Command, page: &str) {
        for arg in command.get_arguments().filter(|arg| shown(arg) && arg.get_long().is_some()) {
            let flag = format!("--{}", arg.get_long().unwrap());
            assert!(page.contains(&format!("{flag}`")) || page.contains(&format!("{flag} ")), "{flag}");
        }
        command.get_subcommands().for_each(|below| check(below, page));
    }

    #[test]
    fn every_flag_is_there_with_its_variable_its_key_and_its_default() {
        let page = page(Cli::command());
        let row = page.lines().find(|line| line.starts_with("| `--lease-ttl TIME`")).unwrap();
        for part in ["`120s`", "`LONGHAUL_LEASE_TTL`", "`orchestrator.lease_ttl_seconds`"] {
            assert!(row.contains(part), "{row}");
        }
        check(&Cli::command(), &page);
    }
}
