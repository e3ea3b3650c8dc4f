//! What accounts may do. Of the engine's, each verb is one that a launcher or an executor asks for.

use k8s_openapi::api::rbac::v1::{PolicyRule, Role, RoleBinding, RoleRef, Subject};

use super::Options;
use super::accounts::metadata;
use crate::train::Kind;

/// With what a launcher makes, finds, follows, changes, restarts and removes jobs, and an executor pods.
const ALL: [&str; 7] = ["create", "get", "list", "watch", "patch", "delete", "deletecollection"];

pub(super) fn role(options: &Options) -> Role {
    Role { metadata: metadata(options, &options.engine), rules: Some(rules(options)) }
}

/// What pods of Argo's Workflows tell it by: <https://argo-workflows.readthedocs.io/en/latest/workflow-rbac/>.
pub(super) fn of_workflows(options: &Options, name: &str) -> Role {
    let results = rule("argoproj.io", "workflowtaskresults", &["create", "patch"]);
    Role { metadata: metadata(options, name), rules: Some(vec![results]) }
}

/// Gives an account the role of its name.
pub(super) fn binding(options: &Options, name: &str) -> RoleBinding {
    RoleBinding {
        metadata: metadata(options, name),
        role_ref: RoleRef {
            api_group: "rbac.authorization.k8s.io".to_owned(),
            kind: "Role".to_owned(),
            name: name.to_owned(),
        },
        subjects: Some(vec![Subject {
            kind: "ServiceAccount".to_owned(),
            name: name.to_owned(),
            namespace: Some(options.namespace.clone()),
            api_group: None,
        }]),
    }
}

fn rules(options: &Options) -> Vec<PolicyRule> {
    let Options { kinds, single_pods, pod_groups, .. } = options;
    let mut rules: Vec<PolicyRule> = Vec::new();
    for kind in kinds {
        let resource = kind.resource();
        let of_kind = rule(&resource.group, &resource.plural, &ALL);
        if !rules.contains(&of_kind) {
            rules.push(of_kind);
        }
    }
    if kinds.contains(&Kind::TrainJob) {
        rules.push(rule("trainer.kubeflow.org", "trainingruntimes", &["create", "patch"]));
    }
    // Some kinds tell of a job that was too late by the Jobs that they make.
    if !kinds.contains(&Kind::Job) && kinds.iter().any(|kind| kind.jobs_of("").is_some()) {
        rules.push(rule("batch", "jobs", &["list"]));
    }
    if kinds.iter().any(|kind| kind.needs_service()) {
        rules.push(rule("", "services", &["create"]));
    }
    if *pod_groups {
        rules.push(rule("scheduling.x-k8s.io", "podgroups", &["create"]));
        rules.push(rule("scheduling.volcano.sh", "podgroups", &["create"]));
    }
    rules.push(rule("", "pods", if *single_pods { &ALL } else { &["get", "list", "watch"] }));
    rules.push(rule("", "pods/log", &["get"]));
    if *single_pods {
        rules.push(rule("", "events", &["list", "watch"]));
        rules.push(rule("", "persistentvolumeclaims", &["create", "get", "delete"]));
    }
    rules
}

fn rule(group: &str, resource: &str, verbs: &[&str]) -> PolicyRule {
    PolicyRule {
        api_groups: Some(vec![group.to_owned()]),
        resources: Some(vec![resource.to_owned()]),
        verbs: verbs.iter().map(|verb| (*verb).to_owned()).collect(),
        ..PolicyRule::default()
    }
}
