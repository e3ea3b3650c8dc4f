//! torchrun's environment contract.

use std::path::{Path, PathBuf};

use super::JobSpec;
use crate::error_file::ERROR_FILE;
use crate::rank::{AGENT, AGENT_KEYS, HOST, LEAVE, PROGRESS_FILE};

/// A node's place in a round of a job: which ranks it has, and where they find the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) run_id: String,
    pub(crate) node: usize,
    pub(crate) nodes: usize,
    /// Its ranks are this one and those after it.
    pub(crate) first_rank: usize,
    pub(crate) local_world_size: usize,
    pub(crate) world_size: usize,
    pub(crate) master_addr: String,
    pub(crate) master_port: u16,
    /// Whether an agent serves the store there, so that rank 0 is one more client of it.
    pub(crate) agent_store: bool,
    /// The address that other nodes reach this one by; none where there are no others.
    pub(crate) host: Option<String>,
    pub(crate) restarts: u64,
    pub(crate) max_restarts: u64,
    /// Counts the starts on this node; names the folder of their files.
    pub(crate) attempt: u64,
    /// Where the files go.
    pub(crate) folder: PathBuf,
    /// Of ranks that keep their state from round to round.
    pub(crate) heal: Option<Heal>,
}

/// How a rank is told of the rounds, where it outlives them. Its own number is that of its place on the machine then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Heal {
    /// Its agent's store, as `host:port`.
    pub(crate) agent: String,
    /// Before the keys there that are for it.
    pub(crate) keys: String,
    /// Its number among those of this machine, and how many these are.
    pub(crate) local_rank: usize,
    pub(crate) local_world_size: usize,
}

impl Place {
    /// The file that is there when the ranks are to leave.
    pub(crate) fn leave_file(&self) -> PathBuf {
        self.folder.join(format!("attempt_{}", self.attempt)).join("leave")
    }
}

/// What one rank of a node gets, the job's own variables first, so that the contract wins.
pub(crate) fn environment(
    spec: &JobSpec,
    place: &Place,
    local_rank: usize,
    error_file: &Path,
    progress_file: &Path,
) -> Vec<(String, String)> {
    let rank = (place.first_rank + local_rank).to_string();
    let world_size = place.world_size.to_string();
    let mut env: Vec<(String, String)> =
        spec.env.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
    let inherited = std::env::var_os("OMP_NUM_THREADS").is_some();
    if let Some(threads) = threads(spec, place.local_world_size, inherited) {
        env.push(("OMP_NUM_THREADS".into(), threads.to_string()));
    }
    let leave = place.leave_file();
    let contract = [
        ("RANK", rank.as_str()),
        ("LOCAL_RANK", &local_rank.to_string()),
        ("WORLD_SIZE", &world_size),
        ("LOCAL_WORLD_SIZE", &place.local_world_size.to_string()),
        ("GROUP_RANK", &place.node.to_string()),
        ("GROUP_WORLD_SIZE", &place.nodes.to_string()),
        ("ROLE_RANK", &rank),
        ("ROLE_NAME", "default"),
        ("ROLE_WORLD_SIZE", &world_size),
        ("MASTER_ADDR", &place.master_addr),
        ("MASTER_PORT", &place.master_port.to_string()),
        ("TORCHELASTIC_RESTART_COUNT", &place.restarts.to_string()),
        ("TORCHELASTIC_MAX_RESTARTS", &place.max_restarts.to_string()),
        ("TORCHELASTIC_RUN_ID", &place.run_id),
        ("TORCHELASTIC_USE_AGENT_STORE", if place.agent_store { "True" } else { "False" }),
        (ERROR_FILE, &error_file.to_string_lossy()),
        ("TORCH_NCCL_ASYNC_ERROR_HANDLING", "1"),
        (PROGRESS_FILE, &progress_file.to_string_lossy()),
        (LEAVE, &leave.to_string_lossy()),
    ];
    env.extend(contract.map(|(name, value)| (name.to_owned(), value.to_owned())));
    if let Some(heal) = &place.heal {
        env.extend([
            ("LOCAL_RANK".to_owned(), heal.local_rank.to_string()),
            ("LOCAL_WORLD_SIZE".to_owned(), heal.local_world_size.to_string()),
            (AGENT.to_owned(), heal.agent.clone()),
            (AGENT_KEYS.to_owned(), heal.keys.clone()),
        ]);
    }
    env.extend(place.host.iter().map(|host| (HOST.to_owned(), host.clone())));
    env
}

/// `OMP_NUM_THREADS`, where it is to be set: ranks that each take all cores slow one another down.
fn threads(spec: &JobSpec, local_world_size: usize, inherited: bool) -> Option<usize> {
    let set = inherited || spec.env.contains_key("OMP_NUM_THREADS");
    spec.threads_per_rank.or_else(|| (local_world_size > 1 && !set).then_some(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Job;

    #[test]
    fn threads_are_limited_only_where_nobody_says_otherwise() {
        let threads = |job: Job, local, inherited| threads(job.spec().unwrap(), local, inherited);
        assert_eq!(threads(Job::ranks("a", 2), 2, false), Some(1));
        assert_eq!(threads(Job::ranks("a", 1), 1, false), None);
        assert_eq!(threads(Job::ranks("a", 2), 2, true), None);
        assert_eq!(threads(Job::ranks("a", 2).env("OMP_NUM_THREADS", "3"), 2, false), None);
        assert_eq!(threads(Job::ranks("a", 2).threads_per_rank(4), 2, true), Some(4));
    }

    #[test]
    fn the_contract_wins_over_the_jobs_variables() {
        let job = Job::ranks("a", 3).env("RANK", "99").env("MINE", "x");
        let place = Place {
            run_id: "id".into(),
            node: 1,
            nodes: 2,
            first_rank: 3,
            local_world_size: 3,
            world_size: 6,
            master_addr: "10.0.0.1".into(),
            master_port: 5,
            agent_store: true,
            host: Some("10.0.0.2".into()),
            restarts: 1,
            max_restarts: 4,
            attempt: 7,
            folder: "/f".into(),
            heal: None,
        };
        let env = environment(job.spec().unwrap(), &place, 2, Path::new("/e"), Path::new("/p"));
        let last = |name: &str| env.iter().rev().find(|(n, _)| n == name).map(|(_, value)| value.as_str());
        for (name, expected) in [
            ("RANK", "5"),
            ("LOCAL_RANK", "2"),
            ("WORLD_SIZE", "6"),
            ("LOCAL_WORLD_SIZE", "3"),
            ("GROUP_RANK", "1"),
            ("GROUP_WORLD_SIZE", "2"),
            ("MASTER_ADDR", "10.0.0.1"),
            ("MASTER_PORT", "5"),
            ("TORCHELASTIC_RESTART_COUNT", "1"),
            ("TORCHELASTIC_MAX_RESTARTS", "4"),
            ("TORCHELASTIC_USE_AGENT_STORE", "True"),
            ("TORCHELASTIC_ERROR_FILE", "/e"),
            ("KF_TRAIN_HOST", "10.0.0.2"),
            ("MINE", "x"),
        ] {
            assert_eq!(last(name), Some(expected), "{name}");
        }
    }
}
