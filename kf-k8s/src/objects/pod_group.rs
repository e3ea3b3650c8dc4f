//! PodGroup of scheduler-plugins: pods that its coscheduling plug-in starts all at once or not at all.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde::{Deserialize, Serialize};

use super::resource::or_empty;

/// The label of a pod with the name of its group.
pub const POD_GROUP_LABEL: &str = "scheduling.x-k8s.io/pod-group";

custom_resource! {
    /// Pods that are started all at once or not at all: those of its namespace that have its name as their
    /// [`POD_GROUP_LABEL`] and its scheduler as theirs.
    PodGroup is "podgroups" of "scheduling.x-k8s.io" "v1alpha1" in NamespaceResourceScope {
        spec: PodGroupSpec,
        status: PodGroupStatus,
    }
}

/// What is asked for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodGroupSpec {
    /// How many pods must have a place for any to start.
    pub min_member: i32,
    /// What must be free for any pod to start.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "or_empty")]
    pub min_resources: BTreeMap<String, Quantity>,
    /// Seconds to wait for the pods to have a place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schedule_timeout_seconds: Option<i32>,
}

/// How a group stands.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodGroupStatus {
    /// Where it stands.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<PodGroupPhase>,
    /// The objects whose pods they are, as `namespace/name`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub occupied_by: Option<String>,
    /// How many pods run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub running: Option<i32>,
    /// How many pods have ended well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub succeeded: Option<i32>,
    /// How many pods have failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed: Option<i32>,
    /// Since when the group waits for a place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schedule_start_time: Option<Time>,
}

/// Where a group stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PodGroupPhase {
    /// It has no place yet.
    Pending,
    /// Enough pods have a place, and not enough of them run.
    Scheduling,
    /// Enough pods run.
    Running,
    /// Some pods have a place and others can't get one.
    Unknown,
    /// Enough pods have ended well.
    Finished,
    /// A pod has failed.
    Failed,
    /// Something that this crate does not know.
    #[serde(untagged)]
    Other(String),
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_group_that_waits_is_read() {
        let written = json!({
            "apiVersion": "scheduling.x-k8s.io/v1alpha1", "kind": "PodGroup", "metadata": {"name": "gang"},
            "spec": {"minMember": 3, "minResources": {"cpu": "900m"}, "scheduleTimeoutSeconds": 10},
            "status": {"phase": "Pending", "occupiedBy": "default/job", "scheduleStartTime": "2026-03-01T10:00:00Z"},
        });
        let group: PodGroup = serde_json::from_value(written.clone()).unwrap();
        assert_eq!((group.spec.min_member, group.spec.schedule_timeout_seconds), (3, Some(10)));
        assert_eq!(group.spec.min_resources["cpu"], Quantity("900m".into()));
        let status = group.status.as_ref().unwrap();
        assert_eq!((&status.phase, status.running), (&Some(PodGroupPhase::Pending), None));
        assert_eq!(serde_json::to_value(group).unwrap(), written);
    }
}
