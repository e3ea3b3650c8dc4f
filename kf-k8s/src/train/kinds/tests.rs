use serde_json::{Value, json};

use super::*;

fn object(kind: Kind, data: Value) -> DynamicObject {
    DynamicObject::new("j", &kind.resource()).data(data)
}

#[test]
fn a_suspended_object_names_the_field() {
    let field = |kind: Kind, spec: Value| match kind.state(&object(kind, json!({ "spec": spec }))) {
        State::Suspended { field } => Some(field),
        State::Active => None,
        other => panic!("{other:?}"),
    };
    for kind in [Kind::Job, Kind::JobSet, Kind::TrainJob] {
        assert_eq!(field(kind, json!({"suspend": true})), Some("spec.suspend"), "{kind:?}");
        assert_eq!(field(kind, json!({"suspend": false})), None, "{kind:?}");
    }
    assert_eq!(field(Kind::PyTorchJob, json!({"suspend": true})), None);
    let inside = json!({"runPolicy": {"suspend": true}});
    assert_eq!(field(Kind::PyTorchJob, inside.clone()), Some("spec.runPolicy.suspend"));
    // What has ended stays so.
    let ended = json!({"spec": inside, "status": {"conditions": [{"type": "Succeeded", "status": "True"}]}});
    assert_eq!(Kind::PyTorchJob.state(&object(Kind::PyTorchJob, ended)), State::Succeeded);
}

#[test]
fn the_training_operators_words_for_time_are_known() {
    let failed = |kind: Kind, message: &str| {
        let condition =
            json!({"type": "Failed", "status": "True", "reason": "PyTorchJobFailed", "message": message});
        kind.state(&object(kind, json!({"status": {"conditions": [condition]}})))
    };
    let message = "Job j has failed because it was active longer than specified deadline";
    let late = |state| matches!(state, State::Failed { late: true, .. });
    assert!(late(failed(Kind::PyTorchJob, message)));
    assert!(!late(failed(Kind::PyTorchJob, "PyTorchJob j is failed because 1 Worker replica(s) failed.")));
    assert!(!late(failed(Kind::Job, message)));
}

#[test]
fn a_pytorchjobs_time_runs_from_its_start() {
    let due = |kind: Kind, status: Value| {
        kind.due(&object(
            kind,
            json!({"spec": {"runPolicy": {"activeDeadlineSeconds": 7}}, "status": status}),
        ))
    };
    let started = json!({"startTime": "2026-01-01T00:00:00Z"});
    assert_eq!(due(Kind::PyTorchJob, started.clone()), Some(1_767_225_607));
    assert_eq!(due(Kind::PyTorchJob, json!({})), None);
    assert_eq!(due(Kind::JobSet, started), None);
    assert_eq!(Kind::PyTorchJob.due(&object(Kind::PyTorchJob, json!({"status": {}}))), None);
}
