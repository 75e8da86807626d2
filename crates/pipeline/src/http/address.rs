//! Whom we may contact: public addresses, and networks that the operator allows.
//!
//! A URL is data from outside. Without this, a record or a redirect could make this machine ask its own services,
//! its neighbours or its cloud's metadata address for their secrets.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use url::{Host, Url};

/// A network in CIDR notation: `10.0.0.0/8`, `fd00::/8`; an address alone is a network of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

impl Network {
    /// A network of all addresses that share the first `prefix` bits with this one.
    ///
    /// # Errors
    /// If the prefix is longer than the address.
    pub fn new(address: IpAddr, prefix: u8) -> Result<Self, NetworkError> {
        let bits = if address.is_ipv4() { 32 } else { 128 };
        if prefix > bits {
            return Err(NetworkError::NoNetwork(format!("{address}/{prefix}")));
        }
        Ok(Self { address, prefix })
    }

    /// Its first address: the one with no bit set beyond the prefix.
    fn first(&self) -> IpAddr {
        match self.address {
            IpAddr::V4(address) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.prefix)).unwrap_or(0);
                IpAddr::V4(Ipv4Addr::from_bits(address.to_bits() & mask))
            }
            IpAddr::V6(address) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.prefix)).unwrap_or(0);
                IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & mask))
            }
        }
    }

    /// Whether an address is in it. IPv4 and IPv6 networks have no address in common.
    pub fn contains(&self, address: IpAddr) -> bool {
        let shift = |bits: u32| bits - u32::from(self.prefix);
        match (self.address, address) {
            (IpAddr::V4(ours), IpAddr::V4(theirs)) => {
                // A shift by all bits gives `None`, and then there is nothing to compare.
                let kept = |address: Ipv4Addr| address.to_bits().checked_shr(shift(32));
                kept(ours) == kept(theirs)
            }
            (IpAddr::V6(ours), IpAddr::V6(theirs)) => {
                let kept = |address: Ipv6Addr| address.to_bits().checked_shr(shift(128));
                kept(ours) == kept(theirs)
            }
            _ => false,
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl FromStr for Network {
    type Err = NetworkError;
    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let wrong = || NetworkError::NoNetwork(text.to_owned());
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix.parse().map_err(|_| wrong())?)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let whole = if address.is_ipv4() { 32 } else { 128 };
        let network = Self::new(address, prefix.unwrap_or(whole)).map_err(|_| wrong())?;
        // Somebody who means one machine must not open all of its neighbours.
        match network.first() {
            first if first == address => Ok(network),
            first => Err(NetworkError::HostBits {
                text: text.to_owned(),
                address,
                whole: Self { address: first, ..network },
            }),
        }
    }
}

/// Why a text is not a network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NetworkError {
    /// It is written in another way.
    #[error("{0:?} is not a network; write it as 192.0.2.0/24 or 2001:db8::/32")]
    NoNetwork(String),
    /// It names a machine and a network around it, so it is not clear which of the two is meant.
    #[error(
        "{text:?} is an address within a network; write {whole} for the whole network, or {address} for that address alone"
    )]
    HostBits {
        /// What stands there.
        text: String,
        /// The address in it.
        address: IpAddr,
        /// The network around it.
        whole: Network,
    },
}

/// Why a URL must not be asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct Refused(pub(super) String);

/// The addresses that may be contacted.
#[derive(Debug, Clone, Default)]
pub(super) struct AddressPolicy {
    allowed: Vec<Network>,
}

impl AddressPolicy {
    pub(super) fn new(allowed: Vec<Network>) -> Self {
        Self { allowed }
    }

    /// Whether an address may be contacted.
    pub(super) fn permits(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        if self.allowed.iter().any(|network| network.contains(address)) {
            return true;
        }
        match address {
            IpAddr::V4(address) => is_public_v4(address),
            IpAddr::V6(address) => match embedded_v4(address) {
                Some(inner) => self.permits(IpAddr::V4(inner)),
                None => is_public_v6(address),
            },
        }
    }

