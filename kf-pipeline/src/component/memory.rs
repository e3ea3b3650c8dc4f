//! What tasks gave, kept in memory for the tasks of this process that take it.

use std::any::Any;
use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, Mutex};

use kf_core::Digest;

use crate::mutex::locked;

/// The content of an artifact as a value, and how many bytes it takes.
#[derive(Clone, Debug)]
pub(crate) struct InMemory {
    pub(crate) value: Arc<dyn Any + Send + Sync>,
    pub(crate) bytes: usize,
}

/// A file that a body wrote, hashed meanwhile, and its content as a value.
#[derive(Clone, Debug)]
pub(crate) struct Written {
    pub(crate) digest: Digest,
    pub(crate) value: InMemory,
    identity: (u64, u64, u64, i64, i64),
}

impl Written {
    /// `meta` is what the file is now.
    #[cfg_attr(not(feature = "arrow"), allow(dead_code, reason = "tables are the only values so far"))]
    pub(crate) fn new(digest: Digest, meta: &std::fs::Metadata, value: InMemory) -> Self {
        Self { digest, value, identity: identity(meta) }
    }

    /// Whether the file is still the one that was written.
    pub(crate) fn is_still(&self, path: &Path) -> bool {
        std::fs::symlink_metadata(path).is_ok_and(|meta| identity(&meta) == self.identity)
    }
}

fn identity(meta: &std::fs::Metadata) -> (u64, u64, u64, i64, i64) {
    (meta.dev(), meta.ino(), meta.size(), meta.mtime(), meta.mtime_nsec())
}

/// The values of an engine by the digest of their files; those that were not asked for longest go first.
#[derive(Clone, Debug)]
pub(crate) struct Memory(Arc<Mutex<Kept>>);

#[derive(Debug)]
struct Kept {
    room: usize,
    used: usize,
    /// Counts uses.
    now: u64,
    values: HashMap<Digest, (InMemory, u64)>,
}

impl Memory {
    /// With room for so many bytes.
    pub(crate) fn new(room: usize) -> Self {
        Self(Arc::new(Mutex::new(Kept { room, used: 0, now: 0, values: HashMap::new() })))
    }

    #[cfg_attr(not(feature = "arrow"), allow(dead_code, reason = "tables are the only values so far"))]
    pub(crate) fn get(&self, digest: &Digest) -> Option<Arc<dyn Any + Send + Sync>> {
        let mut kept = locked(&self.0);
        kept.now += 1;
        let now = kept.now;
        let (found, used_at) = kept.values.get_mut(digest)?;
        *used_at = now;
        Some(Arc::clone(&found.value))
    }

    pub(crate) fn keep(&self, digest: Digest, value: InMemory) {
        let mut kept = locked(&self.0);
        if value.bytes > kept.room || kept.values.contains_key(&digest) {
            return;
        }
        while kept.used + value.bytes > kept.room {
            let oldest =
                kept.values.iter().min_by_key(|(_, (_, used_at))| *used_at).map(|(digest, _)| *digest);
            let Some((freed, _)) = oldest.and_then(|oldest| kept.values.remove(&oldest)) else { break };
            kept.used -= freed.bytes;
        }
        kept.now += 1;
        kept.used += value.bytes;
        let now = kept.now;
        kept.values.insert(digest, (value, now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_used_go_first() {
        let value = || InMemory { value: Arc::new(1), bytes: 100 };
        let memory = Memory::new(250);
        let digests = ["a", "b", "c"].map(Digest::of);
        memory.keep(digests[0], value());
        memory.keep(digests[1], value());
        assert!(memory.get(&digests[0]).is_some());
        memory.keep(digests[2], value());
        assert!(memory.get(&digests[1]).is_none());
        assert!(memory.get(&digests[0]).is_some() && memory.get(&digests[2]).is_some());
        memory.keep(digests[1], InMemory { value: Arc::new(1), bytes: 251 });
        assert!(memory.get(&digests[1]).is_none() && memory.get(&digests[2]).is_some());
    }

    #[test]
    fn a_file_that_was_changed_is_another() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, "one").unwrap();
        let meta = path.metadata().unwrap();
        let written = Written::new(Digest::of("one"), &meta, InMemory { value: Arc::new(1), bytes: 1 });
        assert!(written.is_still(&path));
        std::fs::write(&path, "four").unwrap();
        assert!(!written.is_still(&path));
        std::fs::remove_file(&path).unwrap();
        assert!(!written.is_still(&path));
    }
}
