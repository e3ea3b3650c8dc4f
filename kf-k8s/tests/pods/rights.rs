//! What the accounts of programs and of their pods can't do.

use std::collections::BTreeSet;
use std::sync::Arc;

use k8s_openapi::api::authorization::v1::{SelfSubjectRulesReview, SelfSubjectRulesReviewSpec};
use k8s_openapi::api::core::v1::{Pod, Secret};
use k8s_openapi::api::rbac::v1::Role;
use kf_k8s::train::Kind;
use kf_train::{Job, Launcher, run};
use kube::api::{ListParams, LogParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use libtest_mimic::Trial;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use super::attempts::{Attempts, VERBS, denied};
use super::{Given, cluster, image, trial, trial_with};

pub(crate) fn trials(runtime: &Arc<Runtime>, client: &Client) -> Vec<Trial> {
    vec![
        whole(runtime, client, "rights::secrets_are_not_read", secrets_are_not_read),
        whole(runtime, client, "rights::other_namespaces_are_closed", other_namespaces_are_closed),
        whole(runtime, client, "rights::pods_beyond_the_level_are_refused", pods_beyond_the_level),
        whole(runtime, client, "rights::nobody_gives_itself_more", nobody_gives_itself_more),
        whole(runtime, client, "rights::they_are_those_of_the_role_alone", those_of_the_role_alone),
        whole(runtime, client, "rights::tasks_have_none", tasks_have_none),
        trial(runtime, client, "rights::a_launcher_has_those_of_its_kinds", those_of_its_kinds),
        trial(runtime, client, "rights::no_token_is_in_a_pod", no_token_is_in_a_pod),
    ]
}

/// With all that the options have to give.
fn whole<F: Future<Output = ()> + 'static>(
    runtime: &Arc<Runtime>,
    client: &Client,
    name: &str,
    test: impl FnOnce(Given) -> F + Send + 'static,
) -> Trial {
    trial_with(runtime, client, name, |_| {}, test)
}

async fn task(given: &Given) -> Client {
    cluster::account(&given.admin, &given.namespace, "kf-task").await
}

async fn secrets_are_not_read(given: Given) {
    let secrets: Api<Secret> = Api::namespaced(given.admin.clone(), &given.namespace);
    let secret = json!({"metadata": {"name": "x"}, "stringData": {"key": "value"}});
    let secret: Secret = serde_json::from_value(secret).unwrap();
    secrets.create(&PostParams::default(), &secret).await.unwrap();
    for account in [&given.engine, &task(&given).await] {
        for namespace in [given.namespace.as_str(), "kube-system", "default"] {
            Attempts::at(account, namespace, "Secret").are_denied(&VERBS).await;
            Attempts::at(account, namespace, "ConfigMap").are_denied(&VERBS).await;
        }
        Attempts::everywhere(account, "Secret").are_denied(&["list"]).await;
    }
    assert!(secrets.get("x").await.unwrap().data.unwrap().contains_key("key"));
}

