use super::*;

fn refused(nodes: Vec<Node>) -> String {
    refusal(Placement::new("fit", "run-1", nodes, Address::new("a", 4000)))
}

#[test]
fn what_is_wrong_is_named() {
    assert_eq!(refused(vec![]), "it has no nodes; at least 1 is needed");
    let node = Node::new("b", 1);
    assert_eq!(
        refused(vec![Node::new("a", 1), Node::new("b", 0)]),
        "node 1 (`b`) has 0 ranks; at least 1 is needed"
    );
    for ranks in [1 << 21, usize::MAX] {
        assert_eq!(
            refused(vec![node.clone(), Node::new("c", ranks)]),
            "with node 1 (`c`), it has more than 1048576 ranks"
        );
    }
    assert_eq!(refused(vec![node.clone().ports([1, 2])]), "node 0 (`b`) has 2 ports for 1 ranks");
    assert_eq!(
        refused(vec![node.clone().ports([0])]),
        "node 0 (`b`) has port 0; ports must be known before the ranks start"
    );
    assert_eq!(
        refused(vec![node.clone().role("a\nb")]),
        "the role of node 0 (`b`) is \"a\\nb\"; it must have characters, and no control characters"
    );
    for host in
        ["", "a b", "a\nb slots=9", "a:1", "a,b", "-oProxyCommand", "#a", "é", &"a".repeat(254), "[::1]"]
    {
        let refused = refused(vec![Node::new(host, 1)]);
        assert!(refused.starts_with(&format!("the host of node 0 is {host:?}; it must be")), "{refused}");
    }
    let new = |job: &str, run: &str, master| refusal(Placement::new(job, run, vec![node.clone()], master));
    let master = Address::new("a", 1);
    assert!(new("", "r", master.clone()).starts_with("the job's name is \"\""));
    assert!(new("j", "a\0", master).starts_with("the run id is \"a\\0\""));
    assert!(new("j", "r", Address::new("a", 0)).starts_with("the master's port is 0"));
    assert!(new("j", "r", Address::new("a b", 1)).starts_with("the master's host is \"a b\""));
    assert_eq!(refusal(placement(&[1]).restarts(2, 1)), "2 restarts were used up, and it may have 1");
}

#[test]
fn ranks_that_are_not_there() {
    let placement = placement(&[1, 3]);
    assert_eq!(refusal(placement.place(4)), "it has no rank 4; its last is 3");
    assert_eq!(refusal(placement.rank(2, 0)), "it has no node 2; its last is 1");
    assert_eq!(refusal(placement.rank(1, 3)), "node 1 (`b`) has no local rank 3; its last is 2");
    for framework in [Framework::Torchrun, Framework::TensorFlow, Framework::Jax, Framework::Paddle] {
        assert_eq!(
            refusal(framework.rank_env(&placement, usize::MAX)),
            format!("it has no rank {}; its last is 3", usize::MAX)
        );
    }
}

#[test]
fn ports_end() {
    let nodes = vec![Node::new("a", 3)];
    let placement = Placement::new("fit", "run-1", nodes, Address::new("a", 65533)).unwrap();
    assert!(Framework::TensorFlow.rank_env(&placement, 0).is_ok());
    assert_eq!(
        refusal(Framework::Paddle.rank_env(&placement, 0)),
        "rank 2 on `a` would listen at port 65536; the last is 65535"
    );
}

#[test]
fn only_torchrun_shares_the_agents_store() {
    let placement = placement(&[2]).agent_store(true);
    for framework in Framework::ALL.into_iter().filter(|framework| *framework != Framework::Torchrun) {
        let Err(error) = framework.rank_env(&placement, 1) else { panic!("{framework}") };
        let error = error.to_string();
        assert!(error.contains("an agent's store listens at a:4000") || error.contains("mpirun"), "{error}");
    }
}

#[test]
fn pods_need_a_name_that_fits_theirs() {
    for job in ["", "Fit", "1fit", "fit-", "a.b", "a\nb", &"a".repeat(55)] {
        let refused = refusal(Placement::pods(job, "r", 1, 1));
        assert!(refused.starts_with(&format!("its last pod would be `{job}-node-0-0`")), "{refused}");
    }
    assert!(Placement::pods("a".repeat(54), "r", 10, 1).is_ok());
    assert!(Placement::pods("a".repeat(54), "r", 11, 1).is_err());
    assert_eq!(refusal(Placement::pods("fit", "r", 0, 1)), "it has no nodes; at least 1 is needed");
    assert!(refusal(Placement::pods("fit", "r", usize::MAX, 1)).contains("at most 1048576"));
}

#[test]
fn a_stored_placement_is_checked_again() {
    let placement = placement(&[1, 3]).restarts(1, 2).unwrap().agent_store(true);
    let stored = serde_json::to_value(&placement).unwrap();
    assert_eq!(serde_json::from_value::<Placement>(stored.clone()).unwrap(), placement);
    for (field, value, reason) in [
        ("nodes", serde_json::json!([]), "it has no nodes"),
        ("nodes", serde_json::json!([{"host": "a;b", "ranks": 1}]), "the host of node 0"),
        ("restart_count", serde_json::json!(9), "9 restarts were used up"),
        ("first_ranks", serde_json::json!([0, 7]), "unknown field"),
    ] {
        let mut stored = stored.clone();
        stored[field] = value;
        let error = serde_json::from_value::<Placement>(stored).unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
    }
}

#[test]
fn frameworks_have_names() {
    for framework in Framework::ALL {
        assert_eq!(framework.name().parse::<Framework>().unwrap(), framework);
        let stored = serde_json::to_string(&framework).unwrap();
        assert_eq!(stored, format!("\"{framework}\""));
        assert_eq!(serde_json::from_str::<Framework>(&stored).unwrap(), framework);
    }
    let known = "torchrun, tensorflow, jax, xgboost, openmpi, intelmpi, mpich, paddle, deepspeed";
    let message = format!("there is no framework `horovod`; there are: {known}");
    assert_eq!("horovod".parse::<Framework>().unwrap_err().to_string(), message);
    assert!(serde_json::from_str::<Framework>("\"horovod\"").unwrap_err().to_string().contains(&message));
}
