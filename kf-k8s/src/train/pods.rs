//! The pods of a job: a pod is a node, and has a container for each of its ranks.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::{
    Container, EmptyDirVolumeSource, EnvVar, PodSpec, PodTemplateSpec, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kf_train::carrier::{ERROR_FILE, PROGRESS_FILE, request, variables};
use kf_train::contract::{Address, Framework, Node, Placement};
use kf_train::{JobSpec, Program};

use super::indexed::{escaped, indexed};
use super::kinds::Kind;
use super::names::{REQUEST, labels};
use super::options::PodOptions;
use crate::pod::{
    annotation_volume, claim_volumes, container_security, env_from, from_field, mount, pod_security,
    resources, whole_seconds,
};

/// The variable with the pod's number in the job.
const NODE: &str = "KF_NODE";
/// Where a pod's ranks find their request, and its name there.
const REQUEST_FOLDER: &str = "/etc/kf";
const REQUEST_FILE: &str = "request.json";
/// The variables that number a rank in its job.
const NUMBERS: [&str; 2] = ["RANK", "ROLE_RANK"];
/// The port at which the ranks of a job meet.
const PORT: u16 = 29_500;
/// More than one object may hold.
const MOST_REQUEST: usize = 200 << 10;

/// A start of a job's ranks.
#[derive(Debug, Clone)]
pub(super) struct Start<'a> {
    pub(super) spec: &'a JobSpec,
    pub(super) attempt_id: &'a str,
    /// The job's name on the cluster.
    pub(super) job: &'a str,
    /// How many times they were started anew.
    pub(super) restart: u64,
    /// The hosts' names of the pods.
    pub(super) hosts: Vec<String>,
    /// The service that gives them.
    pub(super) service: &'a str,
    pub(super) kind: Kind,
    pub(super) options: &'a PodOptions,
}

/// What all pods of a start are made after.
///
/// # Errors
/// What of the job can't be had so.
pub(super) fn template(start: &Start<'_>) -> Result<PodTemplateSpec, String> {
    let Start { spec, options, .. } = start;
    let several = spec.ranks_per_node > 1;
    if several && spec.resources.accelerators.values().any(|&milli| milli > 0) {
        return Err("it asks for accelerators, and for several ranks on a node; on a cluster each rank with an accelerator \
                    is a node of its own: give it 1 rank per node, and more nodes"
            .into());
    }
    let (mut volumes, mut mounts) = claim_volumes(&options.claims);
    let mut annotations = BTreeMap::new();
    if let Program::Ranks { args, .. } = &spec.program {
        let text = request(args).to_string();
        if text.len() > MOST_REQUEST {
            return Err(format!(
                "its arguments take {} KiB, and {} are possible: give what is larger by reference, such as an artifact",
                text.len() >> 10,
                MOST_REQUEST >> 10
            ));
        }
        annotations.insert(REQUEST.to_owned(), text);
        volumes.push(annotation_volume("request", &[(REQUEST, REQUEST_FILE)]));
        mounts.push(mount("request", REQUEST_FOLDER));
    }
    if several {
        let (volume, mount) = shared_memory();
        volumes.push(volume);
        mounts.push(mount);
    }
    let containers = (0..spec.ranks_per_node).map(|local_rank| container(start, local_rank, &mounts));
    let mut all_labels = options.labels.clone();
    all_labels.extend(labels(start.job, start.restart));
    Ok(PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(all_labels),
            annotations: Some(annotations).filter(|annotations| !annotations.is_empty()),
            ..Default::default()
        }),
        spec: Some(PodSpec {
            subdomain: Some(start.service.to_owned()),
            ..pod_spec(options, containers.collect::<Result<_, _>>()?, volumes, spec.stop_grace)
        }),
    })
}

