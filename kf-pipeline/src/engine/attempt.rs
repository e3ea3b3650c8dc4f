//! One attempt from its launch to its end: inputs fetched, carried, outputs kept.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt;
use kf_core::artifact::{ArtifactKind, ArtifactRef, ArtifactStore, ClassificationMetrics, Metadata, Metrics};
use kf_core::CancellationToken;
use serde_json::Value as Json;

use super::executor::{
    Attempt, AttemptEnd, AttemptHandle, AttemptOutputs, AttemptStatus, Executor, Work,
};
use super::{Inner, RunEvent, RunSetup};
use crate::component::ProgressSink;
use crate::plan;
use crate::scheduler::{Failure, Launch, Outcome, Values};
use crate::spec::{ArtifactType, ImporterUri};

/// How long a task that should end may take for it.
const GRACE: Duration = Duration::from_secs(5);

/// Carries one attempt and tells how it ended.
pub(super) async fn carry(
    engine: Arc<Inner>,
    setup: Arc<RunSetup>,
    launch: Launch,
    cancel: CancellationToken,
) -> Outcome {
    if let plan::Work::Importer(importer) = &launch.executor.work {
        let uri = match &importer.artifact_uri {
            ImporterUri::Constant(uri) => Some(uri),
            ImporterUri::RuntimeParameter(name) => launch.inputs.parameter(name).map(AsRef::as_ref),
        };
        return match import(engine.home.artifacts(), uri, &importer.type_schema).await {
            Ok(values) => Outcome::Succeeded(values),
            Err(failure) => Outcome::Failed(failure),
        };
    }
    let permit = tokio::select! {
        permit = engine.admission.acquire(&launch.executor.resources) => permit,
        () = cancel.cancelled() => return Outcome::Canceled,
    };
    let _ = setup.events.send(RunEvent::TaskStarted { task: Arc::clone(&launch.task), attempt: launch.attempt });
    let (work, executor) = match engine.carrier(&launch.executor, &setup.components) {
        Ok(found) => found,
        Err(problem) => return Outcome::Failed(Failure::carrier(problem).permanent()),
    };
    let dir = engine.home.run_dir(&setup.run).join(launch.task.as_ref()).join(launch.attempt.to_string());
    let attempt = match prepare(&engine, &setup, &launch, work, dir, &cancel).await {
        Ok(attempt) => attempt,
        Err(failure) => return Outcome::Failed(failure),
    };
    *attempt.permit.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = permit;
    let outputs = attempt.outputs.clone();
    match run_on(executor.as_ref(), attempt, launch.executor.timeout, &cancel).await {
        Ok(AttemptEnd::Succeeded(given)) => {
            match keep(engine.home.artifacts(), &launch.executor.outputs, given, &outputs).await {
                Ok(values) => Outcome::Succeeded(values),
                Err(failure) => Outcome::Failed(failure),
            }
        }
        Ok(AttemptEnd::Failed { message, permanent }) => {
            let failure = Failure::task(message);
            Outcome::Failed(if permanent { failure.permanent() } else { failure })
        }
        Ok(AttemptEnd::Canceled) => Outcome::Canceled,
        Err(failure) => Outcome::Failed(failure),
    }
}

