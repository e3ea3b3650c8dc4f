use proptest::prelude::*;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn node(id: usize) -> Node {
    Node {
        id: format!("n{id:03}"),
        host: format!("host-{id}"),
        port: 1,
        name: None,
        ranks: 1 + id % 3,
        rank: None,
    }
}

fn at(id: usize, joined: Duration) -> NodeState {
    NodeState {
        node: node(id),
        phase: Phase::Ready,
        ticket: id as u64,
        joined,
        since: joined,
        heard: joined,
        disconnected: None,
    }
}

fn options(min_nodes: usize, max_nodes: usize, max_restarts: u64) -> QuorumOptions {
    QuorumOptions { min_nodes, max_nodes, max_restarts, ..QuorumOptions::default() }
}

fn state(ids: impl IntoIterator<Item = usize>, now: Duration) -> QuorumState {
    let nodes = ids.into_iter().map(|id| (node(id).id, at(id, now))).collect();
    QuorumState { nodes, ..QuorumState::default() }
}

/// A round that runs on these nodes.
fn running(ids: impl Iterator<Item = usize> + Clone, now: Duration) -> QuorumState {
    let mut state = state(ids.clone(), now);
    state.round = Some(Round { number: 1, restarts: 0, nodes: ids.map(node).collect() });
    for node in state.nodes.values_mut() {
        node.phase = Phase::Running { round: 1 };
    }
    state
}

fn hosts(round: Option<Round>) -> Vec<String> {
    round.map(|round| round.nodes.into_iter().map(|node| node.id).collect()).unwrap_or_default()
}

#[test]
fn the_first_round_waits_for_few_and_a_while_for_more() {
    let options = options(2, 3, 0);
    let told = |ids: &[usize], now| {
        let (round, reason) = quorum(now, &state(ids.iter().copied(), SECOND), &options);
        (hosts(round).len(), reason.to_string())
    };
    assert_eq!(told(&[0], SECOND), (0, "1 of at least 2 nodes are here".into()));
    assert_eq!(told(&[0, 1], SECOND), (0, "2 of at most 3 nodes are here; more may come for 2.0s".into()));
    assert_eq!(told(&[0, 1], 3 * SECOND), (2, "2 nodes have met".into()));
    assert_eq!(told(&[0, 1, 2], SECOND), (3, "3 nodes have met".into()));
    assert_eq!(told(&[0, 1, 2, 3], SECOND), (3, "3 nodes have met".into()));
}

#[test]
fn a_node_that_leaves_makes_a_round_without_a_restart_and_is_replaced() {
    let mut state = running(0..3, SECOND);
    state.nodes.get_mut("n000").unwrap().phase = Phase::Leaving;
    let (round, reason) = quorum(SECOND, &state, &options(1, 3, 0));
    let round = round.unwrap();
    assert_eq!((round.number, round.restarts), (2, 0));
    assert_eq!(reason.to_string(), "node host-0 left or was lost");
    assert_eq!(hosts(Some(round.clone())), ["n001", "n002"]);
    state.round = Some(round);
    state.nodes.insert("n007".into(), at(7, 2 * SECOND));
    assert_eq!(quorum(2 * SECOND, &state, &options(1, 3, 0)).1, Reason::Joining { nodes: 1 });
    let (round, reason) = quorum(3 * SECOND, &state, &options(1, 3, 0));
    assert_eq!(reason.to_string(), "node host-7 joined");
    assert_eq!(hosts(round), ["n001", "n002", "n007"]);
}

#[test]
fn a_silent_node_is_lost_when_its_time_is_over() {
    let mut state = running(0..3, SECOND);
    for id in ["n000", "n001"] {
        state.nodes.get_mut(id).unwrap().heard = 6 * SECOND;
    }
    let options = options(1, 3, 0);
    assert_eq!(quorum(5 * SECOND, &state, &options).1, Reason::Runs { round: 1, nodes: 3 });
    assert_eq!(hosts(quorum(6 * SECOND, &state, &options).0), ["n000", "n001"]);
    state.nodes.get_mut("n000").unwrap().disconnected = Some(6 * SECOND);
    assert_eq!(hosts(quorum(6 * SECOND, &state, &options).0), ["n000", "n001"]);
    // One of three, and nobody knows that the others have ended.
    let (round, reason) = quorum(6 * SECOND + options.settle, &state, &options);
    assert_eq!((round, reason), (None, Reason::Minority { here: 1, of: 3 }));
    state.ended.insert("n000".into());
    // One of the two that are left: the first of them is here.
    assert_eq!(hosts(quorum(7 * SECOND, &state, &options).0), ["n001"]);
}

