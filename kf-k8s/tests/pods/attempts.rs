//! Requests that a cluster is to refuse.

use std::fmt::Debug;

use kube::api::{
    ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams, PostParams,
};
use kube::{Api, Client};
use serde_json::json;

/// What changes and reads objects, one by one or together.
pub(crate) const VERBS: [&str; 6] = ["get", "list", "create", "patch", "delete", "deletecollection"];

/// Somebody's requests to objects of a kind.
pub(crate) struct Attempts<'a> {
    client: &'a Client,
    /// In all where none is given.
    namespace: Option<&'a str>,
    resource: ApiResource,
}

impl<'a> Attempts<'a> {
    pub(crate) fn at(client: &'a Client, namespace: &'a str, of: &str) -> Self {
        Self { client, namespace: Some(namespace), resource: resource(of) }
    }

    pub(crate) fn everywhere(client: &'a Client, of: &str) -> Self {
        Self { client, namespace: None, resource: resource(of) }
    }

    /// The cluster refuses each of the verbs, since this account may not.
    pub(crate) async fn are_denied(&self, verbs: &[&str]) {
        let api: Api<DynamicObject> = match self.namespace {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, &self.resource),
            None => Api::all_with(self.client.clone(), &self.resource),
        };
        let plural = &self.resource.plural;
        let list = ListParams::default();
        for verb in verbs {
            let named = DynamicObject::new("x", &self.resource);
            let patch = Patch::Merge(json!({"metadata": {"labels": {"x": "y"}}}));
            let done = match *verb {
                "get" => api.get("x").await.map(drop),
                "list" => api.list(&list).await.map(drop),
                "create" => api.create(&PostParams::default(), &named).await.map(drop),
                "patch" => api.patch("x", &PatchParams::default(), &patch).await.map(drop),
                "delete" => api.delete("x", &DeleteParams::default()).await.map(drop),
                "deletecollection" => api.delete_collection(&DeleteParams::default(), &list).await.map(drop),
                other => panic!("{other}"),
            };
            denied(done, &format!(r#"cannot {verb} resource "{plural}""#));
        }
    }
}

/// `Secret`, or `Job of batch/v1`.
fn resource(of: &str) -> ApiResource {
    let (kind, version) = of.split_once(" of ").unwrap_or((of, "v1"));
    let (group, version) = version.split_once('/').unwrap_or(("", version));
    ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind))
}

/// What the cluster says, which has refused for this reason.
pub(crate) fn denied<T: Debug>(done: kube::Result<T>, why: &str) -> String {
    match done {
        Err(kube::Error::Api(status)) if status.code == 403 => {
            assert!(status.message.contains(why), "{why}: {}", status.message);
            status.message.clone()
        }
        other => panic!("{why}: {other:?}"),
    }
}
