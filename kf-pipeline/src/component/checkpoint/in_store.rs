//! A task's checkpoints in the artifact store, for attempts that each run at a place of their own.
//!
//! The files of [`Log`](super::log::Log) are brought from there before they are read, and each record is an object of its
//! own, named as such a file is. Once there is much, what is of use is put anew as one. All of a run goes when it is over.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use kf_core::RunId;
use kf_core::artifact::ArtifactStore;
use object_store::path::Path as Key;
use object_store::{ObjectStore, ObjectStoreExt};
use tokio::runtime::Runtime;

use super::Place;
use super::log::{LARGEST_FILE, Log, SLACK, file_name, order};
use crate::mutex::locked;

/// The folder in the store.
const FOLDER: &str = "checkpoints";
/// So many objects are put before they become one.
const MANY: usize = 64;
/// So many are fetched, or removed, at a time.
const AT_ONCE: usize = 8;
/// How often objects are listed anew that are gone when they are fetched: an earlier attempt that is still there may make
/// one of many.
const TRIES: usize = 5;
/// How long the store may take.
const PATIENCE: Duration = Duration::from_secs(300);

/// Opens the store.
pub(crate) type Open = dyn Fn() -> kf_core::Result<ArtifactStore> + Send + Sync;

/// What attempts at a task have saved in the store.
#[derive(Clone)]
pub(crate) struct InStore(Arc<Inner>);

struct Inner {
    open: Arc<Open>,
    /// Of the task and its inputs.
    folder: Key,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Who asks the store, once that was needed. A thread of its own: whoever saves may be one of the runtime's only thread.
    requests: Option<Sender<(Request, Sender<Answer>)>>,
    /// The names of the objects that are known, and their bytes.
    names: Vec<String>,
    bytes: u64,
    /// The number of this attempt's next object.
    next: u32,
}

enum Request {
    /// Into this folder, what attempts up to this one have saved.
    Fetch {
        folder: PathBuf,
        up_to: (u64, u32),
    },
    Put {
        name: String,
        content: Bytes,
    },
    Remove {
        names: Vec<String>,
    },
}

/// The names of what was fetched, and the bytes.
type Answer = Result<Vec<(String, u64)>, String>;

impl fmt::Debug for InStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("InStore").field(&self.0.folder.as_ref()).finish()
    }
}

/// Removes what the tasks of a run have saved in a store.
pub(crate) async fn remove_run(store: &ArtifactStore, run: &RunId) {
    let removed = async {
        let store = store.beside(FOLDER).map_err(|error| error.to_string())?;
        let all = store.list(Some(&Key::from(run.as_str()))).map_ok(|meta| meta.location).boxed();
        remove(&*store, all).await.map_err(|error| error.to_string())
    };
    if let Err(error) = removed.await {
        tracing::warn!(%run, error, "what its tasks saved in the store was not removed");
    }
}

impl InStore {
    /// Below this folder, whose parts tell the run, the task and its inputs from others; the run's id is the first.
    pub(crate) fn new(open: Arc<Open>, folder: &[&str]) -> Self {
        Self(Arc::new(Inner { open, folder: folder.iter().copied().collect(), state: Mutex::default() }))
    }

    /// Fetches what the attempts up to this one have saved into the folder of the place.
    pub(super) fn bring(&self, place: &Place) -> io::Result<()> {
        let mut state = locked(&self.0.state);
        let own = (place.epoch, place.attempt);
        let fetched = self.ask(&mut state, Request::Fetch { folder: place.folder.clone(), up_to: own })?;
        for (name, bytes) in fetched {
            if let Some((epoch, attempt, number)) = order(&name)
                && (epoch, attempt) == own
            {
                state.next = state.next.max(number.saturating_add(1));
            }
            state.bytes += bytes;
            state.names.push(name);
        }
        Ok(())
    }

    /// Saves a record that is yet to be added to the log of an attempt.
    pub(super) fn put(&self, place: &Place, log: &Log, record: &str) -> io::Result<()> {
        let mut state = locked(&self.0.state);
        let much = state.names.len() >= MANY || state.bytes > 2 * log.live() + SLACK;
        let (old, content) = match much {
            true => (state.names.clone(), [log.text()?.as_str(), record].concat()),
            false => (Vec::new(), record.to_owned()),
        };
        let (name, bytes) = (file_name((place.epoch, place.attempt, state.next)), content.len() as u64);
        // Another try of it is another object: this one may come late.
        state.next += 1;
        self.ask(&mut state, Request::Put { name: name.clone(), content: content.into() })?;
        state.names.push(name);
        state.bytes += bytes;
        if much {
            state.names.drain(..old.len());
            state.bytes = bytes;
            if let Err(error) = self.ask(&mut state, Request::Remove { names: old }) {
                tracing::warn!(folder = %self.0.folder, %error, "objects of a checkpoint of no use were not removed");
            }
        }
        Ok(())
    }

