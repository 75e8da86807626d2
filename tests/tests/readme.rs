//! The README's block for real papers does what the README says, here with an origin in place of the internet.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::path::Path;

use longhaul_origin::HostConfig;
use longhaul_tests::{Stage, program_path};
use serde_json::Value;

/// The commands of the block that the README marks for this test.
fn commands() -> Vec<String> {
    let readme = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md")).unwrap();
    let (_, marked) = readme.split_once("<!-- readme-test: papers -->").expect("the README marks the block");
    let (_, block) = marked.split_once("```console\n").expect("a console block follows the mark");
    let (block, _) = block.split_once("\n```").unwrap();
    block.lines().filter_map(|line| line.strip_prefix("$ ")).map(str::to_owned).collect()
}

/// Each command runs as it stands, by a shell; only the addresses in the list are replaced, and the run is allowed
/// to reach this machine.
#[tokio::test(flavor = "multi_thread")]
async fn the_block_for_real_papers_runs_as_it_stands() {
    let stage = Stage::new([HostConfig::new("arxiv")]).await;
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    let list = std::fs::read_to_string(examples.join("papers.jsonl")).unwrap();
    let papers = list.lines().count();
    let replaced = list.replace("https://arxiv.org", stage.origin.url("arxiv", "").trim_end_matches('/'));
    assert!(!replaced.contains("https://"), "an address of the example is not replaced: {replaced}");
    std::fs::create_dir(stage.folder().join("examples")).unwrap();
    std::fs::write(stage.folder().join("examples/papers.jsonl"), replaced).unwrap();
    let binaries = program_path().parent().unwrap();
    let commands: Vec<String> =
        commands().into_iter().filter(|command| !command.starts_with("cargo ")).collect();
    assert!(commands.iter().any(|command| command.contains("queue import")), "{commands:?}");
    assert!(commands.iter().any(|command| command.contains("queue run")), "{commands:?}");
    for command in commands {
        let path = format!("{}:{}", binaries.display(), std::env::var("PATH").unwrap());
        let command = command.replace("target/release/longhaul", "longhaul");
        let mut shell = tokio::process::Command::new("sh");
        shell.args(["-c", &command]).current_dir(stage.folder()).env("PATH", path).kill_on_drop(true);
        let output = shell.env("LONGHAUL_ALLOW_NETWORK", "127.0.0.0/8").output().await.unwrap();
        let said =
            format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        println!("$ {command}\n{said}");
        assert!(output.status.success(), "`{command}` failed ({})", output.status);
    }
    let manifest: Vec<Value> = stage.manifest();
    assert_eq!(manifest.len(), papers);
    assert!(manifest.iter().all(|line| line["outcome"] == "done"));
    assert_eq!(stage.origin.counts("arxiv").impolite, 0);
}
