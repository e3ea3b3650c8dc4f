use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{name, version::Version};
use crate::{Error, Loader, Result};

/// A folder of models: `NAME/VERSION/` holds the files of one version.
pub(super) struct Folder {
    root: PathBuf,
    pub(super) loader: Arc<dyn Loader>,
}

impl Folder {
    pub(super) fn new(root: PathBuf, loader: Arc<dyn Loader>) -> Self {
        Self { root, loader }
    }

    /// The folder of a model's version, of the newest where none is asked for.
    pub(super) fn find(&self, model: &str, version: Option<&str>) -> Result<(String, PathBuf)> {
        name::check("model name", model)?;
        let folder = self.root.join(model);
        let version = match version {
            Some(version) => {
                name::check("model version", version)?;
                version.to_owned()
            }
            None => match self.versions(model).pop() {
                Some(newest) => newest.0,
                None => return Err(self.unknown(model)),
            },
        };
        let files = folder.join(&version);
        if files.is_dir() { Ok((version, files)) } else { Err(self.unknown(&format!("{model}/{version}"))) }
    }

    /// The versions that lie in a model's folder, oldest first.
    pub(super) fn versions(&self, model: &str) -> Vec<Version> {
        let mut versions: Vec<Version> =
            folders(&self.root.join(model)).unwrap_or_default().into_iter().map(Version).collect();
        versions.sort();
        versions
    }

    /// Every model that has a folder.
    pub(super) fn models(&self) -> Vec<String> {
        folders(&self.root).unwrap_or_default()
    }

    fn unknown(&self, model: &str) -> Error {
        let known = match folders(&self.root) {
            Ok(names) if names.is_empty() => "the repository's folder is empty".to_owned(),
            Ok(mut names) => {
                names.truncate(20);
                format!("the repository's folder holds {}", names.join(", "))
            }
            Err(error) => format!("the repository's folder can't be read: {error}"),
        };
        Error::UnknownModel { model: model.to_owned(), known }
    }
}

/// The names of the folders in `folder`, sorted; hidden ones and those whose name isn't UTF-8 are left out.
fn folders(folder: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if let Ok(name) = entry.file_name().into_string()
            && !name.starts_with('.')
            && entry.path().is_dir()
        {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}