#[test]
fn a_round_that_was_over_is_made_anew_when_its_nodes_are_back() {
    let mut state = running(0..3, SECOND);
    let options = options(3, 3, 0);
    for id in ["n000", "n001"] {
        state.nodes.get_mut(id).unwrap().heard = 9 * SECOND;
    }
    let (round, reason) = quorum(9 * SECOND, &state, &options);
    assert_eq!((round, reason.clone()), (None, Reason::TooFew { here: 2, min: 3 }));
    assert!(reason.breaks_round());
    // Its nodes were told, and one comes back.
    state.over = true;
    assert_eq!(quorum(9 * SECOND, &state, &options).1, reason);
    state.nodes.get_mut("n002").unwrap().heard = 9 * SECOND;
    let (round, reason) = quorum(9 * SECOND, &state, &options);
    assert_eq!(reason.to_string(), "all 3 nodes of the round are here again");
    let round = round.unwrap();
    assert_eq!((round.number, round.restarts, round.nodes.len()), (2, 0, 3));
    // Where nobody was told, nothing has happened.
    state.over = false;
    assert_eq!(quorum(9 * SECOND, &state, &options).1, Reason::Runs { round: 1, nodes: 3 });
}

#[test]
fn who_is_missed_is_waited_for_until_all_that_look_have_told() {
    let options = options(1, 3, 1);
    let mut state = running(0..3, SECOND);
    let tell = |state: &mut QuorumState, id: &str, at, missing| {
        let node = state.nodes.get_mut(id).unwrap();
        (node.phase, node.since) = (Phase::Stuck { round: 1, missing }, at);
    };
    let told = |state: &QuorumState, millis| quorum(SECOND + Duration::from_millis(millis), state, &options);
    tell(&mut state, "n000", SECOND, Vec::new());
    // The other one that lives still looks for the third.
    assert_eq!(told(&state, 1300).1, Reason::Sticking { nodes: 1 });
    let mut named = state.clone();
    // Rank 3 is the last node's first.
    tell(&mut named, "n001", SECOND + Duration::from_millis(1300), vec![3]);
    let (round, reason) = told(&named, 1300);
    assert_eq!(hosts(round), ["n000", "n001"]);
    assert!(reason.to_string().ends_with("no word of the ranks of node host-2"), "{reason}");
    // Nobody names one: they come together again, at once where all have told.
    assert_eq!(told(&state, 1700).1, Reason::Unstuck { nodes: 1 });
    for id in ["n001", "n002"] {
        tell(&mut state, id, SECOND, Vec::new());
    }
    assert_eq!(told(&state, 200).1, Reason::Unstuck { nodes: 3 });
}

#[test]
fn nodes_have_the_numbers_that_they_were_given_in_every_round() {
    let given =
        |state: &mut QuorumState, id: &str, rank| state.nodes.get_mut(id).unwrap().node.rank = Some(rank);
    let mut state = state(0..3, SECOND);
    for (id, rank) in [("n000", 2), ("n001", 0), ("n002", 1)] {
        given(&mut state, id, rank);
    }
    let options = options(3, 3, 0);
    state.round = quorum(SECOND, &state, &options).0;
    assert_eq!(hosts(state.round.clone()), ["n001", "n002", "n000"]);
    // One is lost, and comes again.
    state.nodes.get_mut("n001").unwrap().phase = Phase::Leaving;
    assert_eq!(quorum(SECOND, &state, &options).1, Reason::TooFew { here: 2, min: 3 });
    state.nodes.insert("n007".into(), at(7, SECOND));
    given(&mut state, "n007", 0);
    assert_eq!(hosts(quorum(SECOND, &state, &options).0), ["n007", "n002", "n000"]);
}

fn fail(state: &mut QuorumState, id: usize, of_another_rank: bool, since: Duration) {
    let node = state.nodes.get_mut(&node(id).id).unwrap();
    node.phase = Phase::Failed { round: 1, text: format!("rank {id} failed"), of_another_rank };
    node.since = since;
}

