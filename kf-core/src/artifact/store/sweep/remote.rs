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
use super::super::patience::{answer, broken, patiently};
use super::super::remote::Remote;
use super::{Sweep, Swept};
use crate::mutex::locked;
use crate::{Digest, Error, Result};

/// The object that says who sweeps and what is about to be removed.
const SWEEP: &str = "sweep";
/// Objects whose times are when others were renewed lie below it.
const USED: &str = "used";
/// An object that is written to learn the store's time.
const CLOCK: &str = "clock";
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
    /// The last announcement whose sweep was found dead.
    dead: Mutex<Option<String>>,
}

impl Default for Renewal {
    fn default() -> Self {
        let renewal = Self { after_ms: AtomicU64::new(0), known: Mutex::default(), dead: Mutex::default() };
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

    fn is_due(&self, digest: &Digest, modified: SystemTime) -> bool {
        let known = locked(&self.known).get(digest).copied();
        let young = |time: SystemTime| match SystemTime::now().duration_since(time) {
            Ok(since) => since < self.after(),
            Err(_) => true,
        };
        !young(modified) && !known.is_some_and(young)
    }

    fn note(&self, digest: &Digest, at: SystemTime) {
        let mut known = locked(&self.known);
        if known.len() >= REMEMBERED {
            known.clear();
        }
        known.insert(*digest, at);
    }
}

/// An object as it was listed.
#[derive(Clone, Copy)]
struct Listed {
    size: u64,
    modified: SystemTime,
}

impl From<ObjectMeta> for Listed {
    fn from(meta: ObjectMeta) -> Self {
        Self { size: meta.size, modified: meta.last_modified.into() }
    }
}

/// An object that is out of reach and old.
struct Old {
    digest: Digest,
    size: u64,
}

/// The right to sweep, until it ends or `DEAD` has passed since it was last written.
struct Turn {
    version: UpdateVersion,
    written: Instant,
    /// The same by a clock that goes on while the machine is suspended.
    written_at: SystemTime,
    /// Whether a removal was asked for that may still be carried out.
    uncertain: bool,
}

impl Turn {
    fn new(version: UpdateVersion) -> Self {
        Self { version, written: Instant::now(), written_at: SystemTime::now(), uncertain: false }
    }

    /// For how long all that wait for it, or for its end, surely do.
    fn left(&self) -> Duration {
        let slept = self.written_at.elapsed().unwrap_or(DEAD);
        (DEAD / 2).saturating_sub(self.written.elapsed().max(slept))
    }
}

impl Remote {
    fn used(digest: &Digest) -> Key {
        let hex = digest.to_hex();
        Key::from_iter([USED, &hex[..2], &hex])
    }

    /// Whether an object that was just found is there and stays, for it is young or was made so.
    pub(in crate::artifact::store) async fn stays(&self, digest: &Digest, meta: &ObjectMeta) -> Result<bool> {
        if !self.renewal.is_due(digest, meta.last_modified.into()) {
            return Ok(true);
        }
        let now = SystemTime::now();
        let key = Self::used(digest);
        patiently(digest, || answer(self.objects.put(&key, PutPayload::default()))).await?;
        self.wait_for_sweep(digest).await?;
        let stays = self.head(digest).await?.is_some_and(|found| found.size == meta.size);
        if stays {
            self.renewal.note(digest, now);
        }
        Ok(stays)
    }

    /// As [`verify`](Self::verify); then the object is young.
    pub(in crate::artifact::store) async fn renew(&self, digest: &Digest) -> Result<Option<Arc<Manifest>>> {
        let (meta, manifest) = self.verified(digest).await?;
        if self.stays(digest, &meta).await? { Ok(manifest) } else { Err(missing(digest)) }
    }

