//! What a pod tells of the node of a job that it is, and of the ranks in it.

use k8s_openapi::api::core::v1::Pod;

use super::kinds::Kind;
use super::names::restart_of;
use crate::facts::{PodFacts, facts, unstarted};

/// What a pod of a job tells.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct NodeFacts {
    pub(super) restart: u64,
    pub(super) node: usize,
    /// The containers are the ranks, in order.
    pub(super) pod: PodFacts,
    /// What the node says of those whose program it could not start.
    pub(super) unstarted: Vec<Option<String>>,
}

/// What a pod of a job with so many ranks on a node tells; none where it is no pod of a job.
pub(super) fn node_facts(pod: &Pod, kind: Kind, ranks_per_node: usize) -> Option<NodeFacts> {
    let node = pod.metadata.labels.as_ref()?.get(kind.index_label())?.parse().ok()?;
    let containers: Vec<_> = (0..ranks_per_node).map(|local_rank| kind.container(local_rank)).collect();
    let unstarted = containers.iter().map(|name| unstarted(pod, name)).collect();
    Some(NodeFacts { restart: restart_of(&pod.metadata)?, node, pod: facts(pod, &containers)?, unstarted })
}
