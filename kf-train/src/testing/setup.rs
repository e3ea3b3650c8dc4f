//! What a behaviour needs: the launcher, jobs for it, and limits to all waits.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::BoxStream;
use serde_json::Value;

use crate::{Job, JobEnd, JobEvent, JobHandle, JobStatus, Launcher, RankState};

/// A launcher under test, and what it needs to run jobs.
///
/// The suite's jobs run `sh -c SCRIPT`, with `echo`, `sleep` and `test` in the scripts, so that any image will do.
#[derive(Clone)]
pub struct Setup {
    launcher: Arc<dyn Launcher>,
    prepare: Arc<dyn Fn(Job) -> Job + Send + Sync>,
    patience: Duration,
    head_start: Duration,
    pub(super) entry: Option<(Job, Value)>,
}

impl Setup {
    /// A launcher that runs `sh` as it is, does anything within 60 s, and starts all ranks of a job within 1 s of the first.
    pub fn new(launcher: Arc<dyn Launcher>) -> Self {
        Self {
            launcher,
            prepare: Arc::new(|job| job),
            patience: Duration::from_secs(60),
            head_start: Duration::from_secs(1),
            entry: None,
        }
    }

    /// What every job of the suite needs beside its script, such as a variable that the launcher looks for.
    #[must_use]
    pub fn prepare(mut self, prepare: impl Fn(Job) -> Job + Send + Sync + 'static) -> Self {
        self.prepare = Arc::new(prepare);
        self
    }

    /// How long the launcher may take for anything that it is waited for, such as to start a job's ranks.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// How long a rank that is to fail waits before it does, so that the others run by then; rounded up to whole seconds, as
    /// `sleep` takes them. 1 s where not given.
    #[must_use]
    pub fn head_start(mut self, head_start: Duration) -> Self {
        self.head_start = head_start;
        self
    }

    /// A job of a function of the program itself, and what its rank 0 returns. Without one, none is tried.
    #[must_use]
    pub fn entry(mut self, job: Job, returns: impl Into<Value>) -> Self {
        self.entry = Some((job, returns.into()));
        self
    }

    pub(super) fn launcher(&self) -> &dyn Launcher {
        &*self.launcher
    }

    /// A job that runs a script on so many ranks.
    pub(super) fn script(&self, script: &str, ranks: usize) -> Job {
        (self.prepare)(Job::command("sh", ["-c", script], ranks).name("conformance"))
    }

    /// The script of a rank that fails when the others run.
    pub(super) fn fails(&self, code: u8) -> String {
        let seconds = self.head_start.as_secs() + u64::from(self.head_start.subsec_nanos() > 0);
        format!("sleep {seconds}; exit {code}")
    }

    pub(super) async fn within<T>(&self, what: &str, wait: impl Future<Output = T>) -> T {
        match tokio::time::timeout(self.patience, wait).await {
            Ok(done) => done,
            Err(_) => panic!("{what}: not within {:?}", self.patience),
        }
    }

    /// Waits until something is so.
    pub(super) async fn until(&self, what: &str, mut holds: impl AsyncFnMut() -> bool) {
        let until = async {
            while !holds().await {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        self.within(what, until).await;
    }

    /// Submits a job under a new attempt id, and listens.
    pub(super) async fn start(&self, job: &Job) -> Running<'_> {
        let spec = job.spec().unwrap().clone();
        let id = attempt_id();
        let submit = self.launcher.submit(spec, &id);
        let handle = self.within("a job is submitted", submit).await.unwrap();
        let events = self.within("its events", self.launcher.events(&handle)).await.unwrap();
        Running { setup: self, handle, events }
    }
}

impl fmt::Debug for Setup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Setup")
            .field("patience", &self.patience)
            .field("head_start", &self.head_start)
            .field("entry", &self.entry)
            .finish_non_exhaustive()
    }
}

/// An id that no other job has, and that fits wherever names are short.
pub(super) fn attempt_id() -> String {
    format!("conf-{}", uuid::Uuid::now_v7().simple())
}

