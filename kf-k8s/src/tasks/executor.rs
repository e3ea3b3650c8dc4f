//! The executor that carries attempts as pods.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures::{StreamExt, stream};
use k8s_openapi::api::core::v1::{Event, Pod};
use kf_core::artifact::ArtifactStore;
use kf_core::process::{Log, LogFeed, LogStream, LogWriter};
use kf_core::{CancellationToken, RunId};
use kf_pipeline::{
    Attempt, AttemptEnd, AttemptHandle, AttemptStatus, ContainerTask, Executor, ExecutorError, Submission,
    Work,
};
use kube::api::{DeleteParams, ListParams};
use kube::{Api, Client};
use serde_json::Value as Json;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio_util::task::AbortOnDropHandle;

use super::attempt::{Asked, Canceling, Carrying, Start};
use super::claims;
use super::create::{Refusal, refusal};
use super::informer::{Informer, facts_of};
use super::options::TaskOptions;
use super::pace::Pace;
use super::platform::{
    CREATE_CLAIM, ClaimTask, DELETE_CLAIM, KubernetesConfig, Lookup, PlatformError, Reference, Source,
};
use super::pod::{Draft, MOST_REQUEST, RUN, is_of, pod, pod_name};
use super::problem::Known;
use super::remove::remove_pod;
use super::told::Told;
use super::warnings::Warnings;
use crate::again::Again;
use crate::answer::{in_time, said, with_causes};
use crate::clock::Clock;
use crate::pod::memory_limit;

/// The name of the file in an attempt's folder that its log is kept in.
const LOG: &str = "log.txt";
/// How long a pod may take to end that nobody of the engine tells to.
const GRACE: Duration = Duration::from_secs(30);
/// How many states of an attempt may wait to be heard.
const STATES: usize = 16;
/// How many logs of ended containers are read at once.
const LAST_LOGS: usize = 32;
/// How often it is tried again to remove a run's pods, and how many of those tries are left when missing rights end them: the
/// run's end does not wait for rights.
const REMOVALS: u32 = 10;
const WITHOUT_RIGHTS: u32 = REMOVALS - 3;
/// How often pods are looked for that nobody came for.
const SWEEP: Duration = Duration::from_secs(600);

/// Carries each attempt as one pod of a namespace. See the [module](super).
///
/// Clones are the same executor. Dropped, it stops to look at its pods, and they go on.
#[derive(Clone)]
pub struct PodExecutor {
    shared: Arc<Shared>,
}

/// What the attempts of an executor share.
pub(super) struct Shared {
    pub(super) namespace: String,
    pub(super) client: Client,
    pub(super) pods: Api<Pod>,
    /// The same, as far as they tell of themselves.
    pub(super) told: Api<Told>,
    pub(super) store: ArtifactStore,
    pub(super) pace: Pace,
    /// Places for logs that are followed.
    pub(super) logs: Arc<Semaphore>,
    /// Places for logs that are read when their containers have ended.
    pub(super) last_logs: Arc<Semaphore>,
    pub(super) options: TaskOptions,
    /// Started with the first attempt.
    informer: OnceLock<Informer>,
    warnings: OnceLock<Warnings>,
    sweeping: OnceLock<AbortOnDropHandle<()>>,
    running: Mutex<HashMap<AttemptHandle, Running>>,
    /// The attempts whose pods were seen to be theirs, until these go.
    ours: Mutex<HashSet<AttemptHandle>>,
    /// Pods that go since their attempts' ends are committed.
    pub(super) leaving: Mutex<JoinSet<()>>,
}

struct Running {
    canceling: Arc<Canceling>,
    log: Option<LogFeed>,
}

impl fmt::Debug for PodExecutor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Shared { namespace, options, .. } = &*self.shared;
        f.debug_struct("PodExecutor")
            .field("namespace", namespace)
            .field("options", options)
            .finish_non_exhaustive()
    }
}

impl PodExecutor {
    /// Of a namespace. `store` is the engine's artifact store, which the pods must reach too.
    pub fn new(
        client: Client,
        namespace: impl Into<String>,
        store: ArtifactStore,
        options: TaskOptions,
    ) -> Self {
        let namespace = namespace.into();
        Self {
            shared: Arc::new(Shared {
                pods: Api::namespaced(client.clone(), &namespace),
                told: Api::namespaced(client.clone(), &namespace),
                client,
                namespace,
                store,
                pace: Pace::new(options.writes_per_second),
                logs: Arc::new(Semaphore::new(options.followed_logs)),
                last_logs: Arc::new(Semaphore::new(LAST_LOGS)),
                options,
                informer: OnceLock::new(),
                warnings: OnceLock::new(),
                sweeping: OnceLock::new(),
                running: Mutex::default(),
                ours: Mutex::default(),
                leaving: Mutex::default(),
            }),
        }
    }

