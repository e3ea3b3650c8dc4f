//! A lock that ends with the process that holds it.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A locked file, removed and unlocked when dropped. After a SIGKILL the file stays and the lock is gone.
#[derive(Debug)]
pub struct FileLock {
    file: File,
    path: PathBuf,
}

/// What an attempt to lock found.
#[derive(Debug)]
pub enum Locking {
    /// It is ours.
    Got(FileLock),
    /// Another has it; what they wrote into it.
    Held(String),
}

impl FileLock {
    /// Locks `path`, creating it where it is missing, and writes `text` into it for those who find it held.
    ///
    /// # Errors
    /// Where the file can't be made, locked or written.
    pub fn try_take(path: &Path, text: &str) -> io::Result<Locking> {
        // A holder removes the file as it unlocks, so what was opened may no longer be what the path names.
        for _ in 0..1000 {
            let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
            match file.try_lock() {
                Err(TryLockError::WouldBlock) => {
                    let mut held = String::new();
                    let _ = file.take(4096).read_to_string(&mut held);
                    return Ok(Locking::Held(held));
                }
                Err(TryLockError::Error(error)) => return Err(error),
                Ok(()) => {}
            }
            let ours = file.metadata()?;
            match fs::metadata(path) {
                Ok(named) if (named.dev(), named.ino()) == (ours.dev(), ours.ino()) => {}
                Ok(_) => continue,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            }
            let lock = Self { file, path: path.to_owned() };
            (&lock.file).rewind()?;
            lock.file.set_len(0)?;
            (&lock.file).write_all(text.as_bytes())?;
            return Ok(Locking::Got(lock));
        }
        Err(io::Error::new(io::ErrorKind::TimedOut, "the lock file keeps being replaced"))
    }
}

impl Drop for FileLock {
    fn drop(&mut self) {
        // Removed first: whoever opens the path from here on makes a new file. Unlocked by name and not by closing,
        // since a child that is just being started may have the file open for a moment.
        let _ = fs::remove_file(&self.path);
        let _ = self.file.unlock();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[test]
    fn one_holder_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let Locking::Got(first) = FileLock::try_take(&path, "first").unwrap() else { panic!("held") };
        assert!(matches!(FileLock::try_take(&path, "second").unwrap(), Locking::Held(by) if by == "first"));
        drop(first);
        assert!(matches!(FileLock::try_take(&path, "second").unwrap(), Locking::Got(_)));
        assert!(!path.exists());
    }

    #[test]
    fn taking_and_giving_back_by_many_threads_never_overlaps() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let (inside, taken) = (AtomicU32::new(0), AtomicU32::new(0));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..300 {
                        if let Locking::Got(lock) = FileLock::try_take(&path, "").unwrap() {
                            assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                            taken.fetch_add(1, Ordering::SeqCst);
                            inside.fetch_sub(1, Ordering::SeqCst);
                            drop(lock);
                        }
                    }
                });
            }
        });
        assert!(taken.load(Ordering::SeqCst) > 0);
    }
}
