//! What goes wrong with pods, in words.

use std::time::Duration;

use kf_core::process::Exit;
use kf_pipeline::AttemptEnd;

use crate::facts::{Evicted, PodFacts};

/// Why an attempt failed that was a pod.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PodProblem {
    /// Its image can't be had, or its container can't be made of it.
    #[error(
        "pod `{pod}` can't start: {reason}; see that the image's name is right and that the cluster may pull it, and that \
             the secrets and config maps that it takes variables from are there"
    )]
    Start {
        /// The pod.
        pod: String,
        /// What the node says.
        reason: String,
    },
    /// It used more memory than it may.
    #[error("pod `{pod}` was ended since it used more memory than its limit{} (OOMKilled); ask for more with \
             `memory`, or use less", limit.as_ref().map(|limit| format!(" of {limit}")).unwrap_or_default())]
    OutOfMemory {
        /// The pod.
        pod: String,
        /// The limit, as Kubernetes writes it.
        limit: Option<String>,
    },
    /// Its time was over, and nobody but the node was there to see it.
    #[error("pod `{pod}` took longer than its timeout of {timeout:?}")]
    Late {
        /// The pod.
        pod: String,
        /// The timeout.
        timeout: Duration,
    },
    /// The cluster took its place away: another pod came first, or the node was short of something or drained.
    #[error(
        "pod `{pod}` had to go: {reason}; it is tried again elsewhere. A `priority_class` keeps others from taking its place"
    )]
    Evicted {
        /// The pod.
        pod: String,
        /// Why, as the cluster says.
        reason: String,
    },
    /// The node that it ran on does not answer any more.
    #[error("the node of pod `{pod}` is lost: {reason}; it is tried again elsewhere")]
    NodeLost {
        /// The pod.
        pod: String,
        /// What the cluster says.
        reason: String,
    },
    /// Somebody else deleted it.
    #[error("pod `{pod}` was deleted by somebody else before it had ended; it is tried again")]
    Deleted {
        /// The pod.
        pod: String,
    },
    /// The cluster does not take it, and won't as it is.
    #[error("namespace `{namespace}` refuses pod `{pod}`: {reason}")]
    Refused {
        /// The namespace.
        namespace: String,
        /// The pod.
        pod: String,
        /// What the API server or one of its webhooks says.
        reason: String,
    },
    /// This program may not do what it has to.
    #[error(
        "this program's account may not do that in namespace `{namespace}`: {reason}; `kf_k8s::manifests` has the rights \
             that it needs"
    )]
    Forbidden {
        /// The namespace.
        namespace: String,
        /// What the API server says.
        reason: String,
    },
    /// The API server does not know who this program is.
    #[error(
        "the API server does not know the account of this program, in namespace `{namespace}`: {reason}; its token is wrong or \
             has expired: give it a new one"
    )]
    Unknown {
        /// The namespace.
        namespace: String,
        /// What the API server says.
        reason: String,
    },
    /// There is no such namespace.
    #[error("there is no namespace `{namespace}`; make it, such as by `kf_k8s::manifests`, or name another")]
    NoNamespace {
        /// The namespace.
        namespace: String,
    },
    /// There is a pod of this name, and it is not the attempt's.
    #[error(
        "the name `{pod}` is taken in namespace `{namespace}` by a pod that is not of this attempt `{attempt}`: it is somebody \
             else's, or of another run with the same id; delete it, give the run another id, or let engines that share no runs \
             have a namespace each"
    )]
    NameTaken {
        /// The namespace.
        namespace: String,
        /// The pod.
        pod: String,
        /// The attempt.
        attempt: String,
    },
    /// A container that comes before the task's has failed.
    #[error(
        "container `{container}` of pod `{pod}`, which comes before the task's, ended with {exit}; the one named `program` lays \
         this program beside the task's, and needs `Install` among its workers and an image of the node's kind of processor"
    )]
    Before {
        /// The pod.
        pod: String,
        /// The container.
        container: String,
        /// How it ended.
        exit: Exit,
    },
    /// Its container ended without a reply.
    #[error("pod `{pod}` ended without a reply: {exit}{}{}", perhaps_another(exit), last_lines(lines))]
    Exit {
        /// The pod.
        pod: String,
        /// How its container ended.
        exit: Exit,
        /// Its last lines.
        lines: Vec<String>,
    },
    /// It ended, and what it replied is none.
    #[error(
        "what pod `{pod}` replied is not understood: {reason}; is its image that of this program, with `RemoteTasks` among \
             its workers?{}",
        last_lines(lines)
    )]
    Reply {
        /// The pod.
        pod: String,
        /// What is wrong with it.
        reason: String,
        /// Its last lines.
        lines: Vec<String>,
    },
}

