//! The quickstart on the cluster, as a person runs it.

use std::process::{Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use examples::quickstart::cluster::{CLAIM, ENGINE};
use kf_k8s::train::Kind;
use kube::Client;
use kube::api::{DeleteParams, ListParams};
use libtest_mimic::Trial;
use serde_json::Value as Json;
use tokio::process::Command;
use tokio::runtime::Runtime;

use super::cluster::Namespace;
use super::{image, trial};

pub(crate) fn trials(runtime: &Arc<Runtime>, client: &Client, kinds: &[(&str, Kind)]) -> Vec<Trial> {
    // The best that the cluster knows is what it takes.
    if !kinds.iter().any(|(_, kind)| *kind == Kind::TrainJob) {
        return Vec::new();
    }
    vec![
        trial(runtime, client, "life::from_data_to_served_model", from_data_to_served_model),
        trial(runtime, client, "life::an_engine_whose_pod_went_goes_on", goes_on),
    ]
}

fn command(given: &Namespace) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_k8s_quickstart"));
    command.args(["--namespace", &given.name, "--image", image::NAME, "--rates", "0.03,0.1", "--json"]);
    command.stdin(Stdio::null()).kill_on_drop(true);
    command
}

async fn run(given: &Namespace) -> Json {
    let output = tokio::time::timeout(Duration::from_secs(300), command(given).output()).await.unwrap();
    let Output { status, stdout, stderr } = output.unwrap();
    let (text, errors) = (String::from_utf8(stdout).unwrap(), String::from_utf8_lossy(&stderr));
    assert!(status.success(), "{text}{errors}");
    assert!(errors.contains("each fit is a TrainJob"), "{errors}");
    // Standard output is for the summary alone.
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

async fn from_data_to_served_model(given: Namespace) {
    given.claim(CLAIM).await;
    let first = run(&given).await;
    assert_eq!(
        (&first["state"], &first["ranks"], &first["version"]),
        (&"SUCCEEDED".into(), &2.into(), &1.into())
    );
    assert!(first["accuracy"].as_f64().unwrap() >= 0.95, "{first}");
    let over_http = first["endpoint_accuracy"].as_f64().unwrap();
    assert!((over_http - first["accuracy"].as_f64().unwrap()).abs() < 1e-6, "{first}");
    // Importer, split, two fits, the choice, evaluation, registration and report.
    assert_eq!((&first["tasks"]["succeeded"], &first["tasks"]["cached"]), (&8.into(), &0.into()));

    // Importing, registering and reporting are done anew; everything else is known.
    let second = run(&given).await;
    assert_eq!(
        (&second["tasks"]["succeeded"], &second["tasks"]["cached"]),
        (&3.into(), &5.into()),
        "{second}"
    );
    assert_eq!((&second["version"], &second["accuracy"]), (&first["version"], &first["accuracy"]));
}

async fn goes_on(given: Namespace) {
    given.claim(CLAIM).await;
    let mut first = command(&given).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    // Until a task of it has a pod.
    let pods = given.pods();
    let started = async {
        loop {
            let all = pods.list(&ListParams::default().labels("kf.dev/run")).await.unwrap();
            match all.items.into_iter().find_map(|pod| pod.metadata.labels?.remove("kf.dev/run")) {
                Some(run) => return run,
                None => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    };
    let run_id = tokio::time::timeout(Duration::from_secs(120), started).await.unwrap();
    pods.delete(ENGINE, &DeleteParams::default()).await.unwrap();
    first.kill().await.unwrap();

    let last = run(&given).await;
    assert_eq!(
        (&last["run_id"], &last["state"], &last["version"]),
        (&run_id.into(), &"SUCCEEDED".into(), &1.into())
    );
}
