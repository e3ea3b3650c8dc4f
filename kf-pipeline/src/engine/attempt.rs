//! One attempt from its launch to its end: inputs fetched, carried, outputs kept.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::BoxStream;
use kf_core::artifact::ArtifactRef;
use kf_core::telemetry::TraceContext;
use kf_core::{CancellationToken, Timestamp};
use tokio::time::Instant;
use tracing::field::Empty;
use tracing::{Instrument, Span};

use super::admission::Permit;
use super::driver::{record_end, sleep_until};
use super::executor::{Attempt, AttemptEnd, AttemptHandle, AttemptStatus, Executor, Work};
use super::import::import;
use super::keep::{Keeping, Strictness, keep};
use super::locks::Held;
use super::noted::{Noted, Notes};
use super::under_way::Begun;
use super::{Inner, RunEvent, RunSetup};
use crate::component::ProgressSink;
use crate::component::checkpoint::Origin;
use crate::placeholder::{self, Placeholder};
use crate::plan;
use crate::scheduler::{Failure, Launch, Outcome, TaskState};
use crate::task_folder::attempt_folder;

/// What the names of folders for outputs, in an attempt's own, begin with.
pub(super) const OUTPUTS: &str = "outputs-";

/// What became of an attempt.
pub(super) enum Carried {
    Ended {
        outcome: Outcome,
        started_at: Timestamp,
        noted: Option<Box<Noted>>,
    },
    /// It was not begun, since the engine drains.
    Withdrawn,
}

impl Carried {
    /// No executor had it yet.
    fn begun(outcome: Outcome, started_at: Timestamp) -> Self {
        Self::Ended { outcome, started_at, noted: None }
    }
}

/// Carries one attempt and tells how it ended.
pub(super) async fn carry(
    engine: Arc<Inner>,
    setup: Arc<RunSetup>,
    launch: Launch,
    cancel: CancellationToken,
) -> Carried {
    let locks = match names_of_locks(&launch, &setup) {
        Ok(names) => names,
        Err(problem) => {
            let outcome = Outcome::Failed(Failure::task(problem).permanent());
            return Carried::begun(outcome, setup.clock.now());
        }
    };
    let admitted = async {
        // Resources come last: nobody is to wait for a mutex with a machine in hand.
        let held = match locks.is_empty() {
            true => Held::default(),
            false => Box::pin(engine.locks.acquire(&locks, &setup.run, setup.epoch)).await?,
        };
        let permit = match engine.is_carried_here(&launch.executor) {
            true => engine.admission.acquire(&launch.executor.resources).await,
            false => None,
        };
        Ok::<_, kf_core::Error>((held, permit))
    };
    let permit = tokio::select! {
        biased;
        permit = admitted => permit,
        () = cancel.cancelled() => {
            return Carried::begun(Outcome::Canceled, setup.clock.now());
        }
        () = setup.draining.cancelled() => return Carried::Withdrawn,
    };
    let started_at = setup.clock.now();
    let permit = match permit {
        Ok(permit) => permit,
        Err(error) => {
            let failure = Failure::task(format!("its mutexes and semaphores can't be taken: {error}"));
            return Carried::begun(Outcome::Failed(failure), started_at);
        }
    };
    if cancel.is_cancelled() {
        return Carried::begun(Outcome::Canceled, started_at);
    }
    if setup.draining.is_cancelled() {
        return Carried::Withdrawn;
    }
    let mut notes = Notes::new(&setup, &launch.task);
    let outcome = if let plan::Work::Importer(importer) = &launch.executor.work {
        tokio::select! {
            imported = Box::pin(import(engine.home.artifacts(), importer, &launch, &setup.names)) => {
                imported.map(Outcome::Succeeded)
            }
            () = cancel.cancelled() => Ok(Outcome::Canceled),
        }
    } else {
        let span = tracing::info_span!(
            "attempt",
            number = launch.attempt,
            executor = Empty,
            state = Empty,
            error = Empty,
            otel.status_code = Empty,
        );
        let ran = run(&engine, &mut notes, &setup, &launch, permit, &cancel).instrument(span.clone()).await;
        let (state, error) = match &ran {
            Ok(Some(Outcome::Succeeded(_))) => (TaskState::Succeeded, None),
            Ok(Some(Outcome::Canceled)) => (TaskState::Canceled, None),
            Ok(Some(Outcome::Failed(failure))) | Err(failure) => (TaskState::Failed, Some(failure)),
            Ok(None) => return Carried::Withdrawn,
        };
        record_end(&span, state.as_str(), error.map(|failure| failure.message.as_str()));
        match ran {
            Ok(Some(outcome)) => Ok(outcome),
            Ok(None) => return Carried::Withdrawn,
            Err(failure) => Err(failure),
        }
    };
    let noted = notes.take();
    Carried::Ended { outcome: outcome.unwrap_or_else(Outcome::Failed), started_at, noted }
}

