//! The models that are there, and the loading and unloading of them.

mod folder;
mod name;
mod served;
mod status;
mod version;

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    panic::{self, AssertUnwindSafe},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

pub(crate) use self::served::Served;
pub use self::status::{ModelState, ModelStatus};
use self::{folder::Folder, version::Version};
use crate::{BoxError, Error, Loader, Result, Runtime, panic_message::panic_message};

/// The models a server serves, by name and version. Cloning gives another handle to the same models.
///
/// A request without a version gets the latest that is loaded: numbers count by value, and above words. Replacing or
/// unloading a model never disturbs requests under way: they finish on the runtime they started with, which is
/// dropped after the last of them. A failed load leaves what served before in place.
///
/// ```
/// use kf_serve::{Datatype, FnRuntime, ModelMetadata, ModelRepository};
///
/// let metadata = ModelMetadata::new("rust").input("x", Datatype::Fp32, [4]).output("x", Datatype::Fp32, [4]);
/// let models = ModelRepository::new();
/// models.insert("echo", "1", FnRuntime::new(metadata, |inputs| Ok(inputs.into_tensors())))?;
/// assert!(models.is_ready("echo", None));
/// # Ok::<(), kf_serve::Error>(())
/// ```
#[derive(Clone)]
pub struct ModelRepository {
    shared: Arc<Shared>,
}

struct Shared {
    models: RwLock<Models>,
    folder: Option<Folder>,
    /// One lock a model, so that its loads and unloads come one after another.
    turns: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

type Models = HashMap<String, BTreeMap<Version, Slot>>;

/// One version of a model.
struct Slot {
    /// What answers requests; `None` while the first load runs and after it failed.
    serving: Option<Arc<Served>>,
    state: ModelState,
    reason: String,
}

impl ModelRepository {
    /// An empty repository, for models that the program inserts.
    pub fn new() -> Self {
        Self::with_folder(None)
    }

    /// A repository over a folder in which `NAME/VERSION/` holds the files of one version, read by `loader`. Nothing
    /// is loaded until [`load`](Self::load) or the protocol's load call asks for it.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] when `root` is no folder.
    pub fn open(root: impl Into<PathBuf>, loader: impl Loader) -> Result<Self> {
        let root = root.into();
        if !root.is_dir() {
            return Err(Error::InvalidInput(format!(
                "{} is no folder; a model repository is a folder with NAME/VERSION/ for each model",
                root.display()
            )));
        }
        Ok(Self::with_folder(Some(Folder::new(root, Arc::new(loader)))))
    }

    fn with_folder(folder: Option<Folder>) -> Self {
        let shared = Shared { models: RwLock::default(), folder, turns: Mutex::default() };
        Self { shared: Arc::new(shared) }
    }

    /// Serves `runtime` under that name and version from now on, in place of the one that was there.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] for a name or metadata that can't be.
    pub fn insert(&self, model: &str, version: &str, runtime: impl Runtime) -> Result<()> {
        name::check("model name", model)?;
        name::check("model version", version)?;
        self.install(model, version, Arc::new(runtime))
    }

    /// Loads a model of the repository's folder, or loads it again; the newest version where none is named. Gives
    /// the version.
    ///
    /// # Errors
    /// [`Error::UnknownModel`] when no such folder is there, [`Error::Load`] when the loader fails; the version that
    /// served before goes on serving.
    pub async fn load(&self, model: &str, version: Option<&str>) -> Result<String> {
        let repository = self.clone();
        let (name, wanted) = (model.to_owned(), version.map(str::to_owned));
        let found = blocking(move || match &repository.shared.folder {
            Some(folder) => {
                folder.find(&name, wanted.as_deref()).map(|found| (found, Arc::clone(&folder.loader)))
            }
            None => Err(Error::UnknownModel {
                model: name,
                known: "this repository has no folder to load from".to_owned(),
            }),
        });
        let ((version, files), loader) = found.await?;
        self.load_with(model, &version, &files, loader).await?;
        Ok(version)
    }

