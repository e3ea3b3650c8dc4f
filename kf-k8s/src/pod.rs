//! What pods of ranks and of tasks have in common.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::{
    Capabilities, DownwardAPIVolumeFile, DownwardAPIVolumeSource, EnvFromSource, EnvVar, EnvVarSource,
    ObjectFieldSelector, PersistentVolumeClaimVolumeSource, PodSecurityContext, ResourceRequirements,
    SeccompProfile, SecretEnvSource, SecurityContext, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kf_core::resources::Resources;

use crate::train::ClaimMount;

/// Whether it is a label as DNS has them (RFC 1123), as names of namespaces, volumes and accounts are.
pub(crate) fn is_label(name: &str) -> bool {
    let inside = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=63).contains(&name.len())
        && name.bytes().all(inside)
        && !name.starts_with('-')
        && !name.ends_with('-')
}

/// What PodSecurity's `restricted` asks of a pod.
pub(crate) fn pod_security(user: Option<i64>) -> PodSecurityContext {
    PodSecurityContext {
        run_as_non_root: Some(true),
        run_as_user: user,
        run_as_group: user,
        fs_group: user,
        seccomp_profile: Some(SeccompProfile { type_: "RuntimeDefault".into(), localhost_profile: None }),
        ..Default::default()
    }
}

/// What PodSecurity's `restricted` asks of a container.
pub(crate) fn container_security() -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        capabilities: Some(Capabilities { add: None, drop: Some(vec!["ALL".into()]) }),
        ..Default::default()
    }
}

/// A volume with annotations of the pod as files: each its annotation and its file.
pub(crate) fn annotation_volume(name: &str, files: &[(&str, &str)]) -> Volume {
    let file = |(annotation, path): &(&str, &str)| DownwardAPIVolumeFile {
        path: (*path).to_owned(),
        field_ref: Some(field(&format!("metadata.annotations['{annotation}']"))),
        ..Default::default()
    };
    let items = files.iter().map(file).collect();
    let source = DownwardAPIVolumeSource { items: Some(items), ..Default::default() };
    Volume { name: name.to_owned(), downward_api: Some(source), ..Default::default() }
}

/// Volumes of claims, and where containers have them mounted.
pub(crate) fn claim_volumes(claims: &[ClaimMount]) -> (Vec<Volume>, Vec<VolumeMount>) {
    // A claim that is mounted twice is one volume, whose mounts say who may write.
    let mut names: BTreeMap<&str, String> = BTreeMap::new();
    let mut volumes = Vec::new();
    let mut mounts = Vec::new();
    for claim in claims {
        let next = format!("kf-claim-{}", names.len());
        let name = names.entry(&claim.claim).or_insert_with(|| {
            let source =
                PersistentVolumeClaimVolumeSource { claim_name: claim.claim.clone(), read_only: None };
            volumes.push(Volume {
                name: next.clone(),
                persistent_volume_claim: Some(source),
                ..Default::default()
            });
            next
        });
        let read_only = claim.read_only.then_some(true);
        mounts.push(VolumeMount { read_only, ..mount(name, &claim.path) });
    }
    (volumes, mounts)
}

/// The keys of secrets as variables; of a key that several have, the last one's.
pub(crate) fn env_from(secrets: &[String]) -> Option<Vec<EnvFromSource>> {
    let secret = |name: &String| EnvFromSource {
        secret_ref: Some(SecretEnvSource { name: name.clone(), optional: None }),
        ..Default::default()
    };
    Some(secrets.iter().map(secret).collect::<Vec<_>>()).filter(|all| !all.is_empty())
}

pub(crate) fn resources(asked: &Resources) -> Option<ResourceRequirements> {
    if asked.is_none() {
        return None;
    }
    let milli = |milli: u64| {
        Quantity(if milli.is_multiple_of(1000) { (milli / 1000).to_string() } else { format!("{milli}m") })
    };
    let cpu = (asked.cpu > 0).then(|| ("cpu".to_owned(), milli(asked.cpu)));
    let memory = (asked.memory > 0).then(|| ("memory".to_owned(), Quantity(asked.memory.to_string())));
    let accelerators = asked.accelerators.iter().filter(|(_, count)| **count > 0);
    let accelerators: Vec<_> = accelerators.map(|(name, count)| (name.clone(), milli(*count))).collect();
    let requests = cpu.into_iter().chain(memory.clone()).chain(accelerators.clone());
    // A rank may use cores that nobody else wants.
    let limits: BTreeMap<_, _> = memory.into_iter().chain(accelerators).collect();
    Some(ResourceRequirements {
        requests: Some(requests.collect()),
        limits: Some(limits).filter(|limits| !limits.is_empty()),
        claims: None,
    })
}

/// The most memory that a container with these resources may use, as Kubernetes writes it.
pub(crate) fn memory_limit(asked: &Resources) -> Option<String> {
    resources(asked)?.limits?.get("memory").map(|memory| memory.0.clone())
}

/// A time as Kubernetes takes it, rounded up.
pub(crate) fn whole_seconds(time: Duration) -> i64 {
    i64::try_from(time.as_secs().saturating_add(u64::from(time.subsec_nanos() > 0))).unwrap_or(i64::MAX)
}

pub(crate) fn mount(name: &str, path: &str) -> VolumeMount {
    VolumeMount { name: name.to_owned(), mount_path: path.to_owned(), ..Default::default() }
}

pub(crate) fn field(path: &str) -> ObjectFieldSelector {
    ObjectFieldSelector { field_path: path.to_owned(), api_version: None }
}

pub(crate) fn from_field(name: &str, path: &str) -> EnvVar {
    let source = EnvVarSource { field_ref: Some(field(path)), ..Default::default() };
    EnvVar { name: name.to_owned(), value: None, value_from: Some(source) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn claims_are_volumes_and_mounts() {
        let claimed =
            |name: &str, claim: &str| json!({"name": name, "persistentVolumeClaim": {"claimName": claim}});
        for (claims, volumes, mounts) in [
            (vec![], json!([]), json!([])),
            (
                vec![ClaimMount::new("data", "/data"), ClaimMount::new("saved", "/saved").read_only()],
                json!([claimed("kf-claim-0", "data"), claimed("kf-claim-1", "saved")]),
                json!([
                    {"name": "kf-claim-0", "mountPath": "/data"},
                    {"name": "kf-claim-1", "mountPath": "/saved", "readOnly": true},
                ]),
            ),
            (
                vec![ClaimMount::new("data", "/data"), ClaimMount::new("data", "/again").read_only()],
                json!([claimed("kf-claim-0", "data")]),
                json!([
                    {"name": "kf-claim-0", "mountPath": "/data"},
                    {"name": "kf-claim-0", "mountPath": "/again", "readOnly": true},
                ]),
            ),
        ] {
            let made = claim_volumes(&claims);
            assert_eq!((json!(made.0), json!(made.1)), (volumes, mounts), "{claims:?}");
        }
    }

    #[test]
    fn secrets_are_variables() {
        assert_eq!(env_from(&[]), None);
        let made = env_from(&["a".to_owned(), "b".to_owned()]);
        assert_eq!(json!(made), json!([{"secretRef": {"name": "a"}}, {"secretRef": {"name": "b"}}]));
    }

    #[test]
    fn times_are_rounded_up_and_bounded() {
        assert_eq!(whole_seconds(Duration::from_millis(1)), 1);
        assert_eq!(whole_seconds(Duration::from_secs(2)), 2);
        assert_eq!(whole_seconds(Duration::MAX), i64::MAX);
    }
}
