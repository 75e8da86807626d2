//! The commands of README.md do what it says. Only addresses are replaced: papers come from a host on this machine.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::process::Stdio;

use longhaul_origin::{Answer, HostConfig, Origin, OriginConfig, Shape};
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;

const MARK: &str = "<!-- readme-test: papers -->";

/// The repository's own folder.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap()
}

/// The command lines of the block below the mark.
fn commands(readme: &str) -> Vec<String> {
    let (_, after) = readme.split_once(MARK).unwrap();
    let (_, block) = after.split_once("```console\n").unwrap();
    let (block, _) = block.split_once("```").unwrap();
    block.lines().filter_map(|line| line.strip_prefix("$ ")).map(str::to_owned).collect()
}

#[tokio::test]
async fn the_papers_of_the_readme_are_fetched_by_its_commands() {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let commands = commands(&readme);
    let host = HostConfig::answering("arxiv", Answer::document(Shape::pdf(30_000)));
    let origin = Origin::start(OriginConfig::new([host])).await.unwrap();
    let folder = TempDir::new().unwrap();
    let papers = std::fs::read_to_string(root().join("examples/papers.jsonl")).unwrap();
    let first = papers.lines().next().unwrap();
    assert!(readme.contains(first), "the readme quotes the example");
    std::fs::create_dir(folder.path().join("examples")).unwrap();
    let local = papers.replace("https://arxiv.org/", &origin.url("arxiv", "/"));
    std::fs::write(folder.path().join("examples/papers.jsonl"), local).unwrap();

    let mut ran = 0;
    for line in &commands {
        let mut words = line.split_whitespace();
        match words.next().unwrap() {
            // The program has been built, or this test would not run.
            "cargo" => continue,
            program => assert_eq!(program, "target/release/longhaul"),
        }
        let mut command = Command::new(env!("CARGO_BIN_EXE_longhaul"));
        command.args(words).current_dir(folder.path()).env_clear().stdin(Stdio::null());
        command.env("LONGHAUL_ALLOW_NETWORK", "127.0.0.0/8");
        let output = command.output().await.unwrap();
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        ran += 1;
    }
    assert_eq!(ran, 3, "{commands:?}");

    let downloads = folder.path().join("downloads");
    let names: Vec<String> = std::fs::read_dir(&downloads)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| Path::new(name).extension().is_some_and(|extension| extension == "pdf"))
        .collect();
    assert_eq!(names.len(), papers.lines().count());
    let first = "2017__attention-is-all-you-need__arxiv_1706.03762-";
    assert!(names.iter().any(|name| name.starts_with(first)), "{names:?}");
    let manifest = std::fs::read_to_string(downloads.join("manifest.jsonl")).unwrap();
    for line in manifest.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        assert_eq!(line["outcome"], "done", "{line}");
        assert_eq!(line["sha256"].as_str().unwrap().len(), 64);
    }
    assert_eq!(manifest.lines().count(), papers.lines().count());
}
