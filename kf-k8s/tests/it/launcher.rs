//! The suite for launchers, over pods of a real cluster.

use std::sync::Arc;
use std::time::Duration;

use kf_k8s::train::{Kind, KubeLauncher, PodOptions};
use kf_train::testing::{Setup, launcher_conformance};

use super::cluster::{TestNamespace, client};

fn busybox() -> PodOptions {
    let mut options = PodOptions::new("kf.local/busybox:1");
    options.image_pull_policy = Some("IfNotPresent".into());
    options
}

async fn conforms(kind: Kind, of: &str) {
    let client = match client().await {
        Ok(client) => client,
        Err(why) => return println!("JUDGE kubernetes skipped: {why}"),
    };
    if kind == Kind::JobSet && KubeLauncher::discover(&client).await.unwrap() != kind {
        return println!("JUDGE jobset skipped: the cluster has no JobSets");
    }
    let namespace = TestNamespace::new(&client, of).await;
    let launcher = Arc::new(KubeLauncher::new(client, &namespace.name, kind, busybox()));
    let setup = Setup::new(launcher).patience(Duration::from_secs(90)).head_start(Duration::from_secs(3));
    launcher_conformance(&setup).await;
    namespace.remove().await;
    println!("JUDGE kubernetes passed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_conform() {
    conforms(Kind::Job, "job").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobsets_conform() {
    conforms(Kind::JobSet, "jobset").await;
}
