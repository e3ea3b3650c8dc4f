//! Which framework a job is of.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::mpi::MpiImplementation;
use super::{Env, Launch, Placement, deepspeed, jax, mpi, paddle, tensorflow, torchrun, xgboost};
use crate::{Error, Result};

/// A framework, by what its ranks expect of who starts them. Written as in [`Self::name`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "&'static str")]
pub enum Framework {
    /// PyTorch, and whatever else reads torchrun's environment, such as this crate's ranks.
    #[default]
    Torchrun,
    /// TensorFlow.
    TensorFlow,
    /// JAX.
    Jax,
    /// XGBoost.
    XgBoost,
    /// Programs that Open MPI's `mpirun` starts.
    OpenMpi,
    /// Programs that Intel MPI's `mpirun` starts.
    IntelMpi,
    /// Programs that MPICH's `mpirun` starts.
    Mpich,
    /// PaddlePaddle.
    Paddle,
    /// DeepSpeed.
    DeepSpeed,
}

impl Framework {
    /// All there are.
    pub const ALL: [Self; 9] = [
        Self::Torchrun,
        Self::TensorFlow,
        Self::Jax,
        Self::XgBoost,
        Self::OpenMpi,
        Self::IntelMpi,
        Self::Mpich,
        Self::Paddle,
        Self::DeepSpeed,
    ];

    /// Its name in lower case: `torchrun`, `tensorflow`, `jax`, `xgboost`, `openmpi`, `intelmpi`, `mpich`, `paddle`,
    /// `deepspeed`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Torchrun => "torchrun",
            Self::TensorFlow => "tensorflow",
            Self::Jax => "jax",
            Self::XgBoost => "xgboost",
            Self::OpenMpi => "openmpi",
            Self::IntelMpi => "intelmpi",
            Self::Mpich => "mpich",
            Self::Paddle => "paddle",
            Self::DeepSpeed => "deepspeed",
        }
    }

    /// What one rank gets, where each is started by itself.
    ///
    /// # Errors
    /// [`Error::Job`] where there is no such rank, the placement does not suit the framework, or the framework is MPI,
    /// whose ranks only [`Self::launch`] starts.
    pub fn rank_env(self, placement: &Placement, rank: usize) -> Result<Env> {
        match self {
            Self::Torchrun => torchrun::rank_env(placement, rank),
            Self::TensorFlow => tensorflow::rank_env(placement, rank),
            Self::Jax => jax::rank_env(placement, rank),
            Self::XgBoost => xgboost::rank_env(placement, rank),
            Self::Paddle => paddle::rank_env(placement, rank),
            Self::DeepSpeed => deepspeed::rank_env(placement, rank),
            Self::OpenMpi | Self::IntelMpi | Self::Mpich => {
                Err(placement.wrong(format!(
                    "ranks of {self} are started by `mpirun`, all at once, and not each by itself; run `mpirun` as a job of \
                     one rank, by `Framework::launch`"
                )))
            }
        }
    }

    /// What a node gets, such as a pod, whose program starts the node's ranks, or is its only rank.
    ///
    /// # Errors
    /// [`Error::Job`] as [`Self::rank_env`], where there is no such node, or where it has several ranks and the
    /// framework no program that starts them.
    pub fn node_env(self, placement: &Placement, node: usize) -> Result<Env> {
        match self {
            Self::Torchrun => torchrun::node_env(placement, node),
            Self::Paddle => paddle::node_env(placement, node),
            _ => match placement.node(node)?.ranks {
                1 => self.rank_env(placement, placement.rank(node, 0)?),
                ranks => Err(placement.wrong(format!(
                    "node {node} has {ranks} ranks, and {self} has no program that starts those of a node; give each \
                     rank a node of its own"
                ))),
            },
        }
    }

    /// How the framework's launcher starts all ranks, with files in this folder, and variables that the ranks are to
    /// have.
    ///
    /// # Errors
    /// [`Error::Job`] where the placement does not suit the framework, or the framework has no such launcher: only MPI
    /// and DeepSpeed have.
    pub fn launch(self, placement: &Placement, folder: &str, job_env: &Env) -> Result<Launch> {
        let implementation = match self {
            Self::OpenMpi => MpiImplementation::OpenMpi,
            Self::IntelMpi => MpiImplementation::Intel,
            Self::Mpich => MpiImplementation::Mpich,
            Self::DeepSpeed => return deepspeed::launch(placement, folder, job_env),
            _ => {
                let reason =
                    format!("{self} has no launcher that starts the ranks of all nodes; start each rank");
                return Err(placement.wrong(reason));
            }
        };
        mpi::launch(placement, implementation, folder, job_env)
    }
}

impl fmt::Display for Framework {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Framework {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|framework| framework.name() == name).ok_or_else(|| Error::Framework {
            found: name.to_owned(),
            known: Self::ALL.map(Self::name).join(", "),
        })
    }
}

impl TryFrom<String> for Framework {
    type Error = Error;

    fn try_from(name: String) -> Result<Self> {
        name.parse()
    }
}

impl From<Framework> for &'static str {
    fn from(framework: Framework) -> Self {
        framework.name()
    }
}