/// Submits the attempt and waits for its end, its deadline, or a cancellation.
async fn run_on(
    executor: &dyn Executor,
    attempt: Arc<Attempt>,
    timeout: Option<Duration>,
    cancel: &CancellationToken,
) -> Result<AttemptEnd, Failure> {
    let ends = attempt.cancel.clone();
    let submission = executor.submit(attempt).await.map_err(|error| Failure::carrier(error.to_string()))?;
    let (handle, mut status) = (submission.handle, submission.status);
    let deadline = async {
        match timeout {
            Some(timeout) => tokio::time::sleep(timeout).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        end = ended(&mut status) => end,
        () = deadline => {
            let timeout = timeout.unwrap_or_default();
            ends.cancel();
            // The attempt has failed whatever it still gives; its end is waited for only as long as it may take.
            finish(executor, &handle, &mut status).await;
            Err(Failure::timeout(format!("took longer than its timeout of {timeout:?}")))
        }
        () = cancel.cancelled() => {
            finish(executor, &handle, &mut status).await;
            Ok(AttemptEnd::Canceled)
        }
    }
}

async fn finish(
    executor: &dyn Executor,
    handle: &AttemptHandle,
    status: &mut futures::stream::BoxStream<'static, AttemptStatus>,
) {
    let wait = async { tokio::join!(executor.cancel(handle, GRACE), ended(status)) };
    let _ = tokio::time::timeout(GRACE + Duration::from_secs(1), wait).await;
}

async fn ended(
    status: &mut futures::stream::BoxStream<'static, AttemptStatus>,
) -> Result<AttemptEnd, Failure> {
    while let Some(status) = status.next().await {
        if let AttemptStatus::Ended(end) = status {
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
    dir: PathBuf,
    cancel: &CancellationToken,
) -> Result<Arc<Attempt>, Failure> {
    let mut artifacts = BTreeMap::new();
    for (name, list) in launch.inputs.artifacts() {
        let mut fetched = Vec::with_capacity(list.len());
        for artifact in list.iter() {
            let path = match &artifact.digest {
                None => None,
                Some(digest) => Some(engine.home.artifacts().fetch(digest).await.map_err(|error| {
                    Failure::carrier(format!("input `{name}`, artifact `{}`: {error}", artifact.name)).permanent()
                })?),
            };
            fetched.push((artifact.clone(), path));
        }
        artifacts.insert(name.to_string(), fetched);
    }
    let mut outputs = BTreeMap::new();
    if !launch.executor.outputs.artifacts.is_empty() {
        let folder = dir.join("outputs");
        // What an attempt of the same number left when its engine died.
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder)
            .map_err(|error| Failure::carrier(format!("make folder `{}`: {error}", folder.display())))?;
        for name in launch.executor.outputs.artifacts.keys() {
            outputs.insert(name.clone(), folder.join(name));
        }
    }
    let (task, events) = (Arc::clone(&launch.task), setup.events.clone());
    let progress = ProgressSink(Arc::new(move |progress| {
        let _ = events.send(RunEvent::TaskProgress { task: Arc::clone(&task), progress });
    }));
    Ok(Arc::new(Attempt {
        run: setup.run.clone(),
        task: Arc::clone(&launch.task),
        number: launch.attempt,
        work,
        parameters: launch.inputs.parameters().to_vec(),
        artifacts,
        outputs,
        resources: launch.executor.resources.clone(),
        dir,
        cancel: cancel.child_token(),
        progress,
        state: Arc::clone(&engine.state),
        report: Some(engine.report_source()),
        permit: Mutex::new(None),
    }))
}

/// Checks what an attempt gave against what its component declares, and keeps its artifacts.
async fn keep(
    store: &ArtifactStore,
    declared: &plan::Outputs,
    given: AttemptOutputs,
    paths: &BTreeMap<String, PathBuf>,
) -> Result<Values, Failure> {
    let mut parameters = Vec::with_capacity(declared.parameters.len());
    let mut values = given.parameters;
    for (name, output) in &declared.parameters {
        let Some(value) = values.remove(name) else {
            return Err(Failure::task(format!("gave no output `{name}`")));
        };
        if !value.is_null() && !output.parameter_type.accepts(&value) {
            let wanted = output.parameter_type;
            return Err(Failure::task(format!("output `{name}`: expected {wanted:?}, found {value}")));
        }
        parameters.push((Arc::from(name.as_str()), Arc::new(value)));
    }
    let mut said = given.artifacts;
    let mut artifacts = Vec::with_capacity(declared.artifacts.len());
    for (name, output) in &declared.artifacts {
        let metadata = said.remove(name).unwrap_or_default();
        let path = paths.get(name).map(PathBuf::as_path);
        let artifact = keep_one(store, name, &output.artifact_type, path, metadata).await?;
        artifacts.push((Arc::from(name.as_str()), Arc::from([artifact])));
    }
    Ok(Values::new(parameters, artifacts))
}

async fn keep_one(
    store: &ArtifactStore,
    name: &str,
    kind: &ArtifactType,
    path: Option<&Path>,
    metadata: Metadata,
) -> Result<ArtifactRef, Failure> {
    let mut artifact = ArtifactRef {
        name: name.to_owned(),
        schema_title: kind.schema_title.clone(),
        uri: String::new(),
        digest: None,
        size: 0,
        metadata,
    };
    match path.filter(|path| path.symlink_metadata().is_ok()) {
        Some(path) => {
            let stored = store.put_path_owned(path).await;
            let stored = stored.map_err(|error| Failure::carrier(format!("output `{name}`: {error}")))?;
            artifact.uri = store.uri(&stored.digest);
            artifact.digest = Some(stored.digest);
            artifact.size = stored.size;
        }
        None if [Metrics::SCHEMA_TITLE, ClassificationMetrics::SCHEMA_TITLE].contains(&kind.schema_title.as_str()) => {}
        None => {
            let problem = format!("wrote nothing to its output `{name}`: expected a file or folder at its path");
            return Err(Failure::task(problem));
        }
    }
    Ok(artifact)
}

/// Takes in an artifact that lies outside of the store. Local content is copied and hashed; what lies elsewhere is
/// named, not read.
async fn import(store: &ArtifactStore, uri: Option<&Json>, kind: &ArtifactType) -> Result<Values, Failure> {
    let uri = uri.and_then(Json::as_str).ok_or_else(|| Failure::task("the URI is not a text").permanent())?;
    let mut artifact = ArtifactRef {
        name: "artifact".to_owned(),
        schema_title: kind.schema_title.clone(),
        uri: uri.to_owned(),
        digest: None,
        size: 0,
        metadata: Metadata::new(),
    };
    let local = match uri.split_once("://") {
        Some(("file", path)) => Some(path),
        Some(_) => None,
        None => Some(uri),
    };
    if let Some(path) = local {
        let stored = store.put_path(Path::new(path)).await;
        let stored = stored.map_err(|error| Failure::task(format!("import `{uri}`: {error}")))?;
        artifact.digest = Some(stored.digest);
        artifact.size = stored.size;
    }
    Ok(Values::new(Vec::new(), vec![(Arc::from("artifact"), Arc::from([artifact]))]))
}
