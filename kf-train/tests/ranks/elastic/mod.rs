//! Agents that come, go, fail and are cut off, on one machine and in network namespaces of their own.

pub(crate) mod agent;
mod cuts;
#[cfg(feature = "torch")]
mod disk;
mod fleet;
#[cfg(feature = "torch")]
mod heal;
mod network;
mod numbers;
mod processes;
#[cfg(feature = "torch")]
mod reliability;
#[cfg(feature = "torch")]
mod training;

use std::io::Write;
use std::time::Duration;

use kf_core::worker::Workers;
use kf_train::elastic::{Agent, AgentOptions};
use kf_train::{Job, LocalLauncher, Rank, Result, ranks};
use libtest_mimic::Trial;
use rustix::process::{Pid, Signal, kill_process};
use tokio::signal::unix::{SignalKind, signal};

use crate::{lives, trial, until};
use fleet::{Begun, Fleet, Steps, free_port};

pub(crate) fn workers(workers: Workers) -> Workers {
    #[cfg(feature = "torch")]
    let workers = heal::workers(training::workers(workers));
    numbers::workers(workers).with(ranks("elastic-steps", steps))
}

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = cuts::trials();
    trials.extend(numbers::trials());
    #[cfg(feature = "torch")]
    trials.extend(heal::trials().into_iter().chain(reliability::trials()));
    trials.extend([
        trial("elastic::nodes_meet_and_succeed", nodes_meet_and_succeed),
        trial("elastic::a_node_joins_and_one_leaves", a_node_joins_and_one_leaves),
        trial("elastic::a_rank_is_killed", a_rank_is_killed),
        trial("elastic::no_restart_is_left", no_restart_is_left),
        trial("elastic::the_coordinator_is_killed_and_replaced", the_coordinator_is_killed_and_replaced),
        trial("elastic::two_agents_are_killed_at_once", two_agents_are_killed_at_once),
        trial("elastic::an_agent_freezes_and_thaws", an_agent_freezes_and_thaws),
        trial("elastic::a_node_that_was_needed_comes_back", a_node_that_was_needed_comes_back),
        trial("elastic::too_few_nodes_wait", too_few_nodes_wait),
        trial("elastic::ranks_that_end_slowly_are_waited_for", ranks_that_end_slowly_are_waited_for),
        trial(
            "elastic::coordinators_leave_before_all_have_begun_a_round",
            coordinators_leave_before_all_have_begun_a_round,
        ),
        trial("elastic::killed_while_joining", killed_while_joining),
        trial("elastic::wrong_endpoints", wrong_endpoints),
        trial(
            "elastic::nodes_have_the_numbers_that_they_were_given",
            nodes_have_the_numbers_that_they_were_given,
        ),
    ]);
    trials
}

