//! One rank's view of its job: torchrun's environment.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::progress::{Note, Progress};
use crate::termination::Termination;
use crate::{Error, Result};

/// The environment variable with the path that a rank's progress goes to.
pub const PROGRESS_FILE: &str = "KF_TRAIN_PROGRESS";
/// The environment variables with the store of the agent of a rank that outlives rounds, and with what its keys begin with.
pub(crate) const AGENT: &str = "KF_TRAIN_AGENT";
pub(crate) const AGENT_KEYS: &str = "KF_TRAIN_AGENT_KEYS";
/// The environment variable with the address that other nodes reach this one by.
pub(crate) const HOST: &str = "KF_TRAIN_HOST";
/// The environment variable with the path of a file that is there once the rank is to leave.
pub(crate) const LEAVE: &str = "KF_TRAIN_LEAVE";
/// Reports closer together than this are dropped, unless a new epoch begins.
const REPORT_EVERY: Duration = Duration::from_millis(100);
/// When a rank's progress file is longer, it is begun anew.
const PROGRESS_CAP: u64 = 16 << 20;

/// This process's place in its job, as `torchrun` and [`LocalLauncher`](crate::LocalLauncher) put it into the
/// environment.
#[derive(Debug)]
pub struct Rank {
    rank: usize,
    local_rank: usize,
    world_size: usize,
    local_world_size: usize,
    master_addr: String,
    master_port: u16,
    restart_count: u64,
    run_id: String,
    leave: Option<PathBuf>,
    termination: Option<Termination>,
    agent: Option<(String, String)>,
    uses_agent_store: bool,
    host: Option<String>,
    #[cfg(feature = "torch")]
    interface: Option<String>,
    reports: Mutex<Reports>,
}

impl Rank {
    /// Reads the environment: `RANK`, `WORLD_SIZE`, `MASTER_ADDR`, `MASTER_PORT`; `LOCAL_RANK` and
    /// `LOCAL_WORLD_SIZE`, which default to the former two; `GROUP_RANK`, the node's number, from which `RANK` is found
    /// where it is not set and each node has as many ranks; `TORCHELASTIC_RESTART_COUNT`, `TORCHELASTIC_RUN_ID`,
    /// `TORCHELASTIC_USE_AGENT_STORE`; `KF_TRAIN_HOST` and `GLOO_SOCKET_IFNAME`, by which other nodes reach this one.
    ///
    /// # Errors
    /// [`Error::Environment`] with the first variable that is missing, is no number, or contradicts another.
    pub fn from_env() -> Result<Self> {
        Self::from_lookup(|name| std::env::var(name).ok())
    }

