//! Nodes, and where something listens.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use serde::{Deserialize, Serialize};

/// A host and a port at which something listens; shown as `host:port`, an IPv6 address in brackets.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Address {
    /// A host name or an IP address, the latter without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl Address {
    /// An address, not checked yet.
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        Self { host: host.into(), port }
    }

    pub(super) fn is_loopback(&self) -> bool {
        self.host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.parse::<Ipv6Addr>() {
            Ok(ip) => write!(f, "[{ip}]:{}", self.port),
            Err(_) => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

/// Some ranks on one host: a machine, a pod, or a part of either.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// What the other nodes reach it by: a host name or an IP address. Several nodes may share a host.
    pub host: String,
    /// How many ranks it has.
    pub ranks: usize,
    /// What its ranks do: `ROLE_NAME` of torchrun, the task type of TensorFlow.
    #[serde(default = "default_role")]
    pub role: String,
    /// Where its ranks listen, one port each, for frameworks in which every rank does (TensorFlow, Paddle). Empty where
    /// that is counted up from the job's port, which a launcher of local processes, that asks for free ports, can't do.
    #[serde(default)]
    pub ports: Vec<u16>,
}

fn default_role() -> String {
    Node::DEFAULT_ROLE.to_owned()
}

impl Node {
    /// The role where nobody says one, as torchrun names it.
    pub const DEFAULT_ROLE: &str = "default";

    /// So many ranks on a host.
    pub fn new(host: impl Into<String>, ranks: usize) -> Self {
        Self { host: host.into(), ranks, role: default_role(), ports: Vec::new() }
    }

    /// What its ranks do.
    #[must_use]
    pub fn role(mut self, role: impl Into<String>) -> Self {
        self.role = role.into();
        self
    }

    /// Where its ranks listen, one port each.
    #[must_use]
    pub fn ports(mut self, ports: impl IntoIterator<Item = u16>) -> Self {
        self.ports = ports.into_iter().collect();
        self
    }
}
