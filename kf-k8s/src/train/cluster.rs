//! What a launcher asks of the cluster.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Pod, Service, ServiceSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kf_core::Timestamp;
use kf_train::{Error, JobSpec, Result};
use kube::api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::follow::Verdict;
use super::kinds::{Draft, Kind, LATE, Made};
use super::names::{ATTEMPT, BEGAN, JOB, SPEC, VERDICT, WOKEN, labels, object_name, restart_of, selector};
use super::options::PodOptions;
use super::pods::{Start, template};
use crate::answer::{in_time, said};
use crate::clock::Clock;
use crate::objects::TrainingRuntime;
use crate::pod::{is_label, whole_seconds};

/// How long an operator may take to hear of an object.
const UNHEARD: Duration = Duration::from_secs(10);

/// A namespace of a cluster, and how jobs are made there.
#[derive(Clone)]
pub(crate) struct Cluster {
    pub(crate) client: Client,
    pub(crate) namespace: String,
    pub(crate) kind: Kind,
    pub(crate) options: PodOptions,
}

/// A job that was found on the cluster.
pub(super) struct Found {
    pub(super) spec: JobSpec,
    pub(super) restart: u64,
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { namespace, kind, options, client: _ } = self;
        f.debug_struct("Cluster")
            .field("namespace", namespace)
            .field("kind", kind)
            .field("options", options)
            .finish_non_exhaustive()
    }
}