    fn ask(&self, state: &mut State, request: Request) -> io::Result<Vec<(String, u64)>> {
        let requests = match &state.requests {
            Some(requests) => requests,
            None => {
                let (sender, receiver) = channel();
                let (open, folder) = (Arc::clone(&self.0.open), self.0.folder.clone());
                let thread = std::thread::Builder::new().name("kf-checkpoints".into());
                thread.spawn(move || serve(&*open, &folder, &receiver))?;
                state.requests.insert(sender)
            }
        };
        let (sender, receiver) = channel();
        let ended = || io::Error::other("the thread that asks the store has ended");
        requests.send((request, sender)).map_err(|_| ended())?;
        let answer = receiver.recv_timeout(PATIENCE);
        answer.map_err(|_| io::Error::other("the artifact store does not answer"))?.map_err(io::Error::other)
    }
}

type Opened = (Runtime, Arc<dyn ObjectStore>);

fn opened(open: &Open) -> Result<Opened, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    let store = open().and_then(|store| store.beside(FOLDER));
    Ok((runtime, store.map_err(|error| format!("the artifact store can't be opened: {error}"))?))
}

/// Does what is asked for, until nobody may ask any more.
fn serve(open: &Open, folder: &Key, requests: &Receiver<(Request, Sender<Answer>)>) {
    let mut there = None;
    for (request, answer) in requests {
        let opened = match there.take() {
            Some(opened) => Ok(opened),
            None => opened(open),
        };
        let answered = opened.and_then(|opened: Opened| {
            let (runtime, store) = there.insert(opened);
            runtime.block_on(done(&**store, folder, request))
        });
        let _ = answer.send(answered);
    }
}

async fn done(store: &dyn ObjectStore, folder: &Key, request: Request) -> Answer {
    let told = |error: object_store::Error| error.to_string();
    match request {
        Request::Fetch { folder: into, up_to } => {
            let mut tries = 1;
            loop {
                match fetched(store, folder, &into, up_to).await {
                    Err(object_store::Error::NotFound { .. }) if tries < TRIES => tries += 1,
                    fetched => return fetched.map_err(told),
                }
            }
        }
        Request::Put { name, content } => {
            let put = store.put(&folder.clone().join(name), content.into()).await;
            put.map(|_| Vec::new()).map_err(told)
        }
        Request::Remove { names } => {
            let keys: Vec<_> = names.into_iter().map(|name| Ok(folder.clone().join(name))).collect();
            remove(store, stream::iter(keys).boxed()).await.map(|()| Vec::new()).map_err(told)
        }
    }
}

/// Removes objects, of which some may be gone.
async fn remove(
    store: &dyn ObjectStore,
    keys: stream::BoxStream<'static, object_store::Result<Key>>,
) -> object_store::Result<()> {
    let removed = store.delete_stream(keys);
    let left = removed
        .filter(|removed| std::future::ready(!matches!(removed, Err(object_store::Error::NotFound { .. }))));
    left.try_for_each(|_| std::future::ready(Ok(()))).await
}

/// Fetches the files of leases and attempts up to these into a folder.
async fn fetched(
    store: &dyn ObjectStore,
    folder: &Key,
    into: &Path,
    up_to: (u64, u32),
) -> object_store::Result<Vec<(String, u64)>> {
    let own =
        |source: io::Error| object_store::Error::Generic { store: "checkpoints", source: source.into() };
    let listed: Vec<_> = store.list(Some(folder)).try_collect().await?;
    let wanted: Vec<_> = listed
        .into_iter()
        .filter_map(|meta| {
            let name = meta.location.filename()?.to_owned();
            let (epoch, attempt, _) = order(&name)?;
            ((epoch, attempt) <= up_to && meta.size <= LARGEST_FILE).then_some((name, meta))
        })
        .collect();
    if !wanted.is_empty() {
        fs::create_dir_all(into).map_err(own)?;
    }
    let fetches = wanted.into_iter().map(|(name, meta)| async move {
        let content = store.get(&meta.location).await?.bytes().await?;
        fs::write(into.join(&name), content).map_err(own)?;
        Ok((name, meta.size))
    });
    stream::iter(fetches).buffered(AT_ONCE).try_collect().await
}

#[cfg(test)]
mod tests {
    use super::super::{Checkpoints, Place};
    use std::sync::atomic::Ordering::SeqCst;

    use super::*;
    use crate::component::Context;

    struct World {
        store: ArtifactStore,
        _folder: tempfile::TempDir,
    }

    impl World {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            Self { store: ArtifactStore::in_memory(folder.path()).unwrap(), _folder: folder }
        }

