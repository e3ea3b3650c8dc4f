//! What a task remembers over its attempts: the items of a long task that are done.
//!
//! It lies below the task's folder in the run's. Each attempt adds to a file of its own and reads those of the attempts
//! before it, so that one that lives on beside its successor, under an engine that was taken over from, spoils nothing.
//! A folder for each digest of the task's inputs keeps what was saved for others apart. Attempts away from the engine
//! have it in the artifact store, too, where the next one finds it.

mod in_store;
mod log;
mod record;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex};

use kf_core::Digest;
use kf_core::artifact::ArtifactRef;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::{Context, TaskError, TaskResult};
use crate::mutex::locked;
use crate::scheduler::Values;
use crate::task_folder::task_folder;
pub(crate) use in_store::{InStore, Open, remove_run};
use log::{Log, PutError};

/// The folder's name below the task's.
const FOLDER: &str = "checkpoint";
/// The longest key and value, and the most that a task may have saved, in bytes.
const LONGEST_KEY: usize = 1 << 10;
const LONGEST_VALUE: usize = 16 << 20;
const MOST: u64 = 64 << 20;

/// Where an attempt saves.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Place {
    folder: PathBuf,
    /// How many folders above may be new, and are made durable too.
    depth: usize,
    /// The lease's number, and the attempt's: what is saved under greater ones is newer.
    epoch: u64,
    attempt: u32,
}

impl Place {
    /// The place of an attempt at a task with inputs of this digest; `run` is the run's folder.
    fn new(run: &Path, task: &str, inputs: Digest, epoch: u64, attempt: u32) -> Self {
        let folder = task_folder(run, task).join(FOLDER).join(short_digest(inputs));
        let below = folder.strip_prefix(run).map_or(0, |below| below.components().count());
        Self { folder, depth: below + 1, epoch, attempt }
    }

    /// A place below any folder.
    pub(crate) fn below(folder: &Path) -> Self {
        Self { folder: folder.join(FOLDER), depth: 1, epoch: 0, attempt: 1 }
    }
}

/// What decides the place of an attempt, which is found when it is needed: most tasks save nothing.
#[derive(Clone, Debug)]
pub(crate) struct Origin {
    /// The run's folder.
    pub(crate) run: Arc<Path>,
    pub(crate) task: Arc<str>,
    pub(crate) inputs: Arc<Values>,
    pub(crate) epoch: u64,
    pub(crate) attempt: u32,
    /// Where this is not the engine's place.
    pub(crate) in_store: Option<InStore>,
}

impl Origin {
    pub(crate) fn place(&self) -> Place {
        Place::new(&self.run, &self.task, digest(&self.inputs), self.epoch, self.attempt)
    }

    /// The folder's name that keeps what is saved for the task's inputs apart from others.
    pub(crate) fn of_inputs(&self) -> String {
        short_digest(digest(&self.inputs))
    }
}

fn short_digest(digest: Digest) -> String {
    digest.to_hex()[..16].to_owned()
}

/// What tells a task's inputs from others.
fn digest(inputs: &Values) -> Digest {
    let content = |artifact: &ArtifactRef| match &artifact.digest {
        Some(digest) => digest.to_string(),
        None => artifact.uri.clone(),
    };
    let artifacts: BTreeMap<&Arc<str>, Vec<String>> =
        inputs.artifacts().iter().map(|(name, list)| (name, list.iter().map(content).collect())).collect();
    let artifacts: Vec<_> = artifacts.into_iter().collect();
    Digest::of(serde_json::to_string(&(inputs.parameters(), artifacts)).expect("parameters are JSON"))
}

/// Removes what these tasks of the run in this folder have saved.
pub(crate) fn remove(run: &Path, tasks: &[impl AsRef<str>]) {
    // Of many runs no task makes a folder.
    if tasks.is_empty() || !run.exists() {
        return;
    }
    for task in tasks {
        let folder = task_folder(run, task.as_ref()).join(FOLDER);
        match std::fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                tracing::warn!(folder = %folder.display(), %error, "a checkpoint of no use was not removed");
            }
            _ => {}
        }
    }
}

/// What an attempt has saved and found. Nothing is read or made before it is first asked.
#[derive(Clone, Debug)]
pub(crate) struct Checkpoints(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    place: LazyLock<Place, Box<dyn FnOnce() -> Place + Send>>,
    stored: Option<InStore>,
    log: Mutex<Option<Log>>,
}