    pub(crate) fn from_lookup(lookup: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let text = |variable: &'static str| {
            lookup(variable)
                .filter(|value| !value.is_empty())
                .ok_or(Error::Environment { variable, reason: "is not set".into() })
        };
        let world_size = number(&lookup, "WORLD_SIZE", None)?;
        let rank = number(&lookup, "RANK", of_group(&lookup)?)?;
        let local_rank = number(&lookup, "LOCAL_RANK", Some(rank))?;
        let local_world_size = number(&lookup, "LOCAL_WORLD_SIZE", Some(world_size))?;
        let below = |variable, value: usize, limit: usize, of: &str| {
            if value < limit {
                return Ok(());
            }
            let reason = format!("is {value}, and must be below {of}, which is {limit}");
            Err(Error::Environment { variable, reason })
        };
        below("RANK", rank, world_size, "WORLD_SIZE")?;
        below("LOCAL_RANK", local_rank, local_world_size, "LOCAL_WORLD_SIZE")?;
        Ok(Self {
            rank,
            local_rank,
            world_size,
            local_world_size,
            master_addr: text("MASTER_ADDR")?,
            master_port: number(&lookup, "MASTER_PORT", None)?,
            restart_count: number(&lookup, "TORCHELASTIC_RESTART_COUNT", Some(0))?,
            run_id: lookup("TORCHELASTIC_RUN_ID").unwrap_or_default(),
            leave: lookup(LEAVE).map(PathBuf::from),
            termination: None,
            agent: lookup(AGENT).zip(lookup(AGENT_KEYS)),
            uses_agent_store: lookup("TORCHELASTIC_USE_AGENT_STORE").is_some_and(|value| value == "True"),
            host: lookup(HOST).filter(|value| !value.is_empty()),
            #[cfg(feature = "torch")]
            interface: lookup("GLOO_SOCKET_IFNAME").filter(|value| !value.is_empty()),
            reports: Mutex::new(Reports::to(lookup(PROGRESS_FILE).map(PathBuf::from))),
        })
    }

    /// Its number in the job, from 0.
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// Its number on this machine, from 0.
    pub fn local_rank(&self) -> usize {
        self.local_rank
    }

    /// How many ranks the job has.
    pub fn world_size(&self) -> usize {
        self.world_size
    }

    /// How many of them are on this machine.
    pub fn local_world_size(&self) -> usize {
        self.local_world_size
    }

    /// Whether this is rank 0, the one that writes checkpoints and whose result counts.
    pub fn is_main(&self) -> bool {
        self.rank == 0
    }

    /// The host where the ranks' store listens: rank 0's, or the launcher's.
    pub fn master_addr(&self) -> &str {
        &self.master_addr
    }

    /// The port on which it listens.
    pub fn master_port(&self) -> u16 {
        self.master_port
    }

    /// How many times the job was started anew before this.
    pub fn restart_count(&self) -> u64 {
        self.restart_count
    }

    /// The job's attempt id, empty where the launcher gives none.
    pub fn run_id(&self) -> &str {
        &self.run_id
    }

    /// Whether this rank's node is to leave the job, so that the rank should save what it has and return: soon, for it is
    /// ended when its time is over. Cheap enough for each step.
    ///
    /// A [`ranks`](crate::ranks) function in the first process of a container hears here of SIGTERM, too: its pod is deleted,
    /// evicted or preempted. What it returns after it was told so is not its result: the rank has failed, and may be started
    /// anew. One that never asks is killed once its time is over.
    ///
    /// A rank that is no function of the launching program gets SIGTERM instead.
    pub fn is_leaving(&self) -> bool {
        self.termination.as_ref().is_some_and(Termination::tell)
            || self.leave.as_ref().is_some_and(|path| path.exists())
    }

    /// Listens for SIGTERM where nobody else does: others end by it as all processes do, and the first one of a container
    /// hears of it only if it asks to.
    pub(crate) fn hear_termination(&mut self) -> std::io::Result<()> {
        if std::process::id() == 1 {
            self.termination = Some(Termination::listen()?);
        }
        Ok(())
    }

    /// Whether the function was told that the process is to end.
    pub(crate) fn was_terminated(&self) -> bool {
        self.termination.as_ref().is_some_and(Termination::was_told)
    }

    /// Whether the launcher's agent serves the store where ranks meet, as torchrun's does. If not, rank 0 serves it.
    pub fn uses_agent_store(&self) -> bool {
        self.uses_agent_store
    }

    /// The name or address that other nodes reach this one by, where the launcher gives one.
    pub fn host(&self) -> Option<&str> {
        self.host.as_deref()
    }

    /// The network interface for Gloo, or several with commas between them, where one is given.
    #[cfg(feature = "torch")]
    pub(crate) fn interface(&self) -> Option<&str> {
        self.interface.as_deref()
    }

    /// The store of the agent of a rank that outlives rounds, and what its keys there begin with.
    pub(crate) fn agent(&self) -> Option<(&str, &str)> {
        self.agent.as_ref().map(|(address, keys)| (address.as_str(), keys.as_str()))
    }

    /// Tells the launcher how far it is; the caller sees it as [`JobEvent::Progress`](crate::JobEvent::Progress).
    ///
    /// Cheap enough for each step: reports closer than 100 ms together are dropped, unless they are of a new epoch.
    /// Does nothing where the launcher does not listen, and never fails.
    pub fn report(&self, progress: Progress) {
        self.reports.lock().unwrap_or_else(PoisonError::into_inner).report(progress);
    }

    pub(crate) fn note_started(&self) {
        self.reports.lock().unwrap_or_else(PoisonError::into_inner).write(&Note::Started);
    }

    pub(crate) fn note_result(&self, result: serde_json::Value) {
        self.reports.lock().unwrap_or_else(PoisonError::into_inner).write(&Note::Result(result));
    }
}

