use super::*;

#[test]
fn torchrun() {
    let always = "MASTER_ADDR=a MASTER_PORT=4000 ROLE_NAME=default TORCHELASTIC_RUN_ID=run-1 \
                  TORCHELASTIC_USE_AGENT_STORE=False TORCH_NCCL_ASYNC_ERROR_HANDLING=1 ";
    let first = always.to_owned() + "TORCHELASTIC_RESTART_COUNT=0 TORCHELASTIC_MAX_RESTARTS=0 ";
    let get = |nodes: &[usize], common: &str, each: &[&str]| {
        ranks_get(Framework::Torchrun, &placement(nodes), &(first.clone() + common), each);
    };
    get(
        &[1],
        "WORLD_SIZE=1 ROLE_WORLD_SIZE=1 GROUP_WORLD_SIZE=1 LOCAL_WORLD_SIZE=1 GROUP_RANK=0",
        &["RANK=0 LOCAL_RANK=0 ROLE_RANK=0"],
    );
    get(
        &[2],
        "WORLD_SIZE=2 ROLE_WORLD_SIZE=2 GROUP_WORLD_SIZE=1 LOCAL_WORLD_SIZE=2 GROUP_RANK=0",
        &["RANK=0 LOCAL_RANK=0 ROLE_RANK=0", "RANK=1 LOCAL_RANK=1 ROLE_RANK=1"],
    );
    get(
        &[2, 2],
        "WORLD_SIZE=4 ROLE_WORLD_SIZE=4 GROUP_WORLD_SIZE=2 LOCAL_WORLD_SIZE=2",
        &[
            "RANK=0 LOCAL_RANK=0 ROLE_RANK=0 GROUP_RANK=0",
            "RANK=1 LOCAL_RANK=1 ROLE_RANK=1 GROUP_RANK=0",
            "RANK=2 LOCAL_RANK=0 ROLE_RANK=2 GROUP_RANK=1",
            "RANK=3 LOCAL_RANK=1 ROLE_RANK=3 GROUP_RANK=1",
        ],
    );
    get(
        &[1, 3],
        "WORLD_SIZE=4 ROLE_WORLD_SIZE=4 GROUP_WORLD_SIZE=2",
        &[
            "RANK=0 LOCAL_RANK=0 ROLE_RANK=0 GROUP_RANK=0 LOCAL_WORLD_SIZE=1",
            "RANK=1 LOCAL_RANK=0 ROLE_RANK=1 GROUP_RANK=1 LOCAL_WORLD_SIZE=3",
            "RANK=2 LOCAL_RANK=1 ROLE_RANK=2 GROUP_RANK=1 LOCAL_WORLD_SIZE=3",
            "RANK=3 LOCAL_RANK=2 ROLE_RANK=3 GROUP_RANK=1 LOCAL_WORLD_SIZE=3",
        ],
    );
    ranks_get(
        Framework::Torchrun,
        &placement(&[1]).restarts(2, 3).unwrap().agent_store(true),
        "MASTER_ADDR=a MASTER_PORT=4000 ROLE_NAME=default TORCHELASTIC_RUN_ID=run-1 \
         TORCHELASTIC_USE_AGENT_STORE=True TORCH_NCCL_ASYNC_ERROR_HANDLING=1 \
         TORCHELASTIC_RESTART_COUNT=2 TORCHELASTIC_MAX_RESTARTS=3 \
         WORLD_SIZE=1 ROLE_WORLD_SIZE=1 GROUP_WORLD_SIZE=1 LOCAL_WORLD_SIZE=1 GROUP_RANK=0",
        &["RANK=0 LOCAL_RANK=0 ROLE_RANK=0"],
    );
}

