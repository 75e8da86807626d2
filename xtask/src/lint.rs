//! `cargo xtask lint`: formatting and clippy. Every warning is an error.

use anyhow::{Result, bail};

use crate::process;

pub(crate) fn run() -> Result<()> {
    let format = process::run(&mut process::cargo(&["fmt", "--all", "--check"]));
    // Both run, so that one look shows all there is to mend.
    let clippy = process::run(&mut process::cargo(&[
        "clippy",
        "--workspace",
        "--all-targets",
        "--all-features",
        "--locked",
        "--",
        "-D",
        "warnings",
    ]));
    match (format, clippy) {
        (Ok(()), Ok(())) => Ok(()),
        (Err(_), Ok(())) => bail!("the formatting differs; run `cargo fmt --all`"),
        (Ok(()), Err(clippy)) => Err(clippy),
        (Err(_), Err(clippy)) => {
            bail!("the formatting differs (run `cargo fmt --all`), and {clippy}")
        }
    }
}
