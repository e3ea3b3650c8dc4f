//! A task's checkpoints in the artifact store, for attempts that each run at a place of their own.
//!
//! The files of [`Log`](super::log::Log) are brought from there before they are read, and each record is an object of its
//! own, named as such a file is. Once there are many, what is of use is put anew as one.

use std::fmt;
use std::fs;
use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use kf_core::artifact::ArtifactStore;
use object_store::path::Path as Key;
use object_store::{ObjectStore, ObjectStoreExt};

use super::Place;
use super::log::{LARGEST_FILE, file_name, order};
use crate::mutex::locked;

/// The folder in the store.
const FOLDER: &str = "checkpoints";
/// So many objects are put before they become one.
const MANY: usize = 64;
/// So many are fetched at a time.
const AT_ONCE: usize = 16;
/// How often objects are listed anew that are gone when they are fetched: an earlier attempt that is still there may make
/// one of many.
const TRIES: usize = 5;

/// Opens the store.
pub(crate) type Open = dyn Fn() -> kf_core::Result<ArtifactStore> + Send + Sync;

/// What attempts at a task have saved in the store.
#[derive(Clone)]
pub(crate) struct Carried(Arc<Inner>);

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
    /// The names of the objects that are known.
    names: Vec<String>,
    /// The number of this attempt's next object.
    next: u32,
}

enum Request {
    Fetch { up_to: (u64, u32) },
    Put { name: String, content: Bytes },
    Remove { names: Vec<String> },
}

type Answer = Result<Vec<(String, Bytes)>, String>;

impl fmt::Debug for Carried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Carried").field(&self.0.folder.as_ref()).finish()
    }
}

impl Carried {
    /// Below this folder, whose parts tell the run, the task and its inputs from others.
    pub(crate) fn new(open: Arc<Open>, folder: &[&str]) -> Self {
        Self(Arc::new(Inner { open, folder: folder.iter().copied().collect(), state: Mutex::default() }))
    }

    /// Fetches what the attempts up to this one have saved into the folder of the place.
    pub(super) fn bring(&self, place: &Place) -> io::Result<()> {
        let mut state = locked(&self.0.state);
        let own = (place.epoch, place.attempt);
        let fetched = self.ask(&mut state, Request::Fetch { up_to: own })?;
        if !fetched.is_empty() {
            fs::create_dir_all(&place.folder)?;
        }
        for (name, content) in fetched {
            fs::write(place.folder.join(&name), content)?;
            if let Some((epoch, attempt, number)) = order(&name)
                && (epoch, attempt) == own
            {
                state.next = state.next.max(number.saturating_add(1));
            }
            state.names.push(name);
        }
        Ok(())
    }

    /// Saves a record of an attempt; `all` gives every record that is of use, this one among them.
    pub(super) fn put(
        &self,
        place: &Place,
        record: String,
        all: impl FnOnce() -> io::Result<String>,
    ) -> io::Result<()> {
        let mut state = locked(&self.0.state);
        let old = if state.names.len() < MANY { Vec::new() } else { state.names.clone() };
        let content = if old.is_empty() { record } else { all()? };
        let name = file_name((place.epoch, place.attempt, state.next));
        self.ask(&mut state, Request::Put { name: name.clone(), content: content.into() })?;
        state.next += 1;
        state.names.push(name);
        if !old.is_empty() {
            state.names.drain(..old.len());
            if let Err(error) = self.ask(&mut state, Request::Remove { names: old }) {
                tracing::warn!(folder = %self.0.folder, %error, "objects of a checkpoint of no use were not removed");
            }
        }
        Ok(())
    }

    /// Removes what is known to be saved: the task has succeeded.
    pub(crate) fn forget(&self) {
        let mut state = locked(&self.0.state);
        let names = std::mem::take(&mut state.names);
        if names.is_empty() {
            return;
        }
        if let Err(error) = self.ask(&mut state, Request::Remove { names }) {
            tracing::warn!(folder = %self.0.folder, %error, "a checkpoint of no use was not removed");
        }
    }

    fn ask(&self, state: &mut State, request: Request) -> io::Result<Vec<(String, Bytes)>> {
        let requests = state.requests.get_or_insert_with(|| {
            let (sender, receiver) = channel();
            let (open, folder) = (Arc::clone(&self.0.open), self.0.folder.clone());
            std::thread::spawn(move || serve(&*open, &folder, &receiver));
            sender
        });
        let (sender, receiver) = channel();
        let gone = || io::Error::other("the thread that asks the store has ended");
        requests.send((request, sender)).map_err(|_| gone())?;
        receiver.recv().map_err(|_| gone())?.map_err(io::Error::other)
    }
}

