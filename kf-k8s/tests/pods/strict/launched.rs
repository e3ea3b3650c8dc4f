//! Jobs as a launcher makes them: by each kind, for each gang, with all that options give.

use std::time::Duration;

use k8s_openapi::api::core::v1::Toleration;
use kf_core::resources::Resources;
use kf_k8s::objects::volcano::{NetworkTopology, TopologyMode};
use kf_k8s::train::{ClaimMount, Gang, Kind, KubeLauncher, Nearness, PodOptions};
use kf_train::{Job, JobSpec, Launcher};
use kube::Api;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind, ListParams};
use kube::discovery::pinned_kind;
use serde_json::{Value as Json, json};

use super::super::judge;
use super::server::Server;
use super::{Given, are_all, is_full};

/// A label that no node has, so that nothing runs.
const NOWHERE: &str = "kf.dev/nowhere";

/// What a launcher makes, or has made, for a job.
const MADE: [(&str, &str, &str); 8] = [
    ("batch", "v1", "Job"),
    ("jobset.x-k8s.io", "v1alpha2", "JobSet"),
    ("kubeflow.org", "v1", "PyTorchJob"),
    ("trainer.kubeflow.org", "v1alpha1", "TrainJob"),
    ("trainer.kubeflow.org", "v1alpha1", "TrainingRuntime"),
    ("scheduling.x-k8s.io", "v1alpha1", "PodGroup"),
    ("scheduling.volcano.sh", "v1beta1", "PodGroup"),
    ("", "v1", "Service"),
];

