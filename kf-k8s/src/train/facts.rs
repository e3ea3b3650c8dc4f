//! What a pod tells of the ranks in it.

use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use kf_core::process::Exit;

use super::kinds::Kind;
use super::names::restart_of;

/// What a pod tells.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct PodFacts {
    pub(super) name: String,
    /// Of this pod alone, also where another has had its name.
    pub(super) uid: String,
    pub(super) restart: u64,
    pub(super) node: usize,
    /// Its ranks, in order.
    pub(super) ranks: Vec<RankFacts>,
    /// Why it does not run yet.
    pub(super) waits: Option<Wait>,
    /// Whether it has ended, be it well or badly.
    pub(super) over: bool,
    /// Whether it was asked to go: what ends now, ends because of that.
    pub(super) leaves: bool,
    /// Why it was ended, where the cluster did so.
    pub(super) evicted: Option<String>,
}

/// What a pod tells of a rank.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct RankFacts {
    pub(super) started: bool,
    pub(super) end: Option<RankFactEnd>,
}

/// How a rank's container has ended.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct RankFactEnd {
    pub(super) exit: Exit,
    /// In nanoseconds since 1970.
    pub(super) at: i128,
    pub(super) out_of_memory: bool,
    /// What it left in its error file.
    pub(super) message: Option<String>,
}

/// Why a pod does not run yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wait {
    pub(super) reason: String,
    /// Whether waiting won't help.
    pub(super) hopeless: bool,
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

/// What a pod of a job with so many ranks on a node tells; none where it is no pod of a job.
pub(super) fn facts(pod: &Pod, kind: Kind, ranks_per_node: usize) -> Option<PodFacts> {
    let node = pod.metadata.labels.as_ref()?.get(kind.index_label())?.parse().ok()?;
    let status = pod.status.clone().unwrap_or_default();
    let containers = status.container_statuses.unwrap_or_default();
    let ranks = (0..ranks_per_node).map(|local_rank| {
        let name = kind.container(local_rank);
        containers.iter().find(|container| container.name == name).map_or_else(RankFacts::default, rank)
    });
    let ranks: Vec<_> = ranks.collect();
    let phase = status.phase.unwrap_or_default();
    let condition = |kind: &str, holds: &str| {
        let mut all = status.conditions.iter().flatten();
        all.find(|condition| condition.type_ == kind && condition.status == holds)
    };
    let waiting = containers.iter().find_map(|container| {
        let waiting = container.state.as_ref()?.waiting.as_ref()?;
        let reason = waiting.reason.clone()?;
        let message = waiting.message.as_deref().map_or(String::new(), |message| format!(": {message}"));
        HOPELESS.contains(&reason.as_str()).then(|| Wait {
            reason: format!("container `{}`: {reason}{message}", container.name),
            hopeless: true,
        })
    });
    let unscheduled = condition("PodScheduled", "False").map(|condition| Wait {
        reason: format!(
            "no node takes it: {}",
            condition.message.as_deref().or(condition.reason.as_deref()).unwrap_or("no reason is told")
        ),
        hopeless: false,
    });
    let disrupted = condition("DisruptionTarget", "True").map(|condition| {
        let words = [condition.reason.as_deref(), condition.message.as_deref()];
        words.into_iter().flatten().collect::<Vec<_>>().join(": ")
    });
    let evicted = status.reason.clone().filter(|_| phase == "Failed").map(|reason| {
        status.message.as_deref().map_or(reason.clone(), |message| format!("{reason}: {message}"))
    });
    Some(PodFacts {
        name: pod.metadata.name.clone()?,
        uid: pod.metadata.uid.clone().unwrap_or_default(),
        restart: restart_of(&pod.metadata)?,
        node,
        ranks,
        waits: waiting.or(unscheduled).filter(|_| phase == "Pending"),
        leaves: pod.metadata.deletion_timestamp.is_some(),
        over: matches!(phase.as_str(), "Succeeded" | "Failed"),
        evicted: disrupted.or(evicted),
    })
}

fn rank(container: &ContainerStatus) -> RankFacts {
    let Some(state) = &container.state else { return RankFacts::default() };
    let Some(ended) = &state.terminated else {
        return RankFacts { started: state.running.is_some(), end: None };
    };
    // A container that was never started has no such time, or that of 1970.
    let started = ended.started_at.as_ref().is_some_and(|at| at.0.as_second() > 0);
    RankFacts {
        started,
        end: Some(RankFactEnd {
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
        let labels = json!({"batch.kubernetes.io/job-completion-index": "3", "kf.dev/restart": "1"});
        serde_json::from_value(json!({"metadata": {"name": "p", "labels": labels}, "status": status}))
            .unwrap()
    }

    #[test]
    fn containers_are_ranks() {
        let status = json!({"phase": "Running", "containerStatuses": [
            {"name": "rank-1", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": {"terminated": {
                "exitCode": 137, "reason": "OOMKilled", "message": "{}", "startedAt": "2026-01-01T00:00:00Z",
                "finishedAt": "2026-01-01T00:00:01Z"}}},
            {"name": "rank-0", "image": "", "imageID": "", "ready": true, "restartCount": 0, "state": {"running": {}}},
        ]});
        let facts = facts(&pod(status), Kind::Job, 3).unwrap();
        assert_eq!((facts.node, facts.restart, facts.over), (3, 1, false));
        assert_eq!(facts.ranks[0], RankFacts { started: true, end: None });
        let end = facts.ranks[1].end.clone().unwrap();
        assert_eq!(
            (end.exit, end.out_of_memory, end.message.as_deref()),
            (Exit::Signal(9), true, Some("{}"))
        );
        assert_eq!(end.at, 1_767_225_601_000_000_000);
        assert_eq!(facts.ranks[2], RankFacts::default());
    }

    #[test]
    fn what_keeps_a_pod_from_running_is_told() {
        let waits = |status: Value| facts(&pod(status), Kind::Job, 1).unwrap().waits;
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
        let facts = facts(&pod(evicted), Kind::Job, 1).unwrap();
        assert_eq!((facts.over, facts.evicted.as_deref()), (true, Some("Evicted: disk")));
    }
}
