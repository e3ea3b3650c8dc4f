//! A collective under way.

use std::ffi::{c_char, c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::error::{Result, call};
use crate::ffi;

/// A collective that has begun. Its tensors belong to the backend until it is done; it holds them itself, so that this
/// value can be dropped at any time: the collective then goes on, and nobody learns how it ends.
#[derive(Debug)]
#[must_use = "the tensors are not to be touched before the work is done"]
pub struct Work {
    // None where the collective was done when its call returned.
    raw: Option<NonNull<ffi::KfWork>>,
    listener: Option<Arc<Listener>>,
}

// SAFETY: c10d's futures lock around each call, and have no ties to the thread that made them.
unsafe impl Send for Work {}
// SAFETY: as above.
unsafe impl Sync for Work {}

#[derive(Debug, Default)]
struct Listener(Mutex<Option<Waker>>);

impl Listener {
    fn set(&self, waker: &Waker) {
        let mut slot = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !slot.as_ref().is_some_and(|there| there.will_wake(waker)) {
            *slot = Some(waker.clone());
        }
    }

    fn wake(&self) {
        let waker = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

extern "C" fn wake(context: *mut c_void) {
    // SAFETY: the context is a listener that lives until `drop_listener`, which comes after this.
    let listener = unsafe { &*context.cast::<Listener>() };
    // A waker is foreign code, and the thread one of C++.
    let _ = catch_unwind(AssertUnwindSafe(|| listener.wake()));
}

extern "C" fn drop_listener(context: *mut c_void) {
    // SAFETY: the context came from `Arc::into_raw`, and this is called once.
    let listener = unsafe { Arc::from_raw(context.cast::<Listener>()) };
    let _ = catch_unwind(AssertUnwindSafe(|| drop(listener)));
}

impl Work {
    pub(crate) fn begun(body: impl FnOnce(*mut *mut ffi::KfWork, *mut *mut c_char) -> c_int) -> Result<Self> {
        let mut work = std::ptr::null_mut();
        call(|message| body(&mut work, message))?;
        Ok(Self { raw: NonNull::new(work), listener: None })
    }

    /// Whether it is done, well or not.
    pub fn is_completed(&self) -> bool {
        // SAFETY: the work is alive.
        self.raw.is_none_or(|raw| unsafe { ffi::kf_work_done(raw.as_ptr()) } != 0)
    }

    /// Blocks until it is done.
    ///
    /// # Errors
    /// c10d's, timed out where it was not done in the group's time.
    pub fn wait(&mut self) -> Result<()> {
        let Some(raw) = self.raw else { return Ok(()) };
        // SAFETY: the work is alive.
        call(|message| unsafe { ffi::kf_work_wait(raw.as_ptr(), message) })
    }

    /// Whether it is done, and how it ended; if it is not, the context's task is woken when it is.
    pub fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<()>> {
        if self.is_completed() {
            return Poll::Ready(self.wait());
        }
        let registered = match &self.listener {
            Some(listener) => {
                listener.set(context.waker());
                Ok(())
            }
            None => self.listen(context.waker()),
        };
        match registered {
            Err(error) => Poll::Ready(Err(error)),
            // It may have ended before the waker was in its place.
            Ok(()) if self.is_completed() => Poll::Ready(self.wait()),
            Ok(()) => Poll::Pending,
        }
    }

    fn listen(&mut self, waker: &Waker) -> Result<()> {
        let Some(raw) = self.raw else { return Ok(()) };
        let listener = Arc::new(Listener::default());
        listener.set(waker);
        let context = Arc::into_raw(Arc::clone(&listener)).cast_mut().cast::<c_void>();
        self.listener = Some(listener);
        // SAFETY: the work is alive; the context lives until the shim calls `drop_listener`, once.
        call(|message| unsafe { ffi::kf_work_then(raw.as_ptr(), wake, drop_listener, context, message) })
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        if let Some(raw) = self.raw {
            // SAFETY: made by the shim and freed once.
            unsafe { ffi::kf_work_free(raw.as_ptr()) }
        }
    }
}
