use serde_json::{Value as Json, json};

use super::{Row, constant, input, output, row};

/// One volume at one place.
fn mounted(row: Row, volume: Json, path: &str) -> Row {
    let name = volume["name"].clone();
    row.main(json!({"volumeMounts": [{"name": name, "mountPath": path}]})).spec(json!({"volumes": [volume]}))
}

/// Secrets and ConfigMaps.
pub(super) fn objects() -> Vec<Row> {
    let secret = |name: &str, optional: bool| json!({"name": name, "secret": {"secretName": name, "optional": optional}});
    let map =
        |name: &str, optional: bool| json!({"name": name, "configMap": {"name": name, "optional": optional}});
    let secrets = |item: Json| json!({"secretAsVolume": [item]});
    let maps = |item: Json| json!({"configMapAsVolume": [item]});
    vec![
        row("no secret", json!({})),
        mounted(
            row(
                "secret, deprecated name",
                secrets(json!({"secretName": "secret1", "mountPath": "/data/path"})),
            ),
            secret("secret1", false),
            "/data/path",
        ),
        mounted(
            row(
                "secret, a parameter comes before the deprecated name",
                secrets(json!({
                    "secretName": "not-used", "secretNameParameter": constant("secret1"),
                    "mountPath": "/data/path", "optional": false,
                })),
            ),
            secret("secret1", false),
            "/data/path",
        ),
        mounted(
            row(
                "secret of an input, optional",
                secrets(
                    json!({"secretNameParameter": input("param_1"), "mountPath": "/s", "optional": true}),
                ),
            )
            .parameters(json!({"param_1": "secret-name"})),
            secret("secret-name", true),
            "/s",
        ),
        mounted(
            row(
                "secret of an output",
                secrets(json!({"secretNameParameter": output("gen", "Output"), "mountPath": "/s"})),
            )
            .parameters(json!({"gen.Output": "made"})),
            secret("made", false),
            "/s",
        ),
        row(
            "secret of an input that is null",
            secrets(json!({"secretNameParameter": input("param_1"), "mountPath": "/s"})),
        )
        .parameters(json!({"param_1": null}))
        .notes(&["`/secretAsVolume/0/secretNameParameter` is left out: input `param_1`"]),
        mounted(
            row(
                "config map, deprecated name",
                maps(json!({"configMapName": "cm1", "mountPath": "/data/path"})),
            ),
            map("cm1", false),
            "/data/path",
        ),
        mounted(
            row(
                "config map, a parameter comes before the deprecated name",
                maps(json!({
                    "configMapName": "not-used", "configMapNameParameter": constant("cm1"),
                    "mountPath": "/data/path", "optional": true,
                })),
            ),
            map("cm1", true),
            "/data/path",
        ),
        mounted(
            row(
                "config map of the run's argument",
                maps(json!({
                    "configMapNameParameter": {"runtimeValue": {"runtimeParameter": "cm"}}, "mountPath": "/c",
                })),
            )
            .parameters(json!({"run:cm": "cm-name"})),
            map("cm-name", false),
            "/c",
        ),
        row(
            "config map of an input that is null",
            maps(json!({"configMapNameParameter": input("param_1"), "mountPath": "/c"})),
        )
        .parameters(json!({"param_1": null}))
        .notes(&["/configMapAsVolume/0"]),
    ]
}

fn claim(name: &str) -> Json {
    json!({"name": name, "persistentVolumeClaim": {"claimName": name}})
}