/// What a container that ended well without a reply may be.
fn perhaps_another(exit: &Exit) -> &'static str {
    match exit {
        Exit::Code(0) => "; is its image that of this program, with `RemoteTasks` among its workers?",
        _ => "",
    }
}

/// The end of a message: the last lines, where there are any.
pub(super) fn last_lines(lines: &[String]) -> String {
    match lines {
        [] => String::new(),
        lines => format!("; its last lines:\n{}", lines.join("\n")),
    }
}

impl PodProblem {
    /// What an API server that refuses this program means.
    pub(super) fn forbidden(namespace: &str, reason: String) -> Self {
        let namespace = namespace.to_owned();
        match reason.as_str() {
            "Unauthorized" => Self::Unknown { namespace, reason },
            _ => Self::Forbidden { namespace, reason },
        }
    }

    /// How the attempt ended.
    pub(super) fn end(&self) -> AttemptEnd {
        let message = self.to_string();
        match self {
            Self::Evicted { .. } | Self::NodeLost { .. } | Self::Deleted { .. } => {
                AttemptEnd::Lost { message }
            }
            // Whether it has a pod is not known: another attempt could be its twin.
            Self::Forbidden { .. }
            | Self::Unknown { .. }
            | Self::NoNamespace { .. }
            | Self::Refused { .. }
            | Self::NameTaken { .. } => AttemptEnd::Failed { message, permanent: true },
            _ => AttemptEnd::Failed { message, permanent: false },
        }
    }
}

/// What a pod that has ended, or is gone, came to.
#[derive(Debug, PartialEq)]
pub(super) enum Came {
    /// It replied so.
    Reply(String),
    Problem(PodProblem),
}

/// What is known of an attempt's pod beside its own words.
#[derive(Debug, Clone, Default)]
pub(super) struct Known {
    pub(super) timeout: Option<Duration>,
    pub(super) memory: Option<String>,
}

/// What a pod came to whose only container is the first of its facts; none where it has not ended.
pub(super) fn came_to(pod: &PodFacts, known: &Known) -> Option<Came> {
    let name = || pod.name.clone();
    let problem = |problem| Some(Came::Problem(problem));
    let end = pod.containers.first().and_then(|container| container.end.as_ref());
    // Whatever became of the pod afterwards, it had done its work.
    if let Some(message) = end.and_then(|end| end.message.clone()).filter(|message| message.starts_with('{'))
    {
        return Some(Came::Reply(message));
    }
    if let Some(taken) = taken(pod, known).filter(|_| pod.over || end.is_some()) {
        return problem(taken);
    }
    let end = match end {
        Some(end) => end,
        None if pod.over && pod.before.is_some() => {
            let (container, exit) = pod.before.clone()?;
            return problem(PodProblem::Before { pod: name(), container, exit });
        }
        None if pod.over => return problem(PodProblem::NodeLost { pod: name(), reason: lost(pod) }),
        None => return None,
    };
    if end.out_of_memory {
        return problem(PodProblem::OutOfMemory { pod: name(), limit: known.memory.clone() });
    }
    if pod.leaves {
        return problem(PodProblem::Deleted { pod: name() });
    }
    problem(PodProblem::Exit { pod: name(), exit: end.exit, lines: Vec::new() })
}

/// What the cluster has ended a pod for.
fn taken(pod: &PodFacts, known: &Known) -> Option<PodProblem> {
    let (evicted, pod) = (pod.evicted.as_ref()?, pod.name.clone());
    Some(match (evicted.reason.as_str(), known.timeout) {
        ("DeadlineExceeded", Some(timeout)) => PodProblem::Late { pod, timeout },
        ("DeletionByTaintManager" | "NodeLost" | "DeletionByPodGC", _) => {
            PodProblem::NodeLost { pod, reason: evicted.to_string() }
        }
        _ => PodProblem::Evicted { pod, reason: evicted.to_string() },
    })
}

