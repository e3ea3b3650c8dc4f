//! What pipelines ask of the platform `kubernetes`, without a cluster.

#[path = "../platform/mod.rs"]
mod rows;

mod claims;
mod files;
mod refused;
mod taken_over;
mod unfit;

use std::collections::BTreeSet;

use serde_json::{Value as Json, json};

/// The value with every derived name's digest as `<digest>`.
fn without_digests(value: &Json) -> Json {
    match value {
        Json::String(text) => match text.rsplit_once('-') {
            Some((kind @ ("pvc" | "secret" | "config-map"), digest)) if digest.len() == 12 => {
                json!(format!("{kind}-<digest>"))
            }
            _ => value.clone(),
        },
        Json::Array(items) => items.iter().map(without_digests).collect(),
        Json::Object(fields) => {
            Json::Object(fields.iter().map(|(key, value)| (key.clone(), without_digests(value))).collect())
        }
        _ => value.clone(),
    }
}

#[test]
fn each_row_makes_the_pod_that_it_says() {
    for row in rows::rows() {
        let (pod, notes) = row.made().unwrap_or_else(|error| panic!("{}: {error}", row.name));
        let pod = serde_json::to_value(pod).unwrap();
        assert_eq!(without_digests(&pod), row.expected(), "{}", row.name);
        assert_eq!(notes.len(), row.notes.len(), "{}: {notes:?}", row.name);
        for (note, part) in notes.iter().zip(&row.notes) {
            assert!(note.contains(part), "{}: {note}", row.name);
        }
    }
}

/// That no field is forgotten: those of the proto, and each of them in a row that changes the pod.
#[test]
fn every_field_has_a_row() {
    let fields = [
        "secretAsVolume",
        "secretAsEnv",
        "pvcMount",
        "nodeSelector",
        "podMetadata",
        "imagePullSecret",
        "imagePullPolicy",
        "configMapAsVolume",
        "configMapAsEnv",
        "activeDeadlineSeconds",
        "fieldPathAsEnv",
        "tolerations",
        "genericEphemeralVolume",
        "nodeAffinity",
        "podAffinity",
        "enabledSharedMemory",
        "emptyDirMounts",
        "securityContext",
        "initContainers",
        "podResourceClaims",
    ];
    let plain = serde_json::to_value(rows::plain()).unwrap();
    let rows = rows::rows();
    let changing = rows.iter().filter(|row| row.expected() != plain);
    let covered: BTreeSet<&str> =
        changing.flat_map(|row| rows::object(&row.config).keys().map(String::as_str)).collect();
    assert_eq!(covered, BTreeSet::from(fields));
}

#[test]
fn volumes_of_one_pod_have_names_of_their_own() {
    for row in rows::rows() {
        let (pod, _) = row.made().unwrap();
        let volumes = pod.spec.unwrap().volumes.unwrap_or_default();
        let names: BTreeSet<_> = volumes.iter().map(|volume| &volume.name).collect();
        assert_eq!(names.len(), volumes.len(), "{}", row.name);
    }
}
