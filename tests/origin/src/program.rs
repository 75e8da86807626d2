//! The origin as a program, for whatever binary wants to be one.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::PathBuf;

use crate::config::OriginConfig;
use crate::origin::Origin;

const USAGE: &str = "usage: longhaul-origin --config FILE [--listen-port N]";

/// Runs an origin by these arguments until it is interrupted or told to stop at its admin address. Prints one line of
/// JSON when it is ready: port, admin URL, hosts with their URLs.
pub fn run_program(arguments: impl Iterator<Item = String>) -> Result<(), Box<dyn std::error::Error>> {
    let (path, port) = read(arguments)?;
    let text = std::fs::read(&path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    let mut config: OriginConfig =
        serde_json::from_slice(&text).map_err(|error| format!("{}: {error}", path.display()))?;
    config.port = port.or(config.port);
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let origin = Origin::start(config).await?;
        let hosts: BTreeMap<&str, String> = origin.hosts().map(|name| (name, origin.url(name, ""))).collect();
        let ready = serde_json::json!({
            "ready": true, "port": origin.port(), "admin": origin.admin_url(""), "hosts": hosts,
        });
        let mut stdout = io::stdout();
        writeln!(stdout, "{ready}")?;
        stdout.flush()?;
        tokio::select! {
            () = origin.stopped() => {}
            interrupted = tokio::signal::ctrl_c() => interrupted?,
        }
        Ok(())
    })
}

fn read(mut arguments: impl Iterator<Item = String>) -> Result<(PathBuf, Option<u16>), String> {
    let (mut config, mut port) = (None, None);
    while let Some(name) = arguments.next() {
        let value = arguments.next().ok_or(USAGE)?;
        match name.as_str() {
            "--config" => config = Some(PathBuf::from(value)),
            "--listen-port" => {
                let number = value.parse().map_err(|_| format!("{value} is no port; {USAGE}"))?;
                port = Some(number);
            }
            _ => return Err(USAGE.into()),
        }
    }
    Ok((config.ok_or(USAGE)?, port))
}
