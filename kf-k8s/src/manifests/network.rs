//! Whom pods may talk to.

use k8s_openapi::api::networking::v1::{
    IPBlock, NetworkPolicy, NetworkPolicyEgressRule, NetworkPolicyIngressRule, NetworkPolicyPeer,
    NetworkPolicyPort, NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::accounts::metadata;
use super::options::Reach;
use super::{Options, Protocol};
use crate::train::names::{JOB, MANAGED_BY};

/// One that lets all pods of ours do little, and one that lets those of jobs do more.
pub(super) fn policies(options: &Options, reach: &[Reach]) -> Vec<NetworkPolicy> {
    let policy = |name: &str, spec: NetworkPolicySpec| NetworkPolicy {
        metadata: metadata(options, name),
        spec: Some(spec),
    };
    vec![policy("kf-pods", pods(reach)), policy("kf-jobs", jobs())]
}

/// Nothing comes in, and out go names and what was asked for.
fn pods(reach: &[Reach]) -> NetworkPolicySpec {
    NetworkPolicySpec {
        pod_selector: Some(labelled(MANAGED_BY.0, MANAGED_BY.1)),
        policy_types: both(),
        ingress: None,
        egress: Some(std::iter::once(to_names()).chain(reach.iter().map(outside)).collect()),
    }
}

/// Pods of jobs reach one another.
fn jobs() -> NetworkPolicySpec {
    let of_jobs = || LabelSelector {
        match_expressions: Some(vec![LabelSelectorRequirement {
            key: JOB.to_owned(),
            operator: "Exists".to_owned(),
            values: None,
        }]),
        match_labels: None,
    };
    let peers = || Some(vec![NetworkPolicyPeer { pod_selector: Some(of_jobs()), ..Default::default() }]);
    NetworkPolicySpec {
        pod_selector: Some(of_jobs()),
        policy_types: both(),
        ingress: Some(vec![NetworkPolicyIngressRule { from: peers(), ports: None }]),
        egress: Some(vec![NetworkPolicyEgressRule { to: peers(), ports: None }]),
    }
}

fn to_names() -> NetworkPolicyEgressRule {
    let resolvers = NetworkPolicyPeer {
        namespace_selector: Some(labelled("kubernetes.io/metadata.name", "kube-system")),
        pod_selector: Some(labelled("k8s-app", "kube-dns")),
        ip_block: None,
    };
    NetworkPolicyEgressRule {
        to: Some(vec![resolvers]),
        ports: Some(vec![port(Protocol::Udp, 53), port(Protocol::Tcp, 53)]),
    }
}

fn outside(reach: &Reach) -> NetworkPolicyEgressRule {
    let block = IPBlock { cidr: reach.network.to_string(), except: None };
    NetworkPolicyEgressRule {
        to: Some(vec![NetworkPolicyPeer { ip_block: Some(block), ..Default::default() }]),
        ports: Some(vec![port(reach.protocol, reach.port)]),
    }
}

fn port(protocol: Protocol, port: u16) -> NetworkPolicyPort {
    NetworkPolicyPort {
        protocol: Some(protocol.as_str().to_owned()),
        port: Some(IntOrString::Int(port.into())),
        end_port: None,
    }
}

fn labelled(key: &str, value: &str) -> LabelSelector {
    let labels = [(key.to_owned(), value.to_owned())];
    LabelSelector { match_labels: Some(labels.into()), match_expressions: None }
}

/// Both ways, even where there are no rules for one.
fn both() -> Option<Vec<String>> {
    Some(vec!["Ingress".to_owned(), "Egress".to_owned()])
}
