//! What the quickstart makes beside the namespace: a volume claim, and the engine's pod.

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use serde_json::json;

use super::{CLAIM, ENGINE, MOUNT, Options, PULL};

/// The claim of the volume on which everything is kept.
///
/// # Errors
/// Never, unless this file is wrong.
pub(super) fn claim(options: &Options) -> serde_json::Result<PersistentVolumeClaim> {
    let mut claim = json!({
        "metadata": {"name": CLAIM},
        "spec": {
            "accessModes": [options.access_mode],
            "resources": {"requests": {"storage": options.volume}},
        },
    });
    if let Some(class) = &options.storage_class {
        claim["spec"]["storageClassName"] = json!(class);
    }
    serde_json::from_value(claim)
}

/// The engine's pod: this program, under an account that may make pods and jobs.
///
/// # Errors
/// Never, unless this file is wrong.
pub(super) fn engine(options: &Options, account: &str) -> serde_json::Result<Pod> {
    // As PodSecurity's `restricted` wants it. User and group are those of the pods of tasks and ranks, which write to the
    // same volume.
    serde_json::from_value(json!({
        "metadata": {"name": ENGINE, "labels": {"app.kubernetes.io/name": ENGINE}},
        "spec": {
            "restartPolicy": "Never",
            "serviceAccountName": account,
            "automountServiceAccountToken": true,
            "enableServiceLinks": false,
            "terminationGracePeriodSeconds": 5,
            "securityContext": {
                "runAsNonRoot": true, "runAsUser": 65532, "runAsGroup": 65532, "fsGroup": 65532,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [{
                "name": ENGINE,
                "image": options.image,
                "imagePullPolicy": PULL,
                "args": options.for_inside(),
                "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
                "volumeMounts": [{"name": "home", "mountPath": MOUNT}],
            }],
            "volumes": [{"name": "home", "persistentVolumeClaim": {"claimName": CLAIM}}],
        },
    }))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[test]
    fn objects_say_what_was_asked_for() {
        let options = Options::parse_from([
            "k8s_quickstart",
            "--image",
            "i:1",
            "--volume",
            "5Gi",
            "--storage-class",
            "fast",
        ]);
        let claim = json!(claim(&options).unwrap());
        assert_eq!(claim["spec"]["storageClassName"], "fast");
        assert_eq!(claim["spec"]["resources"]["requests"]["storage"], "5Gi");
        let spec = engine(&options, "someone").unwrap().spec.unwrap();
        assert_eq!(
            (spec.service_account_name.as_deref(), spec.automount_service_account_token),
            (Some("someone"), Some(true))
        );
        let container = &spec.containers[0];
        assert_eq!(container.image.as_deref(), Some("i:1"));
        assert!(container.args.as_ref().unwrap().contains(&"--inside".to_owned()));
        let mounted = spec.volumes.unwrap()[0].persistent_volume_claim.clone().unwrap();
        assert_eq!(Some(mounted.claim_name.as_str()), claim["metadata"]["name"].as_str());
    }
}
