//! Why a job does not run, has no result or has failed, where its pods do not say so themselves.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::future::LocalBoxFuture;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::rbac::v1::Role;
use kf_k8s::train::{Kind, KubeLauncher};
use kf_train::{Error, Job, JobEnd, JobEvent, JobHandle, Launcher, RankState, run};
use kube::api::{DeleteParams, ListParams, LogParams, PostParams};
use kube::{Api, Client};
use libtest_mimic::Trial;
use serde_json::json;
use tokio::runtime::Runtime;

use super::cluster::carried;
use super::{Given, image, launches, trial, trial_with};

pub(crate) fn trials(runtime: &Arc<Runtime>, client: &Client) -> Vec<Trial> {
    let mut trials = vec![trial(runtime, client, "reasons::what_names_nothing", what_names_nothing)];
    for (name, kind) in carried(runtime, client) {
        if !matches!(kind, Kind::Job | Kind::TrainJob) {
            continue;
        }
        let mut add = |test: &str, single_pods: bool, of: fn(Given, Kind) -> LocalBoxFuture<'static, ()>| {
            let name = format!("reasons::{name}::{test}");
            let options = move |options: &mut _| {
                launches(kind)(options);
                options.single_pods = single_pods;
            };
            trials.push(trial_with(runtime, client, &name, options, move |given| of(given, kind)));
        };
        add("a_program_that_is_not_in_the_image", false, |given, kind| Box::pin(no_program(given, kind)));
        add("an_account_that_is_not_there", true, |given, kind| Box::pin(no_account(given, kind)));
        add("a_quota_that_nobody_may_ask_about", false, |given, kind| Box::pin(no_room(given, kind)));
        add("a_log_that_can_t_be_read", false, |given, kind| Box::pin(no_log(given, kind)));
        add("a_pod_that_somebody_deletes", false, |given, kind| Box::pin(no_pod(given, kind)));
    }
    trials
}

async fn no_program(given: Given, kind: Kind) {
    let launcher = given.launcher(kind);
    let job = Job::command("no-such-program", ["x"], 1).nodes(2);
    let handle = launcher.submit(job.spec().unwrap().clone(), "no-program").await.unwrap();
    let end = end(&launcher, &handle).await;
    let JobEnd::Failed(failure) = end else { panic!("{end:?}") };
    let text = failure.to_string();
    for expected in
        ["could not be started", "executable file not found", "program `no-such-program` in image"]
    {
        assert!(text.contains(expected), "{text}");
    }
    let status = launcher.status(&handle).await.unwrap();
    assert!(matches!(status.ranks[failure.rank].state, RankState::Failed { .. }), "{status:?}");
}

async fn no_account(given: Given, kind: Kind) {
    let mut options = given.options();
    options.service_account = Some("nobody".into());
    let launcher = given.launcher_of(kind, options);
    let reason = waits(&launcher).await;
    for expected in ["0 of 2 pods are there: FailedCreate of Job `", r#"serviceaccount "nobody" not found"#] {
        assert!(reason.contains(expected), "{reason}");
    }
}

async fn no_room(given: Given, kind: Kind) {
    given.quota("none", json!({"pods": "0"})).await;
    let reason = waits(&given.launcher(kind)).await;
    for expected in ["0 of 2 pods are there", "can't be read: Forbidden (403)", "`kf_k8s::manifests`"] {
        assert!(reason.contains(expected), "{reason}");
    }
}

/// What a job of two nodes waits for, which is then cancelled.
async fn waits(launcher: &KubeLauncher) -> String {
    let job = Job::command("sh", ["-c", "true"], 1).nodes(2);
    let handle = launcher.submit(job.spec().unwrap().clone(), "waits").await.unwrap();
    let mut events = launcher.events(&handle).await.unwrap();
    let waits = async {
        loop {
            match events.next().await {
                Some(JobEvent::Waiting { reason }) => return reason,
                Some(JobEvent::Ended(end)) => panic!("{end:?}"),
                _ => {}
            }
        }
    };
    let reason = tokio::time::timeout(Duration::from_secs(60), waits).await.unwrap();
    launcher.cancel(&handle).await.unwrap();
    assert_eq!(end(launcher, &handle).await, JobEnd::Canceled);
    reason
}