    /// Loads a version of a model from any folder.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub async fn load_from(
        &self,
        model: &str,
        version: &str,
        folder: &Path,
        loader: impl Loader,
    ) -> Result<()> {
        name::check("model name", model)?;
        name::check("model version", version)?;
        self.load_with(model, version, folder, Arc::new(loader)).await
    }

    /// The work of a load goes on to its end even when the caller stops waiting for it.
    async fn load_with(
        &self,
        model: &str,
        version: &str,
        folder: &Path,
        loader: Arc<dyn Loader>,
    ) -> Result<()> {
        let turn = self.turn(model).lock_owned().await;
        let (repository, model, version) = (self.clone(), model.to_owned(), version.to_owned());
        let folder = folder.to_owned();
        blocking(move || {
            let _turn = turn;
            repository.note(&model, &version, ModelState::Loading, "");
            let loaded = panic::catch_unwind(AssertUnwindSafe(|| loader.load(&folder)))
                .unwrap_or_else(
                    |panic| Err(format!("the loader panicked: {}", panic_message(&*panic)).into()),
                )
                .and_then(|runtime| repository.install(&model, &version, runtime).map_err(BoxError::from));
            if let Err(source) = loaded {
                let model_and_version = format!("{model}/{version}");
                tracing::warn!(model, version, %source, "a model couldn't be loaded");
                repository.note(
                    &model,
                    &version,
                    ModelState::Unavailable,
                    &format!("its load failed: {source}"),
                );
                return Err(Error::Load { model: model_and_version, folder, source });
            }
            tracing::info!(model, version, "loaded a model");
            Ok(())
        })
        .await
    }

    /// Takes a version of a model out of service, all of them where none is named.
    ///
    /// # Errors
    /// [`Error::UnknownModel`] when it isn't there.
    pub async fn unload(&self, model: &str, version: Option<&str>) -> Result<()> {
        // Names that were never loaded get no lock of their own.
        self.find(model, version)?;
        let _turn = self.turn(model).lock_owned().await;
        let mut models = self.models_mut();
        let Some(versions) = models.get_mut(model) else { return Err(unknown(&models, model, version)) };
        // Dropping a model may take a while, so it happens outside the lock.
        let unloaded = match version {
            Some(version) => versions.remove_entry(&Version(version.to_owned())).into_iter().collect(),
            None => std::mem::take(versions),
        };
        if versions.is_empty() {
            models.remove(model);
        }
        drop(models);
        drop(unloaded);
        tracing::info!(model, version, "unloaded a model");
        Ok(())
    }

    /// Whether requests for the model are answered; for its latest loaded version where none is named.
    pub fn is_ready(&self, model: &str, version: Option<&str>) -> bool {
        self.get(model, version).is_ok()
    }

    /// Why not every model here is ready, where that is so: one without any version that serves.
    pub fn unready(&self) -> Option<String> {
        let models = self.models();
        let unready =
            models.iter().find(|(_, versions)| versions.values().all(|slot| slot.serving.is_none()));
        unready.map(|(model, versions)| {
            let reason = versions.values().next_back().map_or("", |slot| slot.explain());
            format!("model `{model}` isn't ready: {reason}")
        })
    }

    /// Every version of every model that was inserted or loaded, and those in the folder that weren't. Reads the
    /// folder, where there is one.
    pub fn index(&self) -> Vec<ModelStatus> {
        let mut index = BTreeMap::new();
        if let Some(folder) = &self.shared.folder {
            for model in folder.models() {
                for version in folder.versions(&model) {
                    let (state, reason) = (ModelState::Unavailable, "it isn't loaded".to_owned());
                    let status =
                        ModelStatus { name: model.clone(), version: version.0.clone(), state, reason };
                    index.insert((model.clone(), version), status);
                }
            }
        }
        for (model, versions) in &*self.models() {
            for (version, slot) in versions {
                let status = ModelStatus {
                    name: model.clone(),
                    version: version.0.clone(),
                    state: slot.state,
                    reason: slot.reason.clone(),
                };
                index.insert((model.clone(), version.clone()), status);
            }
        }
        index.into_values().collect()
    }

