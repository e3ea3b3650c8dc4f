use kf_k8s::tasks::platform::{CREATE_CLAIM, ClaimTask, DELETE_CLAIM, PlatformError};
use serde_json::{Value as Json, json};

use super::rows::{claims, object};

fn of(image: &str, parameters: &Json) -> Result<Option<ClaimTask>, PlatformError> {
    ClaimTask::of(image, object(parameters), "generated")
}

#[test]
fn each_row_makes_the_claim_that_it_says() {
    for (name, parameters, expected) in claims() {
        let task = of(CREATE_CLAIM, &parameters).unwrap_or_else(|error| panic!("{name}: {error}"));
        let Some(ClaimTask::Create { claim, outputs }) = task else { panic!("{name}: {task:?}") };
        assert_eq!(serde_json::to_value(&claim).unwrap(), expected, "{name}");
        assert_eq!(json!(outputs), json!({"name": expected["metadata"]["name"]}), "{name}");
    }
}

#[test]
fn a_claim_is_deleted_by_name_and_other_images_are_none() {
    let deleted = of(DELETE_CLAIM, &json!({"pvc_name": "p"})).unwrap();
    assert_eq!(deleted, Some(ClaimTask::Delete { name: "p".into() }));
    for image in ["argostub/createpvc:1", "python:3.11", ""] {
        assert_eq!(of(image, &json!({"pvc_name": 5})), Ok(None), "{image}");
    }
}

#[test]
fn what_does_not_fit_is_refused_with_the_input() {
    let good = json!({"access_modes": ["ReadWriteOnce"], "size": "1Gi"});
    let rows = [
        (CREATE_CLAIM, json!({"access_modes": null}), "access_modes", "nothing"),
        (CREATE_CLAIM, json!({"access_modes": "ReadWriteOnce"}), "access_modes", "\"ReadWriteOnce\""),
        (CREATE_CLAIM, json!({"access_modes": []}), "access_modes", "[]"),
        (CREATE_CLAIM, json!({"access_modes": ["Sometimes"]}), "access_modes", "Sometimes"),
        (CREATE_CLAIM, json!({"size": null}), "size", "nothing"),
        (CREATE_CLAIM, json!({"size": "large"}), "size", "large"),
        (CREATE_CLAIM, json!({"size": 5}), "size", "5"),
        (CREATE_CLAIM, json!({"pvc_name": "a", "pvc_name_suffix": "b"}), "pvc_name", "`a`"),
        (CREATE_CLAIM, json!({"pvc_name": "A_b"}), "pvc_name", "A_b"),
        (CREATE_CLAIM, json!({"pvc_name": ["a"]}), "pvc_name", "[\"a\"]"),
        (CREATE_CLAIM, json!({"pvc_name_suffix": "-"}), "pvc_name_suffix", "generated-"),
        (CREATE_CLAIM, json!({"storage_class_name": 1}), "storage_class_name", "1"),
        (CREATE_CLAIM, json!({"volume_name": {}}), "volume_name", "{}"),
        (CREATE_CLAIM, json!({"annotations": {"a": 1}}), "annotations", "{\"a\":1}"),
        (CREATE_CLAIM, json!({"data_source": {"kind": "VolumeSnapshot"}}), "data_source", "name"),
        (
            CREATE_CLAIM,
            json!({"data_source": {"kind": "a", "name": "b", "namespace": "c"}}),
            "data_source",
            "`namespace`",
        ),
        (CREATE_CLAIM, json!({"volume_mode": "Block"}), "volume_mode", "Block"),
        (DELETE_CLAIM, json!({"pvc_name": null}), "pvc_name", "nothing"),
        (DELETE_CLAIM, json!({"pvc_name": ""}), "pvc_name", "\"\""),
        (DELETE_CLAIM, json!({"pvc_name": "a", "force": true}), "force", "true"),
    ];
    for (image, change, named, found) in rows {
        let mut parameters = if image == CREATE_CLAIM { good.clone() } else { json!({}) };
        parameters.as_object_mut().unwrap().extend(object(&change).clone());
        let error = of(image, &parameters).unwrap_err();
        let PlatformError::Claim { image: at, input, .. } = &error else { panic!("{error}") };
        assert_eq!((*at, input.as_str()), (image, named), "{error}");
        assert!(error.to_string().contains(found), "{error}");
    }
}