impl Cluster {
    pub(crate) fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// The objects that carry jobs.
    pub(crate) fn objects(&self) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), &self.namespace, &self.kind.resource())
    }

    /// Refuses a namespace whose name is none: an empty one would stand for all there are.
    ///
    /// # Errors
    /// [`Error::Carrier`] of what was to be done.
    fn check_namespace(&self, what: &str, name: &str) -> Result<()> {
        let namespace = &self.namespace;
        if is_label(namespace) {
            return Ok(());
        }
        let reason = format!(
            "the launcher's namespace is {namespace:?}; give `KubeLauncher::new` the name of one: 1 to 63 lowercase letters, \
             digits and `-`"
        );
        Err(Error::Carrier { what: format!("{what} `{name}`"), reason, retryable: false })
    }

    /// Those of one job, one for each start that is still there.
    pub(super) async fn objects_of(&self, name: &str) -> Result<Vec<DynamicObject>> {
        self.check_namespace("look for a job", name)?;
        let list = ListParams::default().labels(&selector(name));
        let objects = in_time(self.objects().list(&list)).await.map_err(refused("look for a job", name))?;
        Ok(objects.items)
    }

    /// The job of this name, as it was started last; none where there is none.
    ///
    /// # Errors
    /// What the cluster says; [`Error::Job`] where the object is not one of ours.
    pub(super) async fn find(&self, name: &str) -> Result<Option<Found>> {
        let objects = self.objects_of(name).await?;
        let Some((object, restart)) = objects
            .iter()
            .filter_map(|object| Some((object, restart_of(&object.metadata)?)))
            .max_by_key(|(_, restart)| *restart)
        else {
            return Ok(None);
        };
        let text = object.metadata.annotations.as_ref().and_then(|all| all.get(SPEC));
        let spec = text.and_then(|text| serde_json::from_str(text).ok());
        let unreadable = || Error::Job {
            job: name.to_owned(),
            reason: format!(
                "its object in namespace `{}` has no annotation {SPEC} that can be read: was it edited, or written by \
                 another version?",
                self.namespace
            ),
        };
        Ok(Some(Found { spec: spec.ok_or_else(unreadable)?, restart }))
    }

    /// Makes a start of a job's ranks, unless it is there already.
    ///
    /// # Errors
    /// [`Error::Job`] for what can't be made or is refused for good, and what else the cluster says.
    pub(super) async fn start(
        &self,
        spec: &JobSpec,
        attempt_id: &str,
        name: &str,
        restart: u64,
    ) -> Result<()> {
        let wrong = |reason: String| Error::Job { job: spec.name.clone(), reason };
        // Its time goes by the cluster's clock: another launcher may be the next to start it.
        let now = Clock::ask_or_own(&self.client).await.seconds();
        let began = match restart {
            0 => now,
            _ => began(&self.objects_of(name).await?).unwrap_or(now),
        };
        let object_name = object_name(name, restart);
        let start = Start {
            spec,
            attempt_id,
            job: name,
            restart,
            hosts: self.kind.hosts(&object_name, spec.nodes),
            service: &object_name,
            kind: self.kind,
            options: &self.options,
        };
        let mut template = template(&start).map_err(wrong)?;
        let gang = self.options.gang.as_ref().map(|gang| {
            gang.mark(&object_name, spec.nodes, &spec.resources, spec.ranks_per_node, &mut template)
        });
        let gang = gang.unwrap_or_default();
        let left = spec.timeout.map(|timeout| left(timeout, began, now));
        let draft = Draft { spec, options: &self.options, name: &object_name, template, seconds: left };
        let Made { spec: mut body, runtime } =
            self.kind.make(draft).map_err(|error| wrong(error.to_string()))?;
        if gang.suspended {
            merge(&mut body, self.kind.suspended());
        }
        let as_text = |value: serde_json::Result<String>| value.map_err(|error| wrong(error.to_string()));
        let mut object = DynamicObject::new(&object_name, &self.kind.resource()).data(json!({"spec": body}));
        let mut all = self.options.labels.clone();
        all.extend(labels(name, restart));
        object.metadata.labels = Some([gang.labels, all.clone()].into_iter().flatten().collect());
        object.metadata.annotations = Some(
            [
                (ATTEMPT.to_owned(), attempt_id.to_owned()),
                (SPEC.to_owned(), as_text(serde_json::to_string(spec))?),
                (BEGAN.to_owned(), began.to_string()),
            ]
            .into(),
        );
        let runtimes: Api<TrainingRuntime> = Api::namespaced(self.client.clone(), &self.namespace);
        if let Some(runtime) = runtime {
            // The TrainJob is refused where it is not there.
            let mut runtime = TrainingRuntime::new(&object_name, runtime);
            runtime.metadata.labels = Some(all.clone());
            make_once(&runtimes, &runtime).await.map_err(refused("make a runtime for", name))?;
        }
        let params = PostParams { field_manager: Some("kf".into()), ..PostParams::default() };
        let made = match self.create(&params, &object).await {
            Ok(made) => made,
            Err(error) => {
                // Also where it is told something else: a quota that is used up hides that it is there, and an answer may be
                // lost.
                let Ok(Some(there)) = in_time(self.objects().get_opt(&object_name)).await else {
                    return Err(refused("start", &spec.name)(error));
                };
                let ours =
                    there.metadata.labels.as_ref().and_then(|all| all.get(JOB)).is_some_and(|of| of == name);
                if !ours {
                    return Err(wrong(format!(
                        "the name `{object_name}` is taken in namespace `{}` by an object that is not of this job",
                        self.namespace
                    )));
                }
                there
            }
        };
        let owner = self.owner(&object_name, &made);
        if let Some((resource, mut group)) = gang.group {
            group.metadata.labels = Some(all.clone());
            group.metadata.owner_references = Some(vec![owner.clone()]);
            let groups: Api<DynamicObject> =
                Api::namespaced_with(self.client.clone(), &self.namespace, &resource);
            make_once(&groups, &group).await.map_err(refused("make the pod group of", name))?;
        }
        if self.kind.needs_service() {
            self.make_service(&object_name, &owner, all, name, restart).await?;
        }
        if self.kind == Kind::TrainJob {
            let patch = json!({"metadata": {"ownerReferences": [owner]}});
            let patched =
                in_time(runtimes.patch(&object_name, &PatchParams::default(), &Patch::Merge(patch))).await;
            patched.map_err(refused("give its job the runtime of", name))?;
        }
        Ok(())
    }

    /// Creates an object; one whose runtime was just made may be refused until the operator has heard of that.
    async fn create(
        &self,
        params: &PostParams,
        object: &DynamicObject,
    ) -> Result<DynamicObject, kube::Error> {
        let until = Instant::now() + UNHEARD;
        loop {
            match in_time(self.objects().create(params, object)).await {
                Err(kube::Error::Api(status))
                    if self.kind == Kind::TrainJob
                        && status.code == 403
                        && status.message.contains("spec.runtimeRef")
                        && Instant::now() < until =>
                {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                created => return created,
            }
        }
    }

    /// Whoever names this as its owner goes with the object.
    pub(crate) fn owner(&self, name: &str, object: &DynamicObject) -> OwnerReference {
        let resource = self.kind.resource();
        OwnerReference {
            api_version: resource.api_version,
            kind: resource.kind,
            name: name.to_owned(),
            uid: object.metadata.uid.clone().unwrap_or_default(),
            controller: Some(true),
            block_owner_deletion: None,
        }
    }

    /// The service that gives the pods of a start their names; it goes with the object.
    pub(crate) async fn make_service(
        &self,
        name: &str,
        owner: &OwnerReference,
        all: BTreeMap<String, String>,
        job: &str,
        restart: u64,
    ) -> Result<()> {
        let service = Service {
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                labels: Some(all),
                owner_references: Some(vec![owner.clone()]),
                ..Default::default()
            },
            spec: Some(ServiceSpec {
                cluster_ip: Some("None".into()),
                publish_not_ready_addresses: Some(true),
                selector: Some(labels(job, restart)),
                ..Default::default()
            }),
            ..Default::default()
        };
        let services: Api<Service> = Api::namespaced(self.client.clone(), &self.namespace);
        make_once(&services, &service).await.map_err(refused("make a service for", job))
    }

    /// Whether one of the Jobs that an object has made has failed because its time was over.
    ///
    /// # Errors
    /// What the cluster says.
    pub(super) async fn has_late_job(&self, object: &str) -> Result<bool> {
        let Some(selector) = self.kind.jobs_of(object) else { return Ok(false) };
        let jobs: Api<Job> = Api::namespaced(self.client.clone(), &self.namespace);
        let jobs = in_time(jobs.list(&ListParams::default().labels(&selector))).await;
        let jobs = jobs.map_err(refused("look at the Jobs of", object))?;
        let conditions = jobs.items.into_iter().filter_map(|job| job.status?.conditions).flatten();
        Ok(conditions.into_iter().any(|condition| condition.reason.as_deref() == Some(LATE)))
    }

    /// Lets the pods of an object go, and writes why.
    ///
    /// # Errors
    /// What the cluster says.
    pub(super) async fn suspend(&self, object: &str, verdict: &Verdict) -> Result<()> {
        let text = serde_json::to_string(verdict).unwrap_or_default();
        let patch = json!({"metadata": {"annotations": {VERDICT: text}}, "spec": self.kind.suspended()});
        let patched =
            in_time(self.objects().patch(object, &PatchParams::default(), &Patch::Merge(patch))).await;
        patched.map(drop).map_err(refused("suspend", object))
    }

    /// Has an object's operator look at it.
    ///
    /// # Errors
    /// What the cluster says.
    pub(super) async fn wake(&self, object: &str) -> Result<()> {
        let now = Timestamp::now().as_millis().to_string();
        let patch = json!({"metadata": {"annotations": {WOKEN: now}}});
        let patched =
            in_time(self.objects().patch(object, &PatchParams::default(), &Patch::Merge(patch))).await;
        patched.map(drop).map_err(refused("have the operator look at", object))
    }

    /// Removes all objects of a job.
    ///
    /// # Errors
    /// What the cluster says.
    pub(super) async fn delete(&self, name: &str) -> Result<()> {
        self.check_namespace("delete", name)?;
        let list = ListParams::default().labels(&selector(name));
        let deleted = in_time(self.objects().delete_collection(&DeleteParams::background(), &list)).await;
        deleted.map(drop).map_err(refused("delete", name))
    }
}

