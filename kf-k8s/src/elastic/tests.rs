//! What is made of an elastic job, and what is made of what the cluster tells.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::api::DynamicObject;
use serde_json::{Value, json};

use super::objects::spec;
use super::status::{latest, status};
use super::*;
use crate::train::{Kind, PodOptions};

const KINDS: [ElasticKind; 2] = [ElasticKind::Job, ElasticKind::PyTorchJob];

fn job() -> ElasticJob {
    let mut job = ElasticJob::new("digits", 1..=8);
    job.args = vec!["sh".into(), "-c".into(), "echo $RANK".into()];
    job.env = [("RATE".to_owned(), "$1".to_owned())].into();
    (job.start, job.ranks_per_node, job.max_restarts) = (2, 4, 3);
    job
}

fn made(job: &ElasticJob, kind: ElasticKind) -> Value {
    spec(job, kind, &PodOptions::new("image:1")).unwrap()
}

fn pod_of(spec: &Value, kind: ElasticKind) -> Value {
    let path = match kind {
        ElasticKind::Job => "/template/spec",
        ElasticKind::PyTorchJob => "/pytorchReplicaSpecs/Worker/template/spec",
    };
    spec.pointer(path).unwrap().clone()
}

fn env(spec: &Value, kind: ElasticKind) -> BTreeMap<String, String> {
    let pod = pod_of(spec, kind);
    let all = pod["containers"][0]["env"].as_array().unwrap().iter();
    let value = |one: &Value| match one["value"].as_str() {
        Some(value) => value.to_owned(),
        None => one["valueFrom"]["fieldRef"]["fieldPath"].as_str().unwrap().to_owned(),
    };
    all.map(|one| (one["name"].as_str().unwrap().to_owned(), value(one))).collect()
}

#[test]
fn a_jobs_pods_are_told_by_torchruns_variables() {
    let env = env(&made(&job(), ElasticKind::Job), ElasticKind::Job);
    let expected = [
        ("KF_NODE", "metadata.labels['batch.kubernetes.io/job-completion-index']"),
        ("KF_TRAIN_JOB_UID", "metadata.labels['batch.kubernetes.io/controller-uid']"),
        ("KF_TRAIN_NODE", "digits-$(KF_NODE).digits"),
        ("KF_TRAIN_ROUNDS", "/dev/stdout"),
        ("PET_LOCAL_ADDR", "status.podIP"),
        ("PET_MAX_RESTARTS", "3"),
        ("PET_NNODES", "1:8"),
        ("PET_NPROC_PER_NODE", "4"),
        ("PET_RDZV_BACKEND", "c10d"),
        ("PET_RDZV_CONF", "join_timeout=600,last_call_timeout=10"),
        ("PET_RDZV_ENDPOINT", "digits-0.digits:29400,digits-1.digits:29400,digits-2.digits:29400"),
        ("PET_RDZV_ID", "digits.$(KF_TRAIN_JOB_UID)"),
        ("RATE", "$$1"),
    ];
    let found: Vec<_> = env.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(found, expected);
}

#[test]
fn a_pytorchjobs_operator_tells_them() {
    let made = made(&job(), ElasticKind::PyTorchJob);
    assert_eq!(
        made["elasticPolicy"],
        json!({
            "minReplicas": 1, "maxReplicas": 8, "maxRestarts": 3, "rdzvBackend": "c10d", "rdzvId": "digits",
            // To which it adds the port.
            "rdzvHost": "digits-worker-0:29400,digits-worker-1:29400,digits-worker-2", "rdzvPort": 29400,
            "rdzvConf": [{"key": "join_timeout", "value": "600"}, {"key": "last_call_timeout", "value": "10"}],
        })
    );
    assert_eq!(made["nprocPerNode"], "4");
    let worker = &made["pytorchReplicaSpecs"]["Worker"];
    assert_eq!((&worker["replicas"], &worker["restartPolicy"]), (&json!(2), &json!("ExitCode")));
    let env = env(&made, ElasticKind::PyTorchJob);
    let names: Vec<_> = env.keys().map(String::as_str).collect();
    assert_eq!(names, ["KF_NODE", "KF_TRAIN_NODE", "KF_TRAIN_ROUNDS", "PET_LOCAL_ADDR", "RATE"]);
    assert_eq!(env["KF_TRAIN_NODE"], "digits-worker-$(KF_NODE)");
}

