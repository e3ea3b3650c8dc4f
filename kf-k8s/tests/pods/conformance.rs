//! The suite for launchers, over pods, by each kind of object that the cluster carries.

use std::sync::Arc;
use std::time::Duration;

use kf_k8s::train::{Kind, KubeLauncher};
use kf_train::Job;
use kf_train::testing::{Setup, launcher_conformance};
use kube::Client;
use libtest_mimic::Trial;
use tokio::runtime::Runtime;

use super::cluster::carried;
use super::{Given, trial};

pub(crate) fn trials(runtime: &Arc<Runtime>, client: &Client) -> Vec<Trial> {
    let of = |(name, kind): (&str, Kind)| {
        trial(runtime, client, &format!("conformance::{name}"), move |given| conform(given, kind))
    };
    carried(runtime, client).into_iter().map(of).collect()
}

async fn conform(given: Given, kind: Kind) {
    let launcher: Arc<KubeLauncher> = given.launcher(kind);
    let setup = Setup::new(launcher)
        .patience(Duration::from_secs(90))
        .head_start(Duration::from_secs(3))
        .entry(Job::ranks("double", 2).args(&21), 42);
    launcher_conformance(&setup).await;
}