#[test]
fn torchrun_counts_each_role_by_itself() {
    let nodes = [("a", 2, "trainer"), ("b", 1, "reader"), ("c", 2, "trainer")];
    let placement = placed(nodes.map(|(host, ranks, role)| Node::new(host, ranks).role(role)).into());
    let roles: Vec<_> = (0..5)
        .map(|rank| {
            let env = Framework::Torchrun.rank_env(&placement, rank).unwrap();
            ["ROLE_NAME", "ROLE_RANK", "ROLE_WORLD_SIZE"].map(|name| env[name].clone()).join(" ")
        })
        .collect();
    assert_eq!(roles, ["trainer 0 4", "trainer 1 4", "reader 0 1", "trainer 2 4", "trainer 3 4"]);
}

#[test]
fn jax() {
    let common = "JAX_COORDINATOR_ADDRESS=a:4000 JAX_COORDINATOR_PORT=4000 ";
    let get = |nodes: &[usize], ranks: &str, each: &[&str]| {
        ranks_get(Framework::Jax, &placement(nodes), &(common.to_owned() + ranks), each);
    };
    get(&[1], "JAX_NUM_PROCESSES=1", &["JAX_PROCESS_ID=0"]);
    get(
        &[2],
        "JAX_NUM_PROCESSES=2",
        &["JAX_PROCESS_ID=0 JAX_LOCAL_DEVICE_IDS=0", "JAX_PROCESS_ID=1 JAX_LOCAL_DEVICE_IDS=1"],
    );
    get(
        &[2, 2],
        "JAX_NUM_PROCESSES=4",
        &[
            "JAX_PROCESS_ID=0 JAX_LOCAL_DEVICE_IDS=0",
            "JAX_PROCESS_ID=1 JAX_LOCAL_DEVICE_IDS=1",
            "JAX_PROCESS_ID=2 JAX_LOCAL_DEVICE_IDS=0",
            "JAX_PROCESS_ID=3 JAX_LOCAL_DEVICE_IDS=1",
        ],
    );
    get(
        &[1, 3],
        "JAX_NUM_PROCESSES=4",
        &[
            "JAX_PROCESS_ID=0",
            "JAX_PROCESS_ID=1 JAX_LOCAL_DEVICE_IDS=0",
            "JAX_PROCESS_ID=2 JAX_LOCAL_DEVICE_IDS=1",
            "JAX_PROCESS_ID=3 JAX_LOCAL_DEVICE_IDS=2",
        ],
    );
}

#[test]
fn jaxs_coordinator_of_local_processes_stays_local() {
    ranks_get(
        Framework::Jax,
        &Placement::local("fit", "run-1", 2, 4000).unwrap(),
        "JAX_COORDINATOR_ADDRESS=127.0.0.1:4000 JAX_COORDINATOR_PORT=4000 JAX_NUM_PROCESSES=2 \
         JAX_COORDINATOR_BIND_ADDRESS=127.0.0.1:4000",
        &["JAX_PROCESS_ID=0 JAX_LOCAL_DEVICE_IDS=0", "JAX_PROCESS_ID=1 JAX_LOCAL_DEVICE_IDS=1"],
    );
}

#[test]
fn xgboost() {
    let common = "DMLC_TRACKER_URI=a DMLC_TRACKER_PORT=4000 ";
    let ids = ["DMLC_TASK_ID=0", "DMLC_TASK_ID=1", "DMLC_TASK_ID=2", "DMLC_TASK_ID=3"];
    for (nodes, ranks, world) in [
        (&[1][..], 1, "DMLC_NUM_WORKER=1"),
        (&[2], 2, "DMLC_NUM_WORKER=2"),
        (&[2, 2], 4, "DMLC_NUM_WORKER=4"),
        (&[1, 3], 4, "DMLC_NUM_WORKER=4"),
    ] {
        ranks_get(Framework::XgBoost, &placement(nodes), &(common.to_owned() + world), &ids[..ranks]);
    }
}