fn names_of_locks(launch: &Launch, setup: &RunSetup) -> Result<BTreeSet<String>, String> {
    let lookup = |placeholder: Placeholder<'_>| match placeholder {
        Placeholder::InputParameter(name) => {
            let value = launch.inputs.parameter(name).map(|value| value.as_ref().clone());
            let missing = || format!("the name of its mutex asks for input `{name}`, which has no value");
            value.filter(|value| !value.is_null()).map(Some).ok_or_else(missing)
        }
        other => Ok(setup.names.look_up(&launch.task, other)),
    };
    launch.executor.locks.iter().map(|name| placeholder::replace_text(name, &lookup)).collect()
}

/// Lets an executor carry the attempt; none where the engine drains before it has begun.
async fn run(
    engine: &Inner,
    notes: &mut Notes<'_>,
    setup: &RunSetup,
    launch: &Launch,
    permit: (Held, Option<Permit>),
    cancel: &CancellationToken,
) -> Result<Option<Outcome>, Failure> {
    let begun = setup.under_way.begin(&launch.task, launch.attempt);
    let _ =
        setup.events.send(RunEvent::TaskStarted { task: Arc::clone(&launch.task), attempt: launch.attempt });
    let carrier = engine.carrier(&launch.executor, &setup.components);
    let (name, work, executor) = carrier.map_err(|problem| Failure::carrier(problem).permanent())?;
    Span::current().record("executor", name);
    let attempt = tokio::select! {
        biased;
        attempt = prepare(engine, setup, launch, work, permit, cancel, executor.on_this_machine()) => attempt?,
        () = cancel.cancelled() => return Ok(Some(Outcome::Canceled)),
    };
    let mut folders = Folders { dir: attempt.dir.clone(), setup, links: false, removed: false };
    let ended = carried(engine, notes, launch, attempt, &executor, &begun, cancel).await;
    // What a container gave stays where it wrote it, as links to what was kept.
    folders.links = matches!(
        (&ended, &launch.executor.work),
        (Ok(Some(Outcome::Succeeded(_))), plan::Work::Container(_))
    );
    folders.clear().await;
    ended
}

