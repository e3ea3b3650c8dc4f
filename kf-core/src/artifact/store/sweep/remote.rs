//! Sweeping an object store.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use futures::{FutureExt, StreamExt, TryStreamExt, stream};
use object_store::path::Path as Key;
use object_store::{
    GetOptions, GetRange, ObjectMeta, ObjectStoreExt, PutMode, PutOptions, PutPayload, UpdateVersion,
};

use super::super::local::missing;
use super::super::manifest::Manifest;
use super::super::patience::{answer, patiently};
use super::super::remote::Remote;
use super::{Pile, Sweep, Swept};
use crate::mutex::locked;
use crate::{Digest, Error, Result};

/// The object that says who sweeps and what is about to be removed.
const SWEEP: &str = "sweep";
/// Objects whose times are when others were renewed lie below it.
const USED: &str = "used";
/// A sweep that says nothing for so long is dead.
const DEAD: Duration = Duration::from_secs(600);
/// So many objects are said to be about to be removed at once.
const BATCH: usize = 500;
/// So many calls are on their way at once.
const CALLS: usize = 16;
/// How often a sweep is asked whether it is done with an object.
const ASK: Duration = Duration::from_millis(200);
/// So many renewals are remembered; past that the memory starts anew.
const REMEMBERED: usize = 1 << 14;
const RENEW_AFTER: Duration = Duration::from_secs(12 * 3600);

/// When objects are renewed.
#[derive(Debug)]
pub(in crate::artifact::store) struct Renewal {
    after_ms: AtomicU64,
    /// When objects were renewed here.
    known: Mutex<HashMap<Digest, SystemTime>>,
}

impl Default for Renewal {
    fn default() -> Self {
        let renewal = Self { after_ms: AtomicU64::new(0), known: Mutex::default() };
        renewal.set(RENEW_AFTER);
        renewal
    }
}

impl Renewal {
    pub(super) fn set(&self, after: Duration) {
        let ms = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
        self.after_ms.store(ms, Ordering::Relaxed);
    }

    fn after(&self) -> Duration {
        Duration::from_millis(self.after_ms.load(Ordering::Relaxed))
    }

    fn is_due(&self, digest: &Digest, meta: &ObjectMeta) -> bool {
        let known = locked(&self.known).get(digest).copied();
        let young = |time: SystemTime| match SystemTime::now().duration_since(time) {
            Ok(since) => since < self.after(),
            Err(_) => true,
        };
        !young(meta.last_modified.into()) && !known.is_some_and(young)
    }

    fn note(&self, digest: &Digest, at: SystemTime) {
        let mut known = locked(&self.known);
        if known.len() >= REMEMBERED {
            known.clear();
        }
        known.insert(*digest, at);
    }
}

/// An object that is out of reach and old.
struct Old {
    digest: Digest,
    meta: ObjectMeta,
}

/// The right to sweep, until it ends or `DEAD` has passed since it was last written.
struct Turn {
    version: UpdateVersion,
    written: Instant,
}

impl Turn {
    /// Whether all that wait for it, or for its end, still do.
    fn holds(&self) -> bool {
        self.written.elapsed() < DEAD / 2
    }
}

impl Remote {
    fn used(digest: &Digest) -> Key {
        let hex = digest.to_hex();
        Key::from_iter([USED, &hex[..2], &hex])
    }

    /// Whether an object that was just found is there and stays, for it is young or was made so.
    pub(in crate::artifact::store) async fn stays(&self, digest: &Digest, meta: &ObjectMeta) -> Result<bool> {
        if !self.renewal.is_due(digest, meta) {
            return Ok(true);
        }
        let now = SystemTime::now();
        let key = Self::used(digest);
        patiently(digest, || answer(self.objects.put(&key, PutPayload::default()))).await?;
        while self.about_to_remove().await?.contains(digest) {
            tokio::time::sleep(ASK).await;
        }
        let stays = self.head(digest).await?.is_some_and(|found| found.size == meta.size);
        if stays {
            self.renewal.note(digest, now);
        }
        Ok(stays)
    }

    /// As [`verify`](Self::verify); then the object is young.
    pub(in crate::artifact::store) async fn renew(&self, digest: &Digest) -> Result<Option<Arc<Manifest>>> {
        let manifest = self.verify(digest).await?;
        let stays = patiently(digest, || async {
            let meta = self.head(digest).await?.ok_or_else(|| missing(digest))?;
            self.stays(digest, &meta).await
        });
        if stays.await? { Ok(manifest) } else { Err(missing(digest)) }
    }

