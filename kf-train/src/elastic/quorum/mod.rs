//! When a round is made, and of which nodes: a pure function, so that every decision can be explained and tested.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::Duration;

use super::reason::Reason;
use super::round::{Node, Round};

/// Ranks whose time ran out look for up to 1.3 s for those that they miss, before they tell.
const LOOK: Duration = Duration::from_millis(1500);

/// How nodes become a round.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuorumOptions {
    /// With fewer nodes nothing runs.
    pub min_nodes: usize,
    /// More nodes than this wait as spares.
    pub max_nodes: usize,
    /// How many times failed ranks may have all ranks started anew.
    pub max_restarts: u64,
    /// How long the first round waits for more nodes once there are `min_nodes`, from the last one that came.
    pub last_call: Duration,
    /// A node that was not heard of for so long is lost.
    pub heartbeat_timeout: Duration,
    /// How long a sign is waited on for what may explain it: after a failed rank for the loss of another node, after a lost
    /// connection for its return, after a node that joins for the next one.
    pub settle: Duration,
    /// Where a rank failed, go on at once without its node, which joins again; for ranks that keep their state and their
    /// places. Where too few are left, all wait for it.
    pub heal: bool,
    /// Let nodes go on that may be the smaller part of a job whose network is cut, while the others go on, too.
    pub allow_minority: bool,
}

impl Default for QuorumOptions {
    /// One node, no restarts; 2 s, 5 s, 0.2 s; no minority goes on.
    fn default() -> Self {
        Self {
            min_nodes: 1,
            max_nodes: 1,
            max_restarts: 0,
            last_call: Duration::from_secs(2),
            heartbeat_timeout: Duration::from_secs(5),
            settle: Duration::from_millis(200),
            heal: false,
            allow_minority: false,
        }
    }
}

/// What a node says of itself.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Its ranks are being started ahead of a round; it joins none before they are.
    Starting,
    /// It runs nothing, and would.
    Ready,
    /// Its ranks run.
    Running {
        /// The round's number.
        round: u64,
    },
    /// All its ranks succeeded.
    Succeeded {
        /// The round's number.
        round: u64,
    },
    /// One of its ranks failed.
    Failed {
        /// The round's number.
        round: u64,
        /// Which rank, how, and what it said.
        text: String,
        /// Whether the rank says that it failed because of another one.
        of_another_rank: bool,
    },
    /// Its rank, which outlives rounds, can't go on in this one.
    Stuck {
        /// The round's number.
        round: u64,
        /// The ranks that it misses, where it knows.
        missing: Vec<usize>,
    },
    /// It is to end, and its ranks have been asked to.
    Leaving,
}

impl Phase {
    /// Whether its ranks have begun a round, whatever became of them; of one that leaves, that does not matter.
    pub(super) fn has_begun(&self, number: u64) -> bool {
        match self {
            Self::Starting | Self::Ready => false,
            Self::Running { round }
            | Self::Succeeded { round }
            | Self::Failed { round, .. }
            | Self::Stuck { round, .. } => *round >= number,
            Self::Leaving => true,
        }
    }
}

/// A node, as the coordinator sees it. Times are of the coordinator's own clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeState {
    /// The node.
    pub node: Node,
    /// What it says of itself.
    pub phase: Phase,
    /// Its place in the order in which nodes came.
    pub ticket: u64,
    /// When it came.
    pub joined: Duration,
    /// When it came to its present phase.
    pub since: Duration,
    /// When it was last heard of.
    pub heard: Duration,
    /// When its connection ended; none where that is open.
    pub disconnected: Option<Duration>,
}

/// All that a decision depends on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct QuorumState {
    /// The last round; none before the first.
    pub round: Option<Round>,
    /// The last round that all of its nodes have taken up. Where the last one is not taken up by all yet, nodes that it has
    /// may be about to go on without those that made it.
    pub agreed: Option<Round>,
    /// The nodes that came to this coordinator, by id.
    pub nodes: BTreeMap<String, NodeState>,
    /// Nodes of the round that have ended for certain, such as those whose machines refuse connections to them.
    pub ended: BTreeSet<String>,
    /// Whether the last round was told to be over, so that its nodes have let go of their ranks.
    pub over: bool,
    /// When this coordinator took the round over from one that was lost; the nodes of the round need a while to come.
    pub took_over: Option<Duration>,
}