#[test]
fn a_numbered_node_that_came_again_is_not_waited_for() {
    let options = options(2, 2, 0);
    let mut state = state(0..3, SECOND);
    for (id, rank) in [("n000", 0), ("n001", 1), ("n002", 0)] {
        state.nodes.get_mut(id).unwrap().node.rank = Some(rank);
    }
    // The first was lost without a trace just before, and another took its number.
    state.nodes.get_mut("n002").unwrap().joined = 2 * SECOND;
    state.nodes.get_mut("n002").unwrap().heard = 2 * SECOND;
    assert_eq!(hosts(quorum(2 * SECOND, &state, &options).0), ["n002", "n001"]);
    // It lives: two have the same number, which is no affair of this function.
    state.nodes.get_mut("n000").unwrap().heard = 3 * SECOND;
    assert_eq!(hosts(quorum(3 * SECOND, &state, &options).0), ["n000", "n001"]);
}

#[test]
fn a_failed_rank_uses_a_restart() {
    let options = options(1, 2, 1);
    let mut state = running(0..2, SECOND);
    fail(&mut state, 1, false, SECOND);
    assert_eq!(quorum(SECOND, &state, &options).0, None);
    let (round, reason) = quorum(SECOND + options.settle, &state, &options);
    assert_eq!(round.as_ref().map(|round| (round.number, round.restarts)), Some((2, 1)));
    assert_eq!(reason.to_string(), "restart 1 of 1: rank 1 failed");
    state.round.as_mut().unwrap().restarts = 1;
    let (round, reason) = quorum(SECOND + options.settle, &state, &options);
    assert_eq!(round, None);
    assert_eq!(reason.to_string(), "rank 1 failed; no restart is left, of which 1 were used");
}

#[test]
fn healing_goes_on_without_the_failed_one_until_it_is_back() {
    let options = QuorumOptions { heal: true, ..options(1, 2, 1) };
    let mut state = running(0..2, SECOND);
    fail(&mut state, 0, false, SECOND);
    let (round, reason) = quorum(SECOND, &state, &options);
    assert_eq!(reason.to_string(), "restart 1 of 1: rank 0 failed");
    assert_eq!(hosts(round.clone()), ["n001"]);
    state.round = round;
    // It starts, and then joins.
    state.nodes.get_mut("n000").unwrap().phase = Phase::Starting;
    assert_eq!(quorum(2 * SECOND, &state, &options).1, Reason::Runs { round: 2, nodes: 1 });
    state.nodes.get_mut("n000").unwrap().phase = Phase::Ready;
    let (round, _) = quorum(2 * SECOND, &state, &options);
    assert_eq!(round.as_ref().map(|round| (round.number, round.restarts)), Some((3, 1)));
    assert_eq!(hosts(round), ["n001", "n000"]);
    // Where both are needed, they wait for one another.
    let mut state = running(0..2, SECOND);
    fail(&mut state, 0, false, SECOND);
    let (round, _) = quorum(SECOND, &state, &QuorumOptions { min_nodes: 2, ..options });
    assert_eq!(hosts(round), ["n000", "n001"]);
}

#[test]
fn a_failure_of_anothers_making_waits_for_the_cause() {
    let options = options(1, 2, 1);
    let mut state = running(0..2, SECOND);
    fail(&mut state, 0, true, SECOND);
    assert!(matches!(quorum(3 * SECOND, &state, &options).1, Reason::Settling { .. }));
    // It was a lost node: no restart is used.
    let mut lost = state.clone();
    lost.nodes.get_mut("n001").unwrap().disconnected = Some(SECOND);
    assert_eq!(quorum(3 * SECOND, &lost, &options).0.unwrap().restarts, 0);
    // The other node is heard of: it is not lost.
    let mut lives = state.clone();
    lives.nodes.get_mut("n001").unwrap().heard = 2 * SECOND;
    let (round, reason) = quorum(2 * SECOND, &lives, &options);
    assert_eq!(round.unwrap().restarts, 1);
    assert_eq!(reason.to_string(), "restart 1 of 1: rank 0 failed");
    // It was another rank, and that one is named.
    fail(&mut state, 1, false, 2 * SECOND);
    let (round, reason) = quorum(3 * SECOND, &state, &options);
    assert_eq!(round.unwrap().restarts, 1);
    assert_eq!(reason.to_string(), "restart 1 of 1: rank 1 failed");
    // On one node there is nothing to wait for.
    let mut alone = running(0..1, SECOND);
    fail(&mut alone, 0, true, SECOND);
    assert_eq!(quorum(SECOND, &alone, &options).0.unwrap().restarts, 1);
}

