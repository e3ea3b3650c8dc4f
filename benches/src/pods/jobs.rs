//! Jobs of two ranks through the launcher, beside the same objects made bare: until both ranks have come so far.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Pod;
use kf_k8s::train::{Kind, KubeLauncher};
use kf_train::{Job, JobHandle, Launcher, Rank};
use kube::api::{ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, PostParams};
use kube::{Api, Client};
use serde_json::Value;
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;

use super::Outcome;
use super::cluster::Namespace;
use crate::{Measured, Table};

const TURNS: usize = 5;
const RANKS: usize = 2;
/// How long ranks may take to come so far.
const PATIENCE: Duration = Duration::from_secs(90);
/// How long an operator may take to hear of what a bare object needs.
const HEARD: Duration = Duration::from_secs(1);

/// A rank tells a witness outside of the cluster that it has come so far.
///
/// # Errors
/// The witness can't be reached.
pub fn tell(rank: &Rank, witness: &str) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(witness)?;
    writeln!(stream, "{}", rank.rank())
}

/// What is measured: jobs whose ranks take the witness's address, and [`tell`] it.
#[derive(Debug, Clone, Copy)]
pub struct Jobs {
    /// The entry of the ranks.
    pub entry: &'static str,
    /// How far they have come then, such as `both have begun`.
    pub until: &'static str,
    /// The kinds of objects.
    pub kinds: &'static [Kind],
    /// How often; five times where not given.
    pub turns: Option<usize>,
}

/// Who hears of ranks.
struct Witness {
    listener: TcpListener,
    address: SocketAddr,
}

impl Witness {
    /// Waits until so many ranks have told.
    async fn hear(&self, ranks: usize) -> Outcome<()> {
        let all = async {
            let mut there = std::collections::BTreeSet::new();
            while there.len() < ranks {
                let (mut stream, _) = self.listener.accept().await?;
                let mut rank = String::new();
                stream.read_to_string(&mut rank).await?;
                there.insert(rank);
            }
            Ok(())
        };
        tokio::time::timeout(PATIENCE, all).await.map_err(|_| "the ranks do not come so far")?
    }
}

/// A kind of objects, and what is made of it bare.
struct Objects {
    client: Client,
    namespace: String,
    resource: ApiResource,
}

fn resource(group: &str, version: &str, kind: &str) -> ApiResource {
    ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind))
}

impl Objects {
    fn api(&self, resource: &ApiResource) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), &self.namespace, resource)
    }

    /// An object that a launcher has made, as whoever writes it by hand would, under another name that is as long.
    async fn copy(&self, resource: &ApiResource, name: &str, other: &str) -> Outcome<Option<DynamicObject>> {
        let Some(made) = self.api(resource).get_opt(name).await? else { return Ok(None) };
        let mut value = serde_json::to_value(made)?;
        if let Value::Object(value) = &mut value {
            value.remove("status");
        }
        if let Some(Value::Object(metadata)) = value.get_mut("metadata") {
            metadata
                .retain(|field, _| ["name", "namespace", "labels", "annotations"].contains(&field.as_str()));
        }
        // What Kubernetes itself adds to a Job.
        for (parent, field) in [("/spec", "selector"), ("/spec", "clusterIPs"), ("/spec", "clusterIP")] {
            if let Some(Value::Object(parent)) = value.pointer_mut(parent)
                && (field == "selector") == (resource.kind == "Job")
            {
                parent.remove(field);
            }
        }
        for labels in ["/spec/template/metadata/labels", "/metadata/labels"] {
            if let Some(Value::Object(labels)) = value.pointer_mut(labels) {
                labels.retain(|label, _| !label.contains("controller-uid") && !label.ends_with("job-name"));
            }
        }
        if resource.kind == "Service"
            && let Some(Value::Object(spec)) = value.get_mut("spec")
        {
            spec.insert("clusterIP".into(), "None".into());
        }
        Ok(Some(serde_json::from_str(&value.to_string().replace(name, other))?))
    }
}

/// An object, and what must be there before it.
struct Bare {
    before: Vec<(ApiResource, DynamicObject)>,
    object: DynamicObject,
}

async fn bare_of(objects: &Objects, name: &str, other: &str) -> Outcome<Bare> {
    let mut before = Vec::new();
    let runtime = resource("trainer.kubeflow.org", "v1alpha1", "TrainingRuntime");
    let service = resource("", "v1", "Service");
    let needs = match objects.resource.kind.as_str() {
        "TrainJob" => Some(runtime),
        "Job" => Some(service),
        _ => None,
    };
    if let Some(needed) = needs {
        let copy = objects.copy(&needed, name, other).await?;
        before.push((needed, copy.ok_or_else(|| format!("what `{name}` needs is not there"))?));
    }
    let object = objects.copy(&objects.resource, name, other).await?;
    Ok(Bare { before, object: object.ok_or_else(|| format!("the launcher made no object `{name}`"))? })
}

struct Side<'a> {
    namespace: &'a Namespace,
    objects: &'a Objects,
    witness: &'a Witness,
}

