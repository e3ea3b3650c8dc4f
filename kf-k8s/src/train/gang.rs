//! Jobs whose pods start all at once or not at all, and queues that let jobs in.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kf_core::resources::Resources;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind};
use serde_json::json;

use crate::objects::volcano::NetworkTopology;
use crate::objects::{kueue, pod_group, volcano};
use crate::pod::{resources, whole_seconds};

/// Who gives a job's pods their places, all at once or not at all. Without one, pods of two jobs may each hold half of a
/// cluster and wait for the other half.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Gang {
    /// The coscheduling plug-in of scheduler-plugins, by a PodGroup (`scheduling.x-k8s.io`) of the job.
    Coscheduling {
        /// The name of the scheduler that has the plug-in, such as `scheduler-plugins-scheduler`.
        scheduler: String,
        /// How long pods that have a place hold it for the others.
        timeout: Duration,
    },
    /// Volcano, by a PodGroup (`scheduling.volcano.sh`) of the job.
    Volcano {
        /// Its queue; `default` where not given.
        queue: Option<String>,
        /// How near to each other in the network the pods must be.
        topology: Option<NetworkTopology>,
    },
    /// Kueue, which lets whole jobs in: the job is made suspended, and Kueue resumes it when it is its turn.
    ///
    /// It resumes again whatever it has let in, a job that was cancelled too: such a job is to be deleted
    /// ([`KubeLauncher::delete`](super::KubeLauncher::delete)).
    Kueue {
        /// The LocalQueue of the namespace.
        queue: String,
        /// The WorkloadPriorityClass that says how soon it is let in.
        priority_class: Option<String>,
        /// How near to each other the pods must be.
        topology: Option<Nearness>,
    },
}

/// How near to each other pods must be, by a level of the topology, which is a label of nodes such as
/// `topology.kubernetes.io/zone`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Nearness {
    /// All in one domain of this level.
    Required(String),
    /// In one domain of this level where there is room, else in one as near to it as there is.
    Preferred(String),
}

/// What a gang asks of a job's object.
#[derive(Debug, Default)]
pub(super) struct Asked {
    /// Labels of the object.
    pub(super) labels: BTreeMap<String, String>,
    /// Whether somebody else lets it begin.
    pub(super) suspended: bool,
    /// The group that its pods are, with the API that it is of.
    pub(super) group: Option<(ApiResource, DynamicObject)>,
}

impl Gang {
    /// Of the coscheduling plug-in, in a scheduler of this name. Pods that have a place hold it for the others for `timeout`,
    /// a second at least.
    pub fn coscheduling(scheduler: impl Into<String>, timeout: Duration) -> Self {
        Self::Coscheduling { scheduler: scheduler.into(), timeout }
    }

    /// Of Volcano, with the rest as it is by default.
    pub fn volcano() -> Self {
        Self::Volcano { queue: None, topology: None }
    }

    /// Of a LocalQueue of Kueue, with the rest as it is by default.
    pub fn kueue(queue: impl Into<String>) -> Self {
        Self::Kueue { queue: queue.into(), priority_class: None, topology: None }
    }

    /// Marks the pods of a job of this name with so many nodes of these resources a rank.
    pub(super) fn mark(
        &self,
        name: &str,
        nodes: usize,
        each: &Resources,
        ranks_per_node: usize,
        template: &mut PodTemplateSpec,
    ) -> Asked {
        let members = i32::try_from(nodes).unwrap_or(i32::MAX);
        let metadata = template.metadata.get_or_insert_default();
        let spec = template.spec.get_or_insert_default();
        match self {
            Self::Coscheduling { scheduler, timeout } => {
                spec.scheduler_name = Some(scheduler.clone());
                let labels = metadata.labels.get_or_insert_default();
                labels.insert(pod_group::POD_GROUP_LABEL.to_owned(), name.to_owned());
                let seconds = i32::try_from(whole_seconds(*timeout)).unwrap_or(i32::MAX);
                let group = json!({"spec": {"minMember": members, "scheduleTimeoutSeconds": seconds.max(1)}});
                Asked {
                    group: Some(object("scheduling.x-k8s.io", "v1alpha1", name, group)),
                    ..Asked::default()
                }
            }
            Self::Volcano { queue, topology } => {
                spec.scheduler_name = Some("volcano".to_owned());
                let annotations = metadata.annotations.get_or_insert_default();
                annotations.insert(volcano::GROUP_NAME_ANNOTATION.to_owned(), name.to_owned());
                let group = volcano::PodGroupSpec {
                    min_member: Some(members),
                    queue: queue.clone(),
                    priority_class_name: spec.priority_class_name.clone(),
                    min_resources: all(each, nodes * ranks_per_node),
                    network_topology: topology.clone(),
                    ..volcano::PodGroupSpec::default()
                };
                let group = json!({"spec": group});
                Asked {
                    group: Some(object("scheduling.volcano.sh", "v1beta1", name, group)),
                    ..Asked::default()
                }
            }
            Self::Kueue { queue, priority_class, topology } => {
                let near = match topology {
                    Some(Nearness::Required(level)) => Some((kueue::REQUIRED_TOPOLOGY, level)),
                    Some(Nearness::Preferred(level)) => Some((kueue::PREFERRED_TOPOLOGY, level)),
                    None => None,
                };
                if let Some((annotation, level)) = near {
                    let annotations = metadata.annotations.get_or_insert_default();
                    annotations.insert(annotation.to_owned(), level.clone());
                }
                let mut labels = BTreeMap::from([(kueue::QUEUE_LABEL.to_owned(), queue.clone())]);
                if let Some(class) = priority_class {
                    labels.insert(kueue::PRIORITY_CLASS_LABEL.to_owned(), class.clone());
                }
                Asked { labels, suspended: true, group: None }
            }
        }
    }
}