    /// The name of an attempt's pod.
    pub fn pod_name(attempt: &AttemptHandle) -> String {
        pod_name(attempt)
    }
}

/// An attempt under way; forgotten when this is dropped.
struct Under {
    shared: Arc<Shared>,
    handle: AttemptHandle,
    canceling: Arc<Canceling>,
}

impl Drop for Under {
    fn drop(&mut self) {
        let mut running = self.shared.running();
        // Another may have been attached to it since.
        if running.get(&self.handle).is_some_and(|of| Arc::ptr_eq(&of.canceling, &self.canceling)) {
            running.remove(&self.handle);
        }
    }
}

impl Shared {
    pub(super) fn informer(&self) -> &Informer {
        self.informer.get_or_init(|| Informer::start(self.told.clone()))
    }

    pub(super) fn warnings(&self) -> &Warnings {
        self.warnings
            .get_or_init(|| Warnings::start(Api::<Event>::namespaced(self.client.clone(), &self.namespace)))
    }

    /// The pod of this name is the attempt's.
    pub(super) fn is_ours(&self, handle: &AttemptHandle) {
        self.ours.lock().unwrap_or_else(PoisonError::into_inner).insert(handle.clone());
    }

    /// Whether it is.
    pub(super) fn has(&self, handle: &AttemptHandle) -> bool {
        self.ours.lock().unwrap_or_else(PoisonError::into_inner).contains(handle)
    }

    /// Whether it was, for the last time.
    pub(super) fn was_ours(&self, handle: &AttemptHandle) -> bool {
        self.ours.lock().unwrap_or_else(PoisonError::into_inner).remove(handle)
    }

    fn running(&self) -> MutexGuard<'_, HashMap<AttemptHandle, Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Carries an attempt in a task that ends with what is returned.
    fn carry(self: &Arc<Self>, what: Carried, start: Start) -> Submission {
        let Carried { handle, known, run, log, command } = what;
        let (tell, told) = mpsc::channel(STATES);
        let canceling = Arc::<Canceling>::default();
        // It can be followed before the pod runs.
        let log = log.map(|path| LogWriter::new(&Log::to(path)));
        let feed = log.as_ref().map(LogWriter::feed);
        let running = Running { canceling: Arc::clone(&canceling), log: feed };
        self.running().insert(handle.clone(), running);
        let under =
            Under { shared: Arc::clone(self), handle: handle.clone(), canceling: Arc::clone(&canceling) };
        let carrying = Carrying {
            shared: Arc::clone(self),
            name: pod_name(&handle),
            handle: handle.clone(),
            known,
            run,
            log: Mutex::new(log),
            canceling,
            tell: tell.clone(),
            command,
        };
        let carried = tokio::spawn(async move {
            let end = carrying.carry(start).await;
            drop(under);
            let _ = tell.send(Box::new(AttemptStatus::Ended(end))).await;
        });
        let state = (told, AbortOnDropHandle::new(carried));
        let status = stream::unfold(state, async |(mut told, carried)| {
            told.recv().await.map(|status| (*status, (told, carried)))
        });
        Submission { handle, status: status.boxed() }
    }

    /// Makes or deletes a claim.
    fn carry_claim(
        self: &Arc<Self>,
        handle: AttemptHandle,
        task: ClaimTask,
        cancel: CancellationToken,
    ) -> Submission {
        let (shared, attempt) = (Arc::clone(self), handle.clone());
        let end = async move {
            let carried = Box::pin(claims::carry(&shared, &attempt, task));
            let end = cancel.run_until_cancelled(carried).await;
            AttemptStatus::Ended(end.unwrap_or(AttemptEnd::Canceled))
        };
        Submission { handle, status: stream::once(end).boxed() }
    }

    /// Removes pods that have not ended. A pod's phase says so only a while after its container has.
    async fn remove_unfinished(&self, list: &ListParams, params: &DeleteParams) -> kube::Result<()> {
        let ended = |pod: &Pod| {
            let facts = facts_of(pod);
            facts
                .is_some_and(|pod| pod.over || pod.containers.iter().any(|container| container.end.is_some()))
        };
        let found = in_time(self.pods.list(list)).await?.items;
        for name in found.iter().filter(|pod| !ended(pod)).filter_map(|pod| pod.metadata.name.as_ref()) {
            match in_time(self.pods.delete(name, params)).await {
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                removed => drop(removed?),
            }
        }
        Ok(())
    }