/// Works until the job is done, or the node is to leave.
fn steps(rank: &Rank, args: Steps) -> Result<u64> {
    let node = std::env::var("KF_TEST_NODE").ok().and_then(|node| node.parse().ok()).unwrap_or(0);
    let say = |left: bool| {
        let begun = Begun {
            node,
            rank: rank.rank(),
            world_size: rank.world_size(),
            restarts: rank.restart_count(),
            port: rank.master_port(),
            pid: std::process::id(),
            left,
        };
        let line = format!("{}\n", serde_json::json!(begun));
        let mut file = std::fs::File::options().append(true).create(true).open(&args.witness).unwrap();
        file.write_all(line.as_bytes()).unwrap();
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _within = runtime.enter();
    // What hears of the signal is dropped; the signal itself is dealt with from here on.
    let _deaf = args.deaf.then(|| signal(SignalKind::terminate()));
    say(false);
    while !args.done.exists() && !rank.is_leaving() {
        std::thread::sleep(Duration::from_millis(5));
    }
    if rank.is_leaving() {
        std::thread::sleep(Duration::from_secs_f64(args.linger));
        say(true);
    }
    Ok(rank.world_size() as u64)
}

fn fleet(launcher: &LocalLauncher, nodes: (usize, usize), ranks: usize) -> Fleet {
    let folder = launcher.folder(&kf_train::JobHandle::new("local", "fleet"));
    std::fs::create_dir_all(&folder).unwrap();
    Fleet::new(&folder, &[format!("127.0.0.1:{}", free_port())], nodes, ranks)
}

fn kill(pid: u32) {
    kill_process(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(), Signal::KILL).unwrap();
}

async fn nodes_meet_and_succeed(launcher: LocalLauncher) {
    let mut fleet = fleet(&launcher, (3, 3), 2);
    (0..3).for_each(|node| fleet.start(node));
    fleet.trains(&[0, 1, 2], 0).await;
    assert_eq!(fleet.finish().await, [Some(0); 3]);
    for agent in &fleet.agents {
        // What rank 0 returned, on every node.
        assert!(agent.said().contains("result 6"), "{}", fleet.logs());
    }
}

async fn nodes_have_the_numbers_that_they_were_given(_: LocalLauncher) {
    let dir = tempfile::tempdir().unwrap();
    let both = async |endpoint: String, ranks: [usize; 2]| {
        let agent = |node: usize| {
            let mut options = AgentOptions::new(dir.path().join(format!("{endpoint}-{node}")));
            options.run_id = "numbers".into();
            options.endpoints = vec![endpoint.clone()];
            options.node_rank = Some(ranks[node]);
            (options.quorum.min_nodes, options.quorum.max_nodes) = (2, 2);
            options.join_timeout = Duration::from_secs(5);
            let script = format!("test $GROUP_RANK/$RANK = {0}/{0}", ranks[node]);
            async move { Agent::new(options).run::<()>(Job::command("sh", ["-c", &script], 1)).await }
        };
        let later = async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            agent(1).await
        };
        tokio::try_join!(agent(0), later)
    };
    // Who comes first is not the first.
    both(format!("127.0.0.1:{}", free_port()), [1, 0]).await.unwrap();
    let error = both(format!("127.0.0.1:{}", free_port()), [1, 1]).await.unwrap_err();
    assert!(error.to_string().contains("this node was given number 1, and is number 0 of 2"), "{error}");
    let mut options = AgentOptions::new(dir.path());
    options.node_rank = Some(1);
    let error = Agent::new(options).run::<()>(Job::command("true", [""; 0], 1)).await.unwrap_err();
    assert!(error.to_string().contains("this node was given number 1 of 1 to 1 nodes"), "{error}");
}

async fn a_node_joins_and_one_leaves(launcher: LocalLauncher) {
    let mut fleet = fleet(&launcher, (1, 3), 1);
    fleet.setup.args["linger"] = 0.3.into();
    fleet.start(0);
    fleet.start(1);
    fleet.trains(&[0, 1], 0).await;
    fleet.start(2);
    fleet.trains(&[0, 1, 2], 0).await;
    fleet.agent(1).signal(Signal::TERM);
    fleet.trains(&[0, 2], 0).await;
    let left: Vec<_> = fleet.begun().into_iter().filter(|begun| begun.left).map(|begun| begun.node).collect();
    assert_eq!(left, [1], "the rank was asked to leave, and had its time");
    assert_eq!(fleet.finish().await, [Some(0), Some(3), Some(0)]);
    assert!(fleet.agent(1).said().contains("this node has left job"), "{}", fleet.logs());
}

async fn a_rank_is_killed(launcher: LocalLauncher) {
    let mut fleet = fleet(&launcher, (2, 2), 2);
    fleet.setup.max_restarts = 2;
    fleet.start(0);
    fleet.start(1);
    for restarts in 0..2 {
        fleet.trains(&[0, 1], restarts).await;
        let before = fleet.running();
        kill(before[3].pid);
        fleet.trains(&[0, 1], restarts + 1).await;
        assert!(before.iter().all(|begun| !lives(begun.pid)));
    }
    assert_eq!(fleet.finish().await, [Some(0); 2]);
}