/// The next round, if there is to be one now, and why, or why not.
///
/// - The first round is made of the nodes that are here: at once when there are `max_nodes`, and else when there are
///   `min_nodes` and none came for `last_call`.
/// - A node of the round that is lost or leaves makes a new round of those that are left, and of those that wait, as
///   soon as there are `min_nodes`. No restart is used.
/// - A failed rank makes a new round, and uses a restart. Where there are none left, the job has failed.
/// - Ranks that can't go on make a new round, without those that they miss and that say nothing, each of which uses a
///   restart.
/// - A node that joins makes a new round, up to `max_nodes`. No restart is used.
/// - Where a round that was over has all its nodes again, they make another. No restart is used.
/// - Where the nodes that are lost may be alive elsewhere, only the larger part of the job goes on: more than half of those
///   nodes of the last agreed round that have not ended for certain, or exactly half with the first of them.
///
/// At most one round is ever made of each number, and the order of nodes, and so their ranks, changes as little as
/// possible; nodes that were given a number ([`Node::rank`]) are in the order of these. Takes time in proportion to the number of nodes.
pub fn quorum(now: Duration, state: &QuorumState, options: &QuorumOptions) -> (Option<Round>, Reason) {
    let mut numbered = HashMap::new();
    for node in state.nodes.values() {
        if let Some(rank) = node.node.rank {
            let last = numbered.entry(rank).or_insert(node);
            *last = if last.ticket < node.ticket { node } else { last };
        }
    }
    let view = View { now, state, options, numbered };
    match &state.round {
        None => view.first(),
        Some(round) => view.next(round),
    }
}

struct View<'a> {
    now: Duration,
    state: &'a QuorumState,
    options: &'a QuorumOptions,
    /// Of the nodes that were given the same number, the one that came last.
    numbered: HashMap<usize, &'a NodeState>,
}

