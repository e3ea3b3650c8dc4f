//! Ranks that are functions of this program, each the first process of its container.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kf_core::worker::Workers;
use kf_k8s::train::Kind;
use kf_train::store::{StoreClient, StoreServer};
use kf_train::{Job, JobEnd, JobEvent, Launcher, Rank, ranks, run};
use kube::api::{DeleteParams, ListParams};
use kube::{Api, Client};
use libtest_mimic::Trial;
use tokio::runtime::Runtime;

use super::{Given, trial};

/// How long the ranks may take to end; more than a test waits.
const GRACE: Duration = Duration::from_secs(120);

pub(crate) fn trials(runtime: &Arc<Runtime>, client: &Client) -> Vec<Trial> {
    vec![
        trial(runtime, client, "functions::several_nodes_of_several_ranks", several_nodes_of_several_ranks),
        trial(runtime, client, "functions::one_that_asks_is_told_to_leave", one_that_asks_is_told_to_leave),
    ]
}

/// The functions.
pub(crate) fn add_to(workers: Workers) -> Workers {
    workers.with(ranks("places", places)).with(ranks("asks", asks))
}

/// What each rank is told of its place, as all of them meet at the first one's store.
#[tokio::main(flavor = "current_thread")]
async fn places(rank: &Rank, (): ()) -> kf_train::Result<Vec<(String, String)>> {
    let (address, time) = ((rank.master_addr().to_owned(), rank.master_port()), Duration::from_secs(60));
    let _server = match rank.is_main() {
        true => Some(StoreServer::bind(([0, 0, 0, 0], address.1).into()).await?),
        false => None,
    };
    let client = StoreClient::connect(format!("{}:{}", address.0, address.1), time).await?;
    let place = format!("{} of {}", rank.local_rank(), rank.local_world_size());
    let place = (place, rank.host().unwrap_or_default());
    client.set(&format!("place/{}", rank.rank()), serde_json::json!(place).to_string()).await?;
    let keys = |of: &str| (0..rank.world_size()).map(|rank| format!("{of}/{rank}")).collect::<Vec<_>>();
    let places = client.multi_get(&keys("place"), time).await?;
    client.set(&format!("read/{}", rank.rank()), "").await?;
    if rank.is_main() {
        client.wait(&keys("read"), time).await?;
    }
    Ok(places.iter().map(|place| serde_json::from_slice(place).unwrap()).collect())
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

async fn several_nodes_of_several_ranks(given: Given) {
    let launcher = given.launcher(Kind::Job);
    // A number from elsewhere is not theirs.
    let job = Job::ranks("places", 2).nodes(2).env("RANK", "77");
    let places = run::<Vec<(String, String)>>(&*launcher, job).await.unwrap();
    let (places, hosts): (Vec<_>, Vec<_>) = places.into_iter().unzip();
    assert_eq!(places, ["0 of 2", "1 of 2", "0 of 2", "1 of 2"]);
    assert!(hosts[0] == hosts[1] && hosts[1] != hosts[2] && hosts[2] == hosts[3], "{hosts:?}");
}

async fn one_that_asks_is_told_to_leave(given: Given) {
    let job = Job::ranks("asks", 1).nodes(2).max_restarts(1).stop_grace(GRACE);
    let launcher = given.launcher(Kind::Job);
    let handle = launcher.submit(job.spec().unwrap().clone(), "leaves").await.unwrap();
    let mut events = launcher.events(&handle).await.unwrap();
    let up = events.by_ref().filter(|event| {
        std::future::ready(matches!(event, JobEvent::Line { line, .. } if line.starts_with("up")))
    });
    let up = tokio::time::timeout(Duration::from_secs(60), up.take(2).count()).await;
    assert_eq!(up.unwrap(), 2);
    let pods: Api<Pod> = Api::namespaced(given.admin.clone(), &given.namespace);
    let there = pods.list(&ListParams::default()).await.unwrap().items;
    pods.delete(there[0].metadata.name.as_ref().unwrap(), &DeleteParams::default()).await.unwrap();
    let events = launcher.events(&handle).await.unwrap().collect::<Vec<_>>();
    let events = tokio::time::timeout(Duration::from_secs(90), events).await.unwrap();
    let saved = |event: &&JobEvent| matches!(event, JobEvent::Line { line, .. } if line == "saved");
    assert_eq!(events.iter().filter(saved).count(), 2, "{events:#?}");
    let Some(JobEvent::Ended(JobEnd::Succeeded { result })) = events.last() else { panic!("{events:#?}") };
    assert_eq!(*result, 1, "{events:#?}");
}
