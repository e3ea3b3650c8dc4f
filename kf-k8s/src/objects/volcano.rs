//! PodGroup of Volcano: pods that its scheduler starts all at once or not at all.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde::{Deserialize, Serialize};

use super::resource::or_empty;

/// The annotation of a pod with the name of its group.
pub const GROUP_NAME_ANNOTATION: &str = "scheduling.k8s.io/group-name";

custom_resource! {
    /// Pods that are started all at once or not at all: those of its namespace that have its name as their
    /// [`GROUP_NAME_ANNOTATION`] and Volcano as their scheduler.
    PodGroup is "podgroups" of "scheduling.volcano.sh" "v1beta1" in NamespaceResourceScope {
        spec: PodGroupSpec,
        status: PodGroupStatus,
    }
}

/// What is asked for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodGroupSpec {
    /// How many pods must have a place for any to start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_member: Option<i32>,
    /// How many pods of each task must have a place.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "or_empty")]
    pub min_task_member: BTreeMap<String, i32>,
    /// The queue, by default `default`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue: Option<String>,
    /// The priority class of the group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority_class_name: Option<String>,
    /// What must be free for any pod to start.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "or_empty")]
    pub min_resources: BTreeMap<String, Quantity>,
    /// How near to each other the pods must be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network_topology: Option<NetworkTopology>,
}

/// How near to each other pods must be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NetworkTopology {
    /// Whether they must be or should be, by default [`TopologyMode::Hard`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<TopologyMode>,
    /// The highest tier of the network that they may be joined by; tier 1 is the nearest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub highest_tier_allowed: Option<i32>,
}

/// Whether pods must be near to each other or should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TopologyMode {
    /// They must be, and wait until they can.
    Hard,
    /// They should be.
    Soft,
    /// Something that this crate does not know.
    #[serde(untagged)]
    Other(String),
}

/// How a group stands.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PodGroupStatus {
    /// Where it stands.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<PodGroupPhase>,
    /// Why.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "or_empty")]
    pub conditions: Vec<PodGroupCondition>,
    /// How many pods run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub running: Option<i32>,
    /// How many pods have ended well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub succeeded: Option<i32>,
    /// How many pods have failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed: Option<i32>,
}

/// Where a group stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PodGroupPhase {
    /// There is not enough room in its queue.
    Pending,
    /// Its queue has let it in, and its pods get places.
    Inqueue,
    /// Enough pods run.
    Running,
    /// Some pods run and others can't.
    Unknown,
    /// All pods have ended.
    Completed,
    /// Something that this crate does not know.
    #[serde(untagged)]
    Other(String),
}

/// One thing that is or is not so of a group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodGroupCondition {
    /// What it is about, such as `Scheduled` or `Unschedulable`.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub type_: Option<String>,
    /// `True`, `False` or `Unknown`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// Why, in one word.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Why, in a sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// When it last changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_transition_time: Option<Time>,
    /// The scheduler's round that last wrote it.
    #[serde(rename = "transitionID", skip_serializing_if = "Option::is_none")]
    pub transition_id: Option<String>,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_group_that_can_not_be_placed_is_read() {
        let group: PodGroup = serde_json::from_value(json!({
            "apiVersion": "scheduling.volcano.sh/v1beta1", "kind": "PodGroup", "metadata": {"name": "gang"},
            "spec": {"minMember": 3, "queue": "default"},
            "status": {
                "conditions": [{
                    "lastTransitionTime": "2026-03-01T10:00:00Z", "message": "3/3 tasks in gang unschedulable",
                    "reason": "NotEnoughResources", "status": "True", "transitionID": "0f", "type": "Unschedulable",
                }],
                "phase": "Inqueue",
            },
        }))
        .unwrap();
        let status = group.status.unwrap();
        assert_eq!((status.phase, status.running), (Some(PodGroupPhase::Inqueue), None));
        let why = &status.conditions[0];
        assert_eq!(
            (why.type_.as_deref(), why.reason.as_deref(), why.transition_id.as_deref()),
            (Some("Unschedulable"), Some("NotEnoughResources"), Some("0f"))
        );
    }

    #[test]
    fn modes_are_in_lower_case() {
        for (word, mode) in [("hard", TopologyMode::Hard), ("near", TopologyMode::Other("near".into()))] {
            let topology: NetworkTopology = serde_json::from_value(json!({"mode": word})).unwrap();
            assert_eq!(topology.mode, Some(mode));
            assert_eq!(serde_json::to_value(topology).unwrap(), json!({"mode": word}));
        }
    }
}
