//! A process's own corner for files that are not whole yet.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use tempfile::{NamedTempFile, TempDir};

use crate::lock::{FileLock, Locking};
use crate::{Error, Result};

/// A folder beside a locked file. What a process leaves behind when it is killed is removed by the next that opens
/// the same store: it can be told by the lock, which ended with its holder.
#[derive(Debug)]
pub(super) struct Staging {
    folder: PathBuf,
    _lock: FileLock,
}

impl Staging {
    /// A fresh corner under `root`; those of dead processes are removed.
    pub(super) fn open(root: &Path) -> Result<Self> {
        fs::create_dir_all(root).map_err(Error::io("create", root))?;
        remove_stale(root).map_err(Error::io("clean", root))?;
        let mut holder = String::new();
        for _ in 0..100 {
            let name = uuid::Uuid::new_v4().simple().to_string();
            let lock_path = root.join(format!("{name}.lock"));
            let text = format!("process {}", std::process::id());
            let lock = match FileLock::try_take(&lock_path, &text).map_err(Error::io("lock", &lock_path))? {
                Locking::Got(lock) => lock,
                // One that is cleaning may have it for a moment.
                Locking::Held(by) => {
                    holder = by;
                    continue;
                }
            };
            let folder = root.join(name);
            fs::create_dir(&folder).map_err(Error::io("create", &folder))?;
            return Ok(Self { folder, _lock: lock });
        }
        Err(Error::Held { what: "staging folder", name: root.display().to_string(), holder })
    }

    /// A new file, removed when dropped.
    pub(super) fn file(&self) -> Result<NamedTempFile> {
        NamedTempFile::new_in(&self.folder).map_err(Error::io("create a file in", &self.folder))
    }

    /// A new folder, removed when dropped.
    pub(super) fn folder(&self) -> Result<TempDir> {
        TempDir::new_in(&self.folder).map_err(Error::io("create a folder in", &self.folder))
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn remove_stale(root: &Path) -> io::Result<()> {
    for entry in fs::read_dir(root)? {
        let path = entry?.path();
        let folder = path.with_extension("");
        // Held: its owner lives. The owner makes its folder after the lock, so there is none without.
        if let Locking::Got(_lock) = FileLock::try_take(&folder.with_extension("lock"), "")? {
            match fs::remove_dir_all(&folder) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
    }
    Ok(())
}