/// Volume claims.
pub(super) fn claims() -> Vec<Row> {
    let mounts = |item: Json| json!({"pvcMount": [item]});
    let by = |name: &'static str, item: Json, parameters: Json| {
        mounted(row(name, mounts(item)).parameters(parameters), claim("pvc-name"), "/mnt/path")
    };
    vec![
        by(
            "claim, deprecated constant",
            json!({"mountPath": "/mnt/path", "constant": "pvc-name"}),
            json!({}),
        ),
        by(
            "claim, deprecated input",
            json!({"mountPath": "/mnt/path", "componentInputParameter": "a"}),
            json!({"a": "pvc-name"}),
        ),
        by(
            "claim, deprecated output",
            json!({
                "mountPath": "/mnt/path",
                "taskOutputParameter": {"producerTask": "createpvc", "outputParameterKey": "name"},
            }),
            json!({"createpvc.name": "pvc-name"}),
        ),
        by(
            "claim, a parameter comes before the deprecated constant",
            json!({"mountPath": "/mnt/path", "constant": "not-used", "pvcNameParameter": constant("pvc-name")}),
            json!({}),
        ),
        by(
            "claim of an input",
            json!({"mountPath": "/mnt/path", "pvcNameParameter": input("param_1")}),
            json!({"param_1": "pvc-name"}),
        ),
        by(
            "claim of an output, as pipeline_with_volume has it",
            json!({
                "mountPath": "/mnt/path",
                "pvcNameParameter": output("createpvc", "name"),
                "taskOutputParameter": {"producerTask": "createpvc", "outputParameterKey": "name"},
            }),
            json!({"createpvc.name": "pvc-name"}),
        ),
        row(
            "a folder of a claim",
            mounts(json!({
                "mountPath": "/mnt/data", "subPath": "models", "pvcNameParameter": constant("my-pvc"),
            })),
        )
        .main(json!({"volumeMounts": [{"name": "my-pvc", "mountPath": "/mnt/data", "subPath": "models"}]}))
        .spec(json!({"volumes": [claim("my-pvc")]})),
    ]
}

/// Volumes that the configuration names.
pub(super) fn own() -> Vec<Row> {
    let resources = |size: &str| json!({"requests": {"storage": size}});
    vec![
        mounted(
            row(
                "ephemeral volume of the default class",
                json!({"genericEphemeralVolume": [{
                    "volumeName": "volume", "mountPath": "/data/path", "accessModes": ["ReadWriteOnce"],
                    "size": "5Gi", "defaultStorageClass": true,
                }]}),
            ),
            json!({"name": "volume", "ephemeral": {"volumeClaimTemplate": {
                "spec": {"accessModes": ["ReadWriteOnce"], "resources": resources("5Gi")},
            }}}),
            "/data/path",
        ),
        mounted(
            row(
                "ephemeral volume of a class, with labels",
                json!({"genericEphemeralVolume": [{
                    "volumeName": "volume2", "mountPath": "/data/path2", "accessModes": ["ReadWriteOnce"],
                    "size": "10Gi", "storageClassName": "storage-class",
                    "metadata": {"annotations": {"annotation1": "a1"}, "labels": {"label1": "l1"}},
                }]}),
            ),
            json!({"name": "volume2", "ephemeral": {"volumeClaimTemplate": {
                "metadata": {"annotations": {"annotation1": "a1"}, "labels": {"label1": "l1"}},
                "spec": {
                    "accessModes": ["ReadWriteOnce"], "resources": resources("10Gi"),
                    "storageClassName": "storage-class",
                },
            }}}),
            "/data/path2",
        ),
        mounted(
            row("empty folder", json!({"emptyDirMounts": [{"volumeName": "e", "mountPath": "/e"}]})),
            json!({"name": "e", "emptyDir": {}}),
            "/e",
        ),
        mounted(
            row(
                "empty folder in memory",
                json!({"emptyDirMounts": [{
                    "volumeName": "e", "mountPath": "/e", "medium": "Memory", "sizeLimit": "1Gi",
                }]}),
            ),
            json!({"name": "e", "emptyDir": {"medium": "Memory", "sizeLimit": "1Gi"}}),
            "/e",
        ),
        // Upstream's driver reads this field nowhere.
        mounted(
            row("shared memory", json!({"enabledSharedMemory": {}})),
            json!({"name": "shm", "emptyDir": {"medium": "Memory"}}),
            "/dev/shm",
        ),
        mounted(
            row(
                "shared memory of a size",
                json!({"enabledSharedMemory": {"volumeName": "mem", "size": "512Mi"}}),
            ),
            json!({"name": "mem", "emptyDir": {"medium": "Memory", "sizeLimit": "512Mi"}}),
            "/dev/shm",
        ),
    ]
}

