//! Pods as far as they tell of themselves. What was asked of them, and who wrote which field, is most of their text, and is
//! not read: it takes several times as long as the rest.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Deref;

use k8s_openapi::api::core::v1::{Pod, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::Resource;
use serde::{Deserialize, Deserializer};

/// A pod without its `spec` and annotations.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Told(Pod);

impl Deref for Told {
    type Target = Pod;

    fn deref(&self) -> &Pod {
        &self.0
    }
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
    labels: Option<BTreeMap<String, String>>,
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
            labels: metadata.labels,
            deletion_timestamp: metadata.deletion_timestamp,
            deletion_grace_period_seconds: metadata.deletion_grace_period_seconds,
            ..ObjectMeta::default()
        };
        Ok(Self(Pod { metadata, status, spec: None }))
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
        &self.0.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.0.metadata
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::facts::facts;

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
        let names = ["task".to_owned()];
        assert_eq!(facts(&told, &names), facts(&pod, &names));
        assert!(facts(&told, &names).is_some_and(|facts| facts.leaves && facts.over));
        assert_eq!(told.meta().labels, pod.metadata.labels);
        assert_eq!(told.meta().resource_version, pod.metadata.resource_version);
        assert!(told.spec.is_none() && told.meta().managed_fields.is_none());
        // One that was just made tells nothing yet.
        let made: Told = serde_json::from_value(json!({"metadata": {"name": "a"}})).unwrap();
        assert_eq!(made.metadata.name.as_deref(), Some("a"));
    }
}
