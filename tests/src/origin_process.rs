//! The test origin as a process of its own: what it costs is not counted to whoever is measured beside it, and it may
//! have thousands of hosts. Its books are read through its admin address.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use http_body_util::{BodyExt as _, Empty};
use hyper::Request;
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use longhaul_origin::{OriginConfig, Report};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::task::JoinSet;

/// A running origin. Killed when dropped.
#[derive(Debug)]
pub struct OriginProcess {
    child: Child,
    admin: String,
    urls: BTreeMap<String, String>,
}

impl OriginProcess {
    /// Starts it on one socket for all hosts; its configuration is written into the folder.
    pub async fn start(folder: &Path, config: OriginConfig) -> Self {
        let config = OriginConfig { one_socket: true, ..config };
        let file = folder.join("origin.json");
        std::fs::write(&file, serde_json::to_vec(&config).unwrap()).unwrap();
        let mut command = Command::new(beside_the_test("test-origin"));
        command.arg("--config").arg(&file).stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let ready = lines.next_line().await.unwrap().expect("it says when it is ready");
        let ready: Value = serde_json::from_str(&ready).expect(&ready);
        let admin = ready["admin"].as_str().unwrap().trim_start_matches("http://").to_owned();
        let urls = serde_json::from_value(ready["hosts"].clone()).unwrap();
        Self { child, admin, urls }
    }

    /// The URL of a path (from its slash on) on a host.
    pub fn url(&self, host: &str, path: &str) -> String {
        format!("{}{path}", self.urls[host])
    }

    /// A host's address with its port, as `--rate` names it.
    pub fn address(&self, host: &str) -> &str {
        self.urls[host].trim_start_matches("http://")
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id().expect("it has not been waited for")
    }

    /// All that it counted.
    pub async fn report(&self) -> Report {
        self.get("/report").await
    }

    /// When requests for anything but robots.txt arrived, by host, in microseconds since the origin's start.
    pub async fn arrivals(&self) -> BTreeMap<String, Vec<u64>> {
        self.get("/arrivals").await
    }

    /// Requests that arrived at all hosts.
    pub async fn requests(&self) -> u64 {
        self.get("/requests").await
    }

    /// Counts from zero again, on all hosts.
    pub async fn reset(&self) {
        let _: bool = self.ask("POST", "/reset").await;
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> T {
        self.ask("GET", path).await
    }

    async fn ask<T: DeserializeOwned>(&self, method: &str, path: &str) -> T {
        let stream = TcpStream::connect(&self.admin).await.unwrap();
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        let mut conversation = JoinSet::new();
        conversation.spawn(connection);
        let request = Request::builder().method(method).uri(path).header("host", &self.admin);
        let response = sender.send_request(request.body(Empty::<Bytes>::new()).unwrap()).await.unwrap();
        let text = response.into_body().collect().await.unwrap().to_bytes();
        serde_json::from_slice(&text).unwrap()
    }
}

/// A program of this package, which cargo builds before its tests: `target/PROFILE/NAME`.
pub fn beside_the_test(name: &str) -> PathBuf {
    // target/PROFILE/deps/TEST-HASH
    let test = std::env::current_exe().unwrap();
    test.ancestors().nth(2).unwrap().join(name)
}