fn object(group: &str, version: &str, name: &str, data: serde_json::Value) -> (ApiResource, DynamicObject) {
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, "PodGroup"));
    let object = DynamicObject::new(name, &resource).data(data);
    (resource, object)
}

/// What so many ranks ask for together.
fn all(each: &Resources, ranks: usize) -> BTreeMap<String, Quantity> {
    let ranks = u64::try_from(ranks).unwrap_or(u64::MAX);
    let mut together = each.clone();
    together.cpu = each.cpu.saturating_mul(ranks);
    together.memory = each.memory.saturating_mul(ranks);
    together.accelerators.values_mut().for_each(|count| *count = count.saturating_mul(ranks));
    resources(&together).and_then(|asked| asked.requests).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::objects::volcano::TopologyMode;

    fn marked(gang: &Gang) -> (Value, Asked) {
        let mut template = PodTemplateSpec::default();
        let each = Resources::none().cpu(1.5).memory("1Gi").unwrap();
        let asked = gang.mark("kf-a", 3, &each, 2, &mut template);
        (serde_json::to_value(template).unwrap(), asked)
    }

    #[test]
    fn coscheduling_is_a_group_and_a_label() {
        let timeout = Duration::from_millis(1500);
        let gang = Gang::Coscheduling { scheduler: "coscheduler".into(), timeout };
        let (template, asked) = marked(&gang);
        assert_eq!(template["metadata"]["labels"], json!({"scheduling.x-k8s.io/pod-group": "kf-a"}));
        assert_eq!(template["spec"]["schedulerName"], "coscheduler");
        let (resource, group) = asked.group.unwrap();
        assert_eq!(resource.api_version, "scheduling.x-k8s.io/v1alpha1");
        let spec: pod_group::PodGroupSpec = serde_json::from_value(group.data["spec"].clone()).unwrap();
        assert_eq!((spec.min_member, spec.schedule_timeout_seconds), (3, Some(2)));
        assert!(!asked.suspended && asked.labels.is_empty());
    }

    #[test]
    fn volcano_has_a_queue_a_topology_and_all_resources() {
        let topology = NetworkTopology { mode: Some(TopologyMode::Hard), highest_tier_allowed: Some(2) };
        let gang = Gang::Volcano { queue: Some("research".into()), topology: Some(topology) };
        let (template, asked) = marked(&gang);
        assert_eq!(template["metadata"]["annotations"], json!({"scheduling.k8s.io/group-name": "kf-a"}));
        assert_eq!(template["spec"]["schedulerName"], "volcano");
        assert_eq!(
            asked.group.unwrap().1.data["spec"],
            json!({"minMember": 3, "queue": "research", "minResources": {"cpu": "9", "memory": "6442450944"},
                "networkTopology": {"mode": "hard", "highestTierAllowed": 2}})
        );
    }

    #[test]
    fn kueue_lets_suspended_jobs_in() {
        let topology = Some(Nearness::Required("cloud.example/rack".into()));
        let (queue, priority_class) = ("team-a".into(), Some("urgent".into()));
        let (template, asked) = marked(&Gang::Kueue { queue, priority_class, topology });
        let annotations = json!({"kueue.x-k8s.io/podset-required-topology": "cloud.example/rack"});
        assert_eq!(template["metadata"]["annotations"], annotations);
        assert_eq!(template["spec"].get("schedulerName"), None);
        assert!(asked.suspended && asked.group.is_none());
        assert_eq!(asked.labels["kueue.x-k8s.io/queue-name"], "team-a");
        assert_eq!(asked.labels["kueue.x-k8s.io/priority-class"], "urgent");
    }
}
