//! Nodes that KWOK plays, on which pods end as soon as they run.

use std::time::{Duration, Instant};

use futures::StreamExt;
use k8s_openapi::api::core::v1::{Node, Pod, Toleration};
use kf_k8s::train::PodOptions;
use kube::api::{ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, PostParams};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};

use super::Outcome;

/// The label of the nodes and of the pods that go there, and the nodes' taint.
const LABEL: &str = "kf.dev/bench";
const SIMULATED: &str = "simulated";
const STAGE: &str = "kf-bench-pods-end";
const PATIENCE: Duration = Duration::from_secs(180);

/// Whether somebody plays nodes; why not, otherwise.
pub(crate) async fn played(client: &Client) -> Result<(), String> {
    let pods: Api<Pod> = Api::all(client.clone());
    let list = ListParams::default().labels("app=kwok-controller").fields("status.phase=Running");
    let found = pods.list(&list).await.map_err(|error| error.to_string())?;
    if found.items.is_empty() {
        return Err("no KWOK runs on the cluster".to_owned());
    }
    let stages = stages(client).0.list(&ListParams::default()).await.map_err(|error| error.to_string())?;
    match stages.items.iter().any(|stage| stage.name_any().starts_with("node-")) {
        true => Ok(()),
        false => {
            Err("the KWOK of the cluster has no stages that make nodes ready; apply its stages".to_owned())
        }
    }
}

/// Lets pods go to these nodes, and to no others.
pub(crate) fn send(options: &mut PodOptions) {
    options.labels.insert(LABEL.into(), SIMULATED.into());
    options.node_selector.insert(LABEL.into(), SIMULATED.into());
    // Whatever their taints: under load they are told to be ready too late, and the cluster takes pods from such nodes.
    options.tolerations = vec![Toleration { operator: Some("Exists".into()), ..Default::default() }];
}

fn stages(client: &Client) -> (Api<DynamicObject>, ApiResource) {
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("kwok.x-k8s.io", "v1alpha1", "Stage"));
    (Api::all_with(client.clone(), &resource), resource)
}

/// What a running pod becomes: one whose container ended well, and left this message.
fn stage(message: &str) -> Value {
    let template = format!(
        r#"{{{{ $now := Now }}}}
phase: Succeeded
containerStatuses:
{{{{ range .spec.containers }}}}
- name: {{{{ .name | Quote }}}}
  image: {{{{ .image | Quote }}}}
  ready: false
  started: false
  restartCount: 0
  state:
    terminated:
      exitCode: 0
      reason: Completed
      message: '{message}'
      startedAt: {{{{ $now | Quote }}}}
      finishedAt: {{{{ $now | Quote }}}}
{{{{ end }}}}
"#
    );
    json!({
        "resourceRef": {"apiGroup": "v1", "kind": "Pod"},
        "selector": {
            "matchLabels": {LABEL: SIMULATED},
            "matchExpressions": [
                {"key": ".metadata.deletionTimestamp", "operator": "DoesNotExist"},
                {"key": ".status.phase", "operator": "In", "values": ["Running"]},
            ],
        },
        "next": {"statusTemplate": template},
    })
}

fn node(at: usize) -> Outcome<Node> {
    let size = json!({"cpu": "32", "memory": "256Gi", "pods": "110"});
    Ok(serde_json::from_value(json!({
        "metadata": {
            "name": format!("kf-bench-{at}"),
            "labels": {LABEL: SIMULATED},
            "annotations": {"kwok.x-k8s.io/node": "fake"},
        },
        "spec": {"taints": [{"key": LABEL, "value": SIMULATED, "effect": "NoSchedule"}]},
        "status": {"allocatable": size, "capacity": size},
    }))?)
}

fn ours() -> ListParams {
    ListParams::default().labels(&format!("{LABEL}={SIMULATED}"))
}

/// Makes so many nodes, whose pods leave this message, and waits until they are ready.
pub(crate) async fn start(client: &Client, count: usize, message: &str) -> Outcome<()> {
    // Those of a bench that was killed.
    stop(client).await?;
    let (stages, resource) = stages(client);
    let stage = DynamicObject::new(STAGE, &resource).data(json!({"spec": stage(message)}));
    stages.create(&PostParams::default(), &stage).await?;
    let nodes: Api<Node> = Api::all(client.clone());
    let made = futures::stream::iter((0..count).map(|at| {
        let nodes = nodes.clone();
        async move { Outcome::Ok(nodes.create(&PostParams::default(), &node(at)?).await?) }
    }));
    let made: Vec<_> = made.buffer_unordered(16).collect().await;
    made.into_iter().collect::<Outcome<Vec<_>>>()?;
    let until = Instant::now() + PATIENCE;
    let ready = |node: &Node| {
        let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
        conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
    };
    loop {
        let there = nodes.list(&ours()).await?.items.iter().filter(|node| ready(node)).count();
        if there == count {
            return Ok(());
        }
        if Instant::now() > until {
            return Err(format!("{there} of {count} simulated nodes are ready").into());
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// Takes them away.
pub(crate) async fn stop(client: &Client) -> Outcome<()> {
    let nodes: Api<Node> = Api::all(client.clone());
    nodes.delete_collection(&DeleteParams::background(), &ours()).await?;
    match stages(client).0.delete(STAGE, &DeleteParams::background()).await {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        removed => Ok(removed.map(drop)?),
    }
}
