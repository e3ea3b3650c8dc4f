use k8s_openapi::api::core::v1::PodTemplateSpec;
use serde_json::{Value as Json, json};

use super::rows;

/// A pod with these fields of the container, and these of its own.
fn pod(main: Json, spec: Json, metadata: Json) -> PodTemplateSpec {
    let mut pod = json!({"spec": spec, "metadata": metadata});
    let mut container = json!({"name": rows::MAIN, "image": "busybox:1.36"});
    container.as_object_mut().unwrap().extend(rows::object(&main).clone());
    pod["spec"]["containers"] = json!([{"name": "beside"}, container]);
    serde_json::from_value(pod).unwrap()
}

fn applied(config: Json, mut pod: PodTemplateSpec) -> (Json, Vec<String>) {
    let notes = rows::apply(&config, &json!({}), &mut pod).unwrap();
    (serde_json::to_value(pod).unwrap(), notes)
}

#[test]
fn what_a_pod_has_comes_first_and_other_containers_stay() {
    let claim = json!({"name": "p", "persistentVolumeClaim": {"claimName": "p"}});
    let before = pod(
        json!({
            "env": [{"name": "A", "value": "1"}], "volumeMounts": [{"name": "own", "mountPath": "/own"}],
            "resources": {"claims": [{"name": "existing"}]},
        }),
        json!({
            "volumes": [{"name": "own", "emptyDir": {}}, claim], "tolerations": [{"operator": "Exists"}],
            "imagePullSecrets": [{"name": "s"}], "initContainers": [{"name": "first"}],
            "nodeSelector": {"team": "a", "disk": "ssd"}, "activeDeadlineSeconds": 10,
        }),
        json!({"labels": {"team": "a"}}),
    );
    let (after, notes) = applied(
        json!({
            "pvcMount": [{"constant": "p", "mountPath": "/p"}], "activeDeadlineSeconds": 60,
            "secretAsEnv": [{"secretName": "s", "keyToEnv": [{"secretKey": "k", "envVar": "A"}]}],
            "tolerations": [{"key": "k", "operator": "Exists"}], "imagePullSecret": [{"secretName": "t"}],
            "initContainers": [{"name": "second", "image": "b"}], "nodeSelector": {"labels": {"disk": "ssd"}},
            "podResourceClaims": [{"resourceClaimTemplateName": "gpu"}],
            "podMetadata": {"labels": {"team": "b", "more": "1"}, "annotations": {"c": "d"}},
        }),
        before,
    );
    let spec = &after["spec"];
    assert_eq!(spec["containers"][0], json!({"name": "beside"}));
    let main = &spec["containers"][1];
    assert_eq!(main["env"][0], json!({"name": "A", "value": "1"}));
    assert_eq!(main["env"][1]["valueFrom"]["secretKeyRef"]["name"], "s");
    assert_eq!(main["volumeMounts"][1], json!({"name": "p", "mountPath": "/p"}));
    assert_eq!(main["resources"]["claims"], json!([{"name": "existing"}, {"name": "gpu"}]));
    assert_eq!(spec["volumes"].as_array().unwrap().len(), 2, "the same claim is the same volume");
    assert_eq!(spec["tolerations"].as_array().unwrap().len(), 2);
    assert_eq!(spec["imagePullSecrets"], json!([{"name": "s"}, {"name": "t"}]));
    assert_eq!(spec["initContainers"][0]["name"], "first");
    assert_eq!(spec["initContainers"][1]["name"], "second");
    assert_eq!(spec["nodeSelector"], json!({"team": "a", "disk": "ssd"}));
    assert_eq!(spec["activeDeadlineSeconds"], 10, "the shorter time counts");
    assert_eq!(after["metadata"], json!({"labels": {"team": "a", "more": "1"}, "annotations": {"c": "d"}}));
    assert_eq!(notes, ["`/podMetadata/labels`: `team` stays `a`, not `b`"]);
}

#[test]
fn the_operators_user_stays_and_init_containers_have_it_too() {
    let operator = json!({"runAsUser": 1000, "runAsGroup": 0, "runAsNonRoot": true, "privileged": false});
    let config = json!({
        "securityContext": {"runAsUser": "0", "runAsGroup": "100", "runAsNonRoot": false},
        "initContainers": [{"name": "before", "image": "b"}],
    });
    let (after, notes) = applied(config, pod(json!({"securityContext": operator}), json!({}), json!({})));
    let mut expected = operator;
    expected["capabilities"] = json!({"drop": ["ALL"]});
    assert_eq!(after["spec"]["containers"][1]["securityContext"], expected);
    let before = &after["spec"]["initContainers"][0]["securityContext"];
    let user = ["runAsUser", "runAsGroup", "runAsNonRoot"].map(|field| before[field].clone());
    assert_eq!(user, [json!(1000), json!(0), json!(true)]);
    assert_eq!(before["allowPrivilegeEscalation"], false);
    let told = [
        "runAsUser` stays 1000, not 0",
        "runAsGroup` stays 0, not 100",
        "runAsNonRoot` stays true, not false",
    ];
    assert_eq!(notes.len(), told.len(), "{notes:?}");
    assert!(notes.iter().zip(told).all(|(note, part)| note.contains(part)), "{notes:?}");
}

#[test]
fn the_pods_user_is_a_default() {
    let default = json!({"securityContext": {"runAsUser": 65532, "runAsNonRoot": true}});
    let config = json!({"securityContext": {"runAsUser": 0, "runAsNonRoot": false}});
    let (after, notes) = applied(config, pod(json!({}), default.clone(), json!({})));
    assert_eq!(after["spec"]["securityContext"], default["securityContext"]);
    assert_eq!(after["spec"]["containers"][1]["securityContext"]["runAsUser"], 0);
    assert!(notes.is_empty(), "{notes:?}");
}

#[test]
fn nodes_fit_what_the_pod_has_and_what_is_asked_for() {
    let terms = |keys: &[&[&str]]| {
        let term = |keys: &&[&str]| {
            let conditions: Vec<_> =
                keys.iter().map(|key| json!({"key": key, "operator": "Exists"})).collect();
            json!({"matchExpressions": conditions})
        };
        json!({"nodeSelectorTerms": keys.iter().map(term).collect::<Vec<_>>()})
    };
    let required = "requiredDuringSchedulingIgnoredDuringExecution";
    let before = json!({"affinity": {"nodeAffinity": {required: terms(&[&["a"], &["b"]])}}});
    let asked = terms(&[&["c"], &["d"]]);
    let config = json!({"nodeAffinity": asked["nodeSelectorTerms"]});
    let (after, _) = applied(config, pod(json!({}), before, json!({})));
    let expected = terms(&[&["a", "c"], &["a", "d"], &["b", "c"], &["b", "d"]]);
    assert_eq!(after["spec"]["affinity"]["nodeAffinity"][required], expected);
}
