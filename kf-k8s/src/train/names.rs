//! What objects of a job are called, and what is written on them.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use sha2::{Digest, Sha256};

/// Label: the job's name, on every object of it.
pub(crate) const JOB: &str = "kf.dev/job";
/// Label: how many times the ranks were started anew before this object.
const RESTART: &str = "kf.dev/restart";
/// Annotation: the attempt id that the job was submitted under.
pub(super) const ATTEMPT: &str = "kf.dev/attempt";
/// Annotation: the job as data.
pub(super) const SPEC: &str = "kf.dev/spec";
/// Annotation: when the job was submitted, in seconds since 1970.
pub(super) const BEGAN: &str = "kf.dev/began";
/// Annotation: what its launcher has decided about the job, as JSON; its pods are to go.
pub(super) const VERDICT: &str = "kf.dev/verdict";
/// Annotation: when its launcher last had the operator look at it, in milliseconds since 1970.
pub(super) const WOKEN: &str = "kf.dev/woken";
/// Annotation of pods: the request of the worker that each rank is.
pub(super) const REQUEST: &str = "kf.dev/request";
/// The label that says whose object this is, and its value.
pub(crate) const MANAGED_BY: (&str, &str) = ("app.kubernetes.io/managed-by", "kf");

/// The name of the job that was submitted under an attempt id: the same for the same id, and fit for a label, a host's name
/// and what is added to it.
pub(super) fn job_name(attempt_id: &str) -> String {
    let digest = Sha256::digest(attempt_id);
    let hex: String = digest.iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    format!("kf-{hex}")
}

/// The name of a job's object after so many restarts.
pub(super) fn object_name(job: &str, restart: u64) -> String {
    if restart == 0 { job.to_owned() } else { format!("{job}-r{restart}") }
}

/// The labels of a job's objects.
pub(crate) fn labels(job: &str, restart: u64) -> BTreeMap<String, String> {
    let own = [(JOB, job.to_owned()), (RESTART, restart.to_string())];
    let all = [(MANAGED_BY.0, MANAGED_BY.1.to_owned())].into_iter().chain(own);
    all.map(|(key, value)| (key.to_owned(), value)).collect()
}

/// How many times the ranks were started anew before an object; none where it is not of a job.
pub(super) fn restart_of(metadata: &ObjectMeta) -> Option<u64> {
    metadata.labels.as_ref()?.get(RESTART)?.parse().ok()
}

/// What selects all objects of a job.
pub(crate) fn selector(job: &str) -> String {
    format!("{JOB}={job}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_hosts_and_tell_attempts_apart() {
        let (one, other) = (job_name("run/a#1"), job_name("run/a#2"));
        assert_ne!(one, other);
        assert_eq!(one, job_name("run/a#1"));
        // With the longest that is added: `-r18446744073709551615-node-0-1048575`.
        assert!(object_name(&one, u64::MAX).len() + "-node-0-1048575".len() <= 63, "{one}");
        assert!(one.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-'));
        assert_eq!((object_name(&one, 0), object_name(&one, 2)), (one.clone(), format!("{one}-r2")));
    }
}
