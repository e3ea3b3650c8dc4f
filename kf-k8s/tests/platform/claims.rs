use serde_json::{Value as Json, json};

/// What a task is given that makes a claim, and the claim. Its generated name is `generated`.
pub(crate) fn claims() -> Vec<(&'static str, Json, Json)> {
    let asked = |more: Json| {
        let mut asked = json!({"access_modes": ["ReadWriteOnce"], "size": "5Gi"});
        super::extend(&mut asked, &more);
        asked
    };
    let claim = |name: &str, metadata: Json, spec: Json| {
        let mut claim = json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "5Gi"}}},
        });
        super::extend(&mut claim["metadata"], &metadata);
        super::extend(&mut claim["spec"], &spec);
        claim
    };
    let none = || json!({});
    vec![
        ("a name that is generated", asked(none()), claim("generated", none(), none())),
        (
            "a suffix, as critical__pipeline_with_volume_long_name has it",
            asked(json!({"pvc_name_suffix": "-my-pvc", "storage_class_name": "standard"})),
            claim("generated-my-pvc", none(), json!({"storageClassName": "standard"})),
        ),
        (
            "a name, and what is null or empty",
            asked(json!({
                "pvc_name": "static-pvc", "pvc_name_suffix": "", "volume_name": "", "annotations": null,
                "data_source": null, "storage_class_name": null,
            })),
            claim("static-pvc", none(), none()),
        ),
        (
            "a volume made beforehand",
            asked(json!({"pvc_name": "p", "storage_class_name": "", "volume_name": "pv-1"})),
            claim("p", none(), json!({"storageClassName": "", "volumeName": "pv-1"})),
        ),
        (
            "annotations, and all ways to mount",
            asked(json!({
                "pvc_name": "p", "annotations": {"foo": "bar"},
                "access_modes": ["ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany"],
            })),
            claim(
                "p",
                json!({"annotations": {"foo": "bar"}}),
                json!({"accessModes": ["ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany"]}),
            ),
        ),
        (
            "a snapshot",
            asked(json!({
                "pvc_name": "p", "storage_class_name": "csi", "access_modes": ["ReadWriteOncePod"],
                "data_source": {"apiGroup": "snapshot.storage.k8s.io", "kind": "VolumeSnapshot", "name": "my-snapshot"},
            })),
            claim(
                "p",
                none(),
                json!({
                    "accessModes": ["ReadWriteOncePod"], "storageClassName": "csi",
                    "dataSource": {
                        "apiGroup": "snapshot.storage.k8s.io", "kind": "VolumeSnapshot", "name": "my-snapshot",
                    },
                }),
            ),
        ),
        (
            "another claim",
            asked(json!({
                "pvc_name": "p", "data_source": {"kind": "PersistentVolumeClaim", "name": "source-pvc"},
            })),
            claim(
                "p",
                none(),
                json!({"dataSource": {"kind": "PersistentVolumeClaim", "name": "source-pvc"}}),
            ),
        ),
    ]
}