/// The rank by its node's number, where it has none of its own: who starts many nodes alike gives them no more.
fn of_group(lookup: &impl Fn(&str) -> Option<String>) -> Result<Option<usize>> {
    let is_set = |variable| lookup(variable).is_some_and(|value| !value.is_empty());
    if is_set("RANK") || !["GROUP_RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE"].into_iter().all(is_set) {
        return Ok(None);
    }
    let [node, local, each]: [usize; 3] = [
        number(lookup, "GROUP_RANK", None)?,
        number(lookup, "LOCAL_RANK", None)?,
        number(lookup, "LOCAL_WORLD_SIZE", None)?,
    ];
    let rank = node.checked_mul(each).and_then(|first| first.checked_add(local));
    let reason = || format!("is {node}, and with {each} ranks on each node there is no such number");
    rank.map(Some).ok_or_else(|| Error::Environment { variable: "GROUP_RANK", reason: reason() })
}

fn number<T: FromStr>(
    lookup: &impl Fn(&str) -> Option<String>,
    variable: &'static str,
    default: Option<T>,
) -> Result<T> {
    let value = lookup(variable).filter(|value| !value.is_empty());
    match (value, default) {
        (Some(value), _) => value.trim().parse().map_err(|_| Error::Environment {
            variable,
            reason: format!("is `{value}`, which is not a number in range"),
        }),
        (None, Some(default)) => Ok(default),
        (None, None) => Err(Error::Environment { variable, reason: "is not set".into() }),
    }
}

/// The file that a rank's reports go to.
#[derive(Debug)]
struct Reports {
    path: Option<PathBuf>,
    file: Option<File>,
    length: u64,
    last: Option<(Instant, Option<u64>)>,
}

impl Reports {
    fn to(path: Option<PathBuf>) -> Self {
        Self { path, file: None, length: 0, last: None }
    }

    fn report(&mut self, progress: Progress) {
        let now = Instant::now();
        let soon = self.last.is_some_and(|(at, epoch)| epoch == progress.epoch && now - at < REPORT_EVERY);
        if !soon {
            self.last = Some((now, progress.epoch));
            self.write(&Note::Progress(progress));
        }
    }

    fn write(&mut self, note: &Note) {
        let Some(path) = &self.path else { return };
        let written = line(note).and_then(|line| {
            if self.length + line.len() as u64 > PROGRESS_CAP {
                self.file = None;
            }
            let file = match &mut self.file {
                Some(file) => file,
                none => none.insert(open(path)?),
            };
            file.write_all(&line)?;
            self.length = file.metadata()?.len();
            Ok(())
        });
        if let Err(error) = written {
            tracing::warn!(%error, path = %path.display(), "progress can't be written; none is reported from here on");
            self.path = None;
        }
    }
}

fn line(note: &Note) -> std::io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(note)?;
    line.push(b'\n');
    Ok(line)
}

