//! What is applied, as its readers see it.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::rbac::v1::PolicyRule;
use serde_json::Value;

use super::{Endpoint, Error, Manifests, Options, PodSecurity, WorkflowAccount};
use crate::manifests;
use crate::train::Kind;

fn of(options: &Options) -> Manifests {
    manifests(options).unwrap()
}

/// A line for each rule: group/resource: verbs.
fn rules(options: &Options) -> Vec<String> {
    let line = |rule: PolicyRule| {
        let (groups, resources) = (rule.api_groups.unwrap(), rule.resources.unwrap());
        format!("{}/{}: {}", groups.join(","), resources.join(","), rule.verbs.join(" "))
    };
    of(options).role.rules.unwrap().into_iter().map(line).collect()
}

#[test]
fn a_namespace_as_a_file() {
    let mut options = Options::new("team-a");
    options.kinds = vec![Kind::JobSet];
    options.single_pods = false;
    options.egress = vec![Endpoint::tcp("10.20.0.7/32", 9000)];
    assert_eq!(of(&options).to_yaml().unwrap(), include_str!("tests/team-a.yaml"));
}

#[test]
fn a_launcher_may_do_what_its_kinds_need() {
    let mut options = Options::new("team-a");
    options.single_pods = false;
    let all = "create get list watch patch delete deletecollection";
    let pods = ["/pods: get list watch", "/pods/log: get"];
    for (kinds, expected) in [
        (vec![Kind::Job], vec![format!("batch/jobs: {all}"), "/services: create".into()]),
        (vec![Kind::JobSet], vec![format!("jobset.x-k8s.io/jobsets: {all}"), "batch/jobs: list".into()]),
        (vec![Kind::PyTorchJob], vec![format!("kubeflow.org/pytorchjobs: {all}")]),
        (
            vec![Kind::TrainJob, Kind::TrainJob],
            vec![
                format!("trainer.kubeflow.org/trainjobs: {all}"),
                "trainer.kubeflow.org/trainingruntimes: create patch".into(),
                "batch/jobs: list".into(),
            ],
        ),
        (
            vec![Kind::JobSet, Kind::Job],
            vec![
                format!("jobset.x-k8s.io/jobsets: {all}"),
                format!("batch/jobs: {all}"),
                "/services: create".into(),
            ],
        ),
    ] {
        options.kinds = kinds;
        let expected: Vec<_> = expected.into_iter().chain(pods.map(str::to_owned)).collect();
        assert_eq!(rules(&options), expected);
    }
}

#[test]
fn an_executor_may_make_single_pods() {
    let mut options = Options::new("team-a");
    options.kinds.clear();
    let expected = [
        "/pods: create get list watch patch delete deletecollection",
        "/pods/log: get",
        "/events: list watch",
        "/persistentvolumeclaims: create get delete",
    ];
    assert_eq!(rules(&options), expected);
}

#[test]
fn pods_of_workflows_may_write_results_where_asked_for() {
    assert_eq!(of(&Options::new("team-a")).workflow, None);
    let mut options = Options::new("team-a");
    options.workflow = Some("flows".into());
    let made = of(&options);
    let WorkflowAccount { account, role, role_binding } = made.workflow.clone().unwrap();
    assert_eq!(account.metadata.name.as_deref(), Some("flows"));
    assert_eq!(account.automount_service_account_token, None);
    let rules = serde_json::to_value(role.rules).unwrap();
    let expected = serde_json::json!([
        {"apiGroups": ["argoproj.io"], "resources": ["workflowtaskresults"], "verbs": ["create", "patch"]},
    ]);
    assert_eq!(rules, expected);
    assert_eq!(
        (role.metadata.name.as_deref(), role_binding.role_ref.name.as_str()),
        (Some("flows"), "flows")
    );
    let subjects = role_binding.subjects.unwrap();
    assert_eq!((subjects.len(), subjects[0].name.as_str()), (1, "flows"));
    let documents: Vec<Value> = serde_saphyr::from_multiple(&made.to_yaml().unwrap()).unwrap();
    let of_flows: Vec<_> = documents
        .iter()
        .filter(|document| document["metadata"]["name"] == "flows")
        .map(|document| document["kind"].as_str().unwrap())
        .collect();
    assert_eq!(of_flows, ["ServiceAccount", "Role", "RoleBinding"]);
}

#[test]
fn no_rule_is_wide_or_reaches_for_secrets() {
    let rules = of(&Options::new("team-a")).role.rules.unwrap();
    let words: BTreeSet<String> =
        rules.into_iter().flat_map(|rule| [rule.resources.unwrap(), rule.verbs].concat()).collect();
    for word in ["*", "secrets", "configmaps", "serviceaccounts", "pods/exec", "update", "escalate", "bind"] {
        assert!(!words.contains(word), "{word} of {words:?}");
    }
    assert!(words.contains("pods") && words.contains("watch"), "{words:?}");
}