        /// An attempt at a place of its own, which nothing else has seen.
        fn attempt(&self, epoch: u64, attempt: u32) -> (Context, tempfile::TempDir) {
            let (store, folder) = (self.store.clone(), tempfile::tempdir().unwrap());
            let stored = InStore::new(Arc::new(move || Ok(store.clone())), &["run", "task", "inputs"]);
            let mut context = Context::detached(folder.path());
            let place = Place { epoch, attempt, ..Place::below(folder.path()) };
            context.checkpoints = Checkpoints::in_store(move || place, stored);
            (context, folder)
        }

        async fn objects(&self) -> usize {
            let store = self.store.beside(FOLDER).unwrap();
            store.list(None).try_collect::<Vec<_>>().await.unwrap().len()
        }
    }

    #[tokio::test(flavor = "current_thread")]
    async fn what_was_saved_at_one_place_is_found_at_the_next() {
        let world = World::new();
        let (first, ..) = world.attempt(1, 1);
        assert_eq!(first.saved::<u32>("a").unwrap(), None);
        assert_eq!(world.objects().await, 0);
        first.save("a", &1).unwrap();
        assert_eq!(first.once_async("b", async { Ok(2) }).await.unwrap(), 2);
        let (second, _place) = world.attempt(1, 2);
        assert_eq!(second.once::<u32>("a", || panic!("it was done")).unwrap(), 1);
        // The first is not gone yet.
        first.save("a", &7).unwrap();
        second.save("a", &3).unwrap();
        let (third, ..) = world.attempt(2, 1);
        assert_eq!((third.saved("a").unwrap(), third.saved("b").unwrap()), (Some(3), Some(2)));
        assert_eq!(world.attempt(1, 1).0.saved("a").unwrap(), Some(7), "the past does not see what comes");
        remove_run(&world.store, &"other".parse().unwrap()).await;
        assert_ne!(world.objects().await, 0);
        remove_run(&world.store, &"run".parse().unwrap()).await;
        assert_eq!(world.objects().await, 0);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn many_become_one() {
        let world = World::new();
        for attempt in 1..=3 {
            let (context, ..) = world.attempt(1, attempt);
            for step in 0..100 {
                context.save("step", &(attempt, step)).unwrap();
                context.save(&format!("of {attempt}"), &step).unwrap();
            }
            assert!(world.objects().await <= MANY + 1);
        }
        let (context, _place) = world.attempt(2, 1);
        assert_eq!(context.saved("step").unwrap(), Some((3, 99)));
        assert_eq!(context.saved("of 1").unwrap(), Some(99));
    }

    /// By their bytes, too.
    #[tokio::test(flavor = "current_thread")]
    async fn what_is_replaced_takes_little_room() {
        let world = World::new();
        let (context, _place) = world.attempt(1, 1);
        for step in 0..20 {
            context.save("state", &(step, "x".repeat(1 << 20))).unwrap();
        }
        let store = world.store.beside(FOLDER).unwrap();
        let sizes = store.list(None).map_ok(|meta| meta.size).try_collect::<Vec<_>>().await.unwrap();
        assert!(sizes.iter().sum::<u64>() < 5 << 20, "{sizes:?}");
        assert_eq!(world.attempt(1, 2).0.saved::<(u32, String)>("state").unwrap().unwrap().0, 19);
    }

    /// And is saved once it does: the next time.
    #[test]
    fn a_store_that_opens_later() {
        let (world, fails) = (World::new(), std::sync::atomic::AtomicU32::new(1));
        let store = world.store.clone();
        let open = move || match fails.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)) {
            Ok(_) => Err(kf_core::Error::io("open", "bucket")(io::Error::other("not now"))),
            Err(_) => Ok(store.clone()),
        };
        let stored = InStore::new(Arc::new(open), &["run", "task", "inputs"]);
        let folder = tempfile::tempdir().unwrap();
        let mut context = Context::detached(folder.path());
        let place = Place::below(folder.path());
        context.checkpoints = Checkpoints::in_store(move || place, stored);
        assert!(context.save("a", &1).unwrap_err().to_string().contains("not now"));
        assert_eq!(context.saved::<u32>("a").unwrap(), None, "it was not saved");
        context.save("a", &2).unwrap();
        assert_eq!(context.saved::<u32>("a").unwrap(), Some(2));
    }

    #[test]
    fn a_store_that_does_not_open_is_named() {
        let stored = InStore::new(
            Arc::new(|| Err(kf_core::Error::io("open", "bucket")(io::Error::other("no such bucket")))),
            &["a"],
        );
        let folder = tempfile::tempdir().unwrap();
        let mut context = Context::detached(folder.path());
        let place = Place::below(folder.path());
        context.checkpoints = Checkpoints::in_store(move || place, stored);
        let problem = context.save("a", &1).unwrap_err().to_string();
        assert!(problem.contains("checkpoint `a`") && problem.contains("no such bucket"), "{problem}");
    }
}
