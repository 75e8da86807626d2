//! The handle on a running origin, and how one is started and stopped.
//!
//! An origin lives on a thread and a runtime of its own: a test may block its runtime or pause its clock, and the
//! origin goes on answering in real time.

use std::collections::{BTreeMap, HashMap};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use std::{fmt, io, thread};

use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::{oneshot, watch};

use crate::admin;
use crate::behaviour::Behaviour;
use crate::body::Document;
use crate::clock::{self, Moment};
use crate::config::OriginConfig;
use crate::counts::{Arrival, Counts, HostReport, PathCounts, Report};
use crate::host::{Directory, Host};
use crate::serve::{self, Surroundings};
use crate::timer::Timer;

/// Where the counts can be read by another process.
const ADMIN: Ipv4Addr = Ipv4Addr::new(127, 0, 1, 254);
/// How many ports are tried before giving up.
const PORT_TRIES: usize = 64;
/// How many connections may wait to be accepted.
const BACKLOG: u32 = 1024;

/// A running origin. Dropping it stops it.
///
/// Methods that take a host's name panic if there is no such host: a wrong name is a mistake in the test.
///
/// ```
/// use longhaul_origin::{Answer, Behaviour, HostConfig, Origin, OriginConfig};
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
/// let origin = Origin::start(OriginConfig::new([
///     HostConfig::new("publisher").behaving(Behaviour::answering(Answer::after_ms(5)).tolerating_at_once(2)),
/// ]))
/// .await?;
/// assert!(origin.url("publisher", "/a.pdf").starts_with("http://127.0.1.1:"));
/// assert_eq!(origin.counts("publisher").requests, 0);
/// origin.shutdown().await;
/// # std::io::Result::Ok(())
/// # })?;
/// # std::io::Result::Ok(())
/// ```
pub struct Origin {
    inside: Arc<Inside>,
    stopped: watch::Receiver<bool>,
    thread: Option<thread::JoinHandle<()>>,
}

/// What the handle shares with the origin's thread.
pub(crate) struct Inside {
    started: Moment,
    pub(crate) directory: Arc<Directory>,
    pub(crate) hosts: BTreeMap<String, Arc<Host>>,
    stop: watch::Sender<bool>,
}

impl Origin {
    /// Starts an origin: binds each host's address and the admin address on one port, and serves them.
    ///
    /// The hosts' addresses are 127.0.1.1, 127.0.1.2, … in their order. It fails if two hosts have one name, or
    /// if the addresses cannot be bound.
    pub async fn start(config: OriginConfig) -> io::Result<Self> {
        let timer = Timer::start()?;
        let (ready, is_ready) = oneshot::channel();
        let (say_stopped, stopped) = watch::channel(false);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
        let thread = thread::Builder::new().name("origin".into()).spawn(move || {
            runtime.block_on(run(config, timer, ready));
            drop(runtime);
            say_stopped.send_replace(true);
        })?;
        let inside = is_ready.await.map_err(|_| io::Error::other("the origin's thread ended"))??;
        Ok(Self { inside, stopped, thread: Some(thread) })
    }

    /// The port of all addresses.
    pub fn port(&self) -> u16 {
        self.inside.directory.port
    }

    /// A host's address.
    pub fn address(&self, host: &str) -> SocketAddr {
        (self.host(host).address, self.port()).into()
    }

    /// The URL of a path (from its slash on) on a host.
    pub fn url(&self, host: &str, path: &str) -> String {
        format!("http://{}{path}", self.address(host))
    }

    /// The URL of a page of the admin address, e.g. `/report`.
    pub fn admin_url(&self, path: &str) -> String {
        format!("http://{ADMIN}:{}{path}", self.port())
    }

    /// The names of the hosts.
    pub fn hosts(&self) -> impl Iterator<Item = &str> {
        self.inside.hosts.keys().map(String::as_str)
    }

    /// The document that an honest answer on this path (without query) has now, by the behaviour of now.
    pub fn document(&self, host: &str, path: &str) -> Document {
        self.host(host).document(path)
    }

    /// All that was counted.
    pub fn report(&self) -> Report {
        self.inside.report()
    }

    /// All that one host counted.
    pub fn host_report(&self, host: &str) -> HostReport {
        let host = self.host(host);
        host.read(|tally| tally.report(&host.name, host.address))
    }

    /// One host's numbers. Cheaper than its report.
    pub fn counts(&self, host: &str) -> Counts {
        self.host(host).read(|tally| tally.counts)
    }

    /// How often a path (without query) was asked for.
    pub fn path_counts(&self, host: &str, path: &str) -> PathCounts {
        self.host(host).read(|tally| tally.path(path))
    }

