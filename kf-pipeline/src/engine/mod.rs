//! The engine: carries runs of pipelines.

mod abandon;
mod admission;
mod approval;
mod attempt;
mod attempts;
mod backfill;
mod begin;
mod body;
mod builder;
mod cache;
mod clock;
mod commit;
mod contract;
mod driver;
mod event;
mod executor;
mod garbage;
mod handle;
mod import;
mod in_process;
mod keep;
mod lease;
mod links;
pub(crate) mod local;
mod locks;
pub(crate) mod logs;
mod noted;
pub mod remote;
mod rerun;
mod start;
mod subprocess;
mod take_over;
mod task_log;
mod under_way;

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use kf_core::Home;
use kf_core::artifact::{ArtifactRef, Metadata};
use kf_core::metadata::{MetadataStore, Page, RunQuery, RunRecord};
use kf_core::telemetry::TraceContext;
use kf_core::{CancellationToken, Digest, RunId, Timestamp};
use serde_json::json;
use tokio::sync::broadcast;

use self::begin::{Carry, new_run};
use admission::Admission;
pub use approval::Approval;
pub(crate) use approval::Waiting;
pub use backfill::{
    Backfill, BackfillEvent, BackfillHandle, PartitionState, PartitionStatus, PartitionTable,
};
pub use builder::EngineBuilder;
pub(crate) use builder::Options;
pub use cache::CacheKeys;
pub(crate) use cache::of_name;
use clock::Clock;
pub use event::RunEvent;
pub use executor::{
    Attempt, AttemptEnd, AttemptHandle, AttemptOutputs, AttemptStatus, Executor, ExecutorError,
    GivenArtifact, Submission, Work,
};
pub use garbage::{Garbage, Retention};
pub use handle::{RunHandle, RunOutcome, RunOutputs, TaskCounts};
pub use noted::AttemptEvent;
pub(crate) use noted::Noted;
pub use rerun::RerunOptions;
pub use start::StartOptions;
pub use take_over::StandBy;

use crate::component::{Components, Memory, StateMap, checkpoint};
use crate::mutex::locked;
use crate::placeholder::RunNames;
use crate::plan;
use crate::report::{Report, ReportSource};
use crate::spec::ArtifactType;
use crate::{Args, Error, Pipeline, Result};

/// The executor that carries tasks which ask for none.
pub(crate) const IN_PROCESS: &str = "in-process";
/// The executor that gives each attempt a process of its own.
pub(crate) const SUBPROCESS: &str = "subprocess";
/// The executor that carries containers.
pub(crate) const CONTAINER: &str = "container";

/// How long executors may take to remove what is left of a run.
const CLEAR_UP: Duration = Duration::from_secs(20);
/// What the executor is called that carries what names none, where it is not the engine's own.
const DEFAULT: &str = "default";

/// Carries runs. Clones are the same engine; when the last is dropped, what it runs stops where it is, to be taken
/// up again by [`Engine::start`] with the same run id.
#[derive(Clone, Debug)]
pub struct Engine {
    inner: Arc<Inner>,
    // Ends the drivers, which hold `inner` themselves, when the last engine goes.
    _alive: Arc<tokio_util::sync::DropGuard>,
}

/// What the drivers of an engine share.
pub(crate) struct Inner {
    home: Home,
    metadata: Arc<dyn MetadataStore>,
    executors: BTreeMap<String, Arc<dyn Executor>>,
    /// What carries tasks that name no executor, where it is not the engine's own.
    default_executor: Option<Arc<dyn Executor>>,
    /// Whether what carries tasks in process is the engine's own.
    own_in_process: bool,
    state: Arc<StateMap>,
    admission: Admission,
    locks: locks::Locks,
    memory: Memory,
    program: Digest,
    options: Options,
    flights: Arc<cache::Flights>,
    shutdown: CancellationToken,
    runs: Mutex<Runs>,
    /// Held while a run is being started, so that two who start the same one get the same.
    starting: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Runs {
    active: HashMap<RunId, RunHandle>,
    draining: bool,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("home", &self.home.path()).finish_non_exhaustive()
    }
}

/// What the attempts of a run share.
pub(crate) struct RunSetup {
    run: RunId,
    pipeline: Arc<str>,
    components: Arc<Components>,
    names: Arc<RunNames>,
    events: broadcast::Sender<RunEvent>,
    under_way: Arc<under_way::UnderWay>,
    /// What the run comes after.
    trace: Option<TraceContext>,
    /// Fires when nothing new is to begin.
    draining: CancellationToken,
    clock: Clock,
    /// The folder for outputs in an attempt's own. Another for each lease: where a run was stopped and started again in
    /// one process, a body that blocks may still be writing to the first.
    outputs: String,
    /// The folder beside it for what is of no use once the attempt has ended.
    scratch: Arc<str>,
    /// The run's own folder.
    dir: Arc<Path>,
    /// The lease's number.
    epoch: u64,
    /// Whether engines of other machines may run what this one does.
    shared: bool,
    /// The executors of its tasks whose attempts outlive the engine.
    outliving: Vec<Arc<dyn Executor>>,
}

