//! Mutexes and semaphores by name, over all runs of all engines that share a metadata store.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use kf_core::backoff::Backoff;
use kf_core::metadata::{Hold, MetadataStore};
use kf_core::{CancellationToken, RunId};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::mutex::locked;

/// How often a place is asked for that another engine has.
const ASKING: Backoff =
    Backoff { initial: Duration::from_millis(20), factor: 1.5, max: Duration::from_secs(1), jitter: 0.3 };
/// How long after a place whose taking was never answered was given back that is done again: a statement that nobody waits
/// for may be carried out late.
const AGAIN: [Duration; 4] =
    [Duration::ZERO, Duration::from_secs(1), Duration::from_secs(5), Duration::from_secs(30)];

/// A name that was not given a size is a mutex.
///
/// The tasks of one engine queue up here, whoever asked first gets a place first; then the one that has a place here asks
/// the store for one of all engines' places.
#[derive(Debug)]
pub(crate) struct Locks {
    sizes: BTreeMap<String, usize>,
    by_name: Mutex<HashMap<String, Weak<Semaphore>>>,
    store: Arc<dyn MetadataStore>,
    /// Fires when the engine ends.
    shutdown: CancellationToken,
}

/// What an attempt holds; given back when dropped.
#[derive(Debug, Default)]
pub(crate) struct Held(#[allow(dead_code, reason = "held for its drop")] Vec<Place>);

/// A place of this engine's, and of all engines', or the wish for one. Given back when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    hold: Option<Hold>,
    /// Whether it is held; none where the store has not answered.
    held: Option<bool>,
    here: Option<(OwnedSemaphorePermit, Arc<Semaphore>)>,
    store: Arc<dyn MetadataStore>,
    runtime: Handle,
    shutdown: CancellationToken,
}

impl Place {
    /// Asks for a place, as often as need be while there is none or the store is away.
    ///
    /// # Errors
    /// Where the store refuses.
    async fn wait(&mut self, places: u32) -> kf_core::Result<()> {
        for tried in 1_u32.. {
            match self.ask(places).await {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(error) if error.is_retryable() => {
                    tracing::warn!(%error, "a mutex or semaphore is asked for again");
                }
                Err(error) => return Err(error),
            }
            self.pause(tried).await;
        }
        Ok(())
    }

    /// Asks for a place once.
    pub(crate) async fn ask(&mut self, places: u32) -> kf_core::Result<bool> {
        let Some(hold) = &mut self.hold else { return Ok(false) };
        self.held = None;
        let held = self.store.hold(hold, places).await?;
        self.held = Some(held);
        Ok(held)
    }

    /// Waits until it is to be asked again.
    pub(crate) async fn pause(&self, tried: u32) {
        let seed = self.hold.as_ref().map_or(0, |hold| hold.id.as_u64_pair().0);
        tokio::time::sleep(ASKING.delay(tried.min(20), seed)).await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let (Some(hold), here, store) = (self.hold.take(), self.here.take(), Arc::clone(&self.store)) else {
            return;
        };
        let again = match self.held {
            Some(false) => return,
            Some(true) => &AGAIN[..1],
            None => &AGAIN[..],
        };
        // Where the engine ends, its leases do, and with them its places.
        self.runtime.spawn(self.shutdown.clone().run_until_cancelled_owned(async move {
            let mut hold = hold;
            let mut here = here;
            for after in again {
                tokio::time::sleep(*after).await;
                give_back(store.as_ref(), &mut hold).await;
                // Who is next here asks when it is free.
                here = None;
            }
            drop(here);
        }));
    }
}

/// Gives a place back, as often as need be: while its run goes on, nobody else could have it.
async fn give_back(store: &dyn MetadataStore, hold: &mut Hold) {
    for tried in 1_u32.. {
        let Err(error) = store.let_go(hold).await else { return };
        if tried.is_power_of_two() {
            tracing::warn!(name = hold.name, %error, "a mutex or semaphore is not given back; it is tried again");
        }
        tokio::time::sleep(ASKING.delay(tried.min(20), 0)).await;
    }
}

impl Locks {
    pub(crate) fn new(
        sizes: BTreeMap<String, usize>,
        store: Arc<dyn MetadataStore>,
        shutdown: CancellationToken,
    ) -> Self {
        Self { sizes, by_name: Mutex::default(), store, shutdown }
    }

