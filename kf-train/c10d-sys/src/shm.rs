//! Groups over memory that the ranks of one machine share.

use std::time::Duration;

use crate::{Group, Result, Store};

impl Group {
    /// Meets the other ranks at the store, and shares memory with them: 2 MiB a rank, whatever the tensors' sizes.
    ///
    /// Every element is reduced once, by one rank and in the ranks' order, so that all ranks have the same bits. Calls
    /// are made in their order on a thread of the group, or on that of a caller who waits. A rank whose process ends is
    /// noticed within some 10 ms; calls that do not fit are an error on every rank. Nothing is left behind in the
    /// machine, however the ranks end.
    ///
    /// `connect` is for the meeting, `timeout` for every call.
    ///
    /// # Errors
    /// Timed out where a rank does not come. That the ranks are on different machines, in different network namespaces,
    /// or of different users; that this system is not Linux.
    pub fn shared_memory(
        store: &Store,
        rank: usize,
        size: usize,
        connect: Duration,
        timeout: Duration,
    ) -> Result<Self> {
        #[cfg(shared_memory)]
        {
            use crate::error::{call, millis};
            use crate::{ffi, group::int};

            let (rank, size) = (int(rank)?, int(size)?);
            let (connect, timeout) = (millis(connect), millis(timeout));
            let mut out = std::ptr::null_mut();
            // SAFETY: the store outlives the call, the group holds it itself; `out` is written on OK.
            call(|message| unsafe {
                ffi::kf_group_shared_memory(store.raw(), rank, size, connect, timeout, &mut out, message)
            })?;
            Self::from_raw(out)
        }
        #[cfg(not(shared_memory))]
        {
            let _ = (store, rank, size, connect, timeout);
            Err(crate::Error::new("ranks share memory on Linux alone; use Gloo here"))
        }
    }
}