#[test]
fn deepspeed() {
    let common = "MASTER_ADDR=a MASTER_PORT=4000 ";
    let get = |nodes: &[usize], sizes: &str, each: &[&str]| {
        ranks_get(Framework::DeepSpeed, &placement(nodes), &(common.to_owned() + sizes), each);
    };
    get(&[1], "WORLD_SIZE=1 CROSS_SIZE=1 LOCAL_SIZE=1 CROSS_RANK=0", &["RANK=0 LOCAL_RANK=0"]);
    get(
        &[2],
        "WORLD_SIZE=2 CROSS_SIZE=1 LOCAL_SIZE=2 CROSS_RANK=0",
        &["RANK=0 LOCAL_RANK=0", "RANK=1 LOCAL_RANK=1"],
    );
    get(
        &[2, 2],
        "WORLD_SIZE=4 CROSS_SIZE=2 LOCAL_SIZE=2",
        &[
            "RANK=0 LOCAL_RANK=0 CROSS_RANK=0",
            "RANK=1 LOCAL_RANK=1 CROSS_RANK=0",
            "RANK=2 LOCAL_RANK=0 CROSS_RANK=1",
            "RANK=3 LOCAL_RANK=1 CROSS_RANK=1",
        ],
    );
    get(
        &[1, 3],
        "WORLD_SIZE=4 CROSS_SIZE=2",
        &[
            "RANK=0 LOCAL_RANK=0 CROSS_RANK=0 LOCAL_SIZE=1",
            "RANK=1 LOCAL_RANK=0 CROSS_RANK=1 LOCAL_SIZE=3",
            "RANK=2 LOCAL_RANK=1 CROSS_RANK=1 LOCAL_SIZE=3",
            "RANK=3 LOCAL_RANK=2 CROSS_RANK=1 LOCAL_SIZE=3",
        ],
    );
}