/// What pods of all jobs have, with these containers and volumes, and so long to end in when they are asked to.
pub(crate) fn pod_spec(
    options: &PodOptions,
    containers: Vec<Container>,
    volumes: Vec<Volume>,
    stop_grace: Duration,
) -> PodSpec {
    PodSpec {
        containers,
        volumes: Some(volumes).filter(|volumes| !volumes.is_empty()),
        restart_policy: Some("Never".into()),
        service_account_name: options.service_account.clone(),
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        node_selector: Some(options.node_selector.clone()).filter(|labels| !labels.is_empty()),
        tolerations: Some(options.tolerations.clone()).filter(|taints| !taints.is_empty()),
        priority_class_name: options.priority_class.clone(),
        // Zero would have the pod gone before its containers are.
        termination_grace_period_seconds: Some(whole_seconds(stop_grace).max(1)),
        security_context: Some(pod_security(options.user)),
        ..Default::default()
    }
}

/// Memory that the processes of a pod share, as those of a machine do.
pub(crate) fn shared_memory() -> (Volume, VolumeMount) {
    let medium = EmptyDirVolumeSource { medium: Some("Memory".into()), size_limit: None };
    let volume = Volume { name: "shm".into(), empty_dir: Some(medium), ..Default::default() };
    (volume, mount("shm", "/dev/shm"))
}

fn container(start: &Start<'_>, local_rank: usize, mounts: &[VolumeMount]) -> Result<Container, String> {
    let Start { spec, options, .. } = start;
    let (command, args) = match &spec.program {
        // The image's entrypoint, which is this program.
        Program::Ranks { .. } => (None, None),
        Program::Command { program, args } => {
            (Some(vec![escaped(program)]), Some(args.iter().map(|word| escaped(word)).collect()))
        }
    };
    let working_dir = match &spec.cwd {
        Some(folder) => Some(folder.to_str().ok_or("its folder is no text")?.to_owned()),
        None => None,
    };
    Ok(Container {
        name: start.kind.container(local_rank),
        image: Some(options.image.clone()),
        image_pull_policy: options.image_pull_policy.clone(),
        command,
        args,
        working_dir,
        env: Some(env(start, local_rank)?),
        env_from: env_from(&options.secrets),
        resources: resources(&spec.resources),
        volume_mounts: Some(mounts.to_vec()).filter(|mounts| !mounts.is_empty()),
        security_context: Some(container_security()),
        ..Default::default()
    })
}

/// The variables of a rank, the framework's last, so that they win.
fn env(start: &Start<'_>, local_rank: usize) -> Result<Vec<EnvVar>, String> {
    let Start { spec, .. } = start;
    let placement = placement(start)?;
    let contract = indexed(spec.nodes, |node| {
        let rank = placement.rank(node, local_rank).map_err(|error| error.to_string())?;
        let mut env = spec.framework.rank_env(&placement, rank).map_err(|error| error.to_string())?;
        if let (Program::Ranks { .. }, Framework::Torchrun) = (&spec.program, &spec.framework)
            && spec.nodes > 1
            && spec.ranks_per_node > 1
        {
            // They find it by their node's number. Empty, they win over what others set.
            for name in NUMBERS {
                env.insert(name.into(), String::new());
            }
        }
        Ok(env)
    })
    .map_err(|name| match name.contains(' ') {
        true => name,
        false => format!(
            "the pods of a job differ by their number alone, and {name} of {} differs otherwise: give it one rank per node \
             and more nodes, or one node, or make its ranks functions of this program (`Job::ranks`)",
            spec.framework
        ),
    })?;
    let mut all: BTreeMap<String, EnvVar> = BTreeMap::new();
    let mut set = |name: &str, value: String| {
        let variable = EnvVar { name: name.to_owned(), value: Some(value), value_from: None };
        all.insert(name.to_owned(), variable);
    };
    for (name, value) in variables(spec) {
        set(&name, escaped(&value));
    }
    for (name, value) in contract {
        set(&name, value.with(NODE));
    }
    set(ERROR_FILE, "/dev/termination-log".into());
    set(PROGRESS_FILE, "/dev/stdout".into());
    if let Program::Ranks { entry, .. } = &spec.program {
        set(kf_core::worker::ENTRY, escaped(entry));
        set(kf_core::worker::REQUEST, format!("{REQUEST_FOLDER}/{REQUEST_FILE}"));
    }
    // What others are made with comes before them.
    let mut env = vec![from_field(NODE, &format!("metadata.labels['{}']", start.kind.index_label()))];
    if spec.nodes > 1 {
        env.push(from_field("KF_TRAIN_HOST", "status.podIP"));
    }
    env.extend(all.into_values());
    Ok(env)
}

