use std::collections::{BTreeMap, BTreeSet};

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::contract::mpi::{MpiImplementation, hostfile};

/// Of each node its host and its number of ranks.
fn nodes() -> impl Strategy<Value = Vec<(usize, usize)>> {
    vec((0_usize..4, 1_usize..6), 1..12)
}

fn placement_of(nodes: &[(usize, usize)]) -> Placement {
    placed(nodes.iter().map(|(host, ranks)| Node::new(format!("h{host}"), *ranks)).collect())
}

proptest! {
    #[test]
    fn every_rank_has_one_place(nodes in nodes()) {
        let placement = placement_of(&nodes);
        let places: Vec<_> = placement.places().collect();
        prop_assert_eq!(places.len(), placement.world_size());
        prop_assert_eq!(places.len(), nodes.iter().map(|(_, ranks)| ranks).sum::<usize>());
        for (rank, place) in places.iter().enumerate() {
            prop_assert_eq!(place.rank, rank);
            prop_assert_eq!(placement.place(rank).unwrap(), *place);
            prop_assert_eq!(placement.rank(place.node, place.local_rank).unwrap(), rank);
        }
        prop_assert!(placement.place(places.len()).is_err());
        for (node, (_, ranks)) in nodes.iter().enumerate() {
            let locals: Vec<_> = places.iter().filter(|place| place.node == node).map(|place| place.local_rank).collect();
            prop_assert_eq!(locals, (0..*ranks).collect::<Vec<_>>());
        }
    }

    #[test]
    fn each_framework_numbers_every_rank_once(nodes in nodes()) {
        let placement = placement_of(&nodes);
        let world = placement.world_size();
        for (framework, rank_is, world_is) in [
            (Framework::Torchrun, "RANK", "WORLD_SIZE"),
            (Framework::Jax, "JAX_PROCESS_ID", "JAX_NUM_PROCESSES"),
            (Framework::XgBoost, "DMLC_TASK_ID", "DMLC_NUM_WORKER"),
            (Framework::Paddle, "PADDLE_TRAINER_ID", "PADDLE_TRAINERS_NUM"),
            (Framework::DeepSpeed, "RANK", "WORLD_SIZE"),
        ] {
            let mut ranks = BTreeSet::new();
            for rank in 0..world {
                let env = framework.rank_env(&placement, rank).unwrap();
                prop_assert_eq!(&env[world_is], &world.to_string());
                ranks.insert(env[rank_is].parse::<usize>().unwrap());
            }
            prop_assert_eq!(ranks, (0..world).collect::<BTreeSet<_>>());
        }
    }

    #[test]
    fn a_rank_reads_what_torchruns_contract_says(nodes in nodes()) {
        let placement = placement_of(&nodes);
        for place in placement.places() {
            let env = Framework::Torchrun.rank_env(&placement, place.rank).unwrap();
            let rank = crate::Rank::from_lookup(|name| env.get(name).cloned()).unwrap();
            prop_assert_eq!((rank.rank(), rank.local_rank()), (place.rank, place.local_rank));
            prop_assert_eq!((rank.world_size(), rank.local_world_size()), (placement.world_size(), nodes[place.node].1));
            prop_assert_eq!((rank.master_addr(), rank.master_port(), rank.run_id()), ("a", 4000, "run-1"));
        }
    }

    #[test]
    fn nobody_listens_where_another_does(nodes in nodes()) {
        let placement = placement_of(&nodes);
        let listed = Framework::Paddle.rank_env(&placement, 0).unwrap()["PADDLE_TRAINER_ENDPOINTS"].clone();
        let listed: Vec<_> = listed.split(',').collect();
        prop_assert_eq!(listed.iter().collect::<BTreeSet<_>>().len(), placement.world_size());
        for (rank, endpoint) in listed.into_iter().enumerate() {
            let env = Framework::Paddle.rank_env(&placement, rank).unwrap();
            prop_assert_eq!(endpoint, &env["PADDLE_CURRENT_ENDPOINT"]);
        }
    }

    #[test]
    fn every_task_of_tensorflow_is_one_ranks(nodes in nodes(), roles in vec(0_usize..3, 12)) {
        let names = ["worker", "ps", "default"];
        let nodes = nodes.iter().zip(&roles).map(|((host, ranks), role)| Node::new(format!("h{host}"), *ranks).role(names[*role]));
        let placement = placed(nodes.chain([Node::new("last", 1)]).collect());
        let (mut clusters, mut tasks) = (BTreeSet::new(), BTreeMap::<String, BTreeSet<u64>>::new());
        for rank in 0..placement.world_size() {
            let env = Framework::TensorFlow.rank_env(&placement, rank).unwrap();
            let config: serde_json::Value = serde_json::from_str(&env["TF_CONFIG"]).unwrap();
            clusters.insert(config["cluster"].to_string());
            let (kind, index) = (config["task"]["type"].as_str().unwrap(), config["task"]["index"].as_u64().unwrap());
            prop_assert!(tasks.entry(kind.to_owned()).or_default().insert(index));
        }
        prop_assert_eq!(clusters.len(), 1, "all ranks see one cluster");
        let cluster: BTreeMap<String, Vec<String>> = serde_json::from_str(clusters.first().unwrap()).unwrap();
        for (kind, addresses) in cluster {
            prop_assert_eq!(tasks.remove(&kind).unwrap(), (0..addresses.len() as u64).collect::<BTreeSet<_>>());
        }
        prop_assert!(tasks.is_empty());
    }

    #[test]
    fn a_hostfile_keeps_ranks_where_they_are(nodes in nodes()) {
        let placement = placement_of(&nodes);
        let expected: Vec<_> = placement.places().map(|place| placement.nodes()[place.node].host.clone()).collect();
        let mut runs = expected.clone();
        runs.dedup();
        let split = runs.iter().collect::<BTreeSet<_>>().len() < runs.len();
        let file = hostfile(&placement, MpiImplementation::OpenMpi);
        prop_assert_eq!(file.is_err(), split);
        if let Ok(file) = file {
            let filled: Vec<_> = file
                .lines()
                .filter_map(|line| line.split_once(" slots="))
                .flat_map(|(host, slots)| vec![host.to_owned(); slots.parse().unwrap()])
                .collect();
            prop_assert_eq!(filled, expected);
        }
    }

    #[test]
    fn no_host_breaks_out_of_its_line(host in "\\PC{0,12}|[ -~\\n\\t]{0,12}") {
        let node = Node::new(host.clone(), 1);
        if let Ok(placement) = Placement::new("fit", "run-1", vec![node], Address::new("a", 4000)) {
            let file = hostfile(&placement, MpiImplementation::OpenMpi).unwrap();
            prop_assert_eq!(file, format!("{host} slots=1\n"));
            prop_assert!(!host.contains([' ', '\n', ',', '=', '#', '/', '"']) && !host.starts_with('-'));
        }
    }
}
