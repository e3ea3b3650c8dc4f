//! What a platform team applies, on a cluster.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Namespace, Pod, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kf_k8s::manifests;
use kf_k8s::manifests::{Endpoint, Options, PodSecurity};
use kf_k8s::train::Kind;
use kf_train::{Job, run};
use kube::api::{ListParams, Patch, PatchParams};
use kube::core::Request;
use kube::{Api, Client, Resource};
use libtest_mimic::Trial;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use super::{Given, trial};

pub(crate) fn trials(runtime: &Arc<Runtime>, client: &Client) -> Vec<Trial> {
    vec![
        trial(runtime, client, "manifests::applied_again_they_are_the_same", applied_again),
        trial(runtime, client, "manifests::they_follow_the_options", they_follow_the_options),
        trial(runtime, client, "manifests::fields_of_others_stay_theirs", fields_of_others_stay_theirs),
        trial(runtime, client, "manifests::the_cluster_reads_the_yaml", the_cluster_reads_the_yaml),
        trial(runtime, client, "manifests::policies_select_pods_unenforced_here", policies_select_pods),
    ]
}

/// As the namespace was made.
fn options(given: &Given) -> Options {
    let mut options = Options::new(&given.namespace);
    (options.kinds, options.single_pods) = (vec![Kind::Job], false);
    options
}

/// What the cluster has, and how often each was changed.
async fn versions(given: &Given) -> Vec<(String, String)> {
    async fn all<K>(api: Api<K>) -> Vec<(String, String)>
    where
        K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned,
    {
        let items = api.list(&ListParams::default()).await.unwrap().items;
        let version = |object: K| {
            let metadata = object.meta().clone();
            let name = format!("{} {}", K::kind(&()), metadata.name.unwrap());
            (name, metadata.resource_version.unwrap())
        };
        items.into_iter().map(version).collect()
    }
    let (admin, namespace) = (&given.admin, &given.namespace);
    let mut found = all(Api::<ServiceAccount>::namespaced(admin.clone(), namespace)).await;
    found.retain(|(name, _)| name != "ServiceAccount default");
    found.extend(all(Api::<Role>::namespaced(admin.clone(), namespace)).await);
    found.extend(all(Api::<RoleBinding>::namespaced(admin.clone(), namespace)).await);
    found.extend(all(Api::<NetworkPolicy>::namespaced(admin.clone(), namespace)).await);
    found
}

async fn applied_again(given: Given) {
    let before = versions(&given).await;
    let names: Vec<_> = before.iter().map(|(name, _)| name.as_str()).collect();
    let expected = [
        "ServiceAccount kf-engine",
        "ServiceAccount kf-task",
        "Role kf-engine",
        "RoleBinding kf-engine",
        "NetworkPolicy kf-jobs",
        "NetworkPolicy kf-pods",
    ];
    assert_eq!(names, expected);
    manifests(&options(&given)).unwrap().apply(&given.admin).await.unwrap();
    assert_eq!(versions(&given).await, before);
}

async fn they_follow_the_options(given: Given) {
    let mut options = options(&given);
    options.kinds = vec![Kind::JobSet];
    options.pod_security = PodSecurity::Baseline;
    options.egress = vec![Endpoint::tcp("10.20.0.0/16", 443), Endpoint::udp("fd00::a/128", 53)];
    let made = manifests(&options).unwrap();
    made.apply(&given.admin).await.unwrap();
    let roles: Api<Role> = Api::namespaced(given.admin.clone(), &given.namespace);
    assert_eq!(roles.get("kf-engine").await.unwrap().rules, made.role.rules);
    let policies: Api<NetworkPolicy> = Api::namespaced(given.admin.clone(), &given.namespace);
    for policy in made.network_policies {
        let name = policy.metadata.name.unwrap();
        assert_eq!(policies.get(&name).await.unwrap().spec, policy.spec);
    }
    let namespaces: Api<Namespace> = Api::all(given.admin.clone());
    let labels = namespaces.get(&given.namespace).await.unwrap().metadata.labels.unwrap();
    assert_eq!(labels["pod-security.kubernetes.io/enforce"], "baseline");
}

async fn fields_of_others_stay_theirs(given: Given) {
    let namespaces: Api<Namespace> = Api::all(given.admin.clone());
    let level = "pod-security.kubernetes.io/enforce";
    let theirs = json!({"apiVersion": "v1", "kind": "Namespace",
        "metadata": {"labels": {level: "privileged", "team": "a"}}});
    let force = PatchParams::apply("the-platform").force();
    namespaces.patch(&given.namespace, &force, &Patch::Apply(&theirs)).await.unwrap();
    let error = manifests(&options(&given)).unwrap().apply(&given.admin).await.unwrap_err();
    let text = error.to_string();
    assert!(text.contains(&format!("Namespace `{}` is not applied", given.namespace)), "{text}");
    assert!(text.contains("the-platform") && text.contains(level), "{text}");
    assert!(!error.is_retryable());
    let labels = namespaces.get(&given.namespace).await.unwrap().metadata.labels.unwrap();
    assert_eq!((labels[level].as_str(), labels["team"].as_str()), ("privileged", "a"));
    // Who may not make them hears of it.
    let error = manifests(&options(&given)).unwrap().apply(&given.engine).await.unwrap_err();
    assert!(error.to_string().contains("(403)") && !error.is_retryable(), "{error}");
}

