//! What a rank finds in its environment: its framework's contract, and what is ours.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::JobSpec;
use super::machine::gpu_env;
use crate::Result;
use crate::contract::{Env, Framework, Placement};
use crate::error_file::ERROR_FILE;
use crate::rank::{AGENT, AGENT_KEYS, HOST, LEAVE, PROGRESS_FILE};

/// A node's place in a round of a job: which ranks it has, and what is theirs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) ranks: Range<usize>,
    pub(crate) world_size: usize,
    pub(crate) framework: Framework,
    pub(crate) placement: Arc<Placement>,
    /// The address that other nodes reach this one by; none where there are no others.
    pub(crate) host: Option<String>,
    /// The GPUs that its ranks see, where they ask for some.
    pub(crate) gpus: Vec<String>,
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
    /// A node of a placement.
    ///
    /// # Errors
    /// [`Error::Job`](crate::Error::Job) where there is no such node.
    pub(crate) fn of(framework: Framework, placement: Arc<Placement>, node: usize) -> Result<Self> {
        let first_rank = placement.rank(node, 0)?;
        let nodes = placement.nodes();
        Ok(Self {
            ranks: first_rank..first_rank + nodes[node].ranks,
            world_size: placement.world_size(),
            framework,
            host: (nodes.len() > 1).then(|| nodes[node].host.clone()),
            placement,
            gpus: Vec::new(),
            attempt: 0,
            folder: PathBuf::new(),
            heal: None,
        })
    }

    /// What one of its ranks gets by the framework's contract. Made when it is needed: in some frameworks each rank is told of
    /// all others.
    fn contract(&self, local_rank: usize) -> Result<Env> {
        self.framework.rank_env(&self.placement, self.ranks.start + local_rank)
    }

    /// How many ranks share the machine, as far as this job knows.
    fn local_world_size(&self) -> usize {
        self.heal.as_ref().map_or(self.ranks.len(), |heal| heal.local_world_size)
    }

    /// The file that is there when the ranks are to leave.
    pub(crate) fn leave_file(&self) -> PathBuf {
        self.folder.join(format!("attempt_{}", self.attempt)).join("leave")
    }
}

/// What one rank of a node gets, the job's own variables first, so that the contract wins.
///
/// # Errors
/// [`Error::Job`](crate::Error::Job) where the framework has no environment for ranks that are started by themselves, or the
/// placement does not suit it.
pub(super) fn environment(
    spec: &JobSpec,
    place: &Place,
    local_rank: usize,
    error_file: &Path,
    progress_file: &Path,
) -> Result<Vec<(String, String)>> {
    let inherited = std::env::var_os("OMP_NUM_THREADS").is_some();
    let mut env = variables(spec, place.local_world_size(), inherited);
    env.extend(place.contract(local_rank)?);
    let of_machine = place.heal.as_ref().map_or(local_rank, |heal| heal.local_rank);
    env.extend(gpu_env(spec, &place.gpus, of_machine));
    let leave = place.leave_file();
    let ours = [(ERROR_FILE, error_file), (PROGRESS_FILE, progress_file), (LEAVE, leave.as_path())];
    env.extend(ours.map(|(name, path)| (name.to_owned(), path.to_string_lossy().into_owned())));
    if let Some(heal) = &place.heal {
        env.extend([
            ("LOCAL_RANK".to_owned(), heal.local_rank.to_string()),
            ("LOCAL_WORLD_SIZE".to_owned(), heal.local_world_size.to_string()),
            (AGENT.to_owned(), heal.agent.clone()),
            (AGENT_KEYS.to_owned(), heal.keys.clone()),
        ]);
    }
    env.extend(place.host.iter().map(|host| (HOST.to_owned(), host.clone())));
    Ok(env)
}

/// The job's own variables, and `OMP_NUM_THREADS`, which is inherited where it is set there.
pub(crate) fn variables(spec: &JobSpec, local_world_size: usize, inherited: bool) -> Vec<(String, String)> {
    let own = spec.env.iter().map(|(name, value)| (name.clone(), value.clone()));
    let threads = threads(spec, local_world_size, inherited);
    own.chain(threads.map(|threads| ("OMP_NUM_THREADS".to_owned(), threads.to_string()))).collect()
}

/// `OMP_NUM_THREADS`, where it is to be set: ranks that each take all cores slow one another down.
fn threads(spec: &JobSpec, local_world_size: usize, inherited: bool) -> Option<usize> {
    let set = spec.env.contains_key("OMP_NUM_THREADS");
    let cores = usize::try_from(spec.resources.cpu / 1000).unwrap_or(usize::MAX).max(1);
    let asked = (spec.resources.cpu > 0 && !set).then_some(cores);
    spec.threads_per_rank.or(asked).or_else(|| (local_world_size > 1 && !set && !inherited).then_some(1))
}