impl Checkpoints {
    pub(crate) fn new(place: Place) -> Self {
        Self::lazily(move || place)
    }

    /// Those of an attempt. Its place is found once it is needed.
    pub(crate) fn of(origin: Origin) -> Self {
        match origin.in_store.clone() {
            Some(stored) => Self::in_store(move || origin.place(), stored),
            None => Self::lazily(move || origin.place()),
        }
    }

    /// In the place that this gives, once it is needed.
    fn lazily(place: impl FnOnce() -> Place + Send + 'static) -> Self {
        Self::with_all(Box::new(place), None)
    }

    /// The same, brought from the store and put there.
    fn in_store(place: impl FnOnce() -> Place + Send + 'static, stored: InStore) -> Self {
        Self::with_all(Box::new(place), Some(stored))
    }

    fn with_all(place: Box<dyn FnOnce() -> Place + Send>, stored: Option<InStore>) -> Self {
        Self(Arc::new(Inner { place: LazyLock::new(place), stored, log: Mutex::new(None) }))
    }

    fn open(&self) -> std::io::Result<Log> {
        if let Some(stored) = &self.0.stored {
            stored.bring(&self.0.place)?;
        }
        Log::open(&self.0.place)
    }

    fn with<T>(&self, key: &str, ask: impl FnOnce(&mut Log) -> TaskResult<T>) -> TaskResult<T> {
        let mut log = locked(&self.0.log);
        let open = match log.take() {
            Some(open) => open,
            None => self.open().map_err(|error| self.failed("read", key, &error))?,
        };
        ask(log.insert(open))
    }

    fn get(&self, key: &str) -> TaskResult<Option<Arc<str>>> {
        self.with(key, |log| Ok(log.get(key)))
    }

    fn put(&self, key: &str, value: &str) -> TaskResult {
        let refuse =
            |problem: String| Err(TaskError::permanent(format!("checkpoint `{}`: {problem}", short(key))));
        if key.len() > LONGEST_KEY {
            return refuse(format!("the key has {} bytes, and {LONGEST_KEY} is the most", key.len()));
        }
        if value.len() > LONGEST_VALUE {
            let most = "is the most; write it to a file of your own and save the path";
            return refuse(format!("the value has {} bytes, and {LONGEST_VALUE} {most}", value.len()));
        }
        self.with(key, |log| {
            let saved = log.record(key, value, MOST).and_then(|record| {
                // First where others find it, so that nobody takes it for saved that is not.
                if let Some(stored) = &self.0.stored {
                    stored.put(&self.0.place, log, &record)?;
                }
                Ok(log.put(key, value, &record)?)
            });
            saved.or_else(|error| match error {
                PutError::Io(error) => Err(self.failed("save", key, &error)),
                PutError::TooMuch(size) => {
                    let most = "is the most; save less for each item, or the path of a file of your own";
                    refuse(format!("the task would have {size} bytes saved, and {MOST} {most}"))
                }
            })
        })
    }

    fn failed(&self, action: &str, key: &str, error: &std::io::Error) -> TaskError {
        let folder = self.0.place.folder.display();
        TaskError::new(format!("{action} checkpoint `{}` in `{folder}`: {error}", short(key)))
    }
}

fn short(key: &str) -> String {
    key.chars().take(64).collect()
}

fn encode<T: Serialize + ?Sized>(key: &str, value: &T) -> TaskResult<String> {
    let refuse = |problem: String| TaskError::permanent(format!("checkpoint `{}`: {problem}", short(key)));
    let text = kf_core::json::to_json(value).map_err(|error| refuse(error.to_string()))?.to_string();
    // What can't be read again, such as lists in lists in lists without end, is not saved.
    serde_json::from_str::<Json>(&text).map_err(|error| refuse(error.to_string()))?;
    Ok(text)
}

fn decode<T: DeserializeOwned>(key: &str, text: &str) -> TaskResult<T> {
    serde_json::from_str(text).map_err(|error| {
        let (key, kind) = (short(key), std::any::type_name::<T>());
        TaskError::permanent(format!(
            "checkpoint `{key}` was saved as something else, expected {kind}: {error}; where the type has changed, \
             save it under another key"
        ))
    })
}