    /// Removes pods that have ended long ago and that nobody came for.
    async fn sweep(client: Client, pods: Api<Pod>, keep: Duration) {
        let mut times = tokio::time::interval(SWEEP);
        loop {
            times.tick().await;
            // Their times are the cluster's.
            let Ok(Some(clock)) = Clock::ask(&client).await else { continue };
            for phase in ["Succeeded", "Failed"] {
                let list = ListParams::default().labels(RUN).fields(&format!("status.phase={phase}"));
                let Ok(found) = in_time(pods.list(&list)).await else { continue };
                for pod in found.items.iter().filter(|pod| is_older(pod, keep, clock.now())) {
                    let Some(name) = &pod.metadata.name else { continue };
                    let _ = in_time(pods.delete(name, &DeleteParams::background())).await;
                }
            }
        }
    }
}

/// Whether a pod's last container ended longer ago than that, at this time of the cluster's in milliseconds since 1970.
fn is_older(pod: &Pod, than: Duration, now: i64) -> bool {
    let containers = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    let ends =
        containers.filter_map(|container| container.state.as_ref()?.terminated.as_ref()?.finished_at.clone());
    let than = i64::try_from(than.as_millis()).unwrap_or(i64::MAX);
    ends.map(|end| end.0.as_millisecond()).max().is_some_and(|end| now.saturating_sub(end) > than)
}

/// Whether this program may not do what it has asked for.
fn is_forbidden(error: &kube::Error) -> bool {
    matches!(refusal(error), Refusal::Forbidden(_))
}

/// The task's own inputs.
fn inputs(attempt: &Attempt) -> serde_json::Map<String, Json> {
    let of_platform = ContainerTask::kubernetes_parameter("");
    let own = attempt.parameters.iter().filter(|(name, _)| !name.starts_with(&of_platform));
    own.map(|(name, value)| (name.to_string(), Json::clone(value))).collect()
}

/// What a parameter of the platform document is; null where a component's input was left out.
fn given(attempt: &Attempt, reference: &Reference<'_>) -> Option<Json> {
    let name = ContainerTask::kubernetes_parameter(reference.pointer);
    let found = attempt.parameters.iter().find(|(given, _)| given.as_ref() == name);
    let absent = || matches!(reference.source, Source::ComponentInput(_)).then_some(Json::Null);
    found.map(|(_, value)| Json::clone(value)).or_else(absent)
}

/// What is known of an attempt that is carried.
struct Carried {
    handle: AttemptHandle,
    known: Known,
    run: Option<String>,
    log: Option<std::path::PathBuf>,
    command: bool,
}

#[async_trait]
impl Executor for PodExecutor {
    fn outlives_engine(&self) -> bool {
        true
    }

    fn on_this_machine(&self) -> bool {
        false
    }

    fn accepts(&self, work: &Work) -> Result<(), String> {
        let Work::Container(task) = work else { return Ok(()) };
        let container = &task.container;
        if container.image.is_empty() {
            return Err("names no image".into());
        }
        KubernetesConfig::read(&task.kubernetes).map_err(|error| error.to_string())?;
        if [CREATE_CLAIM, DELETE_CLAIM].contains(&container.image.as_str()) {
            return Ok(());
        }
        if container.command.is_empty() {
            return Err(format!(
                "has no command, and what image `{}` runs by itself can't be put between fetching its inputs and keeping its \
                 outputs; give it its command",
                container.image
            ));
        }
        Ok(())
    }

