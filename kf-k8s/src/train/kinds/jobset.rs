//! JobSets.

use k8s_openapi::api::batch::v1::JobTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{Draft, job};
use crate::objects::jobset::{FailurePolicy, JobSetSpec, Network, ReplicatedJob};

/// The name of the JobSet's Job, which its pods' names have between those of the JobSet and their own.
pub(super) const JOB: &str = "node";

/// A JobSet of one Job, which fails when that fails.
pub(super) fn spec(draft: Draft<'_>) -> JobSetSpec {
    let (name, keep) = (draft.name.to_owned(), job::keep(&draft));
    JobSetSpec {
        network: Some(Network {
            enable_dns_hostnames: Some(true),
            subdomain: Some(name),
            publish_not_ready_addresses: Some(true),
        }),
        ttl_seconds_after_finished: Some(keep),
        ..of_one(draft, None)
    }
}

/// What every JobSet of one Job has, with the metadata of that Job.
pub(super) fn of_one(draft: Draft<'_>, metadata: Option<ObjectMeta>) -> JobSetSpec {
    let mut job = job::spec(draft);
    job.ttl_seconds_after_finished = None;
    // The JobSet names the pods' hosts.
    if let Some(pod) = &mut job.template.spec {
        pod.subdomain = None;
    }
    JobSetSpec {
        failure_policy: Some(FailurePolicy { max_restarts: Some(0), ..FailurePolicy::default() }),
        replicated_jobs: vec![ReplicatedJob {
            name: JOB.to_owned(),
            replicas: Some(1),
            template: JobTemplateSpec { metadata, spec: Some(job) },
            depends_on: Vec::new(),
        }],
        ..JobSetSpec::default()
    }
}
