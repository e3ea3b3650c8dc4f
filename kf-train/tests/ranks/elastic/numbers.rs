//! What is told of ranks that outlive rounds bears their numbers in the job.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use kf_core::worker::Workers;
use kf_train::elastic::{Agent, AgentOptions};
use kf_train::store::StoreClient;
use kf_train::{Job, JobEvent, LocalLauncher, Rank, Result, ranks};
use libtest_mimic::Trial;
use serde_json::Value;

use super::fleet::free_port;
use crate::trial;

pub(crate) fn workers(workers: Workers) -> Workers {
    workers.with(ranks("elastic-numbered", numbered))
}

pub(crate) fn trials() -> Vec<Trial> {
    vec![trial("elastic::ranks_that_outlive_rounds_have_their_numbers", ranks_have_their_numbers)]
}

/// Takes part in one round, without a group.
fn numbered(_: &Rank, (): ()) -> Result<()> {
    const PATIENCE: Duration = Duration::from_secs(60);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let agent = std::env::var("KF_TRAIN_AGENT").unwrap();
        let store = StoreClient::connect(agent, PATIENCE).await?;
        let store = store.prefixed(&std::env::var("KF_TRAIN_AGENT_KEYS").unwrap());
        store.set("warm", b"").await?;
        for number in 0.. {
            let plan = store.get(&format!("plan/{number}"), PATIENCE).await?;
            let plan: Value = serde_json::from_slice(&plan).unwrap();
            if let Some(rank) = plan["round"]["rank"].as_u64() {
                println!("I am {rank}");
                break;
            }
        }
        Ok(())
    })
}

/// What one of two agents, each with a rank, tells of it.
async fn told(options: AgentOptions) -> Vec<(usize, String)> {
    let events = Arc::new(Mutex::new(Vec::new()));
    let sink = events.clone();
    let job = Job::ranks("elastic-numbered", 1).on_event(move |event| {
        let (rank, what) = match event {
            JobEvent::RankStarted { rank, .. } => (*rank, "started".to_owned()),
            JobEvent::Line { rank, line, .. } => (*rank, line.clone()),
            JobEvent::RankEnded { rank, .. } => (*rank, "ended".to_owned()),
            _ => return,
        };
        sink.lock().unwrap().push((rank, what));
    });
    Agent::new(options).run::<()>(job).await.unwrap();
    events.lock().unwrap().clone()
}

async fn ranks_have_their_numbers(_: LocalLauncher) {
    let dir = tempfile::tempdir().unwrap();
    let endpoint = format!("127.0.0.1:{}", free_port());
    let options = |name: &str| {
        let mut options = AgentOptions::new(dir.path().join(name));
        options.run_id = "numbers".into();
        options.endpoints = vec![endpoint.clone()];
        options.join_timeout = Duration::from_secs(60);
        options.heal = true;
        (options.quorum.min_nodes, options.quorum.max_nodes) = (2, 2);
        options
    };
    let both = tokio::time::timeout(Duration::from_secs(120), async {
        tokio::join!(told(options("a")), told(options("b")))
    });
    let (a, b) = both.await.unwrap();
    let mut both = [a, b];
    both.sort();
    let expected = |rank: usize| {
        ["started".to_owned(), format!("I am {rank}"), "ended".to_owned()].map(|what| (rank, what)).to_vec()
    };
    assert_eq!(both, [expected(0), expected(1)]);
}
