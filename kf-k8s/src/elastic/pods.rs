//! The pods of an elastic job, which differ by their number alone.

use k8s_openapi::api::core::v1::{Container, EnvVar, PodSpec, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{ElasticJob, ElasticKind};
use crate::pod::{claim_volumes, container_security, env_from, from_field, resources, whole_seconds};
use crate::train::indexed::escaped;
use crate::train::names::labels;
use crate::train::pods::{pod_spec, shared_memory};
use crate::train::{Kind, PodOptions};

/// The variable with the pod's number.
const NODE: &str = "KF_NODE";

/// What all pods are made after.
pub(super) fn template(job: &ElasticJob, kind: ElasticKind, options: &PodOptions) -> PodTemplateSpec {
    let (mut volumes, mut mounts) = claim_volumes(&options.claims);
    if job.ranks_per_node > 1 {
        let (volume, mount) = shared_memory();
        volumes.push(volume);
        mounts.push(mount);
    }
    let words = |words: &[String]| {
        Some(words.iter().map(|word| escaped(word)).collect()).filter(|_| !words.is_empty())
    };
    let container = Container {
        name: Kind::from(kind).container(0),
        image: Some(options.image.clone()),
        image_pull_policy: options.image_pull_policy.clone(),
        command: words(&job.command),
        args: words(&job.args),
        env: Some(env(job, kind)),
        env_from: env_from(&options.secrets),
        resources: resources(&job.resources),
        volume_mounts: Some(mounts).filter(|mounts| !mounts.is_empty()),
        security_context: Some(container_security()),
        // What an agent printed last is why it failed.
        termination_message_policy: Some("FallbackToLogsOnError".into()),
        ..Default::default()
    };
    let mut all = options.labels.clone();
    all.extend(labels(&job.name, 0));
    PodTemplateSpec {
        metadata: Some(ObjectMeta { labels: Some(all), ..Default::default() }),
        spec: Some(PodSpec {
            // The operator has a service for each pod.
            subdomain: (kind == ElasticKind::Job).then(|| job.name.clone()),
            ..pod_spec(options, vec![container], volumes, job.stop_grace)
        }),
    }
}

/// Where agents meet, as torchrun takes it.
pub(super) fn endpoints(job: &ElasticJob, kind: ElasticKind) -> String {
    let hosts = Kind::from(kind).hosts(&job.name, job.endpoints());
    hosts.into_iter().map(|host| format!("{host}:{}", job.port)).collect::<Vec<_>>().join(",")
}

/// What of torchrun's rendezvous is set.
pub(super) fn conf(job: &ElasticJob) -> [(&'static str, String); 2] {
    [
        ("join_timeout", whole_seconds(job.join_timeout).to_string()),
        ("last_call_timeout", whole_seconds(job.last_call).to_string()),
    ]
}

/// Variable: the id of the job's object.
const OBJECT: &str = "KF_TRAIN_JOB_UID";

fn env(job: &ElasticJob, kind: ElasticKind) -> Vec<EnvVar> {
    let set = |name: &str, value: String| EnvVar { name: name.into(), value: Some(value), value_from: None };
    // What others are made with comes before them.
    let mut env = vec![
        from_field(NODE, &format!("metadata.labels['{}']", Kind::from(kind).index_label())),
        from_field("PET_LOCAL_ADDR", "status.podIP"),
        set("KF_TRAIN_NODE", Kind::from(kind).host(&job.name, &format!("$({NODE})"))),
        set("KF_TRAIN_ROUNDS", "/dev/stdout".into()),
    ];
    env.extend(job.env.iter().map(|(name, value)| set(name, escaped(value))));
    if kind == ElasticKind::Job {
        // The operator sets the same by a PyTorchJob's `elasticPolicy`.
        let conf = conf(job).map(|(key, value)| format!("{key}={value}")).join(",");
        env.extend([
            set("PET_NNODES", format!("{}:{}", job.nodes.start(), job.nodes.end())),
            set("PET_NPROC_PER_NODE", job.ranks_per_node.to_string()),
            set("PET_MAX_RESTARTS", job.max_restarts.to_string()),
            set("PET_RDZV_BACKEND", "c10d".into()),
            set("PET_RDZV_CONF", conf),
            set("PET_RDZV_ENDPOINT", endpoints(job, kind)),
            // Pods of a job that had the name before may not be gone yet.
            from_field(OBJECT, "metadata.labels['batch.kubernetes.io/controller-uid']"),
            set("PET_RDZV_ID", format!("{}.$({OBJECT})", job.name)),
        ]);
    }
    env
}
