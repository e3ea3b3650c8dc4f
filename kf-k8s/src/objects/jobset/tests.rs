use serde_json::json;

use super::*;

#[test]
fn the_status_of_a_jobset_that_was_started_again_is_read() {
    let set: JobSet = serde_json::from_value(json!({
        "apiVersion": "jobset.x-k8s.io/v1alpha2", "kind": "JobSet", "metadata": {"name": "js"}, "spec": {},
        "status": {
            "conditions": [{
                "lastTransitionTime": "2026-03-01T10:00:00Z", "message": "jobset failed due to reaching max number of restarts",
                "reason": "ReachedMaxRestarts", "status": "True", "type": "Failed",
            }],
            "replicatedJobsStatus": [
                {"active": 0, "failed": 1, "name": "workers", "ready": 2, "succeeded": 0, "suspended": 0},
            ],
            "restarts": 3, "restartsCountTowardsMax": 2, "terminalState": "Failed",
        },
    }))
    .unwrap();
    let status = set.status.unwrap();
    assert_eq!(
        (status.conditions[0].type_.as_str(), status.conditions[0].reason.as_str()),
        (FAILED, "ReachedMaxRestarts")
    );
    assert_eq!((status.restarts, status.restarts_count_towards_max), (Some(3), Some(2)));
    assert_eq!(status.terminal_state.as_deref(), Some(FAILED));
    let workers = ReplicatedJobStatus { name: "workers".into(), ready: 2, failed: 1, ..Default::default() };
    assert_eq!(status.replicated_jobs_status, [workers]);
}

#[test]
fn words_are_read_and_written_as_they_are_also_new_ones() {
    for (word, expected) in [
        ("RestartJobSet", FailureAction::RestartJobSet),
        ("FailJobSet", FailureAction::FailJobSet),
        ("Pause", FailureAction::Other("Pause".into())),
    ] {
        let rule: FailureRule = serde_json::from_value(json!({"name": "a", "action": word})).unwrap();
        assert_eq!(rule.action, expected);
        assert_eq!(serde_json::to_value(rule).unwrap(), json!({"name": "a", "action": word}));
    }
}

#[test]
fn a_word_is_no_number() {
    assert!(serde_json::from_value::<SuccessPolicy>(json!({"operator": 1})).is_err());
    assert!(serde_json::from_value::<SuccessPolicy>(json!({})).is_err());
}