async fn no_restart_is_left(launcher: LocalLauncher) {
    let mut fleet = fleet(&launcher, (2, 2), 1);
    fleet.start(0);
    fleet.start(1);
    fleet.trains(&[0, 1], 0).await;
    let victim = fleet.running()[1].clone();
    kill(victim.pid);
    assert_eq!(fleet.ended().await, [Some(1); 2]);
    for agent in &fleet.agents {
        assert!(agent.said().contains("rank 1 of 2 ended with signal 9 (SIGKILL)"), "{}", fleet.logs());
    }
}

async fn the_coordinator_is_killed_and_replaced(launcher: LocalLauncher) {
    let mut fleet = fleet(&launcher, (1, 3), 1);
    // It serves the endpoint, and so the others come to it.
    fleet.start(0);
    until("the endpoint is served", || std::net::TcpStream::connect(&fleet.setup.endpoints[0]).is_ok()).await;
    fleet.start(1);
    fleet.start(2);
    fleet.trains(&[0, 1, 2], 0).await;
    fleet.agent(0).signal(Signal::KILL);
    let took = fleet.trains(&[1, 2], 0).await;
    println!("the coordinator's loss took {took:?}");
    // A new one at the same endpoint joins those that have gone on.
    fleet.start(0);
    fleet.trains(&[0, 1, 2], 0).await;
    assert_eq!(fleet.finish().await, [None, Some(0), Some(0), Some(0)]);
}

async fn two_agents_are_killed_at_once(launcher: LocalLauncher) {
    let mut fleet = fleet(&launcher, (1, 5), 1);
    fleet.start(0);
    until("the endpoint is served", || std::net::TcpStream::connect(&fleet.setup.endpoints[0]).is_ok()).await;
    (1..5).for_each(|node| fleet.start(node));
    fleet.trains(&[0, 1, 2, 3, 4], 0).await;
    // The coordinator, and the first to take over.
    let second = fleet.running()[1].node;
    fleet.agent(0).signal(Signal::KILL);
    fleet.agent(second).signal(Signal::KILL);
    let left: Vec<_> = (1..5).filter(|node| *node != second).collect();
    fleet.trains(&left, 0).await;
    let ends = fleet.finish().await;
    assert_eq!(ends.iter().filter(|end| **end == Some(0)).count(), 3, "{ends:?}");
}

async fn an_agent_freezes_and_thaws(launcher: LocalLauncher) {
    let mut fleet = fleet(&launcher, (1, 3), 1);
    (0..3).for_each(|node| fleet.start(node));
    fleet.trains(&[0, 1, 2], 0).await;
    let before = fleet.running();
    fleet.agent(2).signal(Signal::STOP);
    let others = || {
        let running = fleet.running();
        running.iter().filter(|begun| begun.node != 2 && begun.world_size == 2).count()
    };
    until("the others go on", || others() == 2).await;
    fleet.agent(2).signal(Signal::CONT);
    fleet.trains(&[0, 1, 2], 0).await;
    let old = before.iter().find(|begun| begun.node == 2).unwrap();
    assert!(!lives(old.pid), "the rank of the round before is gone");
    assert_eq!(fleet.finish().await, [Some(0); 3]);
}

/// The others had let go of their ranks.
async fn a_node_that_was_needed_comes_back(launcher: LocalLauncher) {
    let mut fleet = fleet(&launcher, (2, 2), 1);
    fleet.start(0);
    fleet.start(1);
    fleet.trains(&[0, 1], 0).await;
    let before = fleet.running();
    fleet.agent(1).signal(Signal::STOP);
    until("the rank that is left is stopped", || fleet.running().len() == 1).await;
    fleet.agent(1).signal(Signal::CONT);
    until("the rank that was left behind is stopped", || before.iter().all(|begun| !lives(begun.pid))).await;
    fleet.trains(&[0, 1], 0).await;
    assert!(fleet.agents[0].said().contains("all 2 nodes of the round are here again"));
    assert_eq!(fleet.finish().await, [Some(0); 2]);
}

