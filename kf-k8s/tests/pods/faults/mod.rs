//! What a cluster, its network and its people do to tasks and jobs: each has a clear end, nothing is done twice, and nothing
//! is lost.

mod engines;
mod jobs;
mod large;
mod network;
mod nodes;
mod objects;
mod proxy;
pub(crate) mod restarts;
mod rights;
mod server;
mod work;

use std::sync::Arc;

use kube::Client;
use libtest_mimic::Trial;
use tokio::runtime::Runtime;

use super::{Given, tasks, trial_with};

pub(crate) fn trials(runtime: &Arc<Runtime>, client: &Client) -> Vec<Trial> {
    let all = [
        engines::trials,
        jobs::trials,
        large::trials,
        network::trials,
        nodes::trials,
        objects::trials,
        rights::trials,
    ];
    all.into_iter().flat_map(|of| of(runtime, client)).collect()
}

/// A test of tasks, in a namespace of its own.
fn trial<F>(
    runtime: &Arc<Runtime>,
    client: &Client,
    name: &str,
    test: impl FnOnce(Given) -> F + Send + 'static,
) -> Trial
where
    F: Future<Output = ()> + 'static,
{
    let options = |options: &mut kf_k8s::manifests::Options| {
        (options.kinds, options.single_pods) = (Vec::new(), true);
    };
    trial_with(runtime, client, &format!("faults::{name}"), options, test)
}

/// Whether the long form of a test is wanted.
fn long() -> bool {
    std::env::var_os("KF_LONG").is_some()
}
