//! That the cluster takes what pipelines' configurations make of a pod, and the claims of their tasks.

#[expect(dead_code, reason = "what a row should make is looked at without a cluster")]
#[path = "../platform/mod.rs"]
mod rows;

use std::sync::Arc;

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kf_k8s::manifests::{Options, PodSecurity};
use kf_k8s::tasks::platform::{CREATE_CLAIM, ClaimTask};
use kube::api::PostParams;
use kube::core::Request;
use kube::{Client, Resource};
use libtest_mimic::Trial;
use serde_json::{Value as Json, json};
use tokio::runtime::Runtime;

use super::{Given, trial_with};

pub(crate) fn trials(runtime: &Arc<Runtime>, client: &Client) -> Vec<Trial> {
    // A task may run as root where its pipeline says so.
    let options = |options: &mut Options| options.pod_security = PodSecurity::Privileged;
    let name = "platform::the_cluster_takes_every_row";
    vec![trial_with(runtime, client, name, options, the_cluster_takes_every_row)]
}

async fn the_cluster_takes_every_row(given: Given) {
    let unknown = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"},
        "spec": {"containers": [{"name": "a", "image": "b"}], "notAField": true}});
    let refused = checked::<Pod>(&given, &unknown).await.unwrap_err();
    assert!(refused.contains("notAField"), "it would take anything: {refused}");

    let mut problems = Vec::new();
    for (index, row) in rows::rows().iter().enumerate() {
        let (template, _) = row.made().unwrap();
        let mut metadata = template.metadata.unwrap_or_default();
        metadata.name = Some(format!("row-{index}"));
        let pod = Pod { metadata, spec: template.spec, status: None };
        if let Err(problem) = checked::<Pod>(&given, &serde_json::to_value(pod).unwrap()).await {
            problems.push(format!("{}: {problem}", row.name));
        }
    }
    for (name, parameters, _) in rows::claims() {
        let task = ClaimTask::of(CREATE_CLAIM, rows::object(&parameters), "generated").unwrap();
        let Some(ClaimTask::Create { claim, .. }) = task else { panic!("{name}: {task:?}") };
        let claim = serde_json::to_value(claim).unwrap();
        if let Err(problem) = checked::<PersistentVolumeClaim>(&given, &claim).await {
            problems.push(format!("{name}: {problem}"));
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

/// What the cluster says to an object of which it would know every field, and which it does not keep.
async fn checked<K>(given: &Given, object: &Json) -> Result<(), String>
where
    K: Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
{
    let path = K::url_path(&(), Some(&given.namespace));
    let parameters = PostParams { dry_run: true, ..Default::default() };
    let mut request = Request::new(path).create(&parameters, serde_json::to_vec(object).unwrap()).unwrap();
    let strict = format!("{}&fieldValidation=Strict", request.uri());
    *request.uri_mut() = strict.parse().unwrap();
    let kept = given.admin.request::<Json>(request).await.map_err(|error| error.to_string())?;
    match dropped(object, &kept) {
        None => Ok(()),
        Some(field) => Err(format!("the cluster drops {field}")),
    }
}

/// The first part of an object that is not in what a cluster keeps, which may have more.
fn dropped(object: &Json, kept: &Json) -> Option<String> {
    match (object, kept) {
        (Json::Object(fields), Json::Object(kept)) => fields.iter().find_map(|(key, value)| {
            let within = dropped(value, kept.get(key).unwrap_or(&Json::Null))?;
            Some(format!(".{key}{within}"))
        }),
        (Json::Array(items), Json::Array(kept)) => items.iter().enumerate().find_map(|(index, item)| {
            Some(format!("[{index}]{}", dropped(item, kept.get(index).unwrap_or(&Json::Null))?))
        }),
        (object, kept) => (object != kept).then(|| format!(": {object}, it has {kept}")),
    }
}
