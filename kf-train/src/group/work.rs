//! A collective under way, as a future.

use std::fmt;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker, ready};
use std::thread::{self, Thread};

use futures::channel::oneshot;
use tch::Tensor;

use super::calls::Call;
use crate::{Error, Result};

/// A collective, or a message, that has begun. Await it, in any runtime, or [`wait`](Self::wait): either gives its values back.
///
/// Collectives begin in the order in which they were made; over Gloo two are on their way at a time, so that a small one may
/// be done before a big one that is before it. Messages wait for those on their own way alone. Over NCCL a work is done when the call that made it returns.
///
/// The work holds its tensors, whose values it gives back, so that nobody reads what is half done by it; other handles on the
/// same storage are their owners' to leave alone. It borrows no group: dropping the group waits for
/// the works under way, dropping a work does not, and the collective then goes on without anyone to learn how it ends.
#[must_use = "its values come from awaiting it, or from `wait`"]
pub struct Work<T = Tensor> {
    state: State<T>,
}

enum State<T> {
    UnderWay {
        raw: c10d_sys::Work,
        call: Call,
        values: Box<dyn FnOnce() -> T + Send>,
    },
    /// A message, which a thread carries.
    Carried {
        told: oneshot::Receiver<Result<T>>,
        ended: Arc<AtomicBool>,
    },
    /// It failed, and the other ranks are being looked at.
    Failing(oneshot::Receiver<Error>),
    Ended(Result<T>),
    Over,
}

impl<T> Work<T> {
    pub(super) fn new(
        call: Call,
        begun: c10d_sys::Result<c10d_sys::Work>,
        values: impl FnOnce() -> T + Send + 'static,
    ) -> Result<Self> {
        let raw = call.done(begun)?;
        Ok(Self { state: State::UnderWay { raw, call, values: Box::new(values) } })
    }

    /// What was done when its call returned.
    pub(super) fn ended(result: Result<T>) -> Self {
        Self { state: State::Ended(result) }
    }

    /// What a thread carries, and then tells of.
    pub(super) fn carried(told: oneshot::Receiver<Result<T>>, ended: Arc<AtomicBool>) -> Self {
        Self { state: State::Carried { told, ended } }
    }

    /// Whether it is done, well or not.
    pub fn is_completed(&self) -> bool {
        match &self.state {
            State::UnderWay { raw, .. } => raw.is_completed(),
            State::Carried { ended, .. } => ended.load(Ordering::Acquire),
            State::Failing(_) | State::Ended(_) | State::Over => true,
        }
    }

    /// Blocks until it is done, and gives its values.
    ///
    /// # Errors
    /// [`Error::Collective`], [`Error::CollectiveTimedOut`].
    pub fn wait(self) -> Result<T> {
        match self.state {
            State::UnderWay { mut raw, call, values } => {
                call.done(raw.wait())?;
                Ok(values())
            }
            State::Carried { told, .. } => block_on(told).unwrap_or_else(|_| Err(over())),
            State::Failing(told) => Err(block_on(told).unwrap_or_else(|_| over())),
            State::Ended(result) => result,
            State::Over => Err(over()),
        }
    }
}

impl<T> Future for Work<T> {
    type Output = Result<T>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if let State::UnderWay { raw, .. } = &mut self.state {
            let ended = ready!(raw.poll(context));
            let State::UnderWay { call, values, .. } = std::mem::replace(&mut self.state, State::Over) else {
                return Poll::Ready(Err(over()));
            };
            let Err(error) = ended else { return Poll::Ready(Ok(values())) };
            // To look at the other ranks takes a while, in which whoever polls must not be held up.
            let (tell, told) = oneshot::channel();
            let look = move || drop(tell.send(call.failed(error.timed_out(), error.message())));
            if let Err(error) = thread::Builder::new().name("kf-work".into()).spawn(look) {
                let source = Error::io("can't start a thread to look after a failed", "collective")(error);
                return Poll::Ready(Err(source));
            }
            self.state = State::Failing(told);
        }
        let ended = match &mut self.state {
            State::Carried { told, .. } => {
                ready!(Pin::new(told).poll(context)).unwrap_or_else(|_| Err(over()))
            }
            State::Failing(told) => Err(ready!(Pin::new(told).poll(context)).unwrap_or_else(|_| over())),
            State::UnderWay { .. } | State::Ended(_) | State::Over => {
                match std::mem::replace(&mut self.state, State::Over) {
                    State::Ended(ended) => ended,
                    _ => Err(over()),
                }
            }
        };
        self.state = State::Over;
        Poll::Ready(ended)
    }
}

impl<T> Unpin for Work<T> {}

impl<T> fmt::Debug for Work<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let operation = match &self.state {
            State::UnderWay { call, .. } => call.operation(),
            State::Carried { .. } => "message",
            State::Failing(_) | State::Ended(_) | State::Over => "over",
        };
        f.debug_struct("Work").field("operation", &operation).finish_non_exhaustive()
    }
}

/// Waits in whatever runtime or executor the thread is; those of `futures` refuse to be in one another.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(done) => return done,
            Poll::Pending => thread::park(),
        }
    }
}

fn over() -> Error {
    let message = "it has given its values or its error already".into();
    Error::Torch { what: "awaiting a work".into(), message }
}
