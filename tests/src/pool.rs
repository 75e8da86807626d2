//! The rival of a makespan: a fair pool in memory, with nothing but workers, lanes and caps. It remembers nothing, writes
//! nothing and checks nothing, so that what it takes is what the hosts and the caps allow.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use http_body_util::{BodyExt as _, Empty};
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::JoinSet;

/// A host and what is wanted of it.
#[derive(Debug)]
pub struct Wanted {
    /// Where it is.
    pub address: SocketAddr,
    /// The paths, in order.
    pub paths: Vec<String>,
}

type Connection = SendRequest<Empty<Bytes>>;

struct Lane {
    address: SocketAddr,
    paths: VecDeque<String>,
    in_flight: usize,
    idle: Vec<Connection>,
}

struct Pool {
    lanes: Mutex<VecDeque<Lane>>,
    freed: Notify,
    cap: usize,
}

/// Fetches everything with so many workers, at most `cap` at once from a host, host after host in turn. Panics if a host
/// does not answer with 200.
pub async fn fair_pool(wanted: Vec<Wanted>, workers: usize, cap: usize) {
    let lane = |wanted: Wanted| Lane {
        address: wanted.address,
        paths: wanted.paths.into(),
        in_flight: 0,
        idle: Vec::new(),
    };
    let lanes = Mutex::new(wanted.into_iter().map(lane).collect());
    let pool = Arc::new(Pool { lanes, freed: Notify::new(), cap });
    let mut at_work = JoinSet::new();
    for _ in 0..workers {
        let pool = Arc::clone(&pool);
        at_work.spawn(async move { while pool.work().await {} });
    }
    while let Some(ended) = at_work.join_next().await {
        ended.unwrap();
    }
}

/// What a worker does next.
enum Turn {
    Fetch(SocketAddr, String, Option<Connection>),
    Wait,
    Over,
}

impl Pool {
    /// Fetches one thing or waits for a turn; false if nothing is left.
    async fn work(&self) -> bool {
        let freed = self.freed.notified();
        tokio::pin!(freed);
        // Before the look: what comes free after it is not missed.
        freed.as_mut().enable();
        match self.turn() {
            Turn::Fetch(address, path, connection) => {
                let connection = fetch(address, &path, connection).await;
                let mut lanes = self.lanes.lock().unwrap();
                if let Some(lane) = lanes.iter_mut().find(|lane| lane.address == address) {
                    lane.in_flight -= 1;
                    lane.idle.push(connection);
                }
                drop(lanes);
                self.freed.notify_waiters();
                true
            }
            Turn::Wait => {
                freed.await;
                true
            }
            Turn::Over => false,
        }
    }

    /// The next lane in turn that has something to do and may begin; it goes to the back.
    fn turn(&self) -> Turn {
        let mut lanes = self.lanes.lock().unwrap();
        if lanes.iter().all(|lane| lane.paths.is_empty()) {
            return Turn::Over;
        }
        let open = lanes.iter().position(|lane| !lane.paths.is_empty() && lane.in_flight < self.cap);
        let Some(mut lane) = open.and_then(|open| lanes.remove(open)) else { return Turn::Wait };
        let path = lane.paths.pop_front().expect("it is not empty");
        let (address, connection) = (lane.address, lane.idle.pop());
        lane.in_flight += 1;
        lanes.push_back(lane);
        Turn::Fetch(address, path, connection)
    }
}

async fn fetch(address: SocketAddr, path: &str, connection: Option<Connection>) -> Connection {
    let mut connection = match connection.filter(|idle| !idle.is_closed()) {
        Some(idle) => idle,
        None => connect(address).await,
    };
    connection.ready().await.unwrap();
    let request = hyper::Request::get(path).header("host", address.to_string()).body(Empty::new()).unwrap();
    let response = connection.send_request(request).await.unwrap();
    assert_eq!(response.status(), 200, "{path}");
    let _bytes = response.into_body().collect().await.unwrap();
    connection
}

#[allow(clippy::disallowed_methods, reason = "the connection's own task ends with the connection")]
async fn connect(address: SocketAddr) -> Connection {
    let stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let (sender, connection) = handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}