    /// What a sweep that lives is about to remove.
    async fn about_to_remove(&self) -> Result<HashSet<Digest>> {
        let key = Key::from(SWEEP);
        let text = patiently(&Digest::of(SWEEP), || async {
            let found = match answer(self.objects.get(&key)).await {
                Err(Error::ObjectStore(object_store::Error::NotFound { .. })) => return Ok(Bytes::new()),
                found => found?,
            };
            if older(&found.meta, DEAD) {
                return Ok(Bytes::new());
            }
            answer(found.bytes()).await
        })
        .await?;
        let digests = text.split(|byte| *byte == b'\n').filter_map(|line| std::str::from_utf8(line).ok());
        Ok(digests.filter_map(|line| line.parse().ok()).collect())
    }

    /// Removes objects that are out of reach and old; adds the files of reachable folders to `reachable`.
    pub(super) async fn sweep(&self, reachable: &mut HashSet<Digest>, sweep: &Sweep) -> Result<Swept> {
        if sweep.min_age < self.renewal.after() * 2 {
            return Err(Error::Invalid {
                what: "least age of what is removed from an object store",
                found: format!("{:?}", sweep.min_age),
                expected: "two times what `renew_after` was given, or longer; a day where it was not",
            });
        }
        let found = self.list("sha256").await?;
        let needed = reachable.iter().filter_map(|digest| Some((*digest, found.get(digest)?.size)));
        let files = stream::iter(needed.collect::<Vec<_>>())
            .map(|(digest, size)| self.files_of(digest, size))
            .buffer_unordered(CALLS)
            .try_concat()
            .await?;
        reachable.extend(files);

        let mut used = self.list(USED).await?;
        let mut swept = Swept::default();
        let mut old = Vec::new();
        for (digest, meta) in found {
            let renewed = used.remove(&digest);
            if reachable.contains(&digest) {
                swept.kept.add(meta.size);
            } else if older(&meta, sweep.min_age) && renewed.is_none_or(|used| older(&used, sweep.min_age)) {
                old.push(Old { digest, meta });
            } else {
                swept.young.add(meta.size);
            }
        }
        if sweep.dry_run {
            old.iter().for_each(|old| swept.removed.add(old.meta.size));
            return Ok(swept);
        }
        if old.is_empty() && used.is_empty() {
            return Ok(swept);
        }
        let mut turn = self.take_turn().await?;
        let done = self.remove_all(&old, sweep.min_age, &mut turn, &mut swept).await;
        // Renewed, and gone since: by who removes by hand.
        let orphans = used.into_iter().filter(|(_, meta)| older(meta, sweep.min_age));
        let orphans: Vec<Key> = orphans.map(|(digest, _)| Self::used(&digest)).collect();
        let done = match done {
            Ok(()) => self.delete(orphans).await,
            failed => failed,
        };
        // Where the turn was lost, it is another's.
        if turn.holds() && !matches!(done, Err(Error::Held { .. })) {
            self.delete(vec![Key::from(SWEEP)]).await?;
        }
        done.map(|()| swept)
    }

    async fn remove_all(
        &self,
        old: &[Old],
        min_age: Duration,
        turn: &mut Turn,
        swept: &mut Swept,
    ) -> Result<()> {
        for batch in old.chunks(BATCH) {
            let mode = PutMode::Update(turn.version.clone());
            let announced = self.announce(mode, batch.iter().map(|old| &old.digest)).await?;
            *turn = announced.ok_or_else(|| self.held())?;
            let looks: Vec<_> = batch.iter().map(|old| self.is_unused(old, min_age)).collect();
            let looks: Vec<bool> = stream::iter(looks).buffered(CALLS).try_collect().await?;
            let unused: Vec<&Old> =
                batch.iter().zip(looks).filter_map(|(old, unused)| unused.then_some(old)).collect();
            let (mut spared, mut removed) = (Pile::default(), Pile::default());
            batch.iter().for_each(|old| spared.add(old.meta.size));
            // Who waits may have lost patience, or the turn may be another's.
            if turn.holds() {
                self.delete(unused.iter().map(|old| Self::key(&old.digest)).collect()).await?;
                self.delete(unused.iter().map(|old| Self::used(&old.digest)).collect()).await?;
                unused.iter().for_each(|old| removed.add(old.meta.size));
            }
            swept.removed.objects += removed.objects;
            swept.removed.bytes += removed.bytes;
            swept.young.objects += spared.objects - removed.objects;
            swept.young.bytes += spared.bytes - removed.bytes;
        }
        Ok(())
    }

    /// Whether nobody has put or renewed an object since it was listed. To be asked after it was announced.
    async fn is_unused(&self, old: &Old, min_age: Duration) -> Result<bool> {
        let same = |now: ObjectMeta| now.last_modified == old.meta.last_modified;
        if !self.head(&old.digest).await?.is_some_and(same) {
            return Ok(false);
        }
        let used = self.meta(&old.digest, &Self::used(&old.digest)).await?;
        Ok(used.is_none_or(|used| older(&used, min_age)))
    }

