use serde_json::{Value as Json, json};

use super::{Row, input, row};

/// The rights of an init container.
pub(super) fn restricted() -> Json {
    json!({
        "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    })
}

/// Labels and images.
pub(super) fn pod() -> Vec<Row> {
    let policy = |name: &'static str, policy: &str| {
        row(name, json!({"imagePullPolicy": policy})).main(json!({"imagePullPolicy": policy}))
    };
    let metadata = json!({"labels": {"a": "1", "b": "2"}, "annotations": {"c": "3"}});
    vec![
        row("metadata", json!({"podMetadata": metadata})).metadata(metadata.clone()),
        row("labels alone", json!({"podMetadata": {"labels": {"a": "1"}}}))
            .metadata(json!({"labels": {"a": "1"}})),
        row("no metadata", json!({"podMetadata": {}})),
        policy("pull always", "Always"),
        policy("pull if it is not there", "IfNotPresent"),
        policy("pull never", "Never"),
        row("pull as the cluster does", json!({"imagePullPolicy": ""})),
        row(
            "pull secrets, each once",
            json!({"imagePullSecret": [
                {"secretName": "s1"},
                {"secretName": "not-used", "secretNameParameter": input("param_1")},
                {"secretNameParameter": input("none")},
                {"secretName": "s1"},
            ]}),
        )
        .parameters(json!({"param_1": "s2", "none": null}))
        .spec(json!({"imagePullSecrets": [{"name": "s1"}, {"name": "s2"}]}))
        .notes(&["/imagePullSecret/2/secretNameParameter"]),
    ]
}

/// The user of the container.
pub(super) fn security() -> Vec<Row> {
    let asks = |name: &'static str, asked: Json, mut has: Json| {
        has["capabilities"] = json!({"drop": ["ALL"]});
        row(name, json!({"securityContext": asked})).main(json!({"securityContext": has}))
    };
    let as_text = json!({"runAsUser": "65534", "runAsGroup": "0"});
    vec![
        asks("user and group as text", as_text, json!({"runAsUser": 65534, "runAsGroup": 0})),
        asks("user alone", json!({"runAsUser": 0}), json!({"runAsUser": 0})),
        asks("group alone", json!({"runAsGroup": 0}), json!({"runAsGroup": 0})),
        asks("no root", json!({"runAsNonRoot": true}), json!({"runAsNonRoot": true})),
        asks(
            "root, and said so",
            json!({"runAsUser": "0", "runAsNonRoot": false}),
            json!({"runAsUser": 0, "runAsNonRoot": false}),
        ),
    ]
}

/// Containers before the task.
pub(super) fn init() -> Vec<Row> {
    vec![
        row(
            "init container with everything",
            json!({
                "emptyDirMounts": [{"volumeName": "config-volume", "mountPath": "/config"}],
                "initContainers": [{
                    "name": "fetch-config", "image": "busybox:1.36", "command": ["sh", "-c"],
                    "args": ["wget -O /config/settings.json $CONFIG_URL"],
                    "env": [
                        {"name": "CONFIG_URL", "value": "http://config-server/settings.json"}, {"name": "EMPTY"},
                    ],
                    "volumeMounts": [{"volumeName": "config-volume", "mountPath": "/config"}],
                    "restartPolicy": "Always",
                    "resources": {
                        "requests": {"cpu": "250m", "memory": "128Mi", "example.com/device": "1"},
                        "limits": {"cpu": "500m", "example.com/device": "1"},
                    },
                }],
            }),
        )
        .main(json!({"volumeMounts": [{"name": "config-volume", "mountPath": "/config"}]}))
        .spec(json!({
            "volumes": [{"name": "config-volume", "emptyDir": {}}],
            "initContainers": [{
                "name": "fetch-config", "image": "busybox:1.36", "command": ["sh", "-c"],
                "args": ["wget -O /config/settings.json $CONFIG_URL"],
                "env": [
                    {"name": "CONFIG_URL", "value": "http://config-server/settings.json"},
                    {"name": "EMPTY"},
                ],
                "volumeMounts": [{"name": "config-volume", "mountPath": "/config"}],
                "restartPolicy": "Always", "securityContext": restricted(),
                "resources": {
                    "requests": {"cpu": "250m", "memory": "128Mi", "example.com/device": "1"},
                    "limits": {"cpu": "500m", "example.com/device": "1"},
                },
            }],
        })),
        row(
            "init containers stay in order",
            json!({"initContainers": [
                {"name": "first", "image": "busybox:1.36"},
                {"name": "second", "image": "busybox:1.36", "restartPolicy": "", "resources": {}},
            ]}),
        )
        .spec(json!({"initContainers": [
            {"name": "first", "image": "busybox:1.36", "securityContext": restricted()},
            {"name": "second", "image": "busybox:1.36", "securityContext": restricted(), "resources": {}},
        ]})),
    ]
}