#[test]
fn a_job_is_done_when_all_are_and_nobody_joins_at_its_end() {
    let mut state = running(0..2, SECOND);
    state.nodes.insert("n009".into(), at(9, SECOND));
    state.nodes.get_mut("n000").unwrap().phase = Phase::Succeeded { round: 1 };
    assert_eq!(quorum(3 * SECOND, &state, &options(1, 3, 0)).1, Reason::Finishing { round: 1 });
    state.nodes.get_mut("n001").unwrap().phase = Phase::Succeeded { round: 1 };
    // Gone after it was done is done.
    state.nodes.get_mut("n001").unwrap().disconnected = Some(SECOND);
    assert_eq!(quorum(3 * SECOND, &state, &options(1, 3, 0)).1, Reason::Succeeded { round: 1 });
}

#[test]
fn a_coordinator_that_takes_over_waits_for_the_nodes_of_the_round() {
    let options = options(1, 4, 0);
    let mut state = running(0..4, 10 * SECOND);
    state.took_over = Some(10 * SECOND);
    state.ended.insert("n000".into());
    state.nodes.remove("n000");
    // The three that are left are here.
    assert_eq!(hosts(quorum(10 * SECOND, &state, &options).0), ["n001", "n002", "n003"]);
    state.nodes.remove("n003");
    assert_eq!(quorum(10 * SECOND, &state, &options).1, Reason::Gathering { here: 2, of: 3 });
    for node in state.nodes.values_mut() {
        node.heard = 15 * SECOND;
    }
    assert_eq!(hosts(quorum(15 * SECOND, &state, &options).0), ["n001", "n002"]);
}

/// A cut is not seen at once of all nodes behind it: what was made meanwhile, and never taken up, counts for nothing.
#[test]
fn nodes_that_are_lost_one_by_one_were_the_larger_part() {
    let options = options(1, 3, 0);
    let mut state = running(0..3, SECOND);
    state.agreed = state.round.clone();
    state.nodes.get_mut("n000").unwrap().heard = 20 * SECOND;
    state.nodes.get_mut("n001").unwrap().heard = 2 * SECOND;
    let (round, _) = quorum(6 * SECOND, &state, &options);
    assert_eq!(hosts(round.clone()), ["n000", "n001"]);
    state.round = round;
    let (round, reason) = quorum(7 * SECOND, &state, &options);
    assert_eq!((round, reason), (None, Reason::Minority { here: 1, of: 3 }));
    // Had the other taken it up, it would wait for this one.
    state.agreed = state.round.clone();
    assert_eq!(hosts(quorum(7 * SECOND, &state, &options).0), ["n000"]);
}

/// What happens to a job's nodes.
#[derive(Debug, Clone)]
enum Event {
    Join(usize),
    Hear(usize),
    Disconnect(usize),
    Leave(usize),
    Fail(usize, bool),
    Succeed(usize),
    End(usize),
    Wait(u64),
}

fn event() -> impl Strategy<Value = Event> {
    let id = 0_usize..8;
    prop_oneof![
        4 => id.clone().prop_map(Event::Join),
        6 => id.clone().prop_map(Event::Hear),
        2 => id.clone().prop_map(Event::Disconnect),
        1 => id.clone().prop_map(Event::Leave),
        2 => (id.clone(), any::<bool>()).prop_map(|(id, by)| Event::Fail(id, by)),
        1 => id.clone().prop_map(Event::Succeed),
        1 => id.prop_map(Event::End),
        6 => (1_u64..4000).prop_map(Event::Wait),
    ]
}