/// Makes an object, unless there is one of its name.
async fn make_once<K>(all: &Api<K>, object: &K) -> kube::Result<()>
where
    K: Clone + std::fmt::Debug + Serialize + DeserializeOwned,
{
    match in_time(all.create(&PostParams::default(), object)).await {
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
        made => made.map(drop),
    }
}

/// Puts the fields of an object into another.
fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (name, value) in from {
                merge(into.entry(name).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from,
    }
}

/// How many seconds a job has left that began then, at least one: 0 is refused.
fn left(timeout: Duration, began: i64, now: i64) -> i64 {
    let spent = now.saturating_sub(began).max(0);
    whole_seconds(timeout).saturating_sub(spent).clamp(1, i64::from(i32::MAX))
}

/// What the cluster's refusal of something for a job or an object of this name is to the caller.
pub(crate) fn refused<'a>(what: &'a str, name: &'a str) -> impl Fn(kube::Error) -> Error + 'a {
    move |error| match &error {
        // Invalid, and not to be had by trying again.
        kube::Error::Api(status) if matches!(status.code, 400 | 422) => {
            Error::Job { job: name.to_owned(), reason: format!("the cluster refuses it: {}", status.message) }
        }
        other => unanswered(format!("{what} `{name}`"), other),
    }
}

/// When a job of these objects was submitted, in seconds since 1970 by the cluster's clock; none where that was not written.
pub(super) fn began(objects: &[DynamicObject]) -> Option<i64> {
    let began = |object: &DynamicObject| object.metadata.annotations.as_ref()?.get(BEGAN)?.parse().ok();
    objects.iter().filter_map(began).min()
}

/// What was written on an object about its job's end.
pub(super) fn verdict_of(object: &DynamicObject) -> Option<Verdict> {
    let written = object.metadata.annotations.as_ref()?.get(VERDICT)?;
    let read = serde_json::from_str(written);
    read.inspect_err(|error| tracing::debug!(%error, "a verdict that can't be read")).ok()
}

/// That something was not done, and why.
pub(super) fn unanswered(what: String, error: &kube::Error) -> Error {
    let retryable = match error {
        kube::Error::Api(status) => matches!(status.code, 409 | 429) || status.code >= 500,
        _ => true,
    };
    Error::Carrier { what, reason: said(error), retryable }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_has_as_long_as_it_was_given() {
        let hour = Duration::from_secs(3600);
        assert_eq!(left(hour, 1000, 1000), 3600);
        assert_eq!(left(hour, 1000, 1600), 3000);
        assert_eq!(left(hour, 1000, 9000), 1);
        // Written by a clock that was ahead.
        assert_eq!(left(hour, 9000, 1000), 3600);
    }
}
