//! How an elastic job fares: a pure function of what the cluster tells.

use std::ops::RangeInclusive;

use k8s_openapi::api::core::v1::Pod;
use kf_core::process::Exit;
use kf_train::elastic::RoundNote;
use kube::api::DynamicObject;

use super::{ElasticJob, ElasticKind};
use crate::facts::{PodFacts, facts};
use crate::train::Kind;
use crate::train::kinds::State;

/// Of what a failed agent printed last, so many lines are told.
const LAST_LINES: usize = 4;

/// How an elastic job fares.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ElasticStatus {
    /// Whether it runs, waits or has ended.
    pub state: ElasticState,
    /// The fewest and the most nodes that it may have.
    pub nodes: RangeInclusive<usize>,
    /// How many nodes it is to have.
    pub wanted: usize,
    /// How many pods of it run.
    pub running: usize,
    /// The last round, as the pods that are there have printed it; none before the first, where it was too long ago, and of
    /// agents that print none, such as torchrun.
    pub round: Option<RoundNote>,
    /// Which pods can't run yet, and why.
    pub waits: Vec<String>,
}

/// Whether an elastic job runs, waits or has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ElasticState {
    /// Its pods run, or will.
    Active,
    /// Somebody has suspended it: it has no pods until its `suspend` is false.
    Suspended,
    /// All ranks of its last round have succeeded.
    Succeeded,
    /// It has failed.
    Failed {
        /// What the cluster says, and what agents that failed have printed last.
        reason: String,
    },
}

impl ElasticState {
    /// Whether it has ended.
    pub fn is_over(&self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed { .. })
    }
}

/// How a job fares by its object and its pods; the round is not known by these.
pub(super) fn status(
    job: &ElasticJob,
    kind: ElasticKind,
    object: &DynamicObject,
    pods: &[Pod],
) -> ElasticStatus {
    let container = [Kind::from(kind).container(0)];
    let facts: Vec<_> = pods.iter().filter_map(|pod| facts(pod, &container)).collect();
    let waits = |pod: &PodFacts| Some(format!("pod `{}`: {}", pod.name, pod.waits.as_ref()?.reason));
    let state = match Kind::from(kind).state(object) {
        State::Active => ElasticState::Active,
        State::Suspended { .. } => ElasticState::Suspended,
        State::Succeeded => ElasticState::Succeeded,
        State::Failed { message, .. } => ElasticState::Failed { reason: reason(message, &facts) },
    };
    let runs = |pod: &&PodFacts| !pod.over && !pod.leaves && pod.containers.iter().all(|one| one.started);
    ElasticStatus {
        state,
        nodes: job.nodes.clone(),
        wanted: kind.wanted(&object.data),
        running: facts
            .iter()
            .filter(runs)
            .filter(|pod| pod.containers.iter().all(|one| one.end.is_none()))
            .count(),
        round: None,
        waits: facts.iter().filter_map(waits).collect(),
    }
}

/// What the cluster says, with the last words of the agent that failed first.
fn reason(message: String, pods: &[PodFacts]) -> String {
    let failed = pods
        .iter()
        .flat_map(|pod| pod.containers.iter().filter_map(|one| one.end.as_ref()).map(move |end| (pod, end)));
    let first = failed
        .filter(|(_, end)| matches!(end.exit, Exit::Code(code) if code != 0))
        .min_by_key(|(_, end)| end.at);
    let Some((pod, end)) = first else { return message };
    let lines: Vec<_> = end.message.iter().flat_map(|text| text.lines()).collect();
    let last = lines[lines.len().saturating_sub(LAST_LINES)..].join("\n");
    format!("{message}; pod `{}` ended with {}: {last}", pod.name, end.exit)
}

/// The latest round that logs tell of.
pub(super) fn latest(logs: impl IntoIterator<Item = String>) -> Option<RoundNote> {
    let last = |log: String| log.lines().rev().find_map(RoundNote::of_line);
    logs.into_iter().filter_map(last).max_by_key(|round| round.number)
}