/// Names that upstream's driver would give to two volumes, or that no volume may have: the cluster refuses its pods.
pub(super) fn names() -> Vec<Row> {
    let long = "0d6e2f1a-4f3b-4f0e-9c1d-2b7a6c5d4e3f-data-of-the-experiments-of-team-a";
    vec![
        row(
            "a claim mounted twice is one volume",
            json!({"pvcMount": [
                {"mountPath": "/a", "subPath": "a", "constant": "p"}, {"mountPath": "/b", "constant": "p"},
            ]}),
        )
        .main(json!({"volumeMounts": [
            {"name": "p", "mountPath": "/a", "subPath": "a"}, {"name": "p", "mountPath": "/b"},
        ]}))
        .spec(json!({"volumes": [claim("p")]})),
        row(
            "a secret and a config map of one name",
            json!({
                "secretAsVolume": [{"secretName": "login", "mountPath": "/s"}],
                "configMapAsVolume": [{"configMapName": "login", "mountPath": "/c"}],
            }),
        )
        .main(json!({"volumeMounts": [
            {"name": "login", "mountPath": "/s"}, {"name": "config-map-<digest>", "mountPath": "/c"},
        ]}))
        .spec(json!({"volumes": [
            {"name": "login", "secret": {"secretName": "login", "optional": false}},
            {"name": "config-map-<digest>", "configMap": {"name": "login", "optional": false}},
        ]})),
        row(
            "a secret whose name has a dot, and a claim whose name is long",
            json!({
                "secretAsVolume": [{"secretName": "team.a", "mountPath": "/s"}],
                "pvcMount": [{"constant": long, "mountPath": "/p"}],
            }),
        )
        .main(json!({"volumeMounts": [
            {"name": "pvc-<digest>", "mountPath": "/p"}, {"name": "secret-<digest>", "mountPath": "/s"},
        ]}))
        .spec(json!({"volumes": [
            {"name": "pvc-<digest>", "persistentVolumeClaim": {"claimName": long}},
            {"name": "secret-<digest>", "secret": {"secretName": "team.a", "optional": false}},
        ]})),
        row(
            "a claim called as an empty folder, which an init container has",
            json!({
                "pvcMount": [{"constant": "data", "mountPath": "/p"}, {"constant": long, "mountPath": "/l"}],
                "emptyDirMounts": [{"volumeName": "data", "mountPath": "/e"}],
                "initContainers": [{
                    "name": "before", "image": "busybox:1.36",
                    "volumeMounts": [{"volumeName": "data", "mountPath": "/d"}, {"volumeName": long, "mountPath": "/l"}],
                }],
            }),
        )
        .main(json!({"volumeMounts": [
            {"name": "pvc-<digest>", "mountPath": "/p"}, {"name": "pvc-<digest>", "mountPath": "/l"},
            {"name": "data", "mountPath": "/e"},
        ]}))
        .spec(json!({
            "volumes": [
                {"name": "pvc-<digest>", "persistentVolumeClaim": {"claimName": "data"}},
                {"name": "pvc-<digest>", "persistentVolumeClaim": {"claimName": long}},
                {"name": "data", "emptyDir": {}},
            ],
            "initContainers": [{
                "name": "before", "image": "busybox:1.36", "securityContext": super::containers::restricted(),
                "volumeMounts": [{"name": "data", "mountPath": "/d"}, {"name": "pvc-<digest>", "mountPath": "/l"}],
            }],
        })),
    ]
}
