//! The next start of a job's ranks, which the cluster may refuse.

use std::time::Duration;

use kf_train::{Error, JobEnd, JobEvent, Result};
use kube::api::{DeleteParams, DynamicObject};

use super::cluster::{Cluster, began, verdict_of};
use super::follow::{Job as Followed, Verdict};
use super::names::object_name;
use crate::again::Again;
use crate::answer::in_time;
use crate::clock::Clock;
use crate::pod::whole_seconds;

/// How long it is until the cluster is asked again, at first and at most.
const AGAIN: [Duration; 2] = [Duration::from_millis(200), Duration::from_secs(5)];

/// What is to be done about a job whose ranks are to be started anew.
#[derive(Debug, PartialEq)]
enum Step {
    Start,
    /// What there is of the new start is to be ended, and followed to that.
    Cancel,
    /// What there is of the new start is to be followed.
    Follow,
    End(JobEnd),
}

/// Decides by the job's objects, among which that of the new start has this name; `started` where that is there as a whole,
/// `late` where the job's time is over.
fn step(objects: &[DynamicObject], next: &str, started: bool, late: Option<Duration>) -> Step {
    let there = objects.iter().any(|object| object.metadata.name.as_deref() == Some(next));
    let canceled = objects.iter().any(|object| matches!(verdict_of(object), Some(Verdict::Canceled)));
    match late {
        _ if objects.is_empty() => {
            let reason = "its objects were deleted before its ranks were started anew".to_owned();
            Step::End(JobEnd::Broken { reason, retryable: true })
        }
        _ if canceled && there => Step::Cancel,
        _ if canceled => Step::End(JobEnd::Canceled),
        _ if started => Step::Follow,
        Some(_) if there => Step::Follow,
        Some(after) => Step::End(JobEnd::TimedOut { after }),
        None => Step::Start,
    }
}

impl Cluster {
    /// Starts a job's ranks anew, and lets go of those before. While the cluster refuses that, it is told, and tried again,
    /// until the job's time is over, or it is cancelled or deleted. What is there of the new start by then is to be followed
    /// to its end.
    ///
    /// # Errors
    /// How the job ends where there is nothing to follow.
    pub(super) async fn start_again(&self, job: &Followed, restart: u64) -> Result<(), JobEnd> {
        let next = object_name(&job.name, restart);
        let (mut again, mut told, mut started) = (Again::between(AGAIN), String::new(), false);
        loop {
            // Once more after the start: whoever cancels writes it on the last object that was there.
            let error = match self.look(job, &next, started).await {
                Ok(Step::End(end)) => return Err(end),
                Ok(Step::Follow) => break,
                Ok(Step::Cancel) => match self.suspend(&next, &Verdict::Canceled).await {
                    Ok(()) => break,
                    Err(error) => error,
                },
                Ok(Step::Start) => match self.start(&job.spec, &job.attempt_id, &job.name, restart).await {
                    Ok(()) => {
                        started = true;
                        continue;
                    }
                    Err(error) => error,
                },
                Err(error) => error,
            };
            if let Error::Job { .. } = error {
                return Err(JobEnd::Broken { reason: error.to_string(), retryable: false });
            }
            let reason = format!("its ranks can't be started anew: {error}");
            if reason != told {
                job.feed.tell(JobEvent::Waiting { reason: reason.clone() });
                told = reason;
            }
            again.wait().await;
        }
        let before = object_name(&job.name, restart - 1);
        if let Err(error) = in_time(self.objects().delete(&before, &DeleteParams::background())).await {
            tracing::debug!(object = %before, %error, "it stays until its time is over");
        }
        Ok(())
    }

    /// What is to be done by what there is.
    async fn look(&self, job: &Followed, next: &str, started: bool) -> Result<Step> {
        let objects = self.objects_of(&job.name).await?;
        let late = match (job.spec.timeout, began(&objects)) {
            (Some(after), Some(began)) if !started => {
                let now = Clock::ask_or_own(&self.client).await.seconds();
                (now > began.saturating_add(whole_seconds(after))).then_some(after)
            }
            _ => None,
        };
        Ok(step(&objects, next, started, late))
    }
}

#[cfg(test)]
mod tests {
    use kube::api::ApiResource;
    use serde_json::json;

    use super::super::names::VERDICT;
    use super::*;

    fn object(name: &str, verdict: Option<Verdict>) -> DynamicObject {
        let resource = ApiResource::erase::<k8s_openapi::api::batch::v1::Job>(&());
        let mut object = DynamicObject::new(name, &resource);
        let written = verdict.map(|verdict| (VERDICT.to_owned(), json!(verdict).to_string()));
        object.metadata.annotations = Some(written.into_iter().collect());
        object
    }

    #[test]
    fn what_is_done_follows_from_what_there_is() {
        let after = Duration::from_secs(9);
        let (before, next) = (|| object("a-0", None), || object("a-1", None));
        let canceled = |name| object(name, Some(Verdict::Canceled));
        let failed = || object("a-0", Some(Verdict::Broken { reason: "r".into(), retryable: true }));
        for (objects, started, late, expected) in [
            (vec![before()], false, None, Step::Start),
            (vec![failed()], false, None, Step::Start),
            // Half of it.
            (vec![before(), next()], false, None, Step::Start),
            (vec![before(), next()], true, None, Step::Follow),
            // The one before was let go by another launcher.
            (vec![next()], true, None, Step::Follow),
            (vec![before()], false, Some(after), Step::End(JobEnd::TimedOut { after })),
            // It ends by its own time.
            (vec![before(), next()], false, Some(after), Step::Follow),
            (vec![canceled("a-0")], false, None, Step::End(JobEnd::Canceled)),
            (vec![canceled("a-0")], false, Some(after), Step::End(JobEnd::Canceled)),
            (vec![canceled("a-0"), next()], true, None, Step::Cancel),
            (vec![before(), canceled("a-1")], false, None, Step::Cancel),
        ] {
            let names: Vec<_> = objects.iter().map(|object| object.metadata.name.clone()).collect();
            assert_eq!(step(&objects, "a-1", started, late), expected, "{names:?}, {started}, {late:?}");
        }
        for started in [false, true] {
            assert!(matches!(step(&[], "a-1", started, None), Step::End(JobEnd::Broken { .. })));
        }
    }
}
