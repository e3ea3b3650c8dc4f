//! One object of each kind with every field of this crate's types set, so that a field without a counterpart in the CRD
//! can't hide: the literals leave nothing to a default.

mod argo;
mod trainer;
mod v1;

use std::collections::BTreeMap;

use k8s_openapi::api::autoscaling::v2::{MetricSpec, MetricTarget, ResourceMetricSource};
use k8s_openapi::api::batch::v1::{JobSpec, JobTemplateSpec};
use k8s_openapi::api::core::v1::{
    Container, ContainerPort, EnvVar, EnvVarSource, LocalObjectReference, ObjectFieldSelector, PodSpec,
    PodTemplateSpec, ResourceRequirements, Toleration, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta, Time};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kf_k8s::objects::jobset::{
    Coordinator, DependencyStatus, DependsOn, FailureAction, FailurePolicy, FailureRule, JobSet, JobSetSpec,
    JobSetStatus, Network, Operator, ReplicatedJob, ReplicatedJobStatus, RestartStrategy, SuccessPolicy,
};
use kf_k8s::objects::{pod_group, volcano};

pub(super) use argo::workflow;
pub(super) use trainer::{cluster_training_runtime, train_job, training_runtime};
pub(super) use v1::{jax_job, mpi_job, paddle_job, pytorch_job, tf_job, xgboost_job};

pub(super) fn number(number: i32) -> IntOrString {
    IntOrString::Int(number)
}

fn time() -> Time {
    Time("2026-03-01T10:00:00Z".parse().unwrap())
}

fn texts<const N: usize>(texts: [&str; N]) -> Vec<String> {
    texts.map(str::to_owned).into()
}

fn resources() -> BTreeMap<String, Quantity> {
    [("cpu", "500m"), ("nvidia.com/gpu", "8")]
        .map(|(name, value)| (name.into(), Quantity(value.into())))
        .into()
}

fn labels() -> BTreeMap<String, String> {
    [("example.com/team".to_owned(), "a".to_owned())].into()
}

fn marks() -> ObjectMeta {
    ObjectMeta { labels: Some(labels()), annotations: Some(labels()), ..Default::default() }
}

fn named(name: &str) -> ObjectMeta {
    ObjectMeta { name: Some(name.into()), namespace: Some("team".into()), ..marks() }
}

fn env() -> Vec<EnvVar> {
    let field = ObjectFieldSelector { field_path: "metadata.name".into(), ..Default::default() };
    let source = EnvVarSource { field_ref: Some(field), ..Default::default() };
    vec![
        EnvVar { name: "A".into(), value: Some("1".into()), ..Default::default() },
        EnvVar { name: "B".into(), value_from: Some(source), ..Default::default() },
    ]
}

fn secret() -> LocalObjectReference {
    LocalObjectReference { name: "credentials".into() }
}

fn toleration() -> Toleration {
    Toleration {
        key: Some("nvidia.com/gpu".into()),
        operator: Some("Exists".into()),
        effect: Some("NoSchedule".into()),
        ..Default::default()
    }
}

fn volume() -> Volume {
    Volume { name: "data".into(), empty_dir: Some(Default::default()), ..Default::default() }
}

fn mount() -> VolumeMount {
    VolumeMount { name: "data".into(), mount_path: "/data".into(), ..Default::default() }
}

fn needs() -> ResourceRequirements {
    ResourceRequirements { limits: Some(resources()), requests: Some(resources()), claims: None }
}

fn pod(container: &str) -> PodTemplateSpec {
    let container = Container {
        name: container.into(),
        image: Some("trainer:1".into()),
        command: Some(texts(["train"])),
        env: Some(env()),
        ports: Some(vec![ContainerPort { container_port: 29500, ..Default::default() }]),
        resources: Some(needs()),
        volume_mounts: Some(vec![mount()]),
        ..Default::default()
    };
    let spec = PodSpec {
        containers: vec![container],
        restart_policy: Some("Never".into()),
        tolerations: Some(vec![toleration()]),
        volumes: Some(vec![volume()]),
        ..Default::default()
    };
    PodTemplateSpec { metadata: Some(marks()), spec: Some(spec) }
}

fn metric() -> MetricSpec {
    let target = MetricTarget {
        type_: "Utilization".into(),
        average_utilization: Some(80),
        average_value: None,
        value: None,
    };
    MetricSpec {
        type_: "Resource".into(),
        resource: Some(ResourceMetricSource { name: "cpu".into(), target }),
        ..Default::default()
    }
}