#[test]
fn paddle() {
    /// rank, local rank, ranks on the node, the rank's own endpoint
    type Own = (usize, usize, usize, &'static str);
    let get = |placement: &Placement, common: &str, each: &[Own]| {
        let common = format!("PADDLE_MASTER=a:4000 PADDLE_JOB_ID=fit {common}");
        let each: Vec<_> = each
            .iter()
            .map(|(rank, local, size, endpoint)| {
                format!(
                    "PADDLE_GLOBAL_RANK={rank} PADDLE_TRAINER_ID={rank} PADDLE_LOCAL_RANK={local} \
                     PADDLE_RANK_IN_NODE={local} PADDLE_LOCAL_SIZE={size} PADDLE_CURRENT_ENDPOINT={endpoint}"
                )
            })
            .collect();
        ranks_get(
            Framework::Paddle,
            placement,
            &common,
            &each.iter().map(String::as_str).collect::<Vec<_>>(),
        );
    };
    get(
        &placement(&[1]),
        "PADDLE_NNODES=1 PADDLE_GLOBAL_SIZE=1 PADDLE_TRAINERS_NUM=1 PADDLE_TRAINER_ENDPOINTS=a:4001",
        &[(0, 0, 1, "a:4001")],
    );
    get(
        &placement(&[2]),
        "PADDLE_NNODES=1 PADDLE_GLOBAL_SIZE=2 PADDLE_TRAINERS_NUM=2 PADDLE_TRAINER_ENDPOINTS=a:4001,a:4002",
        &[(0, 0, 2, "a:4001"), (1, 1, 2, "a:4002")],
    );
    get(
        &placement(&[2, 2]),
        "PADDLE_NNODES=2 PADDLE_GLOBAL_SIZE=4 PADDLE_TRAINERS_NUM=4 \
         PADDLE_TRAINER_ENDPOINTS=a:4001,a:4002,b:4001,b:4002",
        &[(0, 0, 2, "a:4001"), (1, 1, 2, "a:4002"), (2, 0, 2, "b:4001"), (3, 1, 2, "b:4002")],
    );
    get(
        &placement(&[1, 3]),
        "PADDLE_NNODES=2 PADDLE_GLOBAL_SIZE=4 PADDLE_TRAINERS_NUM=4 \
         PADDLE_TRAINER_ENDPOINTS=a:4001,b:4001,b:4002,b:4003",
        &[(0, 0, 1, "a:4001"), (1, 0, 3, "b:4001"), (2, 1, 3, "b:4002"), (3, 2, 3, "b:4003")],
    );
    // A launcher of local processes takes what ports are free, and may have two nodes here.
    get(
        &placed(vec![Node::new("a", 2).ports([7001, 6500]), Node::new("a", 1).ports([9000])]),
        "PADDLE_NNODES=2 PADDLE_GLOBAL_SIZE=3 PADDLE_TRAINERS_NUM=3 PADDLE_TRAINER_ENDPOINTS=a:7001,a:6500,a:9000",
        &[(0, 0, 2, "a:7001"), (1, 1, 2, "a:6500"), (2, 0, 1, "a:9000")],
    );
}

#[test]
fn tensorflow() {
    let get = |nodes: Vec<Node>, cluster: &str, tasks: &[(&str, usize)]| {
        let placement = placed(nodes);
        assert_eq!(placement.world_size(), tasks.len());
        for (rank, (kind, index)) in tasks.iter().enumerate() {
            let config = format!(r#"{{"cluster":{{{cluster}}},"task":{{"type":"{kind}","index":{index}}}}}"#);
            let expected = Env::from([("TF_CONFIG".to_owned(), config)]);
            assert_eq!(Framework::TensorFlow.rank_env(&placement, rank).unwrap(), expected, "rank {rank}");
        }
    };
    // One alone is no cluster.
    ranks_get(Framework::TensorFlow, &placement(&[1]), "", &[""]);
    get(vec![Node::new("a", 2)], r#""worker":["a:4000","a:4001"]"#, &[("worker", 0), ("worker", 1)]);
    get(
        vec![Node::new("a", 2), Node::new("b", 2)],
        r#""worker":["a:4000","a:4001","b:4000","b:4001"]"#,
        &[("worker", 0), ("worker", 1), ("worker", 2), ("worker", 3)],
    );
    get(
        vec![Node::new("a", 1), Node::new("b", 3)],
        r#""worker":["a:4000","b:4000","b:4001","b:4002"]"#,
        &[("worker", 0), ("worker", 1), ("worker", 2), ("worker", 3)],
    );
    get(
        vec![
            Node::new("a", 1).role("chief"),
            Node::new("a", 2).role("worker"),
            Node::new("b", 1).role("ps"),
            Node::new("b", 1).role("evaluator"),
            Node::new("::1", 1).role("worker").ports([5]),
        ],
        r#""chief":["a:4000"],"ps":["b:4000"],"worker":["a:4001","a:4002","[::1]:5"]"#,
        &[("chief", 0), ("worker", 0), ("worker", 1), ("ps", 0), ("evaluator", 0), ("worker", 2)],
    );
}

#[test]
fn tensorflow_refuses_what_is_no_cluster() {
    let refused = |nodes: Vec<Node>| refusal(Framework::TensorFlow.rank_env(&placed(nodes), 0));
    assert_eq!(
        refused(vec![Node::new("a", 1).role("trainer")]),
        "the role of node 0 is `trainer`; TensorFlow has chief, worker, ps and evaluator"
    );
    for role in ["chief", "evaluator"] {
        assert_eq!(
            refused(vec![Node::new("a", 2).role(role), Node::new("b", 1)]),
            format!("it has 2 ranks of role `{role}`; TensorFlow takes 1")
        );
    }
    let nobody = "it has no rank of role `chief` or `worker`; TensorFlow needs one to train";
    assert_eq!(refused(vec![Node::new("a", 2).role("ps")]), nobody);
    assert_eq!(refused(vec![Node::new("a", 1).role("evaluator")]), nobody);
    assert_eq!(
        refused(vec![Node::new("a", 1), Node::new("a", 1).ports([4000])]),
        "rank 1 on `a` would listen at port 4000, as another rank does"
    );
}
