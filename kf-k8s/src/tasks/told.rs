//! Pods as far as they tell of themselves. What was asked of them, and who wrote which field, is most of their text, and is
//! not read: it takes several times as long as the rest.

use std::borrow::Cow;

use k8s_openapi::api::core::v1::{Pod, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::Resource;
use serde::{Deserialize, Deserializer};

use super::informer::facts_of;
use crate::facts::PodFacts;

/// What a pod tells.
#[derive(Debug, Clone)]
pub(super) struct Told {
    /// Its name and its version.
    metadata: ObjectMeta,
    /// None where it has no name.
    pub(super) facts: Option<PodFacts>,
}

#[derive(Deserialize)]
struct Read {
    #[serde(default)]
    metadata: Meta,
    status: Option<PodStatus>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Meta {
    name: Option<String>,
    uid: Option<String>,
    resource_version: Option<String>,
    deletion_timestamp: Option<Time>,
    deletion_grace_period_seconds: Option<i64>,
}

impl<'de> Deserialize<'de> for Told {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Read { metadata, status } = Read::deserialize(deserializer)?;
        let metadata = ObjectMeta {
            name: metadata.name,
            uid: metadata.uid,
            resource_version: metadata.resource_version,
            deletion_timestamp: metadata.deletion_timestamp,
            deletion_grace_period_seconds: metadata.deletion_grace_period_seconds,
            ..ObjectMeta::default()
        };
        let pod = Pod { metadata, status, spec: None };
        Ok(Self { facts: facts_of(&pod), metadata: pod.metadata })
    }
}

impl Resource for Told {
    type DynamicType = ();
    type Scope = <Pod as Resource>::Scope;

    fn kind((): &()) -> Cow<'_, str> {
        Pod::kind(&())
    }

    fn group((): &()) -> Cow<'_, str> {
        Pod::group(&())
    }

    fn version((): &()) -> Cow<'_, str> {
        Pod::version(&())
    }

    fn plural((): &()) -> Cow<'_, str> {
        Pod::plural(&())
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_pod_tells_is_read_and_what_was_asked_of_it_is_not() {
        let whole = json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": "a", "namespace": "n", "uid": "u", "resourceVersion": "7",
                "labels": {"kf.dev/run": "r"}, "annotations": {"kf.dev/request": "{}"},
                "deletionTimestamp": "2026-01-01T00:00:00Z", "deletionGracePeriodSeconds": 30,
                "managedFields": [{"manager": "kf", "operation": "Update", "fieldsV1": {"f:spec": {}}}],
            },
            "spec": {"containers": [{"name": "task", "image": "i"}]},
            "status": {"phase": "Failed", "reason": "Evicted", "containerStatuses": [{"name": "task", "image": "i",
                "imageID": "", "ready": false, "restartCount": 0, "state": {"terminated": {"exitCode": 3,
                "startedAt": "2026-01-01T00:00:00Z", "finishedAt": "2026-01-01T00:00:01Z"}}}]},
        });
        let pod: Pod = serde_json::from_value(whole.clone()).unwrap();
        let told: Told = serde_json::from_value(whole).unwrap();
        assert_eq!(told.facts, facts_of(&pod));
        assert!(told.facts.as_ref().is_some_and(|facts| facts.leaves && facts.over));
        assert_eq!(told.meta().resource_version, pod.metadata.resource_version);
        assert!(told.meta().managed_fields.is_none() && told.meta().annotations.is_none());
        // One that was just made tells nothing yet.
        let made: Told = serde_json::from_value(json!({"metadata": {"name": "a"}})).unwrap();
        assert!(made.facts.is_some_and(|facts| facts.name == "a" && !facts.over));
    }
}
