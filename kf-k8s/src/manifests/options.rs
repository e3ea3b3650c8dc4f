//! What a namespace is made after.

use super::Error;
use super::cidr::Cidr;
use crate::pod::is_label;
use crate::train::Kind;

/// What a namespace is made after.
///
/// As [`Options::new`] gives them, pods are held to `restricted`, the engine may make jobs of every kind that
/// [`discover`](crate::train::KubeLauncher::discover) may pick, and single pods, and pods reach nothing outside.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Options {
    /// The namespace; a DNS label that does not begin with `kube-`.
    pub namespace: String,
    /// The service account of the program that launches, and its role's name; a DNS label, and not `default`, which pods
    /// run under that name none.
    pub engine: String,
    /// The service account that pods are to run under; a DNS label, and not the engine's.
    pub task: String,
    /// The service account that pods of [Argo's Workflows](mod@crate::argo) are to run under, with Argo's right to write their
    /// results; a DNS label, and none of the others. Where not given, there is none.
    pub workflow: Option<String>,
    /// What the namespace lets pods do.
    pub pod_security: PodSecurity,
    /// The kinds of objects that a launcher carries jobs by; none where nothing launches jobs.
    pub kinds: Vec<Kind>,
    /// Whether the engine may make pods by themselves, with claims of storage, and follow their events, as what runs tasks as
    /// pods does.
    pub single_pods: bool,
    /// Whether the engine may make PodGroups, of scheduler-plugins and of Volcano, for jobs that are
    /// [gangs](crate::train::Gang).
    pub pod_groups: bool,
    /// What pods may reach outside the cluster's names and their jobs: object stores above all.
    pub egress: Vec<Endpoint>,
}

/// How much a namespace lets pods do: the levels of Kubernetes' pod security standards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum PodSecurity {
    /// No root, no capabilities, no volumes of the node's. What this crate makes runs under it.
    #[default]
    Restricted,
    /// Root within the container, and nothing of the node's.
    Baseline,
    /// Everything, the node's own among it.
    Privileged,
}

impl PodSecurity {
    /// As Kubernetes writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Restricted => "restricted",
            Self::Baseline => "baseline",
            Self::Privileged => "privileged",
        }
    }
}

/// What pods may connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Endpoint {
    /// A network, or one address: `10.20.0.0/16`, `10.20.0.7/32`, `fd00:20::/64`. Of a service in the cluster, the addresses of
    /// its pods: policies see connections as they arrive.
    pub cidr: String,
    /// The port, not 0.
    pub port: u16,
    /// The protocol.
    pub protocol: Protocol,
}

/// A protocol that has ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// An endpoint that can be had.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reach {
    pub(super) network: Cidr,
    pub(super) port: u16,
    pub(super) protocol: Protocol,
}

impl Protocol {
    /// As Kubernetes writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
        }
    }
}

impl Endpoint {
    /// A port of TCP.
    pub fn tcp(cidr: impl Into<String>, port: u16) -> Self {
        Self { cidr: cidr.into(), port, protocol: Protocol::Tcp }
    }

    /// A port of UDP.
    pub fn udp(cidr: impl Into<String>, port: u16) -> Self {
        Self { cidr: cidr.into(), port, protocol: Protocol::Udp }
    }
}

impl Options {
    /// For a namespace.
    pub fn new(namespace: impl Into<String>) -> Self {
        Self {
            namespace: namespace.into(),
            engine: "kf-engine".to_owned(),
            task: "kf-task".to_owned(),
            workflow: None,
            pod_security: PodSecurity::default(),
            kinds: [Kind::Job].into_iter().chain(Kind::INSTALLED).collect(),
            single_pods: true,
            pod_groups: false,
            egress: Vec::new(),
        }
    }

    /// Whether the names and kinds can be had.
    pub(super) fn check(&self) -> Result<(), Error> {
        let workflow = self.workflow.iter().map(|name| ("workflow", name));
        let names = [("namespace", &self.namespace), ("engine", &self.engine), ("task", &self.task)];
        for (option, name) in names.into_iter().chain(workflow) {
            if !is_label(name) {
                let expected = "a DNS label: 1 to 63 of a-z, 0-9 and `-`, with neither end a `-`";
                return Err(Error::option(option, name, expected));
            }
        }
        if self.namespace.starts_with("kube-") {
            let expected = "a namespace of one's own; names that begin with `kube-` are the cluster's";
            return Err(Error::option("namespace", &self.namespace, expected));
        }
        for (option, name) in [("engine", Some(&self.engine)), ("workflow", self.workflow.as_ref())] {
            if let Some(name) = name.filter(|name| *name == "default") {
                let expected = "an account of its own; pods that name none run under `default`, and would get its rights";
                return Err(Error::option(option, name, expected));
            }
        }
        if self.task == self.engine {
            let expected = "another account than the option `engine`, since pods are to have no rights";
            return Err(Error::option("task", &self.task, expected));
        }
        if let Some(name) = self.workflow.as_ref().filter(|name| [&self.engine, &self.task].contains(name)) {
            let expected = "another account than the options `engine` and `task`, whose rights are others";
            return Err(Error::option("workflow", name, expected));
        }
        if self.kinds.is_empty() && !self.single_pods {
            let expected = "a kind of jobs, or the option `single_pods`; the engine would have nothing to do";
            return Err(Error::option("kinds", "[]", expected));
        }
        Ok(())
    }

    /// What pods may reach.
    pub(super) fn reach(&self) -> Result<Vec<Reach>, Error> {
        let reach = |(number, endpoint): (usize, &Endpoint)| {
            let wrong = |what: &str, found: &str, expected: &str| {
                Error::option(format!("egress[{number}].{what}"), found, expected)
            };
            let Endpoint { cidr, port, protocol } = endpoint;
            if *port == 0 {
                return Err(wrong("port", "0", "a port from 1 to 65535"));
            }
            let network = cidr.parse().map_err(|expected: String| wrong("cidr", cidr, &expected))?;
            Ok(Reach { network, port: *port, protocol: *protocol })
        };
        self.egress.iter().enumerate().map(reach).collect()
    }
}
