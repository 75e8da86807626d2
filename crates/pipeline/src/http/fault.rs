//! What went wrong with a connection, and whose fault it is.

use std::error::Error;
use std::io;

use rustix::io::Errno;

use super::address::Refused;
use super::names::{Names, Unresolved};

/// Why there is no answer, or no end of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fault {
    /// The address policy forbids it.
    Refused(String),
    /// The name has no address.
    Name(String),
    /// This machine reaches nobody.
    NoNetwork(String),
    /// The connection took too long.
    Timeout(String),
    /// The handshake failed.
    Tls(String),
    /// The connection failed or was cut.
    Connection(String),
}

/// Judges an error of the HTTP client. May look up a name or two, to tell a dead name from a dead network.
pub(super) async fn of(error: &reqwest::Error, names: &Names) -> Fault {
    let detail = innermost(error);
    if let Some(refused) = find::<Refused>(error) {
        return Fault::Refused(refused.0.clone());
    }
    if let Some(unresolved) = find::<Unresolved>(error) {
        let detail = unresolved.to_string();
        if unresolved.is_temporary() && !names.work().await {
            return Fault::NoNetwork(format!("{detail}; no other name does either"));
        }
        return Fault::Name(detail);
    }
    let used_up = find::<io::Error>(error).and_then(Errno::from_io_error);
    if used_up.is_some_and(|code| [Errno::MFILE, Errno::NFILE, Errno::NOBUFS].contains(&code)) {
        return Fault::NoNetwork(format!("{detail}; this machine opens no more connections for this run"));
    }
    let unreachable =
        find::<io::Error>(error).is_some_and(|error| error.kind() == io::ErrorKind::NetworkUnreachable);
    if unreachable && !names.has_route() {
        return Fault::NoNetwork(format!("{detail}; this machine has no route"));
    }
    if error.is_timeout() {
        return Fault::Timeout(detail);
    }
    if error.is_connect() && is_tls(&detail) {
        return Fault::Tls(detail);
    }
    Fault::Connection(detail)
}

/// The TLS library is the HTTP client's own affair, so its errors are known by their words.
fn is_tls(detail: &str) -> bool {
    let detail = detail.to_lowercase();
    ["certificate", "handshake", "tls", "ssl"].iter().any(|word| detail.contains(word))
}

/// The message of what lies deepest: the outer ones only say that a request failed, and name its URL, which may
/// hold secrets.
fn innermost(error: &reqwest::Error) -> String {
    let mut deepest: &dyn Error = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    if error.source().is_none() { "the request failed".to_owned() } else { deepest.to_string() }
}

fn find<'a, T: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a T> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<T>() {
            return Some(found);
        }
        next = error.source();
    }
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]
    use std::net::IpAddr;
    use std::sync::Arc;
    use std::time::Duration;

    use async_trait::async_trait;
    use reqwest::dns::{Name, Resolve as _};
    use url::Url;

    use super::super::address::AddressPolicy;
    use super::super::client::{Ask, Client};
    use super::super::names::{Lookup, Resolve};
    use super::super::options::HttpOptions;
    use super::*;
    use crate::Expect;

    /// Name servers that know a few names by heart.
    #[derive(Debug, Default)]
    struct Known {
        /// What each name has; a name that is not here has no answer at all.
        names: Vec<(&'static str, Vec<&'static str>)>,
        has_route: bool,
        /// Whether that takes for ever to be found out.
        silent: bool,
    }

    #[async_trait]
    impl Lookup for Known {
        async fn lookup(&self, name: &str) -> io::Result<Vec<IpAddr>> {
            let temporary = "failed to lookup address information: Temporary failure in name resolution";
            let found = self.names.iter().find(|(known, _)| *known == name);
            if found.is_none() && self.silent {
                return std::future::pending().await;
            }
            let (_, addresses) = found.ok_or_else(|| io::Error::other(temporary))?;
            if addresses.is_empty() {
                return Err(io::Error::other(
                    "failed to lookup address information: Name or service not known",
                ));
            }
            Ok(addresses.iter().map(|address| address.parse().unwrap()).collect())
        }

        fn has_route(&self) -> bool {
            self.has_route
        }
    }

    fn client(known: Known) -> Client {
        let options = HttpOptions {
            allow_networks: vec!["127.0.1.0/24".parse().unwrap()],
            proxies_from_environment: false,
            probe_names: vec!["probe.example".to_owned()],
            ..HttpOptions::default()
        };
        Client::new(&options, Arc::new(known)).unwrap()
    }

    /// What asking `a.example`, where nobody listens, comes to.
    async fn fault(known: Known) -> Fault {
        let client = client(known);
        let url = Url::parse("http://a.example:1/").unwrap();
        let ask = Ask { url: &url, referer: None, expect: Expect::Any, rest: None };
        let error = client.send(&ask, Duration::ZERO).await.expect_err("nobody listens there");
        client.fault(&error).await
    }

    #[tokio::test]
    async fn a_name_that_does_not_exist_is_its_own_affair() {
        let known = Known { names: vec![("a.example", vec![])], has_route: true, ..Known::default() };
        assert!(
            matches!(fault(known).await, Fault::Name(detail) if detail.contains("a.example does not resolve"))
        );
    }

    #[tokio::test]
    async fn a_name_whose_servers_are_silent_is_not_the_network_while_another_resolves() {
        for probe in [vec!["192.0.2.1"], vec![]] {
            let known = Known { names: vec![("probe.example", probe)], has_route: true, ..Known::default() };
            assert!(matches!(fault(known).await, Fault::Name(_)));
        }
    }

    #[tokio::test]
    async fn when_no_name_resolves_the_network_is_gone() {
        assert!(matches!(fault(Known { has_route: true, ..Known::default() }).await, Fault::NoNetwork(_)));
        let known = Known { names: vec![("probe.example", vec!["192.0.2.1"])], ..Known::default() };
        assert!(matches!(fault(known).await, Fault::NoNetwork(_)));
    }

    #[tokio::test]
    async fn silent_name_servers_are_no_silent_host() {
        let known = Known { has_route: true, silent: true, ..Known::default() };
        tokio::time::pause();
        assert!(matches!(fault(known).await, Fault::NoNetwork(_)));
    }

    #[tokio::test]
    async fn a_name_is_checked_by_its_address() {
        let at = |address| Known {
            names: vec![("a.example", vec![address])],
            has_route: true,
            ..Known::default()
        };
        for inside in ["127.0.0.1", "10.0.0.1", "169.254.169.254", "::1", "fd00::1"] {
            assert!(matches!(fault(at(inside)).await, Fault::Refused(_)), "{inside}");
        }
        // Allowed, and nobody listens.
        assert!(matches!(fault(at("127.0.1.9")).await, Fault::Connection(_)));
    }

    #[tokio::test]
    async fn of_several_addresses_only_the_open_ones_are_connected_to() {
        let known = Known {
            names: vec![("a.example", vec!["10.0.0.1", "8.8.8.8"])],
            has_route: true,
            ..Known::default()
        };
        let names = Arc::new(Names::new(Arc::new(known), Duration::from_secs(5), Vec::new()));
        let resolve = Resolve::new(names, AddressPolicy::default(), Vec::new());
        let name: Name = "a.example".parse().unwrap();
        let found: Vec<String> = resolve.resolve(name).await.unwrap().map(|a| a.ip().to_string()).collect();
        assert_eq!(found, ["8.8.8.8"]);
    }
}
