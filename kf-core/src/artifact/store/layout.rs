//! Folders laid out from their objects.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::local::Local;
use super::manifest::{self, Entry, Manifest};
use crate::{Digest, Error, Result};

impl Local {
    /// The folder's path, laid out anew where it is missing or not as its manifest says. Its objects must be there.
    pub(super) fn lay_out(&self, digest: &Digest, manifest: &Manifest) -> Result<PathBuf> {
        let place = self.folder(digest);
        if self.is_laid_out(&place, manifest) {
            return Ok(place);
        }
        let staged = self.staging.folder()?;
        let fresh = staged.path().join("folder");
        fs::create_dir(&fresh).map_err(Error::io("create", &fresh))?;
        self.fill(&fresh, manifest)?;
        let parent = place.parent().unwrap_or(&place);
        fs::create_dir_all(parent).map_err(Error::io("create", parent))?;
        match fs::rename(&fresh, &place) {
            Ok(()) => return Ok(place),
            Err(error) if is_taken(&error) => {}
            Err(error) => return Err(Error::io("move into place", place)(error)),
        }
        // Another was faster, or what is there was changed; a changed one goes away with `staged`.
        if !self.is_laid_out(&place, manifest) {
            renameat_with(CWD, &fresh, CWD, &place, RenameFlags::EXCHANGE)
                .map_err(|error| Error::io("replace", &place)(error.into()))?;
        }
        Ok(place)
    }

    fn fill(&self, root: &Path, manifest: &Manifest) -> Result<()> {
        for path in &manifest.empty {
            let folder = root.join(path);
            fs::create_dir_all(&folder).map_err(Error::io("create", &folder))?;
        }
        for entry in &manifest.files {
            let to = root.join(&entry.path);
            let parent = to.parent().unwrap_or(root);
            fs::create_dir_all(parent).map_err(Error::io("create", parent))?;
            let object = self.check_object(&entry.digest)?;
            // The names of one file share its permissions, so what is executable is a copy. Some file systems know
            // no second name, or not so many.
            if entry.executable || fs::hard_link(&object, &to).is_err() {
                self.copy_out(entry, &to)?;
            }
        }
        Ok(())
    }

    fn is_laid_out(&self, place: &Path, manifest: &Manifest) -> bool {
        let Ok(listing) = manifest::list(place) else { return false };
        let entries: HashMap<&str, &Entry> = manifest.files.iter().map(|e| (e.path.as_str(), e)).collect();
        let mut empty = listing.empty;
        empty.sort_unstable();
        empty == manifest.empty
            && listing.files.len() == entries.len()
            && listing.files.iter().all(|file| {
                entries.get(file.path.as_str()).is_some_and(|entry| {
                    entry.executable == is_executable(&file.full)
                        && self.check(&file.full, &entry.digest).is_ok()
                })
            })
    }
}

fn is_executable(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|meta| meta.permissions().mode() & 0o100 != 0)
}

fn is_taken(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::AlreadyExists | io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::NotADirectory
    )
}
