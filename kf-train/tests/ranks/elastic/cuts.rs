//! Nodes whose links are cut and slowed.

use std::time::Duration;

use kf_train::LocalLauncher;
use libtest_mimic::Trial;
use rustix::process::Signal;

use super::fleet::Fleet;
use super::network::{Network, address, missing};
use crate::trial;

pub(crate) fn trials() -> Vec<Trial> {
    if let Some(why) = missing() {
        println!("JUDGE netns skipped: {why}");
        return Vec::new();
    }
    vec![
        trial("cuts::a_node_is_cut_off_and_comes_back", a_node_is_cut_off_and_comes_back),
        trial("cuts::the_coordinator_is_cut_off", the_coordinator_is_cut_off),
        trial("cuts::two_nodes_are_cut_from_one_another", two_nodes_are_cut_from_one_another),
        trial("cuts::a_slow_link_is_no_cut_one", a_slow_link_is_no_cut_one),
        trial("cuts::a_coordinator_gives_way_with_its_nodes", a_coordinator_gives_way),
        trial("cuts::the_store_s_host_dies_and_another_seed_is_asked", another_seed_is_asked),
    ]
}

/// A network, and agents that meet at its first node, or at its first two.
fn fleet(launcher: &LocalLauncher, size: usize, nodes: (usize, usize), seeds: usize) -> (Fleet, Network) {
    let folder = launcher.folder(&kf_train::JobHandle::new("local", "fleet"));
    std::fs::create_dir_all(&folder).unwrap();
    let network = Network::new(size).unwrap_or_else(|why| {
        println!("JUDGE netns failed: {why}");
        panic!("{why}")
    });
    println!("JUDGE netns passed");
    let endpoints: Vec<_> = (0..seeds).map(|node| format!("{}:29400", address(node))).collect();
    let mut fleet = Fleet::new(&folder, &endpoints, nodes, 1);
    fleet.within = Box::new(network.within());
    // The fleet is dropped first, so that nothing runs in a namespace any more.
    (fleet, network)
}

async fn a_node_is_cut_off_and_comes_back(launcher: LocalLauncher) {
    let (mut fleet, network) = fleet(&launcher, 3, (1, 3), 1);
    (0..3).for_each(|node| fleet.start(node));
    fleet.trains(&[0, 1, 2], 0).await;
    network.cut(2);
    // Those that see one another go on; the one that does not know whether they do stops its rank.
    fleet.trains(&[0, 1], 0).await;
    network.mend(2);
    fleet.trains(&[0, 1, 2], 0).await;
    assert_eq!(fleet.finish().await, [Some(0); 3]);
}

async fn the_coordinator_is_cut_off(launcher: LocalLauncher) {
    let (mut fleet, network) = fleet(&launcher, 3, (1, 3), 1);
    (0..3).for_each(|node| fleet.start(node));
    fleet.trains(&[0, 1, 2], 0).await;
    network.cut(0);
    fleet.trains(&[1, 2], 0).await;
    network.mend(0);
    fleet.trains(&[0, 1, 2], 0).await;
    assert_eq!(fleet.finish().await, [Some(0); 3]);
}

async fn two_nodes_are_cut_from_one_another(launcher: LocalLauncher) {
    let (mut fleet, network) = fleet(&launcher, 2, (1, 2), 1);
    (0..2).for_each(|node| fleet.start(node));
    fleet.trains(&[0, 1], 0).await;
    let first = fleet.running()[0].node;
    network.cut(1 - first);
    fleet.trains(&[first], 0).await;
    // It stays so: never do both train.
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let running = fleet.running();
        assert!(running.iter().all(|begun| begun.node == first), "{running:?}\n{}", fleet.logs());
    }
    network.mend(1 - first);
    fleet.trains(&[0, 1], 0).await;
    assert_eq!(fleet.finish().await, [Some(0); 2]);
}

async fn a_slow_link_is_no_cut_one(launcher: LocalLauncher) {
    let (mut fleet, network) = fleet(&launcher, 3, (1, 3), 1);
    network.slow(1, "100kbit");
    (0..3).for_each(|node| fleet.start(node));
    fleet.trains(&[0, 1, 2], 0).await;
    let before = fleet.begun().len();
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(fleet.begun().len(), before, "no round was made\n{}", fleet.logs());
    network.unslow(1);
    assert_eq!(fleet.finish().await, [Some(0); 3]);
}

async fn a_coordinator_gives_way(launcher: LocalLauncher) {
    let (mut fleet, network) = fleet(&launcher, 3, (3, 3), 2);
    // Of two that have made no round, the one that was there first goes on; the other's node is unknown to it.
    network.cut(1);
    fleet.start(1);
    tokio::time::sleep(Duration::from_secs(1)).await;
    fleet.start(0);
    tokio::time::sleep(Duration::from_secs(2)).await;
    fleet.start(2);
    tokio::time::sleep(Duration::from_secs(1)).await;
    network.mend(1);
    fleet.trains(&[0, 1, 2], 0).await;
    assert_eq!(fleet.finish().await, [Some(0); 3]);
}

async fn another_seed_is_asked(launcher: LocalLauncher) {
    let (mut fleet, _network) = fleet(&launcher, 4, (1, 4), 2);
    (0..3).for_each(|node| fleet.start(node));
    fleet.trains(&[0, 1, 2], 0).await;
    fleet.agent(0).signal(Signal::KILL);
    fleet.trains(&[1, 2], 0).await;
    // It knows of node 0, which is gone, and of node 1.
    fleet.start(3);
    fleet.trains(&[1, 2, 3], 0).await;
    fleet.start(0);
    fleet.trains(&[0, 1, 2, 3], 0).await;
    let ends = fleet.finish().await;
    assert_eq!(ends, [None, Some(0), Some(0), Some(0), Some(0)]);
}
