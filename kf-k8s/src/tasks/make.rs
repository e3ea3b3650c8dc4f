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
use super::create::{Again, Patience, Refusal, may_be_done, refusal};
use super::executor::Shared;
use super::informer::Follower;
use super::pod::{is_of, is_of_another_run, pod_name};
use super::problem::PodProblem;
use super::remove::remove_pod;
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
        let Shared { pods, pace, namespace, .. } = &*self.shared;
        let (mut again, mut patience, mut told) = (Again::default(), Patience::default(), String::new());
        let mut unsure = Unsure::new(self);
        let asked = &self.canceling.asked;
        let mut quota_again = QUOTA_AGAIN[0];
        while !asked.is_cancelled() {
            // From when it may be on its way.
            let creating = async {
                unsure.maybe = true;
                in_time(Box::pin(self.create(&asked_for.pod))).await
            };
            let created = tokio::select! {
                created = pace.send(creating) => created,
                () = async { asked.cancelled().await; sleep(LAST_ANSWER).await } => break,
            };
            let error = match created {
                Ok(made) => {
                    unsure.maybe = false;
                    self.shared.is_ours(&self.handle);
                    follower.hear(&made);
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
            match refusal {
                Refusal::There => match in_time(pods.get_opt(&self.name)).await {
                    Ok(Some(there))
                        if is_of(&there, &self.handle)
                            && !is_of_another_run(&there, &asked_for.fingerprint) =>
                    {
                        tracing::debug!(pod = %self.name, "it is there already");
                        unsure.maybe = false;
                        self.shared.is_ours(&self.handle);
                        follower.hear(&there);
                        return Ok(UNWATCHED);
                    }
                    Ok(Some(_)) => {
                        unsure.maybe = false;
                        return Err(PodProblem::NameTaken {
                            namespace: namespace.clone(),
                            pod: self.name.clone(),
                            attempt: self.handle.0.clone(),
                        });
                    }
                    Ok(None) => {}
                    Err(error) => {
                        let reason = format!("the API server can't be asked: {}", with_causes(&error));
                        self.waits_anew(&mut told, reason).await;
                    }
                },
                Refusal::Quota(reason) => {
                    self.waits_anew(&mut told, format!("the namespace's quota is used up: {reason}")).await;
                    self.unless_canceled(sleep(quota_again)).await;
                    quota_again = (quota_again * 2).min(QUOTA_AGAIN[1]);
                    continue;
                }
                Refusal::Forbidden(reason) => {
                    let problem = PodProblem::forbidden(namespace, reason);
                    if patience.is_over() {
                        return Err(problem);
                    }
                    self.waits_anew(&mut told, problem.to_string()).await;
                }
                Refusal::NoNamespace => {
                    return Err(PodProblem::NoNamespace { namespace: namespace.clone() });
                }
                Refusal::Refused(reason) => {
                    return Err(PodProblem::Refused {
                        namespace: namespace.clone(),
                        pod: self.name.clone(),
                        reason,
                    });
                }
                Refusal::Later(reason) => {
                    self.waits_anew(&mut told, format!("the API server can't be asked: {reason}")).await
                }
            }
            self.unless_canceled(again.wait()).await;
        }
        Ok(LOOK)
    }

    async fn create(&self, pod: &[u8]) -> kube::Result<Pod> {
        let params = PostParams { field_manager: Some("kf".into()), ..PostParams::default() };
        let path = Pod::url_path(&(), Some(&self.shared.namespace));
        let request = Request::new(path).create(&params, pod.to_vec()).map_err(kube::Error::BuildRequest)?;
        self.shared.client.request(request).await
    }

    /// Tells what it waits for, where that is another than was told last.
    async fn waits_anew(&self, told: &mut String, reason: String) {
        if *told != reason {
            self.waits(reason.as_str()).await;
            *told = reason;
        }
    }

    async fn unless_canceled(&self, wait: impl Future<Output = ()>) {
        let _ = self.canceling.asked.run_until_cancelled(wait).await;
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
