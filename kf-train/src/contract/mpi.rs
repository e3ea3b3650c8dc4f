//! MPI: `mpirun` starts the ranks, by a hostfile.

use serde::{Deserialize, Serialize};

use super::{Env, Launch, Placement, check_names, env};
use crate::Result;

/// An implementation of MPI; they differ in the form of their hostfiles and the names of their variables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum MpiImplementation {
    /// Open MPI 4 and 5.
    OpenMpi,
    /// Intel MPI.
    Intel,
    /// MPICH.
    Mpich,
}

/// How often ssh tries to reach a host, as Kubeflow has it: names of pods may not be known at once.
const SSH_ARGS: &str = "-o ConnectionAttempts=10";

/// The hosts, in the order of their ranks, and how many ranks each has: `host slots=N` for Open MPI, `host:N` for Intel
/// MPI and MPICH. As Kubeflow Trainer's MPI plugin (`pkg/runtime/framework/plugins/mpi/mpi.go`) and the MPI operator
/// (`newConfigMap` in `pkg/controller/mpi_job_controller.go`) write it.
///
/// # Errors
/// [`Error::Job`](crate::Error::Job) where nodes of one host have others between them, or `host:N` would have an IPv6
/// address before it.
pub fn hostfile(placement: &Placement, implementation: MpiImplementation) -> Result<String> {
    let hosts = placement.hosts()?;
    let line = match implementation {
        MpiImplementation::OpenMpi => |host: &str, ranks| format!("{host} slots={ranks}\n"),
        MpiImplementation::Intel | MpiImplementation::Mpich => {
            placement.has_no_ipv6("the hostfile of Intel MPI and MPICH")?;
            |host: &str, ranks| format!("{host}:{ranks}\n")
        }
    };
    Ok(hosts.into_iter().map(|(host, ranks)| line(host, ranks)).collect())
}

/// How `mpirun` starts the job where it is called as `mpirun ARGS program…`: its arguments, environment, and the
/// hostfile in this folder. `job_env` are variables that the ranks are to have.
///
/// The variables are those of Kubeflow Trainer and the MPI operator, so that a program that calls `mpirun` itself gets
/// its hosts too; beside these
/// - Open MPI 5, which reads none of Open MPI 4's variables for the launcher, gets the same as `PRTE_MCA_…`;
/// - MPICH gets `HYDRA_LAUNCHER_EXTRA_ARGS`, the name it reads (the operator's is `HYDRA_LAUNCH_EXTRA_ARGS`);
/// - Intel MPI gets the file as `-machinefile`, since it overlooks the counts in `I_MPI_HYDRA_HOST_FILE`;
///   `I_MPI_PERHOST` says them where all hosts have equally many, else only the argument does.
///
/// # Errors
/// As [`hostfile`]'s; and [`Error::Job`](crate::Error::Job) for a variable that can't be named to `mpirun`.
pub fn launch(
    placement: &Placement,
    implementation: MpiImplementation,
    folder: &str,
    job_env: &Env,
) -> Result<Launch> {
    check_names(placement, job_env)?;
    let path = format!("{}/hostfile", folder.trim_end_matches('/'));
    let content = hostfile(placement, implementation)?;
    let hosts = placement.hosts()?;
    let ranks = placement.world_size().to_string();
    let equal = hosts.iter().all(|(_, ranks)| *ranks == hosts[0].1).then(|| hosts[0].1.to_string());
    let mut all = job_env.clone();
    let args = match implementation {
        MpiImplementation::OpenMpi => {
            all.extend(open_mpi_env(&path, equal));
            let names = job_env.keys().flat_map(|name| ["-x".to_owned(), name.clone()]);
            ["-np".to_owned(), ranks].into_iter().chain(names).collect()
        }
        MpiImplementation::Intel => {
            all.extend(env([
                ("I_MPI_HYDRA_HOST_FILE", path.clone()),
                ("I_MPI_HYDRA_BOOTSTRAP_EXEC_EXTRA_ARGS", SSH_ARGS.into()),
            ]));
            all.extend(equal.map(|ranks| ("I_MPI_PERHOST".to_owned(), ranks)));
            vec!["-machinefile".into(), path.clone(), "-n".into(), ranks]
        }
        MpiImplementation::Mpich => {
            all.extend(env([
                ("HYDRA_HOST_FILE", path.clone()),
                ("HYDRA_LAUNCHER_EXTRA_ARGS", SSH_ARGS.into()),
            ]));
            vec!["-n".into(), ranks]
        }
    };
    Ok(Launch { args, env: all, files: vec![(path, content)] })
}

/// `set_default_slots` is for hosts whose line has no `slots=`: ours have it, a user's own hostfile may not.
fn open_mpi_env(hostfile: &str, slots: Option<String>) -> Env {
    let mut all = env([
        ("OMPI_MCA_orte_default_hostfile", hostfile.to_owned()),
        ("OMPI_MCA_orte_keep_fqdn_hostnames", "true".into()),
        ("OMPI_MCA_plm_rsh_args", SSH_ARGS.into()),
        ("PRTE_MCA_prte_default_hostfile", hostfile.to_owned()),
        ("PRTE_MCA_prte_keep_fqdn_hostnames", "true".into()),
        ("PRTE_MCA_plm_ssh_args", SSH_ARGS.into()),
    ]);
    if let Some(slots) = slots {
        all.extend(env([
            ("OMPI_MCA_orte_set_default_slots", slots.clone()),
            ("PRTE_MCA_prte_set_default_slots", slots),
        ]));
    }
    all
}
