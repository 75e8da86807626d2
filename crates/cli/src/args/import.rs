//! The flags of `queue import` and `queue enqueue`.

use std::path::PathBuf;

use clap::Args;
use clap::builder::BoolishValueParser;

use super::{Format, number};

/// `queue import`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  longhaul queue import papers.jsonl more.txt.gz --rejects bad.jsonl")]
pub(crate) struct ImportArgs {
    /// Files with an artifact a line, also .gz and .zst; - is stdin
    ///
    /// Files with one artifact a line, as they are or packed with gzip or zstd; `-` is stdin
    #[arg(required_unless_present = "from_docstokg", value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// Take over the queue file of DocsToKG
    ///
    /// Take over the queue of DocsToKG instead, with states, attempts and times; its file is only read
    #[arg(long, value_name = "OLD", env = "LONGHAUL_FROM_DOCSTOKG", conflicts_with = "files")]
    pub(crate) from_docstokg: Option<PathBuf>,
    /// Take at most so many artifacts
    #[arg(long, value_name = "N", env = "LONGHAUL_LIMIT", value_parser = number::whole::<u64>(0..=u64::MAX))]
    pub(crate) limit: Option<u64>,
    /// Write what cannot be read to this file
    ///
    /// Write lines or rows that cannot be read into this file, each with its number and what is wrong with it
    #[arg(long, value_name = "FILE", env = "LONGHAUL_REJECTS")]
    pub(crate) rejects: Option<PathBuf>,
    /// All or nothing
    ///
    /// All or nothing: read everything first, and import nothing if anything is bad
    #[arg(long, env = "LONGHAUL_STRICT", value_parser = BoolishValueParser::new())]
    pub(crate) strict: bool,
    /// How the result is printed
    #[arg(long, env = "LONGHAUL_FORMAT", default_value = "table")]
    pub(crate) format: Format,
}

/// `queue enqueue`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  longhaul queue enqueue 10.1000/x '{\"priority\": 9}'")]
pub(crate) struct EnqueueArgs {
    /// The artifact: a DOI, a URL, or an id of your own
    #[arg(required_unless_present = "input")]
    pub(crate) id: Option<String>,
    /// More about it, a JSON object with the fields of an import line
    pub(crate) json: Option<String>,
    /// Take artifacts from a file instead, as `import` does; `-` is stdin
    #[arg(long, short, value_name = "FILE", env = "LONGHAUL_INPUT", conflicts_with_all = ["id", "json"])]
    pub(crate) input: Option<PathBuf>,
    /// How the result is printed
    #[arg(long, env = "LONGHAUL_FORMAT", default_value = "table")]
    pub(crate) format: Format,
}

/// `queue manifest`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  longhaul queue manifest a/manifest.jsonl b/manifest.jsonl > all.jsonl
  longhaul queue manifest */manifest.jsonl --output all.jsonl")]
pub(crate) struct ManifestArgs {
    /// Manifests, also .gz and .zst; - is stdin
    ///
    /// Manifests that runs wrote, as they are or packed with gzip or zstd; `-` is stdin
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// Write the lines to this file instead
    ///
    /// Write the lines to this file instead of standard output, and print there how many there were. The file is replaced at
    /// once, when all is written
    #[arg(long, value_name = "FILE", env = "LONGHAUL_OUTPUT")]
    pub(crate) output: Option<PathBuf>,
    /// How it is printed
    #[arg(long, env = "LONGHAUL_FORMAT", default_value = "table")]
    pub(crate) format: Format,
}
