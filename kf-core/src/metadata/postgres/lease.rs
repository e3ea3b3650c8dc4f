//! The guard of a lease: one that is dropped is given back.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, Weak};

use super::Inner;
use crate::RunId;
use crate::mutex::locked;

/// Leases that were dropped, by run: who asks here next need not wait for their end.
pub(super) type Dropped = Mutex<HashMap<RunId, i64>>;

#[derive(Debug)]
pub(super) struct Guard {
    /// None once the lease was given back.
    store: Option<Weak<Inner>>,
    run: RunId,
    epoch: i64,
}

impl Guard {
    pub(super) fn new(store: &Arc<Inner>, run: &RunId, epoch: i64) -> Self {
        Self { store: Some(Arc::downgrade(store)), run: run.clone(), epoch }
    }

    pub(super) fn disarm(&mut self) {
        self.store = None;
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let Some(store) = self.store.take().and_then(|store| store.upgrade()) else { return };
        locked(&store.dropped).insert(self.run.clone(), self.epoch);
        // Where no runtime is left to tell the database, the lease ends by its time.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let (run, epoch) = (self.run.clone(), self.epoch);
        runtime.spawn(async move {
            if let Err(error) = store.give_back(&run, epoch).await {
                tracing::warn!(%run, %error, "a lease was not given back; it ends by its time");
            }
        });
    }
}

/// Who asks for a lease, as others are told.
pub(super) fn holder(owner: &str) -> String {
    let system = rustix::system::uname();
    format!("{owner} (process {} on {})", std::process::id(), system.nodename().to_string_lossy())
}
