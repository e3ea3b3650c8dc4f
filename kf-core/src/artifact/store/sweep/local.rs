//! Sweeping a folder of this machine.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use super::super::local::{Local, missing};
use super::{Sweep, Swept};
use crate::{Digest, Error, Result};

/// So many objects are removed while puts wait.
const BATCH: usize = 64;
/// Longer than anybody needs for that.
const PATIENCE: Duration = Duration::from_secs(60);

/// An object as it was found.
struct Found {
    digest: Digest,
    size: u64,
    /// Its inode's change time.
    used: (i64, i64),
}

impl Local {
    /// As long as the result is kept, nothing is removed.
    pub(in crate::artifact::store) fn in_use(&self) -> Result<File> {
        let (file, path) = self.sweep_lock()?;
        locked_within(&path, || file.try_lock_shared())?;
        Ok(file)
    }

    /// The lock is each call's own: its holders are told apart by their open files.
    fn sweep_lock(&self) -> Result<(File, PathBuf)> {
        let path = self.root.join("sweep.lock");
        let open = OpenOptions::new().create(true).write(true).truncate(false).open(&path);
        Ok((open.map_err(Error::io("open", &path))?, path))
    }

    /// Makes an object young.
    pub(in crate::artifact::store) fn renew(&self, digest: &Digest) -> Result<()> {
        let object = self.object(digest);
        let _use = self.in_use()?;
        // The same permissions again: that moves the change time and nothing else.
        match fs::set_permissions(&object, Permissions::from_mode(0o444)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(missing(digest)),
            renewed => renewed.map_err(Error::io("renew", object)),
        }
    }

    /// Removes objects that are out of reach and old, and folders laid out of such.
    pub(super) fn sweep(&self, mut reachable: HashSet<Digest>, sweep: &Sweep) -> Result<Swept> {
        let before = sweep.before().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let is_old = |used: (i64, i64)| since_epoch(used) < before;
        for digest in reachable.clone() {
            reachable.extend(self.files_of(&digest)?);
        }
        let mut swept = Swept::default();
        let mut old = Vec::new();
        for shard in children(&self.root.join("sha256"))? {
            for path in children(&shard)? {
                let Some(found) = found(&path)? else { continue };
                if reachable.contains(&found.digest) {
                    swept.kept.add(found.size);
                } else if is_old(found.used) {
                    old.push(found);
                } else {
                    swept.young.add(found.size);
                }
            }
        }
        let mut gone = HashSet::new();
        for batch in old.chunks(BATCH) {
            let alone = match sweep.dry_run {
                true => None,
                false => Some(self.alone()?),
            };
            for found in batch {
                let removed = match alone {
                    Some(_) => self.remove_unused(found)?,
                    None => Some(true),
                };
                match removed {
                    Some(true) => swept.removed.add(found.size),
                    Some(false) => swept.young.add(found.size),
                    None => {}
                }
                if removed != Some(false) {
                    gone.insert(found.digest);
                }
            }
        }
        if sweep.dry_run {
            return Ok(swept);
        }
        // Afterwards: removing a file's second name makes the object young.
        for path in children(&self.root.join("folders"))? {
            let Some(digest) = digest_of(&path) else { continue };
            if reachable.contains(&digest) {
                continue;
            }
            let Ok(meta) = fs::symlink_metadata(&path) else { continue };
            if gone.contains(&digest) || is_old((meta.ctime(), meta.ctime_nsec())) {
                self.remove_laid_out(&digest, &path)?;
            }
        }
        Ok(swept)
    }

    fn files_of(&self, digest: &Digest) -> Result<Vec<Digest>> {
        match self.manifest(digest) {
            Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            manifest => {
                let files = manifest?.map_or_else(Vec::new, |manifest| manifest.files);
                Ok(files.into_iter().map(|file| file.digest).collect())
            }
        }
    }

    /// As long as the result is kept, nothing is put or renewed.
    fn alone(&self) -> Result<File> {
        let (file, path) = self.sweep_lock()?;
        locked_within(&path, || file.try_lock())?;
        Ok(file)
    }

    /// Removes an object that is as it was found; false where it was put or renewed since, none where another has removed
    /// it. Nothing may be put meanwhile.
    fn remove_unused(&self, found: &Found) -> Result<Option<bool>> {
        let object = self.object(&found.digest);
        let meta = match fs::symlink_metadata(&object) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            meta => meta.map_err(Error::io("look at", &object))?,
        };
        if (meta.ctime(), meta.ctime_nsec()) != found.used {
            return Ok(Some(false));
        }
        match fs::remove_file(&object) {
            // By who removes without asking.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            removed => removed.map(|()| Some(true)).map_err(Error::io("remove", object)),
        }
    }

    /// Removes a folder whose list is gone.
    fn remove_laid_out(&self, digest: &Digest, path: &Path) -> Result<()> {
        let aside = self.staging.folder()?;
        let _alone = self.alone()?;
        if self.object(digest).exists() {
            return Ok(());
        }
        match fs::rename(path, aside.path().join("removed")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::io("remove", path)(error)),
            _ => Ok(()),
        }
    }
}

fn children(folder: &Path) -> Result<Vec<PathBuf>> {
    let list = match fs::read_dir(folder) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        list => list.map_err(Error::io("list", folder))?,
    };
    let paths = list.map(|entry| entry.map(|entry| entry.path()));
    paths.collect::<io::Result<_>>().map_err(Error::io("list", folder))
}

fn digest_of(path: &Path) -> Option<Digest> {
    format!("sha256:{}", path.file_name()?.to_str()?).parse().ok()
}

fn found(path: &Path) -> Result<Option<Found>> {
    let Some(digest) = digest_of(path) else { return Ok(None) };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        meta => {
            let meta = meta.map_err(Error::io("look at", path))?;
            Ok(Some(Found { digest, size: meta.len(), used: (meta.ctime(), meta.ctime_nsec()) }))
        }
    }
}

/// A file's time since 1970; one before that is of then.
fn since_epoch((seconds, nanoseconds): (i64, i64)) -> Duration {
    let seconds = u64::try_from(seconds).unwrap_or_default();
    Duration::new(seconds, u32::try_from(nanoseconds).unwrap_or_default().min(999_999_999))
}

/// Takes a lock that others hold for moments.
fn locked_within(path: &Path, try_lock: impl Fn() -> std::result::Result<(), TryLockError>) -> Result<()> {
    let began = Instant::now();
    loop {
        match try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::Error(error)) => return Err(Error::io("lock", path)(error)),
            Err(TryLockError::WouldBlock) if began.elapsed() < PATIENCE => {
                std::thread::sleep(Duration::from_millis(1));
            }
            Err(TryLockError::WouldBlock) => {
                return Err(Error::Held {
                    what: "lock of the artifact store",
                    name: path.display().to_string(),
                    holder: format!("a process that does not go on, for more than {PATIENCE:?}"),
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_have_times() {
        assert_eq!(since_epoch((89, 5)), Duration::new(89, 5));
        assert_eq!(since_epoch((-5, 7)), Duration::new(0, 7));
        assert_eq!(since_epoch((1, -1)), Duration::new(1, 0));
    }
}