    /// When a host's requests arrived, since the origin's start: those that its log still holds.
    pub fn arrivals(&self, host: &str) -> Vec<Duration> {
        self.host(host)
            .read(|tally| tally.log().map(|arrival| Duration::from_micros(arrival.at_us)).collect())
    }

    /// A host's log of arrivals.
    pub fn log(&self, host: &str) -> Vec<Arrival> {
        self.host(host).read(|tally| tally.log().cloned().collect())
    }

    /// Changes what a host does with requests that arrive from now on.
    pub fn set_behaviour(&self, host: &str, behaviour: Behaviour) {
        self.host(host).set_behaviour(behaviour);
    }

    /// Counts from zero again, on all hosts. Requests in flight, open connections and a closing go on, and how often
    /// a path was asked is forgotten, also for the schedule of faults.
    pub fn reset_counts(&self) {
        self.inside.reset_counts();
    }

    /// Waits until a host's numbers satisfy the condition, and returns them. It waits for ever if they never do: put
    /// a bound around it where that may be. Cancel safe.
    pub async fn wait_for(&self, host: &str, mut condition: impl FnMut(&Counts) -> bool) -> Counts {
        let host = self.host(host);
        let mut changes = host.changes();
        loop {
            let counts = host.read(|tally| tally.counts);
            if condition(&counts) {
                return counts;
            }
            if changes.changed().await.is_err() {
                return counts;
            }
        }
    }

    /// Waits until the origin has stopped, by whatever way.
    pub async fn stopped(&self) {
        let mut stopped = self.stopped.clone();
        // An error says that the thread is gone, which is what was waited for.
        let _gone = stopped.wait_for(|stopped| *stopped).await;
    }

    /// Stops: ends all connections and frees the addresses.
    pub async fn shutdown(self) {
        self.inside.stop();
        self.stopped().await;
    }

    #[allow(clippy::panic, reason = "a wrong name is a mistake in the test, which fails by panicking")]
    fn host(&self, name: &str) -> &Arc<Host> {
        match self.inside.hosts.get(name) {
            Some(host) => host,
            None => panic!("the origin has no host named {name:?}"),
        }
    }
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Origin").field("port", &self.port()).finish_non_exhaustive()
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.inside.stop();
        if let Some(thread) = self.thread.take() {
            // Nothing on that thread waits for this one, and a panic there has been printed.
            let _printed = thread.join();
        }
    }
}

impl Inside {
    pub(crate) fn report(&self) -> Report {
        let hosts = self
            .hosts
            .iter()
            .map(|(name, host)| (name.clone(), host.read(|tally| tally.report(&host.name, host.address))));
        Report {
            port: self.directory.port,
            started_unix_ms: self.started.unix_ms(),
            at_ms: clock::now().instant.saturating_duration_since(self.started.instant).as_millis() as u64,
            hosts: hosts.collect(),
        }
    }

    /// When requests for anything but robots.txt arrived at each host that saw one, in microseconds since the origin's
    /// start: those that its log still holds.
    pub(crate) fn artifact_arrivals(&self) -> BTreeMap<&str, Vec<u64>> {
        let arrivals = |host: &Arc<Host>| -> Vec<u64> {
            host.read(|tally| {
                let artifacts = tally.log().filter(|arrival| arrival.target != "/robots.txt");
                artifacts.map(|arrival| arrival.at_us).collect()
            })
        };
        let hosts = self.hosts.iter().map(|(name, host)| (name.as_str(), arrivals(host)));
        hosts.filter(|(_, arrivals)| !arrivals.is_empty()).collect()
    }

    /// Requests that arrived at all hosts.
    pub(crate) fn requests(&self) -> u64 {
        self.hosts.values().map(|host| host.read(|tally| tally.counts.requests)).sum()
    }

    pub(crate) fn reset_counts(&self) {
        for host in self.hosts.values() {
            host.record(crate::counts::Tally::reset);
        }
    }

    pub(crate) fn stop(&self) {
        self.stop.send_replace(true);
    }
}

/// The life of an origin, on its own thread.
async fn run(config: OriginConfig, timer: Timer, ready: oneshot::Sender<io::Result<Arc<Inside>>>) {
    let stop = watch::Sender::new(false);
    let mut stopping = stop.subscribe();
    match open(&config, timer, stop) {
        Ok(inside) => {
            if ready.send(Ok(inside)).is_ok() {
                let _gone = stopping.wait_for(|stop| *stop).await;
            }
        }
        Err(error) => {
            let _nobody_waits = ready.send(Err(error));
        }
    }
}