async fn no_log(given: Given, kind: Kind) {
    let mut options = given.options();
    options.image = image::SHELL.into();
    let other = given.launcher_of(kind, options);
    let text = broken(run::<u64>(&other, Job::ranks("double", 1).args(&4)).await);
    let expected =
        format!("is image `{}` that of this program, with `double` among its workers?", image::SHELL);
    assert!(text.contains(&expected), "{text}");

    let roles: Api<Role> = Api::namespaced(given.admin.clone(), &given.namespace);
    let mut role = roles.get("kf-engine").await.unwrap();
    let is_of_logs =
        |resources: &Option<Vec<String>>| resources.iter().flatten().any(|name| name == "pods/log");
    role.rules.as_mut().unwrap().retain(|rule| !is_of_logs(&rule.resources));
    roles.replace("kf-engine", &PostParams::default(), &role).await.unwrap();
    let pods: Api<Pod> = Api::namespaced(given.engine.clone(), &given.namespace);
    let refused = async {
        while !matches!(pods.logs("x", &LogParams::default()).await, Err(kube::Error::Api(status)) if status.code == 403)
        {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), refused).await.unwrap();
    let launcher = given.launcher(kind);
    let text = broken(run::<u64>(&*launcher, Job::ranks("double", 1).args(&4).attempt_id("unread")).await);
    for expected in ["can't be read: Forbidden (403)", r#"resource "pods/log""#, "`kf_k8s::manifests`"] {
        assert!(text.contains(expected), "{text}");
    }
    let log = launcher.logs(&JobHandle::new("kubernetes", "unread"), 0).await.unwrap();
    assert!(log.starts_with("[… the log can't be read: Forbidden (403)"), "{log}");
}

fn broken(ended: Result<u64, Error>) -> String {
    match ended {
        Err(error @ Error::Broken { retryable: false, .. }) => error.to_string(),
        other => panic!("{other:?}"),
    }
}

async fn no_pod(given: Given, kind: Kind) {
    let launcher = given.launcher(kind);
    let job = Job::command("sh", ["-c", "sleep 600"], 1).nodes(2);
    let handle = launcher.submit(job.spec().unwrap().clone(), "no-pod").await.unwrap();
    let mut events = launcher.events(&handle).await.unwrap();
    let mut started = 0;
    let all_start = async {
        while started < 2 {
            let event = events.next().await.unwrap();
            started += usize::from(matches!(event, JobEvent::RankStarted { .. }));
        }
    };
    tokio::time::timeout(Duration::from_secs(60), all_start).await.unwrap();
    let pods: Api<Pod> = Api::namespaced(given.admin.clone(), &given.namespace);
    let all = pods.list(&ListParams::default()).await.unwrap().items;
    let is_second = |pod: &&Pod| {
        let labels = pod.metadata.labels.as_ref().unwrap();
        labels.get("batch.kubernetes.io/job-completion-index").is_some_and(|index| index == "1")
    };
    let second = all.iter().find(is_second).and_then(|pod| pod.metadata.name.clone()).unwrap();
    pods.delete(&second, &DeleteParams::default()).await.unwrap();
    let end = end(&launcher, &handle).await;
    let JobEnd::Broken { reason, retryable: true } = end else { panic!("{end:?}") };
    for expected in ["rank 1 of 2 ended with", "its pod was taken away", "`max_restarts`"] {
        assert!(reason.contains(expected), "{reason}");
    }
}

/// Ids that are none, and a namespace that would be all of them.
async fn what_names_nothing(given: Given) {
    let spec = Job::command("sh", ["-c", "true"], 1).spec().unwrap().clone();
    let bad = given.launcher(Kind::Job).submit(spec.clone(), "bad id!").await;
    assert!(matches!(&bad, Err(Error::Job { reason, .. }) if reason.contains(r#""bad id!""#)), "{bad:?}");
    let nowhere = KubeLauncher::new(given.admin.clone(), "", Kind::Job, given.options());
    let handle = JobHandle::new("kubernetes", "a");
    let errors = [
        nowhere.submit(spec.clone(), "a").await.err(),
        nowhere.attach(&handle).await.err(),
        nowhere.delete(&handle).await.err(),
    ];
    for error in errors {
        let text = error.unwrap().to_string();
        assert!(text.contains(r#"namespace is """#) && text.contains("`KubeLauncher::new`"), "{text}");
    }
    let name = format!("{}-none", given.namespace);
    let absent = KubeLauncher::new(given.admin.clone(), name, Kind::TrainJob, given.options());
    let text = absent.submit(spec, "a").await.unwrap_err().to_string();
    assert!(text.contains("make the namespace first, such as with `kf_k8s::manifests`"), "{text}");
}

async fn end(launcher: &KubeLauncher, handle: &JobHandle) -> JobEnd {
    let mut events = launcher.events(handle).await.unwrap();
    let last = async {
        while let Some(event) = events.next().await {
            if let JobEvent::Ended(end) = event {
                return end;
            }
        }
        panic!("no end was told");
    };
    tokio::time::timeout(Duration::from_secs(90), last).await.unwrap()
}