    /// Waits while a sweep is about to remove this object, and tells whether one was: it may be gone then. What was put or
    /// renewed before this was asked, and is there when it returns, stays.
    pub(in crate::artifact::store) async fn wait_for_sweep(&self, digest: &Digest) -> Result<bool> {
        let mut waiting: Option<(String, Instant)> = None;
        loop {
            let Some(announcement) = self.announcement_of(digest).await? else {
                return Ok(waiting.is_some());
            };
            if locked(&self.renewal.dead).as_ref() == Some(&announcement) {
                return Ok(true);
            }
            match &waiting {
                Some((same, since)) if *same == announcement => {
                    if since.elapsed() > DEAD {
                        tracing::warn!(%digest, "a sweep has said nothing for {DEAD:?}; it is taken for dead");
                        *locked(&self.renewal.dead) = Some(announcement);
                        return Ok(true);
                    }
                }
                _ => {
                    tracing::info!(%digest, "waits for a sweep that is about to remove it");
                    waiting = Some((announcement, Instant::now()));
                }
            }
            tokio::time::sleep(ASK).await;
        }
    }

    /// What tells the announcement from others in which a sweep says that it is about to remove this object.
    async fn announcement_of(&self, digest: &Digest) -> Result<Option<String>> {
        let key = Key::from(SWEEP);
        let text = patiently(digest, || async {
            match answer(self.objects.get(&key)).await {
                Err(Error::ObjectStore(object_store::Error::NotFound { .. })) => Ok(Bytes::new()),
                found => answer(found?.bytes()).await,
            }
        })
        .await?;
        let mut lines = text.split(|byte| *byte == b'\n');
        let id = lines.next().unwrap_or_default();
        let wanted = digest.to_string();
        let names = lines.any(|line| line == wanted.as_bytes());
        Ok(names.then(|| String::from_utf8_lossy(id).into_owned()))
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
        let before = if sweep.dry_run { sweep.before() } else { self.by_its_clock(sweep.before()).await? };
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
        for (digest, object) in found {
            let renewed = used.remove(&digest);
            let size = object.size;
            if reachable.contains(&digest) {
                swept.kept.add(size);
            } else if object.modified < before && renewed.is_none_or(|used| used.modified < before) {
                old.push(Old { digest, size });
            } else {
                swept.young.add(size);
            }
        }
        if sweep.dry_run {
            old.iter().for_each(|old| swept.removed.add(old.size));
            return Ok(swept);
        }
        // Renewed, and gone since: by who removes by hand.
        let orphans = used.into_iter().filter(|(_, used)| used.modified < before);
        let orphans: Vec<Key> = orphans.map(|(digest, _)| Self::used(&digest)).collect();
        if old.is_empty() && orphans.is_empty() {
            return Ok(swept);
        }
        let mut turn = self.take_turn().await?;
        let mut done = self.remove_all(&old, before, &mut turn, &mut swept).await;
        if done.is_ok() {
            done = self.delete(orphans, &mut turn).await;
        }
        // Where the turn was lost, it is another's; where a removal may still come, who puts is to wait.
        if !turn.uncertain && !turn.left().is_zero() && !matches!(done, Err(Error::Held { .. })) {
            self.delete(vec![Key::from(SWEEP)], &mut turn).await?;
        }
        done.map(|()| swept)
    }

    /// A time of this machine's clock by the store's.
    async fn by_its_clock(&self, time: SystemTime) -> Result<SystemTime> {
        let key = Key::from(CLOCK);
        let name = Digest::of(CLOCK);
        let here = SystemTime::now();
        patiently(&name, || answer(self.objects.put(&key, PutPayload::default()))).await?;
        let there = self.meta(&name, &key).await?.map(|meta| SystemTime::from(meta.last_modified));
        // Best effort: it is empty, and written over by the next.
        let _ = answer(self.objects.delete(&key)).await;
        let Some(there) = there else { return Ok(time) };
        Ok(match there.duration_since(here) {
            Ok(ahead) => time + ahead,
            Err(behind) => time - behind.duration(),
        })
    }