fn open(config: &OriginConfig, timer: Timer, stop: watch::Sender<bool>) -> io::Result<Arc<Inside>> {
    let started = clock::now();
    let hosts: Vec<Arc<Host>> = config
        .hosts
        .iter()
        .zip(0..)
        .map(|(host, place)| Arc::new(Host::new(host, address(place), started.instant, config)))
        .collect();
    let by_name: BTreeMap<String, Arc<Host>> =
        hosts.iter().map(|host| (host.name.clone(), Arc::clone(host))).collect();
    if by_name.len() != hosts.len() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "two hosts have the same name"));
    }
    let (port, listeners) = bind(&hosts, config)?;
    let addresses: HashMap<String, Ipv4Addr> =
        hosts.iter().map(|host| (host.name.clone(), host.address)).collect();
    let directory = Arc::new(Directory { port, addresses });
    let inside = Arc::new(Inside { started, directory: Arc::clone(&directory), hosts: by_name, stop });
    let around = Surroundings { directory: Arc::clone(&directory), timer: timer.clone() };
    match listeners {
        Listeners::Each { admin, hosts: listeners } => {
            for (host, listener) in hosts.into_iter().zip(listeners) {
                serve::spawn(serve::serve(host, listener, around.clone()));
            }
            serve::spawn(admin::serve(Arc::clone(&inside), admin, timer));
        }
        Listeners::One(listener) => {
            let hosts = hosts.into_iter().map(|host| (host.address, host)).collect();
            serve::spawn(serve_all(Arc::clone(&inside), hosts, listener, around));
        }
    }
    Ok(inside)
}

/// The address of the host at a place: 127.0.1.1 and on, 253 a network, so that 127.0.x.254 stays free.
fn address(place: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(Ipv4Addr::new(127, 0, 1, 1)) + place / 253 * 256 + place % 253)
}

/// Serves all hosts and the admin address on one socket for ever. Who connects to an address that none of them has is
/// sent away.
async fn serve_all(
    inside: Arc<Inside>,
    hosts: HashMap<Ipv4Addr, Arc<Host>>,
    listener: TcpListener,
    around: Surroundings,
) {
    let timer = around.timer.clone();
    serve::accept(listener, timer, |stream| match stream.local_addr() {
        Ok(SocketAddr::V4(address)) if *address.ip() == ADMIN => {
            serve::spawn(admin::converse(Arc::clone(&inside), stream));
        }
        Ok(SocketAddr::V4(address)) => {
            if let Some(host) = hosts.get(address.ip()) {
                serve::spawn(serve::converse(Arc::clone(host), stream, around.clone()));
            }
        }
        _ => {}
    })
    .await;
}

/// What an origin listens on.
enum Listeners {
    /// The admin address, and each host, in their order.
    Each { admin: TcpListener, hosts: Vec<TcpListener> },
    /// All of them at once.
    One(TcpListener),
}

/// Binds the admin address and all hosts on one port.
fn bind(hosts: &[Arc<Host>], config: &OriginConfig) -> io::Result<(u16, Listeners)> {
    let mut tries = 0;
    loop {
        tries += 1;
        let bound = bind_all(hosts, config.port.unwrap_or(0), config.one_socket);
        match bound {
            // A port that is free on the first address may be taken on another one: try the kernel's next.
            Err(error)
                if error.kind() == io::ErrorKind::AddrInUse
                    && config.port.is_none()
                    && tries < PORT_TRIES => {}
            bound => return bound,
        }
    }
}

fn bind_all(hosts: &[Arc<Host>], port: u16, one_socket: bool) -> io::Result<(u16, Listeners)> {
    if one_socket {
        let send_buffer_bytes = hosts.first().map(|host| host.send_buffer_bytes);
        let listener = listen(Ipv4Addr::UNSPECIFIED, port, send_buffer_bytes)?;
        return Ok((listener.local_addr()?.port(), Listeners::One(listener)));
    }
    let admin = listen(ADMIN, port, None)?;
    let port = admin.local_addr()?.port();
    let hosts: io::Result<Vec<TcpListener>> =
        hosts.iter().map(|host| listen(host.address, port, Some(host.send_buffer_bytes))).collect();
    Ok((port, Listeners::Each { admin, hosts: hosts? }))
}

fn listen(address: Ipv4Addr, port: u16, send_buffer_bytes: Option<u32>) -> io::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    if let Some(bytes) = send_buffer_bytes {
        // Accepted sockets inherit it.
        socket.set_send_buffer_size(bytes)?;
    }
    socket.bind((address, port).into())?;
    socket.listen(BACKLOG)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_skip_the_admin_address_and_the_ends_of_a_network() {
        let places = [0, 252, 253, 506];
        let addresses = places.map(|place| address(place).to_string());
        assert_eq!(addresses, ["127.0.1.1", "127.0.1.253", "127.0.2.1", "127.0.3.1"]);
    }
}
