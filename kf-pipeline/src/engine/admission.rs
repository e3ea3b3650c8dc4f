//! Who may use the machine's resources: first come, first served, over all runs of an engine.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};

use kf_core::resources::{Capacity, Pool, Resources};
use tokio::sync::oneshot;

use crate::mutex::locked;

#[derive(Clone)]
pub(crate) struct Admission(Arc<Mutex<Waiting>>);

struct Waiting {
    pool: Pool,
    queue: VecDeque<(Resources, oneshot::Sender<Permit>)>,
}

/// Resources in use; given back when dropped.
pub(crate) struct Permit {
    admission: Admission,
    resources: Resources,
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Permit").field(&self.resources).finish()
    }
}

impl Admission {
    pub(crate) fn new(capacity: Capacity) -> Self {
        Self(Arc::new(Mutex::new(Waiting { pool: Pool::new(capacity), queue: VecDeque::new() })))
    }

    /// Whether `resources` could be had if nothing else ran.
    pub(crate) fn fits(&self, resources: &Resources) -> kf_core::Result<()> {
        self.lock().pool.fits(resources)
    }

    /// Waits until the resources are free; none where nothing is asked for.
    pub(crate) async fn acquire(&self, resources: &Resources) -> Option<Permit> {
        if resources.is_none() {
            return None;
        }
        let (sender, receiver) = oneshot::channel();
        self.lock().queue.push_back((resources.clone(), sender));
        let mut waiter = Waiter { admission: self, receiver };
        self.serve();
        (&mut waiter.receiver).await.ok()
    }

    /// Gives who waits longest what is free, as long as there is enough.
    fn serve(&self) {
        // A permit that nobody takes any more is dropped outside of the lock, which it takes itself.
        let mut unwanted = Vec::new();
        let mut waiting = self.lock();
        let Waiting { pool, queue } = &mut *waiting;
        while let Some((asked, sender)) = queue.front() {
            let gone = sender.is_closed();
            if !gone && !pool.try_take(asked) {
                break;
            }
            let Some((resources, sender)) = queue.pop_front() else { break };
            if gone {
                continue;
            }
            if let Err(permit) = sender.send(Permit { admission: self.clone(), resources }) {
                unwanted.push(permit);
            }
        }
        drop(waiting);
        drop(unwanted);
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        locked(&self.0)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.admission.lock().pool.give_back(&self.resources);
        self.admission.serve();
    }
}

/// Somebody in the queue; who goes makes room for those behind.
struct Waiter<'a> {
    admission: &'a Admission,
    receiver: oneshot::Receiver<Permit>,
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.receiver.close();
        self.admission.serve();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn first_come_first_served_and_nothing_is_lost() {
        let (one, two) = (Resources::none().cpu(1.0), Resources::none().cpu(2.0));
        let admission = Admission::new(Capacity::new(two.clone()));
        let first = admission.acquire(&two).await;
        let mut big = Box::pin(admission.acquire(&two));
        assert!(futures::poll!(&mut big).is_pending());
        let mut small = Box::pin(admission.acquire(&one));
        assert!(futures::poll!(&mut small).is_pending());
        drop(first);
        let big = big.await;
        assert!(futures::poll!(&mut small).is_pending());
        drop(small);
        drop(big);
        // Who goes from the queue's head lets the next one in.
        let held = admission.acquire(&one).await;
        let mut gone = Box::pin(admission.acquire(&two));
        assert!(futures::poll!(&mut gone).is_pending());
        let mut next = Box::pin(admission.acquire(&one));
        assert!(futures::poll!(&mut next).is_pending());
        drop(gone);
        drop((held, next.await));
        assert!(admission.acquire(&two).await.is_some());
        assert!(admission.fits(&Resources::none().cpu(3.0)).is_err());
    }
}
