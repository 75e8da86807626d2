//! Names and addresses: which addresses a name has, which of them may be contacted, and whether names resolve at all.

use std::fmt::{self, Debug};
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use reqwest::dns;

use super::address::{AddressPolicy, Refused};

/// Looks names up.
#[async_trait]
pub(super) trait Lookup: Debug + Send + Sync + 'static {
    /// The addresses of a name.
    async fn lookup(&self, name: &str) -> io::Result<Vec<IpAddr>>;

    /// Whether this machine has a way to anywhere.
    fn has_route(&self) -> bool;
}

/// The system's own resolver.
#[derive(Debug, Clone, Copy)]
pub(super) struct SystemLookup;

#[async_trait]
impl Lookup for SystemLookup {
    async fn lookup(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        Ok(tokio::net::lookup_host((name, 0)).await?.map(|address| address.ip()).collect())
    }

    fn has_route(&self) -> bool {
        // Connecting a datagram socket only chooses a route; nothing is sent. The addresses are root name servers'.
        let reaches =
            |from: &str, to: &str| UdpSocket::bind(from).and_then(|socket| socket.connect(to)).is_ok();
        reaches("0.0.0.0:0", "198.41.0.4:53") || reaches("[::]:0", "[2001:503:ba3e::2:30]:53")
    }
}

/// Why a name has no address, as far as the system tells.
#[derive(Debug, thiserror::Error)]
#[error("{name} does not resolve: {source}")]
pub(super) struct Unresolved {
    name: String,
    source: io::Error,
}

impl Unresolved {
    /// Whether the name servers did not answer, rather than that there is no such name.
    pub(super) fn is_temporary(&self) -> bool {
        is_temporary(&self.source)
    }
}

/// The standard library has no kind for this error; the texts are those of glibc, musl and macOS.
fn is_temporary(error: &io::Error) -> bool {
    let text = error.to_string();
    text.contains("Temporary failure in name resolution")
        || text.contains("Try again")
        || matches!(error.kind(), io::ErrorKind::NetworkUnreachable | io::ErrorKind::TimedOut)
}

/// What this process knows about names.
#[derive(Debug)]
pub(super) struct Names {
    lookup: Arc<dyn Lookup>,
    /// How long a look-up may take. Name servers that are out of reach are silent, and silence has to be told from
    /// a host's that does not let us connect.
    limit: Duration,
    probes: Vec<String>,
    /// Whether a request to a name was answered since the last time that names were doubted.
    worked: AtomicBool,
}

impl Names {
    pub(super) fn new(lookup: Arc<dyn Lookup>, limit: Duration, probes: Vec<String>) -> Self {
        Self { lookup, limit, probes, worked: AtomicBool::new(false) }
    }

    async fn lookup(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        let silent = |_| io::Error::new(io::ErrorKind::TimedOut, "the name servers do not answer");
        tokio::time::timeout(self.limit, self.lookup.lookup(name)).await.map_err(silent)?
    }

    /// A request to a name was answered.
    pub(super) fn worked(&self) {
        self.worked.store(true, Ordering::Relaxed);
    }

    /// Whether any name resolves. That one does not is its host's affair; that none does is this machine's.
    pub(super) async fn work(&self) -> bool {
        if self.worked.swap(false, Ordering::Relaxed) {
            return true;
        }
        if !self.lookup.has_route() {
            return false;
        }
        for probe in &self.probes {
            // That there is no such name is an answer too.
            if self.lookup(probe).await.err().is_none_or(|error| !is_temporary(&error)) {
                return true;
            }
        }
        false
    }

    /// Whether this machine has a way to anywhere.
    pub(super) fn has_route(&self) -> bool {
        self.lookup.has_route()
    }
}

/// The HTTP client's resolver: gives it the addresses that may be contacted, and no others. It connects to one of
/// these, so a name that changes its address afterwards gains nothing.
pub(super) struct Resolve {
    names: Arc<Names>,
    policy: Arc<AddressPolicy>,
    /// The proxies' names, which the operator has chosen.
    trusted: Arc<Vec<String>>,
}

impl Resolve {
    pub(super) fn new(names: Arc<Names>, policy: AddressPolicy, trusted: Vec<String>) -> Self {
        Self { names, policy: Arc::new(policy), trusted: Arc::new(trusted) }
    }
}

impl Debug for Resolve {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolve").field("policy", &self.policy).finish_non_exhaustive()
    }
}

impl dns::Resolve for Resolve {
    fn resolve(&self, name: dns::Name) -> dns::Resolving {
        let (names, policy) = (Arc::clone(&self.names), Arc::clone(&self.policy));
        let trusted = Arc::clone(&self.trusted);
        Box::pin(async move {
            let name = name.as_str();
            let found =
                names.lookup(name).await.map_err(|source| Unresolved { name: name.to_owned(), source })?;
            let any = found.first().copied();
            let trusted = trusted.iter().any(|one| one == name);
            let open: Vec<SocketAddr> = found
                .into_iter()
                .filter(|address| trusted || policy.permits(*address))
                // Port 0 stands for the URL's own.
                .map(|address| SocketAddr::new(address, 0))
                .collect();
            if open.is_empty()
                && let Some(address) = any
            {
                let why = format!("{name} is at {address}, which is not a public address");
                return Err(Refused(why).into());
            }
            let addresses: dns::Addrs = Box::new(open.into_iter());
            Ok(addresses)
        })
    }
}
