//! The objects against upstream's CRDs.

#[expect(dead_code, reason = "variants are looked at on a cluster")]
mod declared;
mod filled;
mod schema;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::path::{Path, PathBuf};

use k8s_openapi::{ClusterResourceScope, NamespaceResourceScope};
use kf_k8s::objects::training_runtime::{MlPolicy, TorchPolicy};
use kf_k8s::objects::{kueue, pod_group};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value as Json;

use schema::Schema;

/// Upstream's CRDs; none where they are not at hand, which is said.
pub(crate) fn crds() -> Option<PathBuf> {
    let folder = match std::env::var_os("KF_CONFORMANCE").filter(|folder| !folder.is_empty()) {
        Some(folder) => PathBuf::from(folder),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/conformance"),
    };
    let crds = folder.join("crds");
    if crds.is_dir() {
        return Some(crds);
    }
    println!("JUDGE crds skipped: KF_CONFORMANCE names no folder with crds/ in it");
    None
}

/// How a CRD calls a scope.
pub(crate) trait Scope {
    const NAME: &'static str;
}

impl Scope for NamespaceResourceScope {
    const NAME: &'static str = "Namespaced";
}

impl Scope for ClusterResourceScope {
    const NAME: &'static str = "Cluster";
}

/// A CRD, and the schema of one of its versions.
pub(crate) fn schema_of<K: k8s_openapi::Resource>(crds: &Path) -> (Json, Schema) {
    let path = crds.join(format!("{}_{}.yaml", K::GROUP, K::URL_PATH_SEGMENT));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let options = serde_saphyr::options! { budget: None };
    let crd: Json = serde_saphyr::from_str_with_options(&text, options).unwrap();
    let versions = crd["spec"]["versions"].as_array().unwrap();
    let version = versions.iter().find(|version| version["name"] == K::VERSION && version["served"] == true);
    let version = version.unwrap_or_else(|| panic!("{} has no {}", path.display(), K::VERSION));
    let schema = Schema::of_object(version["schema"]["openAPIV3Schema"].clone());
    (crd, schema)
}

/// What of an object is not as its CRD has it, by its kind. The bounds are those of `kube::Api` and its watchers.
pub(crate) fn problems<K>(crds: &Path, object: &K) -> (String, Vec<String>)
where
    K: kube::Resource<DynamicType = ()> + k8s_openapi::Resource<Scope: Scope>,
    K: Serialize + DeserializeOwned + Clone + Debug + PartialEq + Send + Sync + 'static,
{
    let (crd, schema) = schema_of::<K>(crds);
    let written = serde_json::to_value(object).unwrap();
    let mut problems = schema.problems(&written);
    let names = &crd["spec"];
    for (what, found, expected) in [
        ("apiVersion", &written["apiVersion"], K::API_VERSION),
        ("kind", &names["names"]["kind"], K::KIND),
        ("kind", &written["kind"], K::KIND),
        ("scope", &names["scope"], <<K as k8s_openapi::Resource>::Scope as Scope>::NAME),
    ] {
        if found != expected {
            problems.push(format!("{what}: {expected:?} here, {found} in the CRD or the object"));
        }
    }
    if serde_json::from_value::<K>(written).unwrap() != *object {
        problems.push("read again, it is another object".to_owned());
    }
    (format!("{}/{}", K::GROUP, K::KIND), problems)
}

#[test]
fn every_kind_is_as_its_crd_has_it() {
    let Some(crds) = crds() else { return };
    let found = BTreeMap::from([
        problems(&crds, &filled::train_job()),
        problems(&crds, &filled::training_runtime()),
        problems(&crds, &filled::cluster_training_runtime()),
        problems(&crds, &filled::job_set()),
        problems(&crds, &filled::pytorch_job()),
        problems(&crds, &filled::tf_job()),
        problems(&crds, &filled::xgboost_job()),
        problems(&crds, &filled::mpi_job()),
        problems(&crds, &filled::paddle_job()),
        problems(&crds, &filled::jax_job()),
        problems(&crds, &filled::volcano_pod_group()),
        problems(&crds, &filled::workflow()),
    ]);
    let mut all = declared::kinds();
    // Its CRD is not among these; a cluster that has it is asked.
    assert!(all.remove("scheduling.x-k8s.io/PodGroup"));
    let group = serde_json::to_value(filled::pod_group()).unwrap();
    assert_eq!(serde_json::from_value::<pod_group::PodGroup>(group).unwrap(), filled::pod_group());
    assert_eq!(found.keys().cloned().collect::<BTreeSet<_>>(), all);
    let wrong: Vec<_> = found.iter().filter(|(_, problems)| !problems.is_empty()).collect();
    match wrong.as_slice() {
        [] => println!("JUDGE crds passed"),
        _ => println!("JUDGE crds failed: {} of {} kinds", wrong.len(), found.len()),
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn what_only_an_older_trainer_has_is_refused_by_the_newer_crd() {
    let Some(crds) = crds() else { return };
    let mut job = filled::train_job();
    job.spec.labels.insert("team".into(), "a".into());
    job.spec.annotations.insert("why".into(), "b".into());
    assert_eq!(
        problems(&crds, &job).1,
        [".spec.labels: no such field", ".spec.annotations: no such field"].map(str::to_owned)
    );
    let mut runtime = filled::training_runtime();
    let torch = TorchPolicy { num_proc_per_node: Some(filled::number(2)) };
    runtime.spec.ml_policy = Some(MlPolicy { torch: Some(torch), ..Default::default() });
    assert_eq!(problems(&crds, &runtime).1, [".spec.mlPolicy.torch.numProcPerNode: no such field"]);
}

#[test]
fn an_object_that_its_crd_refuses_is_told_with_the_place() {
    let Some(crds) = crds() else { return };
    let (_, schema) = schema_of::<kf_k8s::objects::TrainJob>(&crds);
    let mut job = serde_json::to_value(filled::train_job()).unwrap();
    job["spec"]["trainer"]["numNodes"] = "two".into();
    job["spec"]["trainer"]["gpus"] = 1.into();
    job["spec"]["runtimeRef"].as_object_mut().unwrap().remove("name");
    job["status"]["conditions"][0]["status"] = "Maybe".into();
    let mut problems = schema.problems(&job);
    problems.sort();
    assert_eq!(
        problems,
        [
            ".spec.runtimeRef.name: missing",
            ".spec.trainer.gpus: no such field",
            ".spec.trainer.numNodes: expected an integer, found \"two\"",
            ".status.conditions[0].status: \"Maybe\" is none of [\"True\",\"False\",\"Unknown\"]",
        ]
    );
}

#[test]
fn kueue_reads_these_annotations() {
    let Some(crds) = crds() else { return };
    let text = std::fs::read_to_string(crds.join("kueue.x-k8s.io_workloads.yaml")).unwrap();
    for name in [kueue::REQUIRED_TOPOLOGY, kueue::PREFERRED_TOPOLOGY, kueue::UNCONSTRAINED_TOPOLOGY] {
        assert!(text.contains(&format!("`{name}`")), "{name}");
    }
}
