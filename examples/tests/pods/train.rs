//! A job of two ranks, each a pod: it ends with the parameters that the same job has on one machine.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use examples::digits;
use examples::quickstart::{FitArgs, Fitted};
use futures::StreamExt;
use kf_k8s::train::{Kind, KubeLauncher};
use kf_train::{
    ConditionType, Job, JobEnd, JobEvent, JobHandle, JobStatus, Launcher, LocalLauncher, RankState, run,
};
use kube::Client;
use kube::api::{DeleteParams, ListParams};
use libtest_mimic::Trial;
use tokio::runtime::Runtime;
use tokio::sync::OnceCell;

use super::cluster::{MOUNT, Namespace};
use super::trial;

/// So many that a pod can be deleted between two.
const EPOCHS: u64 = 120;
const CLAIM: &str = "checkpoints";

pub(crate) fn trials(runtime: &Arc<Runtime>, client: &Client, kinds: &[(&str, Kind)]) -> Vec<Trial> {
    let mut trials = Vec::new();
    for &(name, kind) in kinds {
        trials.push(trial(runtime, client, &format!("{name}::train_as_on_one_machine"), move |given| {
            train(given, kind)
        }));
        trials.push(trial(
            runtime,
            client,
            &format!("{name}::resume_from_the_last_checkpoint"),
            move |given| resume(given, kind),
        ));
    }
    trials
}

fn job(folder: &Path) -> Job {
    let args = FitArgs {
        train: digits::FILE.into(),
        model: folder.join("model"),
        dir: folder.to_owned(),
        rate: 0.05,
        seed: 7,
        epochs: EPOCHS,
    };
    // Each rank alone on its node, and sums in the same order everywhere.
    Job::ranks("fit", 1).nodes(2).threads_per_rank(1).max_restarts(3).args(&args)
}

/// What it comes to as processes of this machine.
async fn on_one_machine() -> Fitted {
    static ONCE: OnceCell<Fitted> = OnceCell::const_new();
    let train = || async {
        let folder = tempfile::tempdir().unwrap();
        let launcher = LocalLauncher::new(folder.path().join("jobs"));
        run::<Fitted>(&launcher, job(folder.path())).await.unwrap()
    };
    ONCE.get_or_init(train).await.clone()
}

async fn train(given: Namespace, kind: Kind) {
    let expected = on_one_machine().await;
    given.claim(CLAIM).await;
    let launcher = given.launcher(kind, CLAIM).await;
    let handle = launcher.submit(job(Path::new(MOUNT)).spec().unwrap().clone(), "trains").await.unwrap();
    let mut told = Told::default();
    assert_eq!(to_the_end(&launcher, &handle, |event| told.add(event)).await, expected);
    assert!(told.failures.is_empty(), "{:?}", told.failures);
    for rank in 0..2 {
        assert_eq!(told.epochs[rank], (1..=EPOCHS).collect::<Vec<_>>(), "of rank {rank}");
    }
    has_succeeded(&launcher.status(&handle).await.unwrap(), 0);
}

async fn resume(given: Namespace, kind: Kind) {
    let expected = on_one_machine().await;
    given.claim(CLAIM).await;
    let launcher = given.launcher(kind, CLAIM).await;
    let handle = launcher.submit(job(Path::new(MOUNT)).spec().unwrap().clone(), "resumes").await.unwrap();
    let mut told = Told::default();
    // That which saves, or the other.
    let node = usize::from(matches!(kind, Kind::Job | Kind::TrainJob));
    let mut deletes = None;
    let fitted = to_the_end(&launcher, &handle, |event| {
        told.add(event);
        if deletes.is_none() && told.epochs[0].last() >= Some(&10) {
            let (pods, job) = (given.pods(), KubeLauncher::name(&handle));
            deletes = Some(tokio::spawn(async move {
                let all =
                    pods.list(&ListParams::default().labels(&format!("kf.dev/job={job}"))).await.unwrap();
                let mut names: Vec<_> = all.items.into_iter().filter_map(|pod| pod.metadata.name).collect();
                names.sort();
                let name = names.swap_remove(node);
                pods.delete(&name, &DeleteParams::default().grace_period(1)).await.unwrap();
                name
            }));
        }
    })
    .await;
    let deleted = deletes.unwrap().await.unwrap();
    assert_eq!(fitted, expected, "after {deleted} was deleted");
    assert!(!told.failures.is_empty(), "{deleted} was deleted after the end");
    // The epochs before the restart, then those from its checkpoint on: not from the first.
    let again = told.again.unwrap();
    assert!(again >= 10, "it went on with epoch {again}");
    println!("{}", told.failures.join("\n"));
    has_succeeded(&launcher.status(&handle).await.unwrap(), told.failures.len() as u64);
}

/// What was told of a job.
#[derive(Default)]
struct Told {
    /// That each rank has ended.
    epochs: [Vec<u64>; 2],
    /// Why its ranks were started anew.
    failures: Vec<String>,
    /// The first epoch of rank 0 after the last restart.
    again: Option<u64>,
}

impl Told {
    fn add(&mut self, event: &JobEvent) {
        match event {
            JobEvent::Progress { rank, progress } => {
                assert!(progress.metrics.contains_key("loss"), "{progress:?}");
                self.epochs[*rank].extend(progress.epoch);
                if *rank == 0 && !self.failures.is_empty() && self.again.is_none() {
                    self.again = progress.epoch;
                }
            }
            JobEvent::Restarting { restarts, failure } => {
                self.failures.push(failure.to_string());
                assert_eq!(self.failures.len() as u64, *restarts);
                self.again = None;
            }
            _ => {}
        }
    }
}

async fn to_the_end(launcher: &KubeLauncher, handle: &JobHandle, mut tell: impl FnMut(&JobEvent)) -> Fitted {
    let mut events = launcher.events(handle).await.unwrap();
    let end = async {
        while let Some(event) = events.next().await {
            tell(&event);
            if let JobEvent::Ended(end) = event {
                return end;
            }
        }
        panic!("no end was told");
    };
    match tokio::time::timeout(Duration::from_secs(240), end).await.unwrap() {
        JobEnd::Succeeded { result } => serde_json::from_value(result).unwrap(),
        end => panic!("{end:?}"),
    }
}

/// What everybody sees who asks how the job fares.
fn has_succeeded(status: &JobStatus, restarts: u64) {
    assert!(status.is(ConditionType::Complete), "{status:?}");
    assert_eq!(status.restarts, restarts);
    assert_eq!(status.trainer_status.as_ref().unwrap().progress_percentage, Some(100));
    assert_eq!(status.ranks.len(), 2);
    for rank in &status.ranks {
        assert_eq!(rank.state, RankState::Succeeded);
        let progress = rank.progress.as_ref().unwrap();
        assert_eq!(progress.epoch, Some(EPOCHS));
        assert!(progress.metrics["loss"].is_finite(), "{progress:?}");
    }
}
