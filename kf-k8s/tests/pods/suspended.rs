//! Jobs that somebody suspends, and lets go on.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::BoxStream;
use kf_k8s::train::{Kind, KubeLauncher};
use kf_train::{ConditionType, Job, JobEnd, JobEvent, JobHandle, JobStatus, Launcher, RankState};
use kube::api::{ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams};
use kube::{Api, Client};
use libtest_mimic::Trial;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use super::cluster::carried;
use super::{Given, launches, trial_with};

pub(crate) fn trials(runtime: &Arc<Runtime>, client: &Client) -> Vec<Trial> {
    let of = |(name, kind): (&str, Kind)| {
        let name = format!("suspended::{name}");
        trial_with(runtime, client, &name, launches(kind), move |given| goes_on(given, kind))
    };
    carried(runtime, client).into_iter().map(of).collect()
}

/// What a user writes to suspend the objects of a kind.
struct Field {
    resource: ApiResource,
    path: &'static str,
    value: fn(bool) -> Value,
}

fn field(kind: Kind) -> Field {
    let plain = |suspend: bool| json!({"spec": {"suspend": suspend}});
    let (group, version, name) = match kind {
        Kind::Job => ("batch", "v1", "Job"),
        Kind::JobSet => ("jobset.x-k8s.io", "v1alpha2", "JobSet"),
        Kind::TrainJob => ("trainer.kubeflow.org", "v1alpha1", "TrainJob"),
        Kind::PyTorchJob => ("kubeflow.org", "v1", "PyTorchJob"),
        other => panic!("how is a {other:?} suspended?"),
    };
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, name));
    match kind {
        Kind::PyTorchJob => Field {
            resource,
            path: "spec.runPolicy.suspend",
            value: |suspend| json!({"spec": {"runPolicy": {"suspend": suspend}}}),
        },
        _ => Field { resource, path: "spec.suspend", value: plain },
    }
}

/// A job's events, and its status with them.
struct Told {
    launcher: Arc<KubeLauncher>,
    handle: JobHandle,
    events: BoxStream<'static, JobEvent>,
    all: Vec<JobEvent>,
}

impl Told {
    async fn status(&self) -> JobStatus {
        self.launcher.status(&self.handle).await.unwrap()
    }

    /// Reads on to so many events of a kind.
    async fn until(&mut self, what: &str, mut count: usize, which: impl Fn(&JobEvent) -> bool) {
        let read = async {
            while count > 0 {
                let event = self.events.next().await.unwrap();
                count -= usize::from(which(&event));
                self.all.push(event);
            }
        };
        let in_time = tokio::time::timeout(Duration::from_secs(60), read).await.is_ok();
        assert!(in_time, "{what}: not within 60 s, in {:#?}", self.all);
    }
}

async fn goes_on(given: Given, kind: Kind) {
    let Field { resource, path, value } = field(kind);
    let script =
        r#"trap 'exit 143' TERM; echo "up, $TORCHELASTIC_RESTART_COUNT"; sleep 12 & wait; echo done"#;
    let job = Job::command("sh", ["-c", script], 1).nodes(2).max_restarts(1);
    let launcher = given.launcher(kind);
    let handle = launcher.submit(job.spec().unwrap().clone(), "rests").await.unwrap();
    let events = launcher.events(&handle).await.unwrap();
    let name = KubeLauncher::name(&handle);
    let objects: Api<DynamicObject> = Api::namespaced_with(given.admin.clone(), &given.namespace, &resource);
    let set = async |suspend: bool| {
        let patch = Patch::Merge(value(suspend));
        objects.patch(&name, &PatchParams::default(), &patch).await.unwrap();
    };
    let mut told = Told { launcher, handle, events, all: Vec::new() };

    told.until("both are up", 2, |event| matches!(event, JobEvent::Line { .. })).await;
    set(true).await;
    told.until("it is being suspended", 1, |event| matches!(event, JobEvent::Waiting { .. })).await;
    let status = told.status().await;
    let running = status.condition(ConditionType::Running).unwrap();
    assert!(!status.is(ConditionType::Running) && running.message.contains("suspended"), "{status:?}");
    told.until("both have ended", 2, |event| matches!(event, JobEvent::RankEnded { .. })).await;
    told.until("it is suspended", 1, |event| matches!(event, JobEvent::Waiting { .. })).await;
    let Some(JobEvent::Waiting { reason }) = told.all.last() else { panic!("{:#?}", told.all) };
    let object = format!("the {} `{name}`", resource.kind);
    assert!(reason.contains(path) && reason.contains(&object) && reason.contains("goes on"), "{reason}");
    // One that comes now hears so, too.
    let other = given.launcher(kind);
    other.attach(&told.handle).await.unwrap();
    let mut events = other.events(&told.handle).await.unwrap();
    let first = tokio::time::timeout(Duration::from_secs(30), events.next()).await.unwrap();
    assert_eq!(first.as_ref(), told.all.last());

    set(false).await;
    told.until("both are up again", 2, |event| matches!(event, JobEvent::Line { .. })).await;
    let status = told.status().await;
    assert!(status.is(ConditionType::Running) && status.restarts == 0, "{status:?}");
    told.until("it has ended", 1, |event| matches!(event, JobEvent::Ended(_))).await;
    let last = told.all.last();
    assert!(matches!(last, Some(JobEvent::Ended(JobEnd::Succeeded { .. }))), "{:#?}", told.all);
    let restarted = told.all.iter().any(|event| matches!(event, JobEvent::Restarting { .. }));
    assert!(!restarted, "{:#?}", told.all);
    let status = told.status().await;
    for (rank, told_of) in status.ranks.iter().enumerate() {
        assert_eq!((told_of.state, told_of.restarts), (RankState::Succeeded, 1));
        assert_eq!(told.launcher.logs(&told.handle, rank).await.unwrap(), "up, 0\ndone\n");
    }
}