impl View<'_> {
    fn first(&self) -> (Option<Round>, Reason) {
        let here: Vec<_> = self.state.nodes.values().filter(|node| self.may_join(node)).collect();
        let Some(last) = here.iter().map(|node| node.joined).max().filter(|_| here.len() >= self.min())
        else {
            return (None, Reason::TooFew { here: here.len(), min: self.min() });
        };
        let open = last.saturating_add(self.options.last_call).saturating_sub(self.now);
        if here.len() < self.options.max_nodes && !open.is_zero() {
            return (None, Reason::LastCall { here: here.len(), max: self.options.max_nodes, open });
        }
        let round = self.made_of(None, 0);
        let nodes = round.nodes.len();
        (Some(round), Reason::Met { nodes })
    }

    fn next(&self, round: &Round) -> (Option<Round>, Reason) {
        let of_round: Vec<_> =
            round.nodes.iter().map(|node| (node, self.state.nodes.get(&node.id))).collect();
        let is = |wanted: fn(&Phase, u64) -> bool| {
            let number = round.number;
            move |&(_, found): &(&Node, Option<&NodeState>)| {
                found.is_some_and(|found| wanted(&found.phase, number))
            }
        };
        let succeeded = is(|phase, round| *phase == Phase::Succeeded { round });
        let failed = is(|phase, number| matches!(phase, Phase::Failed { round, .. } if *round == number));
        if of_round.iter().all(&succeeded) {
            return (None, Reason::Succeeded { round: round.number });
        }
        let lost: Vec<_> = of_round
            .iter()
            .filter(|&&(_, found)| !found.is_some_and(|found| self.is_alive(found)))
            .map(|(node, _)| (*node).clone())
            .collect();
        if !lost.is_empty() {
            return self.without(round, lost);
        }
        if self.state.over {
            let nodes = round.nodes.len();
            return (Some(self.made_of(Some(round), round.restarts)), Reason::Returned { nodes });
        }
        let failures: Vec<&NodeState> =
            of_round.iter().filter(|node| failed(node)).filter_map(|(_, found)| *found).collect();
        if !failures.is_empty() {
            return self.after(round, &failures);
        }
        let stuck = is(|phase, number| matches!(phase, Phase::Stuck { round, .. } if *round == number));
        if of_round.iter().any(stuck) {
            return self.unstick(round);
        }
        if round.nodes.len() >= self.options.max_nodes {
            return (None, Reason::Runs { round: round.number, nodes: round.nodes.len() });
        }
        let joining: Vec<_> = self.joining(round).collect();
        let Some(last) = joining.iter().map(|node| node.joined).max() else {
            return (None, Reason::Runs { round: round.number, nodes: round.nodes.len() });
        };
        if of_round.iter().any(succeeded) {
            return (None, Reason::Finishing { round: round.number });
        }
        if self.now < last + self.options.settle {
            return (None, Reason::Joining { nodes: joining.len() });
        }
        let joined: Vec<_> = joining.iter().map(|node| node.node.clone()).collect();
        (Some(self.made_of(Some(round), round.restarts)), Reason::Joined { nodes: joined })
    }

    /// When nodes of the round are lost.
    fn without(&self, round: &Round, lost: Vec<Node>) -> (Option<Round>, Reason) {
        let ended = |node: &Node| {
            let left = || self.state.nodes.get(&node.id).is_some_and(|node| node.phase == Phase::Leaving);
            self.state.ended.contains(&node.id) || left()
        };
        let is_here = |node: &Node| self.state.nodes.get(&node.id).is_some_and(|node| self.is_alive(node));
        let agreed = self.state.agreed.as_ref().unwrap_or(round);
        let voters: Vec<_> = agreed.nodes.iter().filter(|node| is_here(node) || !ended(node)).collect();
        let here = voters.iter().filter(|node| is_here(node)).count();
        if here < voters.len() {
            let absent = |node: &&&Node| !self.state.nodes.contains_key(&node.id);
            let gathering =
                self.state.took_over.is_some_and(|since| self.now < since + self.options.heartbeat_timeout);
            if gathering && voters.iter().any(|node| absent(&node)) {
                return (None, Reason::Gathering { here, of: voters.len() });
            }
            let with_first = voters.first().is_some_and(|first| is_here(first));
            let most = 2 * here > voters.len() || (2 * here == voters.len() && with_first);
            if !most && !self.options.allow_minority {
                return (None, Reason::Minority { here, of: voters.len() });
            }
        }
        let next = self.made_of(Some(round), round.restarts);
        if next.nodes.len() < self.min() {
            return (None, Reason::TooFew { here: next.nodes.len(), min: self.min() });
        }
        (Some(next), Reason::Lost { nodes: lost })
    }

    /// When ranks of the round failed, and no node is lost.
    fn after(&self, round: &Round, failures: &[&NodeState]) -> (Option<Round>, Reason) {
        let by_others =
            |node: &&&NodeState| matches!(&node.phase, Phase::Failed { of_another_rank: true, .. });
        let first = failures.iter().map(|node| node.since).min().unwrap_or(self.now);
        let lives = |node: &Node| {
            let failed = failures.iter().any(|failed| failed.node.id == node.id);
            failed || self.state.nodes.get(&node.id).is_some_and(|node| node.heard > first)
        };
        let wait = match (round.nodes.len(), failures.iter().all(|node| by_others(&node))) {
            (1, _) => Duration::ZERO,
            _ if self.options.heal => Duration::ZERO,
            (_, false) => self.options.settle,
            (_, true) if round.nodes.iter().all(lives) => self.options.settle,
            // The one that they failed of may be on a node whose loss is not seen yet.
            (_, true) => self.options.settle.saturating_add(self.options.heartbeat_timeout),
        };
        // The cause rather than what it caused, and then the earliest.
        let cause = failures.iter().min_by_key(|node| (by_others(node), node.since));
        let (node, failure) = match cause.map(|node| (&node.node.id, &node.phase)) {
            Some((id, Phase::Failed { text, .. })) => (id.clone(), text.clone()),
            _ => (String::new(), String::new()),
        };
        if self.now < first + wait {
            return (None, Reason::Settling { failure });
        }
        if round.restarts >= self.options.max_restarts {
            return (None, Reason::Failed { node, failure, restarts: round.restarts });
        }
        let restarts = round.restarts + 1;
        let of = self.options.max_restarts;
        let mut next = self.made_of(Some(round), restarts);
        if self.options.heal {
            let failed: HashSet<&str> = failures.iter().map(|node| node.node.id.as_str()).collect();
            let left = next.nodes.iter().filter(|node| !failed.contains(node.id.as_str()));
            let left: Vec<_> = left.cloned().collect();
            if left.len() >= self.min() {
                next.nodes = left;
            }
        }
        (Some(next), Reason::RankFailed { node, failure, restarts, of })
    }

    /// When ranks of the round can't go on, though no node is lost and no rank failed.
    fn unstick(&self, round: &Round) -> (Option<Round>, Reason) {
        let mut first = self.now;
        let (mut missed, mut stuck) = (HashSet::new(), HashSet::new());
        for node in round.nodes.iter().filter_map(|node| self.state.nodes.get(&node.id)) {
            if let Phase::Stuck { round: number, missing } = &node.phase
                && *number == round.number
            {
                first = first.min(node.since);
                stuck.insert(node.node.id.as_str());
                missed.extend(
                    missing.iter().filter_map(|rank| round.of_rank(*rank)).map(|node| node.id.as_str()),
                );
            }
        }
        if self.now < first + self.options.settle {
            return (None, Reason::Sticking { nodes: stuck.len() });
        }
        let silent: Vec<_> = round
            .nodes
            .iter()
            .filter(|node| missed.contains(node.id.as_str()) && !stuck.contains(node.id.as_str()))
            .cloned()
            .collect();
        // One that was cut off by another's failure says so before that other knows whom it misses.
        let all = round.nodes.iter().all(|node| stuck.contains(node.id.as_str()));
        if silent.is_empty() && !all && self.now < first + self.options.settle + LOOK {
            return (None, Reason::Sticking { nodes: stuck.len() });
        }
        let Some(one) = silent.first() else {
            return (Some(self.made_of(Some(round), round.restarts)), Reason::Unstuck { nodes: stuck.len() });
        };
        let restarts = round.restarts + 1;
        let (node, of) = (one.id.clone(), self.options.max_restarts);
        let failure = format!("no word of the ranks of {}", super::reason::hosts(&silent));
        if round.restarts >= of {
            return (None, Reason::Failed { node, failure, restarts: round.restarts });
        }
        let mut next = self.made_of(Some(round), restarts);
        let left: Vec<_> = next.nodes.iter().filter(|node| !silent.contains(node)).cloned().collect();
        if left.len() < self.min() {
            return (None, Reason::TooFew { here: left.len(), min: self.min() });
        }
        next.nodes = left;
        (Some(next), Reason::RankFailed { node, failure, restarts, of })
    }

    /// The next round: who is left of the one before, in its order, and then those that wait, in theirs; but those that were
    /// given a number, in the order of these.
    fn made_of(&self, before: Option<&Round>, restarts: u64) -> Round {
        let left = before.into_iter().flat_map(|round| &round.nodes).filter_map(|node| {
            let found = self.state.nodes.get(&node.id).filter(|found| self.is_alive(found))?;
            Some(found.node.clone())
        });
        let mut nodes: Vec<_> = left.collect();
        let mut waiting: Vec<_> = match before {
            Some(round) => self.joining(round).collect(),
            None => self.state.nodes.values().filter(|node| self.may_join(node)).collect(),
        };
        waiting.sort_by_key(|node| node.ticket);
        nodes.extend(waiting.into_iter().map(|node| node.node.clone()));
        nodes.truncate(self.options.max_nodes.max(1));
        nodes.sort_by_key(|node| node.rank.unwrap_or(usize::MAX));
        Round { number: before.map_or(1, |round| round.number + 1), restarts, nodes }
    }

    /// The nodes that are here, and not of the round.
    fn joining(&self, round: &Round) -> impl Iterator<Item = &NodeState> {
        let of_round: HashSet<&str> = round.nodes.iter().map(|node| node.id.as_str()).collect();
        let joins = move |node: &&NodeState| !of_round.contains(node.node.id.as_str()) && self.may_join(node);
        // The order of ids means nothing; who needs one sorts.
        self.state.nodes.values().filter(joins).collect::<Vec<_>>().into_iter()
    }

    fn may_join(&self, node: &NodeState) -> bool {
        node.phase == Phase::Ready && self.is_alive(node) && !self.is_replaced(node)
    }

    /// Whether another node has come with its number, and it was not heard of since.
    fn is_replaced(&self, node: &NodeState) -> bool {
        let last = node.node.rank.and_then(|rank| self.numbered.get(&rank));
        last.is_some_and(|last| last.ticket > node.ticket && node.heard < last.joined)
    }

    fn is_alive(&self, node: &NodeState) -> bool {
        let returns = |since: Duration| self.now < since.saturating_add(self.options.settle);
        node.phase != Phase::Leaving
            && self.now < node.heard.saturating_add(self.options.heartbeat_timeout)
            && node.disconnected.is_none_or(returns)
    }

    fn min(&self) -> usize {
        self.options.min_nodes.max(1)
    }
}

#[cfg(test)]
mod tests;
