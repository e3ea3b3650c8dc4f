//! The engine, in its pod.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use kf_core::Home;
use kf_core::artifact::ArtifactStore;
use kf_core::worker::Workers;
use kf_k8s::tasks::{PodExecutor, TaskOptions};
use kf_k8s::train::{ClaimMount, KubeLauncher, PodOptions};
use kf_pipeline::prelude::*;
use kf_pipeline::remote::RemoteTasks;
use kf_serve::BoxError;

use super::{ARTIFACTS, CLAIM, HOME, LAST_WORDS, MOUNT, Options, PULL};
use crate::cli;
use crate::quickstart::{components, end, live, workers};

/// What copies of the program do in other pods: the ranks of a fit, and tasks.
pub fn in_pods() -> Workers {
    workers().with(RemoteTasks::new(components(), || ArtifactStore::local(ARTIFACTS)))
}

/// Says what to do where there can be no home on the volume.
fn check_volume() -> Result<(), BoxError> {
    let home = Path::new(HOME);
    let folder = if home.exists() { home } else { Path::new(MOUNT) };
    tempfile::tempfile_in(folder).map(drop).map_err(|error| {
        format!(
            "the volume of the claim `{CLAIM}` can't be written to by this user: {error}. Folders of a node are root's: let all \
             write to the folder that `kubectl get pv --output custom-columns=:.spec.hostPath.path` tells, and start this \
             again; or take another `--storage-class`"
        )
        .into()
    })
}

/// Runs the pipeline, and leaves the summary as the pod's last words.
///
/// # Errors
/// Those of [`live`], and what the cluster refuses.
pub async fn run(options: &Options) -> Result<ExitCode, BoxError> {
    let client = kube::Client::try_default().await?;
    check_volume()?;
    let home = Home::open(HOME).await?;
    let mut pods = PodOptions::new(&options.image);
    pods.image_pull_policy = Some(PULL.to_owned());
    pods.service_account = Some(kf_k8s::manifests::Options::new(&options.namespace).task);
    pods.claims = vec![ClaimMount::new(CLAIM, MOUNT)];
    let mut tasks = TaskOptions::new(&options.image);
    tasks.pod = pods.clone();
    let kind = match options.kind {
        Some(kind) => kind,
        None => KubeLauncher::discover(&client).await?,
    };
    eprintln!("tasks are pods; each fit is a {kind:?}");

    let (namespace, store) = (&options.namespace, home.artifacts().clone());
    let executor = PodExecutor::new(client.clone(), namespace, store, tasks);
    let engine = Engine::builder().default_executor(Arc::new(executor));
    let launcher = Arc::new(KubeLauncher::new(client, namespace, kind, pods));

    let same = cli::Options {
        rates: options.rates.clone(),
        seed: options.seed,
        home: PathBuf::from(HOME),
        keep_serving: false,
        json: options.json,
    };
    let (mut summary, server) = live(&same, &home, engine, launcher).await?;
    std::fs::write(LAST_WORDS, summary.json())?;
    end(&same, summary, server).await
}
