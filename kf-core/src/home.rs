//! The folder in which the embedded stores live.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::artifact::ArtifactStore;
use crate::metadata::{MetadataStore, SqliteMetadata};
use crate::{Error, Result, RunId};

/// The newest layout of the folder that this version understands, and the one that it makes.
const FORMAT: u32 = 1;

/// A folder with everything that engines of one machine keep:
///
/// ```text
/// VERSION       the layout's number
/// metadata.db   runs, journals, lineage
/// artifacts/    content by digest
/// runs/         a folder per run: logs, reports, what tasks under way have saved
/// scratch/      what tasks under way write; may be emptied when no engine runs
/// cache/        what can be fetched or made again
/// ```
///
/// Many processes may have it open. Clones share the stores.
#[derive(Clone, Debug)]
pub struct Home {
    path: PathBuf,
    artifacts: ArtifactStore,
    metadata: SqliteMetadata,
}

impl Home {
    /// Opens the folder; makes it where it is missing.
    ///
    /// # Errors
    /// [`Error::TooNew`] where a newer version of this library made it, [`Error::Conflict`] where it is a folder
    /// with something else in it, [`Error::Io`] where it is a file, can't be written or has no room.
    pub async fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        if path.as_os_str().is_empty() {
            let none = io::Error::new(io::ErrorKind::InvalidInput, "the path is empty: name a folder");
            return Err(Error::io("open", path)(none));
        }
        if path.exists() && !path.is_dir() {
            let other =
                io::Error::new(io::ErrorKind::NotADirectory, "it is no folder: name a folder, or a new one");
            return Err(Error::io("open", path)(other));
        }
        fs::create_dir_all(path).map_err(Error::io("create", path))?;
        let path = path.canonicalize().map_err(Error::io("resolve", path))?;
        check_version(&path)?;
        for folder in ["scratch", "runs", "cache"] {
            let folder = path.join(folder);
            fs::create_dir_all(&folder).map_err(Error::io("create", folder))?;
        }
        let artifacts = ArtifactStore::local(path.join("artifacts"))?;
        let metadata = SqliteMetadata::open(path.join("metadata.db")).await?;
        Ok(Self { path, artifacts, metadata })
    }

    /// The same home with its artifacts in another store.
    #[must_use]
    pub fn with_artifacts(self, artifacts: ArtifactStore) -> Self {
        Self { artifacts, ..self }
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The artifacts.
    pub fn artifacts(&self) -> &ArtifactStore {
        &self.artifacts
    }

    /// Runs and lineage.
    pub fn metadata(&self) -> Arc<dyn MetadataStore> {
        Arc::new(self.metadata.clone())
    }

    /// A run's own folder, for logs and reports. Not made here.
    pub fn run_dir(&self, run: &RunId) -> PathBuf {
        self.path.join("runs").join(run.as_str())
    }

    /// Where tasks under way write.
    pub fn scratch_dir(&self) -> PathBuf {
        self.path.join("scratch")
    }

    /// What can be fetched or made again.
    pub fn cache_dir(&self) -> PathBuf {
        self.path.join("cache")
    }
}

/// Reads the layout's number, or writes it into a folder that is empty.
fn check_version(home: &Path) -> Result<()> {
    let path = home.join("VERSION");
    let text = match fs::read_to_string(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return write_version(home, &path),
        text => text.map_err(Error::io("read", &path))?,
    };
    match text.trim().parse::<u32>() {
        Ok(FORMAT) => Ok(()),
        Ok(found) if found > FORMAT => Err(Error::TooNew { path: home.to_owned(), found, supported: FORMAT }),
        _ => Err(Error::Corrupt {
            name: path.display().to_string(),
            expected: format!("a number up to {FORMAT}"),
            found: format!("`{}`", text.trim().chars().take(40).collect::<String>()),
        }),
    }
}

fn write_version(home: &Path, path: &Path) -> Result<()> {
    // A process that opens the same new home may be a step ahead, so its files are no strangers.
    let strange = fs::read_dir(home).map_err(Error::io("list", home))?.find_map(|entry| {
        let name = entry.ok()?.file_name().to_string_lossy().into_owned();
        let ours = ["VERSION", "artifacts", "runs", "scratch", "cache"].contains(&name.as_str())
            || name.starts_with("metadata.db")
            || name.starts_with('.');
        (!ours).then_some(name)
    });
    if let Some(name) = strange {
        return Err(Error::Conflict {
            what: "home",
            name: home.display().to_string(),
            difference: format!("the folder holds `{name}` and no VERSION; give an empty or a new one"),
        });
    }
    let mut file = tempfile::Builder::new()
        .prefix(".version-")
        .tempfile_in(home)
        .map_err(Error::io("create a file in", home))?;
    writeln!(file, "{FORMAT}").map_err(Error::io("write", path))?;
    file.as_file().sync_data().map_err(Error::io("write", path))?;
    // Another process writes the same.
    file.persist(path).map_err(|error| Error::io("write", path)(error.error))?;
    Ok(())
}
