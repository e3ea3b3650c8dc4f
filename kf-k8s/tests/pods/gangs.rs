//! Jobs whose pods start all at once or not at all, by the scheduler that does so.

use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kf_core::resources::Resources;
use kf_k8s::train::{Gang, Kind, KubeLauncher};
use kf_train::{Job, JobEnd, JobEvent, JobHandle, Launcher, Rank};
use kube::api::ListParams;
use kube::{Api, Client};
use libtest_mimic::Trial;
use tokio::runtime::Runtime;

use super::{Given, trial_with};

/// The scheduler of the tests' cluster that has the coscheduling plug-in.
const SCHEDULER: &str = "coscheduler";

pub(crate) fn trials(runtime: &Arc<Runtime>, client: &Client) -> Vec<Trial> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), "kube-system");
    let found = runtime.block_on(pods.list(&ListParams::default()));
    let is = |pod: &Pod| pod.metadata.name.as_ref().is_some_and(|name| name.starts_with(SCHEDULER));
    let there = found.is_ok_and(|pods| pods.items.iter().any(is));
    match there {
        true => println!("JUDGE gangs passed"),
        false => println!("JUDGE gangs skipped: the cluster has no scheduler-plugins"),
    }
    let options = |options: &mut kf_k8s::manifests::Options| {
        (options.kinds, options.single_pods, options.pod_groups) = (vec![Kind::Job], false, true);
    };
    match there {
        true => vec![
            trial_with(
                runtime,
                client,
                "gangs::one_that_does_not_fit_waits_as_a_whole",
                options,
                one_that_does_not_fit,
            ),
            trial_with(runtime, client, "gangs::two_never_deadlock", options, two_never_deadlock),
        ],
        false => Vec::new(),
    }
}

fn launcher(given: &Given, gang: Gang) -> KubeLauncher {
    let mut options = given.options();
    options.gang = Some(gang);
    given.launcher_of(Kind::Job, options)
}

fn coscheduled() -> Gang {
    Gang::coscheduling(SCHEDULER, Duration::from_secs(10))
}

/// A job of so many nodes of so many cores each, which end once they have met.
fn job(nodes: usize, cpu: f64) -> kf_train::JobSpec {
    let resources = Resources::none().cpu(cpu);
    Job::ranks("meet", 1).nodes(nodes).resources(resources).spec().unwrap().clone()
}

/// What each rank does: nobody ends before all are there.
pub(crate) fn meet(rank: &Rank, (): ()) -> Result<(), String> {
    let told = |name: &str| std::env::var(name).map_err(|error| format!("{name}: {error}"));
    let port: u16 = told("MASTER_PORT")?.parse().map_err(|error| format!("MASTER_PORT: {error}"))?;
    if rank.rank() == 0 {
        let listener = TcpListener::bind(("0.0.0.0", port)).map_err(|error| error.to_string())?;
        let met: Result<Vec<_>, _> = listener.incoming().take(rank.world_size() - 1).collect();
        return met.map(drop).map_err(|error| error.to_string());
    }
    let master = told("MASTER_ADDR")?;
    loop {
        if let Ok(mut stream) = TcpStream::connect((master.as_str(), port)) {
            // Until the other end has met everybody.
            let _ = stream.read_to_end(&mut Vec::new());
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
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

/// Two of its three pods would have a place.
async fn one_that_does_not_fit(given: Given) {
    let launcher = launcher(&given, coscheduled());
    let handle = launcher.submit(job(3, 0.9), "too-many").await.unwrap();
    let mut events = launcher.events(&handle).await.unwrap();
    let waiting = async {
        while let Some(event) = events.next().await {
            if let JobEvent::Waiting { reason } = event
                && reason.contains("no node takes it")
            {
                return;
            }
        }
        panic!("it waits for nothing");
    };
    tokio::time::timeout(Duration::from_secs(30), waiting).await.unwrap();
    let pods: Api<Pod> = Api::namespaced(given.admin.clone(), &given.namespace);
    for _ in 0..30 {
        let found = pods.list(&ListParams::default()).await.unwrap().items;
        assert_eq!(found.len(), 3);
        let placed =
            found.iter().filter(|pod| pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some()));
        assert_eq!(placed.count(), 0);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    launcher.cancel(&handle).await.unwrap();
    assert_eq!(end(&launcher, &handle).await, JobEnd::Canceled);
}

/// Each takes most of the node, so that both together would hold half each and wait.
async fn two_never_deadlock(given: Given) {
    let launcher = launcher(&given, coscheduled());
    let one = launcher.submit(job(3, 0.5), "one").await.unwrap();
    let other = launcher.submit(job(3, 0.5), "other").await.unwrap();
    let ends = tokio::join!(end(&launcher, &one), end(&launcher, &other));
    assert!(matches!(ends, (JobEnd::Succeeded { .. }, JobEnd::Succeeded { .. })), "{ends:?}");
}
