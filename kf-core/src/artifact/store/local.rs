//! Objects in a folder of this machine, by digest.

use std::collections::HashSet;
use std::fs::{self, File, FileTimes, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use tempfile::NamedTempFile;

use super::manifest::{self, Entry, Manifest};
use super::staging::Staging;
use crate::mutex::locked;
use crate::{Digest, Error, Hasher, Result};

/// So many verified files are remembered; past that the memory starts anew.
const REMEMBERED: usize = 1 << 16;
/// The modification time of every object: one that was written to later shows it, however soon after.
const OBJECT_TIME: Duration = Duration::from_secs(1);

/// Objects under `root/sha256/ab/<hex>`, folders made from them under `root/folders/<hex>`, unfinished work under
/// `root/staging/`.
#[derive(Debug)]
pub(super) struct Local {
    pub(super) root: PathBuf,
    pub(super) staging: Staging,
    verified: Mutex<HashSet<(Digest, Identity)>>,
}

/// What tells that a file is still the one that was hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Identity {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

impl Identity {
    fn of(meta: &fs::Metadata) -> Self {
        Self {
            device: meta.dev(),
            inode: meta.ino(),
            size: meta.size(),
            modified: (meta.mtime(), meta.mtime_nsec()),
        }
    }

    /// Whether a later write is sure to show: file times move in steps of some milliseconds.
    fn is_settled(self) -> bool {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_secs()).is_ok_and(|now| now - self.modified.0 > 1)
    }
}

/// What a caller lets happen to the file that is put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// It stays.
    Lent,
    /// It is moved, where that can be done.
    Given,
}

impl Local {
    pub(super) fn open(root: &Path) -> Result<Self> {
        fs::create_dir_all(root).map_err(Error::io("create", root))?;
        let root = root.canonicalize().map_err(Error::io("resolve", root))?;
        let staging = Staging::open(&root.join("staging"))?;
        Ok(Self { root, staging, verified: Mutex::default() })
    }

    /// Where an object lies, or would.
    pub(super) fn object(&self, digest: &Digest) -> PathBuf {
        let hex = digest.to_hex();
        self.root.join("sha256").join(&hex[..2]).join(hex)
    }

    /// Where a folder is laid out.
    pub(super) fn folder(&self, digest: &Digest) -> PathBuf {
        self.root.join("folders").join(digest.to_hex())
    }

    /// Stores a file's content.
    pub(super) fn put_file(&self, path: &Path, source: Source) -> Result<(Digest, u64)> {
        // Not through a link, and not waiting for a pipe's other end.
        let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
        let mut file = OpenOptions::new()
            .read(true)
            .custom_flags(flags.bits().cast_signed())
            .open(path)
            .map_err(Error::io("open", path))?;
        let meta = file.metadata().map_err(Error::io("look at", path))?;
        if !meta.is_file() {
            return Err(manifest::refuse(path, manifest::kind_expected(&meta)));
        }
        // What has a second name could still be written to through it.
        if source == Source::Given && meta.nlink() == 1 {
            let (digest, size) = hash(&mut file).map_err(Error::io("read", path))?;
            if self.move_in(path, &file, &digest)? {
                return Ok((digest, size));
            }
            file = File::open(path).map_err(Error::io("open", path))?;
        }
        let mut staged = self.staging.file()?;
        let (digest, size) = copy(&mut file, staged.as_file_mut(), path)?;
        self.publish(staged, &digest)?;
        if source == Source::Given {
            fs::remove_file(path).map_err(Error::io("remove", path))?;
        }
        Ok((digest, size))
    }

    /// Moves a file of this digest in, and gives its size; none where it must be copied and hashed.
    pub(super) fn move_hashed(&self, path: &Path, digest: &Digest) -> Result<Option<u64>> {
        let meta = fs::symlink_metadata(path).map_err(Error::io("look at", path))?;
        if !meta.is_file() || meta.nlink() != 1 {
            return Ok(None);
        }
        let file = File::open(path).map_err(Error::io("open", path))?;
        Ok(self.move_in(path, &file, digest)?.then_some(meta.len()))
    }