/// Submits the attempt, waits for its end, and keeps what it gave; none where the engine drains before it is an executor's.
async fn carried(
    engine: &Inner,
    notes: &mut Notes<'_>,
    launch: &Launch,
    attempt: Arc<Attempt>,
    executor: &Arc<dyn Executor>,
    begun: &Begun,
    cancel: &CancellationToken,
) -> Result<Option<Outcome>, Failure> {
    let outputs = attempt.outputs.clone();
    let inputs: Vec<PathBuf> =
        attempt.artifacts.values().flatten().filter_map(|(_, content)| content.clone()).collect();
    let strictness = match &attempt.work {
        Work::Component(_) => Strictness::All,
        Work::Container(_) => Strictness::Any,
    };
    // Whatever becomes of this future: the attempt ends with it.
    let _ends = attempt.cancel.clone().drop_guard();
    let timeout = launch.executor.timeout;
    let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    let too_long =
        || Failure::timeout(format!("took longer than its timeout of {:?}", timeout.unwrap_or_default()));
    let submission = tokio::select! {
        biased;
        submission = executor.submit(attempt) => submission,
        () = sleep_until(deadline) => return Err(too_long()),
        () = cancel.cancelled() => return Ok(Some(Outcome::Canceled)),
        () = notes.setup.draining.cancelled() => return Ok(None),
    };
    let submission = submission.map_err(|error| Failure::carrier(error.to_string()))?;
    let (handle, mut status) = (submission.handle, submission.status);
    begun.carried(executor, &handle);
    notes.begins();
    let end = tokio::select! {
        biased;
        // First, since a body that hears of it may have ended by now.
        () = cancel.cancelled() => {
            Box::pin(finish(executor.as_ref(), &handle, &mut status, notes, engine.options.grace)).await;
            return Ok(Some(Outcome::Canceled));
        }
        end = ended(&mut status, notes) => end?,
        () = sleep_until(deadline) => {
            // The attempt has failed whatever it still gives; its end is waited for only as long as it may take.
            Box::pin(finish(executor.as_ref(), &handle, &mut status, notes, engine.options.grace)).await;
            return Err(too_long());
        }
    };
    notes.ends();
    match end {
        AttemptEnd::Succeeded(given) => {
            let declared = &launch.executor.outputs;
            let keeping = Keeping {
                store: engine.home.artifacts(),
                paths: &outputs,
                inputs: &inputs,
                strictness,
                memory: &engine.memory,
            };
            let kept = tokio::select! {
                biased;
                kept = keep(&keeping, declared, given) => kept?,
                () = sleep_until(deadline) => return Err(too_long()),
                () = cancel.cancelled() => return Ok(Some(Outcome::Canceled)),
            };
            Ok(Some(Outcome::Succeeded(kept)))
        }
        // Whatever it says: it ended since it was asked to.
        AttemptEnd::Failed { .. } | AttemptEnd::Lost { .. } | AttemptEnd::Canceled
            if cancel.is_cancelled() =>
        {
            Ok(Some(Outcome::Canceled))
        }
        AttemptEnd::Failed { message, permanent } => {
            let failure = Failure::task(message);
            Err(if permanent { failure.permanent() } else { failure })
        }
        AttemptEnd::Lost { message } => Err(Failure::lost(message)),
        AttemptEnd::Canceled => {
            Err(Failure::carrier("was ended from outside, and nobody had asked the engine to"))
        }
    }
}

/// Where an attempt writes. What is left there when it has ended is of no use to anybody.
struct Folders<'a> {
    /// The attempt's own.
    dir: PathBuf,
    setup: &'a RunSetup,
    /// Whether links to what was kept stay there.
    links: bool,
    removed: bool,
}

impl Folders<'_> {
    /// Removes them, in no task's way.
    async fn clear(mut self) {
        self.removed = true;
        if let Some(left) = self.left() {
            let _ = tokio::task::spawn_blocking(move || left.remove()).await;
        }
    }

    fn left(&self) -> Option<Left> {
        // Most attempts made none, or left it empty.
        match std::fs::remove_dir(&self.dir) {
            Ok(()) => return None,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
            Err(_) => {}
        }
        Some(Left {
            scratch: self.dir.join(&*self.setup.scratch),
            outputs: (!self.links).then(|| self.dir.join(&self.setup.outputs)),
            dir: self.dir.clone(),
        })
    }
}

impl Drop for Folders<'_> {
    fn drop(&mut self) {
        if !self.removed
            && let Some(left) = self.left()
        {
            left.remove();
        }
    }
}

/// Folders that are not empty.
struct Left {
    dir: PathBuf,
    scratch: PathBuf,
    outputs: Option<PathBuf>,
}

impl Left {
    fn remove(&self) {
        let _ = std::fs::remove_dir_all(&self.scratch);
        if let Some(outputs) = &self.outputs {
            let _ = std::fs::remove_dir_all(outputs);
        }
        // The attempt's own folder goes too, unless there is a log in it.
        let _ = std::fs::remove_dir(&self.dir);
    }
}

async fn finish(
    executor: &dyn Executor,
    handle: &AttemptHandle,
    status: &mut BoxStream<'static, AttemptStatus>,
    notes: &mut Notes<'_>,
    grace: Duration,
) {
    let wait = async { tokio::join!(executor.cancel(handle, grace), ended(status, notes)) };
    let _ = tokio::time::timeout(grace + Duration::from_secs(1), wait).await;
}

async fn ended(
    status: &mut BoxStream<'static, AttemptStatus>,
    notes: &mut Notes<'_>,
) -> Result<AttemptEnd, Failure> {
    while let Some(status) = status.next().await {
        if let Some(end) = notes.hear(status) {
            return Ok(end);
        }
    }
    Err(Failure::carrier("its executor lost sight of it"))
}

