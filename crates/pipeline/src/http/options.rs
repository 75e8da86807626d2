//! What the HTTP pipeline is told. Everything has a safe default.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use url::Url;

use super::address::Network;

/// How files lie in the output folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Layout {
    /// All in the folder itself.
    #[default]
    Flat,
    /// Two levels of folders, `ab/cd/`, from the hash of the artifact's key: for more files than a folder bears.
    Sharded,
}

/// The settings of an [`HttpPipeline`](crate::HttpPipeline).
#[derive(Debug, Clone)]
pub struct HttpOptions {
    /// Where files and the manifest go. Created if it is not there. Default: `downloads`.
    pub output_dir: PathBuf,
    /// Where the manifest goes. Default: `manifest.jsonl` in the output folder.
    pub manifest: Option<PathBuf>,
    /// How files lie in the output folder. Default: flat.
    pub layout: Layout,
    /// Whether files of the same content are stored once, each further name as a hard link to the first. Default: false.
    pub dedupe: bool,
    /// Who is asked where an artifact is, in this order. Default: [`HttpPipeline::RESOLVERS`](crate::HttpPipeline::RESOLVERS).
    pub resolvers: Vec<String>,
    /// A mail address that hosts may complain to; goes into the User-Agent. Default: none.
    pub contact: Option<String>,
    /// Networks that may be contacted although they are not public. Default: none.
    pub allow_networks: Vec<Network>,
    /// For the name's look-up, and once more for the connection with its handshake. Default: 5 s.
    pub connect_timeout: Duration,
    /// From the connection to the answer's head. Default: 30 s.
    pub first_byte_timeout: Duration,
    /// The longest silence within a body. Default: 30 s.
    pub idle_timeout: Duration,
    /// One try as a whole; what it has by then is resumed where the host allows it. Default: 1 h.
    pub whole_timeout: Duration,
    /// The largest file. One that is announced larger is not begun. Default: 2 GiB.
    pub max_bytes: u64,
    /// How many redirects are followed from one plan. Default: 10.
    pub max_redirects: u32,
    /// Whether robots.txt is asked before a page or an artifact, and obeyed. Default: true.
    pub robots: bool,
    /// How long one request for a robots.txt may take. Default: 5 s.
    pub robots_timeout: Duration,
    /// For how long a robots.txt is believed. Default: 1 h.
    pub robots_ttl: Duration,
    /// Whose jobs are fetched: keeps the parts of queues apart that share an output folder. Default: nobody's.
    pub queue_id: Option<String>,
    /// What the manifest's lines name as their run. Default: a random id.
    pub run_id: Option<String>,
    /// Headers for certain hosts, such as API keys. Default: none.
    pub headers: SecretHeaders,
    /// Whether `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY` are obeyed. Through a proxy names are looked up
    /// there, so the address policy is the proxy's; see [`HttpPipeline::proxies`](crate::HttpPipeline::proxies).
    /// Default: true.
    pub proxies_from_environment: bool,
    /// Names that are looked up to tell a host whose name does not resolve from a machine on which no name does.
    /// Default: `example.com` and `example.org`.
    pub probe_names: Vec<String>,
}

impl Default for HttpOptions {
    fn default() -> Self {
        Self {
            output_dir: PathBuf::from("downloads"),
            manifest: None,
            layout: Layout::default(),
            dedupe: false,
            resolvers: super::resolver::NAMES.iter().map(ToString::to_string).collect(),
            contact: None,
            allow_networks: Vec::new(),
            connect_timeout: Duration::from_secs(5),
            first_byte_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(30),
            whole_timeout: Duration::from_hours(1),
            max_bytes: 2 << 30,
            max_redirects: 10,
            robots: true,
            robots_timeout: Duration::from_secs(5),
            robots_ttl: Duration::from_hours(1),
            queue_id: None,
            run_id: None,
            headers: SecretHeaders::default(),
            proxies_from_environment: true,
            probe_names: vec!["example.com".to_owned(), "example.org".to_owned()],
        }
    }
}

/// Headers that only requests to one origin (scheme, host and port) carry: a redirect elsewhere, or from https to
/// http, leaves them behind. Their values never show in `Debug`.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct SecretHeaders {
    origins: BTreeMap<String, Vec<(String, String)>>,
}

impl SecretHeaders {
    /// Adds a header for the origin of a URL, e.g. `https://api.example.org`.
    pub fn insert(&mut self, origin: &Url, name: impl Into<String>, value: impl Into<String>) {
        let origin = origin.origin().ascii_serialization();
        self.origins.entry(origin).or_default().push((name.into(), value.into()));
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &[(String, String)])> {
        self.origins.iter().map(|(origin, headers)| (origin.as_str(), headers.as_slice()))
    }
}

impl fmt::Debug for SecretHeaders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.iter().map(|(origin, headers)| {
            let names: Vec<&str> = headers.iter().map(|(name, _)| name.as_str()).collect();
            (origin, names)
        });
        f.debug_map().entries(names).finish()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn no_secret_shows_in_debug() {
        let mut options = HttpOptions::default();
        let origin = Url::parse("https://api.example.org/v1/").unwrap();
        options.headers.insert(&origin, "Authorization", "Bearer hunter2");
        let shown = format!("{options:?}");
        assert!(!shown.contains("hunter2"), "{shown}");
        assert!(shown.contains("https://api.example.org") && shown.contains("Authorization"), "{shown}");
    }
}
