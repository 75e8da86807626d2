//! The flags of `config`, `completions` and `man`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use clap_complete::Shell;

use super::Format;

/// `config`.
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Show every setting with its value and where that came from
    ///
    /// What a flag, the environment or the file does not set has its default. Secrets are shown as ***.
    #[command(after_help = "\
Example:
  longhaul config show --config night.toml
  longhaul config show -- --workers 3 --rate example.org=1/s")]
    Show(ConfigShowArgs),
    /// Look for faults in the configuration file and the environment
    ///
    /// All faults are named at once, each with its place. Ends with 2 if there is one.
    #[command(after_help = "Example:\n  longhaul config check --config night.toml")]
    Check(ConfigArgs),
}

/// `config show`.
#[derive(Debug, Args)]
pub(crate) struct ConfigShowArgs {
    /// Flags of `queue run`, whose effect is shown too
    #[arg(last = true, value_name = "FLAG", allow_hyphen_values = true)]
    pub(crate) of_run: Vec<OsString>,
    /// How the result is printed
    #[arg(long, env = "LONGHAUL_FORMAT", default_value = "table")]
    pub(crate) format: Format,
}

/// `config check`.
#[derive(Debug, Args)]
pub(crate) struct ConfigArgs {
    /// How the result is printed
    #[arg(long, env = "LONGHAUL_FORMAT", default_value = "table")]
    pub(crate) format: Format,
}

/// `completions`.
#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// The shell
    pub(crate) shell: Shell,
}

/// `man`.
#[derive(Debug, Args)]
pub(crate) struct ManArgs {
    /// The command whose page is printed, like `queue run`; without it, the page of the whole program
    #[arg(conflicts_with = "dir")]
    pub(crate) command: Vec<String>,
    /// Write the pages of all commands into this folder instead
    #[arg(long, value_name = "DIR", env = "LONGHAUL_DIR")]
    pub(crate) dir: Option<PathBuf>,
}
