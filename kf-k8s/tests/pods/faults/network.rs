//! The API server and the way to it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use kf_core::metadata::RunState;
use kf_pipeline::Pipeline;
use kube::Client;
use kube::api::ListParams;
use libtest_mimic::Trial;
use tokio::runtime::Runtime;

use super::proxy::{Fault, Proxy};
use super::tasks::components::chatter;
use super::tasks::witness::Witness;
use super::work::{
    all_once, ends, fixture_by, lines, name, one, phase, pods, start, until, until_a_pod, witnessed_tasks,
};
use super::{Given, long, trial};

const PODS: [&str; 6] =
    ["create /pods", "get /pods", "list /pods", "watch /pods", "delete /pods", "get /pods/log"];

pub(super) fn trials(runtime: &Arc<Runtime>, client: &Client) -> Vec<Trial> {
    let spoiled = |name: &str, fault: Fault, of: &'static [&'static str], every: usize| {
        trial(runtime, client, &format!("network::{name}"), move |given| spoiled(given, fault, of, every))
    };
    vec![
        spoiled("every_third_request_comes_too_often", Fault::Refused(429), &PODS, 3),
        spoiled("every_third_request_fails_inside", Fault::Refused(500), &PODS, 3),
        spoiled("every_second_request_finds_nobody", Fault::Refused(503), &PODS, 2),
        spoiled("all_answers_are_slow", Fault::Slow(Duration::from_secs(2)), &[], 1),
        spoiled("every_third_answer_breaks_off", Fault::Broken, &PODS, 3),
        spoiled("every_third_answer_is_lost", Fault::Lost, &PODS, 3),
        spoiled("all_watches_are_too_old", Fault::Expired, &["watch /pods"], 1),
        spoiled("every_watch_is_refused_as_too_old", Fault::Refused(410), &["watch /pods"], 1),
        trial(runtime, client, "network::the_way_to_the_cluster_is_cut", cut_off),
        trial(runtime, client, "network::a_proxy_stands_for_the_api_server_s_restart", restarted),
        trial(runtime, client, "network::a_pod_made_unseen_goes_with_its_cancelled_attempt", unseen),
        trial(runtime, client, "network::a_log_over_broken_connections_is_whole", log),
        trial(runtime, client, "network::it_ends_while_nobody_can_see_it", ends_unseen),
    ]
}

async fn spoiled(given: Given, fault: Fault, of: &'static [&'static str], every: usize) {
    const TASKS: i64 = 4;
    let (proxy, witness) = (Proxy::start(given.engine.clone()).await, Witness::listen(&given).await);
    proxy.spoil(fault, of, every);
    let admin = pods(&given);
    let fixture = fixture_by(&given, proxy.client()).await;
    let run = start(&fixture, &witnessed_tasks(&witness, TASKS, 2.0)).await;
    all_once(&run, &witness, TASKS).await;
    let spoiled = proxy.spoiled();
    println!("{} spoiled: {spoiled:?}", spoiled.len());
    assert!(of.is_empty() || spoiled.iter().all(|right| of.contains(&right.as_str())));
    assert!(spoiled.len() >= if of.len() == 1 { 1 } else { 4 }, "{spoiled:?}");
    until("the pods stay", async || admin.list(&ListParams::default()).await.unwrap().items.is_empty()).await;
}

/// In the middle of a run; some of its tasks end meanwhile, and others have yet to begin.
async fn cut_off(given: Given) {
    const TASKS: i64 = 4;
    let (proxy, witness) = (Proxy::start(given.engine.clone()).await, Witness::listen(&given).await);
    let fixture = fixture_by(&given, proxy.client()).await;
    let run = start(&fixture, &witnessed_tasks(&witness, TASKS, 3.0)).await;
    until("none has begun", async || !witness.seen().is_empty()).await;
    proxy.cut_off();
    tokio::time::sleep(Duration::from_secs(if long() { 60 } else { 10 })).await;
    proxy.heal();
    let began = Instant::now();
    all_once(&run, &witness, TASKS).await;
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
}

