//! How far the engine's pod is.

use k8s_openapi::api::core::v1::Pod;

/// How far it is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// It does not run yet; why, and whether waiting won't help.
    Waits {
        reason: String,
        hopeless: bool,
    },
    Runs,
    /// It has ended, with its last words.
    Ended {
        code: i32,
        words: String,
    },
}

const HOPELESS: [&str; 5] = [
    "ErrImagePull",
    "ImagePullBackOff",
    "ErrImageNeverPull",
    "InvalidImageName",
    "CreateContainerConfigError",
];

/// How far a pod of one container is.
pub(super) fn stage(pod: &Pod) -> Stage {
    let status = pod.status.clone().unwrap_or_default();
    let container = status.container_statuses.into_iter().flatten().next();
    let state = container.and_then(|container| container.state).unwrap_or_default();
    if let Some(ended) = state.terminated {
        let words = ended.message.or(ended.reason).unwrap_or_default();
        return Stage::Ended { code: ended.exit_code, words };
    }
    if status.phase.as_deref() == Some("Failed") {
        let words = status.message.or(status.reason).unwrap_or_default();
        return Stage::Ended { code: 1, words };
    }
    if state.running.is_some() {
        return Stage::Runs;
    }
    if let Some(waiting) = state.waiting {
        let reason = waiting.reason.unwrap_or_default();
        let hopeless = HOPELESS.contains(&reason.as_str());
        let message = waiting.message.map(|message| format!(": {message}")).unwrap_or_default();
        return Stage::Waits { reason: format!("{reason}{message}"), hopeless };
    }
    let unscheduled = status.conditions.into_iter().flatten().find(|condition| condition.status == "False");
    let message = unscheduled.and_then(|condition| condition.message);
    Stage::Waits { reason: message.unwrap_or_else(|| "it was not looked at yet".to_owned()), hopeless: false }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn stages_are_told_apart() {
        let with = |state: Value| {
            json!({"containerStatuses": [{"name": "e", "image": "", "imageID": "", "ready": false, "restartCount": 0,
                "state": state}]})
        };
        let waits = |reason: &str, hopeless| Stage::Waits { reason: reason.to_owned(), hopeless };
        let ended = |code, words: &str| Stage::Ended { code, words: words.to_owned() };
        for (status, expected) in [
            (json!({}), waits("it was not looked at yet", false)),
            (
                json!({"conditions": [{"type": "PodScheduled", "status": "False", "message": "no volume"}]}),
                waits("no volume", false),
            ),
            (with(json!({"waiting": {"reason": "ContainerCreating"}})), waits("ContainerCreating", false)),
            (
                with(json!({"waiting": {"reason": "ErrImagePull", "message": "no host"}})),
                waits("ErrImagePull: no host", true),
            ),
            (with(json!({"running": {}})), Stage::Runs),
            (with(json!({"terminated": {"exitCode": 0, "message": "{}"}})), ended(0, "{}")),
            (with(json!({"terminated": {"exitCode": 137, "reason": "OOMKilled"}})), ended(137, "OOMKilled")),
            (json!({"phase": "Failed", "reason": "Evicted"}), ended(1, "Evicted")),
        ] {
            let pod = serde_json::from_value(json!({"status": status})).unwrap();
            assert_eq!(stage(&pod), expected, "{status}");
        }
    }
}