/// The launcher's own client has what it makes checked; nothing is left to say but whether its pods could be made.
pub(super) async fn all(given: Given) {
    let server = Server::new(&given.namespace).await;
    let kinds = [Kind::Job, Kind::JobSet, Kind::TrainJob, Kind::PyTorchJob];
    are_all(&kinds, "src/train/kinds/mod.rs", "Kind");
    are_all(&gangs(), "src/train/gang.rs", "Gang");
    let refused = misspelt(&given).await;
    assert!(refused.contains("notAField"), "{refused}");
    let mut problems = Vec::new();
    let mut number = 0;
    for kind in kinds {
        if !has(&server, kind).await {
            judge("strict-jobs", &format!("skipped: the cluster has no {kind:?}"));
            continue;
        }
        for gang in gangs() {
            for spec in specs() {
                number += 1;
                if let Err(problem) = one(&given, &server, kind, &gang, spec, number).await {
                    problems.push(format!("{kind:?} of {gang:?}: {problem}"));
                }
            }
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    judge("strict-jobs", "passed");
}

async fn one(
    given: &Given,
    server: &Server,
    kind: Kind,
    gang: &Gang,
    spec: JobSpec,
    number: usize,
) -> Result<(), String> {
    let group = match gang {
        Gang::Coscheduling { .. } => Some("scheduling.x-k8s.io"),
        Gang::Volcano { .. } => Some("scheduling.volcano.sh"),
        _ => None,
    };
    if let Some(group) = group {
        let object = json!({"apiVersion": format!("{group}/v1alpha1"), "kind": "PodGroup"});
        let beta = json!({"apiVersion": format!("{group}/v1beta1"), "kind": "PodGroup"});
        if !server.has(&object).await && !server.has(&beta).await {
            return Ok(());
        }
    }
    let launcher = given.launcher_of(kind, options(gang.clone()));
    let handle = launcher.submit(spec, &format!("full-{number}")).await.map_err(|error| error.to_string())?;
    let (mut templates, mut groups) = (0, 0);
    for object in made(given, server, &KubeLauncher::name(&handle)).await {
        let pods = server.check_pods(&object).await;
        templates += pods.map_err(|problem| format!("{}: {problem}", object["kind"]))?;
        groups += usize::from(object["kind"] == "PodGroup");
    }
    assert!(templates > 0, "{kind:?} has no pods");
    assert_eq!(groups, usize::from(group.is_some()), "{kind:?} of {gang:?}");
    launcher.cancel(&handle).await.map_err(|error| error.to_string())?;
    launcher.delete(&handle).await.map_err(|error| error.to_string())
}

/// The objects of a job that there are.
async fn made(given: &Given, server: &Server, job: &str) -> Vec<Json> {
    let mut found = Vec::new();
    for (group, version, kind) in MADE {
        let kind = GroupVersionKind::gvk(group, version, kind);
        let Ok((resource, _)) = pinned_kind(&server.client, &kind).await else { continue };
        let all: Api<DynamicObject> = Api::namespaced_with(given.admin.clone(), &given.namespace, &resource);
        let list = ListParams::default().labels(&format!("kf.dev/job={job}"));
        for mut object in all.list(&list).await.unwrap().items {
            object.types = Some(kube::api::TypeMeta {
                api_version: resource.api_version.clone(),
                kind: resource.kind.clone(),
            });
            found.push(json!(object));
        }
    }
    found
}

async fn has(server: &Server, kind: Kind) -> bool {
    let named = format!("{kind:?}");
    let (group, version, _) = MADE.into_iter().find(|(_, _, kind)| *kind == named).unwrap();
    server.has(&json!({"apiVersion": format!("{group}/{version}"), "kind": named})).await
}

/// What comes of a field that the cluster does not know, by a launcher's client.
async fn misspelt(given: &Given) -> String {
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("batch", "v1", "Job"));
    let all: Api<DynamicObject> = Api::namespaced_with(given.engine.clone(), &given.namespace, &resource);
    let pod = json!({"spec": {"restartPolicy": "Never", "containers": [{"name": "a", "image": "b"}]}});
    let spec = json!({"spec": {"template": pod, "notAField": true}});
    all.create(&Default::default(), &DynamicObject::new("a", &resource).data(spec))
        .await
        .unwrap_err()
        .to_string()
}

fn gangs() -> Vec<Gang> {
    let topology = NetworkTopology { mode: Some(TopologyMode::Hard), highest_tier_allowed: Some(2) };
    let level = || "topology.kubernetes.io/zone".to_owned();
    let near = [Nearness::Required(level()), Nearness::Preferred(level())];
    are_all(&near, "src/train/gang.rs", "Nearness");
    let kueue = |topology| Gang::Kueue {
        queue: "team-a".into(),
        priority_class: Some("urgent".into()),
        topology: Some(topology),
    };
    let mut all = vec![
        Gang::coscheduling("nobody", Duration::from_secs(10)),
        Gang::Volcano { queue: Some("research".into()), topology: Some(topology) },
    ];
    all.extend(near.map(kueue));
    all
}

/// All that options can say.
pub(super) fn options(gang: Gang) -> PodOptions {
    let toleration = |key: &str, operator: &str, value: Option<&str>, effect: &str, seconds| Toleration {
        key: Some(key.to_owned()),
        operator: Some(operator.to_owned()),
        value: value.map(str::to_owned),
        effect: Some(effect.to_owned()),
        toleration_seconds: seconds,
    };
    let mut options = PodOptions::new("registry.example/train:1");
    options.image_pull_policy = Some("IfNotPresent".into());
    options.service_account = Some("kf-task".into());
    options.node_selector = [(NOWHERE.to_owned(), "true".to_owned())].into();
    options.tolerations = vec![
        toleration("cloud.google.com/gke-spot", "Equal", Some("true"), "NoSchedule", None),
        toleration("nvidia.com/gpu", "Exists", None, "NoSchedule", None),
        toleration("node.kubernetes.io/unreachable", "Exists", None, "NoExecute", Some(30)),
    ];
    // One that every cluster has; on no node it takes nobody's place.
    options.priority_class = Some("system-cluster-critical".into());
    options.labels = [("example.com/team".to_owned(), "a".to_owned())].into();
    options.claims = vec![ClaimMount::new("saved", "/saved"), ClaimMount::new("data", "/data").read_only()];
    options.secrets = vec!["keys".into(), "more-keys".into()];
    options.gang = Some(gang);
    is_full(&options);
    options
}

/// Ranks of this program on one node, and a command on several that asks for accelerators.
fn specs() -> [JobSpec; 2] {
    // Of a size that a cluster does not write in another way.
    let each = || Resources::none().cpu(0.5).memory("1000000007").unwrap();
    let common = |job: Job| {
        job.env("A", "$(B) $HOME").timeout(Duration::from_secs(3600)).stop_grace(Duration::from_secs(5))
    };
    let ranks = common(Job::ranks("double", 2).args(&21)).resources(each());
    let command = common(Job::command("sh", ["-c", "echo $(RANK)"], 1).nodes(2))
        .cwd("/work")
        .resources(each().accelerator("nvidia.com/gpu", 1.0));
    [ranks, command].map(|job| job.spec().unwrap().clone())
}