async fn too_few_nodes_wait(launcher: LocalLauncher) {
    let mut fleet = fleet(&launcher, (2, 2), 1);
    fleet.start(0);
    fleet.start(1);
    fleet.trains(&[0, 1], 0).await;
    fleet.agent(1).signal(Signal::KILL);
    until("the rank that is left is stopped", || fleet.running().is_empty()).await;
    assert!(fleet.agent(0).exit().is_none());
    fleet.start(2);
    fleet.trains(&[0, 2], 0).await;
    assert_eq!(fleet.finish().await, [Some(0), None, Some(0)]);
}

/// It takes longer than a node may be silent, and no node is lost.
async fn ranks_that_end_slowly_are_waited_for(launcher: LocalLauncher) {
    let mut fleet = fleet(&launcher, (1, 3), 1);
    fleet.setup.stop_grace = 3.5;
    fleet.setup.args["deaf"] = true.into();
    fleet.start(0);
    fleet.start(1);
    // On a busy machine node 0 may have begun alone.
    fleet.trains(&[0, 1], 0).await;
    let before = fleet.begun().len();
    fleet.start(2);
    fleet.trains(&[0, 1, 2], 0).await;
    assert_eq!(fleet.begun().len() - before, 3, "one more round was made\n{}", fleet.logs());
    assert_eq!(fleet.finish().await, [Some(0); 3]);
}

/// They tell a round and go, while the last node still ends its ranks of the one before.
async fn coordinators_leave_before_all_have_begun_a_round(launcher: LocalLauncher) {
    let mut fleet = fleet(&launcher, (1, 3), 1);
    // It takes longer than a coordinator stays, and less than a node may be silent.
    (fleet.setup.heartbeat_timeout, fleet.setup.stop_grace) = (5.0, 3.0);
    fleet.start(0);
    fleet.trains(&[0], 0).await;
    fleet.start(1);
    fleet.trains(&[0, 1], 0).await;
    fleet.setup.args["deaf"] = true.into();
    fleet.start(2);
    fleet.trains(&[0, 1, 2], 0).await;
    // Node 1 has begun the round, and node 2 has not.
    fleet.agent(0).signal(Signal::TERM);
    fleet.trains(&[1, 2], 0).await;
    // Nobody has.
    fleet.agent(1).signal(Signal::TERM);
    fleet.trains(&[2], 0).await;
    assert_eq!(fleet.finish().await, [Some(3), Some(3), Some(0)]);
}

/// Nodes that are killed while they join disturb the others for a moment only.
async fn killed_while_joining(launcher: LocalLauncher) {
    let mut fleet = fleet(&launcher, (1, 2), 1);
    fleet.start(0);
    fleet.trains(&[0], 0).await;
    for round in 0..6 {
        fleet.start(1);
        tokio::time::sleep(Duration::from_millis(60 * round)).await;
        fleet.agent(1).signal(Signal::KILL);
    }
    fleet.trains(&[0], 0).await;
    fleet.start(1);
    fleet.trains(&[0, 1], 0).await;
    let ends = fleet.finish().await;
    assert_eq!((ends.first(), ends.last()), (Some(&Some(0)), Some(&Some(0))), "{ends:?}");
}

async fn wrong_endpoints(launcher: LocalLauncher) {
    for (endpoint, expected) in [
        ("no-such-host.invalid:1", "endpoint `no-such-host.invalid:1`"),
        ("127.0.0.1", "endpoint `127.0.0.1`"),
        ("127.0.0.1:70000", "endpoint `127.0.0.1:70000`"),
    ] {
        let mut fleet = fleet(&launcher, (1, 1), 1);
        fleet.setup.endpoints = vec![endpoint.into()];
        fleet.start(0);
        assert_eq!(fleet.ended().await, [Some(1)]);
        assert!(fleet.agent(0).said().contains(expected), "{}", fleet.logs());
    }
}
