//! torchrun's environment contract.

use std::path::Path;

use super::JobSpec;
use crate::error_file::ERROR_FILE;
use crate::rank::PROGRESS_FILE;

/// Where a rank finds the others, and its own files.
pub(super) struct Place<'a> {
    pub(super) rank: usize,
    pub(super) attempt_id: &'a str,
    pub(super) master_port: u16,
    pub(super) error_file: &'a Path,
    pub(super) progress_file: &'a Path,
}

/// What one of several ranks on one machine gets, the job's own variables first, so that the contract wins.
pub(super) fn environment(spec: &JobSpec, place: &Place<'_>) -> Vec<(String, String)> {
    let rank = place.rank.to_string();
    let ranks = spec.ranks.to_string();
    let mut env: Vec<(String, String)> =
        spec.env.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
    if let Some(threads) = threads(spec, std::env::var_os("OMP_NUM_THREADS").is_some()) {
        env.push(("OMP_NUM_THREADS".into(), threads.to_string()));
    }
    let contract = [
        ("RANK", rank.as_str()),
        ("LOCAL_RANK", &rank),
        ("WORLD_SIZE", &ranks),
        ("LOCAL_WORLD_SIZE", &ranks),
        ("GROUP_RANK", "0"),
        ("GROUP_WORLD_SIZE", "1"),
        ("ROLE_RANK", &rank),
        ("ROLE_NAME", "default"),
        ("ROLE_WORLD_SIZE", &ranks),
        ("MASTER_ADDR", "127.0.0.1"),
        ("MASTER_PORT", &place.master_port.to_string()),
        ("TORCHELASTIC_RESTART_COUNT", "0"),
        ("TORCHELASTIC_MAX_RESTARTS", "0"),
        ("TORCHELASTIC_RUN_ID", place.attempt_id),
        // Rank 0 serves the store, not the launcher.
        ("TORCHELASTIC_USE_AGENT_STORE", "False"),
        (ERROR_FILE, &place.error_file.to_string_lossy()),
        ("TORCH_NCCL_ASYNC_ERROR_HANDLING", "1"),
        (PROGRESS_FILE, &place.progress_file.to_string_lossy()),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()));
    env.extend(contract);
    env
}

/// `OMP_NUM_THREADS`, where it is to be set: ranks that each take all cores slow one another down.
fn threads(spec: &JobSpec, inherited: bool) -> Option<usize> {
    let set = inherited || spec.env.contains_key("OMP_NUM_THREADS");
    spec.threads_per_rank.or_else(|| (spec.ranks > 1 && !set).then_some(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Job;

    #[test]
    fn threads_are_limited_only_where_nobody_says_otherwise() {
        let threads = |job: Job, inherited| threads(job.spec().unwrap(), inherited);
        assert_eq!(threads(Job::ranks("a", 2), false), Some(1));
        assert_eq!(threads(Job::ranks("a", 1), false), None);
        assert_eq!(threads(Job::ranks("a", 2), true), None);
        assert_eq!(threads(Job::ranks("a", 2).env("OMP_NUM_THREADS", "3"), false), None);
        assert_eq!(threads(Job::ranks("a", 2).threads_per_rank(4), true), Some(4));
    }

    #[test]
    fn the_contract_wins_over_the_jobs_variables() {
        let job = Job::ranks("a", 3).env("RANK", "99").env("MINE", "x");
        let place = Place {
            rank: 2,
            attempt_id: "id",
            master_port: 5,
            error_file: Path::new("/e"),
            progress_file: Path::new("/p"),
        };
        let env = environment(job.spec().unwrap(), &place);
        let last = |name: &str| env.iter().rev().find(|(n, _)| n == name).map(|(_, value)| value.as_str());
        assert_eq!(last("RANK"), Some("2"));
        assert_eq!(
            (last("WORLD_SIZE"), last("LOCAL_WORLD_SIZE"), last("MINE")),
            (Some("3"), Some("3"), Some("x"))
        );
        assert_eq!((last("MASTER_PORT"), last("TORCHELASTIC_ERROR_FILE")), (Some("5"), Some("/e")));
    }
}