#[test]
fn names_and_level_are_chosen() {
    let mut options = Options::new("n");
    options.engine = "launch".into();
    options.task = "work".into();
    options.pod_security = PodSecurity::Baseline;
    let made = of(&options);
    let name = |metadata: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta| {
        (metadata.namespace.clone().unwrap(), metadata.name.clone().unwrap())
    };
    let expected = |name: &str| ("n".to_owned(), name.to_owned());
    assert_eq!(name(&made.engine.metadata), expected("launch"));
    assert_eq!(name(&made.task.metadata), expected("work"));
    assert_eq!(name(&made.role.metadata), expected("launch"));
    assert_eq!(made.role_binding.role_ref.name, "launch");
    let subjects = made.role_binding.subjects.unwrap();
    assert_eq!((subjects.len(), subjects[0].name.as_str()), (1, "launch"));
    assert_eq!(subjects[0].namespace.as_deref(), Some("n"));
    let labels = made.namespace.metadata.labels.unwrap();
    assert_eq!(labels.len(), 3);
    assert!(labels.values().all(|level| level == "baseline"), "{labels:?}");
}

#[test]
fn a_pod_reaches_what_was_asked_for() {
    let mut options = Options::new("team-a");
    options.egress = vec![Endpoint::tcp("10.20.0.0/16", 443), Endpoint::udp("fd00:0::a/128", 53)];
    let spec = of(&options).network_policies[0].spec.clone().unwrap();
    let egress: Vec<Value> =
        spec.egress.unwrap()[1..].iter().map(|rule| serde_json::to_value(rule).unwrap()).collect();
    let expected = serde_json::json!([
        {"to": [{"ipBlock": {"cidr": "10.20.0.0/16"}}], "ports": [{"protocol": "TCP", "port": 443}]},
        {"to": [{"ipBlock": {"cidr": "fd00::a/128"}}], "ports": [{"protocol": "UDP", "port": 53}]},
    ]);
    assert_eq!(Value::from(egress), expected);
    assert!(spec.ingress.is_none() && spec.policy_types.unwrap() == ["Ingress", "Egress"]);
}

#[test]
fn what_is_written_reads_as_it_was() {
    // Words and numbers of YAML among them.
    for namespace in ["on", "no", "y", "null", "true", "123", "0x1f", "1e3", "0o17", "team-a"] {
        let mut options = Options::new(namespace);
        options.egress = vec![Endpoint::tcp("::/0", 443)];
        let made = of(&options);
        let yaml = made.to_yaml().unwrap();
        let documents: Vec<Value> = serde_saphyr::from_multiple(&yaml).unwrap();
        assert_eq!(documents.len(), 7, "{yaml}");
        let read: Namespace = serde_json::from_value(documents[0].clone()).unwrap();
        assert_eq!(read, made.namespace);
        let read: NetworkPolicy = serde_json::from_value(documents[5].clone()).unwrap();
        assert_eq!(read, made.network_policies[0]);
    }
}

/// What is told of options that are changed so.
fn refusal(change: impl FnOnce(&mut Options)) -> String {
    let mut options = Options::new("team-a");
    change(&mut options);
    let error = manifests(&options).unwrap_err();
    assert!(matches!(error, Error::Option { .. }) && !error.is_retryable(), "{error:?}");
    error.to_string()
}

#[test]
fn options_that_can_t_be_had_are_named() {
    let long = "a".repeat(64);
    for name in ["", "Team", "team_a", "team.a", "-a", "a-", "team a", "a\n", "../x", "ä", &long] {
        let expected = format!("option `namespace` is `{name}`: expected a DNS label");
        assert!(refusal(|options| options.namespace = name.into()).starts_with(&expected));
        let expected = format!("option `engine` is `{name}`");
        assert!(refusal(|options| options.engine = name.into()).starts_with(&expected));
        let expected = format!("option `task` is `{name}`");
        assert!(refusal(|options| options.task = name.into()).starts_with(&expected));
        let expected = format!("option `workflow` is `{name}`");
        assert!(refusal(|options| options.workflow = Some(name.into())).starts_with(&expected));
    }
    let text = refusal(|options| options.namespace = "kube-system".into());
    assert!(text.contains("option `namespace`") && text.contains("the cluster's"), "{text}");
    let text = refusal(|options| options.engine = "default".into());
    assert!(text.contains("option `engine`") && text.contains("would get its rights"), "{text}");
    let text = refusal(|options| options.task = options.engine.clone());
    assert!(text.contains("option `task`") && text.contains("no rights"), "{text}");
    let text = refusal(|options| options.workflow = Some("default".into()));
    assert!(text.contains("option `workflow`") && text.contains("would get its rights"), "{text}");
    for name in ["kf-engine", "kf-task"] {
        let text = refusal(|options| options.workflow = Some(name.into()));
        assert!(text.contains("option `workflow`") && text.contains("another account"), "{text}");
    }
    let text = refusal(|options| (options.kinds, options.single_pods) = (Vec::new(), false));
    assert!(text.contains("option `kinds`") && text.contains("`single_pods`"), "{text}");
}

#[test]
fn endpoints_that_can_t_be_had_are_named() {
    let good = Endpoint::tcp("10.0.0.0/8", 9000);
    for (cidr, expected) in [
        ("", "option `egress[1].cidr` is ``: expected a network such as"),
        ("s3.example", "option `egress[1].cidr` is `s3.example`: expected a network such as"),
        ("10.0.0.1/8", "option `egress[1].cidr` is `10.0.0.1/8`: expected `10.0.0.0/8`"),
    ] {
        let text = refusal(|options| options.egress = vec![good.clone(), Endpoint::tcp(cidr, 443)]);
        assert!(text.starts_with(expected), "{text}");
    }
    let text = refusal(|options| options.egress = vec![good.clone(), Endpoint::udp("::/0", 0)]);
    assert_eq!(text, "option `egress[1].port` is `0`: expected a port from 1 to 65535");
}