/// Each document, by the API server's own reader, and strictly; nothing is changed.
async fn the_cluster_reads_the_yaml(given: Given) {
    let mut options = options(&given);
    options.egress = vec![Endpoint::tcp("::/0", 443)];
    let yaml = manifests(&options).unwrap().to_yaml().unwrap();
    let documents: Vec<&str> = yaml.split("---\n").collect();
    assert_eq!(documents.len(), 7);
    for document in documents {
        let taken = dry_run(&given.admin, document).await;
        let written: Value = serde_saphyr::from_str(document).unwrap();
        assert_eq!(taken["metadata"]["name"], written["metadata"]["name"]);
        for (part, written) in written.as_object().unwrap().iter().filter(|(part, _)| *part != "metadata") {
            assert_eq!(&taken[part], written, "{document}");
        }
    }
    // Words that other readers of YAML take for something else.
    for namespace in ["on", "no", "y", "n", "null", "true", "123", "0x1f", "1e3", "0o17", "0b1"] {
        let yaml = manifests(&Options::new(namespace)).unwrap().to_yaml().unwrap();
        let taken = dry_run(&given.admin, yaml.split("---\n").next().unwrap()).await;
        assert_eq!(taken["metadata"]["name"], namespace);
    }
}

async fn dry_run(client: &Client, document: &str) -> Value {
    let written: Value = serde_saphyr::from_str(document).unwrap();
    let metadata = &written["metadata"];
    let namespace = metadata["namespace"].as_str();
    let path = match written["kind"].as_str().unwrap() {
        "Namespace" => Namespace::url_path(&(), namespace),
        "ServiceAccount" => ServiceAccount::url_path(&(), namespace),
        "Role" => Role::url_path(&(), namespace),
        "RoleBinding" => RoleBinding::url_path(&(), namespace),
        "NetworkPolicy" => NetworkPolicy::url_path(&(), namespace),
        other => panic!("{other}"),
    };
    let params = PatchParams::apply("kf").validation_strict().dry_run();
    let name = metadata["name"].as_str().unwrap();
    let mut request = Request::new(path).patch(name, &params, &Patch::Apply(json!({}))).unwrap();
    *request.body_mut() = document.as_bytes().to_vec();
    client.request(request).await.unwrap_or_else(|error| panic!("{error}: {document}"))
}

async fn policies_select_pods(given: Given) {
    let launcher = given.launcher(Kind::Job);
    run::<()>(&*launcher, Job::command("sh", ["-c", "true"], 1)).await.unwrap();
    hold_for_all_pods(&given).await;
}

/// All pods that were made in the namespace run under the account that has no rights, and every policy selects them.
pub(crate) async fn hold_for_all_pods(given: &Given) {
    let pods: Api<Pod> = Api::namespaced(given.admin.clone(), &given.namespace);
    let all = pods.list(&ListParams::default()).await.unwrap().items;
    assert!(!all.is_empty());
    for pod in &all {
        let spec = pod.spec.as_ref().unwrap();
        assert_eq!(spec.service_account_name.as_deref(), Some("kf-task"));
        let volumes = serde_json::to_value(&spec.volumes).unwrap().to_string();
        assert!(!volumes.contains("serviceAccountToken"), "{volumes}");
    }
    let policies: Api<NetworkPolicy> = Api::namespaced(given.admin.clone(), &given.namespace);
    let policies = policies.list(&ListParams::default()).await.unwrap().items;
    assert_eq!(policies.len(), 2);
    for policy in policies {
        let selector = policy.spec.unwrap().pod_selector.unwrap();
        let selected = pods.list(&ListParams::default().labels(&as_text(&selector))).await.unwrap();
        assert_eq!(selected.items.len(), all.len(), "{selector:?}");
    }
}

/// A selector of labels that are there, or are there with a value.
fn as_text(selector: &LabelSelector) -> String {
    let labels = selector.match_labels.iter().flatten().map(|(key, value)| format!("{key}={value}"));
    let expressions = selector.match_expressions.iter().flatten().map(|expression| {
        assert_eq!(expression.operator, "Exists");
        expression.key.clone()
    });
    labels.chain(expressions).collect::<Vec<_>>().join(",")
}
