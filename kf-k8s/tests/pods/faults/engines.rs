//! Several engines.

use std::sync::Arc;

use kf_core::metadata::RunState;
use kube::Client;
use libtest_mimic::Trial;
use tokio::runtime::Runtime;

use super::objects::again;
use super::proxy::Proxy;
use super::tasks::witness::Witness;
use super::tasks::{Fixture, builder, task_options};
use super::work::{all_once, ends, fixture_by, one, start, until, witnessed_tasks};
use super::{Given, trial};

pub(super) fn trials(runtime: &Arc<Runtime>, client: &Client) -> Vec<Trial> {
    vec![
        trial(runtime, client, "engines::two_in_a_namespace_leave_each_other_alone", two),
        trial(runtime, client, "engines::two_after_one_another_carry_one_run", one_after_another),
        trial(runtime, client, "engines::one_that_is_cut_off_leaves_its_run_to_the_next", cut_off),
    ]
}

/// That one cancels its run, or is done with it, is nothing to the other's pods.
async fn two(given: Given) {
    const TASKS: i64 = 3;
    let witnesses =
        [Witness::listen(&given).await, Witness::listen(&given).await, Witness::listen(&given).await];
    let first = Fixture::new(&given).await;
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("home");
    let (second, _) = builder(given.engine.clone(), &given.namespace, &path, task_options());
    let second = second.open(&path).await.unwrap();
    let of_first = start(&first, &witnessed_tasks(&witnesses[0], TASKS, 6.0)).await;
    let args = || kf_pipeline::args! {};
    let of_second = second.start(&witnessed_tasks(&witnesses[1], TASKS, 1.0), args()).await.unwrap();
    let canceled = second.start(&one(&witnesses[2], 100.0), args()).await.unwrap();
    until("it has not begun", async || !witnesses[2].seen().is_empty()).await;
    canceled.cancel("enough").await;
    assert_eq!(ends(&canceled).await.state, RunState::Canceled);
    all_once(&of_second, &witnesses[1], TASKS).await;
    drop(second);
    all_once(&of_first, &witnesses[0], TASKS).await;
}

async fn one_after_another(given: Given) {
    const TASKS: i64 = 4;
    let witness = Witness::listen(&given).await;
    let Fixture { engine, home } = Fixture::new(&given).await;
    let pipeline = witnessed_tasks(&witness, TASKS, 4.0);
    let run = engine.start(&pipeline, kf_pipeline::args! {}).await.unwrap();
    let id = run.id().clone();
    until("none has begun", async || !witness.seen().is_empty()).await;
    drop((engine, run));
    let (_engine, run) = again(&given, &home, &id, &pipeline).await;
    all_once(&run, &witness, TASKS).await;
}

/// The first one has no say any more, and its pods go on.
async fn cut_off(given: Given) {
    const TASKS: i64 = 3;
    let (proxy, witness) = (Proxy::start(given.engine.clone()).await, Witness::listen(&given).await);
    let Fixture { engine, home } = fixture_by(&given, proxy.client()).await;
    let pipeline = witnessed_tasks(&witness, TASKS, 5.0);
    let run = engine.start(&pipeline, kf_pipeline::args! {}).await.unwrap();
    let id = run.id().clone();
    until("none has begun", async || !witness.seen().is_empty()).await;
    proxy.cut_off();
    drop((engine, run));
    let (_engine, run) = again(&given, &home, &id, &pipeline).await;
    all_once(&run, &witness, TASKS).await;
}
