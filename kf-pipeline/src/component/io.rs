//! What a component's body holds while it runs: inputs, outputs and context.

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::io::Write;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use kf_core::artifact::{ArtifactKind, ArtifactRef, Metadata};
use kf_core::{CancellationToken, Digest, RunId};
use serde_json::Value as Json;

use super::checkpoint::{Checkpoints, Place};
use super::memory::{InMemory, Memory, Written};
use super::{Outputs, Param, State, StateMap, TaskError};
use crate::mutex::locked;
use crate::report::ReportSource;

/// An input artifact: its content lies at [`path`](Self::path), verified, not to be changed.
pub struct Input<K> {
    artifact: ArtifactRef,
    path: Option<PathBuf>,
    memory: Option<Memory>,
    kind: PhantomData<fn() -> K>,
}

#[cfg_attr(not(feature = "arrow"), allow(dead_code, reason = "tables are the only values so far"))]
impl<K> Input<K> {
    pub(crate) fn in_memory(&self) -> Option<Arc<dyn Any + Send + Sync>> {
        self.memory.as_ref()?.get(self.artifact.digest.as_ref()?)
    }

    pub(crate) fn keep_in_memory(&self, value: InMemory) {
        if let (Some(memory), Some(digest)) = (&self.memory, self.artifact.digest) {
            memory.keep(digest, value);
        }
    }
}

impl<K: ArtifactKind> Input<K> {
    /// An input made by hand, as a unit test does.
    pub fn from_path(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        let artifact = ArtifactRef {
            name: String::new(),
            schema_title: K::SCHEMA_TITLE.to_owned(),
            uri: format!("file://{}", path.display()),
            digest: None,
            size: 0,
            metadata: Metadata::new(),
        };
        Self { artifact, path: Some(path), memory: None, kind: PhantomData }
    }

    /// The local file or folder with the content.
    ///
    /// # Errors
    /// Where the artifact has no content, as metrics may.
    pub fn path(&self) -> Result<&Path, TaskError> {
        self.path.as_deref().ok_or_else(|| {
            TaskError::permanent(format!(
                "artifact `{}` ({}) has no content here",
                self.artifact.name,
                self.uri()
            ))
        })
    }

    /// Where the content is kept.
    pub fn uri(&self) -> &str {
        &self.artifact.uri
    }

    /// The content's digest.
    pub fn digest(&self) -> Option<Digest> {
        self.artifact.digest
    }

    /// What the producer said about it.
    pub fn metadata(&self) -> &Metadata {
        &self.artifact.metadata
    }

    /// The artifact as it goes along the pipeline.
    pub fn artifact(&self) -> &ArtifactRef {
        &self.artifact
    }
}

impl<K> fmt::Debug for Input<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Input").field("artifact", &self.artifact).field("path", &self.path).finish()
    }
}

/// An output artifact: write a file, or make a folder and fill it, at [`path`](Self::path). It is hashed and kept
/// when the body has returned well.
pub struct Output<K> {
    path: PathBuf,
    metadata: Arc<Mutex<Metadata>>,
    #[cfg_attr(not(feature = "arrow"), allow(dead_code, reason = "tables are the only values so far"))]
    written: Arc<Mutex<Option<Written>>>,
    kind: PhantomData<fn() -> K>,
}

#[cfg_attr(not(feature = "arrow"), allow(dead_code, reason = "tables are the only values so far"))]
impl<K> Output<K> {
    pub(crate) fn written(&self, written: Written) {
        *locked(&self.written) = Some(written);
    }
}

impl<K: ArtifactKind> Output<K> {
    /// An output made by hand, as a unit test does.
    pub fn to_path(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), metadata: Arc::default(), written: Arc::default(), kind: PhantomData }
    }

    /// Where to write. The folder above it exists.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes the whole content at once.
    ///
    /// # Errors
    /// Where the file can't be written.
    pub fn write(&self, content: impl AsRef<[u8]>) -> Result<(), TaskError> {
        std::fs::write(&self.path, content)
            .map_err(|error| TaskError::new(format!("write `{}`: {error}", self.path.display())))
    }

    /// Takes over an input's content, a file or a folder.
    ///
    /// # Errors
    /// Where it can't be read or written.
    pub fn copy_from(&self, input: &Input<K>) -> Result<(), TaskError> {
        let from = input.path()?;
        copy(from, &self.path).map_err(|error| {
            TaskError::new(format!("copy `{}` to `{}`: {error}", from.display(), self.path.display()))
        })
    }

    /// Says something about the artifact.
    ///
    /// # Errors
    /// Where the value is one that JSON can't hold.
    pub fn set_metadata(&self, name: &str, value: impl Param) -> Result<(), TaskError> {
        let value = value.to_json().map_err(|error| TaskError::new(format!("metadata `{name}`: {error}")))?;
        locked(&self.metadata).insert(name.to_owned(), value);
        Ok(())
    }

    /// What was said about the artifact.
    pub fn metadata(&self) -> Metadata {
        locked(&self.metadata).clone()
    }
}

