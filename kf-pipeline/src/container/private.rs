//! Where the files of secrets lie while steps see them: in memory where this machine has a place for that, so that no
//! disk ever holds them.

use std::io;
use std::path::{Path, PathBuf};

use kf_core::RunId;
use kf_core::lock::{FileLock, Locking};
use tempfile::TempDir;

const PREFIX: &str = "kf-secrets-";

/// A process's own folder for secrets. What a killed process has left is removed by the next one that makes its own.
#[derive(Debug)]
pub(super) struct Private {
    folder: TempDir,
    /// Held as long as the folder is used.
    _lock: FileLock,
}

impl Private {
    /// # Errors
    /// Where the folder can't be made.
    pub(super) fn new() -> io::Result<Self> {
        let memory = Path::new("/dev/shm");
        Self::within(if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() })
    }

    fn within(place: PathBuf) -> io::Result<Self> {
        sweep(&place);
        // The lock comes first: a folder without one is nobody's. Another's sweep may hold a new one for a moment.
        for _ in 0..100 {
            let name = format!("{PREFIX}{}", RunId::random());
            let lock = place.join(format!("{name}.lock"));
            if let Locking::Got(lock) = FileLock::try_take(&lock, &std::process::id().to_string())? {
                let folder = tempfile::Builder::new().prefix(&name).rand_bytes(0).tempdir_in(&place)?;
                return Ok(Self { folder, _lock: lock });
            }
        }
        Err(io::Error::other(format!("no lock can be had in `{}`", place.display())))
    }

    /// A folder for one step, that only this user can read; removed when dropped.
    ///
    /// # Errors
    /// Where it can't be made.
    pub(super) fn step(&self) -> io::Result<TempDir> {
        tempfile::tempdir_in(self.folder.path())
    }
}

/// Removes the folders whose processes are gone.
fn sweep(place: &Path) {
    let Ok(entries) = std::fs::read_dir(place) else { return };
    for path in entries.flatten().map(|entry| entry.path()) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with(PREFIX)
            && name.ends_with(".lock")
            && let Ok(Locking::Got(_lock)) = FileLock::try_take(&path, "")
        {
            let _ = std::fs::remove_dir_all(path.with_extension(""));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_process_left_is_removed_and_nothing_else() {
        let place = tempfile::tempdir().unwrap();
        let of = || Private::within(place.path().to_owned()).unwrap();
        let one = of();
        let step = one.step().unwrap();
        std::fs::write(step.path().join("key"), "s3cr3t").unwrap();
        // As a SIGKILL leaves them: the files, without the lock.
        let left = place.path().join("kf-secrets-left");
        std::fs::create_dir(&left).unwrap();
        std::fs::write(left.join("key"), "s3cr3t").unwrap();
        std::fs::write(place.path().join("kf-secrets-left.lock"), "1").unwrap();
        let _two = of();
        assert!(!left.exists());
        assert!(step.path().join("key").exists());
        drop((step, one));
        assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 2, "the second's folder and lock");
    }
}