fn apply(event: &Event, state: &mut QuorumState, now: &mut Duration, joined: &mut u64) {
    let number = state.round.as_ref().map_or(0, |round| round.number);
    let moment = *now;
    let mut change = |id: &usize, change: &dyn Fn(&mut NodeState)| {
        if let Some(found) = state.nodes.get_mut(&node(*id).id) {
            change(found);
        }
    };
    match event {
        Event::Join(id) => {
            *joined += 1;
            let ticket = *joined;
            state.nodes.entry(node(*id).id).or_insert_with(|| NodeState { ticket, ..at(*id, moment) });
        }
        Event::Hear(id) => change(id, &|node| {
            node.heard = moment;
            node.disconnected = None;
        }),
        Event::Disconnect(id) => change(id, &|node| node.disconnected = Some(moment)),
        Event::Leave(id) => change(id, &|node| node.phase = Phase::Leaving),
        Event::Fail(id, of_another_rank) => change(id, &|node| {
            node.phase =
                Phase::Failed { round: number, text: "it failed".into(), of_another_rank: *of_another_rank };
            node.since = moment;
        }),
        Event::Succeed(id) => change(id, &|node| node.phase = Phase::Succeeded { round: number }),
        Event::End(id) => {
            state.ended.insert(node(*id).id);
            state.nodes.remove(&node(*id).id);
        }
        Event::Wait(ms) => *now += Duration::from_millis(*ms),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    /// Whatever happens: rounds count up by one, hold only nodes that are here, within their number, and keep the order of
    /// those that stay; only failed ranks use restarts, and never more than there are; and a round that was just made
    /// stands until something happens.
    #[test]
    fn rounds_are_in_order(
        events in proptest::collection::vec(event(), 1..120),
        min in 1_usize..4,
        more in 0_usize..4,
        max_restarts in 0_u64..3,
    ) {
        let options = options(min, min + more, max_restarts);
        let (mut state, mut now, mut joined) = (QuorumState::default(), SECOND, 0);
        for event in events {
            apply(&event, &mut state, &mut now, &mut joined);
            let (round, reason) = quorum(now, &state, &options);
            prop_assert!(!reason.to_string().is_empty());
            let Some(round) = round else { continue };
            let before = state.round.take();
            prop_assert_eq!(round.number, before.as_ref().map_or(0, |round| round.number) + 1);
            prop_assert!((min..=min + more).contains(&round.nodes.len()), "{:?}", round);
            let unique: BTreeSet<_> = round.nodes.iter().map(|node| &node.id).collect();
            prop_assert_eq!(unique.len(), round.nodes.len());
            for node in &round.nodes {
                let found = &state.nodes[&node.id];
                prop_assert!(now < found.heard + options.heartbeat_timeout && found.phase != Phase::Leaving);
            }
            let used = before.as_ref().map_or(0, |round| round.restarts);
            match reason {
                Reason::RankFailed { .. } => prop_assert_eq!(round.restarts, used + 1),
                _ => prop_assert_eq!(round.restarts, used),
            }
            prop_assert!(round.restarts <= max_restarts);
            if let Some(before) = before {
                let stay: Vec<_> = before.nodes.iter().filter(|node| round.has(&node.id)).collect();
                prop_assert_eq!(&stay[..], &round.nodes.iter().take(stay.len()).collect::<Vec<_>>()[..]);
            }
            state.round = Some(round.clone());
            state.agreed = Some(round.clone());
            for node in &round.nodes {
                state.nodes.get_mut(&node.id).unwrap().phase = Phase::Running { round: round.number };
            }
            let (again, reason) = quorum(now, &state, &options);
            prop_assert_eq!(again, None, "{}", reason);
        }
    }

    /// However a network is cut in two, and whoever has ended for certain: at most one side goes on.
    #[test]
    fn a_cut_network_has_one_job(
        size in 1_usize..9,
        side in proptest::collection::vec(any::<bool>(), 9),
        ended in proptest::collection::vec(any::<bool>(), 9),
        min in 1_usize..4,
    ) {
        let options = options(min, 9, 0);
        let long = 60 * SECOND;
        let goes_on = |here: bool| {
            let mut state = running(0..size, SECOND);
            for id in 0..size {
                if ended[id] {
                    state.nodes.remove(&node(id).id);
                    state.ended.insert(node(id).id);
                } else if side[id] == here {
                    state.nodes.get_mut(&node(id).id).unwrap().heard = long;
                }
            }
            let (round, reason) = quorum(long, &state, &options);
            round.is_some() || matches!(reason, Reason::Runs { .. })
        };
        prop_assert!(!(goes_on(true) && goes_on(false)));
    }

    /// Nodes that are here, and stay, come to a round.
    #[test]
    fn who_waits_long_enough_trains(min in 1_usize..9, more in 0_usize..4, beyond in 0_usize..4) {
        let (count, max) = (min + beyond, min + more);
        let (round, reason) = quorum(4 * SECOND, &state(0..count, SECOND), &options(min, max, 0));
        prop_assert_eq!(hosts(round).len(), count.min(max), "{}", reason);
    }
}