    /// The wish for a place under a name, for a run whose lease of this `epoch` this engine holds.
    pub(crate) fn place(&self, name: impl Into<String>, run: &RunId, epoch: u64) -> Place {
        Place {
            hold: Some(Hold::new(name, run, epoch)),
            held: Some(false),
            here: None,
            store: Arc::clone(&self.store),
            runtime: Handle::current(),
            shutdown: self.shutdown.clone(),
        }
    }

    /// Waits until all of these are free, for a run whose lease of this `epoch` this engine holds. They are taken in the
    /// order of their names, so that no two wait for each other.
    ///
    /// # Errors
    /// Where the store refuses; while it is away, that is waited for as well.
    pub(crate) async fn acquire(
        &self,
        names: &BTreeSet<String>,
        run: &RunId,
        epoch: u64,
    ) -> kf_core::Result<Held> {
        let mut held = Held::default();
        for name in names {
            let size = self.sizes.get(name).copied().unwrap_or(1).clamp(1, Semaphore::MAX_PERMITS);
            let semaphore = self.semaphore(name, size);
            let permit = Arc::clone(&semaphore).acquire_owned().await.ok();
            let mut place = self.place(name, run, epoch);
            place.here = permit.map(|permit| (permit, semaphore));
            place.wait(u32::try_from(size).unwrap_or(u32::MAX)).await?;
            held.0.push(place);
        }
        Ok(held)
    }

    /// This engine's own, as long as anybody has or wants a place.
    fn semaphore(&self, name: &str, size: usize) -> Arc<Semaphore> {
        let mut by_name = locked(&self.by_name);
        if let Some(there) = by_name.get(name).and_then(Weak::upgrade) {
            return there;
        }
        by_name.retain(|_, semaphore| semaphore.strong_count() > 0);
        let made = Arc::new(Semaphore::new(size));
        by_name.insert(name.to_owned(), Arc::downgrade(&made));
        made
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use kf_core::metadata::SqliteMetadata;

    use super::*;

    fn names(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    async fn get(locks: &Locks, names: &BTreeSet<String>) -> Held {
        locks.acquire(names, &"r".parse().unwrap(), 1).await.unwrap()
    }

    /// What is got within a moment.
    async fn try_get(locks: &Locks, names: &BTreeSet<String>) -> Option<Held> {
        tokio::time::timeout(Duration::from_millis(300), get(locks, names)).await.ok()
    }

    async fn locks(engines: usize) -> Vec<Arc<Locks>> {
        let store: Arc<dyn MetadataStore> = Arc::new(SqliteMetadata::in_memory().await.unwrap());
        let sizes = BTreeMap::from([("two".to_owned(), 2)]);
        let shutdown = CancellationToken::new();
        let locks = |_| Arc::new(Locks::new(sizes.clone(), Arc::clone(&store), shutdown.clone()));
        (0..engines).map(locks).collect()
    }

    #[tokio::test]
    async fn sizes_hold_within_engines_and_between_them() {
        let engines = locks(2).await;
        let (a, b) = (names(&["a"]), names(&["two"]));
        for other in &engines {
            let first = get(&engines[0], &a).await;
            assert!(try_get(other, &a).await.is_none());
            drop(first);
            drop(try_get(other, &a).await.expect("it is free"));
            let two = (get(&engines[0], &b).await, get(other, &b).await);
            assert!(try_get(other, &b).await.is_none());
            drop(two);
            drop(try_get(other, &b).await.expect("it is free"));
        }
        let all: Vec<Held> = futures::future::join_all([get(&engines[0], &a), get(&engines[0], &b)]).await;
        drop(all);
        tokio::time::sleep(Duration::from_millis(50)).await;
        drop(get(&engines[0], &names(&["c"])).await);
        assert!(locked(&engines[0].by_name).len() <= 1, "names that nobody uses are forgotten");
    }

    #[tokio::test]
    async fn crossing_orders_do_not_wait_for_each_other() {
        let engines = locks(2).await;
        let crossing = [["x", "y"], ["y", "x"], ["y", "x"]].into_iter().enumerate().map(|(n, order)| {
            let locks = Arc::clone(&engines[n % 2]);
            tokio::spawn(async move {
                for _ in 0..30 {
                    let held = get(&locks, &names(&order)).await;
                    tokio::task::yield_now().await;
                    drop(held);
                }
            })
        });
        tokio::time::timeout(Duration::from_secs(30), futures::future::join_all(crossing)).await.unwrap();
    }
}
