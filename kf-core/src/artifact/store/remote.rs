//! Objects in an object store, by digest.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures::stream::{BoxStream, FuturesUnordered};
use futures::{FutureExt, StreamExt};
use object_store::path::Path as Key;
use object_store::{
    GetOptions, GetRange, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt, PutPayload,
};
use tempfile::NamedTempFile;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::local::{Local, corrupt, missing};
use super::manifest::Manifest;
use super::patience::{answer, broken, patiently};
use super::sweep::Renewal;
use crate::mutex::locked;
use crate::{Digest, Error, Hasher, Result};

/// Larger files go up and come down in parts of about this size, at most [`PARTS`] at a time.
const PART: u64 = 8 << 20;
const PARTS: usize = 4;
/// So many verified objects are remembered; past that the memory starts anew.
const REMEMBERED: usize = 1 << 14;

/// An object store and what is known of its objects.
#[derive(Debug)]
pub(super) struct Remote {
    pub(super) objects: Arc<dyn ObjectStore>,
    /// What precedes `sha256/…` in an object's URI.
    pub(super) base: String,
    verified: Mutex<HashMap<Digest, Known>>,
    /// Objects that were found to have another content than their name says.
    damaged: Mutex<HashSet<Digest>>,
    pub(super) renewal: Renewal,
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
        Self {
            objects,
            base,
            verified: Mutex::default(),
            damaged: Mutex::default(),
            renewal: Renewal::default(),
        }
    }

    /// An object's key, which is also its place below `base`.
    pub(super) fn key(digest: &Digest) -> Key {
        let hex = digest.to_hex();
        Key::from_iter(["sha256", &hex[..2], &hex])
    }

    pub(super) async fn head(&self, digest: &Digest) -> Result<Option<ObjectMeta>> {
        self.meta(digest, &Self::key(digest)).await
    }

    /// What the store says of an object; none where there is none.
    pub(super) async fn meta(&self, digest: &Digest, key: &Key) -> Result<Option<ObjectMeta>> {
        patiently(digest, || async {
            match answer(self.objects.head(key)).await {
                Err(Error::ObjectStore(object_store::Error::NotFound { .. })) => Ok(None),
                meta => meta.map(Some),
            }
        })
        .await
    }

    pub(super) async fn remove(&self, digest: &Digest) -> Result<()> {
        let key = Self::key(digest);
        patiently(digest, || async {
            match answer(self.objects.delete(&key)).await {
                Err(Error::ObjectStore(object_store::Error::NotFound { .. })) => Ok(()),
                done => done,
            }
        })
        .await
    }

    /// Puts a local object up, unless one of its size is there that nobody here found damaged. Object stores show an
    /// object when it is whole.
    pub(super) async fn upload(&self, local: &Local, digest: &Digest) -> Result<()> {
        patiently(digest, || self.upload_once(local, digest)).await
    }

    async fn upload_once(&self, local: &Local, digest: &Digest) -> Result<()> {
        let path = local.object(digest);
        let file = tokio::fs::File::open(&path).await.map_err(Error::io("open", &path))?;
        let size = file.metadata().await.map_err(Error::io("look at", &path))?.len();
        if !self.is_damaged(digest)
            && let Some(meta) = self.head(digest).await?
            && meta.size == size
            && self.stays(digest, &meta).await?
        {
            return Ok(());
        }
        self.replace(digest, file, &path, size).await?;
        locked(&self.damaged).remove(digest);
        // What was there in its place, or just before, may be what is being removed.
        if self.wait_for_sweep(digest).await? && self.head(digest).await?.is_none() {
            return Err(broken("it was removed by a sweep as it was put".to_owned()));
        }
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
        let part = part_size(size);
        if size <= part {
            let content = read_part(&mut file, part, path).await?;
            answer(self.objects.put(&key, PutPayload::from(content))).await?;
            return Ok(());
        }
        let mut upload = answer(self.objects.put_multipart(&key)).await?;
        match send_parts(upload.as_mut(), &mut file, part, path).await {
            Ok(()) => Ok(()),
            Err(error) => {
                // What fails here is tidied up by a rule of the bucket, where it has one.
                let _ = answer(upload.abort()).await;
                Err(error)
            }
        }
    }

    /// Fetches an object into a file that is to be published, hashed on the way.
    pub(super) async fn download(&self, local: &Local, digest: &Digest) -> Result<NamedTempFile> {
        patiently(digest, || self.download_once(local, digest)).await
    }

    async fn download_once(&self, local: &Local, digest: &Digest) -> Result<NamedTempFile> {
        let staged = local.staging.file()?;
        let path = staged.path().to_owned();
        let copy = staged.as_file().try_clone().map_err(Error::io("open", &path))?;
        let mut file = tokio::fs::File::from_std(copy);
        let (_, mut content) = self.content(digest).await?;
        let mut hasher = Hasher::new();
        while let Some(piece) = content.next().await? {
            hasher.update(&piece);
            file.write_all(&piece).await.map_err(Error::io("write", &path))?;
        }
        file.flush().await.map_err(Error::io("write", &path))?;
        self.compare(digest, &hasher.finish())?;
        Ok(staged)
    }

    /// That the object is there and has its digest, and what it is a manifest of; read only where it was not, or
    /// has changed since.
    pub(super) async fn verify(&self, digest: &Digest) -> Result<Option<Arc<Manifest>>> {
        Ok(self.verified(digest).await?.1)
    }

    /// As [`verify`](Self::verify), with what the store says of the object.
    pub(super) async fn verified(&self, digest: &Digest) -> Result<(ObjectMeta, Option<Arc<Manifest>>)> {
        patiently(digest, || self.verify_once(digest)).await
    }

    async fn verify_once(&self, digest: &Digest) -> Result<(ObjectMeta, Option<Arc<Manifest>>)> {
        let meta = self.head(digest).await?.ok_or_else(|| missing(digest))?;
        let known = locked(&self.verified).get(digest).filter(|known| known.is(&meta)).cloned();
        if let Some(known) = known {
            return Ok((meta, known.manifest));
        }
        let (meta, mut content) = self.content(digest).await?;
        let mut hasher = Hasher::new();
        let mut kept: Option<Vec<u8>> = Some(Vec::new());
        while let Some(piece) = content.next().await? {
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
            e_tag: meta.e_tag.clone(),
            modified: meta.last_modified.timestamp_micros(),
            manifest: manifest.clone(),
        };
        let mut verified = locked(&self.verified);
        if verified.len() >= REMEMBERED {
            verified.clear();
        }
        verified.insert(*digest, known);
        Ok((meta, manifest))
    }

    /// An object's content in order: a small one's as it comes, a large one's in parts, a few of them on their way at a
    /// time, all of the same object.
    async fn content(&self, digest: &Digest) -> Result<(ObjectMeta, Content<'_>)> {
        let key = Self::key(digest);
        let whole = match answer(self.objects.get(&key)).await {
            Err(Error::ObjectStore(object_store::Error::NotFound { .. })) => return Err(missing(digest)),
            whole => whole?,
        };
        let meta = whole.meta.clone();
        if meta.size <= PART {
            return Ok((meta.clone(), Content::new(&meta, whole.into_stream())));
        }
        drop(whole);
        let (size, tag) = (meta.size, meta.e_tag.clone());
        let starts = (0..size.div_ceil(PART)).map(move |n| n * PART);
        let parts = futures::stream::iter(starts).map(move |start| {
            let options = GetOptions {
                if_match: tag.clone(),
                range: Some(GetRange::Bounded(start..size.min(start + PART))),
                ..GetOptions::default()
            };
            let key = key.clone();
            async move { self.objects.get_opts(&key, options).await?.bytes().await }
        });
        let content = Content::new(&meta, parts.buffered(PARTS).boxed());
        Ok((meta, content))
    }

    fn compare(&self, expected: &Digest, found: &Digest) -> Result<()> {
        if expected == found {
            return Ok(());
        }
        locked(&self.damaged).insert(*expected);
        Err(corrupt(format!("{}{}", self.base, Self::key(expected)).as_ref(), expected, found))
    }
}

