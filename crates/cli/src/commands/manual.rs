//! `longhaul completions`, `man` and the reference: the command line, written down for shells and for readers. All of
//! it is made from the command line itself.

mod reference;

use std::io::{self, Write};

use anyhow::{Context, Result};
use clap::builder::Resettable;
use clap::{Arg, Command};

use crate::args::{CompletionsArgs, ManArgs};
use crate::exit::{Exit, UsageError};
use crate::output::print_data;

/// What the program's page says of variables.
const VARIABLES: &str =
    "Every option can come from the environment: \\-\\-max\\-per\\-host is LONGHAUL_MAX_PER_HOST.";

/// Prints completions.
pub(crate) fn completions(args: &CompletionsArgs, mut command: Command) -> Result<Exit> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, "longhaul", &mut script);
    print_data(&String::from_utf8(script)?)?;
    Ok(Exit::Success)
}

/// Prints a page of the manual, or writes all.
pub(crate) fn man(args: &ManArgs, command: Command) -> Result<Exit> {
    let pages = pages(in_full(command))?;
    if let Some(folder) = &args.dir {
        let wrote = || -> io::Result<()> {
            std::fs::create_dir_all(folder)?;
            pages.iter().try_for_each(|page| std::fs::write(folder.join(&page.file), &page.text))
        };
        wrote().with_context(|| format!("the pages cannot be written into {}", folder.display()))?;
        return Ok(Exit::Success);
    }
    let wanted = [&["longhaul".to_owned()], args.command.as_slice()].concat().join("-") + ".1";
    let Some(page) = pages.iter().find(|page| page.file == wanted) else {
        let message =
            format!("there is no command {:?}; `longhaul --help` lists them", args.command.join(" "));
        return Err(UsageError(message).into());
    };
    print_data(&page.text)?;
    Ok(Exit::Success)
}

/// Prints the reference.
pub(crate) fn reference(command: Command) -> Result<Exit> {
    print_data(&reference::page(in_full(command)))?;
    Ok(Exit::Success)
}

/// Says of each flag what fits no screen: the text below its first paragraph says all, that one included.
fn in_full(command: Command) -> Command {
    let command = command.mut_args(|arg| {
        let long = arg.get_long_help().map(ToString::to_string);
        match long.as_deref().and_then(|text| text.split_once("\n\n")) {
            Some((_, all)) => arg.help(all.to_owned()).long_help(Resettable::Reset),
            None => arg,
        }
    });
    command.mut_subcommands(in_full)
}

/// A page of the manual.
#[derive(Debug)]
struct Page {
    file: String,
    text: String,
}

/// The page of the program, and one for each command that does something.
fn pages(command: Command) -> io::Result<Vec<Page>> {
    let mut pages = Vec::new();
    // Anybody's variables, and the width of anybody's terminal, must not show.
    let mut command =
        command.disable_version_flag(true).term_width(0).mut_args(|arg| arg.hide_env_values(true));
    command.build();
    render(&command, &mut pages)?;
    Ok(pages)
}

fn render(command: &Command, pages: &mut Vec<Page>) -> io::Result<()> {
    let name = command.get_display_name().unwrap_or_else(|| command.get_name()).to_owned();
    let file = format!("{name}.1");
    // No date: the same program always makes the same page.
    let page = clap_mangen::Man::new(without_help(command.clone()))
        .title(name.to_uppercase())
        .manual("longhaul manual")
        .source(format!("longhaul {}", env!("CARGO_PKG_VERSION")));
    let mut text = Vec::new();
    page.render(&mut text)?;
    text.flush()?;
    let text = String::from_utf8(text).map_err(io::Error::other)?;
    // What stands below the flags in the help has its own place in a manual.
    let text = text
        .replace(".SH EXTRA\nExample:\n", ".SH EXAMPLES\n")
        .replace("\nExit codes:\n", "\n.SH \"EXIT STATUS\"\n");
    let mut text = with_values(text, command);
    if file == "longhaul.1" {
        text.extend([".SH ENVIRONMENT\n", VARIABLES, "\n"]);
    }
    pages.push(Page { file, text });
    for below in command.get_subcommands().filter(|command| !command.is_hide_set()) {
        render(below, pages)?;
    }
    Ok(())
}

/// The synopsis with the names of the flags' values, which it is made without.
fn with_values(text: String, command: &Command) -> String {
    let Some((above, rest)) = text.split_once(".SH SYNOPSIS\n") else { return text };
    let Some((synopsis, below)) = rest.split_once("\n.SH ") else { return text };
    let mut synopsis = synopsis.to_owned();
    for arg in command.get_arguments().filter(|arg| arg.get_action().takes_values()) {
        let Some(long) = arg.get_long() else { continue };
        let names = arg.get_value_names().unwrap_or_default().join(" ");
        let names = if names.is_empty() { arg.get_id().as_str().to_uppercase() } else { names };
        let flag = format!("\\fB\\-\\-{}\\fR", long.replace('-', "\\-"));
        synopsis = synopsis.replace(&flag, &format!("{flag} \\fI{}\\fR", names.replace('-', "\\-")));
    }
    format!("{above}.SH SYNOPSIS\n{synopsis}\n.SH {below}")
}

fn without_help(command: Command) -> Command {
    let hidden = |arg: Arg| {
        let is_help = arg.get_id() == "help";
        arg.hide_env_values(true).hide(is_help)
    };
    command.mut_args(hidden)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::args::Cli;

    #[test]
    fn every_command_has_a_page_with_its_flags() {
        let pages = pages(in_full(Cli::command())).unwrap();
        let page = |file: &str| &pages.iter().find(|page| page.file == file).unwrap().text;
        for section in ["\n.SH EXAMPLES\n", "\n.SH \"EXIT STATUS\"\n"] {
            assert!(page("longhaul.1").contains(section), "{}", page("longhaul.1"));
        }
        assert!(!pages.iter().any(|page| page.text.contains("EXTRA")));
        let run = page("longhaul-queue-run.1");
        let (synopsis, _) = run.split_once(".SH DESCRIPTION").unwrap();
        assert!(run.contains("drain\\-horizon"));
        for named in [r"\fB\-\-workers\fR \fIN\fR", r"\fB\-\-rate\fR \fIHOST=RATE\fR", r"[\fB\-\-drain\fR]"] {
            assert!(synopsis.contains(named), "{named}: {synopsis}");
        }
        assert!(page("longhaul.1").contains(".SH ENVIRONMENT\n"));
        let manifest = page("longhaul-queue-run.1");
        assert!(manifest.contains("for each ended job") && !manifest.contains("In place of"), "{manifest}");
        assert!(page("longhaul-config-check.1").contains("LONGHAUL_CONFIG"));
        assert!(!pages.iter().any(|page| page.file.contains("reference")));
    }
}