impl Context {
    /// What this task has [saved](Self::save) under a key, in this attempt or one before it.
    ///
    /// # Errors
    /// Where it can't be read, or is not a `T`.
    pub fn saved<T: DeserializeOwned>(&self, key: &str) -> TaskResult<Option<T>> {
        self.checkpoints.get(key)?.map(|text| decode(key, &text)).transpose()
    }

    /// Saves a value for the attempts that follow, should this one fail or its process be killed; what was saved under
    /// the key before is replaced. When this returns, it is on the disk, which takes one `fsync`: save every so many
    /// items where items are quicker than that, and from an `async fn` mind that it blocks.
    ///
    /// What is saved is the task's own: no other task or run sees it, and neither does this one with other inputs. It is
    /// dropped when the task has succeeded. It is also kept in memory, and is meant for results of items, not for weights:
    /// a key has at most 1 KiB, a value 16 MiB as JSON, and all together 64 MiB.
    ///
    /// Where the task runs away from the engine, such as in a pod, it goes into the artifact store before this returns, with
    /// a request or two. Containers that Kubeflow's own engine runs have a folder that goes with them, and there it lasts
    /// only as long as that.
    ///
    /// # Errors
    /// Where it can't be written, is one that JSON can't hold, or is too large.
    pub fn save<T: Serialize + ?Sized>(&self, key: &str, value: &T) -> TaskResult {
        self.checkpoints.put(key, &encode(key, value)?)
    }

    /// Does an item's work, unless it was done by an attempt before: then what it gave is given again. Work that was done
    /// when the process was killed, but not saved yet, is done once more.
    ///
    /// ```
    /// use kf_pipeline::prelude::*;
    ///
    /// #[component(retries = 3)]
    /// fn sizes(files: Vec<String>, ctx: Context) -> TaskResult<u64> {
    ///     let mut sum = 0;
    ///     for file in &files {
    ///         sum += ctx.once(file, || Ok(std::fs::metadata(file)?.len()))?;
    ///     }
    ///     Ok(sum)
    /// }
    /// # let folder = tempfile::tempdir()?;
    /// # let file = folder.path().join("file").display().to_string();
    /// # std::fs::write(&file, "four")?;
    /// # let ctx = Context::detached(folder.path());
    /// # assert_eq!(sizes::call(vec![file.clone()], ctx.clone())?, 4);
    /// # std::fs::remove_file(&file)?;
    /// # assert_eq!(sizes::call(vec![file], Context::detached(folder.path()))?, 4);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// It is for one who works through items: threads that ask for the same key at once each do the work.
    ///
    /// # Errors
    /// The work's, and those of [`saved`](Self::saved) and [`save`](Self::save).
    pub fn once<T: Serialize + DeserializeOwned>(
        &self,
        key: &str,
        work: impl FnOnce() -> TaskResult<T>,
    ) -> TaskResult<T> {
        if let Some(value) = self.saved(key)? {
            return Ok(value);
        }
        let value = work()?;
        self.save(key, &value)?;
        Ok(value)
    }

    /// [`once`](Self::once) for an `async fn`: `ctx.once_async(&url, async { fetch(&url).await }).await?`. Reading and
    /// saving don't block the runtime.
    ///
    /// # Errors
    /// As [`once`](Self::once).
    pub async fn once_async<T: Serialize + DeserializeOwned>(
        &self,
        key: &str,
        work: impl Future<Output = TaskResult<T>>,
    ) -> TaskResult<T> {
        let (checkpoints, name) = (self.checkpoints.clone(), key.to_owned());
        if let Some(text) = aside(move || checkpoints.get(&name)).await? {
            return decode(key, &text);
        }
        let value = work.await?;
        let (checkpoints, name, text) = (self.checkpoints.clone(), key.to_owned(), encode(key, &value)?);
        aside(move || checkpoints.put(&name, &text)).await?;
        Ok(value)
    }
}

/// Does what blocks on a thread where it may, if there is a runtime that has some.
async fn aside<T: Send + 'static>(work: impl FnOnce() -> TaskResult<T> + Send + 'static) -> TaskResult<T> {
    match tokio::runtime::Handle::try_current() {
        Ok(runtime) => runtime.spawn_blocking(work).await?,
        Err(_) => work(),
    }
}
