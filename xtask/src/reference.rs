//! `cargo xtask reference`: writes the reference of the command line and the pages of the manual, as the program itself
//! prints them, and the references of events and metrics. `cargo xtask tidy` fails if what is committed is not that.

mod events;
mod metrics;

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context, Result};

use crate::process;

/// The reference of commands, flags, variables and keys.
pub(crate) const PAGE: &str = "docs/src/reference/command-line.md";

/// The reference of the events.
pub(crate) const EVENTS: &str = "docs/src/reference/events.md";

/// The reference of the metrics and traces.
pub(crate) const METRICS: &str = "docs/src/reference/metrics.md";

/// Where the pages of the manual are; nothing else is there.
pub(crate) const MANUAL: &str = "docs/man";

/// Writes what is made from the program, and removes pages of commands that are no more.
pub(crate) fn run() -> Result<()> {
    let root = process::root();
    let made = made()?;
    fs::remove_dir_all(root.join(MANUAL)).or_else(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Ok(()),
        _ => Err(error),
    })?;
    for (path, text) in &made {
        let path = root.join(path);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(&path, text).with_context(|| format!("{} could not be written", path.display()))?;
    }
    eprintln!("reference: {} files are written", made.len());
    Ok(())
}

/// What is made from the program, by path from the root.
pub(crate) fn made() -> Result<BTreeMap<String, String>> {
    let folder = tempfile::tempdir()?;
    let mut made = BTreeMap::from([
        (PAGE.to_owned(), process::read(program().arg("reference"))?),
        (EVENTS.to_owned(), events::page()),
        (METRICS.to_owned(), metrics::page()),
    ]);
    process::read(program().args(["man", "--dir"]).arg(folder.path()))?;
    for page in fs::read_dir(folder.path())? {
        let page = page?;
        let text = fs::read_to_string(page.path())?;
        made.insert(format!("{MANUAL}/{}", page.file_name().to_string_lossy()), text);
    }
    Ok(made)
}

/// The program of this tree, with no setting of whoever calls it.
fn program() -> std::process::Command {
    let mut command = process::cargo(&["run", "--quiet", "--locked", "--package", "longhaul", "--"]);
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("LONGHAUL_")) {
        command.env_remove(name);
    }
    command
}