    /// Moves a hashed file to its digest; false where it must be copied after all.
    fn move_in(&self, path: &Path, file: &File, digest: &Digest) -> Result<bool> {
        if !same_device(path, &self.root) || finish(file).is_err() {
            return Ok(false);
        }
        match self.rename_in(path, digest) {
            // One file system that is mounted twice, as volumes of a pod are.
            Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::CrossesDevices => Ok(false),
            moved => moved.map(|()| true),
        }
    }

    /// Stores bytes.
    pub(super) fn put_bytes(&self, bytes: &[u8]) -> Result<Digest> {
        let digest = Digest::of(bytes);
        let mut staged = self.staging.file()?;
        staged.write_all(bytes).map_err(Error::io("write", staged.path()))?;
        self.publish(staged, &digest)?;
        Ok(digest)
    }

    /// Stores a folder's files and then its manifest.
    pub(super) fn put_folder(&self, path: &Path, source: Source) -> Result<(Digest, Manifest)> {
        let listing = manifest::list(path)?;
        let mut files = Vec::with_capacity(listing.files.len());
        for file in listing.files {
            let (digest, size) = self.put_file(&file.full, source)?;
            files.push(Entry { path: file.path, size, digest, executable: file.executable });
        }
        let manifest = Manifest::new(files, listing.empty);
        let digest = self.put_bytes(&manifest.to_bytes())?;
        if source == Source::Given {
            fs::remove_dir_all(path).map_err(Error::io("remove", path))?;
        }
        Ok((digest, manifest))
    }

    /// Makes a whole staged file visible under its digest.
    pub(super) fn publish(&self, staged: NamedTempFile, digest: &Digest) -> Result<()> {
        if self.is_remembered(digest, &self.object(digest)) && self.renew(digest).is_ok() {
            return Ok(());
        }
        finish(staged.as_file()).map_err(Error::io("write", staged.path()))?;
        let (_, path) = staged.into_parts();
        self.rename_in(&path, digest)?;
        // It has moved; there is nothing left to remove.
        let _ = path.keep();
        Ok(())
    }

    fn rename_in(&self, from: &Path, digest: &Digest) -> Result<()> {
        let object = self.object(digest);
        let parent = object.parent().unwrap_or(&self.root);
        fs::create_dir_all(parent).map_err(Error::io("create", parent))?;
        let _use = self.in_use()?;
        fs::rename(from, &object).map_err(Error::io("move into place", &object))?;
        let meta = fs::metadata(&object).map_err(Error::io("look at", &object))?;
        self.remember(digest, Identity::of(&meta));
        Ok(())
    }

    /// That the object is there and has its digest.
    pub(super) fn check_object(&self, digest: &Digest) -> Result<PathBuf> {
        let object = self.object(digest);
        self.check(&object, digest)?;
        Ok(object)
    }

