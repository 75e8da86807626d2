//! Lanes: which host a request presses on.
//!
//! A lane is a host key, made by [`host_key`] and, where configured, folded by [`Keying`] (registrable domain,
//! aliases). It carries no state; what a lane remembers is in the queue's store.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use url::{Host, Url};

/// The longest host key that is accepted, in bytes: a DNS name has at most 253, a port adds six.
const LANE_MAX_BYTES: usize = 300;

/// The host key that a job's next request presses on: `example.org`, `example.org:8443`, `[2001:db8::1]`.
///
/// The empty lane, [`Lane::NONE`], is for work that presses on nobody; it has neither cap nor pace.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Lane(String);

impl Lane {
    /// The lane of work that presses on no host.
    pub const NONE: Lane = Lane(String::new());

    /// A lane from its key as [`Lane::as_str`] gave it. Letters are lowered, nothing else is normalised.
    ///
    /// # Errors
    /// If the key holds white space, control characters, `/` or `@`, or is longer than a host can be.
    pub fn new(key: impl Into<String>) -> Result<Self, LaneError> {
        let mut key: String = key.into();
        if key.len() > LANE_MAX_BYTES {
            return Err(LaneError(format!("a lane of {} bytes is longer than any host name", key.len())));
        }
        if let Some(bad) = key.chars().find(|c| c.is_whitespace() || c.is_control() || "/@".contains(*c)) {
            return Err(LaneError(format!("{bad:?} is not part of a host name")));
        }
        key.make_ascii_lowercase();
        Ok(Self(key))
    }

    /// The key as text; empty for [`Lane::NONE`].
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is [`Lane::NONE`].
    pub fn is_none(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_none() { "(no host)" } else { &self.0 })
    }
}

impl fmt::Debug for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lane({:?})", self.0)
    }
}

impl Borrow<str> for Lane {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Lane {
    type Error = LaneError;
    fn try_from(key: String) -> Result<Self, LaneError> {
        Self::new(key)
    }
}

impl From<Lane> for String {
    fn from(lane: Lane) -> Self {
        lane.0
    }
}

/// Why a text is not a lane, or a URL has none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct LaneError(String);

/// What a request is for; a host may have another pace for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// A resolver's API call.
    Metadata,
    /// A page that is read for the link to the artifact; also robots.txt.
    Landing,
    /// The artifact itself.
    Artifact,
}

impl Role {
    /// All roles, in the order of their codes.
    pub const ALL: [Role; 3] = [Role::Metadata, Role::Landing, Role::Artifact];

    /// The role's name, as stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Metadata => "metadata",
            Role::Landing => "landing",
            Role::Artifact => "artifact",
        }
    }

    /// The role of a name that [`Role::as_str`] gave.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == name)
    }
}

/// The host key of a URL: lower case, IDNA as ASCII, default port dropped, user info never kept, IPv6 in
/// brackets, trailing dot removed.
///
/// ```
/// # use longhaul_limiter::host_key;
/// let url = url::Url::parse("https://User:pw@Exämple.ORG.:443/a.pdf").unwrap();
/// assert_eq!(host_key(&url).unwrap().as_str(), "xn--exmple-cua.org");
/// ```
///
/// # Errors
/// If the URL has no host (`file:`, `data:`, `mailto:`).
pub fn host_key(url: &Url) -> Result<Lane, LaneError> {
    let host = match url.host() {
        Some(Host::Domain(name)) => name.trim_end_matches('.').to_ascii_lowercase(),
        Some(Host::Ipv4(address)) => address.to_string(),
        Some(Host::Ipv6(address)) => format!("[{address}]"),
        None => String::new(),
    };
    if host.is_empty() {
        return Err(LaneError(format!("a {}: URL names no host", url.scheme())));
    }
    // `Url::port` is None for the scheme's default port.
    Lane::new(match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host,
    })
}

/// How hosts become lanes. Stored in the queue: all processes on one queue must key alike, or a cap would be
/// counted under two names.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Keying {
    /// Fold every host into its registrable domain (`cdn.example.co.uk` → `example.co.uk`).
    pub registrable_domain: bool,
    /// Hosts that count as another one: `export.arxiv.org` → `arxiv.org`.
    pub aliases: BTreeMap<Lane, Lane>,
}

impl Keying {
    /// The lane of a URL.
    ///
    /// # Errors
    /// As [`host_key`].
    pub fn lane(&self, url: &Url) -> Result<Lane, LaneError> {
        let key = host_key(url)?;
        if let Some(lane) = self.aliases.get(&key) {
            return Ok(lane.clone());
        }
        if self.registrable_domain
            && let Some(Host::Domain(name)) = url.host()
            && let Some(domain) = psl::domain_str(name.trim_end_matches('.'))
        {
            let folded = match url.port() {
                Some(port) => format!("{domain}:{port}"),
                None => domain.to_owned(),
            };
            return Lane::new(folded);
        }
        Ok(key)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn check(url: &str, expect: &str) {
        assert_eq!(host_key(&Url::parse(url).unwrap()).unwrap().as_str(), expect, "{url}");
    }

    #[test]
    fn host_key_normalises() {
        check("HTTP://Example.ORG/x", "example.org");
        check("https://example.org:443/", "example.org");
        check("http://example.org:443/", "example.org:443");
        check("https://u:p@example.org:8443/", "example.org:8443");
        check("https://example.org./", "example.org");
        check("https://[2001:DB8::1]/", "[2001:db8::1]");
        check("http://[::1]:8080/", "[::1]:8080");
        check("http://127.0.1.1:80/", "127.0.1.1");
        check("http://0x7f.1/", "127.0.0.1");
        check("https://bücher.example/", "xn--bcher-kva.example");
    }

    #[test]
    fn a_url_without_a_host_has_no_lane() {
        for url in ["file:///etc/passwd", "data:text/plain,x", "mailto:a@b.example"] {
            assert!(host_key(&Url::parse(url).unwrap()).is_err(), "{url}");
        }
    }

    #[test]
    fn a_lane_refuses_what_is_not_a_host() {
        for key in ["a b", "a/b", "u@h", "a\n", &"x".repeat(400)] {
            assert!(Lane::new(key).is_err(), "{key:?}");
        }
    }

    #[test]
    fn keying_folds_aliases_and_registrable_domains() {
        let mut keying = Keying::default();
        keying.aliases.insert(Lane::new("export.arxiv.org").unwrap(), Lane::new("arxiv.org").unwrap());
        let lane = |keying: &Keying, url: &str| keying.lane(&Url::parse(url).unwrap()).unwrap().to_string();
        assert_eq!(lane(&keying, "https://export.arxiv.org/pdf/1"), "arxiv.org");
        assert_eq!(lane(&keying, "https://cdn.example.co.uk/"), "cdn.example.co.uk");
        keying.registrable_domain = true;
        assert_eq!(lane(&keying, "https://cdn.example.co.uk:8443/"), "example.co.uk:8443");
        assert_eq!(lane(&keying, "http://127.0.1.1:9/"), "127.0.1.1:9");
    }
}
