//! Where artifacts' bytes lie.

mod layout;
mod local;
mod manifest;
mod patience;
mod remote;
#[cfg(feature = "s3")]
mod s3;
mod staging;
mod sweep;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use object_store::ObjectStore;
use object_store::local::LocalFileSystem;
use object_store::prefix::PrefixStore;

use self::local::{Local, Source};
use self::manifest::Manifest;
use self::remote::Remote;
#[cfg(feature = "s3")]
pub use self::s3::S3Options;
pub use self::sweep::{Pile, Sweep, Swept};
use crate::{Digest, Error, Result};

/// What was stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The content's name.
    pub digest: Digest,
    /// Bytes of the file, or of a folder's files added up.
    pub size: u64,
    /// Whether it is a folder.
    pub folder: bool,
}

/// Files and folders by the digest of their content.
///
/// An object appears whole or not at all, whatever happens to the process that writes it, and the same content is
/// kept once. Content goes through in pieces, so memory does not grow with it. It is hashed as it comes in, and
/// again when it is fetched for the first time in a process or after the file has changed; then what does not have
/// its digest is [`Error::Corrupt`].
///
/// A folder is kept as the list of its files (path, size, digest, executable bit) under that list's digest, each
/// file under its own; a file whose content is such a list, byte for byte, is taken for the folder. Empty folders
/// are kept; times, owners and other permissions are not, nor the executable bit of a file that is put alone.
///
/// Clones share one store. Many processes may use one folder.
///
/// ```
/// use kf_core::artifact::ArtifactStore;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// let store = ArtifactStore::local(folder.path())?;
/// let stored = store.put_bytes("a,b\n1,2\n".into()).await?;
/// let path = store.fetch(&stored.digest).await?;
/// assert_eq!(std::fs::read(path)?, b"a,b\n1,2\n");
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct ArtifactStore(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    local: Local,
    remote: Option<Remote>,
}

/// What is done for each file of a folder.
#[derive(Clone, Copy, Debug)]
enum Act {
    Upload,
    Bring,
    Verify,
    Renew,
}

impl ArtifactStore {
    /// A store in a folder of this machine, made where it is missing. What processes that were killed left
    /// unfinished in it is removed.
    ///
    /// # Errors
    /// [`Error::Io`] where the folder can't be made or written.
    pub fn local(root: impl AsRef<Path>) -> Result<Self> {
        Self::open(root.as_ref(), None)
    }

    /// A store in memory, for tests. Files are fetched into the folder `scratch`.
    ///
    /// # Errors
    /// [`Error::Io`] where the folder can't be made or written.
    pub fn in_memory(scratch: impl AsRef<Path>) -> Result<Self> {
        let memory = Arc::new(object_store::memory::InMemory::new());
        Self::with_base(memory, "memory:///", scratch)
    }

    /// A store in any object store. The folder `scratch` keeps a copy of what was put and fetched here; it may be
    /// removed when nobody uses the store.
    ///
    /// # Errors
    /// [`Error::Io`] where the folder can't be made or written.
    pub fn new(objects: Arc<dyn ObjectStore>, scratch: impl AsRef<Path>) -> Result<Self> {
        Self::with_base(objects, "object:///", scratch)
    }

    /// As [`new`](Self::new), with what [`uri`](Self::uri) begins with, such as `s3://bucket/prefix`.
    ///
    /// # Errors
    /// [`Error::Io`] where the folder can't be made or written.
    pub fn with_base(objects: Arc<dyn ObjectStore>, base: &str, scratch: impl AsRef<Path>) -> Result<Self> {
        let base = if base.ends_with('/') { base.to_owned() } else { format!("{base}/") };
        Self::open(scratch.as_ref(), Some(Remote::new(objects, base)))
    }

    fn open(root: &Path, remote: Option<Remote>) -> Result<Self> {
        Ok(Self(Arc::new(Inner { local: Local::open(root)?, remote })))
    }

    /// Stores a copy of a file or of a whole folder.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the path where something is neither file nor folder (symbolic links are not
    /// followed) or has a name that is not UTF-8 or has control characters or backslashes in it; [`Error::Io`]
    /// where it can't be read or there is no room. Then nothing of it is visible, or only whole files of a folder.
    pub async fn put_path(&self, path: &Path) -> Result<Stored> {
        self.put(path.to_owned(), Source::Lent).await
    }

    /// As [`put_path`](Self::put_path), and `path` is gone afterwards: moved where it is on the store's own file
    /// system, so that its size does not matter to the disk. Nobody may write to it any more. A folder for which
    /// this fails may have lost files to the store.
    ///
    /// # Errors
    /// Those of [`put_path`](Self::put_path).
    pub async fn put_path_owned(&self, path: &Path) -> Result<Stored> {
        self.put(path.to_owned(), Source::Given).await
    }

