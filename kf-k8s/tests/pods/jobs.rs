//! Jobs of several pods, and launchers that come and go.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::future::LocalBoxFuture;
use k8s_openapi::api::core::v1::Pod;
use kf_core::process::Exit;
use kf_k8s::train::{Kind, KubeLauncher};
use kf_train::{Error, Job, JobEnd, JobEvent, JobHandle, Launcher, RankEnd, run};
use kube::api::ListParams;
use kube::{Api, Client};
use libtest_mimic::Trial;
use serde_json::json;
use tokio::runtime::Runtime;

use super::cluster::carried;
use super::{Given, launches, trial, trial_with};

pub(crate) fn trials(runtime: &Arc<Runtime>, client: &Client) -> Vec<Trial> {
    let mut trials = vec![trial(runtime, client, "jobs::the_best_kind_is_found", the_best_kind_is_found)];
    for (name, kind) in carried(runtime, client) {
        let mut add = |test: &str, of: fn(Given, Kind) -> LocalBoxFuture<'static, ()>| {
            let name = format!("{name}::{test}");
            trials.push(trial_with(runtime, client, &name, launches(kind), move |given| of(given, kind)));
        };
        add("a_failed_node_starts_all_anew", |given, kind| {
            Box::pin(a_failed_node_starts_all_anew(given, kind))
        });
        // What differs by what a kind is made of: a JobSet's and a TrainJob's pods are those of a Job.
        if matches!(kind, Kind::Job | Kind::PyTorchJob) {
            add("pods_find_one_another", |given, kind| Box::pin(pods_find_one_another(given, kind)));
            add("another_launcher_goes_on", |given, kind| Box::pin(another_launcher_goes_on(given, kind)));
            add("results_come_from_pods", |given, kind| Box::pin(results_come_from_pods(given, kind)));
            add("a_restart_that_is_refused_ends_in_time", |given, kind| {
                Box::pin(a_restart_that_is_refused_ends_in_time(given, kind))
            });
            add("a_restart_that_is_refused_is_cancelled", |given, kind| {
                Box::pin(a_restart_that_is_refused_is_cancelled(given, kind))
            });
            add("a_restart_that_is_refused_is_deleted", |given, kind| {
                Box::pin(a_restart_that_is_refused_is_deleted(given, kind))
            });
            add("nothing_stays_of_a_deleted_job", |given, kind| {
                Box::pin(nothing_stays_of_a_deleted_job(given, kind))
            });
        }
    }
    trials
}

/// The tests' cluster has definitions of all.
async fn the_best_kind_is_found(given: Given) {
    assert_eq!(KubeLauncher::discover(&given.engine).await.unwrap(), Kind::TrainJob);
}

/// A pod that fails ends those of the other nodes, and all are started anew; the failure is the failed rank's alone.
async fn a_failed_node_starts_all_anew(given: Given, kind: Kind) {
    let script = r#"echo "start $TORCHELASTIC_RESTART_COUNT"; trap 'exit 143' TERM
        if [ "$RANK" = 1 ]; then sleep 3; exit 5; fi; sleep 600 & wait"#;
    let job = Job::command("sh", ["-c", script], 1).nodes(3).max_restarts(2);
    let launcher = given.launcher(kind);
    let handle = launcher.submit(job.spec().unwrap().clone(), "fails").await.unwrap();
    let events = launcher.events(&handle).await.unwrap().collect::<Vec<_>>();
    let events = tokio::time::timeout(Duration::from_secs(150), events).await.unwrap();
    let restarts: Vec<_> = events
        .iter()
        .filter_map(|event| match event {
            JobEvent::Restarting { restarts, failure } => Some((*restarts, failure.rank, failure.end)),
            _ => None,
        })
        .collect();
    let five = RankEnd::Exited(Exit::Code(5));
    assert_eq!(restarts, [(1, 1, five), (2, 1, five)]);
    let Some(JobEvent::Ended(JobEnd::Failed(failure))) = events.last() else { panic!("{events:#?}") };
    assert_eq!((failure.rank, failure.end), (1, five));
    for of in 0..3 {
        let lines: Vec<_> = events
            .iter()
            .filter_map(|event| match event {
                JobEvent::Line { rank, line, .. } if *rank == of => Some(line.as_str()),
                _ => None,
            })
            .collect();
        assert_eq!(lines, ["start 0", "start 1", "start 2"], "of rank {of}");
    }
}

