//! An attempt as data.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kf_core::artifact::{ArtifactRef, ArtifactStore};
use kf_core::{CancellationToken, RunId};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::parcel::{pack, unpack};
use crate::component::checkpoint::{Carried, Open, Origin};
use crate::component::{Components, LogLines, ProgressSink, StandardOutput};
use crate::engine::{Attempt, ExecutorError, Work};
use crate::placeholder::RunNames;
use crate::plan::ContainerTask;
use crate::scheduler::Values;
use crate::spec::{ContainerSpec, OutputDefinitions};
use crate::task_folder::task_folder;

/// An attempt as data: all that whoever runs it elsewhere has to know. Input artifacts go by reference.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RemoteAttempt {
    run: RunId,
    task: Arc<str>,
    number: u32,
    work: RemoteWork,
    parameters: Vec<(Arc<str>, Arc<Json>)>,
    artifacts: BTreeMap<String, Vec<ArtifactRef>>,
    declared: OutputDefinitions,
    resource_name: String,
    created_at: String,
    /// What final statuses call a success.
    succeeded: String,
    saved: Saved,
}

/// What tells what attempts at the task have saved from what others have.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Saved {
    inputs: String,
    /// The number of the engine's lease.
    epoch: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum RemoteWork {
    Component(String),
    Container(ContainerSpec),
}

impl Attempt {
    /// The attempt as data, as text of at most so many bytes: where it is longer, it goes into the store, and the text
    /// refers to it.
    ///
    /// # Errors
    /// [`ExecutorError::Start`] where the store can't be written.
    pub async fn to_request(&self, most: usize, store: &ArtifactStore) -> Result<String, ExecutorError> {
        let start = |error| ExecutorError::Start(format!("put its request into the artifact store: {error}"));
        pack(&RemoteAttempt::of(self), most, store).await.map_err(start)
    }
}

impl RemoteAttempt {
    fn of(attempt: &Attempt) -> Self {
        let artifacts = attempt
            .artifacts
            .iter()
            .map(|(name, list)| (name.clone(), list.iter().map(|(artifact, _)| artifact.clone()).collect()));
        Self {
            run: attempt.run.clone(),
            task: Arc::clone(&attempt.task),
            number: attempt.number,
            work: match &attempt.work {
                Work::Component(component) => RemoteWork::Component(component.name.to_owned()),
                Work::Container(task) => RemoteWork::Container(task.container.clone()),
            },
            parameters: attempt.parameters.clone(),
            artifacts: artifacts.collect(),
            declared: OutputDefinitions::clone(&attempt.declared),
            resource_name: attempt.names.resource_name.clone(),
            created_at: attempt.names.created_at.clone(),
            succeeded: attempt.names.succeeded.to_owned(),
            saved: Saved { inputs: attempt.checkpoint.of_inputs(), epoch: attempt.checkpoint.epoch },
        }
    }

    /// What [`Attempt::to_request`] gave.
    pub(super) async fn parse(text: &str, store: &ArtifactStore) -> Result<Self, String> {
        unpack(text, store).await
    }

    /// The attempt at a place where it runs: its inputs are fetched, and the folders for its outputs made. `open` opens the
    /// store once more, for what the attempt saves of its work.
    pub(super) async fn at(
        self,
        folder: &Path,
        components: &Components,
        store: &ArtifactStore,
        open: &Arc<Open>,
    ) -> Result<Attempt, Problem> {
        let lost = |problem: String| Problem { problem, permanent: false, lost: true };
        let work = match self.work {
            RemoteWork::Component(name) => {
                let known = || components.names().collect::<Vec<_>>().join(", ");
                let component = components.get(&name).ok_or_else(|| Problem {
                    problem: format!(
                        "the program that runs tasks elsewhere has no component `{name}`, only: {}; add it to the list that \
                         is given to `RemoteTasks`, and make the image anew",
                        known()
                    ),
                    permanent: true,
                    lost: false,
                })?;
                Work::Component(Arc::clone(component))
            }
            RemoteWork::Container(container) => Work::Container(Arc::new(ContainerTask {
                container,
                outputs: self.declared.clone(),
                kubernetes: serde_json::Map::new(),
            })),
        };
        let mut artifacts = BTreeMap::new();
        for (name, list) in self.artifacts {
            let mut fetched = Vec::with_capacity(list.len());
            for artifact in list {
                let path = match &artifact.digest {
                    None => None,
                    Some(digest) => Some(store.fetch(digest).await.map_err(|error| Problem {
                        problem: format!("input `{name}`, artifact `{}`: {error}", artifact.name),
                        permanent: matches!(
                            error,
                            kf_core::Error::Corrupt { .. } | kf_core::Error::NotFound { .. }
                        ),
                        lost: error.is_retryable(),
                    })?),
                };
                fetched.push((artifact, path));
            }
            artifacts.insert(name, fetched);
        }
        let outputs = folder.join("outputs");
        std::fs::create_dir_all(&outputs)
            .map_err(|error| lost(format!("make folder `{}`: {error}", outputs.display())))?;
        let outputs = self.declared.artifacts.keys().map(|name| (name.clone(), outputs.join(name))).collect();
        let names = RunNames {
            resource_name: self.resource_name,
            uuid: self.run.to_string(),
            created_at: self.created_at,
            workspace: folder.join("workspace").display().to_string(),
            root: folder.display().to_string(),
            succeeded: if self.succeeded == COMPLETE {
                COMPLETE
            } else {
                crate::TaskState::Succeeded.as_str()
            },
        };
        let of_task = task_folder(Path::new(""), &self.task);
        let of_task = of_task.to_string_lossy();
        let run = self.run.to_string();
        let saved: Vec<_> =
            [&*run].into_iter().chain(of_task.split('/')).chain([&*self.saved.inputs]).collect();
        Ok(Attempt {
            checkpoint: Origin {
                run: Arc::from(folder),
                task: Arc::clone(&self.task),
                inputs: Values::none(),
                epoch: self.saved.epoch,
                attempt: self.number,
                carried: Some(Carried::new(Arc::clone(open), &saved)),
            },
            run: self.run,
            task: self.task,
            number: self.number,
            work,
            parameters: self.parameters,
            artifacts,
            outputs,
            declared: Arc::new(self.declared),
            // Its place has them.
            resources: Default::default(),
            timeout: None,
            dir: folder.to_owned(),
            cancel: CancellationToken::new(),
            trace: None,
            names: Arc::new(names),
            scratch: SCRATCH.into(),
            progress: ProgressSink(Arc::new(|progress| StandardOutput.line(&progress.message))),
            state: Arc::new(components.state.clone()),
            report: None,
            memory: None,
            _permit: Default::default(),
        })
    }
}

/// What final statuses call a success where it is not what the specification says.
const COMPLETE: &str = "COMPLETE";
/// The folder in the attempt's own for what is of no use once it has ended.
const SCRATCH: &str = "scratch";

/// Why an attempt did not come to its work.
#[derive(Debug)]
pub(super) struct Problem {
    pub(super) problem: String,
    pub(super) permanent: bool,
    /// Whether it is no fault of the task.
    pub(super) lost: bool,
}

/// The content of an attempt's inputs.
pub(super) fn contents(attempt: &Attempt) -> Vec<PathBuf> {
    attempt.artifacts.values().flatten().filter_map(|(_, content)| content.clone()).collect()
}