#[test]
fn pods_are_those_of_the_options() {
    for kind in KINDS {
        let pod = pod_of(&made(&job(), kind), kind);
        let container = &pod["containers"][0];
        assert_eq!(container["name"], Kind::from(kind).container(0));
        assert_eq!((&container["image"], container.get("command")), (&json!("image:1"), None));
        assert_eq!(container["args"], json!(["sh", "-c", "echo $$RANK"]));
        assert_eq!(container["volumeMounts"][0]["mountPath"], "/dev/shm");
        assert_eq!(container["terminationMessagePolicy"], "FallbackToLogsOnError");
        assert_eq!(
            (&pod["terminationGracePeriodSeconds"], &pod["restartPolicy"]),
            (&json!(30), &json!("Never"))
        );
        assert_eq!(pod.get("subdomain").is_some(), kind == ElasticKind::Job);
        assert_eq!(pod["automountServiceAccountToken"], false);
    }
}

#[test]
fn what_a_failed_pod_means_depends_on_its_agent() {
    let mut job = job();
    (job.max_replaced, job.timeout) = (5, Some(Duration::from_millis(1500)));
    for torchrun in [false, true] {
        job.torchrun = torchrun;
        let of_job = made(&job, ElasticKind::Job);
        let rules = of_job["podFailurePolicy"]["rules"].as_array().unwrap();
        let actions: Vec<_> = rules.iter().map(|rule| rule["action"].as_str().unwrap()).collect();
        let ends: &[&str] = if torchrun { &[] } else { &["FailJob"] };
        assert_eq!(actions, [&["Ignore", "Ignore"], ends].concat());
        assert_eq!(rules[1]["onExitCodes"]["values"], json!([143]));
        if let Some(rule) = rules.get(2) {
            let codes = rule["onExitCodes"]["values"].as_array().unwrap();
            assert_eq!((codes.len(), &codes[0], &codes[126]), (127, &json!(1), &json!(127)));
        }
        assert_eq!((&of_job["backoffLimit"], &of_job["activeDeadlineSeconds"]), (&json!(5), &json!(2)));
        assert_eq!(of_job["successPolicy"], json!({"rules": [{"succeededCount": 1}]}));
        let endpoints = &env(&of_job, ElasticKind::Job)["PET_RDZV_ENDPOINT"];
        assert_eq!(endpoints.split(',').count(), if torchrun { 1 } else { 3 });

        let of_operator = made(&job, ElasticKind::PyTorchJob);
        let (policy, limit) = if torchrun { ("OnFailure", json!(5)) } else { ("ExitCode", Value::Null) };
        assert_eq!(of_operator["pytorchReplicaSpecs"]["Worker"]["restartPolicy"], policy);
        assert_eq!(of_operator["runPolicy"]["backoffLimit"], limit);
    }
}

#[test]
fn jobs_that_can_t_be_are_refused() {
    let told = |change: fn(&mut ElasticJob)| {
        let mut job = job();
        change(&mut job);
        job.check().unwrap_err().to_string()
    };
    assert!(job().check().is_ok());
    for (change, expected) in [
        ((|job| job.name = "Digits".into()) as fn(&mut ElasticJob), "its name must be"),
        (|job| job.name = "7digits".into(), "its name must be"),
        (|job| job.name = "digits-".into(), "its name must be"),
        (|job| job.name = "d".repeat(49), "at most 48"),
        (|job| job.nodes = 0..=2, "it is of 0 to 2 nodes"),
        (|job| job.nodes = 3..=8, "it can't have 2 nodes: it is of 3 to 8"),
        (|job| job.start = 9, "it can't have 9 nodes: it is of 1 to 8"),
        (|job| job.ranks_per_node = 0, "0 ranks per node"),
        (|job| job.port = 0, "port 0"),
        (|job| drop(job.env.insert("PET_NNODES".into(), "1".into())), "`PET_NNODES` is not its own"),
    ] {
        let told = told(change);
        assert!(told.contains(expected), "{told}");
    }
}