/// Rank 1 asks rank 0, a pod of its own, by the name that the framework's contract tells it.
async fn pods_find_one_another(given: Given, kind: Kind) {
    let script = r#"cd /tmp
        if [ "$RANK" = 0 ]; then echo "hello from $RANK of $WORLD_SIZE" > greeting; exec httpd -f -p "$MASTER_PORT"; fi
        until wget -q -O - "http://$MASTER_ADDR:$MASTER_PORT/greeting"; do sleep 1; done"#;
    let job = Job::command("sh", ["-c", script], 1).nodes(2);
    let launcher = given.launcher(kind);
    let handle = launcher.submit(job.spec().unwrap().clone(), "greeting").await.unwrap();
    let greeted = async {
        let mut events = launcher.events(&handle).await.unwrap();
        while let Some(event) = events.next().await {
            if let JobEvent::Line { rank: 1, line, .. } = event
                && line.contains("hello")
            {
                return line;
            }
        }
        panic!("the job has ended");
    };
    let line = tokio::time::timeout(Duration::from_secs(60), greeted).await.unwrap();
    assert_eq!(line, "hello from 0 of 2");
    launcher.cancel(&handle).await.unwrap();
    assert_eq!(end(&launcher, &handle).await, JobEnd::Canceled);
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

async fn pods(given: &Given, handle: &JobHandle) -> Vec<Pod> {
    let all: Api<Pod> = Api::namespaced(given.admin.clone(), &given.namespace);
    let selector = format!("kf.dev/job={}", KubeLauncher::name(handle));
    all.list(&ListParams::default().labels(&selector)).await.unwrap().items
}

/// A launcher that has gone leaves its job to the next, which hears of all that it prints, and starts nothing twice.
async fn another_launcher_goes_on(given: Given, kind: Kind) {
    let script = r#"echo one; sleep 6; echo '{"progress":{"step":3}}' >> "$KF_TRAIN_PROGRESS"; echo two"#;
    let job = Job::command("sh", ["-c", script], 2);
    let first = given.launcher(kind);
    let handle = first.submit(job.spec().unwrap().clone(), "left-alone").await.unwrap();
    let started = async {
        let mut events = first.events(&handle).await.unwrap();
        while let Some(event) = events.next().await {
            if matches!(event, JobEvent::Line { .. }) {
                return;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(60), started).await.unwrap();
    drop(first);
    let before: Vec<_> = pods(&given, &handle).await.into_iter().filter_map(|pod| pod.metadata.uid).collect();

    let second = given.launcher(kind);
    let stored = serde_json::to_string(&handle).unwrap();
    let handle: JobHandle = serde_json::from_str(&stored).unwrap();
    second.attach(&handle).await.unwrap();
    let again = second.submit(job.spec().unwrap().clone(), "left-alone").await.unwrap();
    assert_eq!(again, handle);
    let other = Job::command("sh", ["-c", "true"], 2);
    let conflict = given.launcher(kind).submit(other.spec().unwrap().clone(), "left-alone").await;
    assert!(matches!(conflict, Err(Error::Conflict { .. })), "{conflict:?}");
    let succeeded = end(&second, &handle).await;
    assert!(matches!(succeeded, JobEnd::Succeeded { .. }), "{succeeded:?}");
    for rank in 0..2 {
        assert_eq!(second.logs(&handle, rank).await.unwrap(), "one\ntwo\n");
        let status = second.status(&handle).await.unwrap();
        assert_eq!(status.ranks[rank].progress.as_ref().and_then(|progress| progress.step), Some(3));
    }
    let after: Vec<_> = pods(&given, &handle).await.into_iter().filter_map(|pod| pod.metadata.uid).collect();
    assert_eq!(before, after);
    // And a third, of a job that has ended.
    let third = given.launcher(kind);
    let ended = end(&third, &handle).await;
    assert!(matches!(ended, JobEnd::Succeeded { .. }), "{ended:?}");
}

async fn results_come_from_pods(given: Given, kind: Kind) {
    let launcher = given.launcher(kind);
    let doubled = run::<u64>(&*launcher, Job::ranks("double", 1).nodes(2).args(&4)).await;
    assert_eq!(doubled.unwrap(), 8);
    let wrong = run::<u64>(&*launcher, Job::ranks("double", 1).args(&"four")).await.unwrap_err().to_string();
    assert!(wrong.contains("the job's arguments do not fit `double`"), "{wrong}");
    let unknown = run::<u64>(&*launcher, Job::ranks("triple", 1).args(&4)).await.unwrap_err().to_string();
    assert!(unknown.contains("triple"), "{unknown}");
}

async fn nothing_stays_of_a_deleted_job(given: Given, kind: Kind) {
    let launcher = given.launcher(kind);
    let job = Job::command("sh", ["-c", "sleep 600"], 2);
    let handle = launcher.submit(job.spec().unwrap().clone(), "gone").await.unwrap();
    while pods(&given, &handle).await.is_empty() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    launcher.delete(&handle).await.unwrap();
    let ended = end(&launcher, &handle).await;
    let JobEnd::Broken { reason, .. } = &ended else { panic!("{ended:?}") };
    assert!(reason.contains("deleted"), "{reason}");
    let services: Api<k8s_openapi::api::core::v1::Service> =
        Api::namespaced(given.admin.clone(), &given.namespace);
    let gone = async {
        while !pods(&given, &handle).await.is_empty()
            || !services.list(&ListParams::default()).await.unwrap().items.is_empty()
        {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), gone).await.unwrap();
    let unknown = given.launcher(kind).attach(&handle).await;
    assert!(matches!(unknown, Err(Error::Unknown { .. })), "{unknown:?}");
}

/// A job whose rank has failed, and whose next start the namespace's quota has no room for: that is told.
async fn refused_restart(given: &Given, kind: Kind, timeout: Duration) -> (Arc<KubeLauncher>, JobHandle) {
    let launcher = given.launcher(kind);
    let job = Job::command("sh", ["-c", "sleep 6; exit 1"], 1).max_restarts(1).timeout(timeout);
    let handle = launcher.submit(job.spec().unwrap().clone(), "refused").await.unwrap();
    let counted = match kind {
        Kind::PyTorchJob => "count/pytorchjobs.kubeflow.org",
        _ => "count/jobs.batch",
    };
    given.quota("one", json!({counted: "1"})).await;
    let told = async {
        let mut events = launcher.events(&handle).await.unwrap();
        while let Some(event) = events.next().await {
            match event {
                JobEvent::Waiting { reason } if reason.contains("exceeded quota") => return reason,
                JobEvent::Ended(end) => panic!("{end:?}"),
                _ => {}
            }
        }
        panic!("no end was told");
    };
    let reason = tokio::time::timeout(Duration::from_secs(60), told).await.unwrap();
    assert!(reason.starts_with("its ranks can't be started anew"), "{reason}");
    (launcher, handle)
}

async fn a_restart_that_is_refused_ends_in_time(given: Given, kind: Kind) {
    let timeout = Duration::from_secs(40);
    let (launcher, handle) = refused_restart(&given, kind, timeout).await;
    assert_eq!(end(&launcher, &handle).await, JobEnd::TimedOut { after: timeout });
}

/// Which makes room for it.
async fn a_restart_that_is_refused_is_deleted(given: Given, kind: Kind) {
    let (launcher, handle) = refused_restart(&given, kind, Duration::from_secs(600)).await;
    given.launcher(kind).delete(&handle).await.unwrap();
    let ended = end(&launcher, &handle).await;
    assert!(matches!(&ended, JobEnd::Broken { reason, .. } if reason.contains("deleted")), "{ended:?}");
    assert_eq!(pods(&given, &handle).await.len(), 0);
}

async fn a_restart_that_is_refused_is_cancelled(given: Given, kind: Kind) {
    let (launcher, handle) = refused_restart(&given, kind, Duration::from_secs(600)).await;
    // By another launcher, which knows no more than the handle.
    given.launcher(kind).cancel(&KubeLauncher::handle("refused")).await.unwrap();
    assert_eq!(end(&launcher, &handle).await, JobEnd::Canceled);
}
