//! Groups that can be given up at any moment, and replaced.

use std::ffi::CStr;
use std::ptr::NonNull;

use crate::error::{Error, Result, c_string, call};
use crate::{Group, ffi};

/// Groups that outlive a failure: [`make_replaceable`](Group::make_replaceable) first.
///
/// Such a group carries each call out on copies of its tensors, so that a call that failed leaves them as they were, now
/// and later. Its first failure ends it, on this rank at once and on the others soon: all calls under way and all later
/// ones fail with that reason. A backward pass through a [`Reducer`](crate::Reducer) is brought to its end instead, as if
/// nothing had happened; its gradients are then of no meaning, and [`failure`](Group::failure) tells so.
impl Group {
    /// Makes the group one that can be given up and replaced, which costs a copy of what is sent.
    ///
    /// # Errors
    /// That the backend is NCCL.
    pub fn make_replaceable(&mut self) -> Result<()> {
        // SAFETY: the group is alive, and no one else uses it.
        call(|message| unsafe { ffi::kf_group_make_replaceable(self.raw(), message) })
    }

    /// Goes on as another group, whose rank and size may differ; the present one is given up, where it has not failed
    /// already. Its reducers use the other from their next pass on.
    ///
    /// # Errors
    /// That this group was not made replaceable, or that the other can't be; nothing has changed then.
    pub fn replace(&self, other: Group) -> Result<()> {
        // SAFETY: both are alive. A group is not `Sync`: no other thread is in a call of either, and reducers look at
        // the group under its slot's lock.
        call(|message| unsafe { ffi::kf_group_replace(self.raw(), other.raw(), message) })
    }

    /// Why the group has failed; none where it has not, or is not replaceable.
    pub fn failure(&self) -> Option<Error> {
        let mut failure = std::ptr::null_mut();
        // SAFETY: the group is alive; the failure is null or a string for us to free.
        let asked = call(|message| unsafe { ffi::kf_group_failure(self.raw(), &mut failure, message) });
        if let Err(error) = asked {
            return Some(error);
        }
        if failure.is_null() {
            return None;
        }
        // SAFETY: a C string that the shim has made, freed once.
        let text = unsafe {
            let text = CStr::from_ptr(failure).to_string_lossy().into_owned();
            ffi::kf_message_free(failure);
            text
        };
        Some(Error::from_message(text))
    }

    /// What can give this group up from any thread; it has no power over the group that replaces it.
    ///
    /// # Errors
    /// That the group was not made replaceable.
    pub fn aborter(&self) -> Result<Aborter> {
        let mut out = std::ptr::null_mut();
        // SAFETY: the group is alive; `out` is written on OK.
        call(|message| unsafe { ffi::kf_aborter_new(self.raw(), &mut out, message) })?;
        NonNull::new(out).map(|raw| Aborter { raw }).ok_or_else(|| Error::new("no aborter was made"))
    }
}

/// Gives a group up.
#[derive(Debug)]
pub struct Aborter {
    raw: NonNull<ffi::KfAborter>,
}

// SAFETY: what it points to is shared by count, and locks.
unsafe impl Send for Aborter {}
// SAFETY: as above.
unsafe impl Sync for Aborter {}

impl Aborter {
    /// Ends all calls under way with this reason, at once; nothing where the group has failed before.
    ///
    /// # Errors
    /// That the reason holds a zero byte.
    pub fn abort(&self, reason: &str) -> Result<()> {
        let reason = c_string(reason)?;
        // SAFETY: the aborter is alive, and the reason outlives the call.
        call(|message| unsafe { ffi::kf_aborter_abort(self.raw.as_ptr(), reason.as_ptr(), message) })
    }
}

impl Drop for Aborter {
    fn drop(&mut self) {
        // SAFETY: made by the shim and freed once.
        unsafe { ffi::kf_aborter_free(self.raw.as_ptr()) }
    }
}
