//! Objects of the training operator.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kf_k8s::objects::job_status::{JobCondition, JobStatus, ReplicaStatus};
use kf_k8s::objects::pytorchjob::{ElasticPolicy, PyTorchJob, PyTorchJobSpec, RdzvConf};
use kf_k8s::objects::run_policy::{
    CHIEF, CleanPodPolicy, EVALUATOR, LAUNCHER, MASTER, PS, ReplicaSpec, ReplicaSpecs, RestartPolicy,
    RunPolicy, SchedulingPolicy, WORKER,
};
use kf_k8s::objects::v1_jobs::{
    JAXJob, JAXJobSpec, MPIJob, MPIJobSpec, PaddleElasticPolicy, PaddleJob, PaddleJobSpec, TFJob, TFJobSpec,
    XGBoostJob, XGBoostJobSpec,
};

use super::{metric, named, pod, resources, time};

fn replicas(container: &str, names: &[&str]) -> ReplicaSpecs {
    let spec = ReplicaSpec {
        replicas: Some(1),
        restart_policy: Some(RestartPolicy::OnFailure),
        template: pod(container),
    };
    names.iter().map(|name| (name.to_string(), spec.clone())).collect()
}

fn run_policy() -> Option<RunPolicy> {
    Some(RunPolicy {
        clean_pod_policy: Some(CleanPodPolicy::Running),
        ttl_seconds_after_finished: Some(600),
        active_deadline_seconds: Some(3600),
        backoff_limit: Some(3),
        suspend: Some(true),
        scheduling_policy: Some(SchedulingPolicy {
            min_available: Some(2),
            queue: Some("default".into()),
            min_resources: resources(),
            priority_class: Some("high".into()),
            schedule_timeout_seconds: Some(60),
        }),
        managed_by: Some("kubeflow.org/training-operator".into()),
    })
}

fn status() -> Option<JobStatus> {
    let now: Option<Time> = Some(time());
    let workers = ReplicaStatus {
        active: Some(1),
        succeeded: Some(2),
        failed: Some(3),
        selector: Some("training.kubeflow.org/job-name=a".into()),
    };
    Some(JobStatus {
        conditions: vec![JobCondition {
            type_: "Running".into(),
            status: "True".into(),
            reason: Some("JobRunning".into()),
            message: Some("It runs.".into()),
            last_update_time: now.clone(),
            last_transition_time: now.clone(),
        }],
        replica_statuses: [(WORKER.to_owned(), workers)].into(),
        start_time: now.clone(),
        completion_time: now,
    })
}

pub(crate) fn pytorch_job() -> PyTorchJob {
    let spec = PyTorchJobSpec {
        pytorch_replica_specs: replicas("pytorch", &[MASTER, WORKER]),
        run_policy: run_policy(),
        nproc_per_node: Some("auto".into()),
        elastic_policy: Some(ElasticPolicy {
            min_replicas: Some(1),
            max_replicas: Some(3),
            max_restarts: Some(10),
            rdzv_backend: Some("c10d".into()),
            rdzv_host: Some("host".into()),
            rdzv_port: Some(29400),
            rdzv_id: Some("meeting".into()),
            rdzv_conf: vec![RdzvConf { key: "timeout".into(), value: "60".into() }],
            standalone: Some(false),
            metrics: vec![metric()],
        }),
    };
    PyTorchJob { metadata: named("a"), spec, status: status() }
}

pub(crate) fn tf_job() -> TFJob {
    let spec = TFJobSpec {
        tf_replica_specs: replicas("tensorflow", &[CHIEF, PS, WORKER, EVALUATOR]),
        run_policy: run_policy(),
        success_policy: Some("AllWorkers".into()),
        enable_dynamic_worker: Some(true),
    };
    TFJob { metadata: named("a"), spec, status: status() }
}

pub(crate) fn xgboost_job() -> XGBoostJob {
    let spec = XGBoostJobSpec {
        xgb_replica_specs: replicas("xgboost", &[MASTER, WORKER]),
        run_policy: run_policy(),
    };
    XGBoostJob { metadata: named("a"), spec, status: status() }
}

pub(crate) fn mpi_job() -> MPIJob {
    let spec = MPIJobSpec {
        mpi_replica_specs: replicas("mpi", &[LAUNCHER, WORKER]),
        run_policy: run_policy(),
        slots_per_worker: Some(8),
        main_container: Some("mpi".into()),
        clean_pod_policy: Some(CleanPodPolicy::None),
    };
    MPIJob { metadata: named("a"), spec, status: status() }
}

pub(crate) fn paddle_job() -> PaddleJob {
    let spec = PaddleJobSpec {
        paddle_replica_specs: replicas("paddle", &[MASTER, WORKER]),
        run_policy: run_policy(),
        elastic_policy: Some(PaddleElasticPolicy {
            min_replicas: Some(1),
            max_replicas: Some(3),
            max_restarts: Some(10),
            metrics: vec![metric()],
        }),
    };
    PaddleJob { metadata: named("a"), spec, status: status() }
}

pub(crate) fn jax_job() -> JAXJob {
    let spec = JAXJobSpec { jax_replica_specs: replicas("jax", &[WORKER]), run_policy: run_policy() };
    JAXJob { metadata: named("a"), spec, status: status() }
}
