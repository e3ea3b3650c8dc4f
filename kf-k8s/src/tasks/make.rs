//! The making of an attempt's pod: it is made once, whatever becomes of the answers.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kf_pipeline::AttemptHandle;
use kube::Resource;
use kube::api::PostParams;
use kube::core::Request;
use tokio::time::sleep;

use super::attempt::{Asked, Canceling, Carrying, LOOK, UNWATCHED};
use super::create::{Patience, Refusal, may_be_done, refusal};
use super::executor::Shared;
use super::informer::{Follower, facts_of};
use super::pod::{is_of, is_of_another_run, pod_name};
use super::problem::PodProblem;
use super::remove::remove_pod;
use super::told::Told;
use crate::again::Again;
use crate::answer::{in_time, with_causes};

/// How long it takes until a quota is asked again, at first and at most.
const QUOTA_AGAIN: [Duration; 2] = [Duration::from_secs(3), Duration::from_secs(30)];
/// How long the answer to a request that is under way is waited for when the attempt is cancelled.
const LAST_ANSWER: Duration = Duration::from_secs(3);
/// When a pod is looked for that may have been made after its attempt was cancelled, each after the other.
const LOOKS: [Duration; 4] =
    [Duration::ZERO, Duration::from_secs(1), Duration::from_secs(4), Duration::from_secs(15)];

impl Carrying {
    /// Makes the pod, unless it is there; how long after that it is looked at by itself.
    pub(super) async fn make(&self, asked_for: &Asked, follower: &Follower) -> Result<Duration, PodProblem> {
        let namespace = || self.shared.namespace.clone();
        let (mut again, mut quota_again) = (Again::default(), Again::between(QUOTA_AGAIN));
        let (mut patience, mut told) = (Patience::default(), String::new());
        let mut unsure = Unsure::new(self);
        let asked = &self.canceling.asked;
        while !asked.is_cancelled() {
            // From when it may be on its way.
            let creating = async {
                unsure.maybe = true;
                Box::pin(self.create(&asked_for.pod, follower)).await
            };
            let created = tokio::select! {
                created = self.shared.pace.send(creating) => created,
                () = async { asked.cancelled().await; sleep(LAST_ANSWER).await } => break,
            };
            let error = match created {
                Ok(()) => {
                    unsure.maybe = false;
                    return Ok(LOOK);
                }
                Err(error) => error,
            };
            unsure.maybe = unsure.before || may_be_done(&error);
            unsure.before = unsure.maybe;
            let refusal = refusal(&error);
            if !matches!(refusal, Refusal::Forbidden(_)) {
                patience.renew();
            }
            let mut next = &mut again;
            let waits = match refusal {
                Refusal::There => match Box::pin(self.find(&asked_for.fingerprint, follower)).await {
                    Ok(Some(found)) => {
                        unsure.maybe = false;
                        return found.map(|()| UNWATCHED);
                    }
                    Ok(None) => None,
                    Err(error) => Some(format!("the API server can't be asked: {}", with_causes(&error))),
                },
                Refusal::Quota(reason) => {
                    next = &mut quota_again;
                    Some(format!("the namespace's quota is used up: {reason}"))
                }
                Refusal::Forbidden(reason) => {
                    let problem = PodProblem::forbidden(&self.shared.namespace, reason);
                    if patience.is_over() {
                        return Err(problem);
                    }
                    Some(problem.to_string())
                }
                Refusal::NoNamespace => return Err(PodProblem::NoNamespace { namespace: namespace() }),
                Refusal::Refused(reason) => {
                    let (namespace, pod) = (namespace(), self.name.clone());
                    return Err(PodProblem::Refused { namespace, pod, reason });
                }
                Refusal::Later(reason) => Some(format!("the API server can't be asked: {reason}")),
            };
            if let Some(reason) = waits.filter(|reason| *reason != told) {
                self.waits(reason.as_str()).await;
                told = reason;
            }
            let _ = asked.run_until_cancelled(next.wait()).await;
        }
        Ok(LOOK)
    }

    /// Takes the pod that has the name, where it is the attempt's; none where it has gone meanwhile.
    async fn find(
        &self,
        fingerprint: &str,
        follower: &Follower,
    ) -> kube::Result<Option<Result<(), PodProblem>>> {
        let Some(there) = in_time(self.shared.pods.get_opt(&self.name)).await? else { return Ok(None) };
        if !is_of(&there, &self.handle) || is_of_another_run(&there, fingerprint) {
            return Ok(Some(Err(PodProblem::NameTaken {
                namespace: self.shared.namespace.clone(),
                pod: self.name.clone(),
                attempt: self.handle.0.clone(),
            })));
        }
        tracing::debug!(pod = %self.name, "it is there already");
        self.shared.is_ours(&self.handle);
        follower.hear(facts_of(&there));
        Ok(Some(Ok(())))
    }

    async fn create(&self, pod: &[u8], follower: &Follower) -> kube::Result<()> {
        let params = PostParams { field_manager: Some("kf".into()), ..PostParams::default() };
        let path = Pod::url_path(&(), Some(&self.shared.namespace));
        let request = Request::new(path).create(&params, pod.to_vec()).map_err(kube::Error::BuildRequest)?;
        let made: Told = in_time(self.shared.client.request(request)).await?;
        self.shared.is_ours(&self.handle);
        follower.hear(made.facts);
        Ok(())
    }
}

/// While it is not known whether a pod was made. Dropped so after the attempt was cancelled, it has the pod looked for, and
/// removed: nobody else will come for it.
struct Unsure {
    shared: Arc<Shared>,
    handle: AttemptHandle,
    canceling: Arc<Canceling>,
    maybe: bool,
    /// Whether it was so before the last request.
    before: bool,
}

impl Unsure {
    fn new(carrying: &Carrying) -> Self {
        let Carrying { shared, handle, canceling, .. } = carrying;
        let (shared, handle, canceling) = (Arc::clone(shared), handle.clone(), Arc::clone(canceling));
        Self { shared, handle, canceling, maybe: false, before: false }
    }
}

impl Drop for Unsure {
    fn drop(&mut self) {
        if !self.maybe || !self.canceling.asked.is_cancelled() {
            return;
        }
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let (shared, handle) = (Arc::downgrade(&self.shared), self.handle.clone());
        let removes = async move {
            for after in LOOKS {
                sleep(after).await;
                let Some(shared) = shared.upgrade() else { return };
                let name = pod_name(&handle);
                if let Ok(Some(pod)) = in_time(shared.pods.get_opt(&name)).await
                    && is_of(&pod, &handle)
                {
                    remove_pod(&shared, &name, Some(0)).await;
                    return;
                }
            }
        };
        let mut leaving = self.shared.leaving.lock().unwrap_or_else(PoisonError::into_inner);
        leaving.spawn_on(removes, &runtime);
    }
}
