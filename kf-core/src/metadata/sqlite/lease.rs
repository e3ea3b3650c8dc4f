//! Who writes which run.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use crate::lock::{FileLock, Locking};
use crate::mutex::locked;
use crate::{Digest, Error, Result, RunId};

/// The locks on runs: files, which end with their process, or a list in memory.
#[derive(Debug)]
pub(super) enum Locks {
    Folder(PathBuf),
    Memory(Arc<Holders>),
}

/// Owners by what they have locked.
pub(super) type Holders = Mutex<HashMap<String, String>>;

/// What keeps a lock.
pub(super) type Guard = Box<dyn std::any::Any + Send + Sync>;

impl Locks {
    /// Locks the run; the guard of its lease.
    pub(super) fn take(&self, run: &RunId, owner: &str) -> Result<Guard> {
        self.lock(run.as_str(), owner)?.map_err(|by| held(run, &by))
    }

    /// Locks a place under a name, where it is free. Files of places have no name that a run's has.
    pub(super) fn hold(&self, name: &str, place: u32, owner: &str) -> Result<Option<Guard>> {
        let key = format!(".{}.{place}", Digest::of(name).to_hex());
        Ok(self.lock(&key, owner)?.ok())
    }

    /// The guard, or who has it.
    fn lock(&self, key: &str, owner: &str) -> Result<std::result::Result<Guard, String>> {
        let holder = format!("{owner} (process {})", std::process::id());
        match self {
            Self::Folder(folder) => {
                let path = folder.join(format!("{key}.lock"));
                Ok(match FileLock::try_take(&path, &holder).map_err(Error::io("lock", &path))? {
                    Locking::Got(lock) => Ok(Box::new(lock)),
                    Locking::Held(by) => Err(by),
                })
            }
            Self::Memory(holders) => {
                let mut taken = locked(holders);
                if let Some(by) = taken.get(key) {
                    return Ok(Err(by.clone()));
                }
                taken.insert(key.to_owned(), holder);
                Ok(Ok(Box::new(InMemory { key: key.to_owned(), holders: Arc::clone(holders) })))
            }
        }
    }
}

struct InMemory {
    key: String,
    holders: Arc<Holders>,
}

impl Drop for InMemory {
    fn drop(&mut self) {
        locked(&self.holders).remove(&self.key);
    }
}

fn held(run: &RunId, by: &str) -> Error {
    // Between locking its file and writing into it, a holder has no name yet.
    let holder = if by.is_empty() { "another engine" } else { by };
    Error::Held { what: "run", name: run.to_string(), holder: holder.to_owned() }
}

/// What a lease and the store disagree in.
pub(super) fn fenced(lease: &RunId, detail: String) -> Error {
    Error::Fenced { run: lease.to_string(), detail }
}