    /// As [`put_path_owned`](Self::put_path_owned) for a file that the caller has hashed while it was written. Where the
    /// digest is not the file's, it is found out when the content is fetched by another process or store.
    ///
    /// # Errors
    /// Those of [`put_path`](Self::put_path).
    pub async fn put_path_hashed(&self, path: &Path, digest: Digest) -> Result<Stored> {
        let from = path.to_owned();
        let moved = self.blocking(move |local| local.move_hashed(&from, &digest)).await?;
        let Some(size) = moved else { return self.put_path_owned(path).await };
        if let Some(remote) = &self.0.remote {
            remote.upload(&self.0.local, &digest).await?;
        }
        Ok(Stored { digest, size, folder: false })
    }

    async fn put(&self, path: PathBuf, source: Source) -> Result<Stored> {
        let (stored, manifest) = self.blocking(move |local| put(local, &path, source)).await?;
        if let Some(remote) = &self.0.remote {
            if let Some(manifest) = manifest {
                self.each(&manifest, Act::Upload).await?;
            }
            remote.upload(&self.0.local, &stored.digest).await?;
        }
        Ok(stored)
    }

    /// Stores bytes.
    ///
    /// # Errors
    /// [`Error::Io`] where there is no room, [`Error::ObjectStore`] where the object store refuses.
    pub async fn put_bytes(&self, bytes: Bytes) -> Result<Stored> {
        let size = bytes.len() as u64;
        let digest = self.blocking(move |local| local.put_bytes(&bytes)).await?;
        if let Some(remote) = &self.0.remote {
            remote.upload(&self.0.local, &digest).await?;
        }
        Ok(Stored { digest, size, folder: false })
    }

    /// The path of a file or folder with this content, to be read only. What was changed in a folder that was
    /// fetched before is put right.
    ///
    /// # Errors
    /// [`Error::NotFound`] where the store has no such object, or not all files of a folder; [`Error::Corrupt`]
    /// with both digests where one has changed.
    pub async fn fetch(&self, digest: &Digest) -> Result<PathBuf> {
        self.bring(digest).await?;
        let digest = *digest;
        let manifest = self.blocking(move |local| local.manifest(&digest)).await?;
        let Some(manifest) = manifest else { return Ok(self.0.local.object(&digest)) };
        if self.0.remote.is_some() {
            self.each(&manifest, Act::Bring).await?;
        }
        self.blocking(move |local| {
            manifest.files.iter().try_for_each(|file| local.check_object(&file.digest).map(drop))?;
            local.lay_out(&digest, &manifest)
        })
        .await
    }

    /// The whole content of a small file.
    ///
    /// # Errors
    /// Those of [`fetch`](Self::fetch), and [`Error::Invalid`] for a folder.
    pub async fn read(&self, digest: &Digest) -> Result<Bytes> {
        if self.0.remote.is_some() {
            self.bring(digest).await?;
        }
        let digest = *digest;
        let content = self.blocking(move |local| local.read(&digest)).await?;
        if Manifest::parse(&content).is_some() {
            return Err(Error::Invalid {
                what: "artifact to read",
                found: digest.to_string(),
                expected: "a file; this is a folder, which can be fetched",
            });
        }
        Ok(content.into())
    }

    /// That the content is there, whole and unchanged; of a folder, each file.
    ///
    /// # Errors
    /// [`Error::NotFound`] where something is missing, [`Error::Corrupt`] where something has changed.
    pub async fn verify(&self, digest: &Digest) -> Result<()> {
        self.checked(digest, Act::Verify).await
    }

    /// As [`verify`](Self::verify), and the content counts as just put: a [`sweep`](Self::sweep) spares it for as long.
    /// For what a commit is about to name that others have put long ago.
    ///
    /// # Errors
    /// Those of [`verify`](Self::verify).
    pub async fn renew(&self, digest: &Digest) -> Result<()> {
        self.checked(digest, Act::Renew).await
    }

    async fn checked(&self, digest: &Digest, act: Act) -> Result<()> {
        if let Some(remote) = &self.0.remote {
            let manifest = match act {
                Act::Renew => remote.renew(digest).await?,
                _ => remote.verify(digest).await?,
            };
            return match manifest {
                Some(manifest) => self.each(&manifest, act).await,
                None => Ok(()),
            };
        }
        let digest = *digest;
        self.blocking(move |local| {
            let check = |digest: &Digest| {
                // Renewed first: what is there after the check stays.
                if matches!(act, Act::Renew) {
                    local.renew(digest)?;
                }
                local.check_object(digest).map(drop)
            };
            check(&digest)?;
            let files = local.manifest(&digest)?.map_or_else(Vec::new, |manifest| manifest.files);
            files.iter().try_for_each(|file| check(&file.digest))
        })
        .await
    }

    /// Whether there is an object of this name. It is not read.
    ///
    /// # Errors
    /// [`Error::ObjectStore`] where the object store can't be asked.
    pub async fn contains(&self, digest: &Digest) -> Result<bool> {
        match &self.0.remote {
            Some(remote) => Ok(remote.head(digest).await?.is_some()),
            None => Ok(self.0.local.object(digest).is_file()),
        }
    }

