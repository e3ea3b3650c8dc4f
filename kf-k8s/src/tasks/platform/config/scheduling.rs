use std::collections::BTreeMap;

use serde::Deserialize;

use crate::tasks::platform::InputParameter;
use crate::tasks::platform::number::whole;

/// Labels that a node must have.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct NodeSelector {
    /// The labels, where no parameter gives them.
    pub labels: BTreeMap<String, String>,
    /// What gives the labels, as an object of texts.
    pub node_selector_json: Option<InputParameter>,
}

/// A taint of nodes that the pod bears.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Toleration {
    /// The taint's key; every key where empty.
    pub key: String,
    /// `Equal` or `Exists`; `Equal` where empty.
    pub operator: String,
    /// The taint's value.
    pub value: String,
    /// The taint's effect, such as `NoSchedule`; every effect where empty.
    pub effect: String,
    /// For how long, in seconds; for ever where not given.
    #[serde(deserialize_with = "whole")]
    pub toleration_seconds: Option<i64>,
    /// What gives one of Kubernetes' tolerations, or a list of them, instead of all of the above.
    pub toleration_json: Option<InputParameter>,
}

/// A condition on a label or field.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct SelectorRequirement {
    /// The label or field.
    pub key: String,
    /// How it is compared, such as `In` or `Exists`.
    pub operator: String,
    /// What it is compared with.
    pub values: Vec<String>,
}

/// Nodes that the pod goes to. It may go to those of any term.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct NodeAffinityTerm {
    /// Conditions on labels, all of which hold.
    pub match_expressions: Vec<SelectorRequirement>,
    /// Conditions on fields, all of which hold.
    pub match_fields: Vec<SelectorRequirement>,
    /// From 1 to 100: how much such nodes are preferred; only they will do where not given.
    #[serde(deserialize_with = "whole")]
    pub weight: Option<i32>,
    /// What gives Kubernetes' `NodeAffinity` instead of all of the above.
    pub node_affinity_json: Option<InputParameter>,
}

/// Pods that the pod goes, or doesn't go, beside.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct PodAffinityTerm {
    /// Conditions on the pods' labels, all of which hold.
    pub match_pod_expressions: Vec<SelectorRequirement>,
    /// Labels of the pods.
    pub match_pod_labels: BTreeMap<String, String>,
    /// The label of nodes that says what beside means: nodes with the same value.
    pub topology_key: String,
    /// Where the pods are; in this pod's namespace where nothing says more.
    pub namespaces: Vec<String>,
    /// Conditions on the labels of namespaces where the pods are.
    pub match_namespace_expressions: Vec<SelectorRequirement>,
    /// Labels of namespaces where the pods are.
    pub match_namespace_labels: BTreeMap<String, String>,
    /// From 1 to 100: how much it is preferred; it must be where not given.
    #[serde(deserialize_with = "whole")]
    pub weight: Option<i32>,
    /// Whether it is those pods that this one does not go beside.
    pub anti: Option<bool>,
    /// What gives Kubernetes' `PodAffinityTerm` instead of all of the above but `weight` and `anti`.
    pub pod_affinity_json: Option<InputParameter>,
}

/// Devices by dynamic allocation.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct PodResourceClaim {
    /// The ResourceClaimTemplate that the claim is made after, where no parameter gives it.
    pub resource_claim_template_name: String,
    /// What gives an object with `resourceClaimTemplateName`, or a list of such objects.
    pub resource_claim_json: Option<InputParameter>,
}