    /// The versions of a model that serve, oldest first.
    pub fn versions(&self, model: &str) -> Vec<String> {
        let models = self.models();
        let versions = models.get(model).into_iter().flatten();
        versions.filter(|(_, slot)| slot.serving.is_some()).map(|(version, _)| version.0.clone()).collect()
    }

    /// What answers requests for that model, for its latest serving version where none is named.
    pub(crate) fn get(&self, model: &str, version: Option<&str>) -> Result<Arc<Served>> {
        let models = self.models();
        let versions = models.get(model).ok_or_else(|| unknown(&models, model, version))?;
        let served = match version {
            None => versions.values().rev().find_map(|slot| slot.serving.as_ref()),
            Some(version) => versions
                .get(&Version(version.to_owned()))
                .ok_or_else(|| unknown(&models, model, Some(version)))?
                .serving
                .as_ref(),
        };
        served.map(Arc::clone).ok_or_else(|| {
            let slot = match version {
                None => versions.values().next_back(),
                Some(version) => versions.get(&Version(version.to_owned())),
            };
            let reason = slot.map_or("it has no version", |slot| slot.explain()).to_owned();
            Error::NotReady { model: full_name(model, version), reason }
        })
    }

    fn find(&self, model: &str, version: Option<&str>) -> Result<()> {
        match self.get(model, version) {
            Err(error @ Error::UnknownModel { .. }) => Err(error),
            _ => Ok(()),
        }
    }

    fn install(&self, model: &str, version: &str, runtime: Arc<dyn Runtime>) -> Result<()> {
        runtime.metadata().check()?;
        let served = Arc::new(Served::new(model, version, runtime));
        let slot = Slot { serving: Some(served), state: ModelState::Ready, reason: String::new() };
        let mut models = self.models_mut();
        let replaced = models.entry(model.to_owned()).or_default().insert(Version(version.to_owned()), slot);
        drop(models);
        // Dropping a model may take a while, so it happens outside the lock.
        drop(replaced);
        Ok(())
    }

    /// Notes how a load goes, without touching what serves.
    fn note(&self, model: &str, version: &str, state: ModelState, reason: &str) {
        let mut models = self.models_mut();
        let versions = models.entry(model.to_owned()).or_default();
        let slot = versions.entry(Version(version.to_owned())).or_insert_with(|| Slot {
            serving: None,
            state,
            reason: String::new(),
        });
        if slot.serving.is_none() {
            slot.state = state;
        }
        reason.clone_into(&mut slot.reason);
    }

    fn turn(&self, model: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut turns = self.shared.turns.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(turns.entry(model.to_owned()).or_default())
    }

    fn models(&self) -> RwLockReadGuard<'_, Models> {
        self.shared.models.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn models_mut(&self) -> RwLockWriteGuard<'_, Models> {
        self.shared.models.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for ModelRepository {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for ModelRepository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.models().keys()).finish()
    }
}

impl Slot {
    fn explain(&self) -> &str {
        if self.reason.is_empty() { "its first load is under way" } else { &self.reason }
    }
}

fn full_name(model: &str, version: Option<&str>) -> String {
    let shown: String = model.chars().take(80).collect();
    version.map_or_else(
        || shown.clone(),
        |version| format!("{shown}/{}", version.chars().take(80).collect::<String>()),
    )
}

fn unknown(models: &Models, model: &str, version: Option<&str>) -> Error {
    let names = |names: &mut dyn Iterator<Item = &str>| names.take(20).collect::<Vec<_>>().join(", ");
    let known = match models.get(model) {
        Some(versions) => {
            format!("its versions are {}", names(&mut versions.keys().map(|version| version.0.as_str())))
        }
        None if models.is_empty() => "no model is loaded".to_owned(),
        None => format!("the models are {}", names(&mut models.keys().map(String::as_str))),
    };
    Error::UnknownModel { model: full_name(model, version), known }
}

/// Runs `work` on a blocking thread.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => panic::resume_unwind(panic),
            // The tokio runtime is on its way out.
            Err(_) => Err(Error::Draining),
        },
    }
}
