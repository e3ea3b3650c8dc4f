//! DeepSpeed: its own launcher by a hostfile, or its ranks one by one.

use std::fmt::Write as _;

use super::{Env, Launch, Placement, check_names, env};
use crate::Result;

/// What one rank gets, as `deepspeed.launcher.launch` has it (DeepSpeed's `deepspeed/launcher/launch.py`).
///
/// There, `LOCAL_RANK` is the rank modulo the node's number of ranks, which on nodes of different sizes is not their
/// order (of ranks 1, 2 and 3 on a node, rank 3 comes first); here it is the rank's number on its node, always. The
/// launcher also gives each program the argument `--local_rank=N`, unless it is told `--no_local_rank`, and sets which
/// devices the node's ranks see; both are for who starts the process.
///
/// # Errors
/// [`Error::Job`](crate::Error::Job) where there is no such rank, or an agent's store has the master's address.
pub fn rank_env(placement: &Placement, rank: usize) -> Result<Env> {
    let place = placement.place(rank)?;
    placement.master_is_free("rank 0's store")?;
    Ok(env([
        ("MASTER_ADDR", placement.master().host.clone()),
        ("MASTER_PORT", placement.master().port.to_string()),
        ("WORLD_SIZE", placement.world_size().to_string()),
        ("CROSS_RANK", place.node.to_string()),
        ("CROSS_SIZE", placement.nodes().len().to_string()),
        ("LOCAL_SIZE", placement.nodes()[place.node].ranks.to_string()),
        ("RANK", place.rank.to_string()),
        ("LOCAL_RANK", place.local_rank.to_string()),
    ]))
}

/// The hosts, in the order of their ranks: `host slots=N`, each host once, as `_parse_hostfile` in DeepSpeed's
/// `deepspeed/launcher/runner.py` reads it.
///
/// # Errors
/// [`Error::Job`](crate::Error::Job) where nodes of one host have others between them.
pub fn hostfile(placement: &Placement) -> Result<String> {
    let line = |(host, ranks): (&str, usize)| format!("{host} slots={ranks}\n");
    Ok(placement.hosts()?.into_iter().map(line).collect())
}

/// How the launcher starts the job where it is called as `deepspeed ARGS train.py…`: its arguments, environment, and in
/// this folder the hostfile and `.deepspeed_env`, which has the variables of `job_env` for the ranks of all nodes
/// (`main` in `runner.py`, as above). `DS_ENV_FILE` names that file.
///
/// # Errors
/// As [`hostfile`]'s; and [`Error::Job`](crate::Error::Job) for a variable that would not reach the ranks as it is: the
/// launcher strips values of white space around them, and puts them between `"` into a line for the shells of the
/// nodes; and where an agent's store has the master's address.
pub fn launch(placement: &Placement, folder: &str, job_env: &Env) -> Result<Launch> {
    placement.master_is_free("rank 0's store")?;
    let folder = folder.trim_end_matches('/');
    let (hosts, variables) = (format!("{folder}/hostfile"), format!("{folder}/.deepspeed_env"));
    let args = [
        ("--hostfile", hosts.clone()),
        ("--master_addr", placement.master().host.clone()),
        ("--master_port", placement.master().port.to_string()),
    ];
    Ok(Launch {
        args: args.into_iter().flat_map(|(name, value)| [name.to_owned(), value]).collect(),
        env: env([("DS_ENV_FILE", variables.clone())]),
        files: vec![(hosts, hostfile(placement)?), (variables, env_file(placement, job_env)?)],
    })
}

fn env_file(placement: &Placement, job_env: &Env) -> Result<String> {
    check_names(placement, job_env)?;
    let mut content = String::new();
    for (name, value) in job_env {
        // `%` is pdsh's, the rest the shell's.
        let changes = |c: char| c.is_control() || matches!(c, '"' | '$' | '`' | '\\' | '%');
        if value.trim() != value || value.contains(changes) {
            return Err(placement.wrong(format!(
                "DeepSpeed's launcher would not pass the environment variable {name} on as it is: its value must have \
                 no white space around it and none of `\" $ \\ %`, backquotes and control characters"
            )));
        }
        // A write to a string does not fail.
        let _ = writeln!(content, "{name}={value}");
    }
    Ok(content)
}
