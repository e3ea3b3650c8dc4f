//! The removing of pods.

use std::sync::PoisonError;
use std::time::Duration;

use kube::api::DeleteParams;
use tokio::time::Instant;

use super::attempt::Carrying;
use super::executor::Shared;
use super::informer::{Follower, Sight};
use crate::again::Again;
use crate::answer::in_time;

impl Carrying {
    /// Removes the pod, and waits until it is gone.
    pub(super) async fn remove(&self, follower: &mut Follower) {
        let grace = *self.canceling.grace.lock().unwrap_or_else(PoisonError::into_inner);
        let seconds = u32::try_from(crate::pod::whole_seconds(grace)).unwrap_or(u32::MAX);
        let until = Instant::now() + grace + Duration::from_secs(10);
        if !self.shared.has(&self.handle) {
            return;
        }
        let removed = async {
            // Until it is told to go it is this attempt's: whoever stops waiting leaves it to the attempt's release.
            if remove_pod(&self.shared, &self.name, Some(seconds)).await {
                self.shared.was_ours(&self.handle);
            }
            let mut poll = tokio::time::interval(Duration::from_secs(1));
            loop {
                tokio::select! {
                    // Of one that the watch has lost from sight, too.
                    _ = follower.sight.changed() => {
                        if !matches!(&*follower.sight.borrow_and_update(), Sight::Gone(_)) {
                            continue;
                        }
                    }
                    _ = poll.tick() => {}
                }
                if let Ok(None) = in_time(self.shared.pods.get_opt(&self.name)).await {
                    return;
                }
            }
        };
        if tokio::time::timeout_at(until, removed).await.is_err() {
            tracing::warn!(pod = %self.name, "it was not seen to go in its time");
        }
    }
}

/// Removes a pod, over failures; whether it goes. One that is not there has gone.
pub(super) async fn remove_pod(shared: &Shared, name: &str, grace: Option<u32>) -> bool {
    let mut params = DeleteParams::background();
    params.grace_period_seconds = grace;
    let mut again = Again::default();
    for _ in 0..20 {
        match shared.pace.send(in_time(shared.told.delete(name, &params))).await {
            Ok(_) => return true,
            Err(kube::Error::Api(status)) if status.code == 404 => return true,
            Err(error) => tracing::debug!(pod = name, %error, "it can't be removed yet"),
        }
        again.wait().await;
    }
    tracing::warn!(pod = name, "it was not removed");
    false
}
