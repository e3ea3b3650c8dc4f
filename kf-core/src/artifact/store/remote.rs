//! Objects in an object store, by digest.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures::StreamExt;
use object_store::path::Path as Key;
use object_store::{GetResult, ObjectMeta, ObjectStore, ObjectStoreExt, PutPayload, WriteMultipart};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::local::{Local, corrupt, missing};
use super::manifest::Manifest;
use crate::mutex::locked;
use crate::{Digest, Error, Hasher, Result};

/// Larger files go up in parts of this size, at most [`PARTS`] at a time.
const PART: usize = 8 << 20;
const PARTS: usize = 4;
/// So many verified objects are remembered; past that the memory starts anew.
const REMEMBERED: usize = 1 << 14;

/// An object store and what is known of its objects.
#[derive(Debug)]
pub(super) struct Remote {
    objects: Arc<dyn ObjectStore>,
    /// What precedes `sha256/…` in an object's URI.
    pub(super) base: String,
    verified: Mutex<HashMap<Digest, Known>>,
    /// Objects that were found to have another content than their name says.
    damaged: Mutex<HashSet<Digest>>,
}

/// An object as it was when it was hashed.
#[derive(Clone, Debug)]
struct Known {
    size: u64,
    e_tag: Option<String>,
    modified: i64,
    manifest: Option<Arc<Manifest>>,
}

impl Known {
    fn is(&self, meta: &ObjectMeta) -> bool {
        self.size == meta.size
            && self.e_tag == meta.e_tag
            && self.modified == meta.last_modified.timestamp_micros()
    }
}

impl Remote {
    pub(super) fn new(objects: Arc<dyn ObjectStore>, base: String) -> Self {
        Self { objects, base, verified: Mutex::default(), damaged: Mutex::default() }
    }

    /// An object's key, which is also its place below `base`.
    pub(super) fn key(digest: &Digest) -> Key {
        let hex = digest.to_hex();
        Key::from_iter(["sha256", &hex[..2], &hex])
    }

    pub(super) async fn head(&self, digest: &Digest) -> Result<Option<ObjectMeta>> {
        match self.objects.head(&Self::key(digest)).await {
            Ok(meta) => Ok(Some(meta)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    pub(super) async fn remove(&self, digest: &Digest) -> Result<()> {
        match self.objects.delete(&Self::key(digest)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Puts a local object up, unless one of its size is there that nobody here found damaged. Object stores show an object when it is whole.
    pub(super) async fn upload(&self, local: &Local, digest: &Digest) -> Result<()> {
        let path = local.object(digest);
        let file = tokio::fs::File::open(&path).await.map_err(Error::io("open", &path))?;
        let size = file.metadata().await.map_err(Error::io("look at", &path))?.len();
        if !self.is_damaged(digest) && self.head(digest).await?.is_some_and(|meta| meta.size == size) {
            return Ok(());
        }
        self.replace(digest, file, &path, size).await?;
        locked(&self.damaged).remove(digest);
        Ok(())
    }

    fn is_damaged(&self, digest: &Digest) -> bool {
        locked(&self.damaged).contains(digest)
    }

    async fn replace(
        &self,
        digest: &Digest,
        mut file: tokio::fs::File,
        path: &Path,
        size: u64,
    ) -> Result<()> {
        let key = Self::key(digest);
        if size <= PART as u64 {
            let mut content = Vec::with_capacity(usize::try_from(size).unwrap_or(PART));
            file.read_to_end(&mut content).await.map_err(Error::io("read", path))?;
            self.objects.put(&key, PutPayload::from(content)).await?;
            return Ok(());
        }
        let mut upload = WriteMultipart::new_with_chunk_size(self.objects.put_multipart(&key).await?, PART);
        let mut buffer = vec![0; 256 * 1024];
        loop {
            let step = async {
                upload.wait_for_capacity(PARTS).await?;
                let read = file.read(&mut buffer).await.map_err(Error::io("read", path))?;
                upload.write(&buffer[..read]);
                Ok::<_, Error>(read)
            };
            match step.await {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) => {
                    let _ = upload.abort().await;
                    return Err(error);
                }
            }
        }
        upload.finish().await?;
        Ok(())
    }

    /// Fetches an object into the local folder, hashed on the way.
    pub(super) async fn download(&self, local: &Local, digest: &Digest) -> Result<()> {
        let staged = local.staging.file()?;
        let path = staged.path().to_owned();
        let copy = staged.as_file().try_clone().map_err(Error::io("open", &path))?;
        let mut file = tokio::fs::File::from_std(copy);
        let mut content = self.get(digest).await?.into_stream();
        let mut hasher = Hasher::new();
        while let Some(piece) = content.next().await {
            let piece = piece?;
            hasher.update(&piece);
            file.write_all(&piece).await.map_err(Error::io("write", &path))?;
        }
        file.flush().await.map_err(Error::io("write", &path))?;
        self.compare(digest, &hasher.finish())?;
        local.publish(staged, digest)
    }

    /// That the object is there and has its digest, and what it is a manifest of; read only where it was not, or
    /// has changed since.
    pub(super) async fn verify(&self, digest: &Digest) -> Result<Option<Arc<Manifest>>> {
        let meta = self.head(digest).await?.ok_or_else(|| missing(digest))?;
        let known = locked(&self.verified).get(digest).filter(|known| known.is(&meta)).cloned();
        if let Some(known) = known {
            return Ok(known.manifest);
        }
        let result = self.get(digest).await?;
        let meta = result.meta.clone();
        let mut content = result.into_stream();
        let mut hasher = Hasher::new();
        let mut kept: Option<Vec<u8>> = Some(Vec::new());
        while let Some(piece) = content.next().await {
            let piece: Bytes = piece?;
            hasher.update(&piece);
            if let Some(kept) = &mut kept {
                kept.extend_from_slice(&piece);
            }
            kept = kept.filter(|kept| kept.len() < 64 || Manifest::may_begin(kept));
        }
        self.compare(digest, &hasher.finish())?;
        let manifest = kept.and_then(|content| Manifest::parse(&content)).map(Arc::new);
        let known = Known {
            size: meta.size,
            e_tag: meta.e_tag,
            modified: meta.last_modified.timestamp_micros(),
            manifest: manifest.clone(),
        };
        let mut verified = locked(&self.verified);
        if verified.len() >= REMEMBERED {
            verified.clear();
        }
        verified.insert(*digest, known);
        Ok(manifest)
    }

    async fn get(&self, digest: &Digest) -> Result<GetResult> {
        match self.objects.get(&Self::key(digest)).await {
            Err(object_store::Error::NotFound { .. }) => Err(missing(digest)),
            result => Ok(result?),
        }
    }

    fn compare(&self, expected: &Digest, found: &Digest) -> Result<()> {
        if expected == found {
            return Ok(());
        }
        locked(&self.damaged).insert(*expected);
        Err(corrupt(format!("{}{}", self.base, Self::key(expected)).as_ref(), expected, found))
    }
}