/// Does what is asked for, until nobody may ask any more.
fn serve(open: &Open, folder: &Key, requests: &Receiver<(Request, Sender<Answer>)>) {
    let opened = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| error.to_string())?;
        let store = open().and_then(|store| store.beside(FOLDER)).map_err(|error| error.to_string())?;
        Ok::<_, String>((runtime, store))
    };
    let opened = opened();
    for (request, answer) in requests {
        let answered = match &opened {
            Ok((runtime, store)) => {
                runtime.block_on(done(&**store, folder, request)).map_err(|error| error.to_string())
            }
            Err(why) => Err(format!("the artifact store can't be opened: {why}")),
        };
        let _ = answer.send(answered);
    }
}

async fn done(
    store: &dyn ObjectStore,
    folder: &Key,
    request: Request,
) -> object_store::Result<Vec<(String, Bytes)>> {
    match request {
        Request::Fetch { up_to } => {
            for _ in 1..TRIES {
                match fetched(store, folder, up_to).await {
                    Err(object_store::Error::NotFound { .. }) => {}
                    fetched => return fetched,
                }
            }
            fetched(store, folder, up_to).await
        }
        Request::Put { name, content } => {
            store.put(&folder.clone().join(name), content.into()).await.map(|_| Vec::new())
        }
        Request::Remove { names } => {
            let folder = folder.clone();
            let keys = names.into_iter().map(move |name| Ok(folder.clone().join(name)));
            let removed = store.delete_stream(stream::iter(keys).boxed());
            let removed = removed.filter(|removed| {
                std::future::ready(!matches!(removed, Err(object_store::Error::NotFound { .. })))
            });
            removed.try_for_each(|_| std::future::ready(Ok(()))).await.map(|()| Vec::new())
        }
    }
}

/// The files of leases and attempts up to these.
async fn fetched(
    store: &dyn ObjectStore,
    folder: &Key,
    up_to: (u64, u32),
) -> object_store::Result<Vec<(String, Bytes)>> {
    let listed: Vec<_> = store.list(Some(folder)).try_collect().await?;
    let wanted = listed.into_iter().filter_map(|meta| {
        let name = meta.location.filename()?.to_owned();
        let (epoch, attempt, _) = order(&name)?;
        ((epoch, attempt) <= up_to && meta.size <= LARGEST_FILE).then_some((name, meta.location))
    });
    let fetches = wanted.map(|(name, key)| async move {
        Ok::<_, object_store::Error>((name, store.get(&key).await?.bytes().await?))
    });
    stream::iter(fetches).buffered(AT_ONCE).try_collect().await
}

#[cfg(test)]
mod tests {
    use super::super::{Checkpoints, Place};
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
        fn attempt(&self, epoch: u64, attempt: u32) -> (Context, Carried, tempfile::TempDir) {
            let (store, folder) = (self.store.clone(), tempfile::tempdir().unwrap());
            let carried = Carried::new(Arc::new(move || Ok(store.clone())), &["run", "task", "inputs"]);
            let mut context = Context::detached(folder.path());
            let place = Place { epoch, attempt, ..Place::below(folder.path()) };
            context.checkpoints = Checkpoints::carried(move || place, carried.clone());
            (context, carried, folder)
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
        let (second, carried, _place) = world.attempt(1, 2);
        assert_eq!(second.once::<u32>("a", || panic!("it was done")).unwrap(), 1);
        // The first is not gone yet.
        first.save("a", &7).unwrap();
        second.save("a", &3).unwrap();
        let (third, ..) = world.attempt(2, 1);
        assert_eq!((third.saved("a").unwrap(), third.saved("b").unwrap()), (Some(3), Some(2)));
        assert_eq!(world.attempt(1, 1).0.saved("a").unwrap(), Some(7), "the past does not see what comes");
        carried.forget();
        assert_eq!(world.objects().await, 1, "what it did not know of stays");
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
        let (context, carried, _place) = world.attempt(2, 1);
        assert_eq!(context.saved("step").unwrap(), Some((3, 99)));
        assert_eq!(context.saved("of 1").unwrap(), Some(99));
        carried.forget();
        assert_eq!(world.objects().await, 0);
    }

    #[test]
    fn a_store_that_does_not_open_is_named() {
        let carried = Carried::new(
            Arc::new(|| Err(kf_core::Error::io("open", "bucket")(io::Error::other("no such bucket")))),
            &["a"],
        );
        let folder = tempfile::tempdir().unwrap();
        let mut context = Context::detached(folder.path());
        let place = Place::below(folder.path());
        context.checkpoints = Checkpoints::carried(move || place, carried);
        let problem = context.save("a", &1).unwrap_err().to_string();
        assert!(problem.contains("checkpoint `a`") && problem.contains("no such bucket"), "{problem}");
    }
}