impl Side<'_> {
    /// From the submission to the functions; and the object as it can be made bare.
    async fn ours(&self, kind: Kind, job: &Job, attempt: &str, other: &str) -> Outcome<(f64, Bare)> {
        let options = self.namespace.pod_options();
        let launcher =
            Arc::new(KubeLauncher::new(self.objects.client.clone(), &self.objects.namespace, kind, options));
        let spec = job.spec()?.clone();
        let began = Instant::now();
        let submitted = async { Ok::<JobHandle, super::Wrong>(launcher.submit(spec, attempt).await?) };
        let (handle, heard) = tokio::join!(submitted, self.witness.hear(RANKS));
        heard?;
        let (handle, took) = (handle?, began.elapsed().as_secs_f64());
        let copy = bare_of(self.objects, &KubeLauncher::name(&handle), other).await?;
        launcher.delete(&handle).await?;
        self.namespace.settle().await?;
        Ok((took, copy))
    }

    async fn alone(&self, bare: &Bare, name: &str) -> Outcome<f64> {
        let params = PostParams::default();
        for (resource, needed) in &bare.before {
            self.objects.api(resource).create(&params, needed).await?;
        }
        tokio::time::sleep(HEARD).await;
        let api = self.objects.api(&self.objects.resource);
        let began = Instant::now();
        let (made, heard) = tokio::join!(api.create(&params, &bare.object), self.witness.hear(RANKS));
        made?;
        heard?;
        let took = began.elapsed().as_secs_f64();
        api.delete(name, &DeleteParams::background()).await?;
        for (resource, _) in &bare.before {
            let _ = self.objects.api(resource).delete(name, &DeleteParams::background()).await;
        }
        self.namespace.settle().await?;
        Ok(took)
    }
}

/// What carries jobs of these kinds, and why it does not.
async fn carriers(
    client: &Client,
    kinds: &[Kind],
) -> Outcome<Vec<(Kind, ApiResource, Option<&'static str>)>> {
    let all = [
        (Kind::Job, resource("batch", "v1", "Job"), None),
        (Kind::JobSet, resource("jobset.x-k8s.io", "v1alpha2", "JobSet"), Some("jobset-system")),
        (Kind::TrainJob, resource("trainer.kubeflow.org", "v1alpha1", "TrainJob"), Some("kubeflow-system")),
        (Kind::PyTorchJob, resource("kubeflow.org", "v1", "PyTorchJob"), Some("kubeflow")),
    ];
    let mut there = Vec::new();
    for (kind, resource, controller) in all.into_iter().filter(|(kind, ..)| kinds.contains(kind)) {
        let runs = match controller {
            None => true,
            Some(of) => {
                let pods: Api<Pod> = Api::namespaced(client.clone(), of);
                !pods.list(&ListParams::default()).await?.items.is_empty()
            }
        };
        let why = if runs { None } else { Some("its operator does not run") };
        there.push((kind, resource, why));
    }
    Ok(there)
}

/// Adds a row for each kind, and one for what the launcher takes beside what the objects take by themselves.
///
/// # Errors
/// What the cluster or a job says.
pub async fn measure(namespace: &Namespace, jobs: &Jobs, table: &mut Table) -> Outcome<()> {
    let listener = TcpListener::bind((namespace.host, 0)).await?;
    let witness = Witness { address: listener.local_addr()?, listener };
    for (kind, resource, missing) in carriers(&namespace.client, jobs.kinds).await? {
        let name = resource.kind.clone();
        if let Some(why) = missing {
            table.note(format!("without {name}: {why}"));
            continue;
        }
        let objects =
            Objects { client: namespace.client.clone(), namespace: namespace.name.clone(), resource };
        let side = Side { namespace, objects: &objects, witness: &witness };
        let job = Job::ranks(jobs.entry, 1).nodes(RANKS).args(&witness.address.to_string());
        let (mut launched, mut made) = (Vec::new(), Vec::new());
        // The first turn warms up, and is what the bare ones are copied from that come before a launch.
        let other = |turn: usize| format!("kf-{turn:012}");
        namespace.settle().await?;
        let (_, mut bare) = side.ours(kind, &job, &format!("{name}-first"), &other(0)).await?;
        for turn in 0..jobs.turns.unwrap_or(TURNS).max(1) {
            let attempt = format!("{name}-{turn}");
            if turn % 2 == 0 {
                made.push(side.alone(&bare, &other(turn)).await?);
                let (took, next) = side.ours(kind, &job, &attempt, &other(turn + 1)).await?;
                launched.push(took);
                bare = next;
            } else {
                let (took, next) = side.ours(kind, &job, &attempt, &other(turn + 1)).await?;
                launched.push(took);
                made.push(side.alone(&bare, &other(turn)).await?);
                bare = next;
            }
        }
        let over = launched.iter().zip(&made).map(|(ours, bare)| ours - bare).collect();
        let ours = Measured::new(format!("{name} of 2 ranks, until {}", jobs.until), "s", launched);
        let peer = Measured::new("  the same object made bare", "s", made);
        table.add(
            Measured::new(format!("overhead of a launched {name}, of each turn"), "s", over),
            None,
            "≤ 1",
        );
        table.add(ours, Some(peer), "");
    }
    Ok(())
}
