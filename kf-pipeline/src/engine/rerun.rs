//! Running again a part of what another run did.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use kf_core::artifact::ArtifactStore;
use kf_core::metadata::{
    Commit, ExecutionRecord, ExecutionState, Lineage, LineageQuery, MetadataStore, RunState,
};
use kf_core::{Digest, RunId};
use serde_json::Value as Json;

use super::garbage::{mentions, renew_mentioned};
use super::lease::Keeper;
use super::{Carry, Engine, Inner, RunHandle, commit, new_run};
use crate::journal::Journal;
use crate::scheduler::{JournalEvent, Kept, Past, TaskState, keep};
use crate::{Error, Pipeline, Result};

/// How many tasks are written at once.
const CHUNK: usize = 500;
/// How many tasks are named whose outputs are gone.
const NAMED: usize = 20;
/// How many executions are read at once.
const PAGE: usize = 1000;

/// What a run does again of what another did.
#[derive(Clone, Debug, Default)]
pub struct RerunOptions {
    again: Vec<String>,
    id: Option<RunId>,
    no_cache: bool,
}

impl RerunOptions {
    /// What did not succeed, and what comes after it.
    pub fn failed() -> Self {
        Self::default()
    }

    /// These tasks, whatever the cache has for them, and what comes after them, which the cache may stand for where its
    /// inputs turn out the same (unless [`no_cache`](Self::no_cache) is asked for); also what did not succeed. A task is
    /// named by its path, as in `prepare/split` or `for-loop-1[2]/train`; `for-loop-1` stands for all of a loop or a group.
    pub fn from_tasks<S: Into<String>>(tasks: impl IntoIterator<Item = S>) -> Self {
        Self { again: tasks.into_iter().map(Into::into).collect(), ..Self::default() }
    }

    /// The new run's id. Asking again with the same one finds the run.
    #[must_use]
    pub fn id(mut self, id: RunId) -> Self {
        self.id = Some(id);
        self
    }

    /// Takes nothing from the cache besides what is kept.
    #[must_use]
    pub fn no_cache(mut self) -> Self {
        self.no_cache = true;
        self
    }
}

/// What a new run keeps of another.
pub(super) struct Seed {
    of: RunId,
    fresh: Vec<Arc<str>>,
    tasks: BTreeMap<Arc<str>, Kept>,
}

impl Engine {
    /// Starts a new run with the arguments of one that has ended, which keeps what that one did but for a part: what
    /// failed, or chosen tasks, and what comes after. Kept tasks are [`Cached`](TaskState::Cached) in the new run.
    ///
    /// The pipeline may have been changed since: what is kept is found by its path.
    ///
    /// # Errors
    /// [`Error::Run`] where there is no such run, it has not ended, is one of another pipeline, or what it gave is gone;
    /// [`Error::Plan`] where a chosen task is none of the pipeline's. Otherwise as [`start`](Self::start).
    pub async fn rerun(&self, pipeline: &Pipeline, run: &RunId, options: RerunOptions) -> Result<RunHandle> {
        let inner = &self.inner;
        let refuse = |problem: String| Error::Run { run: run.to_string(), problem };
        let record =
            inner.metadata.run(run).await?.ok_or_else(|| refuse("there is no such run".to_owned()))?;
        if record.pipeline != pipeline.name() {
            return Err(refuse(format!(
                "it is a run of `{}`, not of `{}`",
                record.pipeline,
                pipeline.name()
            )));
        }
        if !record.state.is_terminal() {
            let problem = format!(
                "it is {}, and not at its end; start it again with this id and it goes on where it was, or end it with \
                 `Engine::abandon`",
                record.state
            );
            return Err(refuse(problem));
        }
        inner.check(pipeline)?;
        let (args, artifacts): (BTreeMap<String, Json>, BTreeMap<String, Json>) =
            serde_json::from_str::<BTreeMap<String, Json>>(&record.args)
                .map_err(|error| refuse(format!("its arguments are not understood: {error}")))?
                .into_iter()
                .partition(|(name, _)| !pipeline.plan().takes_artifact(name));
        let mut args = pipeline.complete(&args)?;
        let store = inner.home.artifacts();
        for (name, argument) in &artifacts {
            for digest in mentions(&argument.to_string()).collect::<BTreeSet<_>>() {
                let gone = |error| refuse(format!("its argument `{name}` can't be given again: {error}"));
                store.renew(&digest).await.map_err(gone)?;
            }
        }
        renew_mentioned(store, args.values()).await;
        args.extend(artifacts);
        let again: Vec<Arc<str>> = options.again.iter().map(|path| path.as_str().into()).collect();
        if let Some(id) = &options.id {
            inner.check_rerun(id, run, &again).await?;
        }
        let seed = inner.seed(pipeline, run.clone(), again).await?;
        let new = new_run(options.id, pipeline, &args);
        let _starting = inner.starting.lock().await;
        let how = Carry { cache: !options.no_cache, trace: None, seed: Some(seed) };
        inner.begin(new, pipeline, args, how).await
    }
}

