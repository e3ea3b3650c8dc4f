//! The next start of a job's ranks, which the cluster may refuse.

use std::time::Duration;

use kf_train::{Error, JobEnd, JobEvent, Result};
use kube::api::{DeleteParams, DynamicObject};

use super::cluster::{Cluster, verdict_of};
use super::follow::{Job as Followed, Verdict};
use super::names::object_name;
use crate::answer::in_time;
use crate::clock::Clock;
use crate::pod::whole_seconds;

/// How long it is until the cluster is asked again, at first and at most.
const AGAIN: [Duration; 2] = [Duration::from_millis(200), Duration::from_secs(5)];

impl Cluster {
    /// Starts a job's ranks anew, and lets go of those before. While the cluster refuses that, it is told, and tried again,
    /// until the job's time is over, or it is cancelled or deleted. What is there of the new start by then is to be followed
    /// to its end.
    ///
    /// # Errors
    /// How the job ends where there is nothing to follow.
    pub(super) async fn start_again(&self, job: &Followed, restart: u64) -> Result<(), JobEnd> {
        let next = object_name(&job.name, restart);
        let (mut wait, mut told, mut started) = (AGAIN[0], String::new(), false);
        loop {
            // Once more after the start: whoever cancels writes it on the last object that was there.
            let refused = match self.objects_of(&job.name).await {
                Ok(objects) if objects.is_empty() => {
                    let reason = "its objects were deleted before its ranks were started anew".to_owned();
                    return Err(JobEnd::Broken { reason, retryable: true });
                }
                Ok(objects) => {
                    let there = objects.iter().any(|object| object.metadata.name.as_ref() == Some(&next));
                    let canceled = objects.iter().any(is_canceled);
                    match (canceled, there) {
                        (true, false) => return Err(JobEnd::Canceled),
                        (true, true) => match self.suspend(&next, &Verdict::Canceled).await {
                            Ok(()) => break,
                            Err(error) => Some(error),
                        },
                        (false, _) if started => break,
                        (false, there) => match job.spec.timeout {
                            Some(_) if there && self.is_late(job).await => break,
                            Some(after) if self.is_late(job).await => return Err(JobEnd::TimedOut { after }),
                            _ => self.start(&job.spec, &job.attempt_id, &job.name, restart).await.err(),
                        },
                    }
                }
                Err(error) => Some(error),
            };
            started = started || refused.is_none();
            match refused {
                None => continue,
                Some(error @ Error::Job { .. }) => {
                    return Err(JobEnd::Broken { reason: error.to_string(), retryable: false });
                }
                Some(error) => {
                    let reason = format!("its ranks can't be started anew: {error}");
                    if reason != told {
                        job.feed.tell(JobEvent::Waiting { reason: reason.clone() });
                        told = reason;
                    }
                }
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(AGAIN[1]);
        }
        let before = object_name(&job.name, restart - 1);
        if let Err(error) = in_time(self.objects().delete(&before, &DeleteParams::background())).await {
            tracing::debug!(object = %before, %error, "it stays until its time is over");
        }
        Ok(())
    }

    /// Whether a job's time is over.
    async fn is_late(&self, job: &Followed) -> bool {
        let Some(after) = job.spec.timeout else { return false };
        let Ok(Some(began)) = self.began(&job.name).await else { return false };
        Clock::ask_or_own(&self.client).await.seconds() > began.saturating_add(whole_seconds(after))
    }
}

fn is_canceled(object: &DynamicObject) -> bool {
    matches!(verdict_of(object), Some(Verdict::Canceled))
}
