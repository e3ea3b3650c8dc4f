//! Mutexes and semaphores by name, over all runs of all engines that share a metadata store.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use kf_core::RunId;
use kf_core::backoff::Backoff;
use kf_core::metadata::{Hold, MetadataStore};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::mutex::locked;

/// How often a place is asked for that another engine has.
pub(super) const ASKING: Backoff =
    Backoff { initial: Duration::from_millis(20), factor: 1.5, max: Duration::from_secs(1), jitter: 0.3 };
/// How often a place is given back where the store can't be reached.
const GIVING_BACK: u32 = 5;

/// A name that was not given a size is a mutex.
///
/// The tasks of one engine queue up here, whoever asked first gets a place first; then the one that has a place here asks
/// the store for one of all engines' places.
#[derive(Debug)]
pub(crate) struct Locks {
    sizes: BTreeMap<String, usize>,
    by_name: Mutex<HashMap<String, Weak<Semaphore>>>,
    store: Arc<dyn MetadataStore>,
}

/// What an attempt holds; given back when dropped.
#[derive(Debug, Default)]
pub(crate) struct Held(#[allow(dead_code, reason = "held for its drop")] Vec<Place>);

/// A place of this engine's, and of all engines'. Given back when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    hold: Option<Hold>,
    here: Option<(OwnedSemaphorePermit, Arc<Semaphore>)>,
    store: Arc<dyn MetadataStore>,
}

impl Place {
    /// A place among those of all engines.
    pub(crate) fn of(hold: Hold, store: &Arc<dyn MetadataStore>) -> Self {
        Self { hold: Some(hold), here: None, store: Arc::clone(store) }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let (Some(mut hold), here) = (self.hold.take(), self.here.take()) else { return };
        // Without a runtime, the place ends with the run's lease.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let store = Arc::clone(&self.store);
        runtime.spawn(async move {
            for tried in 1..=GIVING_BACK {
                match store.let_go(&mut hold).await {
                    Err(error) if error.is_retryable() && tried < GIVING_BACK => {
                        tokio::time::sleep(ASKING.delay(8, u64::from(tried))).await;
                    }
                    Err(error) => {
                        tracing::warn!(name = hold.name, %error, "a mutex or semaphore is not given back before its run's lease ends");
                    }
                    Ok(()) => break,
                }
            }
            // Who is next here asks when it is free.
            drop(here);
        });
    }
}

impl Locks {
    pub(crate) fn new(sizes: BTreeMap<String, usize>, store: Arc<dyn MetadataStore>) -> Self {
        Self { sizes, by_name: Mutex::default(), store }
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
            let mut place = Place {
                hold: None,
                here: permit.map(|permit| (permit, semaphore)),
                store: Arc::clone(&self.store),
            };
            place.hold = Some(self.hold(name, u32::try_from(size).unwrap_or(u32::MAX), run, epoch).await?);
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

    async fn hold(&self, name: &str, places: u32, run: &RunId, epoch: u64) -> kf_core::Result<Hold> {
        for tried in 1.. {
            match self.store.hold(name, places, run, epoch).await {
                Ok(Some(hold)) => return Ok(hold),
                Ok(None) => {}
                Err(error) if error.is_retryable() => {
                    tracing::warn!(name, %error, "a mutex or semaphore is asked for again");
                }
                Err(error) => return Err(error),
            }
            tokio::time::sleep(ASKING.delay(tried.min(20), u64::from(tried) ^ epoch)).await;
        }
        unreachable!("it is asked without an end")
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
        (0..engines).map(|_| Arc::new(Locks::new(sizes.clone(), Arc::clone(&store)))).collect()
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
