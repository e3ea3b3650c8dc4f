use serde_json::json;

use super::{Row, row};

/// What kfp-kubernetes 2.17.3 compiles where each of its functions is called, some with inputs and outputs.
pub(super) fn rows() -> Vec<Row> {
    let constant = |name: &str| json!({"runtimeValue": {"constant": name}});
    let config = json!({
        "activeDeadlineSeconds": "20",
        "configMapAsEnv": [{
            "configMapNameParameter": {"componentInputParameter": "cm"},
            "keyToEnv": [{"configMapKey": "b", "envVar": "B"}], "optional": false,
        }],
        "configMapAsVolume": [{
            "configMapName": "cm", "configMapNameParameter": constant("cm"), "mountPath": "/cm", "optional": true,
        }],
        "emptyDirMounts": [
            {"medium": "Memory", "mountPath": "/e1", "sizeLimit": "1Gi", "volumeName": "e1"},
            {"mountPath": "/e2", "volumeName": "e2"},
        ],
        "fieldPathAsEnv": [{"fieldPath": "metadata.name", "name": "N"}],
        "genericEphemeralVolume": [{
            "accessModes": ["ReadWriteOnce"], "mountPath": "/eph", "size": "2Gi", "storageClassName": "fast",
            "volumeName": "eph", "metadata": {"labels": {"a": "b"}},
        }],
        "imagePullPolicy": "Always",
        "imagePullSecret": [
            {"secretName": "r1", "secretNameParameter": constant("r1")},
            {"secretNameParameter": {"componentInputParameter": "secret"}},
        ],
        "nodeAffinity": [
            {"nodeAffinityJson": {"componentInputParameter": "aff"}},
            {"matchExpressions": [{"key": "a", "operator": "In", "values": ["b"]}], "weight": 5.0},
        ],
        "nodeSelector": {"nodeSelectorJson": {"componentInputParameter": "sel"}},
        "podMetadata": {"annotations": {"a": "v"}, "labels": {"l": "v"}},
        "pvcMount": [
            {
                "mountPath": "/d",
                "pvcNameParameter": {
                    "taskOutputParameter": {"outputParameterKey": "name", "producerTask": "createpvc"},
                },
                "taskOutputParameter": {"outputParameterKey": "name", "producerTask": "createpvc"},
            },
            {"constant": "static", "mountPath": "/e", "pvcNameParameter": constant("static"), "subPath": "sub"},
        ],
        "secretAsEnv": [{
            "keyToEnv": [{"envVar": "A", "secretKey": "a"}], "optional": true,
            "secretNameParameter": {"componentInputParameter": "secret"},
        }],
        "secretAsVolume": [{
            "mountPath": "/s", "optional": false,
            "secretNameParameter": {
                "taskOutputParameter": {"outputParameterKey": "Output", "producerTask": "gen"},
            },
        }],
        "securityContext": {"runAsGroup": "1000", "runAsNonRoot": false, "runAsUser": "0"},
        "tolerations": [
            {"tolerationJson": {"componentInputParameter": "tols"}},
            {"effect": "NoExecute", "key": "key", "operator": "Exists", "tolerationSeconds": "10"},
        ],
    });
    let terms = json!({"nodeSelectorTerms": [{"matchExpressions": [{"key": "gpu", "operator": "Exists"}]}]});
    let all = row("everything that the SDK compiles", config)
        .parameters(json!({
            "cm": "settings", "secret": "login", "sel": {"disk": "ssd"}, "createpvc.name": "made", "gen.Output": "key",
            "tols": [{"key": "k", "operator": "Exists"}],
            "aff": {"requiredDuringSchedulingIgnoredDuringExecution": terms},
        }))
        .metadata(json!({"annotations": {"a": "v"}, "labels": {"l": "v"}}))
        .main(json!({
            "imagePullPolicy": "Always",
            "env": [
                {"name": "A", "valueFrom": {"secretKeyRef": {"name": "login", "key": "a", "optional": true}}},
                {"name": "B", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "b", "optional": false}}},
                {"name": "N", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            ],
            "volumeMounts": [
                {"name": "made", "mountPath": "/d"}, {"name": "static", "mountPath": "/e", "subPath": "sub"},
                {"name": "key", "mountPath": "/s"}, {"name": "cm", "mountPath": "/cm"},
                {"name": "eph", "mountPath": "/eph"}, {"name": "e1", "mountPath": "/e1"},
                {"name": "e2", "mountPath": "/e2"},
            ],
            "securityContext": {
                "runAsUser": 0, "runAsGroup": 1000, "runAsNonRoot": false, "capabilities": {"drop": ["ALL"]},
            },
        }))
        .spec(json!({
            "activeDeadlineSeconds": 20,
            "imagePullSecrets": [{"name": "r1"}, {"name": "login"}],
            "nodeSelector": {"disk": "ssd"},
            "tolerations": [
                {"key": "k", "operator": "Exists"},
                {"key": "key", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 10},
            ],
            "affinity": {"nodeAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": terms,
                "preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 5, "preference": {
                    "matchExpressions": [{"key": "a", "operator": "In", "values": ["b"]}],
                }}],
            }},
            "volumes": [
                {"name": "made", "persistentVolumeClaim": {"claimName": "made"}},
                {"name": "static", "persistentVolumeClaim": {"claimName": "static"}},
                {"name": "key", "secret": {"secretName": "key", "optional": false}},
                {"name": "cm", "configMap": {"name": "cm", "optional": true}},
                {"name": "eph", "ephemeral": {"volumeClaimTemplate": {
                    "metadata": {"labels": {"a": "b"}},
                    "spec": {
                        "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "2Gi"}},
                        "storageClassName": "fast",
                    },
                }}},
                {"name": "e1", "emptyDir": {"medium": "Memory", "sizeLimit": "1Gi"}},
                {"name": "e2", "emptyDir": {}},
            ],
        }));
    vec![all]
}
