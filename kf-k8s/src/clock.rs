//! The cluster's time. Times of the cluster's are compared with it alone: the clock of this machine may be hours off.

use std::time::Duration;

use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::time::Instant;

use crate::answer::in_time;

/// The cluster's clock, as it was when it was asked, and as much further as has passed since.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    /// In milliseconds since 1970.
    then: i64,
    at: Instant,
}

impl Clock {
    /// That of the API server, to the second: whoever it knows may ask it who they are, and is told when that was asked.
    ///
    /// # Errors
    /// Where it can't be asked; none where it does not tell.
    pub(crate) async fn ask(client: &Client) -> Result<Option<Self>, kube::Error> {
        let at = Instant::now();
        let reviews: Api<SelfSubjectReview> = Api::all(client.clone());
        let asked = SelfSubjectReview::default();
        let told = in_time(reviews.create(&PostParams::default(), &asked)).await?;
        let then = told.metadata.creation_timestamp.map(|time| time.0.as_millisecond());
        Ok(then.map(|then| Self { then, at }))
    }

    /// A clock that shows this many milliseconds since 1970.
    pub(crate) fn at(then: i64) -> Self {
        Self { then, at: Instant::now() }
    }

    /// That of the API server; this machine's where it does not tell.
    pub(crate) async fn ask_or_own(client: &Client) -> Self {
        let own = || Self::at(kf_core::Timestamp::now().as_millis());
        match Self::ask(client).await {
            Ok(clock) => clock.unwrap_or_else(own),
            Err(error) => {
                tracing::debug!(%error, "the cluster's time is not known: that of this machine is taken");
                own()
            }
        }
    }

    /// The time, in milliseconds since 1970.
    pub(crate) fn now(&self) -> i64 {
        let passed: Duration = self.at.elapsed();
        self.then.saturating_add(i64::try_from(passed.as_millis()).unwrap_or(i64::MAX))
    }

    /// The time, in seconds since 1970.
    pub(crate) fn seconds(&self) -> i64 {
        self.now() / 1000
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_goes_on_whatever_this_machine_s_clock_shows() {
        let clock = Clock::at(1_000_500);
        assert_eq!((clock.now(), clock.seconds()), (1_000_500, 1000));
        tokio::time::advance(Duration::from_millis(1500)).await;
        assert_eq!((clock.now(), clock.seconds()), (1_002_000, 1002));
    }
}
