//! What is asked of the cluster.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kf_train::{Error, Result};
use kube::api::{DeleteParams, DynamicObject, ListParams, LogParams, Patch, PatchParams, PostParams};
use kube::core::Request;
use kube::{Client, Resource};
use serde_json::json;

use super::status::{latest, status};
use super::{ElasticJob, ElasticKind, ElasticStatus, objects};
use crate::answer::in_time;
use crate::train::cluster::{Cluster, refused};
use crate::train::names::{JOB, labels, selector};
use crate::train::{Kind, PodOptions};

/// Annotation: the elastic job as data.
const SPEC: &str = "kf.dev/elastic";
/// How much of a log is searched for the last round.
const TAIL: i64 = 5000;
/// How much of one is given.
const LINES: i64 = 10_000;
const MOST_BYTES: i64 = 16 << 20;
/// How many pods' logs are.
const LOGS: usize = 3;
/// How often it is looked whether a job has ended.
const LOOK: Duration = Duration::from_secs(1);

/// Elastic jobs in a namespace of a cluster.
///
/// It keeps nothing: jobs are known by their names, to whoever asks.
#[derive(Debug, Clone)]
pub struct ElasticJobs {
    cluster: Cluster,
    kind: ElasticKind,
}

impl ElasticJobs {
    /// Jobs that objects of a kind carry, whose pods are made by these options.
    pub fn new(client: Client, namespace: impl Into<String>, kind: ElasticKind, options: PodOptions) -> Self {
        Self { cluster: Cluster { client, namespace: namespace.into(), kind: kind.into(), options }, kind }
    }

    /// Makes a job, unless it is there already.
    ///
    /// # Errors
    /// [`Error::Job`] for what can't be made, is refused for good, or has the name of something else;
    /// [`Error::Conflict`] where there is another job of this name; [`Error::Carrier`] for what else the cluster says.
    pub async fn create(&self, job: &ElasticJob) -> Result<()> {
        job.check()?;
        let Cluster { options, namespace, .. } = &self.cluster;
        if options.gang.is_some() {
            return Err(job.wrong(
                "its pods come and go one by one, and its launcher's options have a `gang`, which starts all or none: \
                 leave it out"
                    .into(),
            ));
        }
        let as_json = |error: serde_json::Error| job.wrong(error.to_string());
        let spec = objects::spec(job, self.kind, options).map_err(as_json)?;
        let resource = Kind::from(self.kind).resource();
        let mut object = DynamicObject::new(&job.name, &resource).data(json!({ "spec": spec }));
        let mut all = options.labels.clone();
        all.extend(labels(&job.name, 0));
        object.metadata.labels = Some(all.clone());
        let text = serde_json::to_string(job).map_err(as_json)?;
        object.metadata.annotations = Some([(SPEC.to_owned(), text)].into());
        let made = match in_time(self.post(&object)).await {
            Ok(made) => made,
            Err(kube::Error::Api(status)) if status.code == 409 => match self.find(&job.name).await? {
                (_, there) if there.metadata.deletion_timestamp.is_some() => {
                    return Err(job.wrong("one of its name is being deleted: wait until that is gone".into()));
                }
                (found, there) if found == *job => there,
                _ => return Err(Error::Conflict { attempt: format!("{namespace}/{}", job.name) }),
            },
            Err(error) => return Err(refused("make the elastic job", &job.name)(error)),
        };
        if Kind::from(self.kind).needs_service() {
            // Also where it is there: whoever made it may have ended before it was whole.
            let owner = self.cluster.owner(&job.name, &made);
            self.cluster.make_service(&job.name, &owner, all, &job.name, 0).await?;
        }
        Ok(())
    }

    /// Gives a job so many nodes: pods more, or less, of which those with the highest numbers leave.
    ///
    /// # Errors
    /// [`Error::Job`] for a number that the job can't have, and where there is no such job or it has ended;
    /// [`Error::Carrier`].
    pub async fn scale(&self, name: &str, nodes: usize) -> Result<()> {
        let (job, object) = self.find(name).await?;
        job.check_nodes(nodes)?;
        if status(&job, self.kind, &object, &[]).state.is_over() {
            return Err(job.wrong(format!("it has ended, and can't have {nodes} nodes any more")));
        }
        let patch = json!({ "spec": self.kind.scaled(nodes) });
        let objects = self.cluster.objects();
        let patched = in_time(objects.patch(name, &PatchParams::default(), &Patch::Merge(patch))).await;
        patched.map(drop).map_err(refused("scale", name))
    }

    /// How a job fares.
    ///
    /// # Errors
    /// [`Error::Job`] where there is no such job; [`Error::Carrier`].
    pub async fn status(&self, name: &str) -> Result<ElasticStatus> {
        let (job, object) = self.find(name).await?;
        let mut pods = self.pods(name).await?;
        let mut status = status(&job, self.kind, &object, &pods);
        // Those that run know best.
        pods.sort_by_key(|pod| (phase(pod) != "Running", pod.metadata.creation_timestamp.clone()));
        let mut logs = Vec::new();
        for pod in pods.iter().filter(|pod| phase(pod) != "Pending").take(LOGS) {
            // What can't be read tells nothing.
            logs.extend(self.log(pod, TAIL).await.ok());
        }
        status.round = latest(logs);
        Ok(status)
    }

