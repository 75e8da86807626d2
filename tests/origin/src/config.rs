//! What an origin is started with.

use serde::{Deserialize, Serialize};

use crate::behaviour::{Answer, Behaviour};

/// A whole origin: its hosts and its bounds.
///
/// ```
/// let config: longhaul_origin::OriginConfig = serde_json::from_str(
///     r#"{"hosts": [
///         {"name": "slow", "behaviour": {"concurrency": {"most": 2}, "answer": {"latency_ms": 50}}},
///         {"name": "liar", "seed": 3, "behaviour": {"routes": [
///             {"prefix": "/login/", "answer": {"reply": "login_page"}},
///             {"prefix": "/flaky/", "answer": {"faults": [{"fault": {"status": {"status": 500}}, "every": 5}]}}
///         ]}}
///     ]}"#,
/// )?;
/// assert_eq!(config.hosts.len(), 2);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OriginConfig {
    /// The hosts, in the order of their addresses.
    pub hosts: Vec<HostConfig>,
    /// The port of all addresses. Absent, a port that is free on all of them is looked for.
    pub port: Option<u16>,
    /// How many arrivals a host's log keeps.
    pub log_capacity: usize,
    /// How many paths a host counts. Requests for further paths are answered, as a first ask each, and counted only
    /// in the totals.
    pub path_capacity: usize,
    /// One listening socket for all hosts, told apart by the address that a client connects to, instead of one each: a
    /// process may not have tens of thousands of files open. It is bound to every address of the machine and answers on
    /// those of the hosts alone. The first host's send buffer is everyone's.
    pub one_socket: bool,
}

impl Default for OriginConfig {
    fn default() -> Self {
        Self {
            hosts: Vec::new(),
            port: None,
            log_capacity: 10_000,
            path_capacity: 1 << 20,
            one_socket: false,
        }
    }
}

impl OriginConfig {
    /// An origin of these hosts.
    pub fn new(hosts: impl IntoIterator<Item = HostConfig>) -> Self {
        Self { hosts: hosts.into_iter().collect(), ..Self::default() }
    }
}

/// One host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostConfig {
    /// The name that tests know it by; on the wire it is an address.
    pub name: String,
    /// Chooses bodies, sizes and faults.
    #[serde(default)]
    pub seed: u64,
    /// How it behaves at first.
    #[serde(default)]
    pub behaviour: Behaviour,
    /// In which windows, beside one second, the peak of arrivals is counted.
    #[serde(default)]
    pub windows_ms: Vec<u64>,
    /// How long after the beginning of a closing a request is still forgiven, in milliseconds.
    #[serde(default = "default_grace")]
    pub closing_grace_ms: u64,
    /// The send buffer of the host's sockets in bytes (the kernel doubles it). Small, so that what the host has
    /// sent is close to what the client has read.
    #[serde(default = "default_send_buffer")]
    pub send_buffer_bytes: u32,
}

impl HostConfig {
    /// A patient, honest host.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            seed: 0,
            behaviour: Behaviour::default(),
            windows_ms: Vec::new(),
            closing_grace_ms: default_grace(),
            send_buffer_bytes: default_send_buffer(),
        }
    }

    /// A host that answers this on every path.
    pub fn answering(name: impl Into<String>, answer: Answer) -> Self {
        Self::new(name).behaving(Behaviour::answering(answer))
    }

    /// The same host with this behaviour.
    #[must_use]
    pub fn behaving(mut self, behaviour: Behaviour) -> Self {
        self.behaviour = behaviour;
        self
    }

    /// The same host with this seed.
    #[must_use]
    pub fn seeded(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }
}

fn default_grace() -> u64 {
    250
}

fn default_send_buffer() -> u32 {
    32 * 1024
}