/// Connections break, none is taken, then answers are that it is not ready yet, and watches start from what is too old. The
/// server itself stays, since others use it.
async fn restarted(given: Given) {
    const TASKS: i64 = 3;
    let (proxy, witness) = (Proxy::start(given.engine.clone()).await, Witness::listen(&given).await);
    let fixture = fixture_by(&given, proxy.client()).await;
    let run = start(&fixture, &witnessed_tasks(&witness, TASKS, 4.0)).await;
    until("none has begun", async || !witness.seen().is_empty()).await;
    proxy.cut_off();
    tokio::time::sleep(Duration::from_secs(3)).await;
    proxy.heal();
    proxy.spoil_some(Fault::Refused(503), &[], 1, 5);
    proxy.spoil_some(Fault::Refused(403), &["list /pods"], 1, 1);
    proxy.spoil_some(Fault::Refused(410), &["watch /pods"], 1, 1);
    all_once(&run, &witness, TASKS).await;
    assert!(!proxy.spoiled().is_empty());
}

/// The request to make it was carried out, its answer lost, and the way cut until the attempt is cancelled.
async fn unseen(given: Given) {
    let (proxy, witness) = (Proxy::start(given.engine.clone()).await, Witness::listen(&given).await);
    proxy.spoil(Fault::Lost, &["create /pods"], 1);
    proxy.spoil(
        Fault::Refused(500),
        &["get /pods", "list /pods", "watch /pods", "deletecollection /pods"],
        1,
    );
    let admin = pods(&given);
    let fixture = fixture_by(&given, proxy.client()).await;
    let run = start(&fixture, &one(&witness, 100.0)).await;
    until("no pod is made", async || !admin.list(&ListParams::default()).await.unwrap().items.is_empty())
        .await;
    run.cancel("enough").await;
    // Before the run's end has all of them removed that have its label.
    until("it is not looked for", async || proxy.spoiled().iter().any(|it| it == "deletecollection /pods"))
        .await;
    proxy.pardon("get /pods");
    let gone = async || admin.list(&ListParams::default()).await.unwrap().items.is_empty();
    until("the pod stays", gone).await;
    proxy.heal();
    assert_eq!(ends(&run).await.state, RunState::Canceled);
}

/// Each line once, and in order.
async fn log(given: Given) {
    let proxy = Proxy::start(given.engine.clone()).await;
    proxy.spoil_some(Fault::Broken, &["get /pods/log"], 1, 4);
    let fixture = fixture_by(&given, proxy.client()).await;
    let pipeline = Pipeline::build("chatter", |p| {
        p.add(chatter(3000, 60, 8.0));
    });
    let run = start(&fixture, &pipeline.unwrap()).await;
    assert_eq!(ends(&run).await.state, RunState::Succeeded);
    let log = fixture.engine.logs(run.id(), "chatter", 1).await.unwrap();
    let numbers: Vec<u64> =
        lines(log).await.iter().filter_map(|line| line.split_once(" x")?.0.parse().ok()).collect();
    assert_eq!(numbers, (0..3000).collect::<Vec<_>>());
    assert!(proxy.spoiled().len() >= 3, "{:?}", proxy.spoiled());
}

/// Its pod is there still when the way is open again, and what it gave is taken.
async fn ends_unseen(given: Given) {
    let (proxy, witness) = (Proxy::start(given.engine.clone()).await, Witness::listen(&given).await);
    let fixture = fixture_by(&given, proxy.client()).await;
    let run = start(&fixture, &one(&witness, 5.0)).await;
    let pod = until_a_pod(&given, |pod| phase(pod) == "Running").await;
    proxy.cut_off();
    let pod = name(&pod).to_owned();
    until("it does not end", async || phase(&pods(&given).get(&pod).await.unwrap()) == "Succeeded").await;
    proxy.heal();
    assert_eq!(ends(&run).await.state, RunState::Succeeded);
    assert_eq!(witness.seen().into_values().collect::<Vec<_>>(), [1]);
}
