//! Why a round is made, or is not.

use std::fmt;
use std::time::Duration;

use super::round::Node;

/// Why a round is made, or is not.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// There are too few nodes.
    TooFew {
        /// How many there are.
        here: usize,
        /// How many are needed.
        min: usize,
    },
    /// There are enough nodes, and more may come.
    LastCall {
        /// How many there are.
        here: usize,
        /// How many would be taken.
        max: usize,
        /// For how long, if none comes.
        open: Duration,
    },
    /// The first nodes have met.
    Met {
        /// How many.
        nodes: usize,
    },
    /// The round goes on.
    Runs {
        /// Its number.
        round: u64,
        /// How many nodes it has.
        nodes: usize,
    },
    /// Nodes have come to join, and others may come with them.
    Joining {
        /// How many.
        nodes: usize,
    },
    /// Nodes have joined.
    Joined {
        /// Which.
        nodes: Vec<Node>,
    },
    /// Some of the round's nodes are done, so that nobody joins any more.
    Finishing {
        /// The round's number.
        round: u64,
    },
    /// All nodes of a round that was over are here again.
    Returned {
        /// How many.
        nodes: usize,
    },
    /// Nodes were lost, or left.
    Lost {
        /// Which.
        nodes: Vec<Node>,
    },
    /// A coordinator that has just taken over waits for the nodes of the round.
    Gathering {
        /// How many have come.
        here: usize,
        /// How many there were.
        of: usize,
    },
    /// The nodes that are not here may go on without those that are.
    Minority {
        /// How many of the round's nodes are here.
        here: usize,
        /// How many have not ended for certain.
        of: usize,
    },
    /// A rank failed; whether a lost node is the cause will be seen soon.
    Settling {
        /// What failed.
        failure: String,
    },
    /// Ranks can't go on; who else can't, and who is missed, will be known soon.
    Sticking {
        /// How many nodes have such ranks.
        nodes: usize,
    },
    /// Ranks could not go on, and nobody is missed: they come together again.
    Unstuck {
        /// How many nodes had such ranks.
        nodes: usize,
    },
    /// A rank failed, and a restart is used.
    RankFailed {
        /// The id of the rank's node.
        node: String,
        /// What failed.
        failure: String,
        /// How many times they were started anew, with this one.
        restarts: u64,
        /// How many times they may be.
        of: u64,
    },
    /// A rank failed, and no restart is left: the job has failed.
    Failed {
        /// The id of the rank's node.
        node: String,
        /// What failed.
        failure: String,
        /// How many restarts were used.
        restarts: u64,
    },
    /// All ranks of the round succeeded: the job is done.
    Succeeded {
        /// The round's number.
        round: u64,
    },
}

impl Reason {
    /// Whether it means that the last round can't go on, though there is none after it yet.
    pub(super) fn breaks_round(&self) -> bool {
        matches!(self, Self::TooFew { .. } | Self::Minority { .. })
    }

    /// Whether no ranks run because of it, until nodes come.
    pub(super) fn waits(&self) -> bool {
        self.breaks_round() || matches!(self, Self::LastCall { .. })
    }

    /// Whether it tells nothing new after the other: times that run down don't.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::LastCall { here, .. }, Self::LastCall { here: before, .. }) => here == before,
            _ => self == other,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooFew { here, min } => write!(f, "{here} of at least {} here", are(*min)),
            Self::LastCall { here, max, open } => {
                write!(f, "{here} of at most {} here; more may come for {open:.1?}", are(*max))
            }
            Self::Met { nodes: 1 } => f.write_str("the node is here"),
            Self::Met { nodes } => write!(f, "{nodes} nodes have met"),
            Self::Runs { round, nodes } => write!(f, "round {round} runs on {}", counted(*nodes)),
            Self::Joining { nodes: 1 } => f.write_str("a node joins"),
            Self::Joining { nodes } => write!(f, "{nodes} nodes join"),
            Self::Joined { nodes } => write!(f, "{} joined", hosts(nodes)),
            Self::Finishing { round } => {
                write!(f, "some nodes are done with round {round}: nobody joins any more")
            }
            Self::Returned { nodes } => write!(f, "all {} of the round are here again", counted(*nodes)),
            Self::Lost { nodes } => write!(f, "{} left or was lost", hosts(nodes)),
            Self::Gathering { here, of } => {
                write!(f, "{here} of {of} nodes have come to the new coordinator")
            }
            Self::Minority { here, of } => write!(
                f,
                "only {here} of {of} nodes are here: the others may go on without them, so these wait for them"
            ),
            Self::Settling { failure } => write!(f, "{failure}; whether a node was lost is yet to be seen"),
            Self::Sticking { nodes } => write!(f, "ranks of {} can't go on", counted(*nodes)),
            Self::Unstuck { nodes } => {
                write!(f, "ranks of {} could not go on, and nobody is missed", counted(*nodes))
            }
            Self::RankFailed { failure, restarts, of, .. } => {
                write!(f, "restart {restarts} of {of}: {failure}")
            }
            Self::Failed { failure, restarts, .. } => {
                write!(f, "{failure}; no restart is left, of which {restarts} were used")
            }
            Self::Succeeded { round } => write!(f, "all ranks of round {round} succeeded"),
        }
    }
}

fn counted(nodes: usize) -> String {
    if nodes == 1 { "1 node".into() } else { format!("{nodes} nodes") }
}

fn are(nodes: usize) -> String {
    if nodes == 1 { "1 node is".into() } else { format!("{nodes} nodes are") }
}

/// `node a`, `nodes a and b`, `nodes a, b and c`; of many only the first ones.
pub(super) fn hosts(nodes: &[Node]) -> String {
    const TOLD: usize = 8;
    let mut names: Vec<_> =
        nodes.iter().take(TOLD).map(|node| node.name.clone().unwrap_or_else(|| node.host.clone())).collect();
    if nodes.len() > TOLD {
        names.push(format!("{} more", nodes.len() - TOLD));
    }
    match names.as_slice() {
        [] => "no node".into(),
        [one] => format!("node {one}"),
        [most @ .., last] => format!("nodes {} and {last}", most.join(", ")),
    }
}
