//! Removing what nobody needs any more, beside others that put and read.
//!
//! Whoever sweeps says what is reachable, as found from some moment on. Content that was put, or renewed, before that
//! moment and named by a commit after it is spared for its age then, so the least age must be longer than it takes from
//! the one to the other. What is put or renewed later, also while the sweep is under way, is spared in any case:
//!
//! - In a folder of this machine, renewing and removing exclude one another by a lock on the file `sweep.lock`. An
//!   object's age is told by its inode's change time.
//! - In an object store, the object `sweep` says what is about to be removed. It is written before the last look at an
//!   object's age, and it is read after an object was put or its age renewed, so one of the two sees the other; who sees
//!   that an object is about to be removed waits, and puts it again where it is gone. Old objects are renewed by a small
//!   object of their own below `used/`, not by sending them again.

mod local;
mod remote;

use std::collections::HashSet;
use std::time::{Duration, SystemTime};

pub(super) use self::remote::Renewal;
use super::ArtifactStore;
use crate::{Digest, Result};

/// What may be removed, besides being out of reach.
#[derive(Clone, Debug)]
pub struct Sweep {
    min_age: Duration,
    as_of: Option<SystemTime>,
    dry_run: bool,
}

impl Default for Sweep {
    /// What is older than a day.
    fn default() -> Self {
        Self { min_age: Duration::from_secs(24 * 3600), as_of: None, dry_run: false }
    }
}

impl Sweep {
    /// What is older than a day.
    pub fn new() -> Self {
        Self::default()
    }

    /// Removes only what was put, or [renewed](ArtifactStore::renew), longer ago than this. It must be longer than what
    /// lies between putting content and naming it where the sweep learns of it, on any machine; where that is an object
    /// store, half of it must be, since content that was put lately is not renewed when it is put again.
    #[must_use]
    pub fn min_age(mut self, age: Duration) -> Self {
        self.min_age = age;
        self
    }

    /// When it began to be found out what is reachable, which ages are told from; the sweep's own beginning where not said.
    #[must_use]
    pub fn as_of(mut self, time: SystemTime) -> Self {
        self.as_of = Some(time);
        self
    }

    /// What was put before this is old.
    fn before(&self) -> SystemTime {
        let as_of = self.as_of.unwrap_or_else(SystemTime::now);
        as_of.checked_sub(self.min_age).unwrap_or(SystemTime::UNIX_EPOCH)
    }

    /// Removes nothing, and tells what would be.
    #[must_use]
    pub fn dry_run(mut self) -> Self {
        self.dry_run = true;
        self
    }
}

/// So many objects, and their bytes added up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pile {
    /// How many.
    pub objects: u64,
    /// Bytes.
    pub bytes: u64,
}

impl Pile {
    fn add(&mut self, bytes: u64) {
        self.objects += 1;
        self.bytes += bytes;
    }
}

/// What a sweep found. Each file of a folder is an object, and so is the list of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// What is reachable.
    pub kept: Pile,
    /// What is out of reach and too young, or was renewed meanwhile.
    pub young: Pile,
    /// What was removed, or would be.
    pub removed: Pile,
    /// What was removed, or would be, of this machine's copies of what lies in an object store.
    pub copies: Pile,
}

impl ArtifactStore {
    /// Removes what is not `reachable`, nor a file of a folder that is, and older than the sweep asks for. Others may put,
    /// renew and fetch meanwhile: what they put or renew stays.
    ///
    /// Of an object store, everything below its base counts, whoever has put it; and this machine's copies are removed by
    /// the same rule.
    ///
    /// # Errors
    /// [`Error::Held`](crate::Error::Held) while another sweeps the same object store;
    /// [`Error::Invalid`](crate::Error::Invalid) for an age less than two times what old objects are
    /// [renewed after](Self::renew_after); else where the store fails, and what was removed by then is removed.
    pub async fn sweep(&self, reachable: HashSet<Digest>, sweep: &Sweep) -> Result<Swept> {
        let mut sweep = sweep.clone();
        sweep.as_of.get_or_insert_with(SystemTime::now);
        let mut reachable = reachable;
        let mut swept = None;
        if let Some(remote) = &self.0.remote {
            swept = Some(remote.sweep(&mut reachable, &sweep).await?);
        }
        let here = self.blocking(move |local| local.sweep(reachable, &sweep)).await?;
        Ok(match swept {
            Some(swept) => Swept { copies: here.removed, ..swept },
            None => here,
        })
    }

    /// How long after they were put, or last renewed, objects of an object store are renewed when they are put or
    /// [`renew`](Self::renew)ed again; 12 hours where not said. All who put into the same store should say the same, and who
    /// [sweeps](Self::sweep) it spares what is not two times as old. In a folder of this machine each use renews.
    #[must_use]
    pub fn renew_after(self, age: Duration) -> Self {
        if let Some(remote) = &self.0.remote {
            remote.renewal.set(age);
        }
        self
    }
}
