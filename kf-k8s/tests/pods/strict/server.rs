//! What a cluster says to an object that it is to take whole.

use kube::api::{DynamicObject, GroupVersionKind, PostParams};
use kube::client::ClientBuilder;
use kube::core::Request;
use kube::discovery::{Scope, pinned_kind};
use kube::{Client, Config, Resource};
use serde_json::{Value as Json, json};

use super::layer::Strict;

/// The cluster as it answers to who asks what would come of it.
pub(crate) struct Server {
    /// With all rights, and nothing that it makes or changes is kept.
    pub(crate) client: Client,
    namespace: String,
}

impl Server {
    /// Objects that are of no namespace's are looked at as well; all others in this one.
    pub(crate) async fn new(namespace: &str) -> Self {
        let config = Config::infer().await.unwrap();
        let client = ClientBuilder::try_from(config).unwrap().with_layer(&Strict { dry: true }).build();
        Self { client, namespace: namespace.to_owned() }
    }

    /// Whether the cluster has objects of this kind.
    pub(crate) async fn has(&self, object: &Json) -> bool {
        pinned_kind(&self.client, &kind(object)).await.is_ok()
    }

    /// What is wrong with an object: what the cluster does not know of it or leaves out, and what keeps pods of its
    /// templates from being made.
    pub(crate) async fn check(&self, object: &Json) -> Result<(), String> {
        self.take(object).await?;
        self.check_pods(object).await.map(drop)
    }

    /// What keeps pods of an object's templates from being made; how many templates it has.
    pub(crate) async fn check_pods(&self, object: &Json) -> Result<usize, String> {
        let mut found = Vec::new();
        templates(object, "", &mut found);
        for (at, template) in &found {
            let mut metadata = json!({"generateName": "pod-"});
            for part in ["labels", "annotations"] {
                metadata[part] = template["metadata"][part].clone();
            }
            let pod =
                json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]});
            self.take(&pod).await.map_err(|problem| format!("a pod of {at}: {problem}"))?;
        }
        Ok(found.len())
    }

    async fn take(&self, object: &Json) -> Result<(), String> {
        let (resource, capabilities) =
            pinned_kind(&self.client, &kind(object)).await.map_err(|error| error.to_string())?;
        let namespace = matches!(capabilities.scope, Scope::Namespaced).then_some(self.namespace.as_str());
        let mut object = object.clone();
        match namespace {
            Some(namespace) => object["metadata"]["namespace"] = namespace.into(),
            None => drop(object["metadata"].as_object_mut().unwrap().remove("namespace")),
        }
        let body = serde_json::to_vec(&object).unwrap();
        let path = DynamicObject::url_path(&resource, namespace);
        let request = Request::new(path).create(&PostParams::default(), body).unwrap();
        let kept = self.client.request::<Json>(request).await.map_err(|error| error.to_string())?;
        // That is its controller's to say.
        object.as_object_mut().unwrap().remove("status");
        match dropped(&object, &kept) {
            None => Ok(()),
            Some(field) => Err(format!("the cluster drops {field}")),
        }
    }
}

fn kind(object: &Json) -> GroupVersionKind {
    let text = |field: &str| object[field].as_str().unwrap_or_default();
    let (group, version) = text("apiVersion").split_once('/').unwrap_or(("", text("apiVersion")));
    GroupVersionKind::gvk(group, version, text("kind"))
}

/// The pod templates in an object, each with its place. What only changes a template names no image.
fn templates(value: &Json, at: &str, found: &mut Vec<(String, Json)>) {
    match value {
        Json::Object(fields) => {
            let containers = value["spec"]["containers"].as_array();
            if containers.is_some_and(|all| all.iter().all(|container| container["image"].is_string())) {
                found.push((at.to_owned(), value.clone()));
                return;
            }
            fields.iter().for_each(|(key, field)| templates(field, &format!("{at}.{key}"), found));
        }
        Json::Array(items) => {
            let items = items.iter().enumerate();
            items.for_each(|(index, item)| templates(item, &format!("{at}[{index}]"), found));
        }
        _ => {}
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
