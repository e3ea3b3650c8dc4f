//! How long an object store is waited for, and how often it is asked again.

use std::time::Duration;

use crate::backoff::Backoff;
use crate::{Digest, Error, Result};

/// A call, or the next piece of an object, that takes longer will not come any more.
const ANSWER: Duration = Duration::from_secs(120);
/// How often a call is made that fails in a way that may pass.
const TRIES: u32 = 3;
const WAITS: Backoff =
    Backoff { initial: Duration::from_millis(200), factor: 4.0, max: Duration::from_secs(5), jitter: 0.5 };

/// What `call` gives.
///
/// # Errors
/// Those of the call, and one that says so where it does not answer.
pub(super) async fn answer<T>(call: impl Future<Output = object_store::Result<T>>) -> Result<T> {
    match tokio::time::timeout(ANSWER, call).await {
        Ok(result) => Ok(result?),
        Err(_) => Err(broken(format!("no answer within {ANSWER:?}"))),
    }
}

/// An error of the object store after which the same call may go through.
pub(super) fn broken(why: String) -> Error {
    Error::ObjectStore(object_store::Error::Generic { store: "object store", source: why.into() })
}

/// What `call` gives, which is made again where that may help.
///
/// # Errors
/// Those of the last call.
pub(super) async fn patiently<T, F>(digest: &Digest, call: impl Fn() -> F) -> Result<T>
where
    F: Future<Output = Result<T>>,
{
    let mut tries = Tries::default();
    loop {
        match call().await {
            Err(error) if tries.again(digest, &error).await => {}
            done => return done,
        }
    }
}

/// Counts how often something was tried.
#[derive(Debug, Default)]
struct Tries(u32);

impl Tries {
    /// Whether to try again after this error; waits before it says so.
    async fn again(&mut self, digest: &Digest, error: &Error) -> bool {
        self.0 += 1;
        // What did not arrive as it was sent may at the second time; what lies there changed won't.
        let may_pass = error.is_retryable() || (matches!(error, Error::Corrupt { .. }) && self.0 == 1);
        if !may_pass || self.0 >= TRIES {
            return false;
        }
        tracing::warn!(%digest, %error, "the object store is asked again");
        let seed = u64::from_le_bytes(digest.as_bytes()[..8].try_into().unwrap_or_default());
        tokio::time::sleep(WAITS.delay(self.0, seed)).await;
        true
    }
}