impl Inner {
    /// Refuses the id of a run that is there and does something else.
    async fn check_rerun(&self, id: &RunId, wanted: &RunId, again: &[Arc<str>]) -> Result<()> {
        let Some(record) = self.metadata.run(id).await? else { return Ok(()) };
        // Who was to begin it died before it said what it was to do.
        if record.seq == 0 && !record.state.is_terminal() {
            return Ok(());
        }
        let first = Journal::new(self.metadata.as_ref(), id).next().await?.unwrap_or_default();
        let same = first.iter().any(|event| {
            matches!(event, JournalEvent::Rerun { of, fresh } if of == wanted && fresh.as_slice() == again)
        });
        if same {
            return Ok(());
        }
        let problem =
            format!("it is there already and does not do this part of `{wanted}` again: give another id");
        Err(Error::Run { run: id.to_string(), problem })
    }

    /// What a run keeps of another.
    pub(super) async fn seed(&self, pipeline: &Pipeline, of: RunId, fresh: Vec<Arc<str>>) -> Result<Seed> {
        let tasks = keep(pipeline.plan(), self.journal(&of).await?, &fresh)
            .map_err(|problem| Error::plan(pipeline.name(), problem))?;
        let gone = |problem| Error::Run { run: of.to_string(), problem };
        verify(self.home.artifacts(), &tasks).await.map_err(gone)?;
        Ok(Seed { of, fresh, tasks })
    }

    pub(super) async fn journal(&self, run: &RunId) -> Result<Vec<JournalEvent>> {
        let (mut all, mut journal) = (Vec::new(), Journal::new(self.metadata.as_ref(), run));
        while let Some(events) = journal.next().await? {
            all.extend(events);
        }
        Ok(all)
    }
}

/// Sees to it that what kept tasks gave is still there.
///
/// # Errors
/// Names the tasks whose outputs are gone.
async fn verify(store: &ArtifactStore, tasks: &BTreeMap<Arc<str>, Kept>) -> std::result::Result<(), String> {
    let mut there: HashMap<Digest, bool> = HashMap::new();
    let mut gone: Vec<&str> = Vec::new();
    let mut first = None;
    for (task, kept) in tasks {
        for artifact in kept.outputs.artifacts().iter().flat_map(|(_, list)| list.iter()) {
            let Some(digest) = artifact.digest else { continue };
            let problem = |error| format!("output `{}` of `{task}`: {error}", artifact.name);
            let is_there = match there.get(&digest) {
                Some(known) => *known,
                None => match store.renew(&digest).await {
                    Ok(()) => true,
                    Err(error @ (kf_core::Error::NotFound { .. } | kf_core::Error::Corrupt { .. })) => {
                        first.get_or_insert_with(|| problem(error));
                        false
                    }
                    Err(error) => {
                        let problem = problem(error);
                        return Err(format!("whether what it gave is there can't be told: {problem}"));
                    }
                },
            };
            there.insert(digest, is_there);
            if !is_there && gone.last() != Some(&task.as_ref()) {
                gone.push(task);
            }
        }
    }
    let Some(first) = first else { return Ok(()) };
    let more = match gone.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    gone.truncate(NAMED);
    let gone = gone.join("`, `");
    Err(format!("what these tasks gave is gone, choose them to run again too: `{gone}`{more}; {first}"))
}

impl Seed {
    /// Writes what is kept as the first that the new run did, but for what `past` has already.
    pub(super) async fn write(
        self,
        store: &dyn MetadataStore,
        lease: &mut Keeper,
        past: &Past,
    ) -> Result<()> {
        let mut executions = executions(store, &self.of).await?;
        let mut events = Vec::new();
        if lease.seq == 0 {
            events.push(JournalEvent::Rerun { of: self.of, fresh: self.fresh });
        }
        let mut lineage = Lineage::default();
        let mut tasks = self.tasks.into_iter().filter(|(task, _)| !past.has_ended(task)).peekable();
        loop {
            for (task, kept) in tasks.by_ref().take(CHUNK) {
                if let Some(execution) = executions.remove(task.as_ref()) {
                    let state = ExecutionState::Cached;
                    lineage.executions.push(ExecutionRecord { run: lease.run.clone(), state, ..execution });
                }
                events.push(JournalEvent::Task {
                    task,
                    state: TaskState::Cached,
                    attempts: kept.attempts,
                    started_at: kept.started_at,
                    ended_at: kept.ended_at,
                    outputs: kept.outputs,
                    error: None,
                    noted: None,
                });
            }
            let whole = tasks.peek().is_none();
            if whole {
                events.push(JournalEvent::Kept);
            }
            let commit = Commit {
                state: (lease.seq == 0).then_some((RunState::Running, None)),
                lineage: std::mem::take(&mut lineage),
                ..commit::journaled(&lease.run, lease.epoch, lease.seq, &events)
            };
            lease.seq = commit::commit(store, commit, &lease.until()).await?;
            events.clear();
            if whole {
                return Ok(());
            }
        }
    }
}

/// A run's executions by task.
async fn executions(store: &dyn MetadataStore, run: &RunId) -> Result<BTreeMap<String, ExecutionRecord>> {
    let mut query = LineageQuery { run: Some(run.clone()), limit: PAGE, ..LineageQuery::default() };
    let mut found = BTreeMap::new();
    loop {
        let page = store.executions(&query).await?;
        found.extend(page.items.into_iter().map(|execution| (execution.task.clone(), execution)));
        query.after = page.next;
        if query.after.is_none() {
            return Ok(found);
        }
    }
}
