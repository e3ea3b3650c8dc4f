use super::*;
use crate::contract::mpi::{MpiImplementation, hostfile};
use crate::contract::{Launch, deepspeed};

#[test]
fn torchruns_own_nodes() {
    let common = "PET_MASTER_ADDR=a PET_MASTER_PORT=4000 PET_RDZV_ID=run-1 ";
    for (nodes, each) in [
        (&[1][..], &["PET_NNODES=1 PET_NPROC_PER_NODE=1 PET_NODE_RANK=0 PET_MAX_RESTARTS=3"][..]),
        (&[2], &["PET_NNODES=1 PET_NPROC_PER_NODE=2 PET_NODE_RANK=0 PET_MAX_RESTARTS=3"]),
        (
            &[1, 3],
            &[
                "PET_NNODES=2 PET_NPROC_PER_NODE=1 PET_NODE_RANK=0 PET_MAX_RESTARTS=3",
                "PET_NNODES=2 PET_NPROC_PER_NODE=3 PET_NODE_RANK=1 PET_MAX_RESTARTS=3",
            ],
        ),
    ] {
        let placement = placement(nodes).restarts(0, 3).unwrap();
        for (node, own) in each.iter().enumerate() {
            let expected = pairs(&(common.to_owned() + own));
            assert_eq!(Framework::Torchrun.node_env(&placement, node).unwrap(), expected);
        }
    }
}

#[test]
fn pods_as_kubeflow_trainer_has_them() {
    let placement = Placement::pods("fit", "run-1", 2, 2).unwrap();
    assert_eq!(
        Framework::Torchrun.node_env(&placement, 1).unwrap(),
        pairs(
            "PET_NNODES=2 PET_NPROC_PER_NODE=2 PET_NODE_RANK=1 PET_MASTER_ADDR=fit-node-0-0.fit \
             PET_MASTER_PORT=29500 PET_RDZV_ID=run-1 PET_MAX_RESTARTS=0"
        )
    );
    assert_eq!(
        hostfile(&placement, MpiImplementation::OpenMpi).unwrap(),
        "fit-node-0-0.fit slots=2\nfit-node-0-1.fit slots=2\n"
    );
    let placement = Placement::pods("fit", "run-1", 2, 1).unwrap();
    assert_eq!(
        Framework::Jax.node_env(&placement, 1).unwrap(),
        pairs(
            "JAX_NUM_PROCESSES=2 JAX_PROCESS_ID=1 JAX_COORDINATOR_ADDRESS=fit-node-0-0.fit:29500 \
             JAX_COORDINATOR_PORT=29500"
        )
    );
    assert_eq!(
        Framework::XgBoost.node_env(&placement, 1).unwrap(),
        pairs("DMLC_TRACKER_URI=fit-node-0-0.fit DMLC_TRACKER_PORT=29500 DMLC_TASK_ID=1 DMLC_NUM_WORKER=2")
    );
}

#[test]
fn paddles_own_nodes() {
    let placement = placement(&[1, 3]).restarts(1, 2).unwrap();
    assert_eq!(
        Framework::Paddle.node_env(&placement, 1).unwrap(),
        pairs(
            "PADDLE_MASTER=a:4000 PADDLE_JOB_ID=fit PADDLE_NNODES=2 PADDLE_NPROC_PER_NODE=3 PADDLE_RANK=1 \
             PADDLE_MAX_RESTART=2"
        )
    );
}

#[test]
fn hostfiles() {
    use MpiImplementation::{Intel, Mpich, OpenMpi};
    for (nodes, slots, counts) in [
        (&[1][..], "a slots=1\n", "a:1\n"),
        (&[2], "a slots=2\n", "a:2\n"),
        (&[2, 2], "a slots=2\nb slots=2\n", "a:2\nb:2\n"),
        (&[1, 3], "a slots=1\nb slots=3\n", "a:1\nb:3\n"),
    ] {
        let placement = placement(nodes);
        assert_eq!(hostfile(&placement, OpenMpi).unwrap(), slots);
        assert_eq!(hostfile(&placement, Intel).unwrap(), counts);
        assert_eq!(hostfile(&placement, Mpich).unwrap(), counts);
        assert_eq!(deepspeed::hostfile(&placement).unwrap(), slots);
    }
    // Nodes of one host become one line, unless that would change the order of the ranks.
    let node = |host| Node::new(host, 2);
    let placement = placed(vec![node("a"), node("a"), node("b")]);
    assert_eq!(hostfile(&placement, OpenMpi).unwrap(), "a slots=4\nb slots=2\n");
    let placement = placed(vec![node("a"), node("b"), node("a")]);
    let refused = refusal(hostfile(&placement, OpenMpi));
    assert!(refused.starts_with("node 2 is on `a` as an earlier one is, with others between"), "{refused}");
    let placement = placed(vec![node("fe80::1")]);
    assert_eq!(hostfile(&placement, OpenMpi).unwrap(), "fe80::1 slots=2\n");
    let refused = refusal(hostfile(&placement, Mpich));
    assert!(refused.contains("the IPv6 address fe80::1 from a port"), "{refused}");
}

