//! A client that takes HTTP apart by hand, so that a test sees the bytes and the end of a connection as they came.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]
#![allow(dead_code, reason = "each test file uses its part")]

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use longhaul_origin::Origin;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// How an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// As its framing says.
    Complete,
    /// The connection was closed in order (FIN).
    Closed,
    /// The connection was reset (RST).
    Reset,
}

/// What came back. Without a head the status is 0.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) status: u16,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
    pub(crate) end: End,
}

impl Answered {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

/// A connection to a host.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    pub(crate) async fn open(origin: &Origin, host: &str) -> Self {
        Self::to(&origin.address(host).to_string()).await
    }

    pub(crate) async fn to(address: &str) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, buffer: Vec::new() }
    }

    pub(crate) async fn send(&mut self, method: &str, path: &str, headers: &[(&str, &str)]) {
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: test\r\n");
        for &(name, value) in headers {
            head.extend([name, ": ", value, "\r\n"]);
        }
        head.push_str("\r\n");
        self.stream.write_all(head.as_bytes()).await.unwrap();
    }

    pub(crate) async fn post(&mut self, path: &str, body: &str) {
        self.send("POST", path, &[("Content-Length", &body.len().to_string())]).await;
        self.stream.write_all(body.as_bytes()).await.unwrap();
    }

    pub(crate) async fn get(&mut self, path: &str, headers: &[(&str, &str)]) -> Answered {
        self.send("GET", path, headers).await;
        self.answer(true).await
    }

    pub(crate) async fn head(&mut self, path: &str) -> Answered {
        self.send("HEAD", path, &[]).await;
        self.answer(false).await
    }

    /// Reads whatever is there into the buffer; the end of the connection as what it is.
    async fn more(&mut self) -> Option<End> {
        match self.stream.read_buf(&mut self.buffer).await {
            Ok(0) => Some(End::Closed),
            Ok(_) => None,
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Some(End::Reset),
            Err(error) => panic!("{error}"),
        }
    }

    /// Reads one answer.
    pub(crate) async fn answer(&mut self, has_body: bool) -> Answered {
        let mut answered =
            Answered { status: 0, headers: BTreeMap::new(), body: Vec::new(), end: End::Complete };
        let head_end = loop {
            if let Some(at) = self.buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                break at;
            }
            if let Some(end) = self.more().await {
                return Answered { end, ..answered };
            }
        };
        let head: Vec<u8> = self.buffer.drain(..head_end + 4).collect();
        let head = String::from_utf8(head).unwrap();
        let mut lines = head.trim_end().split("\r\n");
        answered.status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        for line in lines {
            let (name, value) = line.split_once(": ").unwrap();
            answered.headers.insert(name.to_lowercase(), value.to_owned());
        }
        if !has_body || answered.status == 304 {
            return answered;
        }
        if answered.header("transfer-encoding") == Some("chunked") {
            self.chunks(&mut answered).await;
        } else {
            let length = answered.header("content-length").map_or(0, |length| length.parse().unwrap());
            while self.buffer.len() < length && answered.end == End::Complete {
                answered.end = self.more().await.unwrap_or(End::Complete);
            }
            let count = length.min(self.buffer.len());
            answered.body = self.buffer.drain(..count).collect();
        }
        answered
    }

    async fn chunks(&mut self, answered: &mut Answered) {
        loop {
            while !self.buffer.windows(2).any(|two| two == b"\r\n") {
                if let Some(end) = self.more().await {
                    answered.end = end;
                    return;
                }
            }
            let at = self.buffer.windows(2).position(|two| two == b"\r\n").unwrap();
            let line: Vec<u8> = self.buffer.drain(..at + 2).collect();
            let size = usize::from_str_radix(std::str::from_utf8(&line[..at]).unwrap(), 16).unwrap();
            while self.buffer.len() < size + 2 {
                if let Some(end) = self.more().await {
                    answered.end = end;
                    return;
                }
            }
            answered.body.extend(self.buffer.drain(..size));
            self.buffer.drain(..2);
            if size == 0 {
                return;
            }
        }
    }
}

/// One request on a connection of its own.
pub(crate) async fn get(origin: &Origin, host: &str, path: &str) -> Answered {
    Connection::open(origin, host).await.get(path, &[]).await
}

/// Bounds a wait for something that must happen soon.
pub(crate) async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), what).await.expect("it should have happened long ago")
}
