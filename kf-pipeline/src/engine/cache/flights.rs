//! Tasks under way by cache key, so that what several runs need at once is run by one of them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use kf_core::{Digest, RunId};
use tokio::sync::watch;

use crate::engine::locks::Place;
use crate::mutex::locked;

/// The tasks under way that may be cached, of all runs of an engine.
#[derive(Debug, Default)]
pub(crate) struct Flights(Mutex<HashMap<Digest, UnderWay>>);

#[derive(Debug)]
struct UnderWay {
    run: RunId,
    ended: watch::Receiver<()>,
}

/// What a task finds that is about to be looked up.
pub(crate) enum Joined {
    /// Nobody runs such a task; others wait until the flight is dropped.
    Leads(Flight),
    /// Another run has such a task under way; the channel closes when that has ended.
    Follows(watch::Receiver<()>),
    /// Its own run has such a task under way: they are two tasks, which may draw lots.
    Beside,
}

/// The right to run what has this key. Dropped when the task's end is committed, or will not come.
#[derive(Debug)]
pub(crate) struct Flight {
    /// The same right among all engines, where others share the store.
    pub(super) among_all: Option<Box<Place>>,
    flights: Arc<Flights>,
    key: Digest,
    /// Closes the channel of those who wait.
    _ends: watch::Sender<()>,
}

impl Flights {
    pub(crate) fn join(self: &Arc<Self>, key: Digest, run: &RunId) -> Joined {
        let mut under_way = locked(&self.0);
        match under_way.get(&key) {
            Some(other) if other.run == *run => Joined::Beside,
            Some(other) => Joined::Follows(other.ended.clone()),
            None => {
                let (ends, ended) = watch::channel(());
                under_way.insert(key, UnderWay { run: run.clone(), ended });
                Joined::Leads(Flight { among_all: None, flights: Arc::clone(self), key, _ends: ends })
            }
        }
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        locked(&self.flights.0).remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_leads_and_the_others_hear_of_its_end() {
        let flights = Arc::<Flights>::default();
        let (a, b) = ("a".parse().unwrap(), "b".parse().unwrap());
        let key = Digest::of("key");
        let Joined::Leads(flight) = flights.join(key, &a) else { panic!("nobody was there") };
        assert!(matches!(flights.join(key, &a), Joined::Beside));
        assert!(matches!(flights.join(Digest::of("other"), &b), Joined::Leads(_)));
        let Joined::Follows(mut ended) = flights.join(key, &b) else { panic!("a leads") };
        drop(flight);
        assert!(ended.changed().await.is_err());
        assert!(matches!(flights.join(key, &b), Joined::Leads(_)));
    }
}