/// Object stores take 10,000 parts at most: larger objects have larger parts.
fn part_size(size: u64) -> u64 {
    PART.max(size.div_ceil(9000).next_multiple_of(1 << 20))
}

/// The next bytes of a file, at most `part`.
async fn read_part(file: &mut tokio::fs::File, part: u64, path: &Path) -> Result<Vec<u8>> {
    let mut content = Vec::new();
    file.take(part).read_to_end(&mut content).await.map_err(Error::io("read", path))?;
    Ok(content)
}

/// Sends a file in parts, a few at a time, and makes an object of them.
async fn send_parts(
    upload: &mut dyn MultipartUpload,
    file: &mut tokio::fs::File,
    part: u64,
    path: &Path,
) -> Result<()> {
    let mut sending = FuturesUnordered::new();
    loop {
        let content = read_part(file, part, path).await?;
        if content.is_empty() {
            break;
        }
        if sending.len() == PARTS {
            answer(sending.next().map(Option::transpose)).await?;
        }
        sending.push(upload.put_part(content.into()));
    }
    while answer(sending.next().map(Option::transpose)).await?.is_some() {}
    answer(upload.complete()).await.map(drop)
}

/// An object's bytes as they arrive.
struct Content<'a> {
    pieces: BoxStream<'a, object_store::Result<Bytes>>,
    expected: u64,
    read: u64,
}

impl<'a> Content<'a> {
    fn new(meta: &ObjectMeta, pieces: BoxStream<'a, object_store::Result<Bytes>>) -> Self {
        Self { expected: meta.size, read: 0, pieces }
    }

    async fn next(&mut self) -> Result<Option<Bytes>> {
        let piece = answer(self.pieces.next().map(Option::transpose)).await?;
        if let Some(piece) = &piece {
            self.read += piece.len() as u64;
        } else if self.read < self.expected {
            return Err(broken(format!("an object ended after {} of {} bytes", self.read, self.expected)));
        }
        Ok(piece)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_object_fits_into_the_parts_there_are() {
        for size in [1, PART, PART + 1, 5 << 30, 80 << 30, (100 << 30) + 7, 5 << 40] {
            let part = part_size(size);
            assert!(size.div_ceil(part) <= 10_000 && (PART..=5 << 30).contains(&part), "{size}: {part}");
        }
        assert_eq!(part_size(5 << 30), PART);
    }
}