/// A job under way, and who listens to it.
pub(super) struct Running<'a> {
    setup: &'a Setup,
    pub(super) handle: JobHandle,
    events: BoxStream<'static, JobEvent>,
}

impl Running<'_> {
    /// What was told up to the end of the stream. Its last event must be the job's end, and no other.
    pub(super) async fn ended(self) -> Told {
        let events: Vec<_> = self.setup.within("the job's end", self.events.collect()).await;
        let ends = events.iter().filter(|event| matches!(event, JobEvent::Ended(_))).count();
        let last = events.last();
        assert!(
            ends == 1 && matches!(last, Some(JobEvent::Ended(_))),
            "`Ended` must be told once, and last; it was told {ends} times, and the last event is {last:?}"
        );
        Told(events)
    }

    pub(super) async fn status(&self) -> JobStatus {
        status(self.setup, &self.handle).await
    }

    pub(super) async fn log(&self, rank: usize) -> String {
        let log = self.setup.launcher.logs(&self.handle, rank);
        self.setup.within("a rank's log", log).await.unwrap()
    }

    pub(super) async fn cancel(&self) {
        let cancel = self.setup.launcher.cancel(&self.handle);
        self.setup.within("the job is cancelled", cancel).await.unwrap();
    }

    /// Waits until each rank has printed this.
    pub(super) async fn until_all_print(&self, ranks: usize, text: &str) {
        for rank in 0..ranks {
            let what = format!("rank {rank} prints {text:?}");
            self.setup.until(&what, async || self.log(rank).await.contains(text)).await;
        }
    }
}

pub(super) async fn status(setup: &Setup, handle: &JobHandle) -> JobStatus {
    setup.within("the job's status", setup.launcher.status(handle)).await.unwrap()
}

/// All that was told of a job.
#[derive(Debug)]
pub(super) struct Told(pub(super) Vec<JobEvent>);

impl Told {
    pub(super) fn end(&self) -> &JobEnd {
        match self.0.last() {
            Some(JobEvent::Ended(end)) => end,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn count(&self, which: impl Fn(&JobEvent) -> bool) -> usize {
        self.0.iter().filter(|event| which(event)).count()
    }

    /// Where the only such event is.
    pub(super) fn place(&self, what: &str, which: impl Fn(&JobEvent) -> bool) -> usize {
        assert_eq!(self.count(&which), 1, "events of {what}, in {:#?}", self.0);
        self.0.iter().position(which).unwrap()
    }

    pub(super) fn lines(&self, of: usize) -> Vec<&str> {
        let lines = self.0.iter().filter_map(|event| match event {
            JobEvent::Line { rank, line, .. } if *rank == of => Some(line.as_str()),
            _ => None,
        });
        lines.collect()
    }

    fn pids(&self) -> Vec<u32> {
        let pid = |event: &JobEvent| match event {
            JobEvent::RankStarted { pid, .. } => *pid,
            _ => None,
        };
        self.0.iter().filter_map(pid).collect()
    }
}

/// Nothing of a job of scripts that print all the time runs any more: the status says so, no process is left, and the logs
/// do not grow.
pub(super) async fn nothing_runs(setup: &Setup, handle: &JobHandle, told: &Told) {
    let status = status(setup, handle).await;
    let running = |state: RankState| matches!(state, RankState::Running { .. });
    assert!(status.is_over() && !status.ranks.iter().any(|rank| running(rank.state)), "{status:?}");
    for pid in told.pids() {
        assert!(!lives(pid), "process {pid} of an ended job runs");
    }
    let logs = async || {
        let mut logs = Vec::new();
        for rank in 0..status.ranks.len() {
            logs.push(setup.within("a rank's log", setup.launcher.logs(handle, rank)).await.unwrap());
        }
        logs
    };
    let before = logs().await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(before, logs().await, "the ranks of an ended job still print");
}

/// Whether a process of this machine runs, where the system tells.
fn lives(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with(['Z', 'X']))
}
