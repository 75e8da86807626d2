//! A header for one host goes to that host and to no other.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::fmt::Write as _;
use std::net::SocketAddr;

use longhaul_tests::{Program, Stage};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

const GONE: &str = "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

/// A host without robots.txt that answers everything else with this, and keeps what it was asked, word for word.
async fn host(answer: String, asked: &mut JoinSet<(SocketAddr, String)>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    asked.spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                assert!(stream.read_buf(&mut request).await.unwrap() > 0, "the request breaks off");
            }
            let is_for_rules = request.starts_with(b"GET /robots.txt ");
            let answer = if is_for_rules { GONE } else { &answer };
            stream.write_all(answer.as_bytes()).await.unwrap();
            if !is_for_rules {
                return (address, String::from_utf8(request).unwrap().to_lowercase());
            }
        }
    });
    address
}

/// The first host sends on to the second, as one that wants the keys of others would.
#[tokio::test(flavor = "multi_thread")]
async fn a_header_goes_to_its_host_alone_and_not_along_a_redirect() {
    let stage = Stage::new([]).await;
    let mut asked = JoinSet::new();
    let second = host(GONE.to_owned(), &mut asked).await;
    let moved = format!(
        "HTTP/1.1 302 Found\r\nlocation: http://{second}/there\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
    );
    let first = host(moved, &mut asked).await;
    stage.import(&[json!({ "id": "a", "url": format!("http://{first}/here") })]).await;
    let mut file = format!("[headers.\"http://{first}\"]\nX-File = \"one\"\nX-Both = \"weaker\"\n");
    let _ = write!(file, "[http]\nallow_networks = [\"127.0.0.0/8\"]\n[rate]\n\"*\" = \"off\"\n");
    std::fs::write(stage.folder().join("longhaul.toml"), file).unwrap();
    let variable = format!("http://{first}=X-Both: stronger\nhttp://{first}=X-Variable: two");
    let arguments = ["queue", "run", "--drain"];
    let run = Program::start_with(stage.folder(), &arguments, &[("LONGHAUL_HEADER", &variable)]);
    let _ = run.finish().await.expect_code(3);
    for (address, request) in asked.join_all().await {
        let sent: Vec<&str> = request.lines().filter(|line| line.starts_with("x-")).collect();
        if address == first {
            let mut sent = sent;
            sent.sort_unstable();
            assert_eq!(sent, ["x-both: stronger", "x-file: one", "x-variable: two"]);
        } else {
            assert_eq!(sent, [""; 0], "{request}");
        }
    }
}
