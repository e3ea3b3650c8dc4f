//! That a cluster takes all objects that this crate can build, and knows every field of them.

#[path = "../../it/objects/declared.rs"]
mod declared;
#[path = "../../it/objects/filled/mod.rs"]
mod filled;
mod kinds;
mod launched;
mod layer;
mod pipelines;
mod server;
mod single;
mod trainer;
mod version;
mod words;

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::sync::Arc;

use kf_k8s::manifests::{Endpoint, Options, PodSecurity, manifests};
use kf_k8s::train::Kind;
use kube::Client;
use libtest_mimic::Trial;
use tokio::runtime::Runtime;

pub(crate) use self::layer::Strict;
pub(crate) use self::pipelines::exported;
use self::server::Server;
use super::{Given, trial_with};

pub(crate) fn trials(runtime: &Arc<Runtime>, client: &Client) -> Vec<Trial> {
    // What only a pipeline's author asks for may be root, or of the node.
    let privileged = |options: &mut Options| options.pod_security = PodSecurity::Privileged;
    // And what is our own is held to the least.
    let restricted = |options: &mut Options| options.pod_groups = true;
    vec![
        trial_with(runtime, client, "strict::kinds", privileged, kinds::all),
        trial_with(runtime, client, "strict::words", privileged, words::all),
        trial_with(runtime, client, "strict::rows_of_platforms", privileged, pipelines::rows),
        trial_with(runtime, client, "strict::workflows", privileged, pipelines::workflows),
        trial_with(runtime, client, "strict::jobs", restricted, launched::all),
        trial_with(runtime, client, "strict::tasks", restricted, single::all),
        trial_with(runtime, client, "strict::manifests", restricted, applied),
    ]
}

/// Where a type has got a variant that none of these is.
fn are_all<T: Debug>(these: &[T], file: &str, name: &str) {
    let of = |one: &T| format!("{one:?}").split(|c: char| !c.is_alphanumeric()).next().unwrap().to_owned();
    let named: BTreeSet<_> = these.iter().map(of).collect();
    assert_eq!(named, declared::variants(file, name), "{name} of {file}");
}

/// Where options have got a field that is nothing yet.
fn is_full(options: &impl Debug) {
    let shown = format!("{options:#?}");
    // Its own fields, not those within them.
    let own = shown.lines().filter(|line| line.starts_with("    ") && !line.starts_with("     "));
    let nothing = own.filter(|line| [": None,", ": [],", ": {},"].iter().any(|end| line.ends_with(end)));
    assert_eq!(nothing.collect::<Vec<_>>(), [""; 0], "set it to something that a cluster may know");
}

/// What a platform team applies.
async fn applied(given: Given) {
    let server = Server::new(&given.namespace).await;
    let levels = [PodSecurity::Restricted, PodSecurity::Baseline, PodSecurity::Privileged];
    are_all(&levels, "src/manifests/options.rs", "PodSecurity");
    for level in levels {
        let mut options = Options::new(&given.namespace);
        options.pod_security = level;
        options.pod_groups = true;
        options.workflow = Some("kf-workflow".into());
        options.egress = vec![Endpoint::tcp("10.20.0.0/16", 443), Endpoint::udp("fd00::a/128", 53)];
        let protocols: Vec<_> = options.egress.iter().map(|endpoint| endpoint.protocol).collect();
        are_all(&protocols, "src/manifests/options.rs", "Protocol");
        are_all(&options.kinds, "src/train/kinds/mod.rs", "Kind");
        is_full(&options);
        manifests(&options).unwrap().apply(&server.client).await.unwrap();
    }
    let mut none = Options::new(&given.namespace);
    (none.kinds, none.single_pods) = (vec![Kind::Job], false);
    manifests(&none).unwrap().apply(&server.client).await.unwrap();
}
