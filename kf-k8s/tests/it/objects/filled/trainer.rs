//! Objects of Kubeflow Trainer.

use k8s_openapi::api::core::v1::{
    Affinity, NodeAffinity, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm,
};
use k8s_openapi::api::core::v1::{PodSchedulingGate, PodSecurityContext, SecurityContext};
use kf_k8s::objects::runtime_patch::{
    ContainerPatch, JobPatch, JobSetPatch, JobSetSpecPatch, JobSpecPatch, PodSpecPatch, PodTemplatePatch,
    ReplicatedJobPatch, RuntimePatch, RuntimeSpecPatch,
};
use kf_k8s::objects::training_runtime::{
    ClusterTrainingRuntime, Coscheduling, FluxPolicy, JaxPolicy, JobSetTemplate, MlPolicy, MpiPolicy,
    PodGroupPolicy, TorchPolicy, TrainingRuntime, TrainingRuntimeSpec, Volcano, XgboostPolicy,
};
use kf_k8s::objects::trainjob::{
    ChildJobs, Initializer, Metric, RuntimeRef, Source, TrainJob, TrainJobSpec, TrainJobStatus, Trainer,
    TrainerStatus,
};

use super::{
    condition, env, job_set_spec, labels, marks, mount, named, needs, number, secret, texts, time,
    toleration, topology, volume,
};

/// All but the fields that only an older Trainer has.
pub(crate) fn train_job() -> TrainJob {
    let source =
        Source { storage_uri: Some("hf://owner/name".into()), env: env(), secret_ref: Some(secret()) };
    let spec = TrainJobSpec {
        runtime_ref: RuntimeRef {
            name: "torch-distributed".into(),
            api_group: Some("trainer.kubeflow.org".into()),
            kind: Some("ClusterTrainingRuntime".into()),
        },
        initializer: Some(Initializer { dataset: Some(source.clone()), model: Some(source) }),
        trainer: Some(Trainer {
            image: Some("trainer:1".into()),
            command: texts(["train"]),
            args: texts(["--epochs", "3"]),
            env: env(),
            num_nodes: Some(2),
            resources_per_node: Some(needs()),
            num_proc_per_node: Some(number(8)),
        }),
        labels: Default::default(),
        annotations: Default::default(),
        runtime_patches: vec![runtime_patch()],
        suspend: Some(true),
        active_deadline_seconds: Some(3600),
        managed_by: Some("trainer.kubeflow.org/trainjob-controller".into()),
    };
    let node = ChildJobs { name: "node".into(), ready: 1, succeeded: 2, failed: 3, active: 4, suspended: 5 };
    let status = TrainJobStatus {
        conditions: vec![condition()],
        jobs_status: vec![node],
        trainer_status: Some(TrainerStatus {
            progress_percentage: Some(42),
            estimated_remaining_seconds: Some(780),
            metrics: vec![Metric { name: "loss".into(), value: "0.25".into() }],
            last_updated_time: Some(time()),
        }),
    };
    TrainJob { metadata: named("digits"), spec, status: Some(status) }
}

fn runtime_patch() -> RuntimePatch {
    let container = ContainerPatch {
        name: "side".into(),
        env: env(),
        volume_mounts: vec![mount()],
        security_context: Some(SecurityContext { run_as_non_root: Some(true), ..Default::default() }),
    };
    let pod = PodSpecPatch {
        service_account_name: Some("trainer".into()),
        node_selector: labels(),
        affinity: Some(affinity()),
        tolerations: vec![toleration()],
        scheduling_gates: vec![PodSchedulingGate { name: "example.com/gate".into() }],
        image_pull_secrets: vec![secret()],
        security_context: Some(PodSecurityContext { fs_group: Some(100), ..Default::default() }),
        volumes: vec![volume()],
        init_containers: vec![container.clone()],
        containers: vec![container],
    };
    let template = PodTemplatePatch { metadata: Some(marks()), spec: Some(pod) };
    let job = JobPatch { metadata: Some(marks()), spec: Some(JobSpecPatch { template: Some(template) }) };
    let replicated = ReplicatedJobPatch { name: "node".into(), template: Some(job) };
    let set = JobSetPatch {
        metadata: Some(marks()),
        spec: Some(JobSetSpecPatch { replicated_jobs: vec![replicated] }),
    };
    RuntimePatch {
        manager: "example.com/team".into(),
        time: Some(time()),
        training_runtime_spec: Some(RuntimeSpecPatch { template: Some(set) }),
    }
}

pub(super) fn affinity() -> Affinity {
    let requirement = NodeSelectorRequirement {
        key: "topology.kubernetes.io/zone".into(),
        operator: "In".into(),
        values: Some(texts(["a"])),
    };
    let term = NodeSelectorTerm { match_expressions: Some(vec![requirement]), match_fields: None };
    let required = NodeSelector { node_selector_terms: vec![term] };
    let node = NodeAffinity {
        required_during_scheduling_ignored_during_execution: Some(required),
        ..Default::default()
    };
    Affinity { node_affinity: Some(node), ..Default::default() }
}

/// All frameworks at once, of which a server takes only one: that is a CEL rule.
fn runtime_spec() -> TrainingRuntimeSpec {
    TrainingRuntimeSpec {
        ml_policy: Some(MlPolicy {
            num_nodes: Some(2),
            torch: Some(TorchPolicy { num_proc_per_node: None }),
            mpi: Some(MpiPolicy {
                num_proc_per_node: Some(8),
                mpi_implementation: Some("OpenMPI".into()),
                ssh_auth_mount_path: Some("/root/.ssh".into()),
                run_launcher_as_node: Some(true),
            }),
            jax: Some(JaxPolicy {}),
            xgboost: Some(XgboostPolicy {}),
            flux: Some(FluxPolicy { num_proc_per_node: Some(8) }),
        }),
        pod_group_policy: Some(PodGroupPolicy {
            coscheduling: Some(Coscheduling { schedule_timeout_seconds: Some(60) }),
            volcano: Some(Volcano { network_topology: Some(topology()) }),
        }),
        template: JobSetTemplate { metadata: Some(marks()), spec: job_set_spec() },
    }
}

pub(crate) fn training_runtime() -> TrainingRuntime {
    TrainingRuntime { metadata: named("torch"), spec: runtime_spec() }
}

pub(crate) fn cluster_training_runtime() -> ClusterTrainingRuntime {
    ClusterTrainingRuntime { metadata: named("torch"), spec: runtime_spec() }
}
