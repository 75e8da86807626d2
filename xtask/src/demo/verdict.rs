//! Whether the demo came out as it should: the files against their hosts, the manifest, and the hosts' own counts.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use longhaul_origin::Origin;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::hosts::{Artifact, HABITS};

/// Everything that is not as it should be, one line each.
pub(super) fn check(origin: &Origin, folder: &Path, artifacts: &[Artifact]) -> Result<Vec<String>> {
    let downloads = folder.join("downloads");
    let manifest = fs::read_to_string(downloads.join("manifest.jsonl")).context("there is no manifest")?;
    let mut lines: HashMap<String, Value> = HashMap::new();
    let mut problems = Vec::new();
    for line in manifest.lines() {
        let line: Value =
            serde_json::from_str(line).with_context(|| format!("not a manifest line: {line}"))?;
        let id = text(&line, "artifact_id").to_owned();
        if lines.insert(id.clone(), line).is_some() {
            problems.push(format!("{id} stands in the manifest twice"));
        }
    }
    let (mut whole, mut refused) = (0, 0);
    for artifact in artifacts {
        let id = text(&artifact.record, "id");
        let Some(line) = lines.remove(id) else {
            problems.push(format!("{id} is not in the manifest"));
            continue;
        };
        match (&artifact.bytes_of, artifact.reason) {
            (Some((host, path)), _) => match fs::read(downloads.join(text(&line, "path"))) {
                Ok(bytes) if hexadecimal(&Sha256::digest(&bytes)) == origin.document(host, path).sha256() => {
                    whole += 1;
                }
                Ok(_) => problems.push(format!("{id} is not what {host} has at {path}")),
                Err(error) => problems.push(format!("{id} has no file ({error}): {line}")),
            },
            (None, reason) if text(&line, "outcome") == "error" && Some(text(&line, "reason")) == reason => {
                refused += 1;
            }
            (None, reason) => problems.push(format!("{id} should have ended in error ({reason:?}): {line}")),
        }
    }
    problems.extend(lines.keys().map(|id| format!("{id} is in the manifest and was never asked for")));
    println!("   {whole} files are, byte for byte, what their hosts have");
    println!("   {refused} artifacts cannot be had, and the manifest says why");
    for (name, host) in &origin.report().hosts {
        if host.counts.impolite > 0 {
            problems.push(format!("{name} was treated impolitely {} times", host.counts.impolite));
        }
    }
    Ok(problems)
}

/// How the hosts saw it, and where to look.
pub(super) fn show(origin: &Origin, folder: &Path, took: Duration) {
    println!("\n   As the hosts saw it:");
    println!(
        "   {:10} {:>8} {:>12} {:>16} {:>8} {:>10}",
        "host", "requests", "most at once", "most in a second", "asked to", "came too"
    );
    println!("   {:10} {:>8} {:>12} {:>16} {:>8} {:>10}", "", "", "", "", "wait", "early");
    let report = origin.report();
    for (host, _) in HABITS {
        let counts = report.hosts[host].counts;
        let refused = counts.refused + counts.refused_in_closing;
        println!(
            "   {host:10} {:>8} {:>12} {:>16} {refused:>8} {:>10}",
            counts.requests, counts.peak_in_flight, counts.peak_arrivals_per_second, counts.too_early
        );
    }
    println!(
        "\n   It took {:.0} s, at the default of at most 2 requests a second and 4 at once for any host.",
        took.as_secs_f64()
    );
    println!("   Look at {}:", folder.display());
    println!("     downloads/                the files, named after year and title");
    println!(
        "     downloads/manifest.jsonl  one line for each artifact: where it came from, its digest, or why not"
    );
    println!("     state/workqueue.sqlite    the queue; `longhaul queue stats` in that folder shows it");
}

fn text<'v>(value: &'v Value, field: &str) -> &'v str {
    value[field].as_str().unwrap_or_default()
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}