async fn prepare(
    engine: &Inner,
    setup: &RunSetup,
    launch: &Launch,
    work: Work,
    permit: (Held, Option<Permit>),
    cancel: &CancellationToken,
    files: bool,
) -> Result<Arc<Attempt>, Failure> {
    let dir = attempt_folder(&setup.dir, &launch.task, launch.attempt);
    let artifacts = match launch.inputs.artifacts() {
        [] => BTreeMap::new(),
        artifacts if files => Box::pin(fetch(engine, artifacts)).await?,
        artifacts => unfetched_all(artifacts),
    };
    let mut outputs = BTreeMap::new();
    let writes = !launch.executor.outputs.artifacts.is_empty();
    if writes || matches!(work, Work::Container(_)) {
        remove_abandoned(&dir);
    }
    if writes {
        let folder = dir.join(&setup.outputs);
        if files {
            std::fs::create_dir_all(&folder)
                .map_err(|error| Failure::carrier(format!("make folder `{}`: {error}", folder.display())))?;
        }
        for name in launch.executor.outputs.artifacts.keys() {
            outputs.insert(name.clone(), folder.join(name));
        }
    }
    let (task, events) = (Arc::clone(&launch.task), setup.events.clone());
    let progress = ProgressSink(Arc::new(move |progress| {
        let _ = events.send(RunEvent::TaskProgress { task: Arc::clone(&task), progress });
    }));
    Ok(Arc::new(Attempt {
        checkpoint: Origin {
            run: Arc::clone(&setup.dir),
            task: Arc::clone(&launch.task),
            inputs: Arc::clone(&launch.inputs),
            epoch: setup.epoch,
            attempt: launch.attempt,
            in_store: None,
        },
        run: setup.run.clone(),
        task: Arc::clone(&launch.task),
        number: launch.attempt,
        work,
        parameters: launch.inputs.parameters().to_vec(),
        artifacts,
        outputs,
        resources: launch.executor.resources.clone(),
        timeout: launch.executor.timeout,
        declared: Arc::clone(&launch.executor.outputs),
        names: Arc::clone(&setup.names),
        scratch: Arc::clone(&setup.scratch),
        dir,
        cancel: cancel.child_token(),
        progress,
        trace: TraceContext::current().or_else(|| setup.trace.clone()),
        state: Arc::clone(&engine.state),
        report: Some(engine.report_source()),
        memory: Some(engine.memory.clone()),
        _permit: permit,
    }))
}

/// Input artifacts by name, each with the local path of its verified content where it has any.
async fn fetch(
    engine: &Inner,
    artifacts: &[(plan::Name, Arc<[ArtifactRef]>)],
) -> Result<BTreeMap<String, Vec<(ArtifactRef, Option<PathBuf>)>>, Failure> {
    let mut all = BTreeMap::new();
    for (name, list) in artifacts {
        let mut fetched = Vec::with_capacity(list.len());
        for artifact in list.iter() {
            let path = match &artifact.digest {
                None => None,
                Some(digest) => {
                    let fetched = engine.home.artifacts().fetch(digest).await;
                    Some(fetched.map_err(|error| unfetched(name, &artifact.name, &error))?)
                }
            };
            fetched.push((artifact.clone(), path));
        }
        all.insert(name.to_string(), fetched);
    }
    Ok(all)
}

/// As [`fetch`] gives them, for whoever fetches them elsewhere.
fn unfetched_all(
    artifacts: &[(plan::Name, Arc<[ArtifactRef]>)],
) -> BTreeMap<String, Vec<(ArtifactRef, Option<PathBuf>)>> {
    let named = artifacts.iter().map(|(name, list)| {
        let list = list.iter().map(|artifact| (artifact.clone(), None));
        (name.to_string(), list.collect())
    });
    named.collect()
}

/// Removes what attempts of the same number wrote under earlier leases, whose engines died or were stopped. A body that
/// still runs there writes for nobody.
fn remove_abandoned(dir: &std::path::Path) {
    let Ok(entries) = std::fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        if entry.file_name().to_string_lossy().starts_with(OUTPUTS) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

fn unfetched(input: &str, artifact: &str, error: &kf_core::Error) -> Failure {
    let failure = format!("input `{input}`, artifact `{artifact}`: {error}");
    match error {
        kf_core::Error::Corrupt { .. } | kf_core::Error::NotFound { .. } => {
            Failure::carrier(format!("{failure}; in a new run, the task that made it runs again")).permanent()
        }
        _ => Failure::carrier(failure),
    }
}
