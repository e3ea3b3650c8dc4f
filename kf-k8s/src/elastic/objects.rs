//! The objects of elastic jobs.

use std::time::Duration;

use k8s_openapi::api::batch::v1::{
    JobSpec, PodFailurePolicy, PodFailurePolicyOnExitCodesRequirement,
    PodFailurePolicyOnPodConditionsPattern, PodFailurePolicyRule, SuccessPolicy, SuccessPolicyRule,
};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use serde_json::{Error, Value, to_value};

use super::pods::{conf, endpoints, template};
use super::{ElasticJob, ElasticKind};
use crate::objects::pytorchjob::{ElasticPolicy, PyTorchJobSpec, RdzvConf};
use crate::objects::run_policy::{CleanPodPolicy, ReplicaSpec, RestartPolicy, RunPolicy, WORKER};
use crate::pod::whole_seconds;
use crate::train::PodOptions;

/// With what an agent ends that was asked to leave: as shells tell of SIGTERM.
const LEFT: i32 = 143;
/// From here on codes are those of signals, which tell nothing of the job.
const SIGNALS: i32 = 128;

/// The `spec` of a job's object.
///
/// # Errors
/// What can't be written as JSON.
pub(super) fn spec(job: &ElasticJob, kind: ElasticKind, options: &PodOptions) -> Result<Value, Error> {
    let template = template(job, kind, options);
    match kind {
        ElasticKind::Job => to_value(indexed_job(job, template, options.keep)),
        ElasticKind::PyTorchJob => to_value(pytorchjob(job, template, options.keep)),
    }
}

fn indexed_job(job: &ElasticJob, template: PodTemplateSpec, keep: Duration) -> JobSpec {
    let nodes = Some(i32(job.start));
    JobSpec {
        completion_mode: Some("Indexed".into()),
        completions: nodes,
        parallelism: nodes,
        backoff_limit: Some(i32::try_from(job.max_replaced).unwrap_or(i32::MAX)),
        pod_failure_policy: Some(failure_policy(job.torchrun)),
        // Two pods of one number never run together.
        pod_replacement_policy: Some("Failed".into()),
        // An agent that ends well says so of the whole job: a pod that comes later finds nobody to join.
        success_policy: Some(SuccessPolicy {
            rules: vec![SuccessPolicyRule { succeeded_count: Some(1), succeeded_indexes: None }],
        }),
        active_deadline_seconds: job.timeout.map(seconds),
        ttl_seconds_after_finished: Some(i32(keep.as_secs())),
        template,
        ..JobSpec::default()
    }
}

/// What a failed pod means. One that is ended by the cluster, or left, counts for nothing; an agent that says that the job has
/// failed ends it; any other is replaced, so many times.
fn failure_policy(torchrun: bool) -> PodFailurePolicy {
    let on_codes = |action: &str, values: Vec<i32>| PodFailurePolicyRule {
        action: action.into(),
        on_exit_codes: Some(PodFailurePolicyOnExitCodesRequirement {
            container_name: None,
            operator: "In".into(),
            values,
        }),
        on_pod_conditions: None,
    };
    let disrupted = PodFailurePolicyRule {
        action: "Ignore".into(),
        on_exit_codes: None,
        on_pod_conditions: Some(vec![PodFailurePolicyOnPodConditionsPattern {
            status: "True".into(),
            type_: "DisruptionTarget".into(),
        }]),
    };
    let mut rules = vec![disrupted, on_codes("Ignore", vec![LEFT])];
    if !torchrun {
        rules.push(on_codes("FailJob", (1..SIGNALS).collect()));
    }
    PodFailurePolicy { rules }
}

fn pytorchjob(job: &ElasticJob, template: PodTemplateSpec, keep: Duration) -> PyTorchJobSpec {
    // The port is written behind all of them.
    let hosts = endpoints(job, ElasticKind::PyTorchJob);
    let hosts = hosts.strip_suffix(&format!(":{}", job.port)).unwrap_or(&hosts).to_owned();
    // By the code, the operator ends the job or makes the pod anew, as the rules of a Job say.
    let restart = if job.torchrun { RestartPolicy::OnFailure } else { RestartPolicy::ExitCode };
    let replicas = Some(i32(job.start));
    PyTorchJobSpec {
        pytorch_replica_specs: [(
            WORKER.to_owned(),
            ReplicaSpec { replicas, restart_policy: Some(restart), template },
        )]
        .into(),
        run_policy: Some(RunPolicy {
            // A failed pod stays, for its log.
            clean_pod_policy: Some(CleanPodPolicy::Running),
            ttl_seconds_after_finished: Some(i32(keep.as_secs())),
            active_deadline_seconds: job.timeout.map(seconds),
            backoff_limit: job.torchrun.then(|| i32::try_from(job.max_replaced).unwrap_or(i32::MAX)),
            ..RunPolicy::default()
        }),
        nproc_per_node: Some(job.ranks_per_node.to_string()),
        elastic_policy: Some(ElasticPolicy {
            min_replicas: Some(i32(*job.nodes.start())),
            max_replicas: Some(i32(*job.nodes.end())),
            max_restarts: Some(i32(job.max_restarts)),
            rdzv_backend: Some("c10d".into()),
            rdzv_host: Some(hosts),
            rdzv_port: Some(job.port.into()),
            rdzv_id: Some(job.name.clone()),
            rdzv_conf: conf(job).map(|(key, value)| RdzvConf { key: key.into(), value }).into(),
            ..ElasticPolicy::default()
        }),
    }
}

fn i32<T>(number: T) -> i32
where
    i32: TryFrom<T>,
{
    i32::try_from(number).unwrap_or(i32::MAX)
}

fn seconds(timeout: Duration) -> i64 {
    whole_seconds(timeout).clamp(1, i64::from(i32::MAX))
}
