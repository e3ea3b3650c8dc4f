//! How an agent works by the environment that pods and torchrun's users have it in.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use super::{Conf, endpoints, nodes, ranks};
use crate::elastic::AgentOptions;
use crate::{Error, LONGEST, Result};

impl AgentOptions {
    /// What torchrun's variables say, for a program that runs an agent in a pod or wherever torchrun would be started.
    ///
    /// Read are `PET_NNODES` (`N` or `MIN:MAX`), `PET_MAX_RESTARTS`, `PET_RDZV_ENDPOINT` (several with commas between them)
    /// or `PET_MASTER_ADDR` and `PET_MASTER_PORT`, `PET_RDZV_ID`, `PET_RDZV_CONF`, `PET_LOCAL_ADDR`, for a fixed number of
    /// nodes `PET_NODE_RANK`; and of our own `KF_TRAIN_NODE` ([`name`](Self::name)) and `KF_TRAIN_ROUNDS`
    /// ([`rounds`](Self::rounds)). What is not there, or empty, is as in [`new`](Self::new).
    /// [`ranks_from_env`] tells how many ranks the node has.
    ///
    /// # Errors
    /// [`Error::Job`] with the variable, what was found and what was expected.
    pub fn from_env(folder: impl Into<PathBuf>) -> Result<Self> {
        Self::from_lookup(folder.into(), |name| std::env::var(name).ok())
    }

    fn from_lookup(folder: PathBuf, lookup: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let text = |name: &str| lookup(name).filter(|value| !value.trim().is_empty());
        let mut options = Self::new(folder);
        options.run_id = text("PET_RDZV_ID").unwrap_or_default();
        let job = options.run_id.clone();
        let wrong = |name: &str, found: &str, reason: String| Error::Job {
            job: job.clone(),
            reason: format!("{name} is `{found}`: {reason}"),
        };
        let found = text("PET_NNODES").unwrap_or_else(|| "1".into());
        let (min, max) = nodes(&found).map_err(|reason| wrong("PET_NNODES", &found, reason))?;
        (options.quorum.min_nodes, options.quorum.max_nodes) = (min, max);
        let listed = text("PET_RDZV_ENDPOINT").unwrap_or_default();
        let list: Vec<_> = listed.split(',').map(|text| text.trim().to_owned()).collect();
        let master = (text("PET_MASTER_ADDR"), number("PET_MASTER_PORT", &text, &wrong)?);
        let master = master.0.as_deref().map(|host| (host, master.1));
        options.endpoints =
            endpoints(&list, master, max).map_err(|reason| wrong("PET_RDZV_ENDPOINT", &listed, reason))?;
        if max > 1 && options.endpoints.is_empty() {
            let reason = "nodes that may be several meet somewhere: set PET_RDZV_ENDPOINT, too";
            return Err(wrong("PET_NNODES", &found, reason.into()));
        }
        if let Some(restarts) = number("PET_MAX_RESTARTS", &text, &wrong)? {
            options.quorum.max_restarts = restarts;
        }
        if min == max {
            options.node_rank = number("PET_NODE_RANK", &text, &wrong)?;
        }
        let found = text("PET_RDZV_CONF").unwrap_or_default();
        let seconds = |time: f64| {
            let time = Duration::try_from_secs_f64(time).map(|time| time.min(LONGEST));
            time.map_err(|_| wrong("PET_RDZV_CONF", &found, "expected seconds, from 0".into()))
        };
        let conf = Conf::from_str(&found).map_err(|reason| wrong("PET_RDZV_CONF", &found, reason))?;
        if let Some(time) = conf.join_timeout {
            options.join_timeout = seconds(time)?;
        }
        if let Some(time) = conf.last_call {
            options.quorum.last_call = seconds(time)?;
        }
        options.host = text("PET_LOCAL_ADDR");
        options.name = text("KF_TRAIN_NODE");
        options.rounds = text("KF_TRAIN_ROUNDS").map(PathBuf::from);
        Ok(options)
    }
}

