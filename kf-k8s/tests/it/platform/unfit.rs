use kf_k8s::tasks::platform::PlatformError;
use serde_json::{Value as Json, json};

use super::refused::error;

#[test]
fn a_value_that_can_t_be_meant_is_named_with_what_should_be() {
    let input = || json!({"componentInputParameter": "p"});
    let named = |value: Json| json!({"p": value});
    let none = || json!({});
    let secret =
        |parameter: Json| json!({"secretAsVolume": [{"secretNameParameter": parameter, "mountPath": "/s"}]});
    let toleration = json!({"tolerations": [{"key": "a"}, {"tolerationJson": input()}]});
    let selector = json!({"nodeSelector": {"nodeSelectorJson": input()}});
    let affinity = json!({"nodeAffinity": [{"nodeAffinityJson": input()}]});
    let pods = json!({"podAffinity": [{"podAffinityJson": input()}]});
    let device = json!({"podResourceClaims": [{"resourceClaimJson": input()}]});
    let rows = [
        // Names.
        (secret(input()), named(json!(5)), "/secretAsVolume/0/secretNameParameter", "5", "a name"),
        (secret(input()), named(json!("")), "/secretAsVolume/0/secretNameParameter", "\"\"", "not empty"),
        (
            secret(json!({"runtimeValue": {"constant": ["a"]}})),
            none(),
            "/secretAsVolume/0/secretNameParameter",
            "[\"a\"]",
            "a name",
        ),
        (
            json!({"secretAsVolume": [{"mountPath": "/s"}]}),
            none(),
            "/secretAsVolume/0",
            "no name",
            "`secretName`",
        ),
        (
            json!({"configMapAsVolume": [{"mountPath": "/s"}]}),
            none(),
            "/configMapAsVolume/0",
            "no name",
            "`configMapName`",
        ),
        (json!({"secretAsEnv": [{}]}), none(), "/secretAsEnv/0", "no name", "`secretNameParameter`"),
        (json!({"configMapAsEnv": [{}]}), none(), "/configMapAsEnv/0", "no name", "`configMapNameParameter`"),
        (json!({"imagePullSecret": [{}]}), none(), "/imagePullSecret/0", "no name", "`secretName`"),
        (json!({"pvcMount": [{"mountPath": "/p"}]}), none(), "/pvcMount/0", "no name", "pvcNameParameter"),
        (
            json!({"pvcMount": [{"mountPath": "/p", "pvcNameParameter": input()}]}),
            named(json!(null)),
            "/pvcMount/0",
            "no name",
            "claim",
        ),
        (
            json!({"secretAsEnv": [{"secretName": "s", "keyToEnv": [{"envVar": "A"}]}]}),
            none(),
            "/secretAsEnv/0/keyToEnv/0/secretKey",
            "nothing",
            "text",
        ),
        (
            json!({"configMapAsEnv": [{"configMapName": "s", "keyToEnv": [{"configMapKey": "A"}]}]}),
            none(),
            "/configMapAsEnv/0/keyToEnv/0/envVar",
            "nothing",
            "text",
        ),
        (
            json!({"fieldPathAsEnv": [{"name": "A"}]}),
            none(),
            "/fieldPathAsEnv/0/fieldPath",
            "nothing",
            "text",
        ),
        // Volumes.
        (
            json!({"pvcMount": [{"constant": "p", "mountPath": "data"}]}),
            none(),
            "/pvcMount/0/mountPath",
            "`data`",
            "`/`",
        ),
        (
            json!({"secretAsVolume": [{"secretName": "p"}]}),
            none(),
            "/secretAsVolume/0/mountPath",
            "``",
            "`/`",
        ),
        (
            json!({"emptyDirMounts": [{"volumeName": "A.b", "mountPath": "/a"}]}),
            none(),
            "/emptyDirMounts/0/volumeName",
            "`A.b`",
            "63",
        ),
        (
            json!({"emptyDirMounts": [{"volumeName": "a", "mountPath": "/a", "sizeLimit": "invalid-size"}]}),
            none(),
            "/emptyDirMounts/0/sizeLimit",
            "invalid-size",
            "`5Gi`",
        ),
        (
            json!({"enabledSharedMemory": {"size": "much"}}),
            none(),
            "/enabledSharedMemory/size",
            "much",
            "`5Gi`",
        ),
        (
            json!({"genericEphemeralVolume": [{"volumeName": "a", "mountPath": "/a", "size": "invalid-size"}]}),
            none(),
            "/genericEphemeralVolume/0/size",
            "invalid-size",
            "`5Gi`",
        ),
        (
            json!({"genericEphemeralVolume": [{"volumeName": "a", "mountPath": "/a"}]}),
            none(),
            "/genericEphemeralVolume/0/size",
            "nothing",
            "text",
        ),
        (
            json!({"genericEphemeralVolume": [{"volumeName": "a", "mountPath": "/a", "size": "1Gi", "accessModes": ["RWO"]}]}),
            none(),
            "/genericEphemeralVolume/0/accessModes",
            "RWO",
            "`ReadWriteOnce`",
        ),
        (
            json!({"genericEphemeralVolume": [{"volumeName": "a", "mountPath": "/a", "size": "1Gi", "defaultStorageClass": true, "storageClassName": "x"}]}),
            none(),
            "/genericEphemeralVolume/0/storageClassName",
            "`x`",
            "default class",
        ),
        // Scheduling.
        (json!({"imagePullPolicy": "Sometimes"}), none(), "/imagePullPolicy", "`Sometimes`", "`Always`"),
        (
            selector.clone(),
            named(json!({"a": 1})),
            "/nodeSelector/nodeSelectorJson",
            "{\"a\":1}",
            "object of texts",
        ),
        (selector, named(json!("a: b")), "/nodeSelector/nodeSelectorJson", "a: b", "object of texts"),
        (toleration.clone(), named(json!("a")), "/tolerations/1/tolerationJson", "\"a\"", "object or a list"),
        (
            toleration.clone(),
            named(json!([{"key": "a"}, {"kee": "b"}])),
            "/tolerations/1/tolerationJson",
            "{\"kee\":\"b\"}",
            "no field `kee`",
        ),
        (
            toleration,
            named(json!({"tolerationSeconds": "soon"})),
            "/tolerations/1/tolerationJson",
            "soon",
            "toleration",
        ),
        (affinity.clone(), named(json!([])), "/nodeAffinity/0/nodeAffinityJson", "[]", "node affinity"),
        (
            affinity,
            named(json!({"required": {"a": 1}})),
            "/nodeAffinity/0/nodeAffinityJson",
            "required",
            "no field",
        ),
        (
            json!({"nodeAffinity": [{"weight": 101, "matchFields": [{"key": "a", "operator": "Exists"}]}]}),
            none(),
            "/nodeAffinity/0/weight",
            "101",
            "1 to 100",
        ),
        (
            pods.clone(),
            named(json!({"topology": "a"})),
            "/podAffinity/0/podAffinityJson",
            "topology",
            "topology",
        ),
        (
            pods,
            named(json!({"labelSelector": {}, "topologyKey": ""})),
            "/podAffinity/0/topologyKey",
            "nothing",
            "text",
        ),
        (
            json!({"podAffinity": [{"matchPodLabels": {"a": "b"}}]}),
            none(),
            "/podAffinity/0/topologyKey",
            "nothing",
            "text",
        ),
        (
            json!({"podAffinity": [{"matchPodLabels": {"a": "b"}, "topologyKey": "z", "weight": 0}]}),
            none(),
            "/podAffinity/0/weight",
            "0",
            "1 to 100",
        ),
        (
            json!({"podResourceClaims": [{}]}),
            none(),
            "/podResourceClaims/0/resourceClaimTemplateName",
            "``",
            "name",
        ),
        (
            device.clone(),
            named(json!("gpu")),
            "/podResourceClaims/0/resourceClaimJson",
            "gpu",
            "object or a list",
        ),
        (
            device.clone(),
            named(json!({})),
            "/podResourceClaims/0/resourceClaimJson",
            "{}",
            "resourceClaimTemplateName",
        ),
        (
            device,
            named(json!({"resourceClaimName": "a"})),
            "/podResourceClaims/0/resourceClaimJson",
            "resourceClaimName",
            "resourceClaimName",
        ),
        // Containers.
        (
            json!({"securityContext": {"runAsUser": "0", "runAsNonRoot": true}}),
            none(),
            "/securityContext/runAsUser",
            "0",
            "`runAsNonRoot`",
        ),
        (json!({"initContainers": [{"image": "b"}]}), none(), "/initContainers/0/name", "nothing", "text"),
        (json!({"initContainers": [{"name": "a"}]}), none(), "/initContainers/0/image", "nothing", "text"),
        (
            json!({"initContainers": [{"name": "a", "image": "b", "restartPolicy": "Never"}]}),
            none(),
            "/initContainers/0/restartPolicy",
            "`Never`",
            "`Always`",
        ),
        (
            json!({"initContainers": [{"name": "a", "image": "b", "env": [{"value": "v"}]}]}),
            none(),
            "/initContainers/0/env/0/name",
            "nothing",
            "text",
        ),
        (
            json!({"initContainers": [{"name": "a", "image": "b", "volumeMounts": [{"volumeName": "v", "mountPath": "/v"}]}]}),
            none(),
            "/initContainers/0/volumeMounts/0/volumeName",
            "`v`",
            "which has none",
        ),
        (
            json!({"emptyDirMounts": [{"volumeName": "e", "mountPath": "/e"}], "initContainers": [{"name": "a", "image": "b", "volumeMounts": [{"volumeName": "e", "mountPath": "v"}]}]}),
            none(),
            "/initContainers/0/volumeMounts/0/mountPath",
            "`v`",
            "`/`",
        ),
        (
            json!({"initContainers": [{"name": "a", "image": "b", "resources": {"limits": {"example.com/gpu": "one"}}}]}),
            none(),
            "/initContainers/0/resources/limits/example.com~1gpu",
            "`one`",
            "`5Gi`",
        ),
    ];
    for (config, parameters, place, has, wants) in rows {
        let error = error(&config, &parameters);
        let PlatformError::Unfit { pointer, found, expected } = &error else { panic!("{config}: {error}") };
        assert_eq!(pointer, place, "{error}");
        assert!(found.contains(has) && expected.contains(wants), "{error}");
    }
}
