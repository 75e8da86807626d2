//! `cargo xtask deny`: what the workspace may depend on, and which of its crates may know which.
//!
//! cargo-deny checks bans, licences and sources as `deny.toml` says. It sees the graph with all features, so what a
//! crate must not know *without* its features is checked here, with `cargo tree`.

use anyhow::{Result, bail};

use crate::{process, tools};

/// A crate that is pure without its features, and what it must not know then.
struct Pure {
    package: &'static str,
    must_not_know: &'static [&'static str],
}

const PURE: &[Pure] = &[
    Pure {
        package: "longhaul-limiter",
        must_not_know: &["tokio", "leaky-bucket", "rustix", "reqwest", "sqlx"],
    },
    Pure {
        package: "longhaul-queue-core",
        must_not_know: &["tokio", "sqlx", "rusqlite", "reqwest", "hyper"],
    },
    Pure { package: "longhaul-pipeline", must_not_know: &["reqwest", "hyper", "sqlx"] },
];

pub(crate) fn run() -> Result<()> {
    tools::DENY.ensure()?;
    process::run(&mut process::cargo(&[
        "deny",
        "--all-features",
        "--locked",
        "check",
        // A wrapper says who may depend on a crate, not who must.
        "--allow",
        "unused-wrapper",
        "bans",
        "licenses",
        "sources",
    ]))?;
    let mut broken = Vec::new();
    for pure in PURE {
        let graph = process::read(&mut process::cargo(&[
            "tree",
            "--locked",
            "--package",
            pure.package,
            "--no-default-features",
            "--edges",
            "normal",
            "--prefix",
            "none",
        ]))?;
        for name in known(&graph, pure.must_not_know) {
            broken.push(format!("{} without its features depends on {name}", pure.package));
        }
    }
    if !broken.is_empty() {
        bail!("{}; make that dependency optional, under the feature that needs it", broken.join("; "));
    }
    Ok(())
}

/// Which of `names` are in the graph, printed one package a line as `name vVERSION …`.
fn known<'a>(graph: &str, names: &'a [&'a str]) -> Vec<&'a str> {
    let in_graph = |name: &str| graph.lines().any(|line| line.split(' ').next() == Some(name));
    names.iter().copied().filter(|name| in_graph(name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_is_known_by_its_whole_name() {
        let graph =
            "longhaul-queue-core v0.1.0 (/somewhere)\ntokio-util v0.7.1\nserde v1.0.0\nsqlx v0.9.0 (*)\n";
        assert_eq!(known(graph, &["tokio", "sqlx"]), ["sqlx"]);
    }
}