#[cfg(test)]
mod tests {
    use kf_core::resources::Resources;

    use super::*;
    use crate::Job;
    use crate::contract::{Address, Node};

    #[test]
    fn threads_are_limited_only_where_nobody_says_otherwise() {
        let threads = |job: Job, local, inherited| threads(job.spec().unwrap(), local, inherited);
        let cores = |cores: f64| Job::ranks("a", 2).resources(Resources::none().cpu(cores));
        assert_eq!(threads(Job::ranks("a", 2), 2, false), Some(1));
        assert_eq!(threads(Job::ranks("a", 1), 1, false), None);
        assert_eq!(threads(Job::ranks("a", 2), 2, true), None);
        assert_eq!(threads(Job::ranks("a", 2).env("OMP_NUM_THREADS", "3"), 2, false), None);
        assert_eq!(threads(Job::ranks("a", 2).threads_per_rank(4), 2, true), Some(4));
        assert_eq!(threads(cores(2.5), 2, true), Some(2));
        assert_eq!(threads(cores(0.5), 1, false), Some(1));
        assert_eq!(threads(cores(2.0).env("OMP_NUM_THREADS", "3"), 2, false), None);
        assert_eq!(threads(cores(2.0).threads_per_rank(1), 2, false), Some(1));
    }

    fn env_of(job: &Job, place: &Place, local_rank: usize) -> Result<Vec<(String, String)>> {
        environment(job.spec().unwrap(), place, local_rank, Path::new("/e"), Path::new("/p"))
    }

    fn last<'a>(env: &'a [(String, String)], name: &str) -> Option<&'a str> {
        env.iter().rev().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    #[test]
    fn the_contract_wins_over_the_jobs_variables() {
        let job = Job::ranks("a", 3).env("RANK", "99").env("MINE", "x");
        let nodes = vec![Node::new("10.0.0.1", 3), Node::new("10.0.0.2", 3)];
        let placement = Placement::new("a", "id", nodes, Address::new("10.0.0.1", 5)).unwrap();
        let placement = placement.restarts(1, 4).unwrap().agent_store(true);
        let place = Place {
            attempt: 7,
            folder: "/f".into(),
            ..Place::of(Framework::Torchrun, placement.into(), 1).unwrap()
        };
        let env = env_of(&job, &place, 2).unwrap();
        let last = |name| last(&env, name);
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
            ("KF_TRAIN_PROGRESS", "/p"),
            ("KF_TRAIN_LEAVE", "/f/attempt_7/leave"),
            ("KF_TRAIN_HOST", "10.0.0.2"),
            ("MINE", "x"),
        ] {
            assert_eq!(last(name), Some(expected), "{name}");
        }
    }

    #[test]
    fn ranks_that_only_a_launcher_starts_have_no_place() {
        let placement = Placement::local("fit", "id", 2, 5).unwrap();
        let place = Place::of(Framework::OpenMpi, placement.into(), 0).unwrap();
        let error = env_of(&Job::command("fit", [""; 0], 2), &place, 0).unwrap_err().to_string();
        assert!(error.contains("as a job of one rank, by `Framework::launch`"), "{error}");
    }

    #[test]
    fn ranks_that_outlive_rounds_share_the_machine() {
        let unset = std::env::var_os("OMP_NUM_THREADS").is_none();
        for (local_world_size, expected) in [(1, None), (4, unset.then_some("1"))] {
            let placement = Placement::local("a", "id", 1, 5).unwrap();
            let heal = Heal { agent: "h:1".into(), keys: "k/".into(), local_rank: 0, local_world_size };
            let place =
                Place { heal: Some(heal), ..Place::of(Framework::Torchrun, placement.into(), 0).unwrap() };
            let env = env_of(&Job::ranks("a", 1), &place, 0).unwrap();
            assert_eq!(last(&env, "OMP_NUM_THREADS"), expected, "of {local_world_size}");
        }
    }

    /// Each is told of all others: made for all of them at once, they would take some GiB.
    #[test]
    fn environments_are_made_rank_by_rank() {
        let node = Node::new("127.0.0.1", 20_000).ports(2..20_002);
        let placement = Placement::new("a", "id", vec![node], Address::new("127.0.0.1", 1)).unwrap();
        let place = Place::of(Framework::TensorFlow, placement.into(), 0).unwrap();
        let job = Job::command("fit", [""; 0], 20_000);
        let env = env_of(&job, &place, 19_999).unwrap();
        assert!(last(&env, "TF_CONFIG").unwrap().ends_with(r#""index":19999}}"#));
    }
}