async fn other_namespaces_are_closed(given: Given) {
    let other = "kube-system";
    let pods: Api<Pod> = Api::namespaced(given.admin.clone(), other);
    let theirs = pods.list(&ListParams::default()).await.unwrap().items;
    for account in [&given.engine, &task(&given).await] {
        for of in ["Pod", "Job of batch/v1", "JobSet of jobset.x-k8s.io/v1alpha2", "PersistentVolumeClaim"] {
            Attempts::at(account, other, of).are_denied(&VERBS).await;
            Attempts::everywhere(account, of).are_denied(&["list"]).await;
        }
        Attempts::at(account, other, "Event").are_denied(&["list"]).await;
        Attempts::everywhere(account, "Node").are_denied(&["get", "list"]).await;
        Attempts::everywhere(account, "Namespace").are_denied(&VERBS).await;
        let pods: Api<Pod> = Api::namespaced(account.clone(), other);
        for name in theirs.iter().map(|pod| pod.metadata.name.as_deref().unwrap()).chain(["x"]) {
            denied(pods.get(name).await, r#"cannot get resource "pods""#);
            denied(pods.logs(name, &LogParams::default()).await, r#"cannot get resource "pods/log""#);
        }
        let pod = serde_json::from_value(pod(&json!({}), &json!({}))).unwrap();
        denied(pods.create(&PostParams::default(), &pod).await, r#"cannot create resource "pods""#);
    }
}

/// A pod that is within the level, but for these fields of it and of its container.
fn pod(spec: &Value, container: &Value) -> Value {
    let mut pod = json!({"metadata": {"name": "single"}, "spec": {
        "serviceAccountName": "kf-task",
        "securityContext": {"runAsNonRoot": true, "runAsUser": 65_532, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [{"name": "main", "image": image::NAME, "securityContext": {
            "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}}}]}});
    let add = |to: &mut Value, fields: &Value| {
        to.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    };
    add(&mut pod["spec"]["containers"][0], container);
    add(&mut pod["spec"], spec);
    pod
}

async fn pods_beyond_the_level(given: Given) {
    let pods: Api<Pod> = Api::namespaced(given.engine.clone(), &given.namespace);
    let none = json!({});
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    let within: Pod = serde_json::from_value(pod(&none, &none)).unwrap();
    pods.create(&dry, &within).await.unwrap();
    let privileged = json!({"securityContext": {"privileged": true, "allowPrivilegeEscalation": true}});
    let capable = json!({"securityContext": {"allowPrivilegeEscalation": false,
        "capabilities": {"drop": ["ALL"], "add": ["SYS_ADMIN"]}}});
    let root = json!({"securityContext": {"runAsUser": 0, "allowPrivilegeEscalation": false,
        "capabilities": {"drop": ["ALL"]}}});
    let host_path = json!({"volumes": [{"name": "node", "hostPath": {"path": "/"}}]});
    let ports = json!({"ports": [{"containerPort": 80, "hostPort": 80}]});
    for (spec, container, why) in [
        (&none, &privileged, "privileged"),
        (&none, &capable, "unrestricted capabilities"),
        (&none, &root, "runAsUser=0"),
        (&none, &json!({"securityContext": {}}), "allowPrivilegeEscalation != false"),
        (&none, &ports, "hostPort"),
        (&host_path, &none, "hostPath"),
        (&json!({"hostNetwork": true}), &none, "host namespaces"),
        (&json!({"hostPID": true}), &none, "host namespaces"),
        (&json!({"securityContext": {}}), &none, "runAsNonRoot != true"),
    ] {
        let beyond: Pod = serde_json::from_value(pod(spec, container)).unwrap();
        let done = pods.create(&PostParams::default(), &beyond).await;
        let text = denied(done, "violates PodSecurity \"restricted:latest\"");
        assert!(text.contains(why), "{why}: {text}");
    }
    assert!(pods.list(&ListParams::default()).await.unwrap().items.is_empty());
}

async fn nobody_gives_itself_more(given: Given) {
    let rbac = "rbac.authorization.k8s.io/v1";
    for account in [&given.engine, &task(&given).await] {
        for kind in ["Role", "RoleBinding"] {
            Attempts::at(account, &given.namespace, &format!("{kind} of {rbac}")).are_denied(&VERBS).await;
        }
        Attempts::everywhere(account, &format!("ClusterRoleBinding of {rbac}")).are_denied(&["create"]).await;
        Attempts::at(account, &given.namespace, "NetworkPolicy of networking.k8s.io/v1")
            .are_denied(&VERBS)
            .await;
        Attempts::at(account, &given.namespace, "ServiceAccount").are_denied(&VERBS).await;
        let accounts: Api<k8s_openapi::api::core::v1::ServiceAccount> =
            Api::namespaced(account.clone(), &given.namespace);
        for name in ["kf-engine", "kf-task", "default"] {
            let asked = k8s_openapi::api::authentication::v1::TokenRequest::default();
            let token = accounts.create_token_request(name, &PostParams::default(), &asked).await;
            denied(token, r#"cannot create resource "serviceaccounts/token""#);
        }
        // Whose labels hold pods to their level.
        let namespaces: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(account.clone());
        let lift = json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "privileged"}}});
        let lifted = namespaces.patch(&given.namespace, &PatchParams::default(), &Patch::Merge(lift)).await;
        denied(lifted, r#"cannot patch resource "namespaces""#);
    }
}

/// What an account may do in the namespace, as the cluster sees it: a line for each rule.
async fn rules(client: &Client, given: &Given) -> BTreeSet<String> {
    let asked = SelfSubjectRulesReview {
        spec: SelfSubjectRulesReviewSpec { namespace: Some(given.namespace.clone()) },
        ..SelfSubjectRulesReview::default()
    };
    let reviews: Api<SelfSubjectRulesReview> = Api::all(client.clone());
    let told = reviews.create(&PostParams::default(), &asked).await.unwrap().status.unwrap();
    assert!(!told.resource_rules.is_empty(), "not even to ask this");
    let line = |rule: &Value| {
        let words =
            |name: &str| rule[name].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let [groups, resources, verbs]: [Vec<&str>; 3] = ["apiGroups", "resources", "verbs"].map(words);
        format!("{}/{}: {}", groups.join(","), resources.join(","), verbs.join(" "))
    };
    told.resource_rules.iter().map(|rule| line(&serde_json::to_value(rule).unwrap())).collect()
}

async fn those_of_the_role_alone(given: Given) {
    let anybody = cluster::account(&given.admin, &given.namespace, "default").await;
    let anybody = rules(&anybody, &given).await;
    let engine = rules(&given.engine, &given).await;
    let own: Vec<_> = engine.difference(&anybody).map(String::as_str).collect();
    let all = "create get list watch patch delete deletecollection";
    let mut expected = vec![
        format!("/pods: {all}"),
        "/pods/log: get".into(),
        "/events: list watch".into(),
        "/persistentvolumeclaims: create get delete".into(),
        "/services: create".into(),
        format!("batch/jobs: {all}"),
        format!("jobset.x-k8s.io/jobsets: {all}"),
        format!("trainer.kubeflow.org/trainjobs: {all}"),
        "trainer.kubeflow.org/trainingruntimes: create patch".into(),
        format!("kubeflow.org/pytorchjobs: {all}"),
    ];
    expected.sort();
    assert_eq!(own, expected);
    assert_eq!(rules(&task(&given).await, &given).await, anybody);
}

/// What the engine's account has was asked for in this namespace, and nothing else was.
pub(crate) async fn were_all_used(given: &Given) {
    let roles: Api<Role> = Api::namespaced(given.admin.clone(), &given.namespace);
    let rules = roles.get("kf-engine").await.unwrap().rules.unwrap();
    let rights = rules.into_iter().flat_map(|rule| {
        let (group, resource) = (rule.api_groups.unwrap().concat(), rule.resources.unwrap().concat());
        rule.verbs.into_iter().map(move |verb| format!("{verb} {group}/{resource}"))
    });
    let rights: BTreeSet<String> = rights.collect();
    // Asked where pods are late, with the right to it or without.
    let on_time = |mut asked: BTreeSet<String>| {
        asked.remove("list /events");
        asked
    };
    assert_eq!(on_time(given.asked.all()), rights, "asked for, and given");
    assert_eq!(given.asked.granted(), rights);
}

async fn tasks_have_none(given: Given) {
    let task = task(&given).await;
    for of in [
        "Pod",
        "Service",
        "Event",
        "PersistentVolumeClaim",
        "Job of batch/v1",
        "JobSet of jobset.x-k8s.io/v1alpha2",
        "TrainJob of trainer.kubeflow.org/v1alpha1",
        "TrainingRuntime of trainer.kubeflow.org/v1alpha1",
        "PyTorchJob of kubeflow.org/v1",
    ] {
        Attempts::at(&task, &given.namespace, of).are_denied(&VERBS).await;
    }
}

async fn those_of_its_kinds(given: Given) {
    for of in ["JobSet of jobset.x-k8s.io/v1alpha2", "TrainJob of trainer.kubeflow.org/v1alpha1"] {
        Attempts::at(&given.engine, &given.namespace, of).are_denied(&VERBS).await;
    }
    Attempts::at(&given.engine, &given.namespace, "Pod")
        .are_denied(&["create", "patch", "delete", "deletecollection"])
        .await;
    Attempts::at(&given.engine, &given.namespace, "Service")
        .are_denied(&["get", "list", "patch", "delete", "deletecollection"])
        .await;
    for of in ["PersistentVolumeClaim", "Event"] {
        Attempts::at(&given.engine, &given.namespace, of).are_denied(&VERBS).await;
    }
    let job = Job::command("sh", ["-c", "true"], 1).spec().unwrap().clone();
    let refused = given.launcher(Kind::JobSet).submit(job, "another-kind").await.unwrap_err().to_string();
    assert!(refused.contains("(403)") && refused.contains("jobsets"), "{refused}");
}

async fn no_token_is_in_a_pod(given: Given) {
    let script = "! [ -e /var/run/secrets/kubernetes.io ] && echo none";
    let launcher = given.launcher(Kind::Job);
    run::<()>(&*launcher, Job::command("sh", ["-c", script], 1)).await.unwrap();
    // Nor in one that forgets to say so.
    let pods: Api<Pod> = Api::namespaced(given.admin.clone(), &given.namespace);
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    let none = json!({});
    for (account, mounts) in [("kf-task", false), ("default", true)] {
        let asked = pod(&json!({"serviceAccountName": account}), &none);
        let made = pods.create(&dry, &serde_json::from_value(asked).unwrap()).await.unwrap();
        let text = serde_json::to_string(&made.spec).unwrap();
        assert_eq!(text.contains("serviceAccountToken"), mounts, "{text}");
    }
}
