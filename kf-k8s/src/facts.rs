//! What a pod tells of itself.

use std::time::Duration;

use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodStatus};
use kf_core::process::Exit;

/// What a pod tells.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct PodFacts {
    pub(crate) name: String,
    /// Of this pod alone, also where another has had its name.
    pub(crate) uid: String,
    /// Those that were asked for, in this order.
    pub(crate) containers: Vec<ContainerFacts>,
    /// Which container before those has failed, and how.
    pub(crate) before: Option<(String, Exit)>,
    /// Why it does not run yet.
    pub(crate) waits: Option<Wait>,
    /// Whether it has ended, be it well or badly.
    pub(crate) over: bool,
    /// Whether it was asked to go: what ends now, ends because of that.
    pub(crate) leaves: bool,
    /// How long it may take to go, where it was asked to.
    pub(crate) grace: Option<Duration>,
    /// Why it was ended, where the cluster did so.
    pub(crate) evicted: Option<Evicted>,
}

/// What a pod tells of a container.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct ContainerFacts {
    pub(crate) started: bool,
    pub(crate) end: Option<ContainerEnd>,
}

/// How a container has ended.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ContainerEnd {
    pub(crate) exit: Exit,
    /// In nanoseconds since 1970.
    pub(crate) at: i128,
    pub(crate) out_of_memory: bool,
    /// What it left as its last words.
    pub(crate) message: Option<String>,
}

/// Why the cluster ended a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Evicted {
    /// In a word, such as `Evicted`, `PreemptionByScheduler`, `DeadlineExceeded`.
    pub(crate) reason: String,
    pub(crate) message: Option<String>,
}

impl std::fmt::Display for Evicted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.message {
            Some(message) => write!(f, "{}: {message}", self.reason),
            None => f.write_str(&self.reason),
        }
    }
}

/// Why a pod does not run yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wait {
    pub(crate) reason: String,
    /// Whether waiting won't help.
    pub(crate) hopeless: bool,
}

/// Reasons of a container that does not start, and won't by waiting.
const HOPELESS: [&str; 7] = [
    "ErrImagePull",
    "ImagePullBackOff",
    "InvalidImageName",
    "ErrImageNeverPull",
    "CreateContainerConfigError",
    "CreateContainerError",
    "RunContainerError",
];

/// Reasons of a container that has ended since its program could not be started: those of containerd and CRI-O, and of Docker.
const UNSTARTED: [&str; 2] = ["StartError", "ContainerCannotRun"];

/// What a node says of a container whose program it could not start, such as one that is not in the image.
pub(crate) fn unstarted(pod: &Pod, container: &str) -> Option<String> {
    let told = pod.status.as_ref()?.container_statuses.iter().flatten();
    let ended = told.into_iter().find(|told| told.name == container)?.state.as_ref()?.terminated.as_ref()?;
    let reason = ended.reason.as_deref().filter(|reason| UNSTARTED.contains(reason))?;
    let message = ended.message.as_deref().map(str::trim).filter(|message| !message.is_empty());
    Some(message.unwrap_or(reason).to_owned())
}

/// What a pod tells of itself and of these containers; none where it has no name.
pub(crate) fn facts(pod: &Pod, containers: &[String]) -> Option<PodFacts> {
    let nothing = PodStatus::default();
    let status = pod.status.as_ref().unwrap_or(&nothing);
    let told = status.container_statuses.as_deref().unwrap_or_default();
    let facts = containers.iter().map(|name| {
        told.iter().find(|told| told.name == *name).map_or_else(ContainerFacts::default, container)
    });
    let phase = status.phase.as_deref().unwrap_or_default();
    Some(PodFacts {
        name: pod.metadata.name.clone()?,
        uid: pod.metadata.uid.clone().unwrap_or_default(),
        containers: facts.collect(),
        before: before(status),
        waits: waits(status).filter(|_| phase == "Pending"),
        leaves: pod.metadata.deletion_timestamp.is_some(),
        grace: pod
            .metadata
            .deletion_grace_period_seconds
            .and_then(|seconds| u64::try_from(seconds).ok())
            .map(Duration::from_secs),
        over: matches!(phase, "Succeeded" | "Failed"),
        evicted: evicted(status),
    })
}

fn before(status: &PodStatus) -> Option<(String, Exit)> {
    status.init_container_statuses.iter().flatten().find_map(|container| {
        let ended = container.state.as_ref()?.terminated.as_ref()?;
        (ended.exit_code != 0).then(|| (container.name.clone(), exit(ended.exit_code)))
    })
}

fn waits(status: &PodStatus) -> Option<Wait> {
    let containers = status.init_container_statuses.iter().chain(&status.container_statuses).flatten();
    let mut stuck = containers.filter_map(|container| {
        let waiting = container.state.as_ref()?.waiting.as_ref()?;
        let reason = waiting.reason.clone()?;
        let message = waiting.message.as_deref().map_or(String::new(), |message| format!(": {message}"));
        HOPELESS.contains(&reason.as_str()).then(|| Wait {
            reason: format!("container `{}`: {reason}{message}", container.name),
            hopeless: true,
        })
    });
    let unscheduled = || {
        let condition = condition(status, "PodScheduled", "False")?;
        let told = condition.message.as_deref().or(condition.reason.as_deref());
        let reason = format!("no node takes it: {}", told.unwrap_or("no reason is told"));
        Some(Wait { reason, hopeless: false })
    };
    stuck.next().or_else(unscheduled)
}

