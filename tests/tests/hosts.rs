//! INV-BOUNDED: a process' memory does not grow with the hosts that it has ever seen.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "the figures are part of what a proof shows")]

use std::fmt::Write as _;
use std::net::SocketAddr;

use longhaul_origin::HostConfig;
use longhaul_tests::{Program, Stage, size};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// The most that the process may have had in memory.
const MOST_KIB: u64 = 64 * 1024;

/// The most that a process has had in memory so far.
fn peak_kib(program: &Program) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", program.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("Linux says it");
    line.trim().trim_end_matches("kB").trim().parse().unwrap()
}

/// A proxy that knows every host, and of each that it has nothing. Connections stay open as long as who asks likes.
async fn knows_nothing() -> (SocketAddr, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut serving = JoinSet::new();
    serving.spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            let (connection, _) = listener.accept().await.unwrap();
            connections.spawn(answer(connection));
            while connections.try_join_next().is_some() {}
        }
    });
    (address, serving)
}

async fn answer(mut connection: TcpStream) -> std::io::Result<()> {
    let mut head = Vec::new();
    while connection.read_buf(&mut head).await? > 0 {
        if head.ends_with(b"\r\n\r\n") {
            connection.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n").await?;
            head.clear();
        }
    }
    Ok(())
}

/// A million hosts, imported and asked once each by one process, as fast as it can.
#[tokio::test(flavor = "multi_thread")]
async fn inv_bounded_a_million_hosts_seen_once_each() {
    let (hosts, shown) = size((1_000_u32, "1,000"), (1_000_000, "1,000,000"));
    let stage = Stage::new([HostConfig::new("unused")]).await;
    let mut list = String::new();
    for host in 0..hosts {
        writeln!(list, r#"{{"id":"h{host}","url":"http://h{host}.example/x.pdf"}}"#).unwrap();
    }
    std::fs::write(stage.folder().join("hosts.jsonl"), list).unwrap();
    let (address, _serving) = knows_nothing().await;
    let proxy = format!("http://{address}");
    let arguments = ["queue", "run", "--import", "hosts.jsonl", "--no-robots"];
    let mut program = Program::start_with(stage.folder(), &arguments, &[("HTTP_PROXY", &proxy)]);
    program.wait_until_it_says(&format!("{shown}/{shown} ended")).await;
    let peak = peak_kib(&program);
    println!("{hosts} hosts: {} MiB at most", peak / 1024);
    assert!(peak < MOST_KIB, "{peak} KiB");
    program.signal("TERM");
    let _ = program.finish().await.expect_code(143);
    assert_eq!(stage.counts().await.error, u64::from(hosts));
}