impl<K> fmt::Debug for Output<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Output").field("path", &self.path).finish_non_exhaustive()
    }
}

fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    if !from.is_dir() {
        let mut content = std::fs::File::open(from)?;
        // Not `fs::copy`, which would take over that the input is read-only.
        return std::io::copy(&mut content, &mut std::fs::File::create(to)?).map(|_| ());
    }
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        copy(&entry.path(), &to.join(entry.file_name()))?;
    }
    Ok(())
}

/// How far a task is.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Progress {
    /// The part that is done, 0 to 1, where that can be said.
    pub fraction: Option<f64>,
    /// What is being done.
    pub message: String,
}

/// What a body may know of its task and run, as a component's argument of type `Context`.
#[derive(Clone, Debug)]
pub struct Context {
    pub(crate) run: RunId,
    pub(crate) task: Arc<str>,
    pub(crate) attempt: u32,
    pub(crate) dir: PathBuf,
    pub(crate) cancel: CancellationToken,
    pub(crate) progress: ProgressSink,
    pub(crate) log: LogSink,
    pub(crate) report: Option<ReportSource>,
    pub(crate) checkpoints: Checkpoints,
}

#[derive(Clone)]
pub(crate) struct ProgressSink(pub(crate) Arc<dyn Fn(Progress) + Send + Sync>);

impl fmt::Debug for ProgressSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ProgressSink")
    }
}

/// Where lines for an attempt's log go.
pub(crate) trait LogLines: Send + Sync {
    fn line(&self, line: &str);
}

/// Standard output, which whoever started the process keeps.
pub(crate) struct StandardOutput;

impl LogLines for StandardOutput {
    fn line(&self, line: &str) {
        // A closed one is no reason to end.
        let _ = std::io::stdout().write_all([line, "\n"].concat().as_bytes());
    }
}

#[derive(Clone)]
pub(crate) struct LogSink(pub(crate) Arc<dyn LogLines>);

impl fmt::Debug for LogSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LogSink")
    }
}

impl Context {
    /// A context made by hand, as a unit test does; `dir` is the attempt's folder. What is saved in it, another context
    /// made with the same folder finds.
    pub fn detached(dir: impl Into<PathBuf>) -> Self {
        let dir = dir.into();
        Self {
            checkpoints: Checkpoints::new(Place::below(&dir)),
            run: RunId::random(),
            task: "task".into(),
            attempt: 1,
            dir,
            cancel: CancellationToken::new(),
            progress: ProgressSink(Arc::new(|_| {})),
            log: LogSink(Arc::new(StandardOutput)),
            report: None,
        }
    }

    /// The run.
    pub fn run(&self) -> &RunId {
        &self.run
    }

    /// The task's path in the run, such as `for-loop-1[2]/fit`.
    pub fn task(&self) -> &str {
        &self.task
    }

    /// The attempt's number, from 1.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// The same for every attempt of this task, also after the engine died and was started again: what to give to
    /// services that do a thing once for each key.
    pub fn idempotency_key(&self) -> String {
        format!("{}/{}", self.run, self.task)
    }

    /// A folder of this attempt's own, for what is needed while it runs.
    ///
    /// # Errors
    /// Where it can't be made.
    pub fn dir(&self) -> Result<&Path, TaskError> {
        std::fs::create_dir_all(&self.dir)
            .map_err(|error| TaskError::new(format!("make folder `{}`: {error}", self.dir.display())))?;
        Ok(&self.dir)
    }

    /// Fires when the attempt should end: its run was cancelled or its time is over.
    pub fn cancellation(&self) -> &CancellationToken {
        &self.cancel
    }

    /// Tells how far the task is: `fraction` from 0 to 1 where that can be said.
    pub fn progress(&self, fraction: impl Into<Option<f64>>, message: impl Into<String>) {
        let fraction = fraction.into().filter(|fraction| fraction.is_finite());
        let fraction = fraction.map(|fraction| fraction.clamp(0.0, 1.0));
        (self.progress.0)(Progress { fraction, message: message.into() });
    }

    /// Writes a line to the attempt's log, which [`Engine::logs`](crate::Engine::logs) gives: in process to a file of its
    /// own, of which the first MiB and the last 4 MiB are kept; in a subprocess or a container to standard output, which is
    /// kept so too.
    pub fn log(&self, line: impl AsRef<str>) {
        self.log.0.line(line.as_ref());
    }