    /// Checks what can be known of a URL before its name is looked up: its scheme, and its host if that is an
    /// address, which no name resolver ever sees.
    pub(super) fn check(&self, url: &Url) -> Result<(), Refused> {
        if !matches!(url.scheme(), "http" | "https") {
            return Err(Refused(format!("a {}: URL is not fetched, only http and https are", url.scheme())));
        }
        let address = match url.host() {
            Some(Host::Ipv4(address)) => IpAddr::V4(address),
            Some(Host::Ipv6(address)) => IpAddr::V6(address),
            Some(Host::Domain(_)) => return Ok(()),
            None => return Err(Refused("the URL names no host".to_owned())),
        };
        if self.permits(address) {
            return Ok(());
        }
        Err(Refused(format!("{address} is not a public address; allow its network to fetch from there")))
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    // "This network", private, loopback, link-local (and the clouds' metadata), multicast and reserved.
    let local = matches!((a, b), (0 | 10 | 127 | 224.., _) | (169, 254) | (172, 16..=31) | (192, 168));
    // Carrier-grade NAT, benchmarks.
    let shared = matches!((a, b), (100, 64..=127) | (198, 18 | 19));
    // Protocol assignments, documentation, 6to4 relays.
    let reserved = matches!((a, b, c), (192, 0, 0 | 2) | (198, 51, 100) | (203, 0, 113) | (192, 88, 99));
    !local && !shared && !reserved
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let [first, second, ..] = address.segments();
    // Only 2000::/3 is handed out as global unicast; loopback, unique-local, link-local, site-local, multicast and
    // the discard prefix are all outside.
    let global = first & 0xe000 == 0x2000;
    let special = match (first, second) {
        // Protocol assignments (Teredo, ORCHID, benchmarks) and documentation.
        (0x2001, 0..=0x1ff | 0xdb8) => true,
        (0x3fff, second) => second < 0x1000,
        _ => false,
    };
    global && !special
}

/// The IPv4 address that a translator would contact for this IPv6 address.
fn embedded_v4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let segments = address.segments();
    // NAT64, and 6to4.
    let ([0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..]) = segments else { return None };
    Some(Ipv4Addr::from(u32::from(high) << 16 | u32::from(low)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn permits(allowed: &[&str], address: &str) -> bool {
        let allowed = allowed.iter().map(|network| network.parse().unwrap()).collect();
        AddressPolicy::new(allowed).permits(address.parse().unwrap())
    }

    #[test]
    fn what_is_not_public_is_not_contacted() {
        for address in [
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.0.1",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.1",
            "192.0.2.1",
            "192.168.0.1",
            "198.18.0.1",
            "198.51.100.7",
            "203.0.113.9",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::127.0.0.1",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b:1::1",
            "2002:7f00:1::",
            "2002:a9fe:a9fe::1",
            "2001::1",
            "2001:db8::1",
            "3fff::1",
            "fc00::1",
            "fd12::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "100::1",
        ] {
            assert!(!permits(&[], address), "{address}");
        }
    }

    #[test]
    fn what_is_public_is() {
        for address in [
            "8.8.8.8",
            "100.63.0.1",
            "172.32.0.1",
            "192.0.1.1",
            "::ffff:8.8.8.8",
            "2606:4700::1111",
            "2001:4860::8888",
            "64:ff9b::808:808",
            "2002:808:808::1",
        ] {
            assert!(permits(&[], address), "{address}");
        }
    }

    #[test]
    fn an_operator_allows_networks() {
        assert!(permits(&["127.0.0.0/8"], "127.0.1.1"));
        assert!(permits(&["127.0.0.0/8"], "::ffff:127.0.1.1"));
        assert!(!permits(&["127.0.1.0/24"], "127.0.2.1"));
        assert!(permits(&["127.0.1.7"], "127.0.1.7"));
        assert!(!permits(&["127.0.1.7"], "127.0.1.8"));
        assert!(permits(&["fd00::/8"], "fd00::1") && !permits(&["fd00::/8"], "fe80::1"));
        assert!(permits(&["0.0.0.0/0"], "127.0.0.1") && !permits(&["0.0.0.0/0"], "::1"));
    }

    #[test]
    fn a_network_is_written_as_everybody_does() {
        for wrong in ["", "10.0.0.0/33", "::/129", "10.0.0/8", "10.0.0.0/", "10.0.0.0/-1", "host"] {
            assert!(wrong.parse::<Network>().is_err(), "{wrong:?}");
        }
        for (text, whole) in
            [("10.0.0.5/8", "10.0.0.0/8"), ("fd00::1/64", "fd00::/64"), ("10.0.0.5/0", "0.0.0.0/0")]
        {
            let said = text.parse::<Network>().unwrap_err().to_string();
            let alone = text.split('/').next().unwrap();
            assert!(said.contains(&format!("write {whole} for the whole network, or {alone} for")), "{said}");
        }
        for text in ["10.0.0.5/32", "::1/128", "0.0.0.0/0", "::/0"] {
            assert_eq!(text.parse::<Network>().unwrap().to_string(), text);
        }
        assert_eq!("10.0.0.0/8".parse::<Network>().unwrap().to_string(), "10.0.0.0/8");
        assert_eq!("::1".parse::<Network>().unwrap().to_string(), "::1/128");
    }

    #[test]
    fn a_url_is_checked_before_its_name_is_looked_up() {
        let policy = AddressPolicy::default();
        let check = |url: &str| policy.check(&Url::parse(url).unwrap());
        for refused in [
            "http://127.0.0.1/",
            "http://0x7f.1/",
            "http://2130706433/",
            "http://[::1]/",
            "http://[::ffff:7f00:1]/",
            "https://169.254.169.254/latest/meta-data",
            "file:///etc/passwd",
            "ftp://a.example/",
            "data:text/plain,x",
        ] {
            assert!(check(refused).is_err(), "{refused}");
        }
        assert!(check("https://a.example/").is_ok() && check("http://8.8.8.8/").is_ok());
    }
}
