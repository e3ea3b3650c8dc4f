//! Objects of Trainer, whose own definitions differ from version to version.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kf_k8s::objects::jobset::ReplicatedJob;
use kf_k8s::objects::training_runtime::{
    ANCESTOR_STEP_LABEL, DATASET_INITIALIZER_STEP, MODEL_INITIALIZER_STEP, MlPolicy, PodGroupPolicy,
    TorchPolicy, TrainingRuntimeSpec,
};
use kf_k8s::objects::{ClusterTrainingRuntime, TrainJob, TrainingRuntime};
use kube::Api;
use kube::api::PostParams;
use serde_json::{Value as Json, json};

use super::server::Server;
use super::version::Version;
use super::{Given, filled};

/// The runtime of the namespace that jobs are of.
const RUNTIME: &str = "made";

/// Each kind, and each framework and scheduler of a runtime, with what this version knows.
pub(super) async fn all(given: &Given, server: &Server) -> Vec<Json> {
    let version = Version::of(server).await;
    let mut objects = Vec::new();
    for spec in specs(version) {
        let runtime = TrainingRuntime { spec: spec.clone(), ..filled::training_runtime() };
        let cluster = ClusterTrainingRuntime { spec, ..filled::cluster_training_runtime() };
        objects.extend([json!(runtime), json!(cluster)]);
    }
    objects.push(json!(job(version)));
    if server.has(&objects[0]).await {
        // A job is refused whose runtime is not there.
        let mut runtime = filled::training_runtime();
        (runtime.metadata.name, runtime.metadata.namespace) = (Some(RUNTIME.into()), None);
        runtime.spec = specs(version).remove(0);
        let jobs = &mut runtime.spec.template.spec.replicated_jobs;
        let first = jobs.remove(0);
        jobs.extend([DATASET_INITIALIZER_STEP, MODEL_INITIALIZER_STEP].map(|step| fetches(&first, step)));
        jobs.rotate_right(2);
        jobs[2].depends_on[0].name = DATASET_INITIALIZER_STEP.into();
        let (runtime, _) = version.fit(&json!(runtime));
        let runtime: TrainingRuntime = serde_json::from_value(runtime).unwrap();
        let all: Api<TrainingRuntime> = Api::namespaced(given.admin.clone(), &given.namespace);
        all.create(&PostParams::default(), &runtime).await.unwrap();
    }
    objects
}

/// What a job has fetched before it trains.
fn fetches(like: &ReplicatedJob, step: &str) -> ReplicatedJob {
    let mut job = ReplicatedJob { name: step.to_owned(), ..like.clone() };
    let labels = [(ANCESTOR_STEP_LABEL.to_owned(), step.to_owned())];
    job.template.metadata.get_or_insert_default().labels = Some(labels.into());
    if let Some(pod) = job.template.spec.as_mut().and_then(|job| job.template.spec.as_mut()) {
        pod.containers[0].name = step.to_owned();
    }
    job
}

fn job(version: Version) -> TrainJob {
    let mut job = filled::train_job();
    job.spec.runtime_ref.name = RUNTIME.into();
    job.spec.runtime_ref.kind = Some("TrainingRuntime".into());
    if version == Version::Older {
        job.spec.runtime_patches.clear();
        job.spec.active_deadline_seconds = None;
        let mark = || [("example.com/team".to_owned(), "a".to_owned())].into();
        (job.spec.labels, job.spec.annotations) = (mark(), mark());
        if let Some(status) = &mut job.status {
            status.trainer_status = None;
        }
        if let Some(trainer) = &mut job.spec.trainer {
            trainer.num_proc_per_node = Some(IntOrString::String("auto".into()));
        }
    }
    job
}

/// Of frameworks, and of schedulers, a runtime has one.
fn specs(version: Version) -> Vec<TrainingRuntimeSpec> {
    let filled = filled::training_runtime().spec;
    let MlPolicy { num_nodes, mut torch, mpi, jax, xgboost, flux } = filled.ml_policy.clone().unwrap();
    let with = |policy: MlPolicy| MlPolicy { num_nodes, ..policy };
    if version == Version::Older {
        torch = Some(TorchPolicy { num_proc_per_node: Some(IntOrString::String("auto".into())) });
    }
    let mut policies =
        vec![with(MlPolicy { torch, ..Default::default() }), with(MlPolicy { mpi, ..Default::default() })];
    if version == Version::Newer {
        policies.extend([
            with(MlPolicy { jax, ..Default::default() }),
            with(MlPolicy { xgboost, ..Default::default() }),
            with(MlPolicy { flux, ..Default::default() }),
        ]);
    }
    let PodGroupPolicy { coscheduling, volcano } = filled.pod_group_policy.clone().unwrap();
    let mut groups = vec![PodGroupPolicy { coscheduling, volcano: None }];
    if version == Version::Newer {
        groups.push(PodGroupPolicy { coscheduling: None, volcano });
    }
    let policies = policies.into_iter().enumerate();
    let spec = |(index, policy): (usize, MlPolicy)| TrainingRuntimeSpec {
        ml_policy: Some(policy),
        pod_group_policy: Some(groups[index % groups.len()].clone()),
        ..filled.clone()
    };
    policies.map(spec).collect()
}
