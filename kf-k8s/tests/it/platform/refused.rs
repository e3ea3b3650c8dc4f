use k8s_openapi::api::core::v1::PodTemplateSpec;
use kf_k8s::tasks::platform::{KubernetesConfig, PlatformError};
use serde_json::{Value as Json, json};

use super::rows;

/// The error, after which the pod is as it was.
pub(super) fn error(config: &Json, parameters: &Json) -> PlatformError {
    let mut pod = rows::plain();
    let error = rows::apply(config, parameters, &mut pod).expect_err(&config.to_string());
    assert_eq!(pod, rows::plain(), "{config}");
    error
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
    let part = json!({"secretAsVolume": [{"secretNameParameter": {
        "runtimeValue": {"constant": {"name": "s"}}, "parameterExpressionSelector": "parseJson(string_value)",
    }}]});
    let part = error(&part, &json!({})).to_string();
    assert!(part.contains("`parseJson(string_value)` of a constant, which was not given"), "{part}");
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