    /// Where the object lies, or would: `file:///…` in a local store.
    pub fn uri(&self, digest: &Digest) -> String {
        match &self.0.remote {
            Some(remote) => format!("{}{}", remote.base, Remote::key(digest)),
            None => file_uri(&self.0.local.object(digest)),
        }
    }

    /// A place in the store for objects with names of their own, which are no artifacts: below the folder `beside/NAME`.
    /// Collecting garbage leaves them, and who makes them removes them.
    ///
    /// # Errors
    /// [`Error::Invalid`] where the name is not one plain part of a path; [`Error::Io`] where a local store's folder can't be
    /// made.
    pub fn beside(&self, name: &str) -> Result<Arc<dyn ObjectStore>> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        if name.is_empty() || !name.bytes().all(plain) {
            let expected = "one part of a path, of letters, digits, `-` and `_`";
            return Err(Error::Invalid {
                what: "place beside the artifacts",
                found: name.to_owned(),
                expected,
            });
        }
        match &self.0.remote {
            Some(remote) => {
                let prefix = object_store::path::Path::from_iter(["beside", name]);
                Ok(Arc::new(PrefixStore::new(Arc::clone(&remote.objects), prefix)))
            }
            None => {
                let folder = self.0.local.root.join("beside").join(name);
                fs::create_dir_all(&folder).map_err(Error::io("create", &folder))?;
                let store = LocalFileSystem::new_with_prefix(&folder);
                Ok(Arc::new(store.map_err(|error| Error::io("open", &folder)(std::io::Error::other(error)))?))
            }
        }
    }

    /// Removes an object. Of a folder, only the list is removed: its files may belong to others too. What is not
    /// there is removed already.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::ObjectStore`] where it can't be removed.
    pub async fn remove(&self, digest: &Digest) -> Result<()> {
        if let Some(remote) = &self.0.remote {
            remote.remove(digest).await?;
        }
        let digest = *digest;
        self.blocking(move |local| local.remove(&digest)).await
    }

    /// Makes sure that a checked copy of the object is on this machine.
    async fn bring(&self, digest: &Digest) -> Result<()> {
        let (wanted, is_copy) = (*digest, self.0.remote.is_some());
        let here = self.blocking(move |local| {
            // A copy is not put again when its original is, so that its use alone tells that it is needed.
            if is_copy && local.object(&wanted).exists() {
                local.renew(&wanted)?;
            }
            local.check_object(&wanted).map(drop)
        });
        match (here.await, &self.0.remote) {
            (Err(Error::NotFound { .. } | Error::Corrupt { .. }), Some(remote)) => {
                let staged = remote.download(&self.0.local, digest).await?;
                self.blocking(move |local| local.publish(staged, &wanted)).await
            }
            (here, _) => here,
        }
    }

    /// Does something for each file of a folder, some at a time.
    async fn each(&self, manifest: &Manifest, act: Act) -> Result<()> {
        let mut left = manifest.files.iter().map(|file| file.digest).collect::<BTreeSet<_>>().into_iter();
        let mut running: FuturesUnordered<_> =
            left.by_ref().take(8).map(|file| self.one(act, file)).collect();
        while let Some(done) = running.next().await {
            done?;
            running.extend(left.next().map(|file| self.one(act, file)));
        }
        Ok(())
    }

    async fn one(&self, act: Act, digest: Digest) -> Result<()> {
        match (act, &self.0.remote) {
            (Act::Upload, Some(remote)) => remote.upload(&self.0.local, &digest).await,
            (Act::Verify, Some(remote)) => remote.verify(&digest).await.map(drop),
            (Act::Renew, Some(remote)) => remote.renew(&digest).await.map(drop),
            _ => self.bring(&digest).await,
        }
    }

    /// Works on the local folder off the runtime's threads.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Local) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let inner = Arc::clone(&self.0);
        match tokio::task::spawn_blocking(move || work(&inner.local)).await {
            Ok(result) => result,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(error) => Err(Error::Process(format!("the runtime is shutting down: {error}"))),
            },
        }
    }
}

fn put(local: &Local, path: &Path, source: Source) -> Result<(Stored, Option<Manifest>)> {
    let meta = fs::symlink_metadata(path).map_err(Error::io("look at", path))?;
    if meta.is_dir() {
        let (digest, manifest) = local.put_folder(path, source)?;
        return Ok((Stored { digest, size: manifest.size(), folder: true }, Some(manifest)));
    }
    if !meta.is_file() {
        return Err(manifest::refuse(path, manifest::kind_expected(&meta)));
    }
    let (digest, size) = local.put_file(path, source)?;
    Ok((Stored { digest, size, folder: false }, None))
}

/// A path as a URI (RFC 8089), what is not plain in percent signs.
fn file_uri(path: &Path) -> String {
    use std::fmt::Write;
    use std::os::unix::ffi::OsStrExt;

    let mut uri = "file://".to_owned();
    for &byte in path.as_os_str().as_bytes() {
        if byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte) {
            uri.push(char::from(byte));
        } else {
            let _ = write!(uri, "%{byte:02X}");
        }
    }
    uri
}