fn condition() -> Condition {
    Condition {
        type_: "Suspended".into(),
        status: "False".into(),
        reason: "Resumed".into(),
        message: "It goes on.".into(),
        last_transition_time: time(),
        observed_generation: Some(1),
    }
}

fn job_set_spec() -> JobSetSpec {
    let job = JobSpec {
        parallelism: Some(2),
        completions: Some(2),
        completion_mode: Some("Indexed".into()),
        backoff_limit: Some(0),
        template: pod("node"),
        ..Default::default()
    };
    let replicated = |name: &str, depends_on| ReplicatedJob {
        name: name.into(),
        replicas: Some(1),
        template: JobTemplateSpec { metadata: Some(marks()), spec: Some(job.clone()) },
        depends_on,
    };
    let after = DependsOn { name: "first".into(), status: DependencyStatus::Complete };
    JobSetSpec {
        replicated_jobs: vec![replicated("first", Vec::new()), replicated("node", vec![after])],
        network: Some(Network {
            enable_dns_hostnames: Some(true),
            subdomain: Some("nodes".into()),
            publish_not_ready_addresses: Some(true),
        }),
        success_policy: Some(SuccessPolicy {
            operator: Operator::All,
            target_replicated_jobs: texts(["node"]),
        }),
        failure_policy: Some(FailurePolicy {
            max_restarts: Some(3),
            restart_strategy: Some(RestartStrategy::BlockingRecreate),
            rules: vec![FailureRule {
                name: "gone".into(),
                action: FailureAction::FailJobSet,
                on_job_failure_reasons: texts(["PodFailurePolicy"]),
                on_job_failure_message_patterns: texts(["exit code 3"]),
                target_replicated_jobs: texts(["node"]),
            }],
        }),
        suspend: Some(false),
        coordinator: Some(Coordinator {
            replicated_job: "node".into(),
            job_index: Some(0),
            pod_index: Some(0),
        }),
        ttl_seconds_after_finished: Some(600),
        managed_by: Some("jobset.sigs.k8s.io/jobset-controller".into()),
    }
}

pub(super) fn job_set() -> JobSet {
    let jobs = ReplicatedJobStatus {
        name: "node".into(),
        ready: 1,
        succeeded: 2,
        failed: 3,
        active: 4,
        suspended: 5,
    };
    JobSet {
        metadata: named("js"),
        spec: job_set_spec(),
        status: Some(JobSetStatus {
            conditions: vec![condition()],
            restarts: Some(2),
            restarts_count_towards_max: Some(1),
            terminal_state: Some("Completed".into()),
            replicated_jobs_status: vec![jobs],
        }),
    }
}

fn topology() -> volcano::NetworkTopology {
    volcano::NetworkTopology { mode: Some(volcano::TopologyMode::Soft), highest_tier_allowed: Some(2) }
}

pub(super) fn volcano_pod_group() -> volcano::PodGroup {
    volcano::PodGroup {
        metadata: named("gang"),
        spec: volcano::PodGroupSpec {
            min_member: Some(3),
            min_task_member: [("worker".to_owned(), 2)].into(),
            queue: Some("default".into()),
            priority_class_name: Some("high".into()),
            min_resources: resources(),
            network_topology: Some(topology()),
        },
        status: Some(volcano::PodGroupStatus {
            phase: Some(volcano::PodGroupPhase::Inqueue),
            conditions: vec![volcano::PodGroupCondition {
                type_: Some("Unschedulable".into()),
                status: Some("True".into()),
                reason: Some("NotEnoughResources".into()),
                message: Some("There is no room.".into()),
                last_transition_time: Some(time()),
                transition_id: Some("0f".into()),
            }],
            running: Some(1),
            succeeded: Some(2),
            failed: Some(3),
        }),
    }
}

pub(super) fn pod_group() -> pod_group::PodGroup {
    pod_group::PodGroup {
        metadata: named("gang"),
        spec: pod_group::PodGroupSpec {
            min_member: 3,
            min_resources: resources(),
            schedule_timeout_seconds: Some(60),
        },
        status: Some(pod_group::PodGroupStatus {
            phase: Some(pod_group::PodGroupPhase::Scheduling),
            occupied_by: Some("team/job".into()),
            running: Some(1),
            succeeded: Some(2),
            failed: Some(3),
            schedule_start_time: Some(time()),
        }),
    }
}
