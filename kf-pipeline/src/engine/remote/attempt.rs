//! An attempt as data.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kf_core::artifact::{ArtifactRef, ArtifactStore};
use kf_core::{CancellationToken, Digest, RunId};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::build::Build;
use super::parcel::{pack, unpack};
use crate::component::checkpoint::{InStore, Open, Origin};
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
    /// The engine's build, where no other may do the work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    build: Option<Build>,
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

    /// What tells this attempt from those of other runs that have the same id, and from others of its own: the same however
    /// often it is submitted, by whichever engine carries the run.
    pub fn fingerprint(&self) -> String {
        let Self { run, task, number, names, checkpoint, .. } = self;
        let text = format!("1 {run} {} {number} {} {task}", names.created_at, checkpoint.of_inputs());
        Digest::of(text).to_hex()[..32].to_owned()
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
            build: match &attempt.work {
                Work::Component(component) if component.defaults.version.is_none() => Build::own().cloned(),
                _ => None,
            },
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
                same_build(&name, self.build.as_ref(), Build::own())?;
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
        if self.artifacts.values().all(Vec::is_empty) {
            reaches(store).await?;
        }
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
        let of_task = task_folder(Path::new(""), &self.task);
        let of_task = of_task.to_string_lossy();
        let run = self.run.to_string();
        let of_run = [&*run, &*self.created_at].into_iter();
        let saved: Vec<_> = of_run.chain(of_task.split('/')).chain([&*self.saved.inputs]).collect();
        let in_store = Some(InStore::new(Arc::clone(open), &saved));
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
        Ok(Attempt {
            checkpoint: Origin {
                run: Arc::from(folder),
                task: Arc::clone(&self.task),
                inputs: Values::none(),
                epoch: self.saved.epoch,
                attempt: self.number,
                in_store,
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

/// Refuses work whose results would be taken for those of another build.
fn same_build(component: &str, engine: Option<&Build>, own: Option<&Build>) -> Result<(), Problem> {
    match (engine, own) {
        (Some(engine), Some(own)) if engine != own => Err(Problem {
            problem: format!(
                "the program that runs tasks elsewhere is build {own}, and the engine's is {engine}: what `{component}` gives \
                 would be kept as the engine's own; make its image anew, or state a `version` of `{component}`, which says that \
                 any build with that version gives the same"
            ),
            permanent: true,
            lost: false,
        }),
        _ => Ok(()),
    }
}

/// Sees that the store answers, ahead of the work: it would be lost.
async fn reaches(store: &ArtifactStore) -> Result<(), Problem> {
    store.contains(&Digest::of("")).await.map(drop).map_err(|error| Problem {
        problem: format!(
            "the artifact store does not answer where the task is to run: {error}; see that its address and its keys are in the \
             environment there, and that the network lets requests to it through"
        ),
        permanent: !error.is_retryable(),
        lost: error.is_retryable(),
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_build_is_refused() {
        let build = |id: &str| serde_json::from_value::<Build>(Json::from(id)).unwrap();
        let (one, other) = (build("0123456789abcdef"), build("fedcba9876543210"));
        assert!(same_build("fit", Some(&one), Some(&one)).is_ok());
        assert!(same_build("fit", None, Some(&one)).is_ok());
        assert!(same_build("fit", Some(&one), None).is_ok());
        let problem = same_build("fit", Some(&one), Some(&other)).unwrap_err();
        assert!(problem.permanent && !problem.lost);
        let told = "is build fedcba987654, and the engine's is 0123456789ab: what `fit` gives";
        assert!(problem.problem.contains(told), "{}", problem.problem);
    }
}