fn number<T: FromStr>(
    name: &str,
    text: &impl Fn(&str) -> Option<String>,
    wrong: &impl Fn(&str, &str, String) -> Error,
) -> Result<Option<T>> {
    let Some(found) = text(name) else { return Ok(None) };
    let number = found.trim().parse().map(Some);
    number.map_err(|_| wrong(name, &found, "expected a number, from 0".into()))
}

/// How many ranks this node has, by `PET_NPROC_PER_NODE`; 1 where that is not there.
///
/// # Errors
/// [`Error::Job`] with what was found and what was expected.
pub fn ranks_from_env() -> Result<usize> {
    let Some(found) = std::env::var("PET_NPROC_PER_NODE").ok().filter(|text| !text.is_empty()) else {
        return Ok(1);
    };
    ranks(&found).map_err(|reason| Error::Job {
        job: std::env::var("PET_RDZV_ID").unwrap_or_default(),
        reason: format!("PET_NPROC_PER_NODE is `{found}`: {reason}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<AgentOptions> {
        let of = |name: &str| pairs.iter().find(|(of, _)| *of == name).map(|(_, value)| (*value).to_owned());
        AgentOptions::from_lookup("f".into(), of)
    }

    #[test]
    fn the_variables_of_a_pod_are_options() {
        let options = read(&[
            ("PET_NNODES", "1:4"),
            ("PET_MAX_RESTARTS", "3"),
            ("PET_RDZV_ENDPOINT", "j-0.j:29400,j-1.j:29400"),
            ("PET_RDZV_ID", "j"),
            ("PET_RDZV_CONF", "last_call_timeout=7,join_timeout=30"),
            ("PET_LOCAL_ADDR", "10.0.0.7"),
            // Pods have it, of elastic jobs too.
            ("PET_NODE_RANK", "2"),
            ("PET_MASTER_ADDR", "other"),
            ("KF_TRAIN_NODE", "j-2.j"),
            ("KF_TRAIN_ROUNDS", "/dev/stdout"),
        ])
        .unwrap();
        let quorum = &options.quorum;
        assert_eq!((quorum.min_nodes, quorum.max_nodes, quorum.max_restarts), (1, 4, 3));
        assert_eq!((quorum.last_call.as_secs(), options.join_timeout.as_secs()), (7, 30));
        assert_eq!(options.endpoints, ["j-0.j:29400", "j-1.j:29400"]);
        assert_eq!((options.run_id.as_str(), options.node_rank), ("j", None));
        assert_eq!((options.host.as_deref(), options.name.as_deref()), (Some("10.0.0.7"), Some("j-2.j")));
        assert_eq!(options.rounds.as_deref(), Some(std::path::Path::new("/dev/stdout")));
    }

    #[test]
    fn a_fixed_job_has_numbers_and_a_master() {
        let fixed =
            [("PET_NNODES", "2"), ("PET_NODE_RANK", "1"), ("PET_MASTER_ADDR", "m"), ("PET_MASTER_PORT", "7")];
        let options = read(&fixed).unwrap();
        assert_eq!((options.node_rank, options.endpoints), (Some(1), vec!["m:7".to_owned()]));
        let alone = read(&[("PET_NNODES", ""), ("PET_RDZV_ENDPOINT", "")]).unwrap();
        assert_eq!((alone.quorum.max_nodes, alone.endpoints.len()), (1, 0));
    }

    #[test]
    fn wrong_variables_are_named() {
        for (name, found, expected) in [
            ("PET_NNODES", "4:1", "PET_NNODES is `4:1`: expected N or MIN:MAX"),
            ("PET_NNODES", "1:4", "PET_NNODES is `1:4`: nodes that may be several meet somewhere"),
            ("PET_MAX_RESTARTS", "-1", "PET_MAX_RESTARTS is `-1`: expected a number"),
            ("PET_RDZV_ENDPOINT", "a:b", "PET_RDZV_ENDPOINT is `a:b`: the endpoint `a:b`"),
            ("PET_RDZV_CONF", "join_timeout=-1", "PET_RDZV_CONF is `join_timeout=-1`: expected seconds"),
            ("PET_NODE_RANK", "one", "PET_NODE_RANK is `one`"),
        ] {
            let error = read(&[(name, found)]).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