impl Engine {
    /// An engine with its home, metadata and artifacts in this folder, which is made where it is missing, and with
    /// the resources of this machine.
    ///
    /// # Errors
    /// Where the folder can't be used, or was written by a newer version.
    pub async fn open(home: impl AsRef<Path>) -> Result<Self> {
        Self::builder().open(home).await
    }

    /// An engine that is not the default one.
    pub fn builder() -> EngineBuilder {
        EngineBuilder::default()
    }

    /// Starts a run with these arguments. Keep the engine until the run has ended: a [`RunHandle`] doesn't.
    ///
    /// # Errors
    /// Before anything runs: arguments that don't fit, resources that this machine doesn't have, executors that
    /// don't exist.
    pub async fn start(&self, pipeline: &Pipeline, args: Args) -> Result<RunHandle> {
        self.start_with(pipeline, args, StartOptions::new()).await
    }

    /// Starts a run, or finds it.
    ///
    /// # Errors
    /// As [`start`](Self::start); also where the id belongs to another pipeline or other arguments, and where another
    /// engine carries the run.
    pub async fn start_with(
        &self,
        pipeline: &Pipeline,
        args: Args,
        options: StartOptions,
    ) -> Result<RunHandle> {
        let inner = &self.inner;
        let mut complete = pipeline.arguments(&args)?;
        inner.check(pipeline)?;
        for (name, uri, kind) in pipeline.plan().artifact_arguments(&args)? {
            let artifact = inner.root_artifact(name, uri, kind).await?;
            complete.insert(name.to_owned(), json!([artifact]));
        }
        let find_left = options.resume && options.id.is_none();
        let mut new = new_run(options.id, pipeline, &complete);
        let _starting = inner.starting.lock().await;
        if find_left && let Some(left) = inner.unfinished(&new).await? {
            new.id = left;
        }
        let how = Carry { cache: !options.no_cache, trace: options.trace, seed: None };
        inner.begin(new, pipeline, complete, how).await
    }

    /// The handle of a run that this engine carries.
    pub fn handle(&self, run: &RunId) -> Option<RunHandle> {
        self.inner.lock().active.get(run).cloned()
    }

    /// A run as stored, where there is one.
    ///
    /// # Errors
    /// Where the store can't be read.
    pub async fn run(&self, run: &RunId) -> Result<Option<RunRecord>> {
        Ok(self.inner.metadata.run(run).await?)
    }

    /// Runs as stored, newest first, of all engines of this store.
    ///
    /// # Errors
    /// Where the store can't be read.
    pub async fn runs(&self, query: &RunQuery) -> Result<Page<RunRecord>> {
        Ok(self.inner.metadata.runs(query).await?)
    }

    /// What a run did so far: every task with its state, times, inputs, outputs and artifacts.
    ///
    /// # Errors
    /// Where there is no such run, or it can't be read.
    pub async fn report(&self, run: &RunId) -> Result<Report> {
        self.inner.report_source().report(run).await
    }

    /// The store of metadata.
    pub fn metadata(&self) -> &Arc<dyn MetadataStore> {
        &self.inner.metadata
    }

    /// The home folder.
    pub fn home(&self) -> &Home {
        &self.inner.home
    }