    async fn submit(&self, attempt: Arc<Attempt>) -> Result<Submission, ExecutorError> {
        let shared = &self.shared;
        shared.sweeping.get_or_init(|| {
            let keep = shared.options.pod.keep.max(shared.options.keep_finished);
            let sweep = Shared::sweep(shared.client.clone(), shared.pods.clone(), keep);
            AbortOnDropHandle::new(tokio::spawn(sweep))
        });
        let handle = attempt.handle();
        let task = match &attempt.work {
            Work::Container(task) => Some(task),
            _ => None,
        };
        let image = task.map(|task| task.container.image.as_str());
        let wrong = |error: PlatformError| ExecutorError::Start(error.to_string());
        if let Some(image) = image
            && let Some(claim) = ClaimTask::of(image, &inputs(&attempt), &pod_name(&handle)).map_err(wrong)?
        {
            return Ok(shared.carry_claim(handle, claim, attempt.cancel.clone()));
        }
        let platform = match task {
            Some(task) => Some(KubernetesConfig::read(&task.kubernetes).map_err(wrong)?),
            None => None,
        };
        if shared.namespace.is_empty() {
            let nameless = "`PodExecutor::new` was given no namespace, but an empty name";
            return Err(ExecutorError::Start(nameless.into()));
        }
        let request = attempt.to_request(MOST_REQUEST, &shared.store).await?;
        let fingerprint = attempt.fingerprint();
        let given = |reference: &Reference<'_>| given(&attempt, reference);
        let draft = Draft {
            handle: &handle,
            run: &attempt.run,
            image,
            request,
            fingerprint: &fingerprint,
            resources: &attempt.resources,
            timeout: attempt.timeout,
            grace: GRACE,
            options: &shared.options,
            platform: platform.as_ref().map(|platform| (platform, &given as &Lookup<'_>)),
        };
        let pod = pod(draft).map_err(wrong)?;
        let mut pod = serde_json::to_vec(&pod).map_err(|error| ExecutorError::Start(error.to_string()))?;
        pod.shrink_to_fit();
        let carried = Carried {
            known: Known { timeout: attempt.timeout, memory: memory_limit(&attempt.resources) },
            run: Some(attempt.run.to_string()),
            log: Some(attempt.dir.join(LOG)),
            command: image.is_some(),
            handle,
        };
        Ok(shared.carry(carried, Start::Make(Asked { pod, fingerprint })))
    }

    async fn attach(&self, handle: &AttemptHandle) -> Result<Submission, ExecutorError> {
        let name = pod_name(handle);
        let found = in_time(self.shared.pods.get_opt(&name)).await;
        let found = found.map_err(|error| ExecutorError::Start(with_causes(&error)))?;
        match found.filter(|pod| is_of(pod, handle)) {
            None => Err(ExecutorError::Gone(handle.clone())),
            Some(pod) => {
                let command = pod.spec.as_ref().is_some_and(|spec| spec.init_containers.is_some());
                let run = pod.metadata.labels.as_ref().and_then(|labels| labels.get(RUN)).cloned();
                let carried =
                    Carried { handle: handle.clone(), known: Known::default(), run, log: None, command };
                self.shared.is_ours(handle);
                Ok(self.shared.carry(carried, Start::There(Box::new(pod))))
            }
        }
    }

    async fn cancel(&self, handle: &AttemptHandle, grace: Duration) {
        let canceling = self.shared.running().get(handle).map(|running| Arc::clone(&running.canceling));
        let Some(canceling) = canceling else { return };
        *canceling.grace.lock().unwrap_or_else(PoisonError::into_inner) = grace;
        canceling.asked.cancel();
    }

    async fn release(&self, handle: &AttemptHandle) {
        if !self.shared.was_ours(handle) {
            return;
        }
        let (shared, name) = (Arc::downgrade(&self.shared), pod_name(handle));
        let keep = self.shared.options.keep_finished;
        let mut leaving = self.shared.leaving.lock().unwrap_or_else(PoisonError::into_inner);
        while leaving.try_join_next().is_some() {}
        leaving.spawn(async move {
            tokio::time::sleep(keep).await;
            if let Some(shared) = shared.upgrade() {
                remove_pod(&shared, &name, Some(0)).await;
            }
        });
    }

    async fn end_run(&self, run: &RunId) -> Result<(), ExecutorError> {
        let list = ListParams::default().labels(&format!("{RUN}={run}"));
        let params = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::background() };
        let keeps = !self.shared.options.keep_finished.is_zero();
        let mut again = Again::default();
        let mut left = REMOVALS;
        loop {
            let removed = match keeps {
                true => self.shared.pace.send(self.shared.remove_unfinished(&list, &params)).await,
                false => {
                    let removing = in_time(self.shared.pods.delete_collection(&params, &list));
                    self.shared.pace.send(removing).await.map(drop)
                }
            };
            match removed {
                Ok(()) => return Ok(()),
                Err(error) if left == 0 || (left <= WITHOUT_RIGHTS && is_forbidden(&error)) => {
                    return Err(ExecutorError::Remove(said(&error)));
                }
                Err(error) => tracing::debug!(%run, %error, "its pods can't be removed yet"),
            }
            left -= 1;
            again.wait().await;
        }
    }

    async fn logs(&self, handle: &AttemptHandle) -> Result<Option<LogStream>, ExecutorError> {
        Ok(self.shared.running().get(handle).and_then(|running| running.log.as_ref()).map(LogFeed::follow))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pod_is_as_old_as_the_cluster_says() {
        let pod: Pod =
            serde_json::from_value(json!({"status": {"containerStatuses": [{"name": "task", "image": "",
            "imageID": "", "ready": false, "restartCount": 0, "state": {"terminated": {"exitCode": 0,
            "finishedAt": "2026-01-01T00:00:00Z"}}}]}}))
            .unwrap();
        let (end, minute) = (1_767_225_600_000, Duration::from_secs(60));
        assert!(!is_older(&pod, minute, end + 60_000) && is_older(&pod, minute, end + 60_001));
        // A node's clock may be ahead of it.
        assert!(!is_older(&pod, minute, end - 3_600_000) && !is_older(&Pod::default(), minute, end));
    }
}
