//! JobSets.

use serde_json::{Value, json};

use super::{Draft, job};

/// A JobSet of one Job, which fails when that fails.
pub(super) fn spec(draft: Draft<'_>) -> Result<Value, serde_json::Error> {
    let (name, keep) = (draft.name.to_owned(), job::keep(&draft));
    let mut job = job::spec(draft);
    job.ttl_seconds_after_finished = None;
    // The JobSet names the pods' hosts.
    if let Some(pod) = &mut job.template.spec {
        pod.subdomain = None;
    }
    let job = serde_json::to_value(job)?;
    Ok(json!({
        "network": {"enableDNSHostnames": true, "subdomain": name, "publishNotReadyAddresses": true},
        "failurePolicy": {"maxRestarts": 0},
        "ttlSecondsAfterFinished": keep,
        "replicatedJobs": [{"name": "node", "replicas": 1, "template": {"spec": job}}],
    }))
}
