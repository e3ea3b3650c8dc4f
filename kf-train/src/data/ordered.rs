//! Work that threads do ahead, taken in order.

use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::{Builder, JoinHandle};

use crate::Result;

/// What a thread does for an item's number.
pub(super) type Work<T> = Box<dyn FnMut(u64) -> Result<T> + Send>;

/// Items 0 to `count`, made ahead and given in order. Each of the threads makes every n-th item, and waits where its
/// queue is full, so that neither their number nor their speed changes what comes out. After an error nothing comes.
///
/// Dropping it ends the threads, after the item that each is at.
#[derive(Debug)]
pub(super) struct Ordered<T> {
    queues: Vec<Receiver<Result<T>>>,
    threads: Vec<JoinHandle<()>>,
    next: u64,
    count: u64,
}

impl<T: Send + 'static> Ordered<T> {
    /// Starts a thread for each piece of work, with a queue of so many items each.
    pub(super) fn start(name: &str, count: u64, queue: usize, works: Vec<Work<T>>) -> std::io::Result<Self> {
        let mut ordered = Self { queues: Vec::new(), threads: Vec::new(), next: 0, count };
        let step = works.len();
        for (number, mut work) in works.into_iter().enumerate() {
            let (sender, receiver) = sync_channel(queue.max(1));
            let thread = Builder::new().name(name.to_owned()).spawn(move || {
                for item in (number as u64..count).step_by(step) {
                    let made = work(item);
                    let failed = made.is_err();
                    if sender.send(made).is_err() || failed {
                        return;
                    }
                }
            })?;
            ordered.queues.push(receiver);
            ordered.threads.push(thread);
        }
        Ok(ordered)
    }

    /// The next item; `None` after the last one, or after an error.
    pub(super) fn next(&mut self, ended: impl FnOnce() -> crate::Error) -> Option<Result<T>> {
        if self.next >= self.count {
            return None;
        }
        let queue = (self.next % self.queues.len() as u64) as usize;
        let item = self.queues[queue].recv().unwrap_or_else(|_| Err(ended()));
        match item {
            Ok(_) => self.next += 1,
            Err(_) => self.next = self.count,
        }
        Some(item)
    }

    /// How many are still to come.
    pub(super) fn left(&self) -> u64 {
        self.count - self.next
    }
}

impl<T> Drop for Ordered<T> {
    fn drop(&mut self) {
        self.queues.clear();
        for thread in self.threads.drain(..) {
            // One that panicked has nothing more to say.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Error;

    fn ended() -> Error {
        super::super::unfit(std::path::Path::new("x"), "a panic", "an item")
    }

    fn start(threads: u64, count: u64, work: fn(u64) -> Result<u64>) -> Ordered<u64> {
        let works = (0..threads).map(|_| Box::new(work) as Work<u64>).collect();
        Ordered::start("test", count, 2, works).unwrap()
    }

    #[test]
    fn items_come_in_order_up_to_an_error() {
        for threads in [1, 2, 5, 20] {
            let mut good = start(threads, 11, Ok);
            let items: Vec<_> = std::iter::from_fn(|| good.next(ended)).map(Result::unwrap).collect();
            assert_eq!(items, (0..11).collect::<Vec<_>>());
            let mut bad = start(threads, 11, |item| if item == 7 { Err(ended()) } else { Ok(item) });
            assert!((0..7).all(|item| bad.next(ended).unwrap().unwrap() == item));
            assert!(bad.next(ended).unwrap().is_err());
            assert!(bad.next(ended).is_none());
        }
        assert!(start(0, 0, Ok).next(ended).is_none());
    }

    #[test]
    fn a_panic_is_an_error_in_its_place() {
        let mut items = start(3, 11, |item| if item == 7 { panic!("on purpose") } else { Ok(item) });
        assert!((0..7).all(|item| items.next(ended).unwrap().unwrap() == item));
        assert!(items.next(ended).unwrap().is_err());
        assert!(items.next(ended).is_none());
    }
}
