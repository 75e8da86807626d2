//! longhaul: fetches a list of artifacts, in parallel, without hammering anybody.
//!
//! The one composition root: it reads the command line, opens the queue, and puts the crates together. What they do
//! is theirs.

mod args;
mod commands;
mod config;
mod exit;
mod import;
mod limits;
mod output;
mod plan;
mod program;
mod progress;
mod refusal;
mod signals;
mod store;
mod summary;

fn main() -> std::process::ExitCode {
    program::main()
}
