use k8s_openapi::api::core::v1::PodTemplateSpec;
use kf_k8s::tasks::platform::{KubernetesConfig, PlatformError};
use serde_json::{Value as Json, json};

use super::rows;

/// The error, after which the pod is as it was.
fn error(config: &Json, parameters: &Json) -> PlatformError {
    let mut pod = rows::plain();
    let error = rows::apply(config, parameters, &mut pod).expect_err(&config.to_string());
    assert_eq!(pod, rows::plain(), "{config}");
    error
}

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

#[test]
fn a_parameter_that_nobody_gave_is_named() {
    let output = json!({"taskOutputParameter": {"producerTask": "t", "outputParameterKey": "o"}});
    for (parameter, from) in [
        (json!({"componentInputParameter": "p"}), "input `p`"),
        (output, "output `o` of task `t`"),
        (json!({"runtimeValue": {"runtimeParameter": "r"}}), "argument `r` of the run"),
    ] {
        for (config, place) in [
            (
                json!({"secretAsVolume": [{"secretNameParameter": parameter}]}),
                "/secretAsVolume/0/secretNameParameter",
            ),
            (
                json!({"secretAsEnv": [{"secretNameParameter": parameter}]}),
                "/secretAsEnv/0/secretNameParameter",
            ),
            (
                json!({"configMapAsVolume": [{"configMapNameParameter": parameter}]}),
                "/configMapAsVolume/0/configMapNameParameter",
            ),
            (
                json!({"configMapAsEnv": [{"configMapNameParameter": parameter}]}),
                "/configMapAsEnv/0/configMapNameParameter",
            ),
            (
                json!({"imagePullSecret": [{"secretNameParameter": parameter}]}),
                "/imagePullSecret/0/secretNameParameter",
            ),
            (json!({"pvcMount": [{"pvcNameParameter": parameter}]}), "/pvcMount/0/pvcNameParameter"),
            (json!({"nodeSelector": {"nodeSelectorJson": parameter}}), "/nodeSelector/nodeSelectorJson"),
            (json!({"tolerations": [{"tolerationJson": parameter}]}), "/tolerations/0/tolerationJson"),
            (json!({"nodeAffinity": [{"nodeAffinityJson": parameter}]}), "/nodeAffinity/0/nodeAffinityJson"),
            (json!({"podAffinity": [{"podAffinityJson": parameter}]}), "/podAffinity/0/podAffinityJson"),
            (
                json!({"podResourceClaims": [{"resourceClaimJson": parameter}]}),
                "/podResourceClaims/0/resourceClaimJson",
            ),
        ] {
            let error = error(&config, &json!({}));
            let PlatformError::Missing { pointer, from: named } = &error else { panic!("{config}: {error}") };
            assert_eq!(pointer, place);
            assert!(named.contains(from), "{error}");
        }
    }
    let deprecated = json!({"pvcMount": [{"componentInputParameter": "p"}]});
    assert!(
        matches!(error(&deprecated, &json!({})), PlatformError::Missing { pointer, .. } if pointer == "/pvcMount/0")
    );
}

#[test]
fn a_name_that_two_things_want_is_refused() {
    for (config, place, what, name) in [
        (
            json!({
                "emptyDirMounts": [{"volumeName": "v", "mountPath": "/a"}],
                "enabledSharedMemory": {"volumeName": "v"},
            }),
            "/enabledSharedMemory",
            "volume",
            "v",
        ),
        (
            json!({
                "genericEphemeralVolume": [{"volumeName": "v", "mountPath": "/a", "size": "1Gi"}],
                "emptyDirMounts": [{"volumeName": "v", "mountPath": "/b"}],
            }),
            "/emptyDirMounts/0",
            "volume",
            "v",
        ),
        (
            json!({"secretAsVolume": [
                {"secretName": "a", "mountPath": "/s"}, {"secretName": "b", "mountPath": "/s"},
            ]}),
            "/secretAsVolume/1",
            "mount path",
            "/s",
        ),
        (
            json!({"initContainers": [{"name": "a", "image": "b"}, {"name": "a", "image": "b"}]}),
            "/initContainers/1",
            "container",
            "a",
        ),
        (
            json!({"initContainers": [{"name": rows::MAIN, "image": "b"}]}),
            "/initContainers/0",
            "container",
            rows::MAIN,
        ),
        (
            json!({"podResourceClaims": [
                {"resourceClaimTemplateName": "gpu"}, {"resourceClaimTemplateName": "gpu"},
            ]}),
            "/podResourceClaims/1",
            "resource claim",
            "gpu",
        ),
    ] {
        let taken = PlatformError::Taken { pointer: place.into(), what, name: name.into() };
        assert_eq!(error(&config, &json!({})), taken, "{config}");
    }
}

#[test]
fn what_the_pod_has_otherwise_is_refused() {
    let mut pod = rows::plain();
    let spec = pod.spec.get_or_insert_default();
    spec.node_selector = Some([("disk".to_owned(), "hdd".to_owned())].into());
    spec.security_context.get_or_insert_default().run_as_non_root = Some(true);
    let error = |config: Json| rows::apply(&config, &json!({}), &mut pod.clone()).unwrap_err().to_string();
    let nodes = error(json!({"nodeSelector": {"labels": {"disk": "ssd"}}}));
    assert!(nodes.contains("found `disk: ssd`, expected `hdd`"), "{nodes}");
    let root = error(json!({"securityContext": {"runAsUser": 0}}));
    assert!(root.contains("`/securityContext/runAsUser`: found 0"), "{root}");
}

#[test]
fn a_pod_without_the_container_is_not_meant() {
    let config = KubernetesConfig::default();
    let error = config.apply(&|_| None, &mut rows::plain(), "other").unwrap_err();
    assert_eq!(error.to_string(), "the pod has no container `other`: its containers are main");
    let error = config.apply(&|_| None, &mut PodTemplateSpec::default(), "other").unwrap_err();
    assert!(matches!(error, PlatformError::NoContainer { known, .. } if known.is_empty()));
}

/// What a lookup is asked for, which may answer by place alone, and replace constants.
#[test]
fn a_lookup_is_told_the_place_and_the_part_that_is_meant() {
    let config = json!({
        "secretAsVolume": [{"mountPath": "/s", "secretNameParameter": {
            "componentInputParameter": "p", "parameterExpressionSelector": "parseJson(string_value)[\"name\"]",
        }}],
        "imagePullSecret": [{"secretNameParameter": {"runtimeValue": {"constant": "{{$.pipeline_job_name}}"}}}],
    });
    let config = KubernetesConfig::read(rows::object(&config)).unwrap();
    let asked = std::cell::RefCell::new(Vec::new());
    let mut pod = rows::plain();
    let lookup = |reference: &kf_k8s::tasks::platform::Reference<'_>| {
        asked.borrow_mut().push((reference.pointer.to_owned(), reference.selector.map(str::to_owned)));
        Some(json!(format!("at-{}", asked.borrow().len())))
    };
    config.apply(&lookup, &mut pod, rows::MAIN).unwrap();
    let part = Some("parseJson(string_value)[\"name\"]".to_owned());
    let places =
        [("/secretAsVolume/0/secretNameParameter", part), ("/imagePullSecret/0/secretNameParameter", None)];
    assert_eq!(asked.into_inner(), places.map(|(place, part)| (place.to_owned(), part)));
    let spec = pod.spec.unwrap();
    assert_eq!(spec.volumes.unwrap()[0].name, "at-1");
    assert_eq!(spec.image_pull_secrets.unwrap()[0].name, "at-2");
}