/// Why a pod's work says that it was asked to end, where the engine has not asked.
pub(super) fn asked_to_end(pod: &PodFacts, known: &Known) -> PodProblem {
    // A node that ends a pod for its time says so in the pod only afterwards, and does not delete it.
    let late = known.timeout.filter(|_| !pod.leaves);
    let late = late.map(|timeout| PodProblem::Late { pod: pod.name.clone(), timeout });
    taken(pod, known).or(late).unwrap_or_else(|| PodProblem::Deleted { pod: pod.name.clone() })
}

fn lost(pod: &PodFacts) -> String {
    pod.evicted.as_ref().map_or_else(|| "its container's end was not told".into(), Evicted::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::{ContainerEnd, ContainerFacts};

    fn pod(end: Option<(Exit, bool, Option<&str>)>, evicted: Option<&str>, over: bool) -> PodFacts {
        let end = end.map(|(exit, out_of_memory, message)| ContainerEnd {
            exit,
            at: 0,
            out_of_memory,
            message: message.map(str::to_owned),
        });
        PodFacts {
            name: "p".into(),
            uid: "u".into(),
            containers: vec![ContainerFacts { started: true, end }],
            waits: None,
            over,
            leaves: false,
            grace: None,
            before: None,
            evicted: evicted.map(|reason| Evicted { reason: reason.into(), message: Some("why".into()) }),
        }
    }

    #[test]
    fn each_end_is_its_own_problem() {
        let known = Known { timeout: Some(Duration::from_secs(5)), memory: Some("1Gi".into()) };
        let came = |pod: PodFacts| came_to(&pod, &known);
        assert_eq!(came(pod(None, None, false)), None);
        // A pod that is told to go has not ended yet.
        assert_eq!(came(pod(None, Some("PreemptionByScheduler"), false)), None);
        let reply = came(pod(Some((Exit::Code(1), false, Some("{}"))), Some("Evicted"), true));
        assert_eq!(reply, Some(Came::Reply("{}".into())));
        for (pod, expected, lost) in [
            (
                pod(Some((Exit::Signal(9), true, None)), None, true),
                "more memory than its limit of 1Gi",
                false,
            ),
            (
                pod(Some((Exit::Code(3), false, Some("error: x"))), None, true),
                "without a reply: exit code 3",
                false,
            ),
            (pod(None, Some("Evicted"), true), "had to go: Evicted: why", true),
            (
                pod(Some((Exit::Signal(15), false, None)), Some("PreemptionByScheduler"), true),
                "had to go",
                true,
            ),
            (pod(None, Some("DeletionByTaintManager"), true), "the node of pod `p` is lost", true),
            (pod(None, Some("DeadlineExceeded"), true), "longer than its timeout of 5s", false),
            (pod(None, None, true), "the node of pod `p` is lost", true),
        ] {
            let Some(Came::Problem(problem)) = came(pod) else { panic!("{expected}") };
            assert!(problem.to_string().contains(expected), "{problem}");
            assert_eq!(matches!(problem.end(), AttemptEnd::Lost { .. }), lost, "{problem}");
        }
        let mut before = pod(None, None, true);
        before.before = Some(("program".into(), Exit::Code(64)));
        let Some(Came::Problem(problem)) = came(before) else { panic!("it has ended") };
        assert!(problem.to_string().contains("container `program` of pod `p`"), "{problem}");
        assert!(matches!(problem.end(), AttemptEnd::Failed { .. }));
        let asked = |evicted, leaves| {
            let mut pod = pod(Some((Exit::Code(1), false, Some("{}"))), evicted, false);
            pod.leaves = leaves;
            asked_to_end(&pod, &known)
        };
        assert!(matches!(asked(Some("PreemptionByScheduler"), true), PodProblem::Evicted { .. }));
        assert!(matches!(asked(Some("DeadlineExceeded"), false), PodProblem::Late { .. }));
        assert!(matches!(asked(None, false), PodProblem::Late { .. }));
        assert!(matches!(asked(None, true), PodProblem::Deleted { .. }));
        let mut deleted = pod(Some((Exit::Signal(15), false, None)), None, false);
        deleted.leaves = true;
        assert_eq!(came(deleted), Some(Came::Problem(PodProblem::Deleted { pod: "p".into() })));
    }
}
