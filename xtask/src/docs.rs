//! `cargo xtask docs`: the API documentation of every crate, where a broken link or a bad code block is an error.

use anyhow::Result;

use crate::process;

pub(crate) fn run() -> Result<()> {
    // All features: an optional module's documentation is documentation too.
    let mut command = process::cargo(&["doc", "--workspace", "--no-deps", "--all-features", "--locked"]);
    process::run(command.env("RUSTDOCFLAGS", "-D warnings"))
}