    /// That a file has this digest; hashed only where it was not, or has changed since.
    pub(super) fn check(&self, path: &Path, digest: &Digest) -> Result<()> {
        let mut file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(missing(digest)),
            opened => opened.map_err(Error::io("open", path))?,
        };
        let before = Identity::of(&file.metadata().map_err(Error::io("look at", path))?);
        if self.lock().contains(&(*digest, before)) {
            return Ok(());
        }
        let (found, _) = hash(&mut file).map_err(Error::io("read", path))?;
        if found != *digest {
            return Err(corrupt(path, digest, &found));
        }
        let after = Identity::of(&file.metadata().map_err(Error::io("look at", path))?);
        if before == after {
            self.remember(digest, after);
        }
        Ok(())
    }

    /// The folder that an object describes, where it is a manifest. The object must have been checked.
    pub(super) fn manifest(&self, digest: &Digest) -> Result<Option<Manifest>> {
        let object = self.object(digest);
        let mut file = File::open(&object).map_err(Error::io("open", &object))?;
        let mut content = Vec::new();
        (&mut file).take(64).read_to_end(&mut content).map_err(Error::io("read", &object))?;
        if !Manifest::may_begin(&content) {
            return Ok(None);
        }
        file.read_to_end(&mut content).map_err(Error::io("read", &object))?;
        Ok(Manifest::parse(&content))
    }

    /// A small object's content, checked.
    pub(super) fn read(&self, digest: &Digest) -> Result<Vec<u8>> {
        let object = self.object(digest);
        let content = match fs::read(&object) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(missing(digest)),
            content => content.map_err(Error::io("read", &object))?,
        };
        let found = Digest::of(&content);
        if found == *digest { Ok(content) } else { Err(corrupt(&object, digest, &found)) }
    }

    /// Removes an object, and the folder made from it. One that is not there is removed already.
    pub(super) fn remove(&self, digest: &Digest) -> Result<()> {
        let folder = self.folder(digest);
        let aside = self.staging.folder()?;
        match fs::rename(&folder, aside.path().join("removed")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(Error::io("remove", folder)(error));
            }
            _ => {}
        }
        let object = self.object(digest);
        match fs::remove_file(&object) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::io("remove", object)(error)),
            _ => Ok(()),
        }
    }

    /// Copies an object to a new file of a folder that is being laid out.
    pub(super) fn copy_out(&self, entry: &Entry, to: &Path) -> Result<()> {
        let object = self.object(&entry.digest);
        let mut from = File::open(&object).map_err(Error::io("open", &object))?;
        let mut file = File::create_new(to).map_err(Error::io("create", to))?;
        let (found, _) = copy(&mut from, &mut file, &object)?;
        if found != entry.digest {
            return Err(corrupt(&object, &entry.digest, &found));
        }
        finish_as(&file, if entry.executable { 0o555 } else { 0o444 }).map_err(Error::io("write", to))?;
        let meta = file.metadata().map_err(Error::io("look at", to))?;
        self.remember(&entry.digest, Identity::of(&meta));
        Ok(())
    }

    fn is_remembered(&self, digest: &Digest, path: &Path) -> bool {
        fs::metadata(path).is_ok_and(|meta| self.lock().contains(&(*digest, Identity::of(&meta))))
    }

    fn remember(&self, digest: &Digest, identity: Identity) {
        if !identity.is_settled() {
            return;
        }
        let mut verified = self.lock();
        if verified.len() >= REMEMBERED {
            verified.clear();
        }
        verified.insert((*digest, identity));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashSet<(Digest, Identity)>> {
        locked(&self.verified)
    }
}

pub(super) fn missing(digest: &Digest) -> Error {
    Error::NotFound { what: "artifact", name: digest.to_string() }
}

pub(super) fn corrupt(name: &Path, expected: &Digest, found: &Digest) -> Error {
    Error::Corrupt {
        name: name.display().to_string(),
        expected: expected.to_string(),
        found: found.to_string(),
    }
}

/// Makes an object of a written file: on disk, read-only, with the time that all objects have.
fn finish(file: &File) -> io::Result<()> {
    finish_as(file, 0o444)
}

fn finish_as(file: &File, mode: u32) -> io::Result<()> {
    file.sync_data()?;
    file.set_times(FileTimes::new().set_modified(SystemTime::UNIX_EPOCH + OBJECT_TIME))?;
    file.set_permissions(Permissions::from_mode(mode))
}

fn same_device(a: &Path, b: &Path) -> bool {
    matches!((fs::metadata(a), fs::metadata(b)), (Ok(a), Ok(b)) if a.dev() == b.dev())
}

fn hash(file: &mut File) -> io::Result<(Digest, u64)> {
    let mut hasher = Hasher::new();
    let size = pass(file, |piece| {
        hasher.update(piece);
        Ok(())
    })?;
    Ok((hasher.finish(), size))
}

/// Copies and hashes in one pass; `from_path` names the source in errors.
fn copy(from: &mut File, to: &mut File, from_path: &Path) -> Result<(Digest, u64)> {
    let mut hasher = Hasher::new();
    let size = pass(from, |piece| {
        hasher.update(piece);
        to.write_all(piece)
    })
    .map_err(Error::io("copy", from_path))?;
    Ok((hasher.finish(), size))
}

fn pass(from: &mut File, mut each: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<u64> {
    let mut buffer = vec![0; 256 * 1024];
    let mut size = 0;
    loop {
        let read = match from.read(&mut buffer) {
            Ok(0) => return Ok(size),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        each(&buffer[..read])?;
        size += read as u64;
    }
}