    /// Waits until a job has ended, and tells how.
    ///
    /// # Errors
    /// As [`status`](Self::status), but goes on where the cluster can't be reached for a while.
    pub async fn wait(&self, name: &str) -> Result<ElasticStatus> {
        loop {
            let over = match self.find(name).await {
                Ok((job, object)) => status(&job, self.kind, &object, &[]).state.is_over(),
                Err(error) if error.is_retryable() => false,
                Err(error) => return Err(error),
            };
            match if over { self.status(name).await.map(Some) } else { Ok(None) } {
                Ok(Some(ended)) => return Ok(ended),
                Ok(None) => {}
                Err(error) if error.is_retryable() => {
                    tracing::warn!(job = name, %error, "it can't be looked at");
                }
                Err(error) => return Err(error),
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// What the pod of a node has printed last, 10,000 lines or 16 MiB of them: its agent and its ranks. Of several that have
    /// had the node's number, the last one.
    ///
    /// # Errors
    /// [`Error::Job`] where there is no such pod; [`Error::Carrier`].
    pub async fn logs(&self, name: &str, node: usize) -> Result<String> {
        let number = node.to_string();
        let label = Kind::from(self.kind).index_label();
        let of_node = |pod: &Pod| {
            pod.metadata.labels.as_ref().and_then(|all| all.get(label)).is_some_and(|of| *of == number)
        };
        let pods = self.pods(name).await?.into_iter().filter(of_node);
        let last = pods.max_by_key(|pod| pod.metadata.creation_timestamp.clone());
        let missing =
            || Error::Job { job: name.to_owned(), reason: format!("it has no pod of number {node}") };
        self.log(&last.ok_or_else(missing)?, LINES).await
    }

    /// Removes a job and its pods, which are asked to end; does nothing where there is none.
    ///
    /// # Errors
    /// [`Error::Job`] where the object of this name is not an elastic job; [`Error::Carrier`].
    pub async fn delete(&self, name: &str) -> Result<()> {
        if self.get(name).await?.is_none() {
            return Ok(());
        }
        self.find(name).await?;
        match in_time(self.cluster.objects().delete(name, &DeleteParams::background())).await {
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            deleted => deleted.map(drop).map_err(refused("delete", name)),
        }
    }

    /// Creates an object, every field of which the cluster must know: one that is dropped in silence would be missed when pods
    /// are lost.
    async fn post(&self, object: &DynamicObject) -> Result<DynamicObject, kube::Error> {
        let params = PostParams { field_manager: Some("kf".into()), ..PostParams::default() };
        let path = DynamicObject::url_path(&Kind::from(self.kind).resource(), Some(&self.cluster.namespace));
        let body = serde_json::to_vec(object).map_err(kube::Error::SerdeError)?;
        let mut request = Request::new(path).create(&params, body).map_err(kube::Error::BuildRequest)?;
        let strict = format!("{}&fieldValidation=Strict", request.uri()).parse();
        *request.uri_mut() = strict.map_err(|error| kube::Error::Service(Box::new(error)))?;
        self.cluster.client.request(request).await
    }

    async fn get(&self, name: &str) -> Result<Option<DynamicObject>> {
        in_time(self.cluster.objects().get_opt(name)).await.map_err(refused("look for the job", name))
    }

    /// A job, and its object.
    async fn find(&self, name: &str) -> Result<(ElasticJob, DynamicObject)> {
        let wrong = |reason: String| Error::Job { job: name.to_owned(), reason };
        let (kind, namespace) = (Kind::from(self.kind).resource().kind, &self.cluster.namespace);
        let object = self.get(name).await?;
        let object =
            object.ok_or_else(|| wrong(format!("namespace `{namespace}` has no {kind} of this name")))?;
        let ours = object.metadata.labels.as_ref().and_then(|all| all.get(JOB)).is_some_and(|of| of == name);
        let text = object.metadata.annotations.as_ref().and_then(|all| all.get(SPEC)).filter(|_| ours);
        let job = text.and_then(|text| serde_json::from_str(text).ok());
        let job = job.ok_or_else(|| {
            wrong(format!(
                "the {kind} of this name in namespace `{namespace}` has no label {JOB} and annotation {SPEC} that can be \
                 read: it is no elastic job, or another version's"
            ))
        })?;
        Ok((job, object))
    }

    async fn pods(&self, name: &str) -> Result<Vec<Pod>> {
        let list = ListParams::default().labels(&selector(name));
        let pods = in_time(self.cluster.pods().list(&list)).await;
        Ok(pods.map_err(refused("look at the pods of", name))?.items)
    }

    async fn log(&self, pod: &Pod, lines: i64) -> Result<String> {
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        let container = Some(Kind::from(self.kind).container(0));
        let (tail_lines, limit_bytes) = (Some(lines), Some(MOST_BYTES));
        let params = LogParams { container, tail_lines, limit_bytes, ..LogParams::default() };
        in_time(self.cluster.pods().logs(name, &params)).await.map_err(refused("read the log of pod", name))
    }
}

fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}