fn evicted(status: &PodStatus) -> Option<Evicted> {
    let disrupted = condition(status, "DisruptionTarget", "True").map(|condition| Evicted {
        reason: condition.reason.clone().unwrap_or_else(|| "DisruptionTarget".into()),
        message: condition.message.clone(),
    });
    let failed = || {
        let reason = status.reason.clone().filter(|_| status.phase.as_deref() == Some("Failed"))?;
        Some(Evicted { reason, message: status.message.clone() })
    };
    disrupted.or_else(failed)
}

fn condition<'s>(
    status: &'s PodStatus,
    kind: &str,
    holds: &str,
) -> Option<&'s k8s_openapi::api::core::v1::PodCondition> {
    let mut all = status.conditions.iter().flatten();
    all.find(|condition| condition.type_ == kind && condition.status == holds)
}

fn container(container: &ContainerStatus) -> ContainerFacts {
    let Some(state) = &container.state else { return ContainerFacts::default() };
    let Some(ended) = &state.terminated else {
        return ContainerFacts { started: state.running.is_some(), end: None };
    };
    // A container that was never started has no such time, or that of 1970.
    let started = ended.started_at.as_ref().is_some_and(|at| at.0.as_second() > 0);
    ContainerFacts {
        started,
        end: Some(ContainerEnd {
            exit: exit(ended.exit_code),
            at: ended.finished_at.as_ref().map_or(0, |at| at.0.as_nanosecond()),
            out_of_memory: ended.reason.as_deref() == Some("OOMKilled"),
            message: ended.message.clone().filter(|message| !message.trim().is_empty()),
        }),
    }
}

/// Runtimes tell a signal as 128 and its number.
fn exit(code: i32) -> Exit {
    match code {
        129..=159 => Exit::Signal(code - 128),
        code => Exit::Code(code),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(status: Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "p"}, "status": status})).unwrap()
    }

    #[test]
    fn containers_are_told_in_the_order_asked() {
        let status = json!({"phase": "Running", "containerStatuses": [
            {"name": "rank-1", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": {"terminated": {
                "exitCode": 137, "reason": "OOMKilled", "message": "{}", "startedAt": "2026-01-01T00:00:00Z",
                "finishedAt": "2026-01-01T00:00:01Z"}}},
            {"name": "rank-0", "image": "", "imageID": "", "ready": true, "restartCount": 0, "state": {"running": {}}},
        ]});
        let names = ["rank-0", "rank-1", "rank-2"].map(str::to_owned);
        let facts = facts(&pod(status), &names).unwrap();
        assert!(!facts.over);
        assert_eq!(facts.containers[0], ContainerFacts { started: true, end: None });
        let end = facts.containers[1].end.clone().unwrap();
        assert_eq!(
            (end.exit, end.out_of_memory, end.message.as_deref()),
            (Exit::Signal(9), true, Some("{}"))
        );
        assert_eq!(end.at, 1_767_225_601_000_000_000);
        assert_eq!(facts.containers[2], ContainerFacts::default());
    }

    #[test]
    fn a_program_that_could_not_be_started_is_told_with_why() {
        let said = |reason: &str, message: Value| {
            let status = json!({"phase": "Failed", "containerStatuses": [{"name": "rank-0", "image": "", "imageID": "",
                "ready": false, "restartCount": 0, "state": {"terminated": {"exitCode": 128, "reason": reason,
                "message": message, "startedAt": "1970-01-01T00:00:00Z", "finishedAt": "2026-01-01T00:00:01Z"}}}]});
            unstarted(&pod(status), "rank-0")
        };
        let found = r#"exec: "sh": executable file not found in $PATH"#;
        assert_eq!(said("StartError", json!(format!("{found}\n"))).as_deref(), Some(found));
        assert_eq!(said("ContainerCannotRun", Value::Null).as_deref(), Some("ContainerCannotRun"));
        assert_eq!(said("Error", json!(found)), None);
        assert_eq!(unstarted(&pod(json!({})), "rank-0"), None);
    }

    #[test]
    fn what_keeps_a_pod_from_running_is_told() {
        let waits = |status: Value| facts(&pod(status), &["rank-0".to_owned()]).unwrap().waits;
        let pulled = json!({"phase": "Pending", "containerStatuses": [{"name": "rank-0", "image": "", "imageID": "",
            "ready": false, "restartCount": 0,
            "state": {"waiting": {"reason": "ErrImagePull", "message": "no such host"}}}]});
        let wait = waits(pulled.clone()).unwrap();
        assert!(wait.hopeless && wait.reason == "container `rank-0`: ErrImagePull: no such host", "{wait:?}");
        let unschedulable = json!({"phase": "Pending", "conditions": [
            {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes"}]});
        assert_eq!(
            waits(unschedulable),
            Some(Wait { reason: "no node takes it: 0/1 nodes".into(), hopeless: false })
        );
        let creating = json!({"phase": "Pending", "containerStatuses": [{"name": "rank-0", "image": "", "imageID": "",
            "ready": false, "restartCount": 0, "state": {"waiting": {"reason": "ContainerCreating"}}}]});
        assert_eq!(waits(creating), None);
        let evicted = json!({"phase": "Failed", "reason": "Evicted", "message": "disk"});
        let facts = facts(&pod(evicted), &[]).unwrap();
        assert!(facts.over);
        assert_eq!(facts.evicted.unwrap().to_string(), "Evicted: disk");
    }
}
