//! INV-BOUNDED: a process' memory does not grow with the hosts that it has ever seen.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "the figures are part of what a proof shows")]

use std::fmt::Write as _;

use longhaul_origin::HostConfig;
use longhaul_tests::{Program, Stage, size};

/// The most that the process may have had in memory.
const MOST_KIB: u64 = 64 * 1024;

/// The most that a process has had in memory so far.
fn peak_kib(program: &Program) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", program.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("Linux says it");
    line.trim().trim_end_matches("kB").trim().parse().unwrap()
}

/// A million hosts seen once each, imported and asked for by one process. The hosts are private addresses, which the
/// process does not ask after all: it sees them, has their lanes, and skips them, as fast as it can.
#[tokio::test(flavor = "multi_thread")]
async fn inv_bounded_a_million_hosts_seen_once_each() {
    let (hosts, shown) = size((20_000_u32, "20,000"), (1_000_000, "1,000,000"));
    let stage = Stage::new([HostConfig::new("unused")]).await;
    let mut list = String::new();
    for host in 0..hosts {
        let [_, a, b, c] = host.to_be_bytes();
        writeln!(list, r#"{{"id":"h{host}","url":"http://10.{a}.{b}.{c}/x.pdf"}}"#).unwrap();
    }
    std::fs::write(stage.folder().join("hosts.jsonl"), list).unwrap();
    let arguments = ["queue", "run", "--import", "hosts.jsonl", "--no-robots", "--workers", "64"];
    let mut program = stage.start(&arguments);
    program.wait_until_it_says(&format!("{shown}/{shown} ended")).await;
    let peak = peak_kib(&program);
    println!("{hosts} hosts: {} MiB at most", peak / 1024);
    assert!(peak < MOST_KIB, "{peak} KiB");
    program.signal("TERM");
    let _ = program.finish().await.expect_code(143);
}