    /// The run report as it stands; see [`crate::report`].
    ///
    /// # Errors
    /// Where the task runs outside of the engine's process, or the run can't be read.
    pub async fn report(&self) -> Result<crate::report::Report, TaskError> {
        let source = self.report.as_ref().ok_or_else(|| {
            TaskError::permanent(
                "the run report can be made in the engine's process only: use the in-process executor",
            )
        })?;
        Ok(source.report(&self.run).await?)
    }
}

/// An input artifact and its local copy.
#[derive(Clone, Debug)]
pub(crate) struct InputArtifact {
    pub(crate) artifact: ArtifactRef,
    pub(crate) path: Option<PathBuf>,
}

/// An output artifact as the body left it.
#[derive(Clone, Debug)]
pub(crate) struct OutputArtifact {
    pub(crate) path: PathBuf,
    pub(crate) metadata: Arc<Mutex<Metadata>>,
    pub(crate) written: Arc<Mutex<Option<Written>>>,
}

impl OutputArtifact {
    /// One that is to be written here.
    pub(crate) fn at(path: PathBuf) -> Self {
        Self { path, metadata: Arc::default(), written: Arc::default() }
    }
}

/// What is handed to a component's body; the generated code takes its arguments out of it.
#[derive(Debug)]
pub struct TaskIo(pub(crate) TaskIoParts);

#[derive(Debug)]
pub(crate) struct TaskIoParts {
    pub(crate) parameters: Vec<(Arc<str>, Arc<Json>)>,
    pub(crate) artifacts: BTreeMap<String, Vec<InputArtifact>>,
    pub(crate) outputs: BTreeMap<String, OutputArtifact>,
    pub(crate) context: Context,
    pub(crate) state: Arc<StateMap>,
    /// What other tasks gave that is in memory here.
    pub(crate) memory: Option<Memory>,
}

/// What a component's body gave: its output parameters.
#[derive(Debug)]
pub struct TaskOutputs(pub(crate) Metadata);

impl TaskIo {
    /// A parameter.
    ///
    /// # Errors
    /// Where it is missing or of another type.
    pub fn parameter<T: Param>(&self, name: &str) -> Result<T, TaskError> {
        let value = self.0.parameters.iter().find(|(given, _)| given.as_ref() == name);
        let value = value.map_or(&Json::Null, |(_, value)| value.as_ref());
        T::from_json(value).map_err(|error| {
            TaskError::permanent(format!("input `{name}` expects {}: {error}", std::any::type_name::<T>()))
        })
    }

    /// An input artifact.
    ///
    /// # Errors
    /// Where there is none, or several.
    pub fn input<K: ArtifactKind>(&self, name: &str) -> Result<Input<K>, TaskError> {
        let mut list = self.inputs(name);
        match (list.pop(), list.len()) {
            (Some(input), 0) => Ok(input),
            (found, more) => {
                let found = usize::from(found.is_some()) + more;
                Err(TaskError::permanent(format!("input `{name}` expects one artifact, found {found}")))
            }
        }
    }

    /// An input artifact that may be absent.
    ///
    /// # Errors
    /// Where there are several.
    pub fn optional_input<K: ArtifactKind>(&self, name: &str) -> Result<Option<Input<K>>, TaskError> {
        match self.0.artifacts.get(name).map_or(0, Vec::len) {
            0 => Ok(None),
            _ => self.input(name).map(Some),
        }
    }

    /// A list of input artifacts.
    pub fn inputs<K: ArtifactKind>(&self, name: &str) -> Vec<Input<K>> {
        let list = self.0.artifacts.get(name).map(Vec::as_slice).unwrap_or_default();
        let input = |found: &InputArtifact| Input {
            artifact: found.artifact.clone(),
            path: found.path.clone(),
            memory: self.0.memory.clone(),
            kind: PhantomData,
        };
        list.iter().map(input).collect()
    }

    /// An output artifact.
    ///
    /// # Errors
    /// Where the component declares none of this name.
    pub fn output<K: ArtifactKind>(&self, name: &str) -> Result<Output<K>, TaskError> {
        let found = self.0.outputs.get(name);
        let found = found.ok_or_else(|| TaskError::permanent(format!("there is no output `{name}`")))?;
        Ok(Output {
            path: found.path.clone(),
            metadata: Arc::clone(&found.metadata),
            written: Arc::clone(&found.written),
            kind: PhantomData,
        })
    }

    /// Injected state.
    ///
    /// # Errors
    /// Where nobody gave any of this type.
    pub fn state<T: Send + Sync + 'static>(&self) -> Result<State<T>, TaskError> {
        self.0.state.get()
    }

    /// The task's context.
    pub fn context(&self) -> Context {
        self.0.context.clone()
    }

    /// Turns what the body returned into output parameters.
    ///
    /// # Errors
    /// Where JSON can't hold it.
    pub fn finish<O: Outputs>(outputs: O) -> Result<TaskOutputs, TaskError> {
        outputs.into_values().map(TaskOutputs)
    }
}