#[test]
fn a_job_is_written_and_read_as_it_is() {
    let text = serde_json::to_string(&job()).unwrap();
    assert_eq!(serde_json::from_str::<ElasticJob>(&text).unwrap(), job());
}

fn pod(name: &str, phase: &str, state: &Value) -> Pod {
    serde_json::from_value(
        json!({"metadata": {"name": name}, "status": {"phase": phase, "containerStatuses": [
        {"name": "rank-0", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": state}]}}),
    )
    .unwrap()
}

fn ended(code: i32, at: u32, message: &str) -> Value {
    json!({"terminated": {"exitCode": code, "message": message, "startedAt": "2026-01-01T00:00:00Z",
        "finishedAt": format!("2026-01-01T00:00:{at:02}Z")}})
}

fn object(kind: ElasticKind, nodes: usize, condition: &Value) -> DynamicObject {
    let data = json!({"spec": kind.scaled(nodes), "status": {"conditions": [condition]}});
    DynamicObject::new("digits", &Kind::from(kind).resource()).data(data)
}

#[test]
fn it_fares_as_its_object_and_its_pods_say() {
    let pods = [
        pod("digits-0", "Running", &json!({"running": {}})),
        pod("digits-1", "Succeeded", &ended(0, 1, "")),
        pod(
            "digits-2",
            "Pending",
            &json!({"waiting": {"reason": "ErrImagePull", "message": "no such host"}}),
        ),
    ];
    for kind in KINDS {
        let told = |condition: &Value| status(&job(), kind, &object(kind, 3, condition), &pods);
        let status = told(&json!({"type": "Running", "status": "True"}));
        assert_eq!((&status.state, status.nodes, status.wanted), (&ElasticState::Active, 1..=8, 3));
        let well = match kind {
            ElasticKind::Job => "Complete",
            ElasticKind::PyTorchJob => "Succeeded",
        };
        assert_eq!(told(&json!({"type": well, "status": "True"})).state, ElasticState::Succeeded);
    }
    let status = status(&job(), ElasticKind::Job, &object(ElasticKind::Job, 3, &json!({})), &pods);
    assert_eq!(status.running, 1);
    assert_eq!(status.waits, ["pod `digits-2`: container `rank-0`: ErrImagePull: no such host"]);
}

#[test]
fn a_failed_job_tells_what_the_first_failed_agent_said() {
    let pods = [
        pod("digits-0", "Failed", &ended(143, 1, "left")),
        pod("digits-1", "Failed", &ended(1, 3, "late")),
        pod("digits-2", "Failed", &ended(1, 2, "a\nb\nc\nd\nrank 1 failed\n")),
    ];
    let condition =
        json!({"type": "Failed", "status": "True", "reason": "PodFailurePolicy", "message": "it failed"});
    let state =
        |pods: &[Pod]| status(&job(), ElasticKind::Job, &object(ElasticKind::Job, 3, &condition), pods).state;
    let ElasticState::Failed { reason } = state(&pods) else { panic!("{:?}", state(&pods)) };
    assert_eq!(
        reason,
        "PodFailurePolicy: it failed; pod `digits-2` ended with exit code 1: b\nc\nd\nrank 1 failed"
    );
    assert_eq!(state(&[]), ElasticState::Failed { reason: "PodFailurePolicy: it failed".into() });
}

#[test]
fn the_last_round_is_the_latest_of_all_logs() {
    let line = |number: u64| {
        format!(r#"{{"round":{{"number":{number},"nodes":2,"world_size":4,"restarts":0,"reason":"r"}}}}"#)
    };
    let logs = [format!("{}\nx\n{}\nout", line(1), line(3)), "nothing".into(), line(2)];
    assert_eq!(latest(logs).unwrap().number, 3);
    assert_eq!(latest(["nothing".to_owned()]), None);
}