    async fn remove_all(
        &self,
        old: &[Old],
        before: SystemTime,
        turn: &mut Turn,
        swept: &mut Swept,
    ) -> Result<()> {
        for batch in old.chunks(BATCH) {
            let mode = PutMode::Update(turn.version.clone());
            let announced = self.announce(mode, batch.iter().map(|old| &old.digest)).await?;
            *turn = announced.ok_or_else(|| self.held())?;
            let looks: Vec<_> = batch.iter().map(|old| self.is_unused(old, before)).collect();
            let looks: Vec<bool> = stream::iter(looks).buffered(CALLS).try_collect().await?;
            let (unused, spared): (Vec<_>, Vec<_>) = batch.iter().zip(looks).partition(|(_, unused)| *unused);
            let keys = |key: fn(&Digest) -> Key| unused.iter().map(|(old, _)| key(&old.digest)).collect();
            self.delete(keys(Self::key), turn).await?;
            self.delete(keys(Self::used), turn).await?;
            unused.iter().for_each(|(old, _)| swept.removed.add(old.size));
            spared.iter().for_each(|(old, _)| swept.young.add(old.size));
        }
        Ok(())
    }

    /// Whether nobody has put or renewed an object since it was listed. To be asked after it was announced.
    async fn is_unused(&self, old: &Old, before: SystemTime) -> Result<bool> {
        let is_old = |meta: ObjectMeta| SystemTime::from(meta.last_modified) < before;
        if !self.head(&old.digest).await?.is_some_and(|meta| meta.size == old.size && is_old(meta)) {
            return Ok(false);
        }
        let used = self.meta(&old.digest, &Self::used(&old.digest)).await?;
        Ok(used.is_none_or(is_old))
    }

    /// Begins to sweep, unless another does.
    async fn take_turn(&self) -> Result<Turn> {
        if let Some(turn) = self.announce(PutMode::Create, std::iter::empty()).await? {
            return Ok(turn);
        }
        let there = self.meta(&Digest::of(SWEEP), &Key::from(SWEEP)).await?.ok_or_else(|| self.held())?;
        let long_ago = self.by_its_clock(SystemTime::now() - DEAD).await?;
        if SystemTime::from(there.last_modified) > long_ago {
            return Err(self.held());
        }
        let version = UpdateVersion { e_tag: there.e_tag, version: there.version };
        let turn = self.announce(PutMode::Update(version), std::iter::empty()).await?;
        turn.ok_or_else(|| self.held())
    }

    fn held(&self) -> Error {
        Error::Held {
            what: "sweep of the artifact store",
            name: self.base.clone(),
            holder: format!("another, which wrote `{}{SWEEP}` less than {DEAD:?} ago", self.base),
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
        let (key, text) = (Key::from(SWEEP), Bytes::from(text));
        let turn = Turn::new(UpdateVersion { e_tag: None, version: None });
        let version = patiently(&Digest::of(SWEEP), || async {
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
        Ok(version.map(|version| Turn { version, ..turn }))
    }

    /// Removes objects, as long as the turn lasts.
    async fn delete(&self, keys: Vec<Key>, turn: &mut Turn) -> Result<()> {
        if keys.is_empty() {
            return Ok(());
        }
        let all = Digest::of(SWEEP);
        let deleting = patiently(&all, || async {
            let keys = stream::iter(keys.clone().into_iter().map(Ok)).boxed();
            let mut deleted = self.objects.delete_stream(keys);
            loop {
                match answer(deleted.next().map(Option::transpose)).await {
                    Ok(None) => return Ok(()),
                    Ok(Some(_)) | Err(Error::ObjectStore(object_store::Error::NotFound { .. })) => {}
                    Err(error) => return Err(error),
                }
            }
        });
        let left = turn.left();
        if left.is_zero() {
            return Err(self.held());
        }
        turn.uncertain = true;
        let late = || broken(format!("objects were not removed within {left:?}"));
        tokio::time::timeout(left, deleting).await.unwrap_or_else(|_| Err(late()))?;
        turn.uncertain = false;
        Ok(())
    }

    /// The objects below a folder, by the digests that they are named by.
    async fn list(&self, folder: &str) -> Result<HashMap<Digest, Listed>> {
        let prefix = Key::from(folder);
        patiently(&Digest::of(folder), || async {
            let mut list = self.objects.list(Some(&prefix));
            let mut found = HashMap::new();
            while let Some(meta) = answer(list.next().map(Option::transpose)).await? {
                let named = meta.location.filename().map(|name| format!("sha256:{name}"));
                if let Some(digest) = named.and_then(|name| name.parse::<Digest>().ok()) {
                    found.insert(digest, meta.into());
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