#[test]
fn mpiruns() {
    let job_env = pairs("MINE=x");
    let launch = |framework: Framework, nodes: &[usize]| {
        framework.launch(&placement(nodes), "/etc/mpi/", &job_env).unwrap()
    };
    let launched = |args: &[&str], env: &str, hostfile: &str| {
        let mut env = pairs(env);
        for value in env.values_mut().filter(|value| *value == "TRIES") {
            "-o ConnectionAttempts=10".clone_into(value);
        }
        Launch {
            args: args.iter().map(|&arg| arg.to_owned()).collect(),
            env,
            files: vec![("/etc/mpi/hostfile".into(), hostfile.into())],
        }
    };
    let open_mpi = "MINE=x OMPI_MCA_orte_default_hostfile=/etc/mpi/hostfile \
                    OMPI_MCA_orte_keep_fqdn_hostnames=true OMPI_MCA_plm_rsh_args=TRIES \
                    PRTE_MCA_prte_default_hostfile=/etc/mpi/hostfile PRTE_MCA_prte_keep_fqdn_hostnames=true \
                    PRTE_MCA_plm_ssh_args=TRIES ";
    assert_eq!(
        launch(Framework::OpenMpi, &[2, 2]),
        launched(
            &["-np", "4", "-x", "MINE"],
            &(open_mpi.to_owned() + "OMPI_MCA_orte_set_default_slots=2 PRTE_MCA_prte_set_default_slots=2"),
            "a slots=2\nb slots=2\n"
        )
    );
    assert_eq!(
        launch(Framework::OpenMpi, &[1, 3]),
        launched(&["-np", "4", "-x", "MINE"], open_mpi, "a slots=1\nb slots=3\n")
    );
    let intel = "MINE=x I_MPI_HYDRA_HOST_FILE=/etc/mpi/hostfile I_MPI_HYDRA_BOOTSTRAP_EXEC_EXTRA_ARGS=TRIES ";
    let args = ["-machinefile", "/etc/mpi/hostfile", "-n", "4"];
    assert_eq!(
        launch(Framework::IntelMpi, &[2, 2]),
        launched(&args, &(intel.to_owned() + "I_MPI_PERHOST=2"), "a:2\nb:2\n")
    );
    assert_eq!(launch(Framework::IntelMpi, &[1, 3]), launched(&args, intel, "a:1\nb:3\n"));
    assert_eq!(
        launch(Framework::Mpich, &[1, 3]),
        launched(
            &["-n", "4"],
            "MINE=x HYDRA_HOST_FILE=/etc/mpi/hostfile HYDRA_LAUNCHER_EXTRA_ARGS=TRIES",
            "a:1\nb:3\n"
        )
    );
    let wrong = Env::from([("A B".to_owned(), String::new())]);
    let refused = refusal(Framework::OpenMpi.launch(&placement(&[1]), "/", &wrong));
    assert!(refused.starts_with("\"A B\" can't name an environment variable"), "{refused}");
}

#[test]
fn deepspeeds_launcher() {
    let job_env = Env::from([("MINE".to_owned(), "x = y".to_owned()), ("NONE".to_owned(), String::new())]);
    assert_eq!(
        Framework::DeepSpeed.launch(&placement(&[1, 3]), "/job", &job_env).unwrap(),
        Launch {
            args: ["--hostfile", "/job/hostfile", "--master_addr", "a", "--master_port", "4000"]
                .map(str::to_owned)
                .into(),
            env: pairs("DS_ENV_FILE=/job/.deepspeed_env"),
            files: vec![
                ("/job/hostfile".into(), "a slots=1\nb slots=3\n".into()),
                ("/job/.deepspeed_env".into(), "MINE=x = y\nNONE=\n".into()),
            ],
        }
    );
    for value in ["a\nLD_PRELOAD=b", " a", "a\t", "$HOME", "`id`", "\"", "\\", "%n"] {
        let job_env = Env::from([("MINE".to_owned(), value.to_owned())]);
        let refused = refusal(Framework::DeepSpeed.launch(&placement(&[1]), "/job", &job_env));
        assert!(refused.contains("the environment variable MINE"), "{value:?}: {refused}");
    }
}

#[test]
fn who_starts_nothing_says_so() {
    let two = placement(&[2]);
    for framework in [Framework::OpenMpi, Framework::IntelMpi, Framework::Mpich] {
        let refused = refusal(framework.rank_env(&two, 0));
        assert_eq!(
            refused,
            format!(
                "ranks of {framework} are started by `mpirun`, all at once, and not each by itself; run `mpirun` as a job of \
             one rank, by `Framework::launch`"
            )
        );
    }
    for framework in [Framework::Torchrun, Framework::TensorFlow, Framework::Jax, Framework::XgBoost] {
        let refused = refusal(framework.launch(&two, "/", &Env::new()));
        assert!(refused.starts_with(&format!("{framework} has no launcher")), "{refused}");
    }
    let refused = refusal(Framework::Jax.node_env(&two, 0));
    assert!(refused.starts_with("node 0 has 2 ranks, and jax has no program"), "{refused}");
    let refused = refusal(Framework::Jax.node_env(&two, 1));
    assert_eq!(refused, "it has no node 1; its last is 0");
}
