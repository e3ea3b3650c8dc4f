use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::limits::Limits;
use crate::{Error, Result};

/// Who may come in and who may run.
///
/// A request takes a place at once or is refused; with it, it waits for its turn to run, first come, first served.
#[derive(Debug)]
pub(crate) struct Admission {
    places: Arc<Semaphore>,
    turns: Arc<Semaphore>,
    running: usize,
    waiting: usize,
    draining: AtomicBool,
}

/// A request's place; given back when dropped.
#[derive(Debug)]
pub(crate) struct Place(#[expect(dead_code, reason = "it counts until it is dropped")] OwnedSemaphorePermit);

/// A request's turn to run; given back when dropped.
#[derive(Debug)]
pub(crate) struct Turn(#[expect(dead_code, reason = "it counts until it is dropped")] OwnedSemaphorePermit);

impl Admission {
    pub(crate) fn new(limits: &Limits) -> Self {
        // Waiting until the server is idle takes all places in one call, which counts them in a u32.
        let most = (u32::MAX as usize).min(Semaphore::MAX_PERMITS) / 2;
        let (running, waiting) = (limits.running.clamp(1, most), limits.waiting.min(most));
        Self {
            places: Arc::new(Semaphore::new(running + waiting)),
            turns: Arc::new(Semaphore::new(running)),
            running,
            waiting,
            draining: AtomicBool::new(false),
        }
    }

    pub(crate) fn enter(&self) -> Result<Place> {
        if self.is_draining() {
            return Err(Error::Draining);
        }
        match Arc::clone(&self.places).try_acquire_owned() {
            Ok(permit) => Ok(Place(permit)),
            Err(_) => Err(Error::Busy { running: self.running, waiting: self.waiting }),
        }
    }

    pub(crate) async fn turn(&self) -> Turn {
        Turn(Arc::clone(&self.turns).acquire_owned().await.expect("the semaphore is never closed"))
    }

    /// From now on nobody comes in.
    pub(crate) fn drain(&self) {
        self.draining.store(true, Ordering::SeqCst);
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::SeqCst)
    }

    /// Waits until everyone who came in has left.
    pub(crate) async fn idle(&self) {
        let all = u32::try_from(self.running + self.waiting).unwrap_or(u32::MAX);
        let _all = self.places.acquire_many(all).await.expect("the semaphore is never closed");
    }

    /// How many are in.
    pub(crate) fn inside(&self) -> usize {
        (self.running + self.waiting).saturating_sub(self.places.available_permits())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_full_house_refuses_and_a_draining_one_empties() {
        let admission = Admission::new(&Limits { running: 1, waiting: 1, ..Limits::default() });
        let first = admission.enter().unwrap();
        let second = admission.enter().unwrap();
        assert!(matches!(admission.enter(), Err(Error::Busy { running: 1, waiting: 1 })));
        assert_eq!(admission.inside(), 2);
        drop(first);
        let third = admission.enter().unwrap();
        admission.drain();
        drop((second, third));
        admission.idle().await;
        assert!(matches!(admission.enter(), Err(Error::Draining)));
    }
}
