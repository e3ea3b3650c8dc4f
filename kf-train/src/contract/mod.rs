//! The contracts of frameworks: what the ranks, nodes and launchers of a placed job find in their environment and
//! files. Pure functions, the same for processes of this machine and for pods.
//!
//! ```
//! use kf_train::contract::{Address, Framework, Node, Placement};
//!
//! let nodes = vec![Node::new("a.example", 1), Node::new("b.example", 3)];
//! let placement = Placement::new("fit", "run-1", nodes, Address::new("a.example", 29500))?;
//!
//! let env = Framework::Torchrun.rank_env(&placement, 2)?;
//! assert_eq!((&*env["RANK"], &*env["LOCAL_RANK"], &*env["WORLD_SIZE"]), ("2", "1", "4"));
//!
//! let launch = Framework::OpenMpi.launch(&placement, "/etc/mpi", &Default::default())?;
//! assert_eq!(launch.files, [("/etc/mpi/hostfile".into(), "a.example slots=1\nb.example slots=3\n".into())]);
//! assert_eq!(launch.args, ["-np", "4"]);                          // mpirun -np 4 program
//! # Ok::<(), kf_train::Error>(())
//! ```
//!
//! | framework | each rank | each node's program | one launcher |
//! |---|---|---|---|
//! | [`torchrun`] | torchrun's worker environment | `PET_…` for torchrun | |
//! | [`tensorflow`] | `TF_CONFIG` | | |
//! | [`jax`] | `JAX_…` | | |
//! | [`xgboost`] | `DMLC_…` | | |
//! | [`paddle`] | `PADDLE_…` | `PADDLE_…` for `paddle.distributed.launch` | |
//! | [`deepspeed`] | its launcher's environment | | hostfile, `.deepspeed_env` |
//! | [`mpi`] | | | hostfile, `OMPI_MCA_…` and others |

mod check;
pub mod deepspeed;
mod framework;
pub mod jax;
pub mod mpi;
mod node;
pub mod paddle;
mod placement;
pub mod tensorflow;
#[cfg(test)]
mod tests;
pub mod torchrun;
pub mod xgboost;

use std::collections::BTreeMap;

pub use framework::Framework;
pub use node::{Address, Node};
pub use placement::{Placement, RankPlace};

use crate::Result;

/// Environment variables, by name.
pub type Env = BTreeMap<String, String>;

/// How a framework's launcher starts all ranks of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launch {
    /// The launcher's arguments, which come before the program and its own.
    pub args: Vec<String>,
    /// The launcher's environment.
    pub env: Env,
    /// Files that must be there before, by path, with their content.
    pub files: Vec<(String, String)>,
}

fn env<const N: usize>(pairs: [(&str, String); N]) -> Env {
    pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// Refuses names that a launcher can't take in an argument or a line of a shell.
fn check_names(placement: &Placement, job_env: &Env) -> Result<()> {
    let fits = |name: &str| {
        let letter = |c: char| c.is_ascii_alphabetic() || c == '_';
        name.starts_with(letter) && name.chars().all(|c| letter(c) || c.is_ascii_digit())
    };
    match job_env.keys().find(|name| !fits(name)) {
        Some(name) => Err(placement.wrong(format!(
            "{name:?} can't name an environment variable for a launcher; it must have letters, digits and `_`, and no \
             digit first"
        ))),
        None => Ok(()),
    }
}