/// Where the ranks are.
fn placement(start: &Start<'_>) -> Result<Placement, String> {
    let Start { spec, hosts, .. } = start;
    let master = match hosts.as_slice() {
        // The ranks of one pod share its network.
        [_] => "127.0.0.1".to_owned(),
        [first, ..] => first.clone(),
        [] => return Err("it has no nodes".into()),
    };
    let hosts = if hosts.len() == 1 { std::slice::from_ref(&master) } else { hosts.as_slice() };
    let nodes = hosts.iter().map(|host| Node::new(host, spec.ranks_per_node)).collect();
    let placement = Placement::new(&spec.name, start.attempt_id, nodes, Address::new(&master, PORT))
        .and_then(|placement| placement.restarts(start.restart, spec.max_restarts.max(start.restart)));
    placement.map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use kf_train::Job;

    use super::*;
    use crate::train::ClaimMount;

    fn made(job: &Job, hosts: &[&str], options: &PodOptions) -> Result<PodTemplateSpec, String> {
        template(&Start {
            spec: job.spec().unwrap(),
            attempt_id: "a",
            job: "kf-a",
            restart: 0,
            hosts: hosts.iter().map(ToString::to_string).collect(),
            service: "kf-a-0",
            kind: Kind::Job,
            options,
        })
    }

    #[test]
    fn every_rank_has_the_claims_and_the_secrets() {
        let mut options = PodOptions::new("image:1");
        options.claims = vec![ClaimMount::new("saved", "/saved")];
        options.secrets = vec!["keys".into()];
        for (job, containers) in [(Job::ranks("fit", 2), 2), (Job::command("sh", ["-c", "true"], 1), 1)] {
            let spec = made(&job, &["one"], &options).unwrap().spec.unwrap();
            assert_eq!(spec.containers.len(), containers);
            for container in spec.containers {
                let mounts = container.volume_mounts.unwrap();
                assert_eq!(mounts.iter().filter(|mount| mount.mount_path == "/saved").count(), 1);
                assert_eq!(container.env_from, env_from(&options.secrets));
            }
            let claims: Vec<_> = spec
                .volumes
                .unwrap()
                .into_iter()
                .filter_map(|volume| volume.persistent_volume_claim)
                .collect();
            assert_eq!(claims.len(), 1);
            assert_eq!(claims[0].claim_name, "saved");
        }
    }

    #[test]
    fn several_ranks_of_several_nodes_are_functions_that_know_their_node() {
        let options = PodOptions::new("image:1");
        let made = |job: &Job| made(job, &["one", "two"], &options);
        let pod = made(&Job::ranks("fit", 2).nodes(2).env("RANK", "77")).unwrap().spec.unwrap();
        for (local_rank, container) in pod.containers.iter().enumerate() {
            let env = container.env.as_ref().unwrap();
            let value = |name: &str| {
                let found = env.iter().filter(|variable| variable.name == name).collect::<Vec<_>>();
                assert_eq!(found.len(), 1, "{name}");
                found[0].value.clone().unwrap()
            };
            assert_eq!(["RANK", "ROLE_RANK"].map(value), ["", ""]);
            assert_eq!(value("LOCAL_RANK"), local_rank.to_string());
            assert_eq!(["GROUP_RANK", "LOCAL_WORLD_SIZE", "WORLD_SIZE"].map(value), ["$(KF_NODE)", "2", "4"]);
        }
        let refused = made(&Job::command("train", [""; 0], 2).nodes(2)).unwrap_err();
        assert!(refused.contains("RANK of torchrun differs otherwise"), "{refused}");
    }
}