    /// Begins to sweep, unless another does.
    async fn take_turn(&self) -> Result<Turn> {
        if let Some(turn) = self.announce(PutMode::Create, std::iter::empty()).await? {
            return Ok(turn);
        }
        let there = self.meta(&Digest::of(SWEEP), &Key::from(SWEEP)).await?;
        let dead = there.filter(|meta| older(meta, DEAD)).ok_or_else(|| self.held())?;
        let version = UpdateVersion { e_tag: dead.e_tag, version: dead.version };
        let turn = self.announce(PutMode::Update(version), std::iter::empty()).await?;
        turn.ok_or_else(|| self.held())
    }

    fn held(&self) -> Error {
        Error::Held {
            what: "sweep of the artifact store",
            name: self.base.clone(),
            holder: format!("another, which wrote `{}{SWEEP}` lately", self.base),
        }
    }

    /// Says what is about to be removed next; none where that is another's to say.
    async fn announce<'d>(
        &self,
        mode: PutMode,
        digests: impl Iterator<Item = &'d Digest>,
    ) -> Result<Option<Turn>> {
        // Like no other, for versions that are told from the content.
        let mut text = format!("{}\n", uuid::Uuid::new_v4());
        digests.for_each(|digest| text.push_str(&format!("{digest}\n")));
        let (key, text, written) = (Key::from(SWEEP), Bytes::from(text), Instant::now());
        let turn = patiently(&Digest::of(SWEEP), || async {
            let options = PutOptions { mode: mode.clone(), ..PutOptions::default() };
            match answer(self.objects.put_opts(&key, text.clone().into(), options)).await {
                Err(Error::ObjectStore(
                    object_store::Error::Precondition { .. } | object_store::Error::AlreadyExists { .. },
                )) => {}
                put => {
                    return put.map(|put| Some(UpdateVersion { e_tag: put.e_tag, version: put.version }));
                }
            }
            // Perhaps by a try before this one, whose answer did not arrive.
            let there = match answer(self.objects.get(&key)).await {
                Err(Error::ObjectStore(object_store::Error::NotFound { .. })) => return Ok(None),
                there => there?,
            };
            let version =
                UpdateVersion { e_tag: there.meta.e_tag.clone(), version: there.meta.version.clone() };
            Ok((answer(there.bytes()).await? == text).then_some(version))
        })
        .await?;
        Ok(turn.map(|version| Turn { version, written }))
    }

    async fn delete(&self, keys: Vec<Key>) -> Result<()> {
        let all = Digest::of(SWEEP);
        patiently(&all, || async {
            let keys = stream::iter(keys.clone().into_iter().map(Ok)).boxed();
            let mut deleted = self.objects.delete_stream(keys);
            loop {
                match answer(deleted.next().map(Option::transpose)).await {
                    Ok(None) => return Ok(()),
                    Ok(Some(_)) | Err(Error::ObjectStore(object_store::Error::NotFound { .. })) => {}
                    Err(error) => return Err(error),
                }
            }
        })
        .await
    }

    /// The objects below a folder, by the digests that they are named by.
    async fn list(&self, folder: &str) -> Result<HashMap<Digest, ObjectMeta>> {
        let prefix = Key::from(folder);
        patiently(&Digest::of(folder), || async {
            let mut list = self.objects.list(Some(&prefix));
            let mut found = HashMap::new();
            while let Some(meta) = answer(list.next().map(Option::transpose)).await? {
                let named = meta.location.filename().map(|name| format!("sha256:{name}"));
                if let Some(digest) = named.and_then(|name| name.parse::<Digest>().ok()) {
                    found.insert(digest, meta);
                }
            }
            Ok(found)
        })
        .await
    }

    /// The files of an object that is a folder's list.
    async fn files_of(&self, digest: Digest, size: u64) -> Result<Vec<Digest>> {
        let key = Self::key(&digest);
        let get = |bytes: u64| {
            let options = GetOptions { range: Some(GetRange::Bounded(0..bytes)), ..GetOptions::default() };
            answer(async { self.objects.get_opts(&key, options).await?.bytes().await })
        };
        // An empty one has no range.
        if size == 0 {
            return Ok(Vec::new());
        }
        let list = patiently(&digest, || async {
            match get(size.min(64)).await {
                Ok(beginning) if Manifest::may_begin(&beginning) => get(size).await.map(Some),
                Err(Error::ObjectStore(object_store::Error::NotFound { .. })) => Ok(None),
                other => other.map(|_| None),
            }
        });
        let manifest = list.await?.and_then(|list| Manifest::parse(&list));
        let files = manifest.map_or_else(Vec::new, |manifest| manifest.files);
        Ok(files.into_iter().map(|file| file.digest).collect())
    }
}

/// Whether an object is older; one of a time to come is not.
fn older(meta: &ObjectMeta, age: Duration) -> bool {
    SystemTime::now().duration_since(meta.last_modified.into()).is_ok_and(|since| since > age)
}
