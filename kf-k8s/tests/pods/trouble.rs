//! What goes wrong on a cluster, in words.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::batch::v1::Job as KubeJob;
use kf_core::resources::Resources;
use kf_k8s::train::{Kind, KubeLauncher};
use kf_train::{Error, Job, JobEvent, JobHandle, Launcher, RankEnd, run};
use kube::api::PostParams;
use kube::{Api, Client};
use libtest_mimic::Trial;
use tokio::runtime::Runtime;

use super::{Given, trial};

pub(crate) fn trials(runtime: &Arc<Runtime>, client: &Client) -> Vec<Trial> {
    vec![
        trial(runtime, client, "trouble::an_image_that_is_not_there", an_image_that_is_not_there),
        trial(runtime, client, "trouble::no_node_is_large_enough", no_node_is_large_enough),
        trial(runtime, client, "trouble::more_memory_than_asked_for", more_memory_than_asked_for),
        trial(runtime, client, "trouble::a_name_that_is_taken", a_name_that_is_taken),
        trial(runtime, client, "trouble::what_a_cluster_can_t_do_is_refused", refused),
    ]
}

async fn an_image_that_is_not_there(given: Given) {
    let mut options = given.options();
    options.image = "kf.local/no-such-image:1".into();
    options.image_pull_policy = Some("Never".into());
    let launcher = given.launcher_of(Kind::Job, options);
    let waits = Arc::new(std::sync::Mutex::new(Vec::new()));
    let told = waits.clone();
    let job = Job::command("sh", ["-c", "true"], 1).on_event(move |event| {
        if let JobEvent::Waiting { reason } = event {
            told.lock().unwrap().push(reason.clone());
        }
    });
    let ended = tokio::time::timeout(Duration::from_secs(80), run::<()>(&launcher, job)).await.unwrap();
    let text = ended.unwrap_err().to_string();
    assert!(text.contains("ErrImageNeverPull") && text.contains("no-such-image"), "{text}");
    let waits = waits.lock().unwrap();
    assert!(waits.len() == 1 && waits[0].contains("ErrImageNeverPull"), "{waits:?}");
}

async fn no_node_is_large_enough(given: Given) {
    let launcher = given.launcher(Kind::Job);
    let job = Job::command("sh", ["-c", "true"], 1).resources(Resources::none().cpu(1000.0));
    let handle = launcher.submit(job.spec().unwrap().clone(), "too-large").await.unwrap();
    let mut events = launcher.events(&handle).await.unwrap();
    let waits = async {
        loop {
            if let JobEvent::Waiting { reason } = events.next().await.unwrap() {
                return reason;
            }
        }
    };
    let reason = tokio::time::timeout(Duration::from_secs(60), waits).await.unwrap();
    assert!(reason.contains("no node takes it") && reason.contains("Insufficient cpu"), "{reason}");
    let status = launcher.status(&handle).await.unwrap();
    let running = status.condition(kf_train::ConditionType::Running).unwrap();
    assert!(running.message.contains("Insufficient cpu"), "{running:?}");
    launcher.cancel(&handle).await.unwrap();
    let ended = async { while !launcher.status(&handle).await.unwrap().is_over() {} };
    tokio::time::timeout(Duration::from_secs(60), ended).await.unwrap();
}

async fn more_memory_than_asked_for(given: Given) {
    let launcher = given.launcher(Kind::Job);
    // The shell's own variable, doubled.
    let script = r#"x=0123456789abcdef; while :; do x="$x$x"; done"#;
    let resources = Resources::none().memory("32Mi").unwrap();
    let job = Job::command("sh", ["-c", script], 1).resources(resources);
    let error = run::<()>(&*launcher, job).await.unwrap_err();
    let Error::RankFailed { failure, .. } = &error else { panic!("{error}") };
    assert!(matches!(failure.end, RankEnd::OutOfMemory { limit: 33_554_432, .. }), "{failure}");
}

async fn a_name_that_is_taken(given: Given) {
    let attempt = "taken";
    let name = KubeLauncher::name(&JobHandle::new("kubernetes", attempt));
    let theirs = serde_json::json!({"metadata": {"name": name}, "spec": {"template": {"spec": {
        "restartPolicy": "Never", "containers": [{"name": "c", "image": "kf.local/pause:1"}]}}}});
    let theirs: KubeJob = serde_json::from_value(theirs).unwrap();
    let jobs: Api<KubeJob> = Api::namespaced(given.admin.clone(), &given.namespace);
    jobs.create(&PostParams::default(), &theirs).await.unwrap();
    let job = Job::command("sh", ["-c", "true"], 1);
    let taken = given.launcher(Kind::Job).submit(job.spec().unwrap().clone(), attempt).await;
    let text = taken.unwrap_err().to_string();
    assert!(text.contains(&name) && text.contains("is taken in namespace"), "{text}");
    let there = jobs.get(&name).await.unwrap();
    assert!(there.metadata.labels.unwrap_or_default().keys().all(|label| !label.starts_with("kf.dev/")));
}

async fn refused(given: Given) {
    let launcher = given.launcher(Kind::Job);
    let gpus = Resources::none().accelerator("nvidia.com/gpu", 1.0);
    for (job, expected) in [
        (Job::command("train", [""; 0], 2).resources(gpus), "give it 1 rank per node"),
        (Job::command("train", [""; 0], 2).nodes(2), "RANK of torchrun differs otherwise"),
        (Job::ranks("double", 1).args(&"x".repeat(300_000)), "give what is larger by reference"),
    ] {
        let spec = job.spec().unwrap().clone();
        let error = launcher.submit(spec, "refused").await.unwrap_err();
        assert!(matches!(error, Error::Job { .. }) && error.to_string().contains(expected), "{error}");
    }
}