/// A file that is empty, and whose every write goes to its end.
fn open(path: &Path) -> std::io::Result<File> {
    File::options().create(true).write(true).truncate(true).open(path)?;
    File::options().append(true).open(path)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn rank(pairs: &[(&str, &str)]) -> Result<Rank> {
        let mut all: BTreeMap<&str, &str> =
            [("RANK", "1"), ("WORLD_SIZE", "4"), ("MASTER_ADDR", "localhost"), ("MASTER_PORT", "29500")]
                .into();
        all.extend(pairs.iter().copied());
        Rank::from_lookup(|name| all.get(name).map(|&value| value.to_owned()))
    }

    #[test]
    fn torchruns_environment_is_read() {
        let rank =
            rank(&[("LOCAL_RANK", "0"), ("LOCAL_WORLD_SIZE", "2"), ("TORCHELASTIC_RESTART_COUNT", "3")])
                .unwrap();
        assert_eq!(
            (rank.rank(), rank.world_size(), rank.local_rank(), rank.local_world_size()),
            (1, 4, 0, 2)
        );
        assert_eq!((rank.master_addr(), rank.master_port(), rank.restart_count()), ("localhost", 29500, 3));
        assert!(!rank.is_main() && !rank.uses_agent_store() && rank.host().is_none());
    }

    #[test]
    fn a_rank_without_a_number_of_its_own_has_one_by_its_nodes() {
        let of = |pairs: &[(&str, &str)]| rank(&[&[("RANK", "")], pairs].concat());
        let place = [("LOCAL_RANK", "1"), ("LOCAL_WORLD_SIZE", "2"), ("GROUP_RANK", "1")];
        let found = of(&place).unwrap();
        assert_eq!((found.rank(), found.local_rank(), found.local_world_size()), (3, 1, 2));
        // Its own goes before that.
        assert_eq!(rank(&place).unwrap().rank(), 1);
        for (group, expected) in [
            ("2", "environment variable RANK: is 5, and must be below WORLD_SIZE"),
            ("18446744073709551615", "environment variable GROUP_RANK: is 18446744073709551615, and with 2"),
            ("x", "environment variable GROUP_RANK: is `x`"),
            ("", "environment variable RANK: is not set"),
        ] {
            let error = of(&[place[0], place[1], ("GROUP_RANK", group)]).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
        }
    }

    #[test]
    fn only_torchruns_true_is_an_agents_store() {
        let uses = |value| rank(&[("TORCHELASTIC_USE_AGENT_STORE", value)]).unwrap().uses_agent_store();
        assert!(uses("True") && !uses("False") && !uses("") && !uses("1"));
        assert_eq!(rank(&[("KF_TRAIN_HOST", "node-3")]).unwrap().host(), Some("node-3"));
        assert_eq!(rank(&[("KF_TRAIN_HOST", "")]).unwrap().host(), None);
    }

    #[test]
    fn a_wrong_environment_is_named() {
        for (pairs, expected) in [
            (&[("RANK", "")][..], "environment variable RANK: is not set"),
            (&[("RANK", "x")][..], "environment variable RANK: is `x`, which is not a number"),
            (
                &[("RANK", "4")][..],
                "environment variable RANK: is 4, and must be below WORLD_SIZE, which is 4",
            ),
            (&[("MASTER_PORT", "70000")][..], "environment variable MASTER_PORT: is `70000`"),
            (&[("LOCAL_RANK", "2"), ("LOCAL_WORLD_SIZE", "2")][..], "environment variable LOCAL_RANK: is 2"),
            (&[("MASTER_ADDR", "")][..], "environment variable MASTER_ADDR: is not set"),
        ] {
            let error = rank(pairs).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
        }
    }

    #[test]
    fn reports_are_thinned_and_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("progress");
        let mut reports = Reports::to(Some(path.clone()));
        for step in 0..1000 {
            reports.report(Progress::new().epoch(step / 500).step(step));
        }
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(r#""step":0"#) && text.contains(r#""step":500"#), "{text}");
        assert!(text.lines().count() < 100, "{}", text.lines().count());
        reports.length = PROGRESS_CAP;
        reports.write(&Note::Started);
        assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 1);
    }
}
