//! Who writes which run.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use crate::lock::{FileLock, Locking};
use crate::mutex::locked;
use crate::{Error, Result, RunId};

/// The locks on runs: files, which end with their process, or a list in memory.
#[derive(Debug)]
pub(super) enum Locks {
    Folder(PathBuf),
    Memory(Arc<Holders>),
}

/// Owners by run.
pub(super) type Holders = Mutex<HashMap<RunId, String>>;

impl Locks {
    /// Locks the run; the guard of its lease.
    pub(super) fn take(&self, run: &RunId, owner: &str) -> Result<Box<dyn std::any::Any + Send + Sync>> {
        let holder = format!("{owner} (process {})", std::process::id());
        match self {
            Self::Folder(folder) => {
                let path = folder.join(format!("{run}.lock"));
                match FileLock::try_take(&path, &holder).map_err(Error::io("lock", &path))? {
                    Locking::Got(lock) => Ok(Box::new(lock)),
                    Locking::Held(by) => Err(held(run, &by)),
                }
            }
            Self::Memory(holders) => {
                let mut taken = locked(holders);
                if let Some(by) = taken.get(run) {
                    return Err(held(run, by));
                }
                taken.insert(run.clone(), holder);
                Ok(Box::new(InMemory { run: run.clone(), holders: Arc::clone(holders) }))
            }
        }
    }
}

struct InMemory {
    run: RunId,
    holders: Arc<Holders>,
}

impl Drop for InMemory {
    fn drop(&mut self) {
        locked(&self.holders).remove(&self.run);
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
