//! Ranks that are functions of this program, each the first process of its container.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kf_core::worker::Workers;
use kf_k8s::train::{Kind, KubeLauncher};
use kf_train::store::{StoreClient, StoreServer};
use kf_train::{Job, JobEnd, JobEvent, JobHandle, JobSpec, Launcher, Rank, ranks, run};
use kube::api::{DeleteParams, ListParams};
use kube::{Api, Client};
use libtest_mimic::Trial;
use tokio::runtime::Runtime;

use super::{Given, trial};

/// More than a test waits.
const GRACE: Duration = Duration::from_secs(120);

pub(crate) fn trials(runtime: &Arc<Runtime>, client: &Client) -> Vec<Trial> {
    vec![
        trial(runtime, client, "functions::several_nodes_of_several_ranks", several_nodes_of_several_ranks),
        trial(runtime, client, "functions::one_that_asks_is_told_to_leave", one_that_asks_is_told_to_leave),
        trial(
            runtime,
            client,
            "functions::one_that_never_asks_ends_at_once",
            one_that_never_asks_ends_at_once,
        ),
    ]
}

/// The functions.
pub(crate) fn add_to(workers: Workers) -> Workers {
    workers.with(ranks("places", places)).with(ranks("asks", asks)).with(ranks("deaf", deaf))
}

/// What each rank is told of its place, as all of them meet at the first one's store.
#[tokio::main(flavor = "current_thread")]
async fn places(rank: &Rank, (): ()) -> kf_train::Result<Vec<String>> {
    let (address, time) = ((rank.master_addr().to_owned(), rank.master_port()), Duration::from_secs(60));
    let _server = match rank.is_main() {
        true => Some(StoreServer::bind(([0, 0, 0, 0], address.1).into()).await?),
        false => None,
    };
    let client = StoreClient::connect(format!("{}:{}", address.0, address.1), time).await?;
    let node = rank.rank() / rank.local_world_size();
    let place = format!("{} of {} on node {node}", rank.local_rank(), rank.local_world_size());
    client.set(&format!("place/{}", rank.rank()), place).await?;
    let keys = |of: &str| (0..rank.world_size()).map(|rank| format!("{of}/{rank}")).collect::<Vec<_>>();
    let places = client.multi_get(&keys("place"), time).await?;
    client.set(&format!("read/{}", rank.rank()), "").await?;
    if rank.is_main() {
        client.wait(&keys("read"), time).await?;
    }
    Ok(places.iter().map(|place| String::from_utf8_lossy(place).into_owned()).collect())
}

/// Goes on until it is to leave, and when it is started anew is done.
fn asks(rank: &Rank, (): ()) -> Result<u64, String> {
    if rank.restart_count() > 0 {
        return Ok(rank.restart_count());
    }
    println!("up, {}", rank.is_leaving());
    let began = Instant::now();
    while !rank.is_leaving() && began.elapsed() < GRACE {
        std::thread::sleep(Duration::from_millis(50));
    }
    println!("saved");
    Ok(0)
}

/// Never asks whether it is to leave.
fn deaf(_: &Rank, (): ()) -> Result<(), String> {
    println!("up");
    std::thread::sleep(GRACE);
    Ok(())
}

async fn several_nodes_of_several_ranks(given: Given) {
    let launcher = given.launcher(Kind::Job);
    let places = run::<Vec<String>>(&*launcher, Job::ranks("places", 2).nodes(2)).await.unwrap();
    assert_eq!(places, ["0 of 2 on node 0", "1 of 2 on node 0", "0 of 2 on node 1", "1 of 2 on node 1"]);
}

/// A job whose ranks are up, and its pods.
async fn up(given: &Given, spec: JobSpec, lines: usize) -> (Arc<KubeLauncher>, JobHandle, BTreeSet<String>) {
    let launcher = given.launcher(Kind::Job);
    let handle = launcher.submit(spec, "ends").await.unwrap();
    let mut events = launcher.events(&handle).await.unwrap();
    let up = events.by_ref().filter(|event| {
        std::future::ready(matches!(event, JobEvent::Line { line, .. } if line.starts_with("up")))
    });
    let seen = tokio::time::timeout(Duration::from_secs(60), up.take(lines).count()).await.unwrap();
    assert_eq!(seen, lines);
    let pods = names(given).await;
    (launcher, handle, pods)
}

fn pods(given: &Given) -> Api<Pod> {
    Api::namespaced(given.admin.clone(), &given.namespace)
}

async fn names(given: &Given) -> BTreeSet<String> {
    let all = pods(given).list(&ListParams::default()).await.unwrap();
    all.items.into_iter().filter_map(|pod| pod.metadata.name).collect()
}

async fn one_that_asks_is_told_to_leave(given: Given) {
    let job = Job::ranks("asks", 1).nodes(2).max_restarts(1).stop_grace(GRACE);
    let (launcher, handle, names) = up(&given, job.spec().unwrap().clone(), 2).await;
    let began = Instant::now();
    pods(&given).delete(names.first().unwrap(), &DeleteParams::default()).await.unwrap();
    let events = launcher.events(&handle).await.unwrap().collect::<Vec<_>>();
    let events = tokio::time::timeout(Duration::from_secs(90), events).await.unwrap();
    let saved = |event: &&JobEvent| matches!(event, JobEvent::Line { line, .. } if line == "saved");
    assert_eq!(events.iter().filter(saved).count(), 2, "{events:#?}");
    let Some(JobEvent::Ended(JobEnd::Succeeded { result })) = events.last() else { panic!("{events:#?}") };
    assert_eq!(*result, 1, "{events:#?}");
    assert!(began.elapsed() < GRACE);
}

async fn one_that_never_asks_ends_at_once(given: Given) {
    let job = Job::ranks("deaf", 1).stop_grace(GRACE);
    let (launcher, handle, first) = up(&given, job.spec().unwrap().clone(), 1).await;
    launcher.cancel(&handle).await.unwrap();
    let gone = async {
        while !names(&given).await.is_disjoint(&first) {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), gone).await.unwrap();
}