    /// Stops in good order: nothing new starts, tasks under way end and are committed, and runs that are not at
    /// their end are left to be started again.
    pub async fn drain(&self) {
        let handles: Vec<RunHandle> = {
            let mut runs = self.inner.lock();
            runs.draining = true;
            runs.active.values().cloned().collect()
        };
        for handle in &handles {
            handle.drain().await;
        }
        for handle in &handles {
            // Its end or its stop: both are what was asked for.
            let _ = handle.wait().await;
        }
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, Runs> {
        locked(&self.runs)
    }

    pub(crate) fn forget(&self, run: &RunId) {
        self.lock().active.remove(run);
    }

    pub(crate) fn report_source(&self) -> ReportSource {
        ReportSource::new(Arc::clone(&self.metadata), self.home.clone())
    }

    /// Refuses a pipeline that this engine could not run to its end.
    fn check(&self, pipeline: &Pipeline) -> Result<()> {
        for executor in pipeline.plan().executors() {
            if let plan::Work::Importer(_) | plan::Work::Approval(_) = executor.work {
                continue;
            }
            let refuse = |problem: String| Error::Unsupported {
                pipeline: pipeline.name().to_owned(),
                component: executor.component().to_owned(),
                problem,
            };
            self.carrier(executor, pipeline.components()).map_err(refuse)?;
            if !self.is_carried_here(executor) {
                continue;
            }
            self.admission.fits(&executor.resources).map_err(|error| match error {
                kf_core::Error::Capacity { asked, capacity, .. } => kf_core::Error::Capacity {
                    what: format!("component `{}`", executor.component()),
                    asked,
                    capacity,
                },
                error => error,
            })?;
        }
        Ok(())
    }

    /// What placeholders say of a run.
    fn names(&self, run: &RunId, pipeline: &str, created_at: Timestamp) -> RunNames {
        let root = self.home.run_dir(run);
        RunNames {
            resource_name: format!("{pipeline}-{}", &Digest::of(run.as_str()).to_hex()[..5]),
            uuid: run.to_string(),
            created_at: created_at.to_string(),
            workspace: root.join("workspace").display().to_string(),
            root: root.display().to_string(),
            succeeded: self.options.succeeded,
        }
    }

    /// An artifact that a run is given.
    async fn root_artifact(&self, name: &str, uri: &str, kind: &ArtifactType) -> Result<ArtifactRef> {
        let taken = import::take(self.home.artifacts(), name, uri, kind, Metadata::new()).await;
        taken.map_err(|problem| Error::Argument { name: name.to_owned(), problem })
    }

    /// What carries a task, by name, and what it is to carry.
    fn carrier<'e>(
        &self,
        executor: &'e plan::Executor,
        components: &Components,
    ) -> Result<(&'e str, Work, Arc<dyn Executor>), String> {
        let work = match &executor.work {
            plan::Work::Component { name, .. } => {
                let component = components.get(name);
                Work::Component(Arc::clone(component.ok_or("is not among the pipeline's components")?))
            }
            plan::Work::Container(container) => Work::Container(Arc::clone(container)),
            plan::Work::Importer(_) => {
                return Err("is an importer, which the engine carries itself".to_owned());
            }
            plan::Work::Approval(_) => return Err("waits for a person, and nothing carries it".to_owned()),
        };
        let (name, carrier) = self.executor_of(executor);
        let carrier = carrier.ok_or_else(|| {
            let known: Vec<_> = self.executors.keys().map(String::as_str).collect();
            format!("asks for executor `{name}`, and this engine has: {}", known.join(", "))
        })?;
        carrier.accepts(&work)?;
        Ok((name, work, Arc::clone(carrier)))
    }

    /// The name of the executor that a task goes to, and the executor where there is one of this name.
    fn executor_of<'e>(&self, executor: &'e plan::Executor) -> (&'e str, Option<&Arc<dyn Executor>>) {
        let name = match (executor.carrier.as_deref(), &executor.work) {
            (Some(name), _) => name,
            (None, _) if self.default_executor.is_some() => return (DEFAULT, self.default_executor.as_ref()),
            (None, plan::Work::Container(_)) => CONTAINER,
            (None, _) => IN_PROCESS,
        };
        (name, self.executors.get(name))
    }

    /// Whether a task runs on this machine.
    fn is_carried_here(&self, executor: &plan::Executor) -> bool {
        self.executor_of(executor).1.is_none_or(|carrier| carrier.on_this_machine())
    }

    /// Those whose attempts outlive this engine, each once.
    fn outliving<'e>(&'e self, of: impl Iterator<Item = &'e Arc<dyn Executor>>) -> Vec<Arc<dyn Executor>> {
        let mut found: Vec<Arc<dyn Executor>> = Vec::new();
        for executor in of.filter(|executor| executor.outlives_engine()) {
            if !found.iter().any(|known| Arc::ptr_eq(known, executor)) {
                found.push(Arc::clone(executor));
            }
        }
        found
    }

    /// Lets executors whose attempts outlive this engine remove what is left of a run.
    async fn end_run(&self, executors: &[Arc<dyn Executor>], run: &RunId) {
        for executor in executors {
            // Whoever waits for the run is not to wait for long because of what nobody misses.
            match tokio::time::timeout(CLEAR_UP, executor.end_run(run)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::warn!(%run, %error, "something of the run may be left"),
                Err(_) => {
                    tracing::warn!(%run, "something of the run may be left: it took too long to remove it")
                }
            }
        }
        if executors.iter().any(|executor| !executor.on_this_machine()) {
            let removing = checkpoint::remove_run(self.home.artifacts(), run);
            if tokio::time::timeout(CLEAR_UP, removing).await.is_err() {
                tracing::warn!(%run, "what its tasks saved in the store may be left: it took too long to remove it");
            }
        }
    }
}
