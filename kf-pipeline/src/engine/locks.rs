//! Mutexes and semaphores by name, over all runs of an engine.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::mutex::locked;

/// A name that was not given a size is a mutex.
#[derive(Debug)]
pub(crate) struct Locks {
    sizes: BTreeMap<String, usize>,
    by_name: Mutex<HashMap<String, Arc<Semaphore>>>,
}

/// What an attempt holds; given back when dropped.
#[derive(Debug, Default)]
pub(crate) struct Held(#[allow(dead_code, reason = "held for its drop")] Vec<OwnedSemaphorePermit>);

impl Locks {
    pub(crate) fn new(sizes: BTreeMap<String, usize>) -> Self {
        Self { sizes, by_name: Mutex::default() }
    }

    /// Waits until all of these are free. They are taken in the order of their names, so that no two wait for each other,
    /// and whoever asked first gets each first.
    pub(crate) async fn acquire(&self, names: &BTreeSet<String>) -> Held {
        let mut held = Vec::with_capacity(names.len());
        for name in names {
            let semaphore = {
                let mut by_name = locked(&self.by_name);
                let made = by_name.entry(name.clone()).or_insert_with(|| {
                    let size = self.sizes.get(name).copied().unwrap_or(1).clamp(1, Semaphore::MAX_PERMITS);
                    Arc::new(Semaphore::new(size))
                });
                Arc::clone(made)
            };
            held.extend(semaphore.acquire_owned().await.ok());
        }
        Held(held)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::FutureExt;

    use super::*;

    fn names(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[tokio::test]
    async fn sizes_hold_and_crossing_orders_do_not_wait_for_each_other() {
        let locks = Arc::new(Locks::new(BTreeMap::from([("two".to_owned(), 2)])));
        let (a, b) = (names(&["a"]), names(&["two"]));
        let first = locks.acquire(&a).await;
        assert!(locks.acquire(&a).now_or_never().is_none());
        drop(first);
        assert!(locks.acquire(&a).now_or_never().is_some());
        let two = (locks.acquire(&b).await, locks.acquire(&b).await);
        assert!(locks.acquire(&b).now_or_never().is_none());
        drop(two);
        let crossing = [["x", "y"], ["y", "x"]].map(|order| {
            let locks = Arc::clone(&locks);
            tokio::spawn(async move {
                for _ in 0..100 {
                    let held = locks.acquire(&names(&order)).await;
                    tokio::task::yield_now().await;
                    drop(held);
                }
            })
        });
        tokio::time::timeout(Duration::from_secs(10), futures::future::join_all(crossing)).await.unwrap();
    }
}
